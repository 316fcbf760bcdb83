"""Bytes to values: the reading half of `values`, whose table says what each extension holds.

Invariants: depth is known to be within `MAX_DEPTH` before any extension is built or any function of the application
runs; what cannot be read is an error, never a guess; nothing is called that the application did not register.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Context, Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast
from uuid import UUID

import msgspec
from msgspec.msgpack import Decoder, Ext

from waypost.codec import registry
from waypost.errors import DocumentDamaged, InvalidValue, StoreError, UnsupportedFormat, WaypostError

MAX_DEPTH = 128
"""Containers that may lie within one another, the outermost counted; a registered object is one, too."""

MOST_OF_ONE_HASH = 1000
"""Keys of one dict, or elements of one set, that may have the same hash."""

# the hashes of texts, bytes and dates are drawn anew by each process, so that nobody can make equal ones
_FORESEEABLE = frozenset({int, float, Decimal, UUID, tuple})

Zone = str | int | tuple[int, str] | None
"""A time zone as stored: an IANA key, microseconds of offset, those with a name, or none."""

_K = TypeVar("_K", set[Any], dict[Any, Any])


class Code:
    """The extensions; the numbers are part of the format."""

    BIG_INT: Final = 1
    PAIRS: Final = 2
    TUPLE: Final = 3
    SET: Final = 4
    DATETIME: Final = 5
    DATE: Final = 6
    UUID: Final = 7
    DECIMAL: Final = 8
    PATH: Final = 9
    OBJECT: Final = 10


_NESTING_CODES = frozenset({Code.PAIRS, Code.TUPLE, Code.SET, Code.OBJECT})
_COMPOUND = frozenset({list, dict, Ext})
_TEXTS = frozenset({str})

# every byte that cannot be the header of a map or an array; each level has one, for those of ours hold an array
_NO_HEADERS = bytes({*range(256)} - {*range(0x80, 0xA0), *range(0xDC, 0xE0)})

_ZONE_KEY = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")

# conversions must not depend on the context that the application set for its arithmetic
DECIMALS = Context(capitals=1, traps=[InvalidOperation])

_RAW: Decoder[Any] = Decoder()  # leaves our extensions as they are
_TAGGED = Decoder(tuple[str, msgspec.Raw])
_MOMENT = Decoder(tuple[str, Literal[0, 1], Zone])
_TEXT = Decoder(str)


def decode(data: bytes | memoryview, *, inert: bool = False) -> Any:
    """The value that `encode` made these bytes of.

    With `inert`, objects of registered types load as `Unregistered` too, so that no function of the application runs.

    Raises DocumentDamaged, UnsupportedFormat (an unknown extension, a time zone this machine does not have), and
    InvalidValue when a function of the application fails.
    """
    reader = _INERT if inert else _LIVE
    try:
        if _may_be_deep(data):
            value = _read_raw(data)
            if not _check_depth(value):
                return value
        return reader.any.decode(data)
    except (WaypostError, MemoryError):
        raise
    except RecursionError as error:
        # depth was found to be in bounds, so this is the caller's stack and no damage
        raise StoreError("a stored value cannot be read here: the stack of calls is nearly used up") from error
    except Exception as error:
        detail = str(error) if isinstance(error, msgspec.MsgspecError) else type(error).__name__
        raise DocumentDamaged(f"a stored value cannot be read: {detail}") from error


def _may_be_deep(data: bytes | memoryview) -> bool:
    """Cheap and never wrong with no: each level takes a header, so few bytes that can be one mean few levels."""
    return len(data) > MAX_DEPTH and len(bytes(data).translate(None, _NO_HEADERS)) > MAX_DEPTH


def _read_raw(data: bytes | memoryview | msgspec.Raw) -> Any:
    try:
        return _RAW.decode(data)
    except RecursionError as error:
        if not is_short_of_stack(error):
            raise _too_deep() from error
        raise


def is_short_of_stack(error: RecursionError) -> bool:
    """Whether the caller's own stack may be why bytes could not be read where the error was caught, and no damage."""
    return _stack_left(error) <= 2 * MAX_DEPTH


