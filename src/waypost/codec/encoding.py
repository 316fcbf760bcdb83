"""Values to bytes: the writing half of `values`, whose table says what each extension holds.

Invariants: a value is walked once and taken as a snapshot; it is written exactly or refused with the path to the part
that cannot be; depth is checked before anything recurses further; plain JSON data is neither copied nor converted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol, cast
from uuid import UUID

from msgspec import Raw
from msgspec.msgpack import Encoder, Ext

from waypost.codec import registry
from waypost.codec.decoding import (
    DECIMALS,
    MAX_DEPTH,
    MOST_OF_ONE_HASH,
    Code,
    Unregistered,
    Zone,
    collide,
    zone_of_key,
)
from waypost.codec.paths import shown_step
from waypost.codec.registry import type_name
from waypost.errors import InvalidValue, UnsupportedFormat

_Atoms = frozenset[type]

# What the codec writes as it is. It fails by itself on text and integers that it cannot write; only then is
# the value walked again with the second set, which sends each of those through a function.
_QUICK: _Atoms = frozenset({type(None), bool, int, float, str, bytes})
_CAREFUL: _Atoms = _QUICK - {int, str}


class _GivenToTimezone(Protocol):
    """What copying asks a datetime.timezone for."""

    def __getinitargs__(self) -> tuple[Any, ...]: ...


class _NumpyNumber(Protocol):
    def item(self) -> object: ...


_MICROSECOND = timedelta(microseconds=1)
_ENCODER = Encoder()


def encode(value: Any, path: str = "value") -> bytes:
    """The bytes of a value, from which `decode` makes it again exactly. `path` is what the value is called in errors.

    Raises InvalidValue, with the path of the part that cannot be stored.
    """
    try:
        try:
            return _ENCODER.encode(_lower(value, 0, _QUICK))
        except (OverflowError, UnicodeEncodeError):
            return _ENCODER.encode(_lower(value, 0, _CAREFUL))
    except _Refusal as refusal:
        raise refusal.at(path) from refusal.cause
    except MemoryError:
        raise
    except RecursionError as error:
        raise _Refusal("the stack of calls does not suffice for its nesting").at(path) from error
    except Exception as error:
        # another thread changed it meanwhile, or a part is beyond what MessagePack can count
        raise _Refusal(f"it cannot be encoded ({type(error).__name__})").at(path) from error


class _Refusal(Exception):
    """A value cannot be stored; on its way up each container adds the step that leads to it."""

    def __init__(self, reason: str, cause: BaseException | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cause = cause
        self.steps: list[str] = []

    def at(self, path: str) -> InvalidValue:
        path += "".join(reversed(self.steps))
        shown = path if len(path) <= 200 else f"{path[:100]}…{path[-100:]}"
        return InvalidValue(f"{shown}: {self.reason}", path=path, reason=self.reason)


_REGISTER = "register it with waypost.register_type"
# NaN beside NaN, or objects that are only equal once they are stored: nobody could tell them apart again
_SAME_BYTES = "two of its keys or elements would be stored as the same bytes"
_ONE_HASH = f"more than {MOST_OF_ONE_HASH:,} of its keys or elements have one hash, so that reading it could take hours"


def _too_deep() -> _Refusal:
    return _Refusal(f"it is nested deeper than {MAX_DEPTH} levels, or holds itself")


# --- lowering: from values to what the codec writes -------------------------------------------------------------------
#
# Each function takes a value of one type and gives the codec's form of it, or the value itself where nothing
# needs to change. `depth` counts the containers around the value.


def _lower(value: object, depth: int, atoms: _Atoms) -> Any:
    kind = type(value)
    return value if kind in atoms else _LOWER.get(kind, _lower_other)(value, depth, atoms)


def _lower_dict(value: dict[object, object], depth: int, atoms: _Atoms) -> Any:
    if depth >= MAX_DEPTH:
        raise _too_deep()
    for key in value:
        if type(key) is not str:
            return _lower_pairs(value, depth, atoms)
    lowered: dict[object, object] | None = None
    key = None
    try:
        for key, item in value.items():
            kind = type(item)
            if kind in atoms:
                continue
            new = _LOWER.get(kind, _lower_other)(item, depth + 1, atoms)
            if new is not item:
                if lowered is None:
                    lowered = dict(value)
                lowered[key] = new
        if atoms is _CAREFUL:
            for key in value:
                _check_text(key)  # type: ignore[arg-type]
    except _Refusal as refusal:
        refusal.steps.append(shown_step(key))
        raise
    return value if lowered is None else lowered


def _lower_pairs(value: dict[object, object], depth: int, atoms: _Atoms) -> Ext:
    lowered: dict[bytes, object] = {}
    for key, item in value.items():
        try:
            lowered[_ENCODER.encode(_lower(key, depth + 1, atoms))] = _lower(item, depth + 1, atoms)
        except _Refusal as refusal:
            refusal.steps.append(shown_step(key))
            raise
    if len(lowered) != len(value):
        raise _Refusal(_SAME_BYTES)
    if collide(value):
        raise _Refusal(_ONE_HASH)
    return Ext(Code.PAIRS, _ENCODER.encode([part for key, item in lowered.items() for part in (Raw(key), item)]))


def _lower_list(value: list[object] | tuple[object, ...], depth: int, atoms: _Atoms) -> Any:
    if depth >= MAX_DEPTH:
        raise _too_deep()
    lowered: list[object] | None = None
    place = 0
    try:
        for place, item in enumerate(value):
            kind = type(item)
            if kind in atoms:
                continue
            new = _LOWER.get(kind, _lower_other)(item, depth + 1, atoms)
            if new is not item:
                if lowered is None:
                    lowered = list(value)
                lowered[place] = new
    except _Refusal as refusal:
        refusal.steps.append(f"[{place}]")
        raise
    return value if lowered is None else lowered


def _lower_tuple(value: tuple[object, ...], depth: int, atoms: _Atoms) -> Ext:
    return Ext(Code.TUPLE, _ENCODER.encode(_lower_list(value, depth, atoms)))


def _lower_set(value: set[object], depth: int, atoms: _Atoms) -> Ext:
    if depth >= MAX_DEPTH:
        raise _too_deep()
    try:
        elements = {_ENCODER.encode(_lower(item, depth + 1, atoms)) for item in value}
    except _Refusal as refusal:
        refusal.steps.append("{}")
        raise
    if len(elements) != len(value):
        raise _Refusal(_SAME_BYTES)
    if collide(value):
        raise _Refusal(_ONE_HASH)
    return Ext(Code.SET, _ENCODER.encode([Raw(element) for element in sorted(elements)]))


def _lower_text(value: str, _depth: int, _atoms: _Atoms) -> str:
    _check_text(value)
    return value


def _check_text(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _Refusal("it holds a lone surrogate, which is no text", error) from None


def _lower_int(value: int, _depth: int, _atoms: _Atoms) -> int | Ext:
    if -(1 << 63) <= value < 1 << 64:
        return value
    return Ext(Code.BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _lower_datetime(value: datetime, _depth: int, _atoms: _Atoms) -> datetime | Ext:
    zone = value.tzinfo
    if zone is UTC and not value.fold:
        return value
    text = value.replace(tzinfo=None).isoformat()
    return Ext(Code.DATETIME, _ENCODER.encode((text, value.fold, _lower_zone(zone))))


def _lower_zone(zone: tzinfo | None) -> Zone:
    if zone is None:
        return None
    if type(zone) is timezone:
        # nothing else tells a name that was given from the one that is made up of the offset
        given = cast("_GivenToTimezone", zone).__getinitargs__()
        return _offset(*given)
    if (key := _key_of_zone(zone)) is not None:
        return key
    raise _Refusal(
        f"a datetime whose zone is a {type_name(type(zone))} cannot be stored: "
        "use a datetime.timezone, or zoneinfo.ZoneInfo(key)"
    )


def _offset(offset: timedelta, name: str | None = None) -> Zone:
    if name is None:
        return offset // _MICROSECOND
    _check_text(name)
    return offset // _MICROSECOND, name


def _key_of_zone(zone: tzinfo) -> str | None:
    """The IANA key that leads to this very zone; a ZoneInfo made of a file may have other rules than its key says."""
    key = getattr(zone, "key", None)
    try:
        return key if isinstance(key, str) and zone_of_key(key) is zone else None
    except (ValueError, UnsupportedFormat):
        return None


def _lower_date(value: date, _depth: int, _atoms: _Atoms) -> Ext:
    return Ext(Code.DATE, _ENCODER.encode(value.isoformat()))


def _lower_uuid(value: UUID, _depth: int, _atoms: _Atoms) -> Ext:
    return Ext(Code.UUID, value.bytes)


def _lower_decimal(value: Decimal, _depth: int, _atoms: _Atoms) -> Ext:
    return Ext(Code.DECIMAL, _ENCODER.encode(DECIMALS.to_sci_string(value)))


def _lower_path(value: Path, _depth: int, _atoms: _Atoms) -> Ext:
    try:
        return Ext(Code.PATH, os.fsencode(value))
    except UnicodeEncodeError as error:
        raise _Refusal("a path with characters that the file system cannot have", error) from None


def _lower_unregistered(value: Unregistered, depth: int, atoms: _Atoms) -> Ext:
    if depth >= MAX_DEPTH:
        raise _too_deep()
    if not registry.is_tag(value.tag):
        raise _Refusal("its tag is malformed")
    _lower(value.value, depth + 1, atoms)  # only for the depth: what is written are the bytes that were read
    return Ext(Code.OBJECT, _ENCODER.encode((value.tag, Raw(value.data))))


def _lower_other(value: object, depth: int, atoms: _Atoms) -> Any:
    kind = type(value)
    if (entry := registry.by_type(kind)) is not None:
        return _lower_registered(value, entry, depth, atoms)
    if registry.is_numpy_number(kind):
        return _number_of_numpy(value)
    raise _Refusal(_why_not(kind))


def _number_of_numpy(value: object) -> object:
    number = cast("_NumpyNumber", value).item()
    if type(number) not in (bool, int, float):
        raise _Refusal(f"{type_name(type(value))} does not hold a plain number")
    return number


def _why_not(kind: type) -> str:
    name = type_name(kind)
    if kind.__module__ == "numpy":
        return f"{name} cannot be stored: store plain values made of it (.tolist() or str()), or {_REGISTER}"
    base = next((base for base in kind.__mro__[1:] if base in registry.CLOSED_SET), None)
    if base is None:
        return f"{name} cannot be stored: {_REGISTER}"
    return f"{name} would come back as a plain {base.__name__}: {_REGISTER}"


def _lower_registered(value: object, entry: registry.Registered, depth: int, atoms: _Atoms) -> Ext:
    if depth >= MAX_DEPTH:
        raise _too_deep()
    try:
        given = entry.encode(value)
    except MemoryError:
        raise
    except Exception as error:
        raise _Refusal(f"the encode registered for {entry.tag!r} raised {type(error).__name__}", error) from None
    return Ext(Code.OBJECT, _ENCODER.encode((entry.tag, _lower(given, depth + 1, atoms))))


_LOWER: dict[type, Callable[[Any, int, _Atoms], Any]] = {
    dict: _lower_dict,
    list: _lower_list,
    tuple: _lower_tuple,
    set: _lower_set,
    str: _lower_text,
    int: _lower_int,
    datetime: _lower_datetime,
    date: _lower_date,
    UUID: _lower_uuid,
    Decimal: _lower_decimal,
    registry.PATH_TYPE: _lower_path,
    Unregistered: _lower_unregistered,
}
