"""What a size needs of disk and memory, and which sizes fit: a run must not fill the machine it is on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

SHARE = 0.7
"""How much of what is free may be taken."""


class Need(NamedTuple):
    """What measuring one size takes, about: bytes on the disk, bytes of memory, new files."""

    disk: int
    memory: int
    files: int = 100


def free(path: str) -> Need:
    """What is free for the files below a path; memory counts as without limit where the system does not tell."""
    found = os.statvfs(path)
    # file systems that make inodes as they need them say that there are none
    files = found.f_favail if found.f_files else 1 << 62
    return Need(found.f_bavail * found.f_frsize, _free_memory(), files)


def fitting(needs: Iterable[tuple[int, Need]], there: Need) -> tuple[list[int], list[str]]:
    """The sizes that fit, all of them together, the smallest first; and of each other one what is said of it."""
    fit: list[int] = []
    left_out: list[str] = []
    taken = [0] * len(there)
    for size, need in sorted(needs):
        wanted = [before + more for before, more in zip(taken, need, strict=True)]
        short = [
            f"{asked:,} {what} of {available:,} that are free"
            for what, asked, available in zip(_WHAT, wanted, there, strict=True)
            if asked > available * SHARE
        ]
        if short:
            left_out.append(f"{size:,} was left out: it needs {', and '.join(short)} (at most {SHARE:.0%} are taken)")
        else:
            fit.append(size)
            taken = wanted
    return fit, left_out


_WHAT = ("bytes on the disk", "bytes of memory", "files")


def _free_memory() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 1 << 62
