"""What the system refuses, and what a failed sync means."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading

import pytest

from tests.store.support import WF, change, directory_store, failing, putting, system_calls
from waypost import clock
from waypost.errors import (
    DocumentTooLarge,
    LockTimeout,
    StoreLeased,
    StoreNotFound,
    StorePoisoned,
    StoreReadOnly,
    StoreUnavailable,
)
from waypost.store.directory import lease, log, upkeep


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def test_trap_05_d01_a_commit_is_acknowledged_after_its_write_and_one_sync(path):
    """A step of work on an open document is one positioned write and one fdatasync, in this order, and nothing more
    is synced.
    """
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    with system_calls() as calls:
        for number in range(20):
            store.submit(putting(a=b"%d" % number)).result()
    names = [
        name for name, _, _ in calls.trace if name in ("pwrite", "fdatasync", "fsync", "rename", "unlink", "ftruncate")
    ]
    assert names == ["pwrite", "fdatasync"] * 20
    store.close()


def test_d02_the_name_of_a_new_log_is_synced_before_it_is_acknowledged(path):
    """The first commit of a document syncs the file and then the directory that names it."""
    store = directory_store(path)
    with system_calls() as calls:
        store.submit(putting(a=b"1")).result()
        assert [name for name, _, _ in calls.trace if "sync" in name] == ["fdatasync", "fsync"]
        calls.trace.clear()
        store.submit(putting(a=b"2")).result()
        assert [name for name, _, _ in calls.trace if "sync" in name] == ["fdatasync"]
    store.close()


def test_c14_no_sync_happens_under_the_append_lock(path):
    """Between taking and giving back the lock of a log nothing is synced."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    events: list[str] = []
    real = log.File.try_lock, log.File.unlock, log.File.sync

    def spy(name, function):
        def call(self, *args, **kwargs):
            events.append(name)
            return function(self, *args, **kwargs)

        return call

    log.File.try_lock, log.File.unlock, log.File.sync = map(spy, ("lock", "unlock", "sync"), real)
    try:
        for number in range(5):
            store.submit(putting(a=b"x%d" % number)).result()
    finally:
        log.File.try_lock, log.File.unlock, log.File.sync = real
    assert events == ["lock", "unlock", "sync"] * 5
    store.close()


def test_d04_after_a_failed_sync_nothing_is_acknowledged(path):
    """A failed sync fails its commit as unknown and poisons the log: later writes fail, reading shows what was
    synced.
    """
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    with system_calls() as calls:
        calls.fault = failing("fdatasync", 1)
        with pytest.raises(StorePoisoned) as caught:
            store.submit(putting(a=b"2")).result()
        assert caught.value.details["outcome"] == "unknown"
        calls.fault = None
        before = calls.count("pwrite")
        with pytest.raises(StorePoisoned):
            store.submit(putting(a=b"3")).result()
        assert calls.count("pwrite") == before
    assert store.view(WF).get("a") == b"1"
    store.close()


def test_d04_a_new_writer_rewrites_what_no_sync_is_on_record_for(path):
    """After a failed sync a newly opened store writes the unsynced frames again before its own sync, and the outcome
    is settled.
    """
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    with system_calls() as calls:
        calls.fault = failing("fdatasync", 1)
        with pytest.raises(StorePoisoned):
            store.submit(change(WF, lambda tx: tx.put("a", b"2"), operation_id="op-2")).result()
    store.close()
    again = directory_store(path)
    with system_calls() as calls:
        again.submit(putting(b=b"3")).result()
        writes = [(name, size) for name, _, size in calls.trace if name == "pwrite"]
    assert len(writes) == 2, "the frames since the last recorded sync, then the new one"
    view = again.view(WF)
    assert view.operation("op-2") is not None and view.get("a") == b"2"
    again.close()


