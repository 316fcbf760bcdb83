"""Where the spool of a store is, and how much waits in it."""

from __future__ import annotations

import os
from contextlib import suppress

from waypost import _hook, clock, config
from waypost.errors import StoreError
from waypost.hooks import script
from waypost.store.directory import spooled
from waypost.store.directory.files import Directory

VARIABLE = "WAYPOST_SPOOL"


def place(location: str) -> str | None:
    """The path of a store's spool, be it there or not: in the directory of the store; for one that has none what
    `$WAYPOST_SPOOL` says, if it says an absolute path. A store in memory has none: it would forget what it took.
    """
    if config.is_directory(location):
        return os.path.join(os.path.abspath(location), spooled.FOLDER)
    given = os.environ.get(VARIABLE, "")
    return os.path.normpath(given) if os.path.isabs(given) and location != "memory:" else None


def script_path() -> str:
    """The script that hands events over; see `waypost._hook`."""
    return os.path.abspath(_hook.__file__)


def waiting(location: str) -> int:
    """How many events wait to be folded into a store."""
    found = place(location)
    return 0 if found is None else waiting_in(found)


def waiting_in(path: str) -> int:
    """How many events wait in a spool. Never raises: what cannot be seen does not wait."""
    with suppress(StoreError):
        folder = spooled.open_folder(path)
        return 0 if folder is None else len(spooled.events(folder))
    return 0


def oldest_s(path: str) -> float:
    """For how many seconds the event has waited in a spool that came first, 0 without any; for one of an earlier boot
    at least so many. Never raises.
    """
    with suppress(StoreError):
        folder = spooled.open_folder(path)
        names = [] if folder is None else spooled.events(folder)
        return max((_waited_ns(name) for name in names), default=0) / 1_000_000_000
    return 0


def _waited_ns(name: str) -> int:
    boot, arrived_ns = spooled.arrival_of(name)
    if boot == script.boot_in_names(""):  # where no boot is known the script tells wall time
        return max(0, clock.now_us() * 1000 - arrived_ns)
    # of an earlier boot: at least for as long as this one
    began_ns = arrived_ns if boot == script.boot_in_names(clock.boot_id()) else 0
    return max(0, clock.monotonic_ns() - began_ns)


def refused(location: str) -> list[spooled.Refused]:
    """The events that could not be used, and why. Raises StoreUnavailable."""
    folder = folder_of(location)
    return [] if folder is None else list(spooled.refused(folder))


def folder_of(location: str) -> Directory | None:
    """The spool of a store, None where there is none."""
    found = place(location)
    return None if found is None else spooled.open_folder(found)
