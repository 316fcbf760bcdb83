"""Commits of another store that are appended behind the newest one, as they were made there."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.msgpack import encode

from waypost.errors import DocumentDamaged, ValueErased, VersionConflict
from waypost.store import Change, Commit, Pieces, Store, commits, parts
from waypost.store.contract import CHECKPOINT
from waypost.store.erasures import ERASED
from waypost.store.memory import MemoryStore
from waypost.store.pasts import Merge
from waypost.testing.base import (
    LARGE,
    A,
    B,
    Kit,
    Open,
    Work,
    at,
    contents,
    joint_change,
    outlives,
    put,
    putting,
    submit,
    sums,
)
from waypost.testing.oracle import told


def begin(store: Store) -> MemoryStore:
    """Another store, which has the document `a` too, as it is there."""
    put(store, {"first": b"1"}, A)
    other = MemoryStore()
    received = other.receive()
    received.take(A, store.past(A), None)
    assert other.commit(other.begin(), joint_change(), received) is not None
    received.close()
    return other


def behind(source: Store, head: bytes) -> list[Commit]:
    """The commits of the other store that come after the one of that id."""
    found = list(source.past(A).commits(oldest_first=True))
    return found[[each.commit_id for each in found].index(head) + 1 :]


def act(store: Store, work: Work, operation_id: str) -> None:
    """Commit in the name of a session."""
    store.submit(Change(A, work, operation_id, "update", session="s", agent="g")).result()


def merge_of(one: Store, other: Store, base: bytes, values: dict[str, bytes]) -> Commit:
    """A merge that puts values, as it is to be behind the newest commit of either, or of `base`."""
    lines = [each.view(A) for each in (one, other)]
    parents = sorted(each.commit_id for each in lines)

    def pieces(key: str) -> Pieces:
        return Pieces.of(values[key])

    commit = Commit(
        version=0, commit_id=b"", time_us=max(each.time_us for each in lines) + 1, operation_id="merge",
        operation="sync", session=None, agent=None, cleared=False,
        puts={key: len(value) for key, value in values.items()}, removed=[], joint=None, read=values.__getitem__,
        pieces=pieces, digests={}, projection=None, size_bytes=0, checksum=b"", erased=None,
        merge=Merge(parents, [base], []),
    )  # fmt: skip
    held = {**{key: one.view(A).get(key) or b"" for key in one.view(A).keys()}, **values}
    return commit._replace(
        commit_id=commits.id_of(parents[0], commits.body_of(commit)),
        size_bytes=sum(len(key) + len(value) for key, value in held.items()),
        checksum=parts.document_checksum(held.items()),
    )


_FORGED: dict[str, dict[str, Any]] = {
    "operation": {"operation_id": "another"},
    "projection": {"projection": ["y"]},
    "sum": {"checksum": bytes(32)},
    "size": {"size_bytes": 1},
    "time": {"time_us": 1},
    "id": {"commit_id": bytes(32)},
    "session": {"session": "another"},
}


class FollowingTests(Kit):
    """The promises of `follow`."""

    def test_what_follows_is_what_it_was_elsewhere(self, store: Store) -> None:
        """A commit that follows keeps id, time, operation, sums and values, large ones too, and is remembered."""
        source = begin(store)
        head = store.view(A).commit_id
        act(source, putting({"large": LARGE, "small": b"2"}), "mine")
        act(source, lambda tx: [tx.delete("first"), tx.project(["x", 1])], "op-2")
        act(source, lambda tx: [tx.clear(), tx.put("large", LARGE[1:]), tx.put("z", b"")], "op-3")
        joint = source.begin()
        for document in (A, B):
            joint.document(document).put("both", LARGE)
        assert source.commit(joint, joint_change()) is not None
        assert store.follow(A, head, behind(source, head)) == 5
        for version in range(1, 6):
            assert sums(at(store, version, A)) == sums(at(source, version, A))
            assert contents(at(store, version, A)) == contents(at(source, version, A))
        assert list(map(told, store.past(A).commits())) == list(map(told, source.past(A).commits()))
        record = store.view(A).operation("mine")
        assert record is not None and record.version == 2
        assert put(store, {"on": b"1"}, A) == 6

    def test_versions_are_local(self, store: Store) -> None:
        """What follows makes the next version here, whatever it made elsewhere."""
        source = begin(store)
        head = store.view(A).commit_id
        put(source, {"key": b"x"}, A)
        (commit,) = behind(source, head)
        assert store.follow(A, head, [commit._replace(version=77)]) == 2
        assert at(store, 2, A).get("key") == b"x"

    def test_nothing_follows_another_commit(self, store: Store) -> None:
        """Where the newest commit is another one, nothing is appended."""
        source = begin(store)
        head = store.view(A).commit_id
        put(source, {"key": b"2"}, A)
        put(store, {"other": b"3"}, A)
        before = sums(store.view(A))
        with pytest.raises(VersionConflict):
            store.follow(A, head, behind(source, head))
        assert sums(store.view(A)) == before

    @pytest.mark.parametrize("what", _FORGED)
    def test_a_commit_that_is_not_what_its_id_says_does_not_follow(self, store: Store, what: str) -> None:
        """It is refused, what is before it may stand, and what it was on its way can follow afterwards."""
        source = begin(store)
        head = store.view(A).commit_id
        for number in (2, 3):
            act(source, lambda tx, number=number: [tx.put("key", b"%d" % number), tx.project(["x"])], f"op-{number}")
        good, commit = behind(source, head)
        with pytest.raises(DocumentDamaged):
            store.follow(A, head, [good, commit._replace(**_FORGED[what])])
        newest = store.view(A).commit_id
        assert newest in (head, good.commit_id)
        store.follow(A, newest, behind(source, newest))
        assert sums(store.view(A)) == sums(source.view(A))

    def test_a_checkpoint_that_follows_is_kept(self, store: Store) -> None:
        """A checkpoint whose commit followed stands for the version that the commit made here."""
        source = begin(store)
        head = store.view(A).commit_id
        put(source, {CHECKPOINT + "a@c1": b"x", "key": b"2"}, A)
        put(source, {"key": b"3"}, A)
        store.follow(A, head, behind(source, head))
        assert store.checkpoints(A) == ["a@c1"]
        assert contents(store.checkpoint(A, "a@c1")) == contents(at(source, 2, A))

    def test_a_merge_is_the_same_commit_behind_either_line(self, store: Store) -> None:
        """A merge has one id behind each of the commits that it may follow, and is refused behind any other."""
        source = begin(store)
        base = store.view(A).commit_id
        put(source, {"ours": b"2"}, A)
        put(store, {"theirs": b"3"}, A)
        merge = merge_of(source, store, base, {"ours": b"2", "theirs": b"3"})
        for each in (source, store):
            each.follow(A, each.view(A).commit_id, [merge])
        assert store.view(A).commit_id == source.view(A).commit_id == merge.commit_id
        assert contents(store.view(A)) == contents(source.view(A)) == {"first": b"1", "ours": b"2", "theirs": b"3"}
        newest = next(iter(store.past(A).commits()))
        assert newest.merge is not None and list(newest.merge.parents) == list(
            merge.merge.parents if merge.merge else ()
        )
        put(store, {"ours": b"2", "theirs": b"3"}, B)
        with pytest.raises(DocumentDamaged):
            store.follow(B, store.view(B).commit_id, [merge])

    def test_what_was_erased_follows_without_its_value(self, store: Store) -> None:
        """Commits from which something was erased follow with their ids and sums, and not with what was erased."""
        source = begin(store)
        head = store.view(A).commit_id
        put(source, {"secret": LARGE, "other": b"2"}, A)
        put(source, {"secret": b"small", "other": b"3"}, A)
        until = source.view(A).time_us
        said = encode([until, until, "secret"])
        submit(source, lambda tx: [tx.delete("secret"), tx.put(ERASED + "secret", said)], A)
        source.erase(A)
        store.follow(A, head, behind(source, head))
        assert sums(store.view(A)) == sums(source.view(A))
        for version in (2, 3):
            view = at(store, version, A)
            assert view.get("other") == b"%d" % version
            with pytest.raises(ValueErased):
                view.get("secret")

    @outlives
    def test_what_followed_is_there_when_it_is_opened_again(self, opening: Open) -> None:
        """As any commit is, and others may follow it."""
        store = opening()
        source = begin(store)
        for number in range(3):
            head = store.view(A).commit_id
            put(source, {"key": LARGE[number:]}, A)
            store.follow(A, head, behind(source, head))
            store.close()
            store = opening()
            assert sums(store.view(A)) == sums(source.view(A)) and contents(store.view(A)) == contents(source.view(A))
