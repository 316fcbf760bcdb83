"""Bytes that are too many for memory: a file that is given as an output, and an output that is read like a file.

Both are values of type `bytes`, stored like any other: what was given as a file can be had whole, and what was given
whole can be read as a file.

Invariants:

* A file that can seek is read from where it stands, as often as it is needed. Any other is copied into the store's
  scratch room first, since the length of a value stands before it.
* What is stored is as long as the file was when it was first looked at. A file that gives more or less is refused.
* A stored value is checked block by block as it is read, and as a whole once all of it was read in order.
"""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any, BinaryIO

from waypost.codec import values
from waypost.errors import DocumentDamaged, InvalidInput, InvalidValue, WaypostError
from waypost.store import Pieces, Scratch

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PIECE_BYTES = 1 << 20
_BUFFER_BYTES = 1 << 16


# --- from a file into the store ---


class Source:
    """A file whose content is to be stored. `path` is what it is called in errors."""

    __slots__ = ("_file", "_length", "_path", "_scratch", "_spooled", "_start", "checksum")

    def __init__(self, file: Any, path: str, scratch: Callable[[], Scratch]) -> None:
        self._file = file
        self._path = path
        self._scratch = scratch
        self._spooled: Scratch | None = None
        self._start = 0
        self._length: int | None = None
        self.checksum = ""
        """SHA-256 of the value's bytes, in hex, once all of them were given."""

    @classmethod
    def of(cls, value: object, path: str, scratch: Callable[[], Scratch]) -> Source | None:
        """The source that a value is; None for what is no file. A type that was registered is none."""
        if callable(getattr(value, "read", None)) and not isinstance(value, type) and not values.is_registered(value):
            return cls(value, path, scratch)
        return None

    @property
    def length(self) -> int:
        """How long the value's bytes are. Raises InvalidValue."""
        length = self._content_length()
        return len(values.start_of_bytes(length)) + length

    def pieces(self, size: int) -> Iterator[bytes]:
        """The value's bytes from its start, in pieces of that size. Raises InvalidValue."""
        digest = sha256()
        length = self._content_length()
        held = values.start_of_bytes(length)
        for data in self._content(length, size):
            held += data
            while len(held) >= size:
                digest.update(held[:size])
                yield held[:size]
                held = held[size:]
        digest.update(held)
        self.checksum = digest.hexdigest()
        if held:
            yield held

    def _content_length(self) -> int:
        if self._length is None:
            self._length = self._find_length()
            if self._length > values.MOST_BYTES:
                raise self._refused(f"{self._length:,} bytes are more than a value may have ({values.MOST_BYTES:,})")
        return self._length

    def _content(self, length: int, size: int) -> Iterator[bytes]:
        given = 0
        while given < length:
            data = self._read_at(given, min(size, length - given))
            if not data:
                raise self._refused(f"the file ended after {given:,} of {length:,} bytes")
            given += len(data)
            yield data
        if self._spooled is None and self._read(1):
            raise self._refused(f"the file gives more than the {length:,} bytes that it had")

    def _find_length(self) -> int:
        if self._asked(self._can_seek):
            self._start = self._asked(self._file.tell)
            return max(0, self._asked(lambda: self._file.seek(0, os.SEEK_END)) - self._start)
        spooled, end = self._scratch(), 0
        # one that never ends fills no disk
        while end <= values.MOST_BYTES and (data := self._read(_PIECE_BYTES)):
            spooled.write_all(data, end)
            end += len(data)
        self._spooled = spooled
        return end

    def _can_seek(self) -> bool:
        return bool(getattr(self._file, "seekable", bool)())

    def _read_at(self, offset: int, size: int) -> bytes:
        if self._spooled is not None:
            return self._spooled.read(size, offset)
        if offset == 0:
            self._asked(lambda: self._file.seek(self._start))
        return self._read(size)

    def _read(self, size: int) -> bytes:
        data = self._asked(lambda: self._file.read(size))
        if not isinstance(data, bytes):
            how = "open it in binary mode" if isinstance(data, str) else "a file gives bytes"
            raise self._refused(f"the file gave {type(data).__name__}: {how}")
        if len(data) > size:
            raise self._refused(f"the file gave {len(data):,} bytes where {size:,} were asked for")
        return data

    def _asked(self, ask: Callable[[], Any]) -> Any:
        """What the file answers. It is the caller's, and may raise anything."""
        try:
            return ask()
        except WaypostError:
            raise
        except Exception as error:
            raise self._refused(f"the file cannot be read ({type(error).__name__})") from error

    def _refused(self, why: str) -> InvalidValue:
        return InvalidValue(f"{self._path}: {why}", path=self._path)


# --- from the store ---


def open_bytes(pieces: Pieces, checksum: str, what: str) -> BinaryIO:
    """A stored value as a file. `what` is what it is called in errors.

    Raises InvalidInput where the value is of another type than `bytes`.
    """
    found = values.find_bytes(pieces.read(0))
    if found is None:
        raise InvalidInput(f"{what} is no bytes: get_step_output gives it as it is")
    start, length = found
    if start + length != pieces.length:
        raise DocumentDamaged(f"{what} is not as long as it says")
    return io.BufferedReader(_StoredBytes(pieces, start, checksum, what), _BUFFER_BYTES)


class _StoredBytes(io.RawIOBase):
    """The content of a stored value of type `bytes`, which begins at `start` of its pieces."""

    def __init__(self, pieces: Pieces, start: int, checksum: str, what: str) -> None:
        self._pieces = pieces
        self._start = start
        self._checksum = checksum
        self._what = what
        self._at = 0
        self._latest = (-1, b"")
        self._digest = sha256()
        self._hashed = 0
        """How many pieces were read in order from the first one on."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        self._check_open()
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._check_open()
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._pieces.length - self._start}
        if whence not in bases or bases[whence] + offset < 0:
            raise ValueError(f"cannot seek to {offset} from {whence}")
        self._at = bases[whence] + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        self._check_open()
        into, place = memoryview(buffer).cast("B"), self._start + self._at
        if place >= self._pieces.length:
            return 0
        number = bisect_right(self._pieces.starts, place) - 1
        piece, skipped = self._piece(number), place - self._pieces.starts[number]
        count = min(len(into), len(piece) - skipped)
        into[:count] = memoryview(piece)[skipped : skipped + count]
        self._at += count
        return count

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the output was closed")

    def _piece(self, number: int) -> bytes:
        if self._latest[0] != number:
            piece = self._pieces.read(number)
            self._check(number, piece)
            self._latest = number, piece
        return self._latest[1]

    def _check(self, number: int, piece: bytes) -> None:
        """Check the whole once its last piece is read, if no piece before it was passed over."""
        if number != self._hashed:
            return
        self._digest.update(piece)
        self._hashed += 1
        if self._hashed == len(self._pieces.starts) and self._digest.hexdigest() != self._checksum:
            raise DocumentDamaged(f"{self._what} is not what its checksum says")
