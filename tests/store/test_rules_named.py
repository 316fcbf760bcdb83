"""Rules of the directory store that no other test names, each held against the system calls that it makes."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.crash.oracle import after_reboot
from tests.crash.recording import Cut, Recorder, Renamed, Synced, Wrote
from tests.crash.simulated import running_on
from tests.store.support import WF, change, directory_store, putting, system_calls
from waypost.codec import frame
from waypost.errors import StoreUnavailable, UnsupportedPlatform
from waypost.store import JointChange
from waypost.store.directory import context, files, layout, upkeep
from waypost.store.directory.files import Directory, open_path
from waypost.store.directory.frames import Frame
from waypost.store.directory.log import Log

SOURCE = Path(files.__file__).parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """What the store does below a directory, with nothing beside the work."""
    monkeypatch.setattr(upkeep.Upkeep, "ask", lambda self, document: None)
    system = Recorder(tmp_path)
    with running_on(system):
        yield system


def log_path(path: Path) -> Path:
    return path / "workflows" / "wf.state"


def frames_of(path: Path) -> list[Frame]:
    """The frames of the log of `WF`."""
    folder = open_path(str(path)).open_directory("workflows")
    assert folder is not None
    return list(_log_in(folder).hop(0, 0, log_path(path).stat().st_size))


def _log_in(folder: Directory) -> Log:
    file = folder.open("wf.state")
    assert file is not None
    log = Log(folder, "wf.state", file, limit=1 << 30, prewrite=False, keep=lambda *_: None)
    assert log.first(file.identity().size) is not None
    return log


# --- files, frames, calls ---


def test_d03_what_takes_a_name_is_synced_before_and_the_directory_after(recorder: Recorder, path: Path) -> None:
    """Each file that is renamed into place was synced with all that was written to it, and its new directory is synced
    before anything else is written.
    """
    store = directory_store(path)
    for number in range(3):
        store.submit(putting(a=b"%d" % number)).result()
    assert store.tidy(WF, "compact")
    store.submit(putting(a=b"after")).result()
    store.close()
    events = recorder.events
    renamed = [at for at, event in enumerate(events) if isinstance(event, Renamed)]
    assert len(renamed) >= 3, "FORMAT, .gitignore and the compacted log"
    for at in renamed:
        event = events[at]
        assert isinstance(event, Renamed)
        inode = recorder.tree.directories[event.to][event.new_name]
        changes = [n for n, each in enumerate(events[:at]) if isinstance(each, Wrote | Cut) and each.inode == inode]
        syncs = [each for each in events[:at] if isinstance(each, Synced) and each.inode == inode]
        assert changes and syncs and syncs[-1].since > changes[-1], event
        after = next(each for each in events[at + 1 :] if isinstance(each, Synced | Wrote))
        assert isinstance(after, Synced) and after.inode == event.to, event


def test_d08_every_bit_of_a_frame_is_under_its_checksum(path: Path) -> None:
    """A flipped bit anywhere in header or body makes it no frame; nor is a header before nothing but zeros one."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.close()
    found = frames_of(path)[1]
    data = log_path(path).read_bytes()[found.offset : found.end]
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        header = frame.read_header(flipped)
        assert header is None or not frame.fits(header, len(data)) or not frame.intact(header, flipped, 0, found.offset)
    assert zlib.crc32(b"") == 0 != frame.seed(0, 0), "the sum of nothing is not that of zeros"


