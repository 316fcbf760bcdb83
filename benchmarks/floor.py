"""The raw floor: one positioned write and one sync of a frame, in a file whose blocks were written before.

Nothing that keeps a commit through a power cut can do less, so this is what the others are measured against. The frames
are as long as those that Waypost writes for the same work.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

from benchmarks import timing

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

    def open(self, path: str, frame_bytes: int, region: int = 0, length: int = 4 << 20) -> None:
        """Write the region with zeros, so that a frame needs no new blocks."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._first = self._at = region * length
        self._length = length
        self._frame = os.urandom(frame_bytes)
        os.pwrite(self._descriptor, bytes(length), self._first)
        os.fsync(self._descriptor)

    def update(self, count: int) -> dict[str, Any]:
        return timing.repeat(count, self._once)

    def rate(self, start: float, seconds: float) -> dict[str, Any]:
        """Frames from a moment of the monotonic clock on, for so long."""
        return timing.within(start, seconds, self._once)

    def read(self, count: int, length: int) -> dict[str, Any]:
        """Read that many bytes, from the page cache."""
        read = partial(os.pread, self._descriptor, length, self._first)
        return timing.repeat(count, partial(timing.lasting, read))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _once(self) -> int:
        return timing.lasting(self._append)

    def _append(self) -> None:
        if self._at + len(self._frame) > self._first + self._length:
            self._at = self._first
        os.pwrite(self._descriptor, self._frame, self._at)
        sync(self._descriptor)
        self._at += len(self._frame)
