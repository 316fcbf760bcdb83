"""Failures that were found once, each with the smallest input that showed it."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import contextmanager
from functools import partial

import pytest

import waypost
from tests.store.support import WF, change, directory_store, failing, putting, system_calls
from tests.store.test_checkpoints import contents, make, name_of
from tests.test_values import with_little_stack
from waypost import clock
from waypost.codec import bodies
from waypost.codec.compression import Undecodable
from waypost.errors import DocumentDamaged, DocumentTooLarge, StoreClosed, StorePoisoned, StoreUnavailable
from waypost.store.directory import checkpoints, compaction, keeping, layout, log, recent, upkeep
from waypost.store.directory.upkeep import Upkeep


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def check(path, **expected):
    """The store is sound, and a new reader sees these parts."""
    reader = directory_store(path, read_only=True)
    assert reader.verify().sound
    view = reader.view(WF)
    assert {key: view.get(key) for key in expected} == expected


def test_log_and_state_stay_together_when_following_others_fails(path):
    """A full disk while a writer prepares to append behind frames of others costs that commit only."""
    ours, theirs = directory_store(path), directory_store(path)
    theirs.submit(putting(a=b"1")).result()
    ours.view(WF)
    theirs.submit(putting(a=b"2")).result()
    with system_calls() as calls:
        calls.fault = failing("pwrite", 1, errno.ENOSPC)
        with pytest.raises(StoreUnavailable):
            ours.submit(putting(a=b"3")).result()
    assert ours.submit(putting(a=b"4")).result().version == 3
    check(path, a=b"4")


@pytest.mark.parametrize("at", range(1, 8))
def test_an_interrupt_while_reading_leaves_log_and_state_together(path, at):
    """A KeyboardInterrupt at any read of a view does not make the next commit carry an old version."""
    ours, theirs = directory_store(path), directory_store(path)
    ours.submit(putting(a=b"1")).result()
    theirs.submit(putting(a=b"2")).result()
    with system_calls() as calls:
        seen = 0

        def interrupt(name, _count, _args):
            nonlocal seen
            seen += name in ("pread", "fstat", "lseek", "stat")
            if seen == at:
                calls.fault = None
                raise KeyboardInterrupt

        calls.fault = interrupt
        try:
            ours.view(WF)
        except KeyboardInterrupt:
            pass
    assert ours.submit(putting(a=b"3")).result().version == 3
    check(path, a=b"3")


def test_a_whole_frame_is_never_cut_back(path, monkeypatch):
    """An interrupt right after the write leaves the frame, since another process may have read it by then."""
    ours, theirs = directory_store(path), directory_store(path)
    ours.submit(putting(a=b"1")).result()
    theirs.submit(putting(b=b"2")).result()
    real = log.File.write

    def write(self, data, offset):
        real(self, data, offset)
        assert theirs.view(WF).version == 3
        raise KeyboardInterrupt

    monkeypatch.setattr(log.File, "write", write)
    with pytest.raises(KeyboardInterrupt):
        ours.submit(putting(a=b"3")).result()
    monkeypatch.undo()
    assert theirs.submit(putting(b=b"4")).result().version == 4
    check(path, a=b"3", b=b"4")


def test_what_is_a_frame_does_not_depend_on_the_configuration(path):
    """A store with a smaller `max_file_size` reads what another wrote, and refuses to add to it."""
    large = os.urandom(3 << 20)
    wide = directory_store(path, max_file_size=20)
    wide.submit(putting(large=large)).result()
    narrow = directory_store(path, max_file_size=2)
    assert narrow.view(WF).get("large") == large
    with pytest.raises(DocumentTooLarge):
        narrow.submit(putting(a=b"1")).result()
    narrow.close()
    wide.close()
    check(path, large=large)


def test_two_saves_of_one_version_in_one_batch_conflict(path):
    """The second of two saves that wait together sees what the first one did."""
    with waypost.open(path) as wp:
        wp.create_workflow("wf", "W").unwrap()
        first, second = wp.load_workflow_state("wf").unwrap(), wp.load_workflow_state("wf").unwrap()
        first.context.variables["x"], second.context.variables["x"] = 1, 2
        document = wp.definitions.store._document(WF)
        results = {}
        with document.lock:  # both wait for it, and go out as one batch
            threads = [
                threading.Thread(target=lambda n=name, s=state: results.update({n: wp.save_workflow_state(s)}))
                for name, state in (("first", first), ("second", second))
            ]
            for thread in threads:
                thread.start()
            while len(document._queue) < 2:
                pass
        for thread in threads:
            thread.join()
        assert sorted(bool(result) for result in results.values()) == [False, True]
        failed = next(result for result in results.values() if not result)
        assert failed.error.code == "version_conflict"


def test_nothing_is_concluded_from_a_state_that_others_have_moved_on_from(path):
    """A change that seems to change nothing, or cannot be made, is tried again on what others have committed."""
    ours, theirs = directory_store(path), directory_store(path)
    ours.submit(putting(a=b"1")).result()
    theirs.submit(putting(a=b"2")).result()
    assert ours.submit(putting(a=b"1")).result().version == 3
    assert theirs.view(WF).get("a") == b"1"

    def needs(tx):
        if tx.get("x") is None:
            raise StoreUnavailable("not there")
        tx.put("x", b"2")

    other = WF._replace(id="other")
    with pytest.raises(StoreUnavailable):
        ours.submit(change(other, needs)).result()
    theirs.submit(change(other, lambda tx: tx.put("x", b"1"))).result()
    assert ours.submit(change(other, needs)).result().version == 2


def test_a_clear_while_a_snapshot_is_built_clears_everything(path, monkeypatch):
    """Parts that were cleared while a snapshot was built do not come back with it."""
    monkeypatch.setattr(Upkeep, "ask", lambda self, document: None)
    store = directory_store(path)
    for number in range(120):
        store.submit(putting(**{f"k{number}": b"1"})).result()
    real = upkeep.snapshots.build_on

    def build_on(*args):
        store.submit(change(WF, lambda tx: (tx.clear(), tx.put("new", b"1")))).result()
        return real(*args)

    monkeypatch.setattr(upkeep.snapshots, "build_on", build_on)
    assert store.tidy(WF, "snapshot")
    view = store.view(WF)
    assert list(view.keys()) == ["new"]
    store.submit(putting(more=b"2")).result()
    store.close()
    assert list(directory_store(path, read_only=True).view(WF).keys()) == ["more", "new"]
    check(path, new=b"1", more=b"2")


def test_operations_are_known_from_the_start_of_a_shortened_log(path, monkeypatch):
    """Where history was dropped, an operation before the cut is remembered even when the last snapshot was torn."""
    store = directory_store(path)
    once = change(WF, lambda tx: tx.put("a", b"once"), operation_id="once", repeatable=True)
    store.submit(once).result()
    for number in range(6):
        store.submit(putting(b=b"%d" % number)).result()
    real = compaction.choose_history

    def choose(origin, context):
        kept = list(real(origin, context).kept)
        return compaction.History(3, b"".join(each.header.commit_id for each in kept[:3]), kept[3:])

    monkeypatch.setattr(compaction, "choose_history", choose)
    assert store.tidy(WF, "compact")
    document = store._document(WF)
    document.view(durable=False)
    found = document._log
    monkeypatch.setattr(found, "base", 0)
    size = found.file.identity().size
    reread = found.first(size)
    state = upkeep.loading._read_from_start(
        found, WF, upkeep.loading.blocks_of(found, store._context), reread, None, size
    )
    assert state.operation("once").version == 1
    store.close()


def test_d02_after_a_compaction_the_first_commit_syncs_the_directory(path):
    """A rename whose directory sync failed, or was never reached, is made durable before anything more is
    acknowledged.
    """
    store = directory_store(path)
    for number in range(3):
        store.submit(putting(a=b"%d" % number)).result()
    with system_calls() as calls:

        def fault(name, _count, _args):
            if name == "fsync" and calls.count("rename"):
                raise OSError(errno.EIO, "Input/output error")

        calls.fault = fault
        with pytest.raises(StoreUnavailable):
            store.tidy(WF, "compact")
        calls.fault = None
        calls.trace.clear()
        store.submit(putting(a=b"4")).result()
        assert [name for name, _, _ in calls.trace if "sync" in name] == ["fdatasync", "fsync"]
    store.close()
    check(path, a=b"4")


def test_a_document_of_a_third_of_its_bound_stays_writable(path):
    """History gives way to the state: commits go on as long as the state itself fits."""
    store = directory_store(path, max_file_size=1, enabled=False)
    parts = {f"k{number}": os.urandom(9000) for number in range(40)}
    store.submit(putting(**parts)).result()
    for number in range(150):
        store.submit(putting(**{f"k{number % 40}": os.urandom(9000)})).result()
    assert store.view(WF).version == 151
    store.close()
    assert directory_store(path, read_only=True).verify().sound


def test_d04_poison_is_not_forgotten(path):
    """After the very first sync of a document failed, or a reader's own, nothing unsynced is shown or acknowledged."""
    store = directory_store(path)
    with system_calls() as calls:
        calls.fault = failing("fdatasync", 1)
        with pytest.raises(StorePoisoned):
            store.submit(putting(a=b"1")).result()
    assert store.view(WF).version == 0
    with pytest.raises(StorePoisoned):
        store.submit(putting(a=b"2")).result()
    for number in range(200):  # enough to have others let go
        store.view(WF._replace(id=f"d{number}"))
    with pytest.raises(StorePoisoned):
        store.submit(putting(a=b"3")).result()
    store.close()
    again = directory_store(path)
    assert again.submit(putting(b=b"4")).result().version == 2
    again.close()
    check(path, a=b"1", b=b"4")


