"""The raw floor: one positioned write and one sync of a frame, in a file whose blocks were written before.

Nothing that keeps a commit through a power cut can do less, so this is what the others are measured against. The frames
are as long as those that Waypost writes for the same work. What else is done here is there to tell a disk by: syncs of
a file that grows, writes without a sync, and syncs of little and of much.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

from waypost.bench import timing

if sys.platform == "darwin":
    import fcntl

    def sync(fd: int) -> None:
        """Sync a file in the one way that reaches the medium there."""
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)

    sync_full = sync
else:
    sync, sync_full = os.fdatasync, os.fsync


class Engine:
    """A region of a file, written over and over from its beginning to its end."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._first = self._at = self._length = 0
        self._frame = b""
        self._is_growing = False

    def open(
        self, path: str, frame_bytes: int, region: int = 0, length: int = 4 << 20, *, is_growing: bool = False
    ) -> None:
        """Write the region with zeros, so that a frame needs no new blocks; a growing file is empty instead.

        Lengths are in bytes. A file that is open already is left for the new one.
        """
        self.close()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._first = self._at = region * length
        self._length = length
        self._frame = os.urandom(frame_bytes)
        self._is_growing = is_growing
        if not is_growing:
            os.pwrite(self._descriptor, bytes(length), self._first)
        os.fsync(self._descriptor)

    def update(self, count: int) -> dict[str, Any]:
        return timing.repeat(count, self._once)

    def rate(self, start: float, seconds: float) -> dict[str, Any]:
        """Frames from a moment of the monotonic clock on, for so long."""
        found = timing.within(start, seconds, self._once)
        return {**found, "syncs": len(found["latencies_ns"])}

    def read(self, count: int, length: int) -> dict[str, Any]:
        """Read that many bytes, from the page cache."""
        read = partial(os.pread, self._descriptor, length, self._first)
        return timing.repeat(count, partial(timing.lasting, read))

    def write(self, count: int) -> dict[str, Any]:
        """Frames that are written and not synced."""
        return timing.repeat(count, partial(timing.lasting, self._write))

    def sync_after(self, count: int, length: int) -> dict[str, Any]:
        """Syncs alone, each after so many bytes were written: no frame, bytes that nothing can make smaller."""
        latencies: list[int] = []
        for _ in range(count):
            os.pwrite(self._descriptor, os.urandom(length), self._first)
            latencies.append(timing.lasting(partial(sync, self._descriptor)))
        return {"latencies_ns": latencies}

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _once(self) -> int:
        return timing.lasting(self._append)

    def _append(self) -> None:
        self._write()
        sync(self._descriptor)

    def _write(self) -> None:
        if self._at + len(self._frame) > self._first + self._length and not self._is_growing:
            self._at = self._first
        os.pwrite(self._descriptor, self._frame, self._at)
        self._at += len(self._frame)
