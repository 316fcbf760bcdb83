"""Each lock is needed: whatever is written is locked while it is, and each lock of threads is held where it should be.

`make mutants` removes them one by one; those that no other test guards are guarded here.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.store.needed import calm, path
from tests.store.support import WF, TestedStore, change, directory_store, failing, putting, system_calls
from waypost.errors import LockTimeout, StorePoisoned
from waypost.store import DocumentId, JointChange, directory
from waypost.store.directory import document, forks, opened, restoring
from waypost.store.directory.log import Log

__all__ = ["calm", "path"]


OTHER = DocumentId("workflow", "other")


def is_locked(place: str) -> bool:
    """Whether somebody who opens the file now cannot lock it."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


@contextmanager
def watched(path: Path) -> Iterator[list[str]]:
    """Every write to a log or a file in `temp`, and every change of a log's name, finds the file locked; the names."""
    seen: list[str] = []

    def fault(name: str, _count: int, args: tuple[Any, ...]) -> None:
        if name in ("pwrite", "ftruncate"):
            place = os.readlink(f"/proc/self/fd/{args[0]}")
            if place.endswith((".state", ".new")) and str(path) in place and "/partial" not in place:
                seen.append(Path(place).suffix)
                assert is_locked(f"/proc/self/fd/{args[0]}"), f"{name} of {place} without its lock"
        if name in ("rename", "unlink"):
            target = args[1] if name == "rename" else args[0]
            place = path / "workflows" / str(target)
            if str(target).endswith(".state") and place.exists():
                seen.append(name)
                assert is_locked(str(place)), f"{name} of {target} without its lock"

    with system_calls() as calls:
        calls.fault = fault
        yield seen


Act = Callable[[Path], None]


def commits(path: Path) -> None:
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.submit(putting(a=b"2")).result()
    store.close()


def staged(path: Path) -> None:
    store = directory_store(path)
    value = os.urandom(3 << 20)
    content = store.stage(
        WF, "large", len(value), lambda size: [value[at : at + size] for at in range(0, 3 << 20, size)]
    )
    store.submit(change(WF, lambda tx: tx.put("large", content))).result()
    store.close()


def tidied(path: Path) -> None:
    store = directory_store(path)
    for number in range(3):
        store.submit(putting(**{f"a{number}": os.urandom(90_000)})).result()
    assert store.tidy(WF, "snapshot")
    assert store.tidy(WF, "compact")
    store.close()


def over_several(path: Path) -> None:
    store = directory_store(path)
    joint = store.begin()
    joint.document(WF).put("a", b"1")
    joint.document(OTHER).put("a", b"1")
    assert store.commit(joint, JointChange("op", "test", repeatable=False))
    store.close()


def decided_by_a_dead_process(path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        store = directory_store(path)
        with system_calls() as calls:

            def die(name: str, _count: int, args: tuple[Any, ...]) -> None:
                if name == "pwrite" and os.readlink(f"/proc/self/fd/{args[0]}").endswith(".state"):
                    os._exit(1)

            calls.fault = die
            try:
                over_several_in(store)
            finally:
                os._exit(0)
    os.waitpid(pid, 0)


def over_several_in(store: TestedStore) -> None:
    joint = store.begin()
    joint.document(WF).put("a", b"decided")
    joint.document(OTHER).put("a", b"decided")
    store.commit(joint, JointChange("op", "test", repeatable=False))


def settled(path: Path) -> None:
    store = directory_store(path)
    assert os.listdir(path / "transactions")
    store._settle()
    assert os.listdir(path / "transactions") == []
    assert store.view(WF).get("a") == b"decided"
    store.close()


def concluded(path: Path) -> None:
    """A change that changes nothing makes sure of what was decided."""
    store = directory_store(path)
    assert store.submit(change(WF, lambda tx: None)).result().version == 1
    store.close()


def rewritten(path: Path) -> None:
    store = directory_store(path)
    assert store.view(WF).get("a") == b"2"
    store.close()


def after_a_failed_sync(path: Path) -> None:
    commits_without_seal(path, sync_fails=True)


def commits_without_seal(path: Path, *, sync_fails: bool) -> None:
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    with system_calls() as calls:
        if sync_fails:
            calls.fault = failing("fdatasync", 1)
            with pytest.raises(StorePoisoned):
                store.submit(putting(a=b"2")).result()
        else:
            store.submit(putting(a=b"2")).result()
    store.close()


def torn(path: Path) -> None:
    commits(path)
    with (path / "workflows" / "wf.state").open("ab") as log:
        log.write(b"torn" * 99)


def damaged(path: Path) -> None:
    commits(path)
    log = path / "workflows" / "wf.state"
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)


