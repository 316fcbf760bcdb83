"""What upkeep once did again and again to no end, or left behind: found by reading, and kept."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.store.support import WF, TestedStore, change, directory_store, putting
from waypost.store import DocumentId, JointChange, Transaction
from waypost.store.directory import decisions, files, upkeep

A, B, C = (DocumentId("workflow", each) for each in "abc")
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


# --- decisions ---


class Turning:
    """The upkeep of a store, turn by turn in the thread of the test, by a clock that goes on only while it waits."""

    def __init__(self, store: TestedStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.upkeep, self.now = store._upkeep, 0.0
        self.done: list[str] = []
        monkeypatch.setattr(upkeep.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(self.upkeep, "_settle", self._noting("settle", store._settle))
        monkeypatch.setattr(self.upkeep._wake, "wait", self._wait, raising=False)
        self.upkeep._thread = threading.current_thread()

    def _noting(self, what: str, act: Callable[[], frozenset[str]]) -> Callable[[], frozenset[str]]:
        def noted() -> frozenset[str]:
            self.done.append(what)
            return act()

        return noted

    def _wait(self, pause_s: float) -> None:
        assert pause_s > 0
        self.done.append("wait")
        self.now += pause_s

    def until(self, now: float) -> list[str]:
        """What is done up to a time, in a bounded number of turns, or until there is nothing to do."""
        self.done.clear()
        with suppress(upkeep._Ended):
            for _ in range(40):
                if self.now >= now:
                    break
                self.upkeep._turn(0.0)
        return self.done


def put_in_all(store: TestedStore, *documents: DocumentId) -> None:
    joint = store.begin()
    for document in documents or (A, B):
        joint.document(document).put("x", os.urandom(8))
    assert store.commit(joint, JointChange("op", "test")) is not None


@pytest.fixture
def turning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TestedStore, Turning]]:
    """A store with a decision that is to be carried out, and its upkeep, which has no thread."""
    monkeypatch.setattr(upkeep.Upkeep, "_start", lambda self: None)
    store = directory_store(tmp_path / "s")
    put_in_all(store)
    with pytest.MonkeyPatch.context() as patch:
        turns = Turning(store, patch)
        turns.upkeep.ask_to_settle()
        yield store, turns
        turns.upkeep._thread = None
    store.close()


def no_sync(_: int) -> None:
    raise OSError(errno.EIO, "on purpose")


@pytest.mark.parametrize("why", ["held", "poisoned"])
def test_c09_d12_what_cannot_be_carried_out_is_tried_again_after_a_while(
    turning: tuple[TestedStore, Turning], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Be it that another process holds a lock, which may be stopped, or that a log is poisoned; looking for decisions,
    as trying does, asks for them to be carried out.
    """
    store, turns = turning
    held = store.layout.documents(A.kind).open("a.state")
    assert held is not None
    if why == "held":
        assert held.try_lock()
    else:
        monkeypatch.setattr(files, "_sync_data", no_sync)
    tries = "".join(each[0] for each in turns.until(3.0))
    assert 3 <= tries.count("s") <= 12, tries
    assert "ss" not in tries[1:], tries
    held.close()


@pytest.mark.parametrize("moment", [0.01, 1.0])
def test_d12_what_could_not_be_carried_out_is_once_nothing_is_in_the_way(
    turning: tuple[TestedStore, Turning], monkeypatch: pytest.MonkeyPatch, moment: float
) -> None:
    """Nobody has to ask for it again, nor is it put off for as long as there is nothing else to do; soon where it was
    in the way for a moment.
    """
    monkeypatch.setattr(upkeep, "_LINGER_S", 1e6)
    store, turns = turning
    held = store.layout.documents(A.kind).open("a.state")
    assert held is not None and held.try_lock()
    turns.until(moment)
    assert store._context.decisions.pending()
    held.close()
    turns.until(2.5 * moment + 0.03)
    assert not store._context.decisions.pending()


def test_d12_what_cannot_be_carried_out_holds_up_no_other(turning: tuple[TestedStore, Turning]) -> None:
    """Neither what was decided behind it, which is not put off, nor what is asked for later."""
    store, turns = turning
    held = store.layout.documents(A.kind).open("a.state")
    assert held is not None and held.try_lock()
    turns.until(3.0)
    (stuck,) = store._context.decisions.pending()
    for _ in range(2):
        put_in_all(store, B, C)
        assert len(store._context.decisions.pending()) == 2
        turns.until(turns.now + 0.001)
        assert list(store._context.decisions.pending()) == [stuck]
    held.close()


def test_e01_d12_what_is_in_the_way_of_a_decision_is_told_once(
    turning: tuple[TestedStore, Turning], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is tried, until it is another thing."""
    store, _ = turning
    monkeypatch.setattr(files, "_sync_data", no_sync)
    assert store._settle()  # which poisons the log, and says so by another name from then on
    told = []
    for _ in range(3):
        caplog.clear()
        assert store._settle()
        told.append(len(caplog.records))
    assert told[1:] == [0, 0]


def test_closing_does_not_wait_until_a_decision_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that is put off."""
    monkeypatch.setattr(upkeep, "_AGAIN_S", 1e6)
    monkeypatch.setattr(upkeep, "_LINGER_S", 1e6)
    store = directory_store(tmp_path / "s")
    waits = threading.Event()
    real: Any = store._upkeep._pause_s

    def pause_s(next_tick: float) -> float:
        if store._upkeep._settle_at:
            waits.set()
        return real(next_tick)

    monkeypatch.setattr(store._upkeep, "_pause_s", pause_s)
    monkeypatch.setattr(store._upkeep, "_settle", lambda: frozenset({"x"}))
    store._upkeep.ask_to_settle()
    assert waits.wait(60)
    store.close()
    assert store._upkeep._thread is None


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
