"""What is sent: documents as JSON, errors as JSON with a status, and how much of either there may be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

import msgspec
from starlette.responses import Response

from waypost.cli.text import as_json, cut
from waypost.errors import (
    DocumentDamaged,
    DocumentTooLarge,
    InvalidInput,
    LockTimeout,
    NotFound,
    Refused,
    SchemaOutdated,
    SealBroken,
    StoreError,
    StoreNotFound,
    StoreReadOnly,
    UnsupportedFormat,
    WaypostError,
)

T = TypeVar("T")

ROOM = 4 * 1024 * 1024
"""Bytes of rows in one answer: what does not fit is for the next page."""

LONGEST_WORD, LONGEST_TEXT = 512, 4_000
"""Characters of a name, and of an error or a description, among others in a list."""

LONGEST_VALUE = 16 * 1024
"""Characters of a value, as JSON, that is shown whole among others."""

_GREATEST_EXACT = 2**53 - 1
_LONGEST_MESSAGE = 2_000
_MOST_BYTES_OF_DETAILS = 4 * 1024

_STATUSES: tuple[tuple[type[WaypostError], int], ...] = (
    (InvalidInput, 400),
    (StoreNotFound, 503),
    (NotFound, 404),
    (Refused, 409),
    (StoreReadOnly, 403),
    (LockTimeout, 409),
    (DocumentDamaged, 422),
    (SealBroken, 422),
    (UnsupportedFormat, 422),
    (SchemaOutdated, 422),
    (DocumentTooLarge, 422),
    (StoreError, 503),
)
"""The first that fits counts."""


class Denied(Exception):
    """A request that is not answered, and why: status, stable code, and a sentence."""

    def __init__(self, status: int, code: str, message: str, *, retryable: bool = False, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retryable = retryable
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def document(given: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A document as JSON."""
    text = as_json(msgspec.to_builtins(given, enc_hook=str), indent=None)
    return Response(text.encode("utf-8", "backslashreplace"), status, headers, "application/json")


def denial(denied: Denied) -> Response:
    return _error(denied.status, denied.code, denied.message, denied.retryable, {}, denied.headers)


def failure(error: WaypostError) -> Response:
    """An error of the store or of what was asked, in the words of the command line."""
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    details: Any = msgspec.to_builtins(error.details, enc_hook=str)
    if len(json.dumps(details)) > _MOST_BYTES_OF_DETAILS:
        details = {}
    return _error(status, error.code, str(error), error.retryable or status == 503, details, {})


def breakdown() -> Response:
    """Something went wrong that nobody thought of; it stands in the log of the server."""
    return _error(500, "internal", "the server failed at this: see what it printed", False, {}, {})


def _error(status: int, code: str, message: str, retryable: bool, details: Any, headers: Mapping[str, str]) -> Response:
    said = {"code": code, "message": cut(message, _LONGEST_MESSAGE), "details": details, "retryable": retryable}
    return document({"error": said}, status, headers)


# --- bounds ---


def filled(rows: Iterable[T], room: int = ROOM) -> list[T]:
    """The first rows that fit together, one at least."""
    found: list[T] = []
    for row in rows:
        room -= len(msgspec.json.encode(row, enc_hook=str))
        if room < 0 and found:
            break
        found.append(row)
    return found


def shortened(row: dict[str, Any], **most: int) -> dict[str, Any]:
    """A row whose texts of these names are cut."""
    for name, length in most.items():
        if isinstance(row.get(name), str):
            row[name] = cut(row[name], length)
    return row


def value(given: Any) -> Any:
    """A plain value, or where it is long its beginning as text: `{"cut": true, "characters", "text"}`. A whole number
    that JavaScript would round is text.
    """
    text = json.dumps(given, ensure_ascii=False, default=str)
    if len(text) <= LONGEST_VALUE:
        return _exact(given)
    return {"cut": True, "characters": len(text), "text": text[:LONGEST_TEXT]}


def _exact(given: Any) -> Any:
    if isinstance(given, dict):
        return {name: _exact(each) for name, each in cast("dict[str, Any]", given).items()}
    if isinstance(given, list):
        return [_exact(each) for each in cast("list[Any]", given)]
    return str(given) if type(given) is int and abs(given) > _GREATEST_EXACT else given


def values(given: Mapping[str, Any], room: int = ROOM // 4) -> dict[str, Any]:
    """The first values that fit together, each as `value` has it."""
    found: dict[str, Any] = {}
    for name, each in given.items():
        shown = value(each)
        room -= len(json.dumps(shown, ensure_ascii=False, default=str)) + len(name)
        if room < 0:
            break
        found[name] = shown
    return found