def test_d05_a_short_append_is_cut_back(path):
    """A write that the system takes only in part leaves nothing, and the next commit stands where it should."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    with system_calls() as calls:
        real, state = os.pwrite, {"cut": True}

        def short(name, _count, args):
            if name != "pwrite":
                return None
            if state["cut"]:
                state["cut"] = False
                return real(args[0], bytes(args[1])[:57], args[2])
            raise OSError(errno.ENOSPC, "No space left on device")

        calls.fault = short
        with pytest.raises(StoreUnavailable, match="ENOSPC"):
            store.submit(putting(a=b"2")).result()
        calls.fault = None
        assert [name for name, _, _ in calls.trace if name in ("ftruncate", "fdatasync")] == [
            "ftruncate",
            "fdatasync",
        ]
    assert store.view(WF).get("a") == b"1"
    assert store.submit(putting(a=b"3")).result().version == 2
    store.close()
    assert directory_store(path, read_only=True).verify().findings == []


def test_d05_when_the_cut_fails_too_the_log_is_poisoned(path):
    """If a short append cannot be undone nothing more is written, and reopening finds the earlier commits."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    with system_calls() as calls:
        real = os.pwrite

        def short(name, count, args):
            if name == "ftruncate":
                raise OSError(errno.EIO, "Input/output error")
            if name == "pwrite":
                if count == 1:
                    return real(args[0], bytes(args[1])[:57], args[2])
                raise OSError(errno.ENOSPC, "No space left on device")
            return None

        calls.fault = short
        with pytest.raises(StoreUnavailable):
            store.submit(putting(a=b"2")).result()
    with pytest.raises(StorePoisoned):
        store.submit(putting(a=b"3")).result()
    store.close()
    again = directory_store(path)
    assert again.view(WF).get("a") == b"1"
    assert again.submit(putting(a=b"4")).result().version == 2
    again.close()


ERRORS = ["ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE", "ENFILE", "EACCES", "ENOMEM", "ENOLCK", "ESTALE"]


@pytest.mark.parametrize(
    "name", ["open", "pwrite", "pread", "fstat", "lseek", "stat", "fdatasync", "fsync", "mkdir", "rename", "link"]
)
def test_e01_every_refused_call_gives_a_documented_error_and_no_damage(tmp_path, name):
    """Each errno at each call of making, opening, writing and closing: a StoreError, and everything acknowledged
    stays.
    """
    injected = 0
    for number, kind in enumerate(ERRORS):
        for onwards in (False, True):
            at = 1
            while True:
                path = tmp_path / f"{number}-{onwards}-{at}"
                acknowledged, hit = _work_through(path, failing(name, at, getattr(errno, kind), onwards=onwards))
                store = directory_store(path)
                found = store.view(WF).get("n")
                assert int(found or -1) >= acknowledged, f"{kind} at call {at} of {name}"
                store.submit(putting(n=b"99")).result()
                store.close()
                assert directory_store(path, read_only=True).verify().sound
                injected += hit
                if not hit or at > 12:
                    break
                at += 1
    assert injected >= len(ERRORS)


def _work_through(path, fault):
    """Make a store, commit thrice, close; (the last acknowledged number, whether the fault was met)."""
    acknowledged, met = -1, False

    def watched(*args):
        nonlocal met
        try:
            return fault(*args)
        except OSError:
            met = True
            raise

    store = None
    with system_calls() as calls:
        calls.fault = watched
        try:
            store = directory_store(path)
            for number in range(3):
                store.submit(putting(n=b"%d" % number)).result()
                acknowledged = number
        except (StoreUnavailable, StorePoisoned, StoreNotFound):
            pass
        calls.fault = None
        if store is not None:
            store.close()
    return acknowledged, met


