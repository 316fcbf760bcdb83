"""T10 with checkpoints: whatever happens, each document has those that the model has, and each reads as it was made.

The machine of `test_model` goes on as it does there, with checkpoints in its changes: in every third one or two are
made, in some the oldest are removed, some are imported, and files are written and removed at its upkeep. At the end the
logs are taken away, and what is left must be all checkpoints of all documents.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.crash import machine as m
from tests.crash.machine import DOCUMENTS, Action
from tests.crash.test_model import StoreMachine, any_document, any_handle, run_machine, submit
from tests.store.support import TestedStore, directory_store
from tests.totals import Totals, ring_size
from waypost.errors import DocumentTooLarge, WaypostError
from waypost.store import Change, DocumentId, Store, Transaction
from waypost.store.contract import ADOPTED, CHECKPOINT
from waypost.store.directory.layout import file_name
from waypost.store.memory import MemoryStore

PARTS = ring_size(1, 40)
STEPS_OF_A_PART = ring_size(600, 2_000)


def with_checkpoints(work: Callable[[Transaction], Any], document: DocumentId, number: int) -> Callable[..., Any]:
    """The work, which also removes some checkpoints, and makes one, or two at once."""
    names = [f"{DOCUMENTS.index(document)}@{number:06}{end}" for end in ("", "b")[: 1 + (number % 9 == 0)]]

    def checked(tx: Transaction) -> Any:
        done = work(tx)
        if number % 7 in (1, 2):
            for key in list(tx.keys(CHECKPOINT))[: number % 4]:
                if key.removeprefix(CHECKPOINT) not in names:  # nor may it be made again once it is gone
                    tx.delete(key)
        if number % 7 == 4:
            for key in list(tx.keys(ADOPTED))[: number % 3]:
                tx.delete(key)
        for name in names if number % 3 == 0 else ():
            if tx.size_of(CHECKPOINT + name) is None:  # a change that is handed in twice makes it once
                tx.put(CHECKPOINT + name, b"%d" % number)
        return done

    return checked


class CheckpointMachine(StoreMachine):
    """The same, with checkpoints."""

    steps = 0

    def change(self, document: DocumentId, actions: list[Action], operation: int | None = None) -> Change:
        made = super().change(document, actions, operation)
        if any(verb == "clear" for verb, _, _ in actions):
            return made  # handed in twice it would make a checkpoint twice, of one name
        work = with_checkpoints(made.work, document, self.number)
        return Change(document, work, made.operation_id, made.operation, repeatable=made.repeatable)

    def tidy(self, store: TestedStore, document: DocumentId, what: str) -> None:
        if self.number % 2:
            store._document(document).keep_checkpoints(newest_only=self.number % 4 == 1)
        super().tidy(store, document, what)

    @rule(at=any_handle, document=any_document, newest_only=st.booleans())
    def keep(self, at: int, document: DocumentId, newest_only: bool) -> None:
        """Files are written for checkpoints, and removed."""
        self.handles[at]._document(document).keep_checkpoints(newest_only=newest_only)
        self.touched.add(document)

    @rule(at=any_handle, document=any_document, source=any_document, adopts=st.booleans())
    def take_in(self, at: int, document: DocumentId, source: DocumentId, adopts: bool) -> None:
        """A version of another history is imported, or is taken in by somebody who gives up."""
        asked = super().change(document, [])
        name, other = f"{DOCUMENTS.index(document)}@{self.number:06}i", MemoryStore()
        parts = {key: self.memory.view(source).get(key) or b"" for key in self.memory.view(source).keys()}
        other.submit(Change(document, lambda tx: [tx.put(*part) for part in [("x", b"y"), *parts.items()]], "x", "x"))
        try:
            check = self.handles[at].take_in(other.view(document), name)
        except DocumentTooLarge:
            assert self.bounded
            return
        self.memory.take_in(other.view(document), name)
        self.touched.add(document)

        def work(tx: Transaction) -> None:
            check()
            if tx.size_of(ADOPTED + name) is None:
                tx.put(ADOPTED + name, b"from elsewhere")

        if adopts:
            asked = Change(document, work, asked.operation_id, asked.operation, repeatable=asked.repeatable)
            self.mirror(asked, submit(self.handles[at], asked))

    def compare(self, documents: Any) -> None:
        CheckpointMachine.steps += 1
        super().compare(documents)
        for store in [*self.handles, *([self.reader] if self.reader else [])]:
            for document in documents:
                names = self.memory.checkpoints(document)
                assert store.checkpoints(document) == names
                for name in {names[self.number % len(names)], names[-1]} if names else ():
                    self.compare_checkpoint(store, document, name)

    def compare_checkpoint(self, store: Store, document: DocumentId, name: str) -> None:
        expected, found = self.memory.checkpoint(document, name), store.checkpoint(document, name)
        assert expected is not None and found is not None, name
        m.assert_equal_views(expected, found)

    def compare_all(self) -> None:
        written = [document for document in DOCUMENTS if self.memory.view(document).version]
        store = self.handles[0]
        for document in written:  # what killed processes left goes at the next compaction
            store.view(document)
            try:
                store._document(document).open_for_writing()
                store.tidy(document, "compact")
            except WaypostError as error:
                raise AssertionError(f"{document} cannot be compacted") from error
        super().compare_all()
        for document in written:
            os.unlink(os.path.join(self.path, f"{document.kind}s", file_name(document)))
        last = directory_store(self.path, read_only=True)
        for document in DOCUMENTS:
            names = self.memory.checkpoints(document)
            assert last.checkpoints(document) == names
            for name in names:
                self.compare_checkpoint(last, document, name)
        last.close()


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("part", range(PARTS))
def test_t10_trap_13_every_checkpoint_reads_as_it_was_made_whatever_happens(part: int, totals: Totals) -> None:
    """Also by the files alone, once the store was closed and its logs are lost."""
    totals("model steps", run_machine(CheckpointMachine, part, STEPS_OF_A_PART))
