"""Values: what each type promises, what is refused and where, and that no bytes can do harm."""

# ruff: noqa: DTZ001, DTZ901  (datetimes without a zone are among what is stored)

from __future__ import annotations

import collections
import dataclasses
import decimal
import enum
import functools
import json
import math
import random
import re
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from tests.seeds import SEED
from waypost.codec import values
from waypost.codec.values import MAX_DEPTH, Unregistered, decode, encode, plain, register_type, unregister_type
from waypost.errors import (
    DocumentDamaged,
    InvalidConfiguration,
    InvalidValue,
    StoreError,
    UnsupportedFormat,
    WaypostError,
)

# how long a value takes to make says nothing on a busy machine
PROPERTY = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])

BERLIN = ZoneInfo("Europe/Berlin")
PAYLOAD_NAN = struct.unpack(">d", bytes.fromhex("fff8000000000123"))[0]


def bits(value: float) -> bytes:
    return struct.pack(">d", value)


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type all the way down, floats by their bits, dicts in order, zones by identity."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return bits(one) == bits(other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.keys()), list(other.keys())) and same(list(one.values()), list(other.values()))
    if isinstance(one, set):
        left = list(other)
        return len(one) == len(left) and all(any(same(item, found) for found in left) for item in one)
    if isinstance(one, datetime):
        bare = one.replace(tzinfo=None) == other.replace(tzinfo=None) and one.fold == other.fold
        return bare and same_zone(one.tzinfo, other.tzinfo)
    if isinstance(one, Decimal):
        return one.as_tuple() == other.as_tuple()
    return bool(one == other)


def same_zone(one: tzinfo | None, other: tzinfo | None) -> bool:
    return one is other or (type(one) is timezone and repr(one) == repr(other))


def packed(value: Any) -> bytes:
    """MessagePack as the codec's library writes it, whatever it may mean."""
    return msgspec.msgpack.encode(value)


def hashable(value: Any) -> bool:
    try:
        return hash(value) is not None
    except TypeError:
        return False


def nested(wrap: Callable[[Any], Any], levels: int, innermost: Any) -> Any:
    return functools.reduce(lambda value, _: wrap(value), range(levels), innermost)


TYPES: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "smallest of 64 bits": -(2**63),
    "largest of 64 bits": 2**64 - 1,
    "one less than 64 bits": -(2**63) - 1,
    "one more than 64 bits": 2**64,
    "int of one byte boundary": 2**71,
    "int of 5,000 digits": 10**5000,
    "negative int of 5,000 digits": -(10**5000),
    "float": 1.5,
    "float of a whole number": 1.0,
    "negative zero": -0.0,
    "smallest float": 5e-324,
    "largest float": sys.float_info.max,
    "infinity": math.inf,
    "negative infinity": -math.inf,
    "nan": math.nan,
    "nan with a payload": PAYLOAD_NAN,
    "text": "Größe \0 ☃ \U0001f600",
    "empty text": "",
    "bytes": b"\x00\xff",
    "bytes that are text": b"abc",
    "list": [1, "a", None],
    "empty list": [],
    "dict": {"b": 1, "a": [2]},
    "empty dict": {},
    "dict with int keys beside equal text keys": {1: "a", "1": "b"},
    "dict with float keys": {1.5: "a", math.inf: "b"},
    "dict with None and bool keys": {None: 1, True: 2, "None": 3},
    "dict with bytes keys": {b"a": 1, "a": 2},
    "dict with tuple keys": {(1, ("x",)): [1], (): None},
    "dict with date keys": {date(2024, 2, 29): 1, datetime(2024, 2, 29): 2},
    "dict with uuid, decimal and path keys": {UUID(int=5): 1, Decimal("1.10"): 2, Path("a"): 3},
    "tuple": (1, [2, (3,)]),
    "empty tuple": (),
    "set": {1, "a", (2, "b"), None, b"x"},
    "empty set": set(),
    "naive datetime": datetime(2024, 3, 31, 2, 30, 0, 123456),
    "naive datetime in the fold": datetime(2024, 10, 27, 2, 30, fold=1),
    "earliest datetime": datetime.min,
    "latest datetime": datetime.max,
    "utc datetime": datetime(2024, 3, 31, 2, 30, tzinfo=UTC),
    "utc datetime in the fold": datetime(2024, 3, 31, 2, 30, fold=1, tzinfo=UTC),
    "utc datetime before the epoch": datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    "earliest utc datetime": datetime.min.replace(tzinfo=UTC),
    "latest utc datetime": datetime.max.replace(tzinfo=UTC),
    "datetime with an offset": datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-5))),
    "datetime with an odd offset": datetime(2024, 1, 1, tzinfo=timezone(timedelta(microseconds=-1))),
    "datetime with a named offset": datetime(2024, 1, 1, tzinfo=timezone(timedelta(0), "Zulu")),
    "datetime with a name like its offset": datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1), "UTC+01:00")),
    "datetime in a zone": datetime(2024, 7, 1, 12, tzinfo=BERLIN),
    "datetime in a zone and in the fold": datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN),
    "datetime in a zone called UTC": datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("UTC")),
    "date": date(1, 1, 1),
    "uuid": UUID("12345678-1234-5678-9234-567812345678"),
    "decimal": Decimal("1.10"),
    "decimal zero below": Decimal("-0"),
    "decimal of many digits": Decimal("1." + "3" * 100 + "E+999"),
    "decimal of the greatest exponent": Decimal((0, (1,), decimal.MAX_EMAX)),
    "decimal nan": Decimal("NaN"),
    "decimal nan with a payload": Decimal("-sNaN123"),
    "decimal infinity": Decimal("-Infinity"),
    "path": Path("/srv/data/../x"),
    "path of nothing": Path(""),
    "path with a byte that is no text": Path("/srv/\udcff"),
}


@pytest.mark.parametrize("value", TYPES.values(), ids=TYPES)
def test_v06_each_type_of_the_table_comes_back_exactly(value: Any) -> None:
    """Every type of the closed set, with its odd members, comes back with the same type and the same value."""
    assert same(decode(encode(value)), value)
    assert same(decode(memoryview(encode(value)), inert=True), value)


@pytest.mark.parametrize("value", TYPES.values(), ids=TYPES)
def test_v06_each_type_comes_back_exactly_within_each_container(value: Any) -> None:
    """A value in a list, dict, tuple or odd-keyed dict is the same as on its own."""
    for wrapped in ([value], {"a": value}, (value,), {7: value}, [{"x": ({8: [value]},)}]):
        assert same(decode(encode(wrapped)), wrapped)