def repaired(path: Path) -> None:
    assert waypost.repair(path).repaired


def nothing(_: Path) -> None:
    pass


OPERATIONS: list[tuple[Act, Act]] = [
    *((nothing, act) for act in (commits, staged, tidied, over_several)),
    *((decided_by_a_dead_process, act) for act in (settled, concluded, commits, over_several)),
    (after_a_failed_sync, rewritten),
    *((torn, act) for act in (commits, over_several, repaired)),
    (damaged, repaired),
]


@pytest.mark.parametrize(("before", "act"), OPERATIONS, ids=[f"{a.__name__}-{b.__name__}" for a, b in OPERATIONS])
def test_c04_whatever_is_written_is_locked(path: Path, before: Act, act: Act) -> None:
    """The lock of a log, and of a file that is to take its place, is held at each write, cut, rename and removal."""
    before(path)
    with watched(path) as seen:
        act(path)
    assert ".state" in seen or "rename" in seen


def test_c04_what_others_wrote_is_taken_in_under_the_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compaction and backup look for the end of a log while nobody can take back what stands before it."""
    store = directory_store(path)
    for number in range(3):
        store.submit(putting(a=b"%d" % number)).result()
    looks: list[bool] = []
    real = Log.news

    def news(self: Log, size: int | None = None) -> Any:
        if size is not None:
            looks.append(is_locked(str(path / "workflows" / "wf.state")))
        return real(self, size)

    real_catch_up = opened.OpenDocument.catch_up

    def catch_up(self: opened.OpenDocument, log: Log, locked_size: int | None = None) -> Any:
        if locked_size is not None:
            looks.append(is_locked(str(path / "workflows" / "wf.state")))
        return real_catch_up(self, log, locked_size)

    monkeypatch.setattr(Log, "news", news)
    monkeypatch.setattr(opened.OpenDocument, "catch_up", catch_up)
    store.backup(str(path.parent / "backup"))
    assert looks
    assert store.tidy(WF, "compact")
    store.close()
    assert len(looks) > 3
    assert all(looks)


def test_c05_all_locks_of_a_commit_over_several_are_held_at_once(path: Path) -> None:
    """When the decision is written, and until its frames are, nobody else can lock any of its logs."""
    store = directory_store(path)
    over_several_in(store)
    held: list[list[bool]] = []
    with system_calls() as calls:

        def fault(name: str, _count: int, args: tuple[Any, ...]) -> None:
            if name == "pwrite":
                held.append([is_locked(str(path / "workflows" / f"{each}.state")) for each in ("wf", "other")])

        calls.fault = fault
        joint = store.begin()
        joint.document(WF).put("a", b"3")
        joint.document(OTHER).put("a", b"3")
        assert store.commit(joint, JointChange("again", "test", repeatable=False))
    assert held == [[True, True]] * 3
    store.close()


def test_c05_a_lock_that_another_holds_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody else holds the lock of a log nothing is written to it; what waits too long fails."""
    monkeypatch.setattr("waypost.store.directory.log.LOCK_TIMEOUT_S", 0.05)
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    log = path / "workflows" / "wf.state"
    with log.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        before = log.read_bytes()
        with pytest.raises(LockTimeout):
            store.submit(putting(a=b"2")).result()
        assert log.read_bytes() == before
    store.close()


def held_by_another(lock: Any) -> bool:
    """Whether another thread cannot have a lock now."""
    got: list[bool] = []

    def attempt() -> None:
        got.append(lock.acquire(blocking=False))
        if got[0]:
            lock.release()

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return not got[0]


