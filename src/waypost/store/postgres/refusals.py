"""What the server refuses, or says no more, as the errors of Waypost: by SQLSTATE, never by a message's words.

Every message of the driver goes through `Location.without_secrets`.
"""

from __future__ import annotations

import psycopg

from waypost.errors import (
    DocumentDamaged,
    DocumentTooLarge,
    InvalidInput,
    LockTimeout,
    StoreError,
    StoreNotFound,
    StoreReadOnly,
    StoreUnavailable,
    WaypostError,
)
from waypost.store.postgres.locations import Location
from waypost.store.values import ContentLost

TOO_LARGE, CONTENT_LOST = "WP001", "WP002"
AGAIN = ("40001", "40P01")
"""A transaction that was rolled back for the sake of another one: it may be run again."""

_KINDS: dict[str, tuple[type[WaypostError], str]] = {
    TOO_LARGE: (DocumentTooLarge, "the document would be larger than performance.max_file_size allows"),
    CONTENT_LOST: (ContentLost, "a value that was taken in ahead was given up"),
    "25006": (StoreReadOnly, "the server takes no writes now"),
    "28": (StoreError, "the server does not let this user in"),
    "3D000": (StoreNotFound, "there is no such database"),
    "3F000": (StoreNotFound, "there is no such schema"),
    "42P01": (StoreNotFound, "tables of Waypost are not there"),
    "42501": (StoreError, "this user has no right to do that"),
    "22021": (InvalidInput, "a text cannot be stored as it is"),
    "22P05": (InvalidInput, "a text cannot be stored as it is"),
    "54": (InvalidInput, "what was given is too long for an index of the server"),
    "55P03": (LockTimeout, "another writer held the document for too long"),
    "XX001": (DocumentDamaged, "the server found damaged data"),
    "XX002": (DocumentDamaged, "the server found a damaged index"),
}


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, so that the server may have done what it was asked for or not."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state.startswith("08") or state in ("57P01", "57P02", "57P03", "57P05", "25P03", "40003")


def refusal(error: Exception, location: Location) -> WaypostError:
    """The error of Waypost for one of the driver."""
    if isinstance(error, psycopg.Error):
        # it holds the password, and whoever reports the chain of errors might show it
        vars(error)["_pgconn"] = None
    said = location.without_secrets(str(error)).strip().splitlines()
    state = getattr(error, "sqlstate", None) or ""
    kind, meaning = _KINDS.get(state) or _KINDS.get(state[:2]) or (StoreUnavailable, "")
    if isinstance(error, psycopg.DataError) and not state:
        kind, meaning = InvalidInput, "a text cannot be stored as it is"  # a NUL, which the driver finds
    text = ": ".join(part for part in (location.shown, meaning, said[0] if said else "") if part)
    return kind(text, location=location.shown, sqlstate=state)
