"""Versions that are kept: checkpoints, and versions that were taken in."""

from __future__ import annotations

from pathlib import Path

import pytest

from waypost.errors import InvalidInput, Refused
from waypost.store import ContentLost, DocumentId, Store, Transaction, View
from waypost.store.contract import ADOPTED, CHECKPOINT
from waypost.store.memory import MemoryStore
from waypost.testing.base import LARGE, WF, Kit, Open, at, contents, delete, outlives, put, submit, sums


def name_of(number: int) -> str:
    """The name of a checkpoint; later ones sort behind earlier ones."""
    return f"wf@{number:06}"


def make(store: Store, number: int, values: dict[str, bytes]) -> View:
    """Commit values together with a checkpoint; the version that it stands for."""
    return at(store, put(store, {**values, CHECKPOINT + name_of(number): b"%d" % number}))


def foreign(document: DocumentId = WF) -> View:
    """A version of a document as another store has it."""
    other = MemoryStore()
    for number in range(3):
        put(other, {"n": b"%d" % number}, document)
    put(other, {"a": b"elsewhere", "large": LARGE}, document)
    return other.view(document)


def adopt(store: Store, version: View, name: str) -> None:
    """Take in a version, and commit that it is kept."""
    check = store.take_in(version, name)

    def work(tx: Transaction) -> None:
        check()
        tx.put(ADOPTED + name, b"said of it")

    submit(store, work, version.document)


