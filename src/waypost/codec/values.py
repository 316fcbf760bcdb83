"""User values to bytes and back: a closed set of types, each of which comes back exactly or is refused.

Bytes are MessagePack. Nothing, booleans, integers of 64 bits, floats, text, bytes, lists and dicts with text keys are
what they are there, and a moment in UTC is its standard timestamp (extension -1). All else is an extension of ours,
whose content is MessagePack again unless the table says otherwise:

    1  integer beyond 64 bits     two's complement, big-endian, as raw bytes
    2  dict with other keys       [key, value, key, value, ...] in the order of the dict
    3  tuple                      [item, ...]
    4  set                        [element, ...] sorted by their bytes, so that equal sets have equal bytes
    5  datetime                   [ISO text, fold, zone]; zone: nil, offset in us, [offset, name], or IANA key
    6  date                       ISO text
    7  UUID                       its 16 raw bytes
    8  Decimal                    its text, with the sign of zero and the payload of NaN
    9  path                       the raw bytes that the file system knows it by
    10 registered type            [tag, value]

Invariants:

* An extension is no dict with a special key, so no dict of a user can be taken for one.
* Types count exactly. A subclass of a plain type would come back as the plain type and is refused unless it is
  registered. Only numpy's numbers come back as the plain numbers that they are.
* Containers may lie `MAX_DEPTH` deep, extensions included, at write and at read; that is checked before anything can
  run out of stack.
* Of what is built into a dict or set no more than `MOST_OF_ONE_HASH` have one hash, so that nobody can make bytes that
  take hours to read.
* Bytes name tags, never code. A tag that nobody registered loads as `Unregistered`; an unknown extension is refused.
* Only a WaypostError leaves these functions, or MemoryError. No message repeats a value: it may be a secret.
"""

from __future__ import annotations

import math
import os
from base64 import b64encode
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from waypost.codec.decoding import MAX_DEPTH, Unregistered, decode
from waypost.codec.encoding import encode
from waypost.codec.registry import PATH_TYPE, by_type, register_type, unregister_type

__all__ = [
    "MAX_DEPTH",
    "MOST_BYTES",
    "Unregistered",
    "decode",
    "encode",
    "find_bytes",
    "is_registered",
    "plain",
    "register_type",
    "start_of_bytes",
    "unregister_type",
]

MOST_BYTES = (1 << 32) - 1
"""How long a value of type `bytes` may be."""

_BYTES_HEADS = {0xC4: 1, 0xC5: 2, 0xC6: 4}
"""How `bytes` begin in MessagePack, and how many bytes then tell their length."""

# Python writes no longer integers as decimals unless told to: sys.set_int_max_str_digits
_LONGEST_DECIMAL_BITS = 14_000


def is_registered(value: object) -> bool:
    """Whether a value is of a type that the application registered."""
    return by_type(type(value)) is not None


def start_of_bytes(length: int) -> bytes:
    """What stands before the content of a value of type `bytes` of that length."""
    head, size = next((head, size) for head, size in _BYTES_HEADS.items() if length < 1 << 8 * size)
    return bytes((head,)) + length.to_bytes(size, "big")


def find_bytes(data: bytes) -> tuple[int, int] | None:
    """Where the content of a value of type `bytes` begins, and how long it is, by the value's first bytes.

    None for a value of another type.
    """
    size = _BYTES_HEADS.get(data[0]) if data else None
    return None if size is None else (1 + size, int.from_bytes(data[1 : 1 + size], "big"))


def plain(value: Any) -> Any:
    """A rendering for people and for JSON: None, booleans, numbers, text, lists, and dicts with text keys.

    Dates and times are ISO text, bytes base64, sets sorted lists, tuples lists, Decimal, UUID and paths text; NaN and
    infinities are text, as are integers of more than 4,000 digits (in hexadecimal). An object of a registered type is
    `{"$type": tag, "value": ...}`; its `decode` is not run. Keys become text; where two would be the same, the one that
    was no text also names its type. Nothing can be made of a rendering again.

    Raises InvalidValue for what cannot be stored.
    """
    # what comes back from the codec is of the closed set, within its depth, and free of objects of the application
    return _show(decode(encode(value), inert=True))


def _show(value: object) -> Any:
    shower = _SHOW.get(type(value))
    return value if shower is None else shower(value)


def _show_int(value: int) -> int | str:
    return value if value.bit_length() <= _LONGEST_DECIMAL_BITS else hex(value)


def _show_float(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _show_bytes(value: bytes) -> str:
    return b64encode(value).decode("ascii")


def _show_path(value: Path) -> str:
    return os.fsencode(value).decode(errors="backslashreplace")


def _show_items(value: list[Any] | tuple[Any, ...]) -> list[Any]:
    return [_show(item) for item in value]


def _show_set(value: set[Any]) -> list[Any]:
    kinds = set(map(type, value))
    sortable = len(kinds) == 1 and kinds <= _SORTABLE
    return _show_items(sorted(value, key=_natural if sortable else encode))


def _natural(value: Any) -> tuple[bool, Any]:
    """A key that sorts values of one type, NaN behind all others."""
    return (True, "") if value != value else (False, value)


def _show_unregistered(value: Unregistered) -> dict[str, Any]:
    return {"$type": value.tag, "value": _show(value.value)}


def _show_dict(value: dict[Any, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for key, item in value.items():
        text = key if type(key) is str else _key_text(key)
        while type(key) is not str and (text in shown or text in value):
            text += f" ({type(key).__name__})"
        shown[text] = _show(item)
    return shown


def _key_text(key: Any) -> str:
    import json

    shown = _show(key)
    return shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)


_SORTABLE = frozenset({int, float, str, bytes, date, UUID, Decimal})

_SHOW: dict[type, Callable[[Any], Any]] = {
    int: _show_int,
    float: _show_float,
    bytes: _show_bytes,
    list: _show_items,
    tuple: _show_items,
    set: _show_set,
    dict: _show_dict,
    datetime: datetime.isoformat,
    date: date.isoformat,
    UUID: str,
    Decimal: str,
    PATH_TYPE: _show_path,
    Unregistered: _show_unregistered,
}
