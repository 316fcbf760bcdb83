"""Syncs as the process makes them, whoever asked for them.

What an operation reports counts a sync that several commits share once for each, and leaves out what the store does
later; here each call counts once, also of threads.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

_made: list[None] = []  # appending is one step for all threads
_counting: list[bool] = []


def begin() -> None:
    """Stand in the place of `os.fsync` and `os.fdatasync`, for as long as the process lasts."""
    # on macOS a sync is a call of fcntl, and not told from others
    if not _counting and sys.platform != "darwin":
        os.fsync, os.fdatasync = _counted(os.fsync), _counted(os.fdatasync)
        _counting.append(True)


def so_far() -> int:
    """How many there were; 0 where nobody counts."""
    return len(_made)


def since(before: int) -> int | None:
    """How many there were since a moment that `so_far` told; None where nobody counts."""
    return len(_made) - before if _counting else None


def _counted(call: Callable[[int], None]) -> Callable[[int], None]:
    def counted(descriptor: int) -> None:
        _made.append(None)
        call(descriptor)

    return counted
