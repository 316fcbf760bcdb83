"""What was erased from a workflow, as a version tells it: what is gone, and what says so.

    erased <key>            the part of that key was erased, or all whose keys begin so, where it ends with U+001F

A part that was erased is not there in the newest version, and `erased` says why. In older versions it is there still,
without its bytes. Either way asking for it raises ValueErased, so that no absence passes for a value.
"""

from __future__ import annotations

from msgspec import Struct

from waypost.errors import ValueErased
from waypost.store import DocumentId, Store, View, erasures

ERASED = erasures.ERASED
_SEPARATOR = "\x1f"


class ErasureRecord(Struct, array_like=True, frozen=True):
    """That something was erased: from all versions up to a time, when that was said, by which path and session."""

    until_us: int
    erased_us: int
    path: str
    session_id: str | None = None


def what_says_so(key: str) -> tuple[str, str]:
    """The keys of the parts that may say that a part was erased."""
    return ERASED + key, ERASED + key.rpartition(_SEPARATOR)[0] + _SEPARATOR


def is_gone(view: View, key: str) -> bool:
    """Whether a part was erased, be it that it is there without its bytes, or not there any more."""
    if view.size_of(key) is not None:
        return view.erased(key) is not None
    return any(view.size_of(each) is not None for each in what_says_so(key))


def covers(key: str, asked: str) -> bool:
    """Whether what was asked for is a part: its key, or the beginning of it that ends with a separator."""
    return asked == key or (key.endswith(_SEPARATOR) and asked.startswith(key))


def carry_out(store: Store, document: DocumentId) -> None:
    """See to it that what was decided is done, before anything leaves the store. Raises what erasing raises."""
    if next(store.view(document).keys(ERASED), None) is not None:
        store.erase(document)


def without(version: View, now: View, time_us: int) -> View:
    """A version without what is erased by now, also where that is still to be carried out; `time_us` is its time."""
    found = erasures.Erasures.of(now)
    return erasures.Masked(version, found, time_us) if found and time_us <= found.newest_us else version


def refuse(view: View, key: str) -> None:
    """Raise ValueErased for a part that was erased."""
    if is_gone(view, key):
        digest = view.erased(key)
        raise named(key, view.size_of(key), None if digest is None else digest.hex())


def read(view: View, key: str) -> bytes | None:
    """The bytes of a part. Raises ValueErased, which names it."""
    try:
        return view.get(key)
    except ValueErased as error:
        raise named(key, error.size_bytes, error.digest) from None


def named(key: str, size_bytes: int | None, digest: str | None) -> ValueErased:
    shown = key.replace(_SEPARATOR, " ")
    return ValueErased(f"{shown!r} was erased", size_bytes=size_bytes, digest=digest, part=key)