class CheckpointTests(Kit):
    """The promises of `checkpoint`, `checkpoints`, `take_in`, and of what looks after the medium."""

    def test_a_checkpoint_is_the_version_whose_commit_put_it(self, store: Store) -> None:
        """It is given as it was for as long as its part is there, and None before and after."""
        put(store, {"a": b"0"})
        first = make(store, 1, {"a": b"1", "b": LARGE})
        put(store, {"a": b"2"})
        second = make(store, 2, {"a": b"3"})
        delete(store, "b")
        assert store.checkpoints(WF) == [name_of(1), name_of(2)]
        found = store.checkpoint(WF, name_of(1))
        assert found is not None and sums(found) == sums(first) and contents(found) == contents(first)
        assert contents(found) == {"a": b"1", "b": LARGE, CHECKPOINT + name_of(1): b"1"}
        assert contents(store.checkpoint(WF, name_of(2))) == contents(second)
        assert store.checkpoint(WF, name_of(3)) is None
        delete(store, CHECKPOINT + name_of(1))
        assert store.checkpoint(WF, name_of(1)) is None and store.checkpoints(WF) == [name_of(2)]
        submit(store, lambda tx: tx.clear())
        assert store.checkpoints(WF) == [] and store.checkpoint(WF, name_of(2)) is None

    def test_a_document_that_was_never_written_has_no_checkpoint(self, store: Store) -> None:
        """Nor is anything left of it, and nothing of the medium is taken."""
        assert store.checkpoints(WF) == [] and store.checkpoint(WF, name_of(1)) is None
        assert (store.left("workflow"), store.log_bytes(WF), store.checkpoint_bytes([name_of(1)])) == ({}, 0, {})

    def test_looking_after_the_medium_takes_no_checkpoint_away(self, store: Store) -> None:
        """Reclaiming and sweeping leave what is kept, whatever they give back, and each checkpoint is whole."""
        made = [make(store, number, {"n": b"%d" % number, "large": LARGE[number:]}) for number in range(6)]
        kept = {view.version: contents(view) for view in made}
        delete(store, *(CHECKPOINT + name_of(number) for number in (0, 3)))
        store.reclaim(WF)
        assert store.sweep() >= 0
        assert store.checkpoints(WF) == [name_of(number) for number in (1, 2, 4, 5)]
        for number in (1, 2, 4, 5):
            assert contents(store.checkpoint(WF, name_of(number))) == kept[number + 1]
            store.verify_checkpoint(WF, name_of(number))
        assert set(store.checkpoint_bytes(map(name_of, range(6)))) <= {name_of(number) for number in (1, 2, 4, 5)}

    def test_what_is_taken_in_is_seen_once_it_is_adopted(self, store: Store) -> None:
        """By its name, with the version, sums and commit id that it had; what the document is stays as it is."""
        put(store, {"a": b"here"})
        version, name = foreign(), name_of(7)
        check = store.take_in(version, name)
        assert (store.checkpoint(WF, name), store.checkpoints(WF), store.left("workflow")) == (None, [], {})

        def work(tx: Transaction) -> None:
            check()
            tx.put(ADOPTED + name, b"said of it")

        submit(store, work)
        found = store.checkpoint(WF, name)
        assert found is not None and contents(found) == contents(version) and sums(found) == sums(version)
        assert store.checkpoints(WF) == [name]
        assert contents(store.view(WF)) == {"a": b"here", ADOPTED + name: b"said of it"}
        store.verify_checkpoint(WF, name)
        delete(store, ADOPTED + name)
        assert (store.checkpoint(WF, name), store.checkpoints(WF)) == (None, [])

    def test_checkpoints_of_both_kinds_stand_side_by_side(self, store: Store) -> None:
        """What was made here and what was taken in are one list, sorted, and neither is in the other's way."""
        made = {number: contents(make(store, number, {"a": b"%d" % number})) for number in (3, 9)}
        version = foreign()
        adopt(store, version, name_of(7))
        made[12] = contents(make(store, 12, {"a": b"after"}))
        assert store.checkpoints(WF) == [name_of(number) for number in (3, 7, 9, 12)]
        delete(store, CHECKPOINT + name_of(9))
        assert contents(store.checkpoint(WF, name_of(7))) == contents(version)
        assert all(contents(store.checkpoint(WF, name_of(number))) == made[number] for number in (3, 12))

    def test_what_was_adopted_can_go_and_come_again(self, store: Store) -> None:
        """It is then what was taken in last."""
        for value in (b"1", b"2"):
            other = MemoryStore()
            put(other, {"a": value})
            adopt(store, other.view(WF), name_of(7))
            assert contents(store.checkpoint(WF, name_of(7))) == {"a": value}
            delete(store, ADOPTED + name_of(7))
            store.sweep()

    def test_a_version_that_was_given_up_is_refused(self, store: Store) -> None:
        """Who adopts late does so, or is told by ContentLost: never is something adopted that is not there."""
        check = store.take_in(foreign(), name_of(7))
        store.sweep()

        def work(tx: Transaction) -> None:
            check()
            tx.put(ADOPTED + name_of(7), b"")

        try:
            submit(store, work)
        except ContentLost:
            assert store.checkpoints(WF) == []
        else:
            assert contents(store.checkpoint(WF, name_of(7))) == contents(foreign())

    def test_a_generation_is_kept_while_it_is_the_newest(self, store: Store) -> None:
        """`keep_generation` says whether the version that was named still is the newest one."""
        put(store, {"a": b"1"})
        assert store.keep_generation(WF, 1)
        put(store, {"a": b"2"})
        assert not store.keep_generation(WF, 1)
        assert contents(at(store, 1)) == {"a": b"1"}

    @outlives
    def test_checkpoints_are_there_when_it_is_opened_again(self, opening: Open) -> None:
        """Those that were made and those that were adopted, as they were."""
        store = opening()
        made = contents(make(store, 1, {"a": b"1", "large": LARGE}))
        adopt(store, foreign(), name_of(7))
        put(store, {"a": b"2"})
        store.close()
        again = opening()
        assert again.checkpoints(WF) == [name_of(1), name_of(7)]
        assert contents(again.checkpoint(WF, name_of(1))) == made
        assert contents(again.checkpoint(WF, name_of(7))) == contents(foreign())
        for name in again.checkpoints(WF):
            again.verify_checkpoint(WF, name)

    def test_a_backup_is_made_or_refused(self, store: Store, tmp_path: Path) -> None:
        """Restoring a backup gives what it was made of; a store that makes none refuses and stays as it is."""
        put(store, {"a": b"1"})
        try:
            store.backup(str(tmp_path / "backup"))
        except InvalidInput:
            with pytest.raises(InvalidInput):
                store.restore_backup(str(tmp_path / "backup"))
        else:
            put(store, {"a": b"2"})
            with pytest.raises(Refused):
                store.restore_backup(str(tmp_path / "backup"))
            assert contents(store.view(WF)) == {"a": b"2"}
            store.restore_backup(str(tmp_path / "backup"), allow_older=True)
        assert contents(store.view(WF)) == {"a": b"1"}
