"""What upkeep once did again and again to no end, or left behind: found by reading, and kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.store.support import WF, TestedStore, change, directory_store, putting
from waypost.store import DocumentId, Transaction
from waypost.store.directory import decisions, files, upkeep

A, B = DocumentId("workflow", "a"), DocumentId("workflow", "b")
PART = 10_000
PARTS = [f"part{number}" for number in range(28)]


class Shrunk:
    """A document whose history is at its bound, and begins with far more than what there is of it by now."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(upkeep.Upkeep, "ask", lambda self, document: None)  # it is looked after here
        self.path = path
        self.store = self.opened()
        for _ in range(2):
            for key in PARTS:
                self.put(key, PART)
        self.store.submit(change(WF, _clear)).result()
        for _ in PARTS:
            self.put("left", PART)
        assert self.store.tidy(WF, "compact")

    def opened(self) -> TestedStore:
        return directory_store(self.path, max_file_size=1)

    def put(self, key: str, length: int) -> None:
        self.store.submit(putting(**{key: os.urandom(length)})).result()

    def look_after(self) -> bool:
        """What upkeep does when it is asked for; whether the log was written again."""
        before = self.inode
        document = self.store._document(WF)
        upkeep.take_snapshot(document, self.store._context)
        upkeep.compact_if_due(document, self.store._context, closing=False)
        return self.inode != before

    @property
    def inode(self) -> int:
        with open(self.path / "workflows" / "wf.state", "rb") as log:  # held, so that none has its number meanwhile
            return os.fstat(log.fileno()).st_ino


def _clear(tx: Transaction) -> None:
    for key in PARTS:
        tx.delete(key)


@pytest.fixture
def shrunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shrunk]:
    made = Shrunk(tmp_path / "s", monkeypatch)
    yield made
    made.store.close()


# --- compaction ---


def test_d25_a_log_that_was_just_compacted_is_not_due_again(shrunk: Shrunk) -> None:
    """What stands for the versions that went is none of history, however much more than the state it is."""
    shrunk.store.view(WF)  # the log is another one now, and is opened
    document = shrunk.store._document(WF)
    log = document.log_if_usable()
    assert log is not None and log.dropped_versions > len(PARTS)
    for closing in (False, True):
        assert not upkeep.compaction_is_due(log, document.state_now(), shrunk.store._context, closing=closing)


def test_d25_a_log_is_not_compacted_at_each_look_once_its_history_is_at_its_bound(shrunk: Shrunk) -> None:
    """Each commit would cost as much as the whole log."""
    looks = []
    for _ in range(5):
        shrunk.put("left", 1)
        looks.append(shrunk.look_after())
    assert looks == [False] * 5


def test_d25_a_log_is_not_compacted_at_each_close_once_its_history_is_at_its_bound(shrunk: Shrunk) -> None:
    """Nor by everyone who opens it, commits, and closes it."""
    before = shrunk.inode
    for _ in range(3):
        shrunk.store.close()
        shrunk.store = shrunk.opened()
        shrunk.put("left", 1)
    shrunk.store.close()
    assert shrunk.inode == before


def test_d25_history_that_has_outgrown_its_bound_again_is_cut_again(shrunk: Shrunk) -> None:
    """What is left out does not let it grow without end, nor is it cut for one commit."""
    bound = shrunk.store._context.limit_bytes // 2
    commits = 0
    while not shrunk.look_after():
        shrunk.put("left", PART)
        commits += 1
        assert commits * PART < bound // 4
    assert commits > 1
    assert not shrunk.look_after()


# --- interrupts ---


def interrupted_behind_a_lock(patch: pytest.MonkeyPatch) -> list[files.File]:
    """An interrupt comes right behind the taking of a file's lock; the files that were locked."""
    real = files.File.lock
    locked: list[files.File] = []

    def lock(self: files.File, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        locked.append(self)
        raise KeyboardInterrupt

    patch.setattr(files.File, "lock", lock)
    return locked


def test_c10_an_interrupt_leaves_no_log_locked_that_gets_its_place(tmp_path: Path) -> None:
    """Whoever keeps the interrupt, with all that its calls had at hand, keeps no lock by it."""
    store = directory_store(tmp_path / "s")
    store.submit(putting(x=b"1")).result()
    folder = store.layout.documents(WF.kind)
    file, here = folder.open("wf.state"), store._document(WF).log_if_usable()
    assert file is not None and here is not None
    whole = decisions.Whole(folder, "wf.state", file, 1)
    with pytest.MonkeyPatch.context() as patch:
        locked = interrupted_behind_a_lock(patch)
        with pytest.raises(KeyboardInterrupt):
            store._context.decisions._place(whole, here, 0)
    assert locked == [file] and not file.is_locked
    store.submit(putting(x=b"2")).result()
    file.close()
    store.close()


def test_c10_an_interrupt_leaves_no_log_locked_of_which_there_is_a_copy(tmp_path: Path) -> None:
    """As above, before a migration."""
    store = directory_store(tmp_path / "s", backup_retention=1)
    store.submit(putting(x=b"1")).result()
    version = store.view(WF).version
    with pytest.MonkeyPatch.context() as patch:
        locked = interrupted_behind_a_lock(patch)
        with pytest.raises(KeyboardInterrupt):
            store.keep_generation(WF, version)
    assert [each.is_locked for each in locked] == [False]
    store.submit(putting(x=b"2")).result()
    store.close()
