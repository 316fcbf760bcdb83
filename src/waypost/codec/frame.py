"""Frames: the records of a log, laid out and checked as docs/format.md (section 2.1) says.

Nothing here touches a disk. A frame is bound to its file, its place and the frame before it: `check`
says whether the bytes at an offset are the frame that belongs there, and nothing else may decide that.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple
from zlib import crc32

FORMAT_VERSION = 1
ERASED_FORMAT = 2
"""Of files from which something was erased: what stands in its place has no meaning in format 1."""
MAGIC = b"WPF\x01"
_FORMATS_END = 0x20
MAX_TOUCHED = 0xFFFE
ANYTHING_TOUCHED = 0xFFFF
MAX_FRAME_BYTES = 0xFFFFFFFF

_SEED_START = 0x5750
_HEADER = struct.Struct("<4sIIIIBBHQQQQQIQ32s32s")
_BINDING = struct.Struct("<QQ")
_CHECKED_FROM = 8
HEADER_BYTES = _HEADER.size


class FrameType(IntEnum):
    FILE = 1
    COMMIT = 2
    SNAPSHOT = 3
    SEAL = 4
    DATA = 5
    DECISION = 6
    DELTA = 7
    ERASURES = 8


_TYPES = frozenset(int(kind) for kind in FrameType)


def is_newer(head: bytes | memoryview) -> bool:
    """Whether bytes begin like a frame of a later format than this one.

    Formats are numbered below `_FORMATS_END`: what a power cut left of a frame may be three bytes of the magic, and
    behind them whatever the place held before.
    """
    return bytes(head[:3]) == MAGIC[:3] and len(head) > 3 and MAGIC[3] < head[3] < _FORMATS_END


class Header(NamedTuple):
    """The fixed part of a frame, field by field as in the format."""

    magic: bytes
    checksum: int
    length: int
    stored: int
    raw: int
    type: int
    codec: int
    touched: int
    version: int
    time_us: int
    synced: int
    base: int
    file_id: int
    link: int
    size_bytes: int
    document_checksum: bytes
    commit_id: bytes

    @property
    def body_offset(self) -> int:
        """Where the body begins, counted from the start of the frame."""
        count = 0 if self.touched == ANYTHING_TOUCHED else self.touched
        return HEADER_BYTES + 4 * count

    @property
    def blocks_offset(self) -> int:
        """Where the blocks begin (the end of the frame when it has none), counted from its start."""
        # not by way of the body: this is asked several times of each frame that is read
        return HEADER_BYTES + self.stored + (0 if self.touched == ANYTHING_TOUCHED else 4 * self.touched)


def seed(file_id: int, offset: int) -> int:
    """What the checksum of a frame starts from: binds it to its file and its place."""
    return crc32(_BINDING.pack(file_id, offset), _SEED_START)


def block_checksum(stored: bytes | memoryview) -> int:
    """The checksum of a block's stored bytes."""
    return crc32(stored, _SEED_START)


def part_hash(key: bytes) -> int:
    """What names a part in the list of parts that a frame touches."""
    return crc32(key)


class Draft(NamedTuple):
    """What of a frame is known before its place in the log is."""

    type: FrameType
    codec: int
    body: bytes
    raw: int
    touched: Sequence[int] | None
    blocks: Sequence[bytes]

    @property
    def length(self) -> int:
        count = 0 if self.touched is None else len(self.touched)
        return HEADER_BYTES + 4 * count + len(self.body) + sum(map(len, self.blocks))


class Place(NamedTuple):
    """Where a frame goes, and what the log looks like there."""

    offset: int
    file_id: int
    link: int
    synced: int
    base: int


class Standing(NamedTuple):
    """What a frame says about its document: the version it makes or stands for."""

    version: int
    time_us: int
    size_bytes: int
    checksum: bytes
    commit_id: bytes


def seal_draft() -> Draft:
    """A frame that says: everything before it is synced."""
    return Draft(FrameType.SEAL, 0, b"\x90", 1, (), ())


def assemble(draft: Draft, place: Place, standing: Standing) -> tuple[bytes, Header]:
    """The bytes of a frame, and its header (whose checksum is the link of the next frame)."""
    head, header = assemble_head(draft, place, standing, sum(map(len, draft.blocks)))
    return b"".join((*head, *draft.blocks)), header


def assemble_head(
    draft: Draft, place: Place, standing: Standing, block_bytes: int
) -> tuple[tuple[bytes, bytes, bytes], Header]:
    """As `assemble`, up to the end of the body, in pieces; that many bytes of blocks follow."""
    touched = draft.touched
    if touched is None or len(touched) > MAX_TOUCHED:
        count, listed = ANYTHING_TOUCHED, b""
    else:
        count, listed = len(touched), struct.pack(f"<{len(touched)}I", *touched)
    body = draft.body
    length = HEADER_BYTES + len(listed) + len(body) + block_bytes
    version, time_us, size_bytes, document_checksum, commit_id = standing
    offset, file_id, link, synced, base = place
    fields = (
        length, len(body), draft.raw, int(draft.type), draft.codec, count, version, time_us, synced, base, file_id,
        link, size_bytes, document_checksum, commit_id
    )  # fmt: skip
    checked = _HEADER.pack(MAGIC, 0, *fields)[_CHECKED_FROM:] + listed + body
    checksum = crc32(checked, seed(file_id, offset))
    return (MAGIC, checksum.to_bytes(4, "little"), checked), Header(MAGIC, checksum, *fields)


def read_header(data: bytes | memoryview, at: int = 0) -> Header | None:
    """The header that stands at `at`, unchecked but for its magic; None where there is none."""
    if len(data) - at < HEADER_BYTES:
        return None
    header = Header._make(_HEADER.unpack_from(data, at))
    return header if header.magic == MAGIC else None


def fits(header: Header, available: int, limit: int = MAX_FRAME_BYTES) -> bool:
    """Whether the header's lengths agree with each other and with the bytes that are there."""
    return (
        header.blocks_offset <= header.length <= available
        and header.length <= limit
        and (header.codec != 0 or header.raw == header.stored)
    )


def intact(header: Header, data: bytes | memoryview, at: int, offset: int) -> bool:
    """Whether the frame whose header and body stand in `data` at `at` is the one written at `offset` of its file."""
    end = at + header.blocks_offset
    if len(data) < end:
        return False
    return crc32(memoryview(data)[at + _CHECKED_FROM : end], seed(header.file_id, offset)) == header.checksum


def is_known(header: Header) -> bool:
    """Whether the frame is of a type that this release knows."""
    return header.type in _TYPES


def touched_parts(header: Header, data: bytes | memoryview, at: int = 0) -> tuple[int, ...] | None:
    """The hashes of the parts that the frame touches; None when it may touch any."""
    if header.touched == ANYTHING_TOUCHED:
        return None
    return struct.unpack_from(f"<{header.touched}I", data, at + HEADER_BYTES)


def new_file_id() -> int:
    """A random number that names one generation of a file; never 0."""
    return int.from_bytes(os.urandom(8), "little") or 1