zones = st.one_of(
    st.none(),
    st.just(UTC),
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu"]).map(ZoneInfo),
    st.builds(
        timezone, st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)), st.text(max_size=9)
    ),
    st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(timezone),
)
moments = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold), st.datetimes(), zones, st.sampled_from([0, 1])
)
hashables = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=40),
    moments,
    st.dates(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.sampled_from(["NaN", "-NaN7"]).map(Decimal),
    st.binary(max_size=20).map(lambda data: Path(data.replace(b"\0", b"").decode("utf-8", "surrogateescape"))),
)
# Python itself keeps a decimal that signals out of keys
scalars = st.one_of(hashables, st.sampled_from(["sNaN", "-sNaN12"]).map(Decimal))
keys = st.recursive(hashables, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)


def distinct(found: list[Any]) -> list[Any]:
    """Without those of the same bytes: two NaN are two keys to Python, and neither could be found again."""
    return list({encode(item): item for item in found}.values())


sets = st.lists(keys, max_size=6).map(distinct).map(set)
stored = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=20), inner, max_size=5),
        st.builds(lambda names, items: dict(zip(names, items, strict=False)), sets, st.lists(inner, max_size=5)),
        sets,
    ),
    max_leaves=25,
)


@given(stored)
@PROPERTY
def test_v02_round_trip_is_exact_or_refused(value: Any) -> None:
    """Any value of the closed set comes back the same at every nesting, and its bytes are always the same bytes."""
    data = encode(value)
    assert same(decode(data), value)
    assert same(decode(data, inert=True), value)
    assert encode(decode(data)) == data


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    A = "a"


