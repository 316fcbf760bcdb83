"""What an interrupt or an error once left held: locks by a fork, and files by closing and by a restore."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.conftest import opened
from tests.crash.sweeps import descriptors_into
from tests.store.needed import log_file, path
from tests.store.support import WF, TestedStore, breaking, change, directory_store, failing, putting, system_calls
from tests.store.test_checkpoints import settle
from tests.store.test_needed_locks import held_by_another
from waypost.errors import StoreUnavailable
from waypost.store import DocumentId, directory
from waypost.store.directory import claims, forks, restoring
from waypost.store.directory.document import Document
from waypost.store.directory.driving import Drivers
from waypost.store.directory.files import Directory
from waypost.store.directory.lease import Lease
from waypost.store.directory.register import Register
from waypost.store.directory.upkeep import Upkeep

__all__ = ["path"]

OTHER = DocumentId("workflow", "other")

# --- a fork ---

forking = pytest.mark.filterwarnings(
    "ignore:.*fork:DeprecationWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",  # Python tells of what ends a hook, and forks all the same
)


def wait_for(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def interruptible() -> Generator[None]:
    """Whoever started the tests may have the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def frames_of(thread: int) -> list[FrameType]:
    """What a thread is in now, the innermost first."""
    frame, found = sys._current_frames().get(thread), []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


@forking
@pytest.mark.usefixtures("interruptible")
def test_c01_an_interrupt_while_a_fork_waits_for_a_commit_leaves_the_store_usable(path: Path) -> None:
    """Python forks all the same: both processes go on writing, and the commit that was waited for is not lost."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    document = store._document(WF)
    blocking = os.open(log_file(path), os.O_RDONLY)
    fcntl.flock(blocking, fcntl.LOCK_EX)
    committing = threading.Thread(target=lambda: store.submit(putting(b=b"2")).result(), daemon=True)
    committing.start()
    settle(lambda: held_by_another(document.lock))
    here = threading.get_ident()

    def interrupt() -> None:
        settle(lambda: any(frame.f_code is forks._before_fork.__code__ for frame in frames_of(here)))
        settle(lambda: held_by_another(store._lock))
        signal.pthread_kill(here, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt, daemon=True)
    interrupting.start()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(blocking)
            store.submit(putting(child=b"3")).result()
            store.close()
            status = 0
        finally:
            os._exit(status)
    fcntl.flock(blocking, fcntl.LOCK_UN)
    os.close(blocking)
    assert wait_for(pid) == 0
    found: list[tuple[bytes | None, ...]] = []

    def use() -> None:
        view = store.view(WF)
        found.append((view.get("a"), view.get("b"), view.get("child")))
        store.close()

    using = threading.Thread(target=use, daemon=True)
    for thread in (interrupting, committing, using):
        if thread is using:
            thread.start()
        thread.join(60)
        assert not thread.is_alive(), "a lock was taken for a fork and not given back"
    assert found == [(b"1", b"2", b"3")]


def interrupting_at(wanted: int, reached: list[int]) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that interrupts the hooks of forks before the wanted one of their instructions."""

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename != forks.__file__ and frame.f_code.co_name != "locks_for_fork":
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            reached.append(frame.f_lasti)
            if len(reached) == wanted:
                raise KeyboardInterrupt
        return trace

    return trace


def forked_interrupted_at(wanted: int) -> int:
    """Fork with an interrupt at an instruction of the hooks in the parent; how many of them there were until then."""
    reached: list[int] = []
    before = sys.gettrace()
    sys.settrace(interrupting_at(wanted, reached))
    try:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
    finally:
        sys.settrace(before)
    assert wait_for(pid) == 0
    return len(reached)


@forking
def test_c01_an_interrupt_at_any_instruction_of_the_hooks_of_a_fork_leaves_no_lock_held(path: Path) -> None:
    """What was taken for the fork is given back, once, and nothing else is."""
    stores = [directory_store(path.with_name(f"store{number}")) for number in range(2)]
    for store in stores:
        store.view(WF)
    at = 0
    while True:
        at += 1
        is_over = forked_interrupted_at(at) < at
        locks = [forks._forking]
        for store in stores:
            locks += [store._lock, *[document.lock for document in store._documents.values()]]
        assert not any(map(held_by_another, locks)), f"held after an interrupt at instruction {at}"
        if is_over:
            break
    assert at > 50
    for store in stores:
        store.close()


