"""Values that are read piece by piece, and taken in ahead of the change that puts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from waypost.errors import StoreUnavailable


class Pieces(NamedTuple):
    """A part that is read piece by piece: where in it each piece begins, and `read(number)` for its bytes."""

    length: int
    starts: Sequence[int]
    read: Callable[[int], bytes]

    @classmethod
    def of(cls, value: bytes) -> Pieces:
        return cls(len(value), (0,), (value,).__getitem__)


class Content(Protocol):
    """A value that a store took in ahead of the change that puts it, for one key of one document."""

    @property
    def key(self) -> str: ...
    @property
    def length(self) -> int: ...
    def read(self) -> bytes:
        """The whole value."""
        ...


class ContentLost(StoreUnavailable):
    """Content was given up before a change put it; the store has to take it in again."""


class Scratch(Protocol):
    """Room for bytes that nobody else sees, and that are gone with the object."""

    def write_all(self, data: bytes, offset: int) -> None: ...
    def read(self, length: int, offset: int) -> bytes: ...


class HeldScratch:
    """Bytes in memory; fulfils `Scratch`."""

    def __init__(self) -> None:
        self._held = bytearray()

    def write_all(self, data: bytes, offset: int) -> None:
        self._held[offset : offset + len(data)] = data

    def read(self, length: int, offset: int) -> bytes:
        return bytes(self._held[offset : offset + length])