def test_d16_appends_sync_data_and_new_names_sync_all(recorder: Recorder, path: Path) -> None:
    """A commit to a log that is there is an fdatasync; an fsync is of a directory or of a file that gets a name."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    before = len(recorder.events)
    store.submit(putting(a=b"2")).result()
    assert [each.full for each in recorder.events[before:] if isinstance(each, Synced)] == [False]
    store.close()


class _Mac:
    """Stands in for `fcntl` and `os` on macOS."""

    F_FULLFSYNC = 51

    def __init__(self, error: int | None) -> None:
        self.asked: list[str] = []
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fcntl(self, descriptor: int, command: int) -> None:
        self.asked.append("F_FULLFSYNC" if command == self.F_FULLFSYNC else str(command))
        if self._error is not None:
            raise OSError(self._error, os.strerror(self._error))

    def fsync(self, descriptor: int) -> None:
        self.asked.append("fsync")


def _on_a_mac(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that touches the disk, as it is loaded there."""
    monkeypatch.setattr("sys.platform", "darwin")
    spec = importlib.util.spec_from_file_location("waypost.store.directory.files_on_a_mac", files.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (None, ["F_FULLFSYNC"]),
        (errno.ENOTSUP, ["F_FULLFSYNC", "fsync"]),
        (errno.EINVAL, ["F_FULLFSYNC", "fsync"]),
    ],
)
def test_d16_on_a_mac_the_drive_is_flushed_where_it_can_be(
    monkeypatch: pytest.MonkeyPatch, error: int | None, asked: list[str]
) -> None:
    """There an fsync leaves data in the drive; F_FULLFSYNC does not, and where there is none fsync has to do."""
    module, mac = _on_a_mac(monkeypatch), _Mac(error)
    monkeypatch.setattr(module, "fcntl", mac)
    monkeypatch.setattr(module, "os", mac)
    for act in (module.File.sync, module.File.sync_all, module.Directory.sync):
        mac.asked.clear()
        act(SimpleNamespace(descriptor=3, name="x", path="x", tally=SimpleNamespace(syncs=0)))
        assert mac.asked == asked


def test_d16_on_a_mac_a_flush_that_fails_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where F_FULLFSYNC is unknown is anything else tried."""
    module, mac = _on_a_mac(monkeypatch), _Mac(errno.EIO)
    monkeypatch.setattr(module, "fcntl", mac)
    with pytest.raises(StoreUnavailable, match="EIO"):
        module.File.sync(SimpleNamespace(descriptor=3, name="x"))
    assert mac.asked == ["F_FULLFSYNC"]


def test_d17_a_commit_is_one_positioned_write_of_its_whole_frame(recorder: Recorder, path: Path) -> None:
    """Each frame begins where the one before it ends, in a write of its own that holds all of it."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    before = len(recorder.events)
    for number in range(5):
        store.submit(putting(a=b"x" * 3000 * number)).result()
    written = [event for event in recorder.events[before:] if isinstance(event, Wrote)]
    found = frames_of(path)[-5:]
    assert [event.offset for event in written] == [each.offset for each in found]
    assert all(len(event.data) >= each.header.length for event, each in zip(written, found, strict=True))
    store.close()


@pytest.mark.parametrize("forbidden", ["O_APPEND", "mmap", "fdopen", "lockf", "fallocate"])
def test_d17_c02_the_store_uses_no_call_that_would_undo_its_order(forbidden: str) -> None:
    """No append mode, no mapped or buffered writing, no POSIX record locks, no unwritten extents."""
    assert not [each.name for each in SOURCE.rglob("*.py") if forbidden in each.read_text()]


def test_d18_what_was_cut_off_is_never_served(path: Path) -> None:
    """A reader that has looked at torn bytes reads what stands there later, and a view keeps what it was made of."""
    store = directory_store(path)
    store.submit(putting(a=b"1", b=b"b" * 50_000)).result()
    reader = directory_store(path, read_only=True)
    old = reader.view(WF)
    end = frames_of(path)[-1].end
    with open(log_path(path), "r+b") as file:
        file.seek(end)
        file.write(frame.MAGIC + b"torn" * 100)
    assert reader.view(WF).get("a") == b"1"
    store.submit(putting(a=b"2")).result()
    assert reader.view(WF).get("a") == b"2"
    assert store.tidy(WF, "compact")
    assert (old.get("a"), old.get("b")) == (b"1", b"b" * 50_000)
    store.close()


