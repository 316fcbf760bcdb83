"""What is synced when, where no loss of power can tell: the order that docs/durability.md promises.

`make mutants` removes syncs one by one; those that no other test guards are guarded here.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.store.needed import calm, closed_soundly, log_file, path
from tests.store.support import WF, directory_store, putting, system_calls
from waypost.store.directory import document

__all__ = ["calm", "path"]


def test_t21_a_torn_tail_is_cleared_and_synced_before_a_frame_stands_in_its_place(path: Path) -> None:
    """What stands there is moved aside, durably, cleared and synced; then comes the frame, and its sync."""
    store = directory_store(path)
    store.submit(putting(a=b"1")).result()
    store.close()
    with log_file(path).open("ab") as log:
        log.write(b"torn" * 99)
    store = directory_store(path)
    store.view(WF)
    with system_calls() as calls:
        store.submit(putting(b=b"2")).result()
    changes = [name for name, _, _ in calls.trace if name in ("pwrite", "fsync", "fdatasync")]
    aside, cleared = ["pwrite", "fsync", "fsync"], ["pwrite", "fdatasync"]
    assert changes[:5] == aside + cleared
    assert changes[-3:] == ["pwrite", "fdatasync", "fsync"], "the frame, its sync, and that of its name"
    closed_soundly(path, store, a=b"1", b=b"2")


def test_t21_what_a_snapshot_covers_is_synced_before_it_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then a reader need not look behind it."""
    monkeypatch.setattr(document, "SNAPSHOT_FRAMES", 1)
    store = directory_store(path, enable_wal=False)
    for number in range(4):
        store.submit(putting(a=b"%d" % number)).result()
    with system_calls() as calls:
        assert store.tidy(WF, "snapshot")
    assert [name for name, _, _ in calls.trace if name in ("pwrite", "fdatasync")] == ["fdatasync", "pwrite"]
    store.close()


def test_t21_a_compacted_log_is_synced_before_and_under_the_lock_and_its_name_behind_it(path: Path) -> None:
    """Most of it while others may go on; what came meanwhile with the lock held, which is given back at the end."""
    store = directory_store(path)
    for number in range(4):
        store.submit(putting(a=b"%d" % number)).result()
    told: list[tuple[str, bool]] = []

    def fault(name: str, _count: int, _args: object) -> None:
        if name in ("fsync", "rename"):
            with (path / "workflows" / "wf.state").open("rb") as log:
                try:
                    fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    told.append((name, False))
                except BlockingIOError:
                    told.append((name, True))

    with system_calls() as calls:
        calls.fault = fault
        assert store.tidy(WF, "compact")
    assert told == [("fsync", False), ("fsync", True), ("rename", True), ("fsync", True)]
    store.close()


def test_d19_what_was_acknowledged_before_its_sync_is_synced_every_so_often(path: Path) -> None:
    """Each turn syncs the logs that were written to."""
    store = directory_store(path, enable_wal=False)
    with system_calls() as calls:
        store.submit(putting(a=b"1")).result()
        assert calls.count("fdatasync") == 0
        store._sync_all()
        assert calls.count("fdatasync") == 1
    store.close()


def test_d16_macos_syncs_through_the_drive_and_falls_back_where_that_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There `fsync` leaves data in the drive's cache."""
    monkeypatch.setattr(sys, "platform", "darwin")
    spec = importlib.util.find_spec("waypost.store.directory.files")
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    asked: list[object] = []

    class Fcntl:
        F_FULLFSYNC = 51
        error: int | None = None

        def fcntl(self, descriptor: int, command: int) -> None:
            asked.append(command)
            if self.error is not None:
                raise OSError(self.error, "refused")

    class Os:
        def fsync(self, descriptor: int) -> None:
            asked.append("fsync")

    module.fcntl, module.os = Fcntl(), Os()
    module._sync_data(3)
    assert asked == [51]
    module.fcntl.error = errno.ENOTSUP
    module._sync_full(3)
    assert asked == [51, 51, "fsync"]
    module.fcntl.error = errno.EIO
    with pytest.raises(OSError, match="refused"):
        module._sync_data(3)