def test_c01_a_change_handed_in_before_a_fork_belongs_to_the_parent(path):
    """In the child its ticket raises at once; in the parent it is carried out."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    ticket = store.submit(putting(a=b"2"))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ticket.result()
        except StoreClosed:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert ticket.result().version == 2
    store.close()


def test_a_change_that_does_not_fit_fails_alone(path):
    """In a batch with one that is too large, and one whose callback fails, the others are committed."""
    store = directory_store(path, max_file_size=1, enabled=False)
    document = store._document(WF)

    def broken(_ticket):
        raise RuntimeError("a callback of a test")

    small = document.submit(putting(a=b"1"), None)
    large = document.submit(putting(b=os.urandom(2 << 20)), None)
    called = document.submit(putting(c=b"2"), broken)
    assert small.result().changed
    with pytest.raises(DocumentTooLarge):
        large.result()
    assert called.result().changed
    store.close()
    check(path, a=b"1", b=None, c=b"2")


def test_an_earlier_version_is_found_after_another_process_compacted(path):
    """`view_at` looks into the log that is there now, whatever its length was before."""
    ours, theirs = directory_store(path), directory_store(path)
    for number in range(150):
        ours.submit(putting(a=b"%d" % number)).result()
    theirs.submit(putting(b=b"1")).result()
    assert theirs.tidy(WF, "compact")
    theirs.submit(putting(b=b"2")).result()
    assert ours.view_at(WF, 100).get("a") == b"99"
    ours.close()
    theirs.close()


def test_closing_is_not_held_up_by_others_who_go_on_writing(path):
    """A store that is closed while another process writes without pause leaves the sealing to that one."""
    ours, theirs = directory_store(path), directory_store(path)
    ours.submit(putting(a=b"1")).result()
    real = log.Log.sync_to
    syncs = 0

    def sync_to(self, offset):
        nonlocal syncs
        syncs += 1
        done = real(self, offset)
        theirs.submit(putting(b=b"%d" % syncs)).result() if syncs % 2 else None
        return done

    log.Log.sync_to = sync_to
    try:
        ours.close()
    finally:
        log.Log.sync_to = real
    assert syncs < 10
    theirs.close()
    check(path, a=b"1")


def test_no_backup_is_dropped_before_there_are_more_than_are_kept(path, monkeypatch):
    """With `reliability.backup_retention` at 5, the fourth generation is kept beside the first three."""
    store = directory_store(path, backup_retention=5)
    real = clock.now_us
    for generation in range(7):
        store.submit(putting(a=b"%d" % generation)).result()
        later = (generation + 1) * (30 * compaction.DAY_US + 1)
        monkeypatch.setattr(clock, "now_us", lambda later=later: real() + later)
        store.submit(putting(b=b"%d" % generation)).result()
        assert store.tidy(WF, "compact")
        kept = {entry.name for entry in (path / "backups").iterdir()}
        assert kept == {f"wf.state.{number}" for number in range(max(0, generation - 4), generation + 1)}
    store.close()


class Asked:
    """A document's lock that notes of each time it is asked for whether the folder of checkpoints was locked then."""

    def __init__(self, lock):
        self._lock = lock
        self.folder_is_locked = False
        self.noted = []

    def __enter__(self):
        self.noted.append(self.folder_is_locked)
        return self._lock.__enter__()

    def __exit__(self, *error):
        return self._lock.__exit__(*error)


