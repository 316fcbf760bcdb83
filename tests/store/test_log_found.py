"""Failures around a log and its lock that were found once, each with the smallest input that showed it."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.store.needed import calm, closed_soundly, die, log_file, path
from tests.store.support import WF, TestedStore, change, directory_store, putting
from tests.store.test_needed_locks import watched
from waypost.codec.frame import FrameType
from waypost.errors import StoreUnavailable
from waypost.store.directory import files, loading
from waypost.store.directory.document import Document
from waypost.store.directory.files import Identity
from waypost.store.directory.frames import Frame
from waypost.store.directory.log import Log

__all__ = ["calm", "path"]


def compacted_and_let_go(path: Path, monkeypatch: pytest.MonkeyPatch, between: Callable[[], None]) -> None:
    """One who wrote and compacted a log lets go of it; `between` comes when he has looked at it and not sealed it."""
    ours = directory_store(path)
    ours.submit(putting(a=b"1")).result()
    assert ours.tidy(WF, "compact")
    real = Document.keep_checkpoints_if_possible

    def keep(self: Document) -> None:
        real(self)
        between()

    document = ours._document(WF)
    with monkeypatch.context() as patch:
        patch.setattr(Document, "keep_checkpoints_if_possible", keep)
        ours._let_go(document)
    ours.close()


def compacted_by(store: TestedStore) -> None:
    store.submit(putting(b=b"2")).result()
    assert store.tidy(WF, "compact")


def is_sealed(path: Path) -> bool:
    store = directory_store(path, read_only=True)
    log, _ = loading.load(store._context, WF)
    assert log is not None
    return log.last_type == FrameType.SEAL and log.end == log_file(path).stat().st_size


def test_d13_who_lets_go_of_a_log_seals_the_one_that_was_put_in_its_place(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A log that another replaces before it is sealed is not taken for damaged, and is sealed as it is now."""
    theirs = directory_store(path)
    with caplog.at_level(logging.WARNING, "waypost"):
        compacted_and_let_go(path, monkeypatch, lambda: compacted_by(theirs))
    assert caplog.messages == []
    assert is_sealed(path)
    closed_soundly(path, theirs, a=b"1", b=b"2")


def test_c08_nothing_behind_a_log_that_was_replaced_is_cleared_without_its_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever seals has the lock of the log that he seals, also of one that was put in the place of his."""
    theirs = directory_store(path)
    cleared: list[bool] = []
    real = Log._clear_tail

    def clear(self: Log, size: int) -> None:
        cleared.append(self.file.is_locked)
        real(self, size)

    def between() -> None:
        compacted_by(theirs)
        theirs.submit(putting(c=b"3")).result()
        monkeypatch.setattr(Log, "_clear_tail", clear)

    compacted_and_let_go(path, monkeypatch, between)
    assert cleared
    assert all(cleared)
    closed_soundly(path, theirs, a=b"1", b=b"2", c=b"3")


def test_c08_a_log_whose_lock_was_given_back_is_not_gone_on_with(path: Path) -> None:
    """Where a state has to be read again with the log's lock held, both go, and nothing is written to that log."""
    ours, theirs = directory_store(path), directory_store(path)
    ours.submit(putting(a=b"1")).result()
    document = ours._document(WF)
    log = document.open_for_writing()
    theirs.submit(putting(b=b"2")).result()
    state, identity, end = document._state, log.lock(), log.end
    assert state is not None
    assert identity is not None
    state.is_torn = True
    with pytest.raises(StoreUnavailable, match="read again"):
        document.catch_up(log, identity.size)
    assert not log.file.is_locked
    assert log.end == end
    assert ours.submit(putting(a=b"3")).result().version == 3
    closed_soundly(path, ours, theirs, a=b"3", b=b"2")


_TORN_BYTES = 9 << 20