def test_c05_threads_take_turns_on_a_document(path: Path) -> None:
    """While one thread writes to a log no other one has the document."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    held: list[bool] = []
    with system_calls() as calls:
        calls.fault = lambda name, _count, _args: (
            held.append(held_by_another(store._document(WF).lock)) if name == "pwrite" else None
        )
        store.submit(putting(a=b"2")).result()
        assert store.tidy(WF, "compact")
        assert store._document(WF)._log is None
    assert held[0]
    store.close()


def test_c11_syncs_of_one_log_follow_one_another(path: Path) -> None:
    """While one sync is under way no other begins: it may cover more, and find its work done."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    log = store._document(WF)._log
    assert log is not None
    held: list[bool] = []
    with system_calls() as calls:
        calls.fault = lambda name, _count, _args: (
            held.append(held_by_another(log._sync_lock)) if name == "fdatasync" else None
        )
        store.submit(putting(a=b"2")).result()
    assert held == [True]
    store.close()


def test_c05_threads_take_turns_on_the_list_of_open_documents(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads never open one document twice."""
    store = directory_store(path)
    held: list[bool] = []
    real = store._new_document

    def new_document(identifier: DocumentId) -> document.Document:
        held.append(held_by_another(store._lock))
        return real(identifier)

    monkeypatch.setattr(store, "_new_document", new_document)
    store.view(WF)
    assert held == [True]
    store.close()


class NotedLock:
    """The lock of a document, which notes when it is taken."""

    def __init__(self, note: Callable[[], None]) -> None:
        self._note, self._real = note, threading.RLock()

    def __enter__(self) -> None:
        self._note()
        self._real.acquire()

    def __exit__(self, *_: object) -> None:
        self._real.release()


def test_c05_a_restore_waits_for_documents_in_the_order_of_transactions(path: Path) -> None:
    """A restore takes the locks of documents in the order of their ids, whichever was used last, so that it and a
    transaction never wait for each other.
    """
    store = directory_store(path)
    first, second = DocumentId("workflow", "a"), DocumentId("workflow", "b")
    taken: list[DocumentId] = []
    for each in (second, first):
        store._document(each).lock = NotedLock(partial(taken.append, each))  # type: ignore[assignment]
    with store._at_rest():
        assert taken[:2] == [first, second]
    store.close()


def test_c05_threads_take_turns_on_cached_blocks_and_decisions(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What many documents share is changed by one thread at a time."""
    store = directory_store(path)
    context, held = store._context, {"cache": False, "decisions": False}

    class Watched(OrderedDict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            held["cache"] = held_by_another(context.cache._lock)
            super().__setitem__(key, value)

    context.cache._held = Watched()
    context.cache.put((1, 2, 3), {}, 4)
    real = context.decisions._look

    def look(folder: Any) -> None:
        held["decisions"] = held_by_another(context.decisions._lock)
        real(folder)

    monkeypatch.setattr(context.decisions, "_look", look)
    context.decisions._trusted_ns = None
    context.decisions.pending()
    assert held == {"cache": True, "decisions": True}
    store.close()


def test_c01_no_store_is_opened_while_another_thread_forks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock that opening and closing take is held from before a fork until after it."""
    store = directory_store(path)
    held: list[bool] = []
    real = directory.DirectoryStore.locks_for_fork

    def locks_for_fork(self: directory.DirectoryStore) -> Iterator[forks.Lock]:
        if self is store:
            held.append(held_by_another(forks._forking))
        return real(self)

    monkeypatch.setattr(directory.DirectoryStore, "locks_for_fork", locks_for_fork)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert held == [True]
    store.close()


def test_a_change_is_told_only_when_it_is_done(path: Path) -> None:
    """Who asks for the result of a change that another thread carries out waits for it."""
    store = directory_store(path)
    begun, may_go_on = threading.Event(), threading.Event()

    def work(tx: Any) -> None:
        begun.set()
        assert may_go_on.wait(60)
        tx.put("a", b"1")

    ticket = store.submit(change(WF, work), lambda _: None)
    assert begun.wait(60)
    threading.Timer(0.1, may_go_on.set).start()
    assert ticket.result().version == 1
    store.close()


def test_c07_a_restore_that_another_carries_out_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that open the store do not carry out one decision at the same time."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.backup(str(path.parent / "backup"))
    with monkeypatch.context() as patch:
        patch.setattr(restoring, "_carry_out", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.restore_backup(str(path.parent / "backup"))
    monkeypatch.setattr(restoring, "LOCK_TIMEOUT_S", 0.05)
    descriptor = os.open(path / "restoring", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(LockTimeout, match="restoring"):
        directory_store(path)
    os.close(descriptor)
    directory_store(path).close()
    assert not (path / "restoring").exists()