def test_d15_reading_changes_nothing_on_disk(path):
    """A store opened for reading makes no file, takes no lease, repairs nothing, and refuses writes."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.close()
    with (path / "workflows" / "wf.state").open("ab") as file:
        file.write(b"WPF\x01torn")
    before = {entry: (entry.read_bytes(), entry.stat().st_mtime_ns) for entry in path.rglob("*") if entry.is_file()}
    reader = directory_store(path, read_only=True)
    with system_calls() as calls:
        assert reader.view(WF).get("a") == b"1"
        reader.verify()
        assert not {name for name, _, _ in calls.trace} & {
            "pwrite",
            "mkdir",
            "rename",
            "unlink",
            "ftruncate",
            "link",
        }
    with pytest.raises(StoreReadOnly):
        reader.submit(putting(a=b"2")).result()
    reader.close()
    assert before == {
        entry: (entry.read_bytes(), entry.stat().st_mtime_ns) for entry in path.rglob("*") if entry.is_file()
    }


def test_a_missing_store_is_not_made_by_reading(path):
    """Opening what does not exist for reading is StoreNotFound and makes nothing."""
    with pytest.raises(StoreNotFound):
        directory_store(path, read_only=True)
    assert not path.exists()


def test_c03_another_kernel_is_refused_until_it_is_taken_over_by_hand(path, monkeypatch):
    """A lease of another host or boot refuses writers, not readers; by hand, or after a reboot of the same host, it
    is taken over.
    """
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store._lease.abandon()  # as if this machine had crashed
    monkeypatch.setattr(clock, "boot_id", lambda: "another-boot")
    monkeypatch.setattr(clock, "host", lambda: "elsewhere/1")
    with pytest.raises(StoreLeased, match="take-lease"):
        directory_store(path)
    assert directory_store(path, read_only=True).view(WF).get("a") == b"1"
    monkeypatch.undo()
    monkeypatch.setattr(clock, "boot_id", lambda: "after-a-reboot")
    rebooted = directory_store(path)
    rebooted.close()
    monkeypatch.undo()
    directory_store(path).close()


def test_c03_a_lease_can_be_taken_by_force(path, monkeypatch):
    """`take(by_force=True)` replaces another kernel's lease."""
    store = directory_store(path)
    store._lease.abandon()
    monkeypatch.setattr(clock, "boot_id", lambda: "another-boot")
    monkeypatch.setattr(clock, "host", lambda: "elsewhere/1")
    taken = lease.take(store.layout, by_force=True)
    assert lease.read(store.layout).host == "elsewhere/1"
    taken.release()


def test_c05_waiting_for_a_lock_ends_and_names_the_holder(path, monkeypatch):
    """A lock that is not given back gives LockTimeout with the process that holds it, and nothing is written."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    monkeypatch.setattr(log, "LOCK_TIMEOUT_S", 0.2)
    with (path / "workflows" / "wf.state").open("rb") as other:
        import fcntl

        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LockTimeout, match=str(os.getpid())):
            store.submit(putting(a=b"2")).result()
    assert store.submit(putting(a=b"3")).result().version == 2
    store.close()


def test_a_document_that_outgrows_its_bound_is_refused(path):
    """`performance.max_file_size`: a commit that cannot fit is DocumentTooLarge, and the document stays usable."""
    store = directory_store(path, max_file_size=1, enabled=False)
    store.submit(putting(a=b"1")).result()
    with pytest.raises(DocumentTooLarge):
        store.submit(putting(b=os.urandom(1 << 20))).result()
    assert store.submit(putting(a=b"2")).result().version == 2
    store.close()


def test_c10_an_interrupt_between_write_and_sync_leaves_the_store_usable(path):
    """A KeyboardInterrupt at any call of a commit loses nothing acknowledged, and the next commit works."""
    store = directory_store(path)
    acknowledged = store.submit(putting(n=b"0")).result().version
    for name in ("flock-free", "pwrite", "fdatasync", "pread", "stat", "fstat", "lseek"):
        with system_calls() as calls:

            def interrupt(called, _count, _args, name=name):
                if called == name:
                    calls.fault = None
                    raise KeyboardInterrupt

            calls.fault = interrupt
            try:
                acknowledged = store.submit(putting(n=b"a-" + name.encode())).result().version
            except KeyboardInterrupt:
                pass
        version = store.submit(putting(n=b"b-" + name.encode())).result().version
        assert version > acknowledged
        acknowledged = version
    store.close()
    assert directory_store(path, read_only=True).verify().findings == []


def test_c01_a_child_of_a_fork_opens_everything_anew(path):
    """After a fork both processes go on writing, neither holds the other's lock, and no update is lost."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    stop = threading.Event()

    def busy() -> None:
        number = 0
        while not stop.is_set():
            store.submit(putting(busy=b"%d" % number)).result()
            number += 1

    thread = threading.Thread(target=busy)
    thread.start()
    children = []
    for child in range(4):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for number in range(10):
                    store.submit(putting(**{f"child{child}": b"%d" % number})).result()
                store.close()
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 4
    stop.set()
    thread.join()
    view = store.view(WF)
    assert [view.get(f"child{child}") for child in range(4)] == [b"9"] * 4
    store.close()
    assert directory_store(path, read_only=True).verify().findings == []