def torn_by_a_dead_writer(path: Path, *, is_framed: bool) -> None:
    """Much that is not whole stands behind the end of a log: of a large commit, from its first frame or from within."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    document = store._document(WF)
    log = document.open_for_writing()
    end = log.end
    store.submit(putting(large=os.urandom(_TORN_BYTES))).result()
    die(store)
    with log_file(path).open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(bytes(1000))
        if not is_framed:
            file.seek(end)
            file.write(b"torn" * 99)


@pytest.mark.parametrize("is_framed", [True, False])
def test_c15_a_torn_tail_is_no_news_however_long_it_is(path: Path, is_framed: bool) -> None:
    """No work is run again for what a dead writer left, nor for the zeros that are put in its place."""
    torn_by_a_dead_writer(path, is_framed=is_framed)
    ours, theirs = directory_store(path), directory_store(path)
    for number, store in enumerate((ours, ours, theirs, theirs, ours, theirs)):
        assert store.submit(putting(**{f"b{number}": b"1"})).result().counters.attempts == 1
    assert log_file(path).stat().st_size > _TORN_BYTES
    assert ours.view(WF).version == 7
    assert theirs.view(WF).get("large") is None


def test_c08_a_long_torn_tail_is_cleared_with_the_lock_held(path: Path) -> None:
    """The lock that is given back while much is looked at is held again when that turns out to be nobody's."""
    torn_by_a_dead_writer(path, is_framed=True)
    store = directory_store(path)
    with watched(path) as seen:
        store.submit(putting(b=b"2")).result()
    assert ".state" in seen
    closed_soundly(path, store, a=b"1", b=b"2")


def test_c15_behind_what_was_cleared_a_commit_takes_its_lock_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros that are many are nothing to look at before they are written over."""
    torn_by_a_dead_writer(path, is_framed=True)
    store = directory_store(path)
    store.submit(putting(b=b"1")).result()
    locks: list[bool] = []
    real = Log.lock

    def lock(self: Log, *, wait: bool = True) -> Identity | None:
        locks.append(wait)
        return real(self, wait=wait)

    monkeypatch.setattr(Log, "lock", lock)
    store.submit(putting(b=b"2")).result()
    assert len(locks) == 1


def test_c14_what_others_wrote_much_of_is_checked_without_the_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds more than a little behind the end that he knows reads it while others can go on."""
    ours, theirs = directory_store(path), directory_store(path)
    ours.submit(putting(a=b"1")).result()
    theirs.submit(putting(large=os.urandom(_TORN_BYTES))).result()
    locked: list[bool] = []
    real = Log.blocks_whole

    def whole(self: Log, found: Frame, *, thorough: bool = False) -> bool:
        locked.append(self.file.is_locked)
        return real(self, found, thorough=thorough)

    monkeypatch.setattr(Log, "blocks_whole", whole)
    assert ours.submit(putting(b=b"2")).result().counters.attempts == 1
    monkeypatch.undo()
    assert locked
    assert not any(locked)


class Unlocking:
    """Stands in for `fcntl`: some calls that give a lock back, counted from the first, are refused."""

    def __init__(self, *refused: int) -> None:
        self.refused = refused
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(fcntl, name)

    def flock(self, descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_UN:
            self.calls += 1
            if self.calls in self.refused:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        fcntl.flock(descriptor, operation)


@pytest.mark.parametrize("refused", [(1,), (1, 2), (2,), (2, 3), tuple(range(1, 99))])
def test_e01_a_lock_that_is_not_taken_back_behind_what_was_staged_costs_no_view(
    path: Path, monkeypatch: pytest.MonkeyPatch, refused: tuple[int, ...]
) -> None:
    """What was staged is committed, and read meanwhile, though its file had to be closed to give up the lock."""
    ours, theirs = directory_store(path), directory_store(path)
    ours.submit(putting(a=b"1")).result()
    value = os.urandom(5_000_000)
    unlocking = Unlocking(*refused)
    with monkeypatch.context() as patch:
        patch.setattr(files, "fcntl", unlocking)
        content = ours.stage(
            WF, "large", len(value), lambda size: (value[at : at + size] for at in range(0, len(value), size))
        )
    assert unlocking.calls > 2
    assert ours.view(WF).get("a") == b"1"
    assert theirs.submit(putting(b=b"2")).result().version == 2
    assert ours.view(WF).get("b") == b"2"
    assert ours.submit(change(WF, lambda tx: tx.put("large", content))).result().version == 3
    closed_soundly(path, ours, theirs, a=b"1", b=b"2", large=value)
