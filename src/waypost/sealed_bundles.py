"""Bundles that only who has the key can read: a row of sealed chunks, each bound to its place.

The format is in docs/format.md, section 7. The associated data of a chunk says of which row it is, at which place, and
whether it is the last: so chunks cannot be left out, exchanged or taken from another bundle, and a row that was cut off
at the end of one is told, too.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

from waypost import sealing
from waypost.errors import SealBroken, UnsupportedFormat
from waypost.keys import Keys
from waypost.store import Scratch

MAGIC = b"WPS\x01"
CHUNK_BYTES = 1 << 20
_ROW_BYTES = 16
_LABEL = b"waypost bundle\0"
_LENGTH = struct.Struct("<I")
_PLACE = struct.Struct(">QB")

Read = Callable[[int, int], bytes]


def _place(row: bytes, number: int, *, is_last: bool) -> bytes:
    return _LABEL + row + _PLACE.pack(number, is_last)


class Sealer:
    """Takes bytes, and puts them sealed, a chunk at a time. Raises as `sealing.seal`, also when it is made."""

    def __init__(self, put: Callable[[bytes], object], keys: Keys) -> None:
        sealing.seal(b"", keys, b"")  # before anything is written
        self._put = put
        self._keys = keys
        self._row = os.urandom(_ROW_BYTES)
        self._held = bytearray()
        self._number = 0
        put(MAGIC + self._row)

    def write(self, data: bytes) -> None:
        self._held += data
        while len(self._held) > CHUNK_BYTES:  # what could be the last is kept
            self._seal(bytes(self._held[:CHUNK_BYTES]), is_last=False)
            del self._held[:CHUNK_BYTES]

    def finish(self) -> None:
        """There is no more."""
        self._seal(bytes(self._held), is_last=True)
        self._held.clear()

    def _seal(self, data: bytes, *, is_last: bool) -> None:
        sealed = sealing.seal(data, self._keys, _place(self._row, self._number, is_last=is_last))
        self._put(_LENGTH.pack(len(sealed)) + sealed)
        self._number += 1


def is_sealed(read: Read) -> bool:
    """Whether bytes begin like a sealed bundle. Raises UnsupportedFormat for that of a newer release."""
    head = read(len(MAGIC), 0)
    if head[:3] == MAGIC[:3] and head[3:] != MAGIC[3:]:
        raise UnsupportedFormat("the export is sealed in a form of a newer release, or cut off")
    return head == MAGIC


def open_into(room: Scratch, read: Read, length: int, keys: Keys) -> int:
    """Open a sealed bundle into scratch room; how long it is. Raises KeyMissing, SealBroken, InvalidConfiguration."""
    row = read(_ROW_BYTES, len(MAGIC))
    offset, number, end = len(MAGIC) + _ROW_BYTES, 0, 0
    while offset < length or not number:
        head = read(_LENGTH.size, offset)
        stored = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
        offset += _LENGTH.size + stored
        if not sealing.OVERHEAD <= stored <= CHUNK_BYTES + sealing.OVERHEAD or offset > length:
            raise SealBroken(f"the export is cut off or damaged in its chunk {number}")
        sealed = read(stored, offset - stored)
        data = sealing.open_sealed(sealed, keys, _place(row, number, is_last=offset == length))
        room.write_all(data, end)
        end += len(data)
        number += 1
    return end
