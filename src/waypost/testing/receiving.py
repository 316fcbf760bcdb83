"""Documents that arrive with their past, from whatever store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from waypost.errors import DocumentDamaged
from waypost.store import Change, Commit, DocumentId, Past, Reception, Store
from waypost.store.memory import MemoryStore
from waypost.testing.base import LARGE, A, B, Kit, Open, at, contents, joint_change, outlives, put, submit, sums
from waypost.testing.oracle import told


def made() -> MemoryStore:
    """A store with two documents of six versions."""
    store = MemoryStore()
    for document in (A, B):
        for number in range(5):
            put(store, {f"k{number % 2}": LARGE[: 9000 * number]}, document)
        submit(store, lambda tx: [tx.clear(), tx.put("last", b"1")], document)
    return store


def take(store: Store, source: Store, *documents: DocumentId, work: Change | None = None) -> Reception:
    """Take in documents, and have them arrive with the next commit."""
    received = store.receive()
    for document in documents or (A, B):
        received.take(document, source.past(document), work)
    return received


def arrive(store: Store, received: Reception) -> bool:
    """Whether they are there now."""
    try:
        return store.commit(store.begin(), joint_change(), received) is not None
    finally:
        received.close()


def here(store: Store) -> list[DocumentId]:
    """Which of the two are there."""
    return [each for each in (A, B) if store.view(each).version]


class Forged:
    """A past that tells its third commit otherwise than it was."""

    def __init__(self, past: Past, forged: dict[str, Any]) -> None:
        self._past = past
        self._forged = forged

    def __getattr__(self, name: str) -> Any:
        return getattr(self._past, name)

    def commits(self, before: int | None = None, *, oldest_first: bool = False) -> Iterator[Commit]:
        """See `pasts.Past`."""
        for each in self._past.commits(before, oldest_first=oldest_first):
            yield each._replace(**self._forged) if each.version == 3 else each


_FORGED: list[dict[str, Any]] = [
    {"commit_id": bytes(32)},
    {"checksum": bytes(32)},
    {"size_bytes": 3},
    {"operation_id": "another"},
    {"operation": "another"},
    {"session": "s"},
    {"projection": ["x"]},
    {"removed": ["k1"]},
    {"version": 4},
    {"puts": {"k0": 3}, "read": lambda _key: b"abc", "digests": {}},  # pyright: ignore[reportUnknownLambdaType]
]


class ReceivingTests(Kit):
    """The promises of `receive`."""

    def test_what_was_taken_in_is_not_seen_before_it_arrives(self, store: Store) -> None:
        """And then all of it is, with its versions, ids, sums and commits."""
        source = made()
        received = take(store, source)
        assert here(store) == [] and list(store.documents("workflow")) == []
        assert sorted(received.documents) == [A, B]
        assert arrive(store, received)
        for document in (A, B):
            for version in range(1, 7):
                expected = at(source, version, document)
                assert sums(at(store, version, document)) == sums(expected)
                assert contents(at(store, version, document)) == contents(expected)
                assert at(store, version, document).time_us == expected.time_us
            assert [told(each) for each in store.past(document).commits()] == [
                told(each) for each in source.past(document).commits()
            ]
        assert put(store, {"a": b"go on"}, A) == 7

    def test_what_did_not_arrive_is_given_up(self, store: Store) -> None:
        """Closing a reception before a commit leaves nothing, and the same can be taken in again."""
        source = made()
        take(store, source).close()
        assert here(store) == []
        assert arrive(store, take(store, source))

    def test_what_came_to_be_meanwhile_is_a_conflict(self, store: Store) -> None:
        """A document that is there when another is to arrive under its id stays as it is, and none arrives."""
        received = take(store, made())
        put(store, {"x": b"mine"}, A)
        assert not arrive(store, received)
        assert here(store) == [A] and contents(store.view(A)) == {"x": b"mine"}

    def test_it_arrives_with_what_is_staged_elsewhere_or_not_at_all(self, store: Store) -> None:
        """A conflict in any document of the commit keeps all that was taken in away."""
        third, source = DocumentId("workflow", "third"), made()
        for beaten in (True, False):
            received = take(store, source)
            joint = store.begin()
            joint.document(third).get("x")
            joint.document(third).put("y", b"1")
            if beaten:
                put(store, {"x": b"faster"}, third)
            done = store.commit(joint, joint_change(), received)
            received.close()
            assert (done is None, here(store)) == (beaten, [] if beaten else [A, B])
        assert store.view(third).get("y") == b"1"

    def test_a_change_rides_behind_the_past(self, store: Store) -> None:
        """Its work sees the newest version, and what it stages is one commit more."""
        source = made()
        work = Change(A, lambda tx: tx.put("seen", tx.get("last") or b""), "op", "arrive")
        assert arrive(store, take(store, source, A, work=work))
        newest, before, *_ = store.past(A).commits()
        assert (before.commit_id, newest.operation) == (source.view(A).commit_id, "arrive")
        assert store.view(A).get("seen") == b"1" and store.view(A).operation("op") is not None

    def test_it_can_have_another_id(self, store: Store) -> None:
        """Under any id a document has the commits that it had."""
        source, other = made(), DocumentId("workflow", "Other Ünder")
        received = store.receive()
        newest = received.take(other, source.past(A), None)
        assert sums(newest) == sums(source.view(A))
        assert arrive(store, received)
        assert sums(store.view(other)) == sums(source.view(A)) and here(store) == []

    @pytest.mark.parametrize("forged", _FORGED, ids=[next(iter(forged)) for forged in _FORGED])
    def test_a_past_that_is_not_what_its_ids_and_sums_say_is_refused(
        self, store: Store, forged: dict[str, Any]
    ) -> None:
        """Every word of a commit is checked, and of a past that is refused nothing stays."""
        received = store.receive()
        past: Any = Forged(made().past(A), forged)
        with pytest.raises(DocumentDamaged):
            received.take(A, past, None)
        received.close()
        assert here(store) == []
        assert arrive(store, take(store, made()))

    @outlives
    def test_what_arrived_is_there_when_it_is_opened_again(self, opening: Open) -> None:
        """And goes from there to any other store as it came."""
        store, source = opening(), made()
        assert arrive(store, take(store, source))
        store.close()
        again, elsewhere = opening(), MemoryStore()
        assert arrive(elsewhere, take(elsewhere, again))
        assert [sums(elsewhere.view(each)) for each in (A, B)] == [sums(source.view(each)) for each in (A, B)]