def test_d21_a_commit_is_acknowledged_by_a_sync_that_began_after_its_write(path: Path) -> None:
    """What is written while a sync is under way waits for the next one."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    order: list[str] = []
    second: list[threading.Thread] = []

    def commit_beside() -> None:
        store.submit(putting(b=b"2")).result()
        order.append("second acknowledged")

    def during_the_first_sync(name: str, _count: int, args: tuple[Any, ...]) -> None:
        if name in ("pwrite", "fdatasync"):
            order.append(name)
        if name == "fdatasync" and not second:
            second.append(threading.Thread(target=commit_beside))
            second[0].start()
            while order.count("pwrite") < 2:
                os.sched_yield()

    with system_calls() as calls:
        calls.fault = during_the_first_sync
        store.submit(putting(a=b"3")).result()
        second[0].join()
    assert order == ["pwrite", "fdatasync", "pwrite", "fdatasync", "second acknowledged"]
    store.close()


def test_d22_what_was_known_to_be_synced_counts_for_that_handle_and_boot_alone(path: Path) -> None:
    """A handle that comes later, or after a reboot, takes nothing for synced but what a frame on disk records: the last
    frames are written again and synced, whatever the one before it knew.
    """
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.submit(putting(a=b"2")).result()
    last = frames_of(path)[-1]
    assert last.header.synced <= last.offset, "no frame can know that it was synced itself"
    for reader_of_another_boot in (False, True):
        with after_reboot() if reader_of_another_boot else system_calls():
            reader = directory_store(path, read_only=True)
            with system_calls() as calls:
                assert reader.view(WF).get("a") == b"2"
            assert calls.count("fdatasync") == 1
    second = directory_store(path)
    with system_calls() as calls:
        second.submit(putting(a=b"3")).result()
    assert calls.count("pwrite") == 2, "what no record covers, again, and the new frame"
    second.close()
    store.close()


# --- locks ---


def test_c02_closing_another_descriptor_of_a_log_frees_no_lock(path: Path) -> None:
    """A lock belongs to the descriptor that took it; with POSIX record locks any close would free it."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    folder = open_path(str(path)).open_directory("workflows")
    assert folder is not None
    log = _log_in(folder)
    assert log.lock() is not None
    os.close(os.open(log_path(path), os.O_RDWR))
    assert not _can_lock(log_path(path))
    log.file.unlock()
    assert _can_lock(log_path(path))
    store.close()


def test_c04_a_writer_of_a_log_that_was_replaced_goes_on_in_the_new_one(path: Path) -> None:
    """Under the lock the name is compared with the open file, so that no commit goes into a file without a name; and
    there are no lock files.
    """
    first, second = directory_store(path), directory_store(path)
    first.submit(putting(a=b"1")).result()
    second.submit(putting(b=b"2")).result()
    before = log_path(path).stat().st_ino
    assert second.tidy(WF, "compact")
    assert log_path(path).stat().st_ino != before
    first.submit(putting(c=b"3")).result()
    assert set(os.listdir(path / "workflows")) == {"wf.state"}
    for store in (first, second, directory_store(path, read_only=True)):
        view = store.view(WF)
        assert [view.get(key) for key in "abc"] == [b"1", b"2", b"3"]
        store.close()


def test_c08_nothing_is_appended_without_the_lock(path: Path) -> None:
    """Each write to a log is made while its lock is held."""
    store = directory_store(path)
    unlocked: list[int] = []
    writes: list[int] = []

    def look(name: str, count: int, args: tuple[Any, ...]) -> None:
        if name == "pwrite" and os.readlink(f"/proc/self/fd/{args[0]}") == str(log_path(path)):
            writes.append(count)
            if _can_lock(log_path(path)):
                unlocked.append(count)

    with system_calls() as calls:
        calls.fault = look
        for number in range(4):
            store.submit(putting(a=b"%d" % number)).result()
        joint = store.begin()
        joint.document(WF).put("b", b"joint")
        joint.document(WF._replace(id="other")).put("b", b"joint")
        assert store.commit(joint, JointChange("joint", "test"))
        store.tidy(WF, "snapshot")
        store.close()
    assert len(writes) >= 6
    assert not unlocked


