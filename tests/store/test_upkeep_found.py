"""What upkeep once did again and again to no end, or left behind: found by reading, and kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.support import WF, TestedStore, change, directory_store, putting
from waypost.store import Transaction
from waypost.store.directory import upkeep

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
