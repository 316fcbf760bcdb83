"""The types that the application made storable: which tag stands for which type.

Empty until the application fills it, by short tags. Bytes name tags, never code, so what is not in here is not called.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from waypost.errors import InvalidConfiguration

T = TypeVar("T")

PATH_TYPE = type(Path())
"""The class that paths of this platform have."""

CLOSED_SET: frozenset[type] = frozenset(
    {type(None), bool, int, float, str, bytes, list, dict, tuple, set, datetime, date, UUID, Decimal, PATH_TYPE}
)
"""The types that are stored without being registered; numpy's numbers are, too."""

_TAG = re.compile(r"[a-z][a-z0-9_.-]{0,63}")

# numpy is never imported: its numbers are known by module and name
_NUMPY_NUMBERS = re.compile(r"bool_?|u?int(8|16|32|64|c|p|_)?|float(16|32|64)|u?(byte|short|long|longlong)")


class Registered(NamedTuple):
    """A type, its tag, and the way to a plain value and back."""

    tag: str
    type: type
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


_lock = threading.Lock()
_by_tag: dict[str, Registered] = {}
_by_type: dict[type, Registered] = {}


def register_type(tag: str, type: type[T], encode: Callable[[T], Any], decode: Callable[[Any], T]) -> None:
    """Make objects of exactly this type storable, under a tag that the stored bytes carry.

    `encode(obj)` gives a value of the closed set, which may hold objects of other registered types;
    `decode(value)` gives the object back. Both may run more than once for one call. A tag is 1 to 64 of
    `a-z0-9_.-` and begins with a letter. The same registration again does nothing.

    Raises InvalidConfiguration when the tag is malformed, when tag or type stand for something else already,
    and when the type is stored as it is anyway.
    """
    entry = Registered(tag, type, encode, decode)
    _check(entry)
    with _lock:
        for known in (_by_tag.get(tag), _by_type.get(type)):
            if known is not None and known != entry:
                raise InvalidConfiguration(
                    f"{type_name(entry.type)} cannot be registered as {tag!r}: "
                    f"{type_name(known.type)} is registered as {known.tag!r}, and only once"
                )
        _by_tag[tag] = _by_type[type] = entry


def unregister_type(tag: str) -> None:
    """Forget a registered type: its objects are refused from now on, and stored ones load as `Unregistered`.

    Raises InvalidConfiguration when the tag is not registered.
    """
    with _lock:
        entry = _by_tag.pop(tag, None)
        if entry is None:
            raise InvalidConfiguration(f"no type is registered as {tag!r:.80}")
        del _by_type[entry.type]


def by_tag(tag: str) -> Registered | None:
    """What is registered under a tag."""
    return _by_tag.get(tag)


def by_type(kind: type) -> Registered | None:
    """What is registered for exactly this type."""
    return _by_type.get(kind)


def is_tag(tag: object) -> bool:
    """Whether a tag is well-formed."""
    return isinstance(tag, str) and _TAG.fullmatch(tag) is not None


def is_numpy_number(kind: type) -> bool:
    """Whether objects of the type are numpy scalars that `.item()` turns into an equal plain number."""
    return kind.__module__ == "numpy" and _NUMPY_NUMBERS.fullmatch(kind.__name__) is not None


def type_name(kind: type) -> str:
    """A type as people call it: with its module, unless it is built in."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _check(entry: Registered) -> None:
    if not is_tag(entry.tag):
        raise InvalidConfiguration(f"the tag {entry.tag!r:.80} does not match {_TAG.pattern}")
    if not isinstance(entry.type, type):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers may not be typed)
        raise InvalidConfiguration(f"what is to be registered as {entry.tag!r} is not a class")
    if not (callable(entry.encode) and callable(entry.decode)):
        raise InvalidConfiguration(f"encode and decode of {entry.tag!r} have to be functions")
    if entry.type in CLOSED_SET or is_numpy_number(entry.type):
        raise InvalidConfiguration(f"{type_name(entry.type)} is stored as it is and cannot be registered")
