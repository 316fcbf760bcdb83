"""Where the spool of a store is, and how much waits in it."""

from __future__ import annotations

import os
from contextlib import suppress

from waypost import _hook, config
from waypost.errors import StoreError
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


def refused(location: str) -> list[spooled.Refused]:
    """The events that could not be used, and why. Raises StoreUnavailable."""
    folder = folder_of(location)
    return [] if folder is None else list(spooled.refused(folder))


def folder_of(location: str) -> Directory | None:
    """The spool of a store, None where there is none."""
    found = place(location)
    return None if found is None else spooled.open_folder(found)
