"""Each failure that the models, histories and schedules have found, with the smallest input that shows it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crash.test_power_found import die
from tests.store.support import TestedStore, change, directory_store, system_calls
from waypost.errors import LockTimeout, StoreUnavailable
from waypost.store import DocumentId, JointChange
from waypost.store.directory import loading
from waypost.store.directory.document import Document
from waypost.store.directory.log import Log
from waypost.store.directory.upkeep import Upkeep

A, B = DocumentId("workflow", "a"), DocumentId("workflow", "b")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is carried out but by a test that asks for it."""
    monkeypatch.setattr(Upkeep, "ask", lambda self, document: None)
    monkeypatch.setattr(Upkeep, "ask_to_settle", lambda self: None)
    return tmp_path / "store"


def put(store: TestedStore, value: bytes, *documents: DocumentId) -> None:
    joint = store.begin()
    for document in documents:
        joint.document(document).put("x", value)
    assert store.commit(joint, JointChange(value.decode(), "test")) is not None


def test_c06_a_durable_read_beside_a_compaction_is_no_damage(path: Path) -> None:
    """A reader that is to sync what others wrote finds that the log was compacted since, and reads on."""
    reader, writer = directory_store(path), directory_store(path)
    for value in (b"1", b"2"):
        put(writer, value, A)
    with system_calls() as calls:

        def fault(name: str, _: int, args: tuple[Any, ...]) -> None:
            # the file is opened once more, to be written to
            if name == "open" and args[0] == "a.state" and args[1] & os.O_RDWR:
                calls.fault = None
                assert writer.tidy(A, "compact")

        calls.fault = fault
        assert reader.view(A).get("x") == b"2"
        assert calls.fault is None
    put(reader, b"3", A)
    assert writer.view(A).get("x") == b"3"
    reader.close()
    writer.close()


@pytest.mark.parametrize("version", [None, 2])
def test_d12_what_was_decided_is_not_laid_over_a_log_that_was_compacted_since(
    path: Path, monkeypatch: pytest.MonkeyPatch, version: int | None
) -> None:
    """Between a reader's look at the log and its reading of what was decided, others carry that out and compact."""
    store = directory_store(path)
    put(store, b"1", A, B)
    with system_calls() as calls:
        put(store, b"2", A, B)
        pieces = store._context.decisions.pieces_for(A)
        assert calls.count("rename") == 1
    die(store)
    log = path / "workflows" / "a.state"
    log.write_bytes(log.read_bytes()[: pieces[-1].offset])
    reader, writer = directory_store(path), directory_store(path)
    name = "load" if version is None else "load_at"
    real = getattr(loading, name)

    def load(*args: Any, decided: Any = None, **kwargs: Any) -> Any:
        if decided:
            monkeypatch.setattr(loading, name, real)
            writer._settle()
            assert writer.tidy(A, "compact")
        return real(*args, decided=decided, **kwargs)

    monkeypatch.setattr(loading, name, load)
    view = reader.view(A) if version is None else reader.view_at(A, version)
    assert getattr(loading, name) is real
    assert view is not None and (view.version, view.get("x")) == (2, b"2")
    reader.close()
    writer.close()


def test_d12_a_file_that_was_made_only_to_be_locked_is_removed_under_its_lock(path: Path) -> None:
    """A transaction over new documents that fails removes their empty files; without the lock one of them might be a
    log by then that another process has just begun.
    """
    store = directory_store(path)
    removed: list[str] = []

    def fault(name: str, _: int, args: tuple[Any, ...]) -> None:
        if name == "rename":
            raise OSError(errno.ENOSPC, "no")
        if name == "unlink" and str(args[0]).endswith(".state"):
            removed.append(args[0])
            with open(path / "workflows" / args[0], "rb") as other, pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    with system_calls() as calls:
        calls.fault = fault
        with pytest.raises(StoreUnavailable):
            put(store, b"1", A, B)
    assert sorted(removed) == ["a.state", "b.state"]
    store.submit(change(A, lambda tx: tx.put("x", b"2"))).result()
    store.close()