def _stack_left(error: RecursionError) -> int:
    """How many more calls the interpreter would have taken where the error was caught."""
    frame = error.__traceback__ and error.__traceback__.tb_frame
    used = 0
    while frame is not None:
        frame, used = frame.f_back, used + 1
    return sys.getrecursionlimit() - used


def _too_deep() -> DocumentDamaged:
    return DocumentDamaged(f"a stored value is nested deeper than {MAX_DEPTH} levels, which no value is")


def _check_depth(value: Any) -> bool:
    """Whether the value, read without building extensions, holds any; level by level, so that no depth can hurt.

    Raises DocumentDamaged when it is too deep.
    """
    found = type(value) is Ext
    level = [node for node in (value,) if _nests(node)]
    for _ in range(MAX_DEPTH):
        if not level:
            return found
        children = [child for node in level for child in _children(node) if type(child) in _COMPOUND]
        found = found or Ext in map(type, children)
        level = [child for child in children if _nests(child)]
    if level:
        raise _too_deep()
    return found


def _nests(node: object) -> bool:
    return node.code in _NESTING_CODES if isinstance(node, Ext) else type(node) in _COMPOUND


def _children(node: list[Any] | dict[Any, Any] | Ext) -> Iterable[Any]:
    if isinstance(node, list):
        return node
    if isinstance(node, dict):
        if not _TEXTS.issuperset(map(type, node)):
            raise ValueError("a map has a key that is not text")
        return node.values()
    # where that is no array, building it will be refused before anything within
    return cast("Iterable[Any]", _read_raw(memoryview(node.data)))


class Unregistered:
    """A stored value of a tag that nobody registered here: inert, and written back as the same bytes.

    Equal by tag and value; immutable; unpacks as `tag, value`. Only reading makes them.
    """

    __match_args__ = ("tag", "value")
    __slots__ = ("_data", "_tag")

    def __init__(self, tag: str, data: bytes) -> None:
        self._tag = tag
        self._data = data

    @property
    def tag(self) -> str:
        """The tag that the type was registered under where the value was written."""
        return self._tag

    @property
    def data(self) -> bytes:
        """The value's bytes."""
        return self._data

    @property
    def value(self) -> Any:
        """What the type's `encode` gave, decoded anew each time; registered types within it are inert as well."""
        return decode(self._data, inert=True)

    def __iter__(self) -> Iterator[Any]:
        return iter((self._tag, self.value))

    def __eq__(self, other: object) -> bool:
        # bytes rather than values: 1, 1.0 and True are equal but not the same, and NaN is the same but not equal
        return isinstance(other, Unregistered) and other._tag == self._tag and other._data == self._data

    def __hash__(self) -> int:
        return hash((self._tag, self._data))

    def __repr__(self) -> str:
        return f"Unregistered(tag={self._tag!r}, value={self.value!r})"


