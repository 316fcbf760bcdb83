"""A folder of our own beside a store, for as long as something is measured there.

Its maker holds a lock on it, which the kernel frees when that process dies. So what was left by one that was killed is
known by its name and its free lock, and the next one to measure there takes it away. A file in it keeps git away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress

from waypost.errors import StoreUnavailable

PREFIX = ".waypost-bench-"
ROOM = 64 << 20
"""Bytes that must be free: about twice what is written."""
_TRIES = 10


def place_for(location: str) -> str:
    """The directory whose file system is that of a store at a location, which need not exist: the nearest one above it,
    or, where the store is a mount of its own, the one for files that are being written, in the store.
    """
    location = os.path.abspath(location)
    above = os.path.dirname(location)
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    if os.path.isdir(location) and os.stat(location).st_dev != os.stat(above).st_dev:
        temporary = os.path.join(location, "temp")
        return temporary if os.path.isdir(temporary) else location
    return above


@contextmanager
def folder_in(place: str) -> Generator[str]:
    """Make the folder in a directory, and remove it with all that is in it at the end, whatever ends it.

    What processes that are dead have left there goes before. Raises StoreUnavailable where the directory cannot be
    written to, or has too little room.
    """
    sweep(place)
    free = _free(place)
    if free < ROOM:
        raise StoreUnavailable(
            f"{place} has {free:,} bytes free, and measuring takes up to {ROOM:,}: make room, or name another place "
            "with --dir",
            location=place,
        )
    path, lock = _make(place)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def sweep(place: str) -> list[str]:
    """Remove what dead processes have left in a directory; returns the names. Links are never followed."""
    swept: list[str] = []
    with suppress(OSError):  # a directory that cannot be read cannot be written to either, and that is told later
        for name in sorted(os.listdir(place)):
            path = os.path.join(place, name)
            if name.startswith(PREFIX) and (lock := _lock(path)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)
                swept.append(name)
    return swept


def _free(place: str) -> int:
    try:
        found = os.statvfs(place)
    except OSError as error:
        raise _unavailable(place, error) from error
    return found.f_bavail * found.f_frsize


def _make(place: str) -> tuple[str, int]:
    for _ in range(_TRIES):
        path = os.path.join(place, PREFIX + os.urandom(6).hex())
        try:
            os.mkdir(path, 0o700)
        except OSError as error:
            raise _unavailable(place, error) from error
        lock = _lock(path)
        if lock is None or not os.path.isdir(path):
            if lock is not None:
                os.close(lock)
            continue  # somebody took it for a leftover before it was locked
        with open(os.path.join(path, ".gitignore"), "x", encoding="ascii") as file:
            file.write("*\n")
        return path, lock
    raise StoreUnavailable(f"{place}: a folder for measuring cannot be locked", location=place)


def _lock(path: str) -> int | None:
    """The descriptor of a directory of ours that this process now holds the lock of; None where it cannot be."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
    except OSError:
        pass  # its maker is alive
    os.close(descriptor)
    return None


def _unavailable(place: str, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(
        f"cannot measure in {place}: {error.strerror}; name another place with --dir", location=place
    )