@forking
def test_c01_an_interrupt_before_a_fork_gives_back_no_lock_of_another_fork(path: Path) -> None:
    """Whoever could not wait until another thread had forked leaves that one what it has taken."""
    store = directory_store(path)
    store.view(WF)
    taken = threading.Event()
    may_go_on = threading.Event()

    class Slow:
        """The lock of the document, whose taking the other thread pauses behind."""

        def __init__(self, lock: Any) -> None:
            self.real = lock
            self.release = lock.release

        def acquire(self) -> bool:
            taken.set()
            assert may_go_on.wait(60)
            return self.real.acquire()

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        wait_for(pid)

    document = store._document(WF)
    document.lock = Slow(document.lock)  # type: ignore[assignment]
    other = threading.Thread(target=fork, daemon=True)
    other.start()
    assert taken.wait(60)
    forked_interrupted_at(1)
    assert held_by_another(store._lock) and held_by_another(forks._forking)
    may_go_on.set()
    other.join(60)
    document.lock = document.lock.real  # type: ignore[attr-defined]
    assert not held_by_another(store._lock) and not held_by_another(forks._forking)
    store.close()


# --- closing ---

SESSION = DocumentId("session", "s")


def in_use(path: Path) -> TestedStore:
    """A store that has all open that closing has to let go of, and a backup beside it."""
    store = directory_store(path)
    for document in (WF, OTHER):
        store.submit(change(document, lambda tx: tx.put("a", b"1"))).result()
    store.backup(str(path.with_name("backup")))
    for session in (SESSION, DocumentId("session", "t")):
        assert store.claim(session) is not None
    store._upkeep.ask(store._document(WF))  # which has its thread run, and linger
    return store


def check_let_go(path: Path) -> None:
    """Nothing of a closed store is open or locked: another may have it alone."""
    assert descriptors_into(path) == []
    other = directory_store(path)
    other.restore_backup(str(path.with_name("backup")))
    assert other.claim(SESSION) is not None
    other.close()


CLOSING = {
    "drivers": (Drivers, "close"),
    "claims": (claims, "_is_named"),
    "the lock of claims": (claims.Claims, "alone"),
    "upkeep": (Upkeep, "close"),
    "joining upkeep": (threading.Thread, "join"),
    "settling": (directory, "settle"),
    "coming to rest": (directory.upkeep, "come_to_rest"),
    "a document": (Document, "close"),
    "sealing": (Document, "_seal"),
    "the register": (Register, "close"),
    "the lease": (Lease, "is_current"),
}


@pytest.mark.parametrize("part", CLOSING)
def test_c10_an_interrupt_while_a_store_is_closed_has_all_of_it_let_go(path: Path, part: str) -> None:
    """Whatever part of closing is broken off, the lease, the logs, the claims and the directories are not kept."""
    store = in_use(path)
    with breaking(*CLOSING[part], 1, KeyboardInterrupt), pytest.raises(KeyboardInterrupt) as told:
        store.close()
    if part == "sealing":  # the traceback has that log, unlocked, and no other
        assert len(descriptors_into(path)) <= 1
        del told
    store.close()
    check_let_go(path)


def test_c03_an_interrupt_while_upkeep_is_waited_for_gives_the_lease_back(path: Path) -> None:
    """The last to close removes it, so that another machine may write."""
    store = in_use(path)
    with breaking(threading.Thread, "join", 1, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        store.close()
    assert not (path / "lease").exists()


def test_c10_what_fails_behind_an_interrupt_of_closing_does_not_hide_it(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A lease that cannot be removed is told of in the log, and the interrupt goes on."""
    store = in_use(path)

    def fault(name: str, _count: int, arguments: tuple[Any, ...]) -> None:
        if name == "unlink" and arguments[0] == "lease":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with system_calls() as calls:
        calls.fault = fault
        with breaking(Upkeep, "close", 1, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            store.close()
    assert f"{path} was not closed cleanly: cannot remove {path}/lease" in caplog.text
    check_let_go(path)


def test_c10_an_interrupt_behind_the_closing_of_a_directory_has_the_others_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that others than the list of them refer to."""
    store = in_use(path)
    interrupted = store.layout.folder("workflows")
    real = Directory.close

    def close(directory: Directory) -> None:
        real(directory)
        if directory is interrupted:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "close", close)
        with pytest.raises(KeyboardInterrupt):
            store.close()
    check_let_go(path)


# --- a restore ---


def test_c07_a_restore_that_failed_behind_its_decision_keeps_nobody_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds on to the failure does not hold its lock: the next who opens the store carries it out."""
    with opened(path) as wp:
        wp.create_workflow("w", "W", steps=["a"]).unwrap()
        wp.backup(path.with_name("backup")).unwrap()
        wp.update_step_status("w", "a", "completed").unwrap()
        with system_calls() as calls:
            calls.fault = failing("link", 1, errno.ENOSPC, onwards=True)
            failed = wp.restore_backup(path.with_name("backup"), allow_older=True)
    assert isinstance(failed.error, StoreUnavailable) and failed.error.__traceback__ is not None
    assert (path / "restoring").exists()
    monkeypatch.setattr(restoring, "LOCK_TIMEOUT_S", 0)
    with opened(path) as wp:
        assert wp.load_workflow_state("w").unwrap().step("a").status == "pending"