class _Reader:
    """Builds extensions; a live one with the registered types, an inert one without."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._builders: dict[int, Callable[[memoryview], Any]] = {
            Code.BIG_INT: _big_int,
            Code.PAIRS: partial(self._keyed, _dict_of_pairs),
            Code.TUPLE: self._tuple,
            Code.SET: partial(self._keyed, _set_of_items),
            Code.DATETIME: _datetime,
            Code.DATE: _date,
            Code.UUID: _uuid,
            Code.DECIMAL: _decimal,
            Code.PATH: _path,
            Code.OBJECT: self._object,
        }
        self.any: Decoder[Any] = Decoder(ext_hook=self._extension)
        self._items = Decoder(list[Any], ext_hook=self._extension)

    def _extension(self, code: int, data: memoryview) -> Any:
        builder = self._builders.get(code)
        if builder is None:
            raise UnsupportedFormat(f"a stored value uses extension {code}, which this release does not know")
        return builder(data)

    def _tuple(self, data: memoryview) -> tuple[Any, ...]:
        return tuple(self._items.decode(data))

    def _keyed(self, build: Callable[[list[Any]], _K], data: memoryview) -> _K:
        items = self._items.decode(data)
        try:
            return build(items)
        except MemoryError:
            raise
        except Exception as error:
            # damaged if it cannot be built without the application either, else the fault of its objects
            if self._live:
                _INERT._keyed(build, data)
                raise InvalidValue("objects of a registered type load as equal or unhashable keys") from error
            raise

    def _object(self, data: memoryview) -> Any:
        tag, raw = _TAGGED.decode(data)
        if not registry.is_tag(tag):
            raise DocumentDamaged("the tag of a stored value is malformed")
        entry = registry.by_tag(tag) if self._live else None
        if entry is None:
            _INERT.any.decode(raw)  # what is damaged is told now, not when somebody looks at it
            return Unregistered(tag, bytes(raw))
        value = self.any.decode(raw)
        try:
            return entry.decode(value)
        except MemoryError:
            raise
        except Exception as error:
            raise InvalidValue(f"the decode registered for {tag!r} raised {type(error).__name__}") from error


def collide(keys: Collection[object]) -> bool:
    """Whether so many have one hash that a dict or set of them could take hours to build, which nothing interrupts."""
    if len(keys) <= MOST_OF_ONE_HASH:
        return False
    hashes = Counter(hash(key) for key in keys if type(key) in _FORESEEABLE)
    return max(hashes.values(), default=0) > MOST_OF_ONE_HASH


def _refuse_collisions(keys: list[Any]) -> None:
    if collide(keys):
        raise ValueError("too many keys or elements have one hash")


def _set_of_items(items: list[Any]) -> set[Any]:
    _refuse_collisions(items)
    made = set(items)
    if len(made) != len(items):
        raise ValueError("a set holds an element twice")
    return made


def _dict_of_pairs(items: list[Any]) -> dict[Any, Any]:
    _refuse_collisions(items[::2])
    made = dict(zip(items[::2], items[1::2], strict=True))
    if len(made) * 2 != len(items):
        raise ValueError("a dict holds a key twice")
    return made


def _big_int(data: memoryview) -> int:
    return int.from_bytes(data, "big", signed=True)


def _date(data: memoryview) -> date:
    return date.fromisoformat(_TEXT.decode(data))


def _uuid(data: memoryview) -> UUID:
    return UUID(bytes=bytes(data))


def _decimal(data: memoryview) -> Decimal:
    return Decimal(_TEXT.decode(data), DECIMALS)


def _path(data: memoryview) -> Path:
    return Path(os.fsdecode(bytes(data)))


def _datetime(data: memoryview) -> datetime:
    text, fold, zone = _MOMENT.decode(data)
    return datetime.fromisoformat(text).replace(fold=fold, tzinfo=_zone(zone))


def _zone(zone: Zone) -> tzinfo | None:
    if zone is None:
        return None
    if isinstance(zone, str):
        return zone_of_key(zone)
    offset, *name = (zone,) if isinstance(zone, int) else zone
    return timezone(timedelta(microseconds=offset), *name)


def zone_of_key(key: str) -> tzinfo:
    """The zone of an IANA key, as the cache of zoneinfo has it: a file of the system, or of the package tzdata.

    Raises ValueError for what cannot be a key, UnsupportedFormat for one that this machine does not have.
    """
    if not _ZONE_KEY.fullmatch(key):
        raise ValueError("a malformed time zone key")
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(key)
    except (LookupError, ValueError, OSError) as error:
        reason = f"the time zone {key} is not known on this machine; the package tzdata may have it"
        raise UnsupportedFormat(reason) from error


_LIVE = _Reader(live=True)
_INERT = _Reader(live=False)
