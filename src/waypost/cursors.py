"""How far a watch has told what was committed, and the text that says so to a later one.

A position in a workflow is the version told last and the beginning of that commit's id, by which a later watch sees
whether the version is still the same. A cursor holds the positions of all workflows at one moment. Making it takes
time for each, so an event holds only what is needed to make it.
"""

from __future__ import annotations

import binascii
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, NoReturn

import msgspec

from waypost.errors import InvalidInput

START = "start"
"""The cursor of the oldest commits that history holds."""

MARK_BYTES = 8
_MAGIC = "w1"
_CHECK_BYTES = 4
_MOST_BYTES = 1 << 28
_MOVES = 1024


class Position(NamedTuple):
    """The version of a workflow that was told last, and the beginning of its commit's id; empty where it is lost."""

    version: int
    mark: bytes


BEGINNING = Position(0, b"")


class _Body(NamedTuple):
    """What a cursor holds: of which workflow it is, None for all, and (id, version, mark) of each."""

    workflow_id: str | None
    positions: list[tuple[str, int, bytes]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


class Positions:
    """The position in each workflow, and cursors of every moment since without a copy for each."""

    def __init__(self, workflow_id: str | None, told: Mapping[str, Position]) -> None:
        self._workflow_id = workflow_id
        self.told = dict(told)
        self._begin()

    def _begin(self) -> None:
        self._base = dict(self.told)
        self._moves: list[tuple[str, Position]] = []

    def move(self, workflow_id: str, position: Position) -> None:
        if len(self._moves) >= max(_MOVES, len(self._base)):
            self._begin()
        self.told[workflow_id] = position
        self._moves.append((workflow_id, position))

    def here(self) -> Callable[[], str]:
        """What gives the cursor of this moment, whatever moves later."""
        return partial(_written, self._workflow_id, self._base, self._moves, len(self._moves))


def _written(
    workflow_id: str | None, base: Mapping[str, Position], moves: list[tuple[str, Position]], count: int
) -> str:
    told = {**base, **dict(moves[:count])}
    body = _encode(_Body(workflow_id, [(name, version, mark) for name, (version, mark) in sorted(told.items())]))
    packed = zlib.compress(body)
    data = zlib.crc32(packed).to_bytes(_CHECK_BYTES, "big") + packed
    return _MAGIC + urlsafe_b64encode(data).decode().rstrip("=")


def read(cursor: object, workflow_id: str | None) -> dict[str, Position]:
    """The positions that a cursor holds, for a watch of that workflow, or of all. Raises InvalidInput."""
    if type(cursor) is not str:
        raise InvalidInput(f"a cursor is a text, not {type(cursor).__name__}")
    body = _read(cursor)
    told = {name: Position(version, mark) for name, version, mark in body.positions}
    if workflow_id is None and body.workflow_id is not None:
        raise InvalidInput(f"the cursor is of a watch of workflow {body.workflow_id!r}, and does not tell of others")
    if workflow_id is None:
        return told
    if body.workflow_id not in (None, workflow_id):
        raise InvalidInput(f"the cursor is of a watch of workflow {body.workflow_id!r}, not of {workflow_id!r}")
    return {workflow_id: told[workflow_id]} if workflow_id in told else {}


def _read(cursor: str) -> _Body:
    try:
        data = urlsafe_b64decode(cursor.removeprefix(_MAGIC).encode("ascii") + b"=" * (-(len(cursor) - 2) % 4))
    except (ValueError, binascii.Error):
        _refuse()
    packed = data[_CHECK_BYTES:]
    if not cursor.startswith(_MAGIC) or zlib.crc32(packed).to_bytes(_CHECK_BYTES, "big") != data[:_CHECK_BYTES]:
        _refuse()
    unpacking = zlib.decompressobj()
    try:
        body = _decode(unpacking.decompress(packed, _MOST_BYTES))
    except (zlib.error, msgspec.MsgspecError, ValueError, RecursionError):
        _refuse()
    if any(version < 0 or len(mark) > MARK_BYTES for _, version, mark in body.positions):
        _refuse()
    return body


def _refuse() -> NoReturn:
    raise InvalidInput("this is no cursor of a watch, or not all of it: it is `start`, or the `cursor` of an event")