def test_with_the_folder_of_checkpoints_locked_nobody_asks_for_the_lock_of_a_document(path, monkeypatch):
    """Whoever has that may wait for the folder: then both wait until the patience of one ends. The first versions are
    read from the log, and the others are at hand, more of them than are written at a time.
    """
    monkeypatch.setattr(recent, "_MOST_COMMITS", 36)
    store = directory_store(path)
    made = [make(store, number, value=b"%d" % number) for number in range(40)]
    document = store._document(WF)
    asked = document.lock = Asked(document.lock)
    real = keeping.alone

    @contextmanager
    def alone(*args):
        with real(*args):
            asked.folder_is_locked = True
            try:
                yield
            finally:
                asked.folder_is_locked = False

    monkeypatch.setattr(keeping, "alone", alone)
    document.keep_checkpoints(newest_only=False)
    assert {*asked.noted} == {False}
    assert [contents(checkpoints.read(store._context, name_of(number))) for number in range(40)] == made
    store.close()


def test_d10_a_caller_whose_stack_is_nearly_used_up_is_not_told_of_damage(path):
    """Where so few calls are left that a frame cannot be decoded, that is an error of the caller's and no damage."""
    store = directory_store(path, chunk_size=4096)
    store.submit(putting(x=b"0")).result()
    store.submit(putting(big=os.urandom(9000))).result()
    outcomes = set()
    for left in range(2, 80):
        other = directory_store(path, chunk_size=4096)
        for act in (lambda each: each.view(WF, durable=False), lambda each: each.submit(putting(y=b"1")).result()):
            try:
                outcomes.add(with_little_stack(left, partial(act, other)).version >= 2)
            except DocumentDamaged:
                outcomes.add("damaged")
            except RecursionError:
                outcomes.add("no stack")
    assert outcomes == {True, "no stack"}


def test_d10_what_is_nested_too_deep_to_be_decoded_is_damage():
    """With stack enough, bytes that nest deeper than any of ours are no frame, and never a RecursionError."""

    def hostile(data):
        raise RecursionError

    with pytest.raises(Undecodable):
        bodies._decoded(hostile, b"")
    with pytest.raises(RecursionError):
        with_little_stack(40, lambda: bodies._decoded(hostile, b""))


def test_e01_a_new_file_that_cannot_be_looked_at_is_gone_at_once(path):
    """Its name and its lock do not stay for as long as somebody keeps the error: then it is no leftover of the dead."""
    store = directory_store(path)
    with system_calls() as calls:
        calls.fault = failing("stat", 1, errno.EACCES)
        with pytest.raises(StoreUnavailable) as kept:
            layout.new_file(store.layout)
    assert kept.value.__traceback__ is not None
    assert os.listdir(path / "temp") == []