def test_e11_a_log_is_sealed_by_whoever_compacted_it(path: Path) -> None:
    """Who wrote to a log cannot close the file that another has put in its place since, so that one does."""
    writer, other = directory_store(path), directory_store(path)
    put(writer, b"1", A)
    other.submit(change(A, lambda tx: tx.put("y", b"1"))).result()
    other._document(A).release()
    put(writer, b"2", A)
    other.view(A)
    assert other._document(A).open_for_writing()
    assert other.tidy(A, "compact")
    writer.close()
    other.close()
    store = directory_store(path, read_only=True)
    assert store.verify().findings == []
    store.close()


def test_c06_a_lock_that_is_not_had_after_a_compaction_leaves_no_older_version(path: Path) -> None:
    """Who opens a compacted log for writing and does not get its lock reads on from the new file."""
    reader, writer = directory_store(path), directory_store(path)
    put(writer, b"1", A)
    assert reader.view(A, durable=False).get("x") == b"1"
    assert writer.tidy(A, "compact")
    with open(path / "workflows" / "a.state", "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LockTimeout):
            reader._document(A).settle()
    put(writer, b"2", A, B)
    assert reader.view(A).get("x") == b"2"
    reader.close()
    writer.close()


def test_c06_a_lock_that_is_not_had_for_a_new_document_is_no_damage_later(path: Path) -> None:
    """Who waited in vain to begin a log reads it from disk before he looks for what was decided in it."""
    late, writer = directory_store(path), directory_store(path)
    os.makedirs(path / "workflows", exist_ok=True)
    with open(path / "workflows" / "a.state", "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LockTimeout):
            late._document(A).settle()
    put(writer, b"1", A)
    put(writer, b"2", A, B)  # its decision stays, and stands behind the first commit
    assert late.submit(change(A, lambda tx: tx.get("x"))).result().data == b"2"
    late.close()
    writer.close()


@pytest.mark.parametrize("behind", ["flock", "enter"])
def test_c06_an_interrupt_behind_a_lock_of_a_transaction_leaves_no_log_locked(
    path: Path, monkeypatch: pytest.MonkeyPatch, behind: str
) -> None:
    """Whoever is interrupted right after the second lock was had, before anything else, gives both back at once."""
    store, other = directory_store(path), directory_store(path)
    put(store, b"1", A, B)
    owner = Document if behind == "enter" else fcntl
    real, calls = getattr(owner, behind), list[Any]()

    def interrupted(*args: Any, **options: Any) -> Any:
        result = real(*args, **options)
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, behind, interrupted)
        with pytest.raises(KeyboardInterrupt):
            put(store, b"2", A, B)
    check_not_locked(path, "a.state", "b.state")
    put(other, b"3", A, B)
    assert store.view(A).get("x") == store.view(B).get("x") == b"3"
    store.close()
    other.close()


@pytest.mark.parametrize("behind", ["lock", "enter"])
def test_c10_an_interrupt_behind_a_lock_in_settling_leaves_no_log_locked(
    path: Path, monkeypatch: pytest.MonkeyPatch, behind: str
) -> None:
    """Whoever is interrupted right after the lock was had to carry out a decision gives it back at once."""
    store, other = directory_store(path), directory_store(path)
    put(other, b"1", A)
    check_interrupted_behind(monkeypatch, behind, lambda: store._document(A).settle())
    check_not_locked(path, "a.state")
    put(other, b"2", A)
    assert store.view(A).get("x") == b"2"
    store.close()
    other.close()


def test_c10_an_interrupt_behind_a_lock_in_reading_leaves_no_log_locked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that is interrupted right after it had the lock, to sync what others wrote, gives it back at once."""
    reader, writer = directory_store(path), directory_store(path)
    put(writer, b"1", A)
    check_interrupted_behind(monkeypatch, "lock", lambda: reader.view(A))
    check_not_locked(path, "a.state")
    put(writer, b"2", A)
    assert reader.view(A).get("x") == b"2"
    reader.close()
    writer.close()


def check_interrupted_behind(monkeypatch: pytest.MonkeyPatch, behind: str, act: Callable[[], object]) -> None:
    """Do something, with an interrupt right behind the call that takes the lock."""
    owner: Any = Document if behind == "enter" else Log
    real = getattr(owner, behind)

    def interrupted(*args: Any, **options: Any) -> Any:
        real(*args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, behind, interrupted)
        with pytest.raises(KeyboardInterrupt):
            act()


def check_not_locked(path: Path, *names: str) -> None:
    for name in names:
        with open(path / "workflows" / name, "rb") as log:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
