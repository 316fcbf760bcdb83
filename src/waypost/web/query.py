"""What a request asks, read and checked in one place: parameters of the address, and bodies of changes.

What a route takes is a struct. Whatever is not in it, is there twice, or is of another kind is refused and named.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar, get_origin
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct

from waypost import records
from waypost.errors import InvalidInput

T = TypeVar("T", bound=Struct)

LONGEST_QUERY = 16 * 1024
"""Bytes of an address behind its question mark."""
_MOST_PARAMETERS = 64

Id = Annotated[str, Meta(min_length=1, max_length=512)]
CheckpointId = Annotated[str, Meta(min_length=1, max_length=600)]
Reference = Annotated[str, Meta(min_length=1, max_length=600)]
Cursor = Annotated[str, Meta(min_length=1, max_length=8_000)]
Limit = Annotated[int, Meta(ge=1, le=200)]
Offset = Annotated[int, Meta(ge=0, le=2**53)]
Version = Annotated[int, Meta(ge=0, le=2**53)]
Form = Literal["pretty", "raw"]


class Asked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a route takes that has no parameters."""


def parameters(query: bytes, takes: type[T]) -> T:
    """The parameters of an address. Raises InvalidInput."""
    if len(query) > LONGEST_QUERY:
        raise InvalidInput(f"the parameters of an address have at most {LONGEST_QUERY:,} bytes")
    try:
        pairs = parse_qsl(query.decode("ascii"), True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    except ValueError as error:
        raise InvalidInput("the parameters of the address cannot be read") from error
    kinds = {field.encode_name: field.type for field in msgspec.structs.fields(takes)}
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name not in kinds:
            raise InvalidInput(f"there is no parameter {_named(name)} here: there are {_listed(kinds)}")
        if get_origin(kinds[name]) is list:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise InvalidInput(f"the parameter {name} is given twice")
        else:
            given[name] = value
    try:
        return msgspec.convert(given, takes, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(records.misfit(error)) from None


def body(data: bytes, takes: type[T]) -> T:
    """The JSON of a change. Raises InvalidInput."""
    try:
        return msgspec.json.decode(data, type=takes)
    except msgspec.ValidationError as error:
        raise InvalidInput(records.misfit(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"the body is no JSON: {error}") from None


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"


def _named(name: str) -> str:
    return repr(name if len(name) <= 40 else name[:40] + "…")
