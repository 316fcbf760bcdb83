"""Documents that are open: many are let go of, and none of those that are in use."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.store.needed import path
from tests.store.support import TestedStore, change, directory_store, failing, system_calls
from waypost import clock
from waypost.errors import StoreClosed, StorePoisoned
from waypost.store import DocumentId, JointChange, Transaction
from waypost.store.directory import holding
from waypost.store.directory.document import Document

__all__ = ["path"]

FEW = 3
MANY = [DocumentId("workflow", f"d{number}") for number in range(10)]


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "_MOST_OPEN", FEW)


def put(tx: Transaction) -> None:
    tx.put("x", os.urandom(8))


def put_in_all(store: TestedStore) -> None:
    joint = store.begin()
    for each in MANY:
        put(joint.document(each))
    assert store.commit(joint, JointChange(clock.new_id("op"), "test")) is not None


def test_e11_documents_of_a_large_transaction_are_sealed(path: Path) -> None:
    """After a transaction over more documents than are kept open, each log is closed as any other."""
    store = directory_store(path)
    for _ in range(2):
        put_in_all(store)
    store.close()
    reader = directory_store(path, read_only=True)
    report = reader.verify()
    assert (report.sound, list(report.findings)) == (True, [])
    assert [reader.view(each).version for each in MANY] == [2] * len(MANY)
    reader.close()


def test_e11_what_is_in_use_is_not_let_go_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents that a commit is about, or that something is queued for, are those that a fork, a restore and closing
    go through, however many they are; and no more than a few are open once they are not.
    """
    store = directory_store(path)
    seen: list[int] = []
    real = Document.put

    def noted(self: Document, *args: object) -> None:
        seen.append(len(store._documents))
        real(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Document, "put", noted)
    put_in_all(store)
    assert seen == [len(MANY)] * len(MANY)
    store._upkeep.close()  # which has carried out what was decided
    tickets = [store.submit(change(each, put)) for each in MANY]
    assert set(store._documents) == set(MANY)
    for each in tickets:
        each.result()
    store.view(MANY[0])
    assert len(store._documents) == FEW
    store.close()


def test_what_each_update_comes_by_opens_its_document_without_a_generator(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit, a look and a look back use one document, count that in two calls, and count it back also when they
    fail.
    """
    store = directory_store(path)
    store.submit(change(MANY[0], put)).result()
    with monkeypatch.context() as patch:
        patch.delattr(holding.Holding, "_opening")
        assert store.submit(change(MANY[0], put)).result().version == 2
        assert (store.view(MANY[0]).version, store.view_at(MANY[0], 2)) == (2, store.view(MANY[0]))
        for name in ("submit", "view", "view_at"):
            patch.setattr(Document, name, lambda *args, **kwargs: 1 // 0)  # type: ignore[misc]
        for use in (
            lambda: store.submit(change(MANY[0], put)),
            lambda: store.view(MANY[0]),
            lambda: store.view_at(MANY[0], 1),
        ):
            with pytest.raises(ZeroDivisionError):
                use()
    assert store._documents[MANY[0]].users == 0
    store.close()


def test_e11_decisions_are_carried_out_with_few_documents_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many documents decisions are about, they are opened one after the other."""
    monkeypatch.setattr(holding.upkeep.Upkeep, "ask_to_settle", lambda self: None)
    store = directory_store(path)
    put_in_all(store)
    seen: list[int] = []
    real = Document.settle

    def noted(self: Document) -> None:
        seen.append(len(store._documents))
        real(self)

    monkeypatch.setattr(Document, "settle", noted)
    store._settle()
    assert len(seen) == len(MANY)
    assert max(seen) <= FEW + 1
    assert os.listdir(path / "transactions") == []
    store.close()


@pytest.mark.parametrize(
    "look",
    [
        lambda store: list(store.documents("workflow")),
        lambda store: list(store.glance("workflow")),
        lambda store: store.peek(MANY[0]),
        lambda store: store.past(MANY[0]),
    ],
    ids=["documents", "glance", "peek", "past"],
)
def test_what_meets_the_end_of_a_store_is_told_that_it_is_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[TestedStore], object]
) -> None:
    """A store that is closed while somebody looks into it is closed for him, and not unavailable."""
    store = directory_store(path)
    store.submit(change(MANY[0], put)).result()
    store._let_go(store._documents.pop(MANY[0]))
    real = store._context.decisions.pending

    def closed_first(*given: DocumentId) -> object:
        monkeypatch.undo()
        store.close()
        return real(*given)

    monkeypatch.setattr(store._context.decisions, "pending", closed_first)
    with pytest.raises(StoreClosed):
        look(store)


def test_d04_a_document_that_was_poisoned_in_a_large_transaction_stays_so(path: Path) -> None:
    """Where a sync fails in a transaction over more documents than are kept open, the handle remembers it."""
    store = directory_store(path, enable_wal=False)  # so that reading syncs nothing, and deciding does
    put_in_all(store)
    store._settle()
    other = directory_store(path)
    for each in MANY:
        other.submit(change(each, put)).result()
    with system_calls() as calls:
        calls.fault = failing("fdatasync", 1, errno.EIO)
        with pytest.raises(StorePoisoned):
            put_in_all(store)
    poisoned = [each for each in store._documents.values() if each.is_poisoned]
    assert len(poisoned) == 1
    with pytest.raises(StorePoisoned):
        store.submit(change(poisoned[0].id, put)).result()
    other.close()
    store.close()
