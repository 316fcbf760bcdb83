"""The directory in which events of other processes wait, and what is kept of those that could not be used.

What an event says is nobody's business here: a name, a file, and where it goes. `refused/` is bounded, so that an agent
all of whose events are refused fills no disk: beyond its bounds the oldest go, and a cleanup removes what is old.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from waypost import clock
from waypost.errors import StoreError, StoreNotFound, StoreUnavailable
from waypost.store.directory.files import Directory, open_path

FOLDER, LOCK, REFUSED = "spool", "lock", "refused"
EVENT, REASON = ".event", ".reason"
REFUSED_MOST, REFUSED_MOST_BYTES, REFUSED_MOST_DAYS = 1000, 64 << 20, 30
_NAME = re.compile(r"([0-9a-f]{8})-[0-9a-f]{16}-[0-9a-f]{16}\.event")
_REASON_MOST = 2000
_DAY_US = 86_400_000_000


class Refused(NamedTuple):
    """An event that was set aside: its file in `refused/`, why, and how long it is."""

    name: str
    reason: str
    size_bytes: int


def open_folder(path: str) -> Directory | None:
    """The spool at a path, itself no link; None where there is none."""
    try:
        return open_above(path).open_directory(path.rpartition("/")[2])
    except StoreNotFound:
        return None


def open_above(path: str) -> Directory:
    """The directory that holds the spool at a path. Raises StoreNotFound."""
    return open_path(path.rpartition("/")[0] or "/")


def events(folder: Directory) -> list[str]:
    """The names of the events that wait, those of one boot in the order of their arrival."""
    return sorted(filter(_NAME.fullmatch, folder.names()))


def boot_of(name: str) -> str:
    """What names the boot in which an event arrived."""
    return name[:8]


def arrival_of(name: str) -> tuple[str, int]:
    """What names the boot in which an event arrived, and when: in ns of that boot, of wall time where it is zeros."""
    return name[:8], int(name[9:25], 16)


def set_aside(folder: Directory, name: str, reason: str) -> None:
    """Give an event a name in `refused/`, durably, with a line that says why; then it may lose the one that it has."""
    refused = folder.open_directory(REFUSED)
    if refused is None:
        folder.make_directory(REFUSED)
        refused = folder.open_directory(REFUSED)
        assert refused is not None
    folder.sync()  # before anything is in it; whoever made it may have died before that
    note = name.removesuffix(EVENT) + REASON
    refused.remove(note)
    file = refused.open(note, write=True, create=True, exclusive=True)
    assert file is not None
    file.write_all(reason.encode()[:_REASON_MOST] + b"\n", 0)
    file.sync_all()
    refused.sync()  # nothing is there without its line, also where an event is so torn that it will be gone
    try:
        folder.link(name, refused, name)
    except StoreUnavailable:  # a directory, or a file system without second names
        folder.move(name, refused, name)
    refused.sync()  # a rename would be two names, of which a power cut may keep neither


def refused(folder: Directory) -> Iterator[Refused]:
    """What was set aside, the oldest first."""
    aside = folder.open_directory(REFUSED)
    for name, size_bytes, _ in _by_age(aside) if aside else []:
        yield Refused(f"{REFUSED}/{name}", _reason(aside, name) if aside else "", size_bytes)


def _reason(aside: Directory, name: str) -> str:
    try:
        file = aside.open(name.removesuffix(EVENT) + REASON)
        return "" if file is None else file.read(_REASON_MOST, 0).decode("utf-8", "replace").strip()
    except StoreError as error:
        return str(error)


def _by_age(aside: Directory) -> list[tuple[str, int, int]]:
    """Events of `refused/`: their names, sizes, and when they were written (µs), the oldest first."""
    found = [(name, each.st_size, each.st_mtime_ns // 1000) for name, each in aside.states(EVENT)]
    return sorted(found, key=lambda each: (each[2], each[0]))


def keep_bounds(folder: Directory, *, by_age: bool = False) -> int:
    """Remove the oldest refused events beyond the bounds, with `by_age` also old ones; how many bytes they had."""
    aside = folder.open_directory(REFUSED)
    if aside is None:
        return 0
    found = _by_age(aside)
    number, total, freed = len(found), sum(size for _, size, _ in found), 0
    oldest_us = clock.now_us() - REFUSED_MOST_DAYS * _DAY_US if by_age else 0
    for name, size, time_us in found:
        if number <= REFUSED_MOST and total <= REFUSED_MOST_BYTES and time_us >= oldest_us:
            break
        aside.remove(name.removesuffix(EVENT) + REASON)  # first: without its event nobody would look for it
        aside.remove(name)
        number, total, freed = number - 1, total - size, freed + size
    return freed