FILL_UP = """
import os, resource, sys
from tests.store.support import *
store = directory_store(sys.argv[1], enabled=False)
store.submit(putting(n=b"0")).result()
if sys.argv[2] != "disk":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
number = 0
try:
    while True:
        store.submit(putting(n=b"%d" % (number + 1), value=os.urandom(2000))).result()
        number += 1
except Exception as error:
    os.write(1, f"{number} {type(error).__name__} {error}".encode())
assert store.view(WF).get("n") == b"%d" % number
store.close()
"""


def fill_up(path, how):
    command = [sys.executable, "-c", FILL_UP, str(path), how]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])}
    number, kind, message = subprocess.check_output(command, env=environment, text=True).split(" ", 2)
    return int(number), kind, message


@pytest.mark.parametrize("limit", [66_000, 100_000, 131_072, 150_001])
def test_e03_a_file_that_may_not_grow_gives_an_error_and_no_damage(path, limit):
    """Under a file size limit a write comes short and then fails: the error names it, and all before it is there."""
    number, kind, message = fill_up(path, str(limit))
    assert (kind, "EFBIG" in message, "wf.state" in message) == ("StoreUnavailable", True, True)
    assert number >= 10
    store = directory_store(path)
    assert store.view(WF).get("n") == b"%d" % number
    assert store.submit(putting(n=b"on")).result().version == number + 2
    store.close()
    assert directory_store(path, read_only=True).verify().findings == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_e01_a_full_disk_and_a_read_only_mount_lose_nothing(tmp_path):
    """On a real file system that is full, and then mounted read-only: documented errors, and reading goes on."""
    mount = tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(mount)], check=True)
    try:
        number, kind, message = fill_up(mount / "store", "disk")
        assert (kind, "ENOSPC" in message) == ("StoreUnavailable", True)
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        with pytest.raises(StoreUnavailable, match="EROFS"):
            directory_store(mount / "store").submit(putting(n=b"x")).result()
        reader = directory_store(mount / "store", read_only=True)
        assert reader.view(WF).get("n") == b"%d" % number
        assert reader.verify().sound
        reader.close()
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming somebody else needs root")
def test_x10_without_permission_nothing_is_read_or_made(path):
    """Another user gets an error that names the directory, and finds nothing to read."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.close()
    for parent in [path, *path.parents][1:4]:
        parent.chmod(0o755)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            for read_only in (True, False):
                with pytest.raises(StoreUnavailable, match="EACCES"):
                    directory_store(path, read_only=read_only)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_e08_a_reader_on_media_that_cannot_be_synced_reads_on(path):
    """Where a sync is refused because nothing can be written, what is there is read all the same; EIO is told."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store._lease.abandon()
    for error, works in ((errno.EROFS, True), (errno.EIO, False)):
        reader = directory_store(path, read_only=True)
        with system_calls() as calls:
            calls.fault = failing("fdatasync", 1, error)
            if works:
                assert reader.view(WF).get("a") == b"1"
            else:
                with pytest.raises(StorePoisoned):
                    reader.view(WF)


def test_d23_a_reader_syncs_what_no_sync_is_on_record_for(path):
    """A view that is to be passed on is covered by a sync; one for looking at is not, and what is sealed needs none."""
    store = directory_store(path, enable_wal=False, sync_frequency=3_600_000)
    store.submit(putting(a=b"1")).result()
    for durable, syncs in ((False, 0), (True, 1)):
        reader = directory_store(path, read_only=True)
        with system_calls() as calls:
            assert reader.view(WF, durable=durable).get("a") == b"1"
            assert calls.count("fdatasync") == syncs
    store.close()


def test_a_bound_is_met_by_compacting_on_the_spot(path, monkeypatch):
    """When upkeep does not come in time, a commit that does not fit compacts first, and is refused only after that."""
    monkeypatch.setattr(upkeep.Upkeep, "ask", lambda self, document: None)
    store = directory_store(path, max_file_size=1, enabled=False)
    for number in range(300):
        store.submit(change(WF, lambda tx, n=number: tx.put(f"k{n % 5}", os.urandom(8000)))).result()
    assert store.view(WF).version == 300
    store.close()
    assert directory_store(path, read_only=True).verify().findings == []