class Pair(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass
class Box:
    inside: Any


class Model(msgspec.Struct):
    name: str
    when: datetime


class ModelLike:
    """What a pydantic model looks like from outside."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_dump(self) -> dict[str, Any]:
        return dict(self.fields)

    @classmethod
    def model_validate(cls, fields: dict[str, Any]) -> ModelLike:
        return cls(**fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelLike) and other.fields == self.fields

    __hash__ = None  # type: ignore[assignment]


class Elsewhere(tzinfo):
    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(0)


def zone_of_a_file() -> ZoneInfo:
    # the smallest valid file: version 1, one type, no transitions
    header = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    return ZoneInfo.from_file(BytesIO(header + struct.pack(">lbB", 3600, 0, 0) + b"XYZ\0"), key="Europe/Berlin")


REFUSED: dict[str, tuple[Any, str]] = {
    "lone surrogate": ("a\ud800", "lone surrogate"),
    "lone surrogate in a key": ({"\udc00": 1}, "lone surrogate"),
    "lone surrogate in the name of a zone": (
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(0), "\ud800")),
        "lone surrogate",
    ),
    "path that no file can have": (Path("\ud800"), "file system"),
    "int enum": (Number.ONE, "plain int: register it with waypost.register_type"),
    "text enum": (Word.A, "plain str: register it with waypost.register_type"),
    "named tuple": (Pair(1, 2), "plain tuple: register it with waypost.register_type"),
    "ordered dict": (collections.OrderedDict(a=1), "plain dict: register it with waypost.register_type"),
    "default dict": (collections.defaultdict(list), "plain dict: register it with waypost.register_type"),
    "counter": (collections.Counter("a"), "plain dict: register it with waypost.register_type"),
    "dataclass": (Point(1), "Point cannot be stored: register it with waypost.register_type"),
    "struct": (Model("a", datetime.min), "register it with waypost.register_type"),
    "frozen set": (frozenset({1}), "register it with waypost.register_type"),
    "byte array": (bytearray(b"a"), "register it with waypost.register_type"),
    "memory view": (memoryview(b"a"), "register it with waypost.register_type"),
    "complex": (1j, "register it with waypost.register_type"),
    "time": (time(1), "register it with waypost.register_type"),
    "time delta": (timedelta(1), "register it with waypost.register_type"),
    "range": (range(3), "register it with waypost.register_type"),
    "generator": ((item for item in "a"), "register it with waypost.register_type"),
    "function": (len, "register it with waypost.register_type"),
    "class": (int, "register it with waypost.register_type"),
    "extension of the codec": (Ext(3, b"\x90"), "register it with waypost.register_type"),
    "raw message of the codec": (msgspec.Raw(b"\x01"), "register it with waypost.register_type"),
    "path of no file system": (PurePosixPath("a"), "register it with waypost.register_type"),
    "other time zone": (datetime(2024, 1, 1, tzinfo=Elsewhere()), "use a datetime.timezone"),
    "time zone of a file": (datetime(2024, 1, 1, tzinfo=zone_of_a_file()), "use a datetime.timezone"),
    "enum as a key": ({Number.ONE: 1}, "plain int: register it with waypost.register_type"),
    "enum in a set": ({"a", Word.A, Number.ONE}, "register it with waypost.register_type"),
}


@pytest.mark.parametrize(("value", "reason"), REFUSED.values(), ids=REFUSED)
def test_v02_what_would_be_altered_is_refused(value: Any, reason: str) -> None:
    """What would not come back the same is refused, also deep within a value, and the error says what to do."""
    for wrapped in (value, [value], {"a": (value,)}, {1: [value]}):
        with pytest.raises(InvalidValue, match=re.escape(reason)):
            encode(wrapped)


def test_v02_a_type_counts_exactly_even_when_it_equals_a_plain_one() -> None:
    """Lists of True and of 1, of 1 and of 1.0, keep their types although Python calls them equal."""
    for value in ([True, 1, 1.0], {"a": False, "b": 0, "c": 0.0, "d": -0.0}, ({True}, {1}, {1.0})):
        assert same(decode(encode(value)), value)


@given(st.dictionaries(st.one_of(st.text(max_size=3), st.integers(0, 9)), st.integers(), max_size=9))
@PROPERTY
def test_v02_the_order_of_a_dict_is_kept(value: dict[Any, int]) -> None:
    """A dict comes back in the order in which it was filled."""
    assert list(decode(encode(value)).items()) == list(value.items())


@given(sets, st.randoms())
@PROPERTY
def test_v02_sets_of_the_same_elements_have_the_same_bytes(one: set[Any], shuffle: random.Random) -> None:
    """In whatever order a set was filled, its bytes are the same, so that equal states have equal checksums."""
    elements = list(one)
    shuffle.shuffle(elements)
    assert encode(set(elements)) == encode(one)


class Same:
    """Each is itself only, and all are stored alike."""


@pytest.mark.parametrize("container", [dict.fromkeys, set], ids=["dict", "set"])
@pytest.mark.parametrize(
    "make", [Same, lambda: float("nan"), lambda: (Decimal("NaN"),)], ids=["object", "nan", "decimal"]
)
def test_v02_keys_that_would_be_stored_as_the_same_are_refused(container: Any, make: Callable[[], Any]) -> None:
    """Keys that differ only by identity would be one key to a reader, so they are refused and none is lost."""
    register_type("same", Same, lambda _: None, lambda _: Same())
    try:
        assert len(decode(encode(container([make(), 1])))) == 2
        with pytest.raises(InvalidValue, match="the same bytes") as caught:
            encode({"a": container([make(), 1, make()])})
        assert caught.value.path == "value.a"
    finally:
        unregister_type("same")


def test_v02_a_value_is_a_snapshot() -> None:
    """What happens to a value after it was encoded does not reach what was stored."""
    value = {"rows": [1, 2]}
    data = encode(value)
    value["rows"].append(3)
    assert decode(data) == {"rows": [1, 2]}


def test_v02_a_value_that_changes_while_it_is_encoded_is_refused(registered: None) -> None:
    """A dict that grows during the walk is an InvalidValue, and no half of it is stored."""
    value: dict[str, Any] = {"a": Point(1)}
    unregister_type("point")
    register_type("point", Point, lambda point: value.setdefault(f"b{len(value)}", 1), Point)
    with pytest.raises(InvalidValue, match="cannot be encoded"):
        encode({"outer": value, "after": 1})


def test_v02_decimals_do_not_depend_on_the_context() -> None:
    """A context of two digits, small letters and no traps changes neither bytes nor value."""
    value = [Decimal("1.23456789E+40"), Decimal("sNaN7")]
    data = encode(value)
    with decimal.localcontext() as context:
        context.prec, context.capitals, context.Emax = 2, 0, 9
        context.clear_traps()
        assert encode(value) == data
        assert same(decode(data), value)
        with pytest.raises(DocumentDamaged):
            decode(packed(Ext(8, packed("no number"))))


# --- where an error stands --------------------------------------------------------------------------------------------

BAD = object()

PATHS: list[tuple[Any, str]] = [
    (BAD, "outputs.fetch"),
    ({"rows": [1, 2, 3, {"price": BAD}]}, "outputs.fetch.rows[3].price"),
    ({"odd key": BAD}, 'outputs.fetch["odd key"]'),
    ({'say "x"': BAD}, 'outputs.fetch["say \\"x\\""]'),
    ({"": BAD}, 'outputs.fetch[""]'),
    ({"größe": BAD}, "outputs.fetch.größe"),
    ({"\ud800": 1}, 'outputs.fetch["\\ud800"]'),
    ({"a\nb": BAD}, 'outputs.fetch["a\\nb"]'),
    ({"k" * 300: BAD}, 'outputs.fetch["' + "k" * 79 + '\\u2026"]'),
    ({7: BAD}, "outputs.fetch[7]"),
    ({None: BAD}, "outputs.fetch[None]"),
    ({1.5: BAD}, "outputs.fetch[1.5]"),
    ({10**5000: BAD}, "outputs.fetch[<int>]"),
    ({(1, 2): BAD}, "outputs.fetch[<tuple>]"),
    ({BAD: 1}, "outputs.fetch[<object>]"),
    ((0, BAD), "outputs.fetch[1]"),
    ({"tags": {BAD}}, "outputs.fetch.tags{}"),
    ({"a": ([{2: (BAD,)}],)}, "outputs.fetch.a[0][0][2][0]"),
    ([2**70, "\ud800"], "outputs.fetch[1]"),
    ({"a": 1, "b": [2**70, {"c": "\ud800"}]}, "outputs.fetch.b[1].c"),
    (Point(Point([1, BAD])), "outputs.fetch.x.x[1]"),
]


@pytest.mark.parametrize(("value", "path"), PATHS, ids=[path for _, path in PATHS])
def test_v02_an_error_says_where_the_bad_value_stands(value: Any, path: str, registered: None) -> None:
    """The error names the path from the root that the caller named down to the part that cannot be stored."""
    with pytest.raises(InvalidValue) as caught:
        encode(value, "outputs.fetch")
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.details["path"] == path


def test_v02_the_root_of_a_path_is_value_when_nobody_named_it() -> None:
    """Without a name the path begins with `value`."""
    with pytest.raises(InvalidValue) as caught:
        encode([BAD])
    assert caught.value.path == "value[0]"


@pytest.mark.parametrize(
    "value", [{"a": ["canary\ud800"]}, [Path("canary\ud800")], {b"canary": BAD}, {("canary",): BAD}]
)
def test_x22_an_error_repeats_no_value(value: Any) -> None:
    """What is refused may be a secret, so neither message nor details hold any of it."""
    with pytest.raises(InvalidValue) as caught:
        encode(value)
    assert "canary" not in str(caught.value)
    assert "canary" not in repr(caught.value.details)


# --- registered types -------------------------------------------------------------------------------------------------

REGISTRATIONS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any], Any]] = {
    "number": (Number, int, Number, Number.ONE),
    "word": (Word, str, Word, Word.A),
    "pair": (Pair, tuple, lambda value: Pair(*value), Pair(1, 2)),
    "point": (Point, lambda point: {"x": point.x, "y": point.y}, lambda value: Point(**value), Point((1, {2}), 3)),
    "box": (Box, lambda box: box.inside, Box, Box([1])),
    "model": (
        Model,
        msgspec.structs.asdict,
        lambda value: msgspec.convert(value, Model),
        Model("a", datetime(2024, 1, 1, tzinfo=UTC)),
    ),
    "model-like": (ModelLike, ModelLike.model_dump, ModelLike.model_validate, ModelLike(a=1, b=[Decimal("1.0")])),
    "ordered": (collections.OrderedDict, dict, collections.OrderedDict, collections.OrderedDict(b=1, a=2)),
    "default.list": (
        collections.defaultdict,
        dict,
        lambda value: collections.defaultdict(list, value),
        collections.defaultdict(list, a=[1]),
    ),
    "frozen_set": (frozenset, set, frozenset, frozenset({1, (2,)})),
}


@pytest.fixture
def registered() -> Iterator[None]:
    """All of REGISTRATIONS, for one test."""
    for tag, (kind, to_plain, from_plain, _) in REGISTRATIONS.items():
        register_type(tag, kind, to_plain, from_plain)
    yield
    for tag in REGISTRATIONS:
        try_to_unregister(tag)


def try_to_unregister(tag: str) -> None:
    try:
        unregister_type(tag)
    except InvalidConfiguration:
        pass


@pytest.mark.parametrize("value", [value for *_, value in REGISTRATIONS.values()], ids=REGISTRATIONS)
def test_a_registered_type_comes_back_as_itself(value: Any, registered: None) -> None:
    """Enums, named tuples, dataclasses, structs and models come back as what they were, at every nesting."""
    for wrapped in (value, [value], {"a": (value, value)}, {3: value}, Point(value, [value])):
        found = decode(encode(wrapped))
        assert found == wrapped
        assert type(found) is type(wrapped)


def test_a_registered_type_may_be_a_key_and_an_element(registered: None) -> None:
    """Objects that can be hashed are keys and elements like any other."""
    value = {Point(1): {Point(2), Point(3)}, Number.ONE: 1, "a": 2, Word.A.value + "b": 3}
    found = decode(encode(value))
    assert found == value
    assert [type(key) for key in found] == [type(key) for key in value]


def test_x02_what_nobody_registered_loads_inert_and_is_written_back_as_it_was(registered: None) -> None:
    """A program that lacks a type can read, pass on and write back what it does not know, byte for byte."""
    value = {"a": Point(Point(1), math.nan), "b": [Number.ONE, {Point(2): 1}], "c": {Point(3), Number.ONE}}
    data = encode(value)
    unregister_type("point")
    found = decode(data)
    assert found["a"].tag == "point"
    assert found["a"].value["x"] == Unregistered("point", encode({"x": 1, "y": 0}))
    assert found["b"][0] is Number.ONE
    assert encode(found) == data
    assert encode(found["a"]) == encode(decode(data)["a"])
    register_type("point", *REGISTRATIONS["point"][:3])
    assert encode(found) == data
    assert decode(encode(found))["b"] == value["b"]


def test_x02_inert_values_are_equal_by_tag_and_value(registered: None) -> None:
    """Two inert values are equal when tag and value are the same, NaN and all, and hash alike; else they differ."""
    pairs = {"nan": math.nan, "one": 1, "true": True, "float": 1.0, "list": [1]}
    one, other = (decode(encode({name: Point(x) for name, x in pairs.items()}), inert=True) for _ in "ab")
    assert one == other
    assert len(set(one.values())) == len(pairs)
    assert {*one.values()} == {*other.values()}
    assert one["one"] != 1
    assert one["one"] != Unregistered("pointer", one["one"].data)


def test_x02_an_inert_value_unpacks_and_matches() -> None:
    """An inert value gives tag and value to assignments, to patterns and to people."""
    found = decode(packed(Ext(10, packed(["color", "red"]))))
    tag, value = found
    assert (tag, value) == ("color", "red")
    match found:
        case Unregistered("color", shade):
            assert shade == "red"
        case _:
            pytest.fail("the pattern does not match")
    assert repr(found) == "Unregistered(tag='color', value='red')"
    with pytest.raises(AttributeError):
        found.tag = "other"


def test_x02_an_inert_value_made_by_hand_is_written_only_if_it_can_be_read() -> None:
    """What could not be read again is refused before it is written."""
    for made in (
        Unregistered("no tag", b"\x01"),
        Unregistered("a", b"\xc1"),
        Unregistered("a", b"\x91" * 200 + b"\x01"),
    ):
        with pytest.raises(InvalidValue):
            encode([made])
    assert encode(Unregistered("a", b"\x01")) == packed(Ext(10, packed(["a", 1])))


def test_x02_nothing_of_an_inert_value_can_be_changed(registered: None) -> None:
    """Its value is made anew each time, so changing what was handed out changes nothing that is stored."""
    found = decode(encode(Point([1])), inert=True)
    found.value["x"].append(2)
    assert found.value == {"x": [1], "y": 0}


def test_x02_within_an_inert_value_everything_is_inert(registered: None) -> None:
    """Objects of registered types within a value of an unknown tag are not built either."""
    data = encode(Point(Number.ONE))
    unregister_type("point")
    assert decode(data).value == {"x": Unregistered("number", b"\x01"), "y": 0}


@pytest.mark.parametrize("tag", ["os.system", "builtins.eval", "a.b-c_d", "x" * 64])
def test_x02_bytes_that_name_code_call_none(tag: str) -> None:
    """A tag is looked up in the register and nowhere else."""
    found = decode(packed(Ext(10, packed([tag, "exit 1"]))))
    assert (found.tag, found.value) == (tag, "exit 1")


@pytest.mark.parametrize("tag", ["", "A", "1a", "a b", "a/b", "a" * 65, "a\n", "ä", None, 3])
def test_x02_a_malformed_tag_is_refused(tag: Any) -> None:
    """A tag is 1 to 64 small letters, digits, `_`, `.`, `-` after a letter, at registration and in bytes."""
    with pytest.raises(InvalidConfiguration):
        register_type(tag, Point, vars, lambda value: Point(**value))
    with pytest.raises(DocumentDamaged):
        decode(packed(Ext(10, packed([tag, 1]))))


def test_a_registration_can_be_repeated_but_not_changed(registered: None) -> None:
    """The same again does nothing; another type for the tag, tag for the type, or function is refused."""
    kind, to_plain, from_plain, _ = REGISTRATIONS["point"]
    register_type("point", kind, to_plain, from_plain)
    for changed in (
        ("point", Elsewhere, to_plain, from_plain),
        ("other", kind, to_plain, from_plain),
        ("point", kind, vars, from_plain),
        ("point", Model, to_plain, from_plain),
    ):
        with pytest.raises(InvalidConfiguration, match="only once"):
            register_type(*changed)
    assert decode(encode(Point(1))) == Point(1)


@pytest.mark.parametrize("kind", sorted({type(value) for value in TYPES.values()}, key=repr))
def test_a_type_of_the_closed_set_cannot_be_registered(kind: type) -> None:
    """What has a form of its own keeps it."""
    with pytest.raises(InvalidConfiguration, match="stored as it is"):
        register_type("mine", kind, repr, eval)


def test_only_classes_and_functions_can_be_registered() -> None:
    """A registration that could not work is refused when it is made."""
    for kind, to_plain in ((list[int], vars), ("Point", vars), (Point, None), (Point, "vars")):
        with pytest.raises(InvalidConfiguration):
            register_type("mine", kind, to_plain, Point)  # type: ignore[arg-type]
    with pytest.raises(InvalidConfiguration, match="no type is registered"):
        unregister_type("mine")


def recurse(value: Any) -> Any:
    return recurse(value)


@pytest.mark.parametrize("hook", [lambda _: 1 / 0, recurse, lambda _: encode(BAD)], ids=["bug", "recursion", "ours"])
def test_a_failing_function_of_the_application_is_an_invalid_value(hook: Callable[[Any], Any]) -> None:
    """What an encode or decode raises comes out as an InvalidValue that names the tag, with the cause chained."""
    register_type("bad", Point, hook, hook)
    try:
        with pytest.raises(InvalidValue, match="encode registered for 'bad'") as caught:
            encode({"a": [Point(1)]})
        assert caught.value.path == "value.a[0]"
        assert isinstance(caught.value.__cause__, ZeroDivisionError | RecursionError | InvalidValue)
        with pytest.raises(InvalidValue, match="decode registered for 'bad'") as caught:
            decode(packed([Ext(10, packed(["bad", 1]))]))
        assert isinstance(caught.value.__cause__, ZeroDivisionError | RecursionError | InvalidValue)
    finally:
        unregister_type("bad")


def test_an_encode_that_gives_what_cannot_be_stored_is_refused(registered: None) -> None:
    """What a registered encode gives is checked like any value, and giving the object itself does not hang."""
    with pytest.raises(InvalidValue, match="register it"):
        encode(Point(BAD))
    unregister_type("point")
    register_type("point", Point, lambda point: point, Point)
    with pytest.raises(InvalidValue, match="nested deeper"):
        encode(Point(1))


@pytest.mark.parametrize("container", [dict.fromkeys, set], ids=["dict", "set"])
def test_objects_that_load_as_no_keys_are_an_invalid_value(container: Callable[[Any], Any]) -> None:
    """A decode that gives unhashable or equal keys loses nothing in silence, and the bytes are not called damaged."""
    register_type("key", Point, lambda point: point.x, Point)
    data = encode(container([Point(1), Point(2)]))
    unregister_type("key")
    for from_plain in (lambda _: [], lambda _: Point(0)):
        register_type("key", Point, lambda point: point.x, from_plain)
        try:
            with pytest.raises(InvalidValue, match="equal or unhashable"):
                decode(data)
        finally:
            unregister_type("key")
    assert len(decode(data)) == 2


def test_running_out_of_memory_is_not_disguised(registered: None) -> None:
    """A MemoryError stays one, so that the caller can act on it."""

    def fail(_: Any) -> Any:
        raise MemoryError

    unregister_type("point")
    data = packed(Ext(10, packed(["point", 1])))
    register_type("point", Point, fail, fail)
    with pytest.raises(MemoryError):
        encode(Point(1))
    with pytest.raises(MemoryError):
        decode(data)


# --- numbers of numpy -------------------------------------------------------------------------------------------------


def test_numpy_numbers_come_back_as_the_plain_numbers_that_they_are() -> None:
    """Booleans, integers and floats of numpy are stored as numbers, also as keys and elements."""
    np = pytest.importorskip("numpy")
    numbers: dict[Any, Any] = {
        np.bool_(True): True,
        np.int8(-5): -5,
        np.int64(-(2**63)): -(2**63),
        np.uint64(2**64 - 1): 2**64 - 1,
        np.longlong(7): 7,
        np.float16(0.5): 0.5,
        np.float32(0.1): 0.10000000149011612,
        np.float64(-0.0): -0.0,
        np.float64("inf"): math.inf,
    }
    for number, expected in numbers.items():
        assert same(decode(encode(number)), expected)
        assert same(decode(encode({"a": [number]})), {"a": [expected]})
        assert same(decode(encode({number: {number}})), {expected: {expected}})


def test_what_numpy_holds_beyond_numbers_is_refused_with_a_way_out() -> None:
    """Arrays, dates, complex and long numbers are refused, and the error says how to make them storable."""
    np = pytest.importorskip("numpy")
    for value in (
        np.array([1]),
        np.array(1),
        np.datetime64("2024-01-01"),
        np.timedelta64(1, "s"),
        np.complex128(1),
        np.longdouble(1),
        np.str_("a"),
        np.bytes_(b"a"),
        np.array([(1,)], dtype="i4,")[0],
    ):
        with pytest.raises(InvalidValue, match=re.escape(".tolist()") + ".*register_type"):
            encode({"a": value})


def test_numpy_arrays_can_be_registered_and_its_numbers_cannot() -> None:
    """An array becomes storable by registration; a number has its form already."""
    np = pytest.importorskip("numpy")
    register_type("array", np.ndarray, lambda array: array.tolist(), np.array)
    try:
        assert (decode(encode({"a": np.array([1, 2])}))["a"] == np.array([1, 2])).all()
    finally:
        unregister_type("array")
    with pytest.raises(InvalidConfiguration):
        register_type("number", np.float32, float, np.float32)


def test_a_class_that_poses_as_a_number_of_numpy_is_refused() -> None:
    """Name and module alone make nothing a number."""
    fake = type("int64", (), {"__module__": "numpy", "item": lambda self: "text"})
    with pytest.raises(InvalidValue, match="does not hold a plain number"):
        encode([fake()])


# --- depth ------------------------------------------------------------------------------------------------------------

NESTINGS: dict[str, Callable[[Any], Any]] = {
    "list": lambda value: [value],
    "dict": lambda value: {"a": value},
    "odd dict": lambda value: {1: value},
    "tuple": lambda value: (value,),
    "object": lambda value: Box(value),
    "key": lambda value: {value: 1} if value.__hash__ and hashable(value) else (value,),
    "list and tuple": lambda value: [value] if type(value) is tuple else (value,),
}
CRAFTED: dict[str, Callable[[bytes], bytes]] = {
    "list": lambda data: b"\x91" + data,
    "list of 16 bits": lambda data: b"\xdc\0\x01" + data,
    "list of 32 bits": lambda data: b"\xdd\0\0\0\x01" + data,
    "longest short list": lambda data: b"\x9f" + data + b"\x01" * 14,
    "dict": lambda data: b"\x81\xa1a" + data,
    "dict of 16 bits": lambda data: b"\xde\0\x01\xa1a" + data,
    "dict of 32 bits": lambda data: b"\xdf\0\0\0\x01\xa1a" + data,
    "odd dict": lambda data: packed(Ext(2, b"\x92\x01" + data)),
    "key": lambda data: packed(Ext(2, b"\x92" + data + b"\x01")),
    "tuple": lambda data: packed(Ext(3, b"\x91" + data)),
    "set": lambda data: packed(Ext(4, b"\x91" + data)),
    "object": lambda data: packed(Ext(10, b"\x92\xa5thing" + data)),
}


@pytest.mark.parametrize("wrap", NESTINGS.values(), ids=NESTINGS)
@pytest.mark.parametrize("innermost", [1, date(2024, 1, 1), 2**70], ids=["plain", "extension", "big"])
def test_v03_a_value_may_be_128_levels_deep_and_no_deeper(
    wrap: Callable[[Any], Any], innermost: Any, registered: None
) -> None:
    """What is written at the limit can be read, also inert; one level more is refused when it is written."""
    value = nested(wrap, MAX_DEPTH, innermost)
    assert decode(encode(value)) == value
    assert encode(decode(encode(value), inert=True)) == encode(value)
    plain(value)
    with pytest.raises(InvalidValue, match="nested deeper than 128 levels") as caught:
        encode(wrap(value))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("inert", [False, True])
def test_x19_a_set_or_dict_whose_keys_have_one_hash_is_refused(inert: bool) -> None:
    """A value of a megabyte made so would take minutes to read, and one of sixteen hours, which nothing interrupts."""
    keys = [number * sys.hash_info.modulus for number in range(1001)]
    assert set(map(hash, keys)) == {0}
    for value in (set(keys[1:]), dict.fromkeys(keys[1:])):
        assert decode(encode(value), inert=inert) == value
    for value in (set(keys), dict.fromkeys(keys), [{(key,) for key in keys}]):
        with pytest.raises(InvalidValue, match="have one hash"):
            encode(value)
    raw = [msgspec.Raw(encode(key)) for key in keys]
    for code, items in ((4, raw), (2, [part for key in raw for part in (key, None)])):
        with pytest.raises(DocumentDamaged):
            decode(msgspec.msgpack.encode(Ext(code, msgspec.msgpack.encode(items))), inert=inert)


@pytest.mark.parametrize("wrap", CRAFTED.values(), ids=CRAFTED)
@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 900, 5_000])
def test_v03_deeper_bytes_are_damaged(wrap: Callable[[bytes], bytes], levels: int) -> None:
    """Bytes that nest too deep are refused whatever they nest, and a RecursionError never escapes."""
    data = nested(wrap, levels, b"\x01")
    for inert in (False, True):
        with pytest.raises(DocumentDamaged, match="nested deeper than 128"):
            decode(data, inert=inert)


@pytest.mark.parametrize("innermost", [b"\x80", b"\x90", packed(Ext(3, b"\x90")), packed(Ext(10, packed(["a", 1])))])
def test_v03_an_empty_container_is_a_level(innermost: bytes) -> None:
    """The innermost container counts also when nothing is in it."""
    assert encode(decode(nested(CRAFTED["list"], MAX_DEPTH - 1, innermost)))
    with pytest.raises(DocumentDamaged, match="nested deeper"):
        decode(nested(CRAFTED["list"], MAX_DEPTH, innermost))


@pytest.mark.parametrize("innermost", [[], {}, (), set(), {1: 2}, Box(1), Unregistered("a", b"\x01")], ids=repr)
def test_v03_each_container_checks_its_depth(innermost: Any, registered: None) -> None:
    """Whatever the innermost container is, it is taken at the limit and refused one level deeper."""
    encode(nested(NESTINGS["list"], MAX_DEPTH - 1, innermost))
    with pytest.raises(InvalidValue, match="nested deeper"):
        encode(nested(NESTINGS["list"], MAX_DEPTH, innermost))


def test_v03_depth_cannot_hide_in_keys_or_bare_extensions() -> None:
    """What no value has, nesting in the keys of a map or extensions in extensions, is damaged at any depth."""
    for data in (
        b"\x81" + b"\x91" * 200 + b"\x01\x01",
        b"\x92" + b"\x81\x91\x01\x01" + b"\xdc\0\xff" + b"\x90" * 255,
        *(nested(lambda data, code=code: packed(Ext(code, data)), 2_000, b"\x90") for code in (2, 3, 4, 10)),
    ):
        with pytest.raises(DocumentDamaged):
            decode(data)


def test_v03_bytes_at_the_limit_are_read() -> None:
    """Bytes of exactly the greatest depth are no damage."""
    for name, wrap in CRAFTED.items():
        if name not in ("set", "key"):  # no set or dict is an element or a key
            assert decode(nested(wrap, MAX_DEPTH - 1, wrap(b"\x01")), inert=True) is not None, name


def test_v03_depth_counts_all_containers_together(registered: None) -> None:
    """The limit is on the whole value: inert values count with what they hold, objects with what they become."""
    inner = decode(encode(ModelLike(a=nested(NESTINGS["tuple"], MAX_DEPTH - 10, 1))), inert=True)
    encode(nested(NESTINGS["list"], 8, inner))
    with pytest.raises(InvalidValue, match="nested deeper"):
        encode(nested(NESTINGS["list"], 9, inner))


def test_v03_the_application_is_not_called_for_what_is_too_deep() -> None:
    """Depth is checked before the first registered function runs."""
    calls: list[Any] = []
    register_type("thing", Point, calls.append, calls.append)
    try:
        with pytest.raises(DocumentDamaged):
            decode(packed([msgspec.Raw(CRAFTED["object"](b"\x01")), msgspec.Raw(b"\x91" * MAX_DEPTH + b"\x01")]))
    finally:
        unregister_type("thing")
    assert calls == []


def test_v03_wide_values_are_not_mistaken_for_deep_ones(registered: None) -> None:
    """Thousands of containers beside one another, of all kinds, are read."""
    value = [[1], {"a": 1}, (2,), {3}, {4: 5}, Point(6), date(2024, 1, 1), "ü" * 300] * 500
    assert decode(encode(value)) == value
    assert decode(encode(value[:2] * 500)) == value[:2] * 500


def test_v03_cycles_are_refused() -> None:
    """A value that holds itself is refused and does not hang, also when many of its parts do."""
    alone: list[Any] = []
    alone.append(alone)
    wide: dict[str, Any] = {}
    wide.update({name: [wide] for name in "abcdefgh"})
    through: tuple[Any, ...] = ({},)
    through[0][1] = through
    for value in (alone, wide, through):
        with pytest.raises(InvalidValue, match="holds itself"):
            encode(value)


def with_little_stack(left: int, call: Callable[[], Any]) -> Any:
    """Make a call when only so many frames are left."""
    frame, used = sys._getframe(), 0
    while frame is not None:
        frame, used = frame.f_back, used + 1

    def down(levels: int) -> Any:
        return down(levels - 1) if levels > 0 else call()

    return down(sys.getrecursionlimit() - used - left)


def test_v03_a_caller_without_stack_gets_an_error_of_ours() -> None:
    """Where the stack is nearly used up, a good value is refused or not read, but never called damaged."""
    outcomes = set()
    deep = nested(NESTINGS["list"], 120, 1)
    for value in (nested(NESTINGS["list and tuple"], 100, 1), [deep, [[1]] * 99], [[[1]] * 50] * 50):
        data = encode(value)
        for left in range(30, 600, 15):
            for call in (functools.partial(encode, value), functools.partial(decode, data)):
                try:
                    outcome = with_little_stack(left, call)
                except WaypostError as error:
                    outcomes.add(type(error))
                else:
                    assert outcome in (value, data)
                    outcomes.add("done")
    assert outcomes == {"done", InvalidValue, StoreError}


# --- bytes that nobody wrote ------------------------------------------------------------------------------------------

DOCUMENTED = (DocumentDamaged, UnsupportedFormat, InvalidValue)


@pytest.mark.parametrize("head", [b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"])
def test_v04_a_declared_count_allocates_nothing(head: bytes) -> None:
    """A length of four billion before a handful of bytes is damage, found without taking memory for it."""
    for data in (
        head + b"\xff\xff\xff\xff\x01",
        packed(Ext(3, head + b"\xff\xff\xff\xff")),
        (head + b"\x0f\0\0\0") * 9,
    ):
        tracemalloc.start()
        try:
            with pytest.raises(DocumentDamaged):
                decode(data)
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()


def test_unknown_extensions_are_refused_as_unsupported() -> None:
    """An extension of a later release is not damage and is never skipped."""
    for code in {*range(-128, 128)} - {-1, *range(1, 11)}:
        for data in (
            packed(Ext(code, b"\x01")),
            packed([1, {"a": Ext(code, b"")}]),
            packed(Ext(3, packed([Ext(code, b"")]))),
        ):
            with pytest.raises(UnsupportedFormat, match=f"extension {code}[^0-9]"):
                decode(data)


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "two values": b"\x01\x02",
    "no opcode": b"\xc1",
    "text that is none": b"\xa2\xff\xff",
    "list as a key": packed(Ext(2, b"\x92\x90\x01")),
    "map with an unhashable key": b"\x81" + packed(Ext(4, b"\x90")) + b"\x01",
    "key without a value": packed(Ext(2, b"\x91\x01")),
    "key twice": packed(Ext(2, b"\x94\x01\x01\x01\x02")),
    "equal keys": packed(Ext(2, b"\x94\x01\x01\xc3\x02")),
    "element twice": packed(Ext(4, b"\x92\x01\x01")),
    "tuple of no list": packed(Ext(3, b"\x01")),
    "set of no list": packed(Ext(4, b"\x81\xa1a\x01")),
    "date that is none": packed(Ext(6, packed("2024-13-01"))),
    "date that is a number": packed(Ext(6, b"\x01")),
    "datetime that is none": packed(Ext(5, packed(["yesterday", 0, None]))),
    "datetime with a fold of two": packed(Ext(5, packed(["2024-01-01T00:00:00", 2, None]))),
    "datetime with too great an offset": packed(Ext(5, packed(["2024-01-01T00:00:00", 0, 86_400_000_000]))),
    "datetime with a path as its zone": packed(Ext(5, packed(["2024-01-01T00:00:00", 0, "../../etc/passwd"]))),
    "datetime with a module as its zone": packed(Ext(5, packed(["2024-01-01T00:00:00", 0, "os.path"]))),
    "short uuid": packed(Ext(7, b"abc")),
    "decimal that is none": packed(Ext(8, packed("1,5"))),
    "object without a value": packed(Ext(10, packed(["a"]))),
    "object with a damaged value": packed(Ext(10, b"\x92\xa1a\xc1")),
    "inert object with a damaged date": packed(Ext(10, packed(["a", Ext(6, packed("x"))]))),
    "timestamp of a wrong size": packed(Ext(-1, b"\0")),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_bytes_that_no_value_has_are_damaged(data: bytes) -> None:
    """Each malformed message is told as damage, and nothing is guessed."""
    for message in (data, b"\x92\x01" + data if data else b"\x92\x01"):
        with pytest.raises(DocumentDamaged):
            decode(message)


def test_a_time_zone_that_is_not_on_this_machine_is_unsupported() -> None:
    """A zone that another machine knew is no damage, and the error names it."""
    with pytest.raises(UnsupportedFormat, match="Mars/Olympus"):
        decode(packed(Ext(5, packed(["2024-01-01T00:00:00", 0, "Mars/Olympus"]))))


REFERENCE = [{name: value for name, value in TYPES.items() if "digits" not in name}, {1: (2, {3, "x"})}]


def test_t08_every_truncation_is_damaged() -> None:
    """A value whose end is missing, wherever it was cut, is damage and never a shorter value."""
    data = encode(REFERENCE)
    for length in range(len(data)):
        with pytest.raises(DocumentDamaged):
            decode(data[:length])


def test_t08_mutated_bytes_give_a_value_or_a_documented_error(registered: None) -> None:
    """Whatever bits turn, reading ends with a value that can be shown and stored, or with a documented error."""
    print(f"WAYPOST_TEST_SEED={SEED}")
    chance = random.Random(SEED)
    data = encode([*REFERENCE, Point(1, [Number.ONE]), {Word.A: Pair(1, 2)}])
    read = 0
    for _ in range(6_000):
        mutant = bytearray(data)
        for _ in range(chance.choice([1, 1, 2, 8])):
            mutant[chance.randrange(len(mutant))] = chance.randrange(256)
        if chance.random() < 0.2:
            del mutant[chance.randrange(len(mutant)) :]
        try:
            value = decode(bytes(mutant))
            read += 1
            plain(value)
        except DOCUMENTED:
            pass
    assert 100 < read < 6_000


@given(st.binary(max_size=60))
@settings(PROPERTY, max_examples=500)
def test_t09_any_bytes_give_a_value_or_a_documented_error(data: bytes) -> None:
    """Bytes from anywhere do no more than fail."""
    for message in (data, *(packed(Ext(code, data)) for code in range(1, 11))):
        try:
            decode(message)
        except DOCUMENTED:
            pass


# --- the envelope -----------------------------------------------------------------------------------------------------

MIMICS: list[Any] = [
    {"$type": "point", "value": {"x": 1, "y": 2}},
    {"tag": "point", "value": {"x": 1, "y": 2}},
    ["point", {"x": 1, "y": 2}],
    {"code": 10, "data": b"\x92\xa5point\x01"},
    {"__ext__": [10, "point"]},
    {"__type__": "datetime", "value": "2024-01-01"},
    {"10": ["point", 1]},
    packed(Ext(10, packed(["point", {"x": 1, "y": 2}]))),
    [2, 1, "a", "1", "b"],
]


@pytest.mark.parametrize("value", MIMICS, ids=repr)
def test_x07_a_dict_that_mimics_the_envelope_comes_back_plain(value: Any, registered: None) -> None:
    """Data that looks like our own marks is data: it comes back as it was and calls nothing."""
    for wrapped in (value, [value], {"a": value}, {1: value}):
        assert same(decode(encode(wrapped)), wrapped)
    assert same(decode(encode(plain(Point(value)))), plain(Point(value)))


# --- the format -------------------------------------------------------------------------------------------------------

GOLDEN: list[tuple[Any, str]] = [
    ({"a": [None, True, -1, 1.5, "x", b"y"]}, "81a16196c0c3ffcb3ff8000000000000a178c40179"),
    (datetime(2024, 5, 1, 1, 2, 3, 4, tzinfo=UTC), "d7ff00003e806631948b"),
    (2**64, "c70901010000000000000000"),
    ([1, -(2**63), 2**64 - 1, 2**64], "9401d38000000000000000cfffffffffffffffffc70901010000000000000000"),
    (-(2**63) - 1, "c70901ff7fffffffffffffff"),
    ({1: "a", "1": "b"}, "d7029401a161a131a162"),
    ((1, (2,)), "c706039201d5039102"),
    ({"b", 1}, "d604" + "9201a162"),
    (datetime(2024, 1, 2), "c7170593b3323032342d30312d30325430303a30303a303000c0"),
    (date(2024, 1, 2), "c70b06aa323032342d30312d3032"),
    (UUID(int=1), "d80700000000000000000000000000000001"),
    (Decimal("-0.0"), "c70508a42d302e30"),
    (Path("/a"), "d5092f61"),
    (Point(1), "c70e0a92a5706f696e7482a17801a17900"),
]


@pytest.mark.parametrize(("value", "data"), GOLDEN, ids=[str(type(value).__name__) for value, _ in GOLDEN])
def test_v07_the_bytes_of_each_type_are_those_of_the_first_release(value: Any, data: str, registered: None) -> None:
    """Every form that was ever written is written and read the same by this release."""
    assert encode(value).hex() == data
    assert same(decode(bytes.fromhex(data)), value)


def test_v02_zones_have_one_form_each() -> None:
    """A zone is stored as nothing, an offset, an offset with its name, or a key."""
    for zone, form in (
        (None, None),
        (timezone(timedelta(hours=1)), 3_600_000_000),
        (timezone(timedelta(hours=1), "X"), [3_600_000_000, "X"]),
        (BERLIN, "Europe/Berlin"),
    ):
        code, body = msgspec.msgpack.decode(encode(datetime(2024, 1, 1, tzinfo=zone)), ext_hook=lambda *ext: ext)
        assert (code, msgspec.msgpack.decode(body)) == (5, ["2024-01-01T00:00:00", 0, form])


# --- what people see --------------------------------------------------------------------------------------------------

SHOWN: list[tuple[Any, Any]] = [
    ({"a": [1, None, True, "x", 1.5]}, {"a": [1, None, True, "x", 1.5]}),
    ((1, (2,)), [1, [2]]),
    ({3, 1, 2}, [1, 2, 3]),
    ({"b", "a"}, ["a", "b"]),
    ({-1.5, 2.5, math.nan}, [-1.5, 2.5, "nan"]),
    ({Decimal("10"), Decimal("9")}, ["9", "10"]),
    (b"\xff\x00", "/wA="),
    ([math.nan, math.inf, -math.inf], ["nan", "inf", "-inf"]),
    (2**70, 2**70),
    (10**4000, 10**4000),
    (10**5000, hex(10**5000)),
    (datetime(2024, 7, 1, 12, tzinfo=BERLIN), "2024-07-01T12:00:00+02:00"),
    (datetime(2024, 7, 1), "2024-07-01T00:00:00"),
    (date(2024, 7, 1), "2024-07-01"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Decimal("1.10"), "1.10"),
    (Path("/a/\udcff"), "/a/\\xff"),
    (Point({1}), {"$type": "point", "value": {"x": [1], "y": 0}}),
    ({None: 1, True: 2, 1.5: 3, b"a": 4}, {"null": 1, "true": 2, "1.5": 3, "YQ==": 4}),
    ({(1, "ü"): 1, date(2024, 7, 1): 2}, {'[1, "ü"]': 1, "2024-07-01": 2}),
    ({1: "a", "1": "b"}, {"1 (int)": "a", "1": "b"}),
    ({"1": "b", 1: "a", "1 (int)": "c"}, {"1": "b", "1 (int) (int)": "a", "1 (int)": "c"}),
]


@pytest.mark.parametrize(("value", "expected"), SHOWN, ids=[str(expected)[:40] for _, expected in SHOWN])
def test_plain_is_a_rendering_for_people(value: Any, expected: Any, registered: None) -> None:
    """Each type has a rendering that JSON can hold and people can read."""
    assert same(plain(value), expected)


@given(stored)
@PROPERTY
def test_plain_is_always_json(value: Any) -> None:
    """Every value that can be stored can be printed as JSON, without losing an entry of a dict."""
    shown = plain(value)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    if isinstance(value, dict | list | tuple | set):
        assert len(shown) == len(value)


def test_x12_showing_a_value_runs_no_decode_of_the_application(registered: None) -> None:
    """Reading inert and rendering rebuild no object: what people look at cannot run code."""
    calls: list[Any] = []
    unregister_type("point")
    register_type("point", Point, lambda point: {"x": point.x}, calls.append)
    data = encode({"a": Point(1), 2: {Point(3)}})
    inert = decode(data, inert=True)
    shown = plain(inert)
    assert shown == plain({"a": Point(1), 2: {Point(3)}})
    assert shown["a"] == {"$type": "point", "value": {"x": 1}}
    assert calls == []


def test_plain_refuses_what_cannot_be_stored() -> None:
    """A rendering is of values only: anything else is an InvalidValue with its path."""
    with pytest.raises(InvalidValue) as caught:
        plain({"a": [BAD]})
    assert caught.value.path == "value.a[0]"


def test_the_module_offers_what_it_says() -> None:
    """The names that others import from here are there."""
    assert all(hasattr(values, name) for name in values.__all__)
