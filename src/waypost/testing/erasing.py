"""What was erased is in no version, and all else is as it was."""

from __future__ import annotations

import pytest
from msgspec.msgpack import encode

from waypost.errors import ValueErased
from waypost.store import Store, Transaction, View, parts
from waypost.store.contract import CHECKPOINT
from waypost.store.erasures import ERASED
from waypost.store.memory import MemoryStore
from waypost.testing.base import WF, Kit, Open, at, outlives, put, submit, sums
from waypost.testing.checkpoints import adopt

SECRET = b"canary-8d20-secret"
LONG = SECRET * 20_000


def decide(store: Store, *keys: str) -> None:
    """Commit that these parts are erased, or all whose keys begin so."""

    def work(tx: Transaction) -> None:
        for each in list(tx.keys()):
            if any(each == key or (key.endswith("\x1f") and each.startswith(key)) for key in keys):
                tx.delete(each)
        for key in keys:
            tx.put(ERASED + key, encode([tx.time_us, "told"]))

    submit(store, work)


def erase(store: Store, *keys: str) -> list[str]:
    """Decide, and carry it out."""
    decide(store, *keys)
    return store.erase(WF)


def filled(store: Store) -> None:
    """Six versions: small and large parts that are to be erased, and two checkpoints."""
    put(store, {"a": b"1", "secret": SECRET})
    put(store, {"big\x1f1": LONG, "b": b"2"})
    put(store, {f"{CHECKPOINT}wf@1": b"first"})
    put(store, {"secret": SECRET + b"2", "c": b"3"})
    put(store, {"big\x1f2": LONG + b"2", f"{CHECKPOINT}wf@2": b"second"})
    put(store, {"a": b"4"})


def held(view: View | None) -> dict[str, bytes | None]:
    """All parts of a version, None for those that were erased."""
    assert view is not None
    return {key: None if view.erased(key) is not None else view.get(key) for key in view.keys()}


class ErasingTests(Kit):
    """The promises of `erase`."""

    def test_an_erased_part_is_refused_in_every_version(self, store: Store) -> None:
        """It keeps its key and its length, reading it raises, and its digest is what it adds to the checksum."""
        filled(store)
        erase(store, "secret", "big\x1f")
        for number in range(1, 7):
            view, value = at(store, number), SECRET + (b"2" if number > 3 else b"")
            digest = parts.part_checksum(b"secret", value).to_bytes(32, "big")
            assert view.size_of("secret") == len(value)
            assert (view.erased("secret"), view.erased("a"), view.erased("none")) == (digest, None, None)
            for read in (view.get, view.pieces):
                with pytest.raises(ValueErased) as caught:
                    read("secret")
                assert (caught.value.size_bytes, caught.value.digest) == (len(value), digest.hex())
        assert held(store.view_at(WF, 5)) == {
            "a": b"1", "b": b"2", "c": b"3", "secret": None, "big\x1f1": None, "big\x1f2": None,
            f"{CHECKPOINT}wf@1": b"first", f"{CHECKPOINT}wf@2": b"second",
        }  # fmt: skip
        now = store.view(WF)
        assert list(now.keys("secret")) == [] and now.erased("secret") is None and now.get("secret") is None

    def test_commits_keep_their_ids_and_tell_what_they_put(self, store: Store) -> None:
        """Ids, versions, checksums and sizes stay; a commit still names the part, and reading it from there raises."""
        filled(store)
        before = [sums(at(store, number)) for number in range(1, 7)]
        erase(store, "secret", "big\x1f")
        assert [sums(at(store, number)) for number in range(1, 7)] == before
        commits = {commit.version: commit for commit in store.past(WF).commits()}
        assert dict(commits[4].puts) == {"secret": len(SECRET) + 1, "c": 1} and commits[4].read("c") == b"3"
        with pytest.raises(ValueErased):
            commits[4].read("secret")
        assert [commits[number].commit_id for number in range(1, 7)] == [each[1] for each in before]

    def test_checkpoints_lose_it_too(self, store: Store) -> None:
        """Each reads as before but for what was erased, and is whole."""
        filled(store)
        store.reclaim(WF)
        erase(store, "secret", "big\x1f")
        first, second = store.checkpoint(WF, "wf@1"), store.checkpoint(WF, "wf@2")
        assert held(first) == {"a": b"1", "b": b"2", "secret": None, "big\x1f1": None, f"{CHECKPOINT}wf@1": b"first"}
        assert held(second) == held(store.view_at(WF, 5))
        for name in ("wf@1", "wf@2"):
            store.verify_checkpoint(WF, name)

    def test_erasing_nothing_does_nothing(self, store: Store) -> None:
        """A document that says of nothing that it is erased stays as it is, and so does one that there is not."""
        assert store.erase(WF) == []
        filled(store)
        before = [sums(at(store, number)) for number in range(1, 7)]
        assert store.erase(WF) == []
        assert [sums(at(store, number)) for number in range(1, 7)] == before and at(store, 1).get("secret") == SECRET

    def test_what_comes_later_is_not_covered(self, store: Store) -> None:
        """A part that is put again is another one, and erasing something else leaves it alone."""
        filled(store)
        erase(store, "secret")
        number = put(store, {"secret": b"new"})
        erase(store, "big\x1f")
        assert store.view(WF).get("secret") == b"new" and at(store, number).get("secret") == b"new"
        assert at(store, 4).erased("secret")

    def test_a_key_that_begins_like_an_erased_one_is_another(self, store: Store) -> None:
        """Only a key that ends with the separator stands for all that begin so."""
        put(store, {"secret": SECRET, "secret2": b"2"})
        erase(store, "secret")
        assert at(store, 1).get("secret2") == b"2" and at(store, 1).erased("secret")

    def test_an_adopted_version_loses_it_whatever_its_time(self, store: Store) -> None:
        """A version that was taken in has the times of another clock: all that is there loses what is erased."""
        elsewhere = MemoryStore()
        put(elsewhere, {"secret": SECRET})
        version = elsewhere.view(WF)
        version.time_us += 10**12  # type: ignore[misc]
        put(store, {"a": b"1"})
        adopt(store, version, "wf@9")
        assert held(store.checkpoint(WF, "wf@9")) == {"secret": SECRET}
        erase(store, "secret")
        kept = store.checkpoint(WF, "wf@9")
        assert kept is not None and kept.erased("secret") and kept.checksum == version.checksum

    @outlives
    def test_what_was_erased_stays_so_when_it_is_opened_again(self, opening: Open) -> None:
        """In every version, and for whoever opens the store."""
        store = opening()
        filled(store)
        erase(store, "secret", "big\x1f")
        before = [held(at(store, number)) for number in range(1, 7)]
        store.close()
        again = opening()
        assert [held(at(again, number)) for number in range(1, 7)] == before
        assert [each.get("secret", b"gone") for each in before] == [None] * 6
