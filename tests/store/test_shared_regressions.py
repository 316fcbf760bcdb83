"""Failures between threads, handles and processes that were found once, each with the smallest input that showed it."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from tests.store.support import WF, change, directory_store, putting, system_calls
from waypost import clock
from waypost.store import DocumentId
from waypost.store.directory import log as log_module
from waypost.store.directory.document import Document
from waypost.store.memory import MemoryStore


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def test_listings_at_the_same_time_do_not_miss_documents(path):
    """A listing that begins while another one is under way, in a thread or on the other side of a fork, is whole."""
    store = directory_store(path)
    for number in range(3):
        store.submit(change(DocumentId("workflow", f"d{number}"), lambda tx: tx.put("a", b"1"))).result()
    listings = []
    with system_calls() as calls:

        def look_again(name, _count, args):
            if name == "listdir" and _count > 1 and not listings:  # the first looks for decisions
                listings.append([])
                # as another listing has it that was begun and not ended
                with os.scandir(os.dup(store.layout.documents("workflow").descriptor)) as under_way:
                    next(under_way)
                    listings.append(sorted(store.documents("workflow")))
                    return os.listdir(args[0])
            return None

        calls.fault = look_again
        listings.append(sorted(store.documents("workflow")))
    assert listings[1:] == [["d0", "d1", "d2"]] * 2
    store.close()


def test_an_earlier_version_is_found_of_a_document_that_others_made(path):
    """`view_at` does not go by an earlier look at a document that was not there yet."""
    ours, theirs = directory_store(path), directory_store(path)
    assert ours.view(WF).version == 0
    theirs.submit(putting(a=b"1")).result()
    assert ours.view_at(WF, 1).get("a") == b"1"
    ours.close()
    theirs.close()


def test_a_change_without_effect_names_a_version_that_holds_what_was_acknowledged_before(path):
    """What another process was told before the call is in the version that the call gives, whatever part it is in."""
    ours, theirs = directory_store(path), directory_store(path)
    ours.submit(putting(a=b"1")).result()
    theirs.submit(putting(b=b"2")).result()
    assert ours.submit(putting(a=b"1")).result().version == 2
    ours.close()
    theirs.close()


@pytest.mark.parametrize("repeats", [True, False])
def test_an_outcome_names_the_version_that_holds_it_when_others_commit_meanwhile(path, repeats):
    """In a batch, what repeats a change or adds nothing to it is told the version that the change really made."""
    ours, theirs = directory_store(path), directory_store(path)
    ours.submit(putting(a=b"1")).result()
    theirs.submit(putting(b=b"2")).result()
    once = change(WF, lambda tx: tx.put("c", b"3"), operation_id="once" if repeats else None, repeatable=repeats)
    first, second = ours.submit(once), ours.submit(once)
    assert (first.result().version, second.result().version) == (3, 3)
    if repeats:
        assert second.result().repeated == ours.view(WF).operation("once")
    assert ours.view_at(WF, second.result().version).get("c") == b"3"
    ours.close()
    theirs.close()


@pytest.mark.parametrize("kind", ["memory", "directory"])
def test_a_commit_is_later_than_the_one_before_it(path, monkeypatch, kind):
    """When the wall clock goes back, every store says the same of a commit, also to who repeats it in its own batch."""
    store = MemoryStore() if kind == "memory" else directory_store(path)
    monkeypatch.setattr(clock, "now_us", lambda: 2_000_000)
    store.submit(putting(a=b"1")).result()
    monkeypatch.setattr(clock, "now_us", lambda: 1_000_000)
    once = change(WF, lambda tx: tx.put("c", b"3"), operation_id="once", repeatable=True)
    tickets = [store.submit(once), store.submit(once)]
    assert [ticket.result().version for ticket in tickets] == [2, 2]
    view = store.view(WF)
    assert view.time_us == view.operation("once").time_us == tickets[1].result().repeated.time_us == 2_000_001
    store.close()


class MeanwhileLock:
    """A lock during whose first taking another thread does something, for at most a second."""

    def __init__(self, act):
        self._lock = threading.RLock()
        self.thread = threading.Thread(target=act, daemon=True)
        self.release = self._lock.release

    def acquire(self):
        taken = self._lock.acquire()
        if self.thread.ident is None:
            self.thread.start()
            self.thread.join(1)  # it may have to wait until this thread is done
        return taken


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("meanwhile", ["open", "close"])
def test_c01_a_store_opened_or_closed_while_another_thread_forks_locks_nobody_out(path, meanwhile):
    """What another thread opens or closes while this one forks is usable after it, and so is everything else."""
    stores = [directory_store(path.with_name(f"store{number}")) for number in range(4)]
    stores[0].view(WF)

    def act():
        if meanwhile == "open":
            stores.extend(directory_store(path.with_name(f"later{number}")) for number in range(4))
        else:
            for store in stores[1:]:
                store.close()

    lock = stores[0]._document(WF).lock = MeanwhileLock(act)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    lock.thread.join(20)
    stores[0]._document(WF).lock = threading.RLock()
    used = threading.Thread(target=lambda: [store.close() for store in stores], daemon=True)
    used.start()
    used.join(60)
    assert not used.is_alive() and not lock.thread.is_alive(), "a lock was taken for a fork and not given back"


def test_a_change_that_comes_in_as_its_driver_ends_is_told_though_the_store_closes(path, monkeypatch):
    """`on_done` is called also when the store begins to close while the thread that drives a document is ending."""
    store = directory_store(path)
    told, both, ends = [], threading.Semaphore(0), []

    def on_done(tickets):
        for ticket in tickets:
            told.append(ticket.result().version)
            both.release()

    def act():
        store.submit(putting(b=b"2"), on_done)
        store._drivers._pool.shutdown(wait=False)  # as `close` does first

    def has_work(document):
        found = bool(document._queue)
        if not found and not ends:
            ends.append(threading.Thread(target=act, daemon=True))
            ends[0].start()
            ends[0].join(1)  # it may have to wait until the driver has said that it ends
        return found

    monkeypatch.setattr(Document, "has_work", property(has_work))
    store.submit(putting(a=b"1"), on_done)
    assert both.acquire(timeout=60) and both.acquire(timeout=60), f"told of {told}"
    assert told == [1, 2]
    store.close()


def test_a_batch_is_told_in_one_call_to_each_who_asked(path):
    """Whoever waits for several changes of a batch wakes once for it, also where one of them failed."""
    store = directory_store(path)
    store.submit(putting(a=b"0")).result()

    def refuse(_tx):
        raise ValueError("no")

    told = {"one": [], "other": []}
    done = threading.Semaphore(0)

    def teller(name):
        def on_done(tickets):
            told[name].append(tickets)
            done.release()

        return on_done

    one, other = teller("one"), teller("other")
    with store._document(WF).lock:  # so all of them wait for the one thread that drives
        first = [store.submit(putting(a=b"1"), one), store.submit(change(WF, refuse), one)]
        second = store.submit(putting(a=b"2"), other)
        first.append(store.submit(putting(a=b"3"), one))
    assert done.acquire(timeout=60) and done.acquire(timeout=60)
    assert told == {"one": [first], "other": [[second]]}
    assert [ticket.result().version for ticket in (first[0], second, first[2])] == [2, 3, 4]
    with pytest.raises(ValueError, match="no"):
        first[1].result()
    store.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_c01_a_child_that_holds_a_view_keeps_no_lock_of_its_killed_parent(path):
    """A lock belongs to the opening of a file, which a fork copies: a child that still reads a view opens it anew."""
    reading, writing = os.pipe()
    waiting, going_on = os.pipe()
    parent = os.fork()
    if parent == 0:
        store = directory_store(path)
        store.submit(putting(a=b"1")).result()
        view = store.view(WF)
        if os.fork() == 0:
            os.close(going_on)
            os.write(writing, view.get("a"))
            os.read(waiting, 1)  # until the test has ended
            os._exit(0)
        log = store._document(WF).open_for_writing()
        assert log.lock() is not None
        os.write(writing, b"L")
        time.sleep(600)
    os.close(waiting)
    assert sorted(os.read(reading, 1) for _ in range(2)) == [b"1", b"L"]
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_module, "LOCK_TIMEOUT_S", 0.2)
        store = directory_store(path)
        store.submit(putting(b=b"2")).result()
        store.close()
    os.close(going_on)