def test_c15_what_others_wrote_is_checked_before_anything_stands_behind_it(path: Path) -> None:
    """Behind a torn frame of another process nothing is appended: it is cleared first, and the log stays sound."""
    first, second = directory_store(path), directory_store(path)
    first.submit(putting(a=b"1")).result()
    second.submit(putting(b=b"2")).result()
    end = frames_of(path)[-1].offset
    with open(log_path(path), "r+b") as file:  # as if the frame had come to the disk in part
        file.seek(end + frame.HEADER_BYTES)
        file.write(b"\xff" * 8)
    first.submit(putting(c=b"3")).result()
    view = first.view(WF)
    assert (view.get("a"), view.get("b"), view.get("c"), view.version) == (b"1", None, b"3", 2)
    assert frames_of(path)[-1].offset == end
    assert [each.name.endswith(".torn") for each in (path / "temp").iterdir()] == [True]
    first.close()


@pytest.mark.parametrize(("others_touch", "runs"), [("other", 1), ("read", 2)])
def test_c15_a_work_runs_again_only_when_others_touched_what_it_read(path: Path, others_touch: str, runs: int) -> None:
    """Commits of other processes to parts that it did not look at cost a work nothing."""
    first, second = directory_store(path), directory_store(path)
    first.submit(putting(read=b"0", other=b"0")).result()
    second.submit(putting(ready=b"yes")).result()
    assert first.view(WF).get("ready") == b"yes"
    seen: list[bytes | None] = []

    def work(tx: Any) -> None:
        seen.append(tx.get("read"))
        if len(seen) == 1:
            second.submit(putting(**{others_touch: b"1"})).result()
        tx.put("copy", tx.get("read"))

    first.submit(change(WF, work)).result()
    assert len(seen) == runs
    assert first.view(WF).get("copy") == seen[-1] == (b"1" if runs == 2 else b"0")
    first.close()
    second.close()


# --- names, environment, values ---


def test_n06_the_store_itself_may_be_reached_through_a_link_and_nothing_in_it(path: Path) -> None:
    """A link to the store is the store; a directory in it that is a link is refused."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.close()
    link = path.with_name("link")
    link.symlink_to(path)
    store = directory_store(link)
    assert store.view(WF).get("a") == b"1"
    store.submit(putting(a=b"2")).result()
    store.close()
    (path / "workflows").rename(path.with_name("elsewhere"))
    (path / "workflows").symlink_to(path.with_name("elsewhere"))
    reader = directory_store(link, read_only=True)
    with pytest.raises(StoreUnavailable, match="workflows"):
        reader.view(WF)


def test_e07_on_windows_a_store_is_refused_before_the_disk_is_touched(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening says that there it does not work, with what does, and makes nothing."""
    monkeypatch.setattr(layout, "os", SimpleNamespace(name="nt"))
    with system_calls() as calls, pytest.raises(UnsupportedPlatform, match="WSL"):
        directory_store(path)
    assert calls.trace == []
    assert not path.exists()


@pytest.mark.parametrize(("kind", "fills"), [("ext4", True), ("btrfs", False), ("apfs", False)])
def test_d20_a_log_is_filled_ahead_with_zeros_where_that_helps(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, fills: bool
) -> None:
    """Written zeros spare a journal commit with each sync, except where nothing is written in place."""
    monkeypatch.setattr(context, "mount_of", lambda path: (kind, "/"))
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    end, size = frames_of(path)[-1].end, log_path(path).stat().st_size
    assert (size > end) is fills
    assert not fills or size == 64 * 1024
    assert not log_path(path).read_bytes()[end:].strip(b"\0")
    store.close()


def test_v09_each_frame_is_decoded_by_itself(path: Path) -> None:
    """In any order, with nothing but its own bytes; and what is short stays plain unless it gets smaller."""
    store = directory_store(path, threshold=0)
    text = b"the same words again and again, " * 200
    for number in range(4):
        store.submit(putting(**{f"part{number}": text})).result()
    store.submit(putting(short=b"x")).result()
    store.close()
    found = [each for each in frames_of(path) if each.header.type == frame.FrameType.COMMIT]
    assert len(found) == 5
    assert all(each.header.stored < each.header.raw for each in found[:4])
    for each in reversed(found):
        content, _ = each.content()
        assert len(content) >= each.header.raw - 8
        assert each.header.stored <= each.header.raw


# --- helpers ---


def _can_lock(path: Path) -> bool:
    """Whether the lock of a file is free."""
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
