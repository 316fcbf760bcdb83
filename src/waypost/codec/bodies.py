"""Bodies: what stands inside frames, between bytes and typed values (docs/format.md, section 2.2).

A commit's content is encoded once, outside every lock. Parts longer than the chunk size leave it and
become blocks; `Extent` is what remains of them in memory until somebody asks for the bytes.
Whatever does not decode as the format says raises `Undecodable`; the caller adds file and offset.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from waypost.codec.compression import PLAIN, Compressor, Undecodable, unpack
from waypost.codec.decoding import is_short_of_stack
from waypost.codec.frame import ERASED_FORMAT, Draft, FrameType, block_checksum, part_hash
from waypost.errors import UnsupportedFormat

ENTRY_BLOCK_BYTES = 32 * 1024
TRANSACTION_MARK = part_hash(b"\0transaction\0")
"""Stands among the parts that a commit touches when it belongs to a transaction over several documents."""

FOLLOWED_MARK = part_hash(b"\0followed\0")
"""Stands there as well when the commit was made in another store: the versions that its participants have are not
those that it names.
"""

_TABLE_LENGTH = struct.Struct("<I")
_encode = msgspec.msgpack.Encoder().encode


class Block(NamedTuple):
    """A piece of data that is compressed and checked alone: one row of a table.

    `offset` counts from the file's start. In a table as it is written, 0 says: in this frame, behind the one before.
    """

    stored: int
    raw: int
    codec: int
    checksum: int
    offset: int = 0


class Extent(NamedTuple):
    """A large part as it stands in the file: the rows of its blocks, which may stand apart. Of a part that was erased,
    be it large or not, there are none.
    """

    length: int
    digest: bytes
    table: list[Block]


Part = bytes | Extent


def is_erased(part: Part | None) -> bool:
    """Whether a part was there, and is no more."""
    return isinstance(part, Extent) and not part.table


OperationRow = tuple[str, int, int, str, Any]


class DeltaBody(NamedTuple):
    """What makes the parts of another version out of those of the checkpoint `parent`."""

    parent: str
    puts: dict[str, Part]
    removed: list[str]


class FileBody(NamedTuple):
    format: int
    kind: str
    id: str
    generation: int
    made_us: int
    dropped: bytes
    checkpoint: str | None = None
    arrived: int = 0
    """Up to which version the history came from another store."""


class Participant(NamedTuple):
    """A document that takes part in a commit over several, and the version that the commit makes of it."""

    kind: str
    id: str
    version: int


class JointMark(NamedTuple):
    """What each commit of a transaction over several documents says of it."""

    transaction_id: str
    participants: list[Participant]


class ErasedParts(NamedTuple):
    """What is left of what a commit held and was erased: the hash of its content as it was committed, and of each
    part that it put (length, digest).
    """

    content_hash: bytes
    parts: dict[str, tuple[int, bytes]]


class MergeMark(NamedTuple):
    """What a commit that brings two lines together says of them: the ids of its parents, the smaller first, those of
    other commits that it may follow as well, and those of further ones that it contains.
    """

    parents: list[bytes]
    behind: list[bytes]
    contains: list[bytes]

    def may_follow(self, commit_id: bytes) -> bool:
        return commit_id in self.parents or commit_id in self.behind

    def joins(self) -> set[bytes]:
        """All commits that are known to whoever has this one."""
        return {*self.parents, *self.behind, *self.contains}


class CommitBody(NamedTuple):
    operation_id: str
    operation: str
    session: str | None
    agent: str | None
    projection: Any
    cleared: bool
    puts: dict[str, bytes | tuple[int, bytes]]
    removed: list[str]
    transaction: JointMark | None = None
    erased: ErasedParts | None = None
    merge: MergeMark | None = None


class DecidedFrames(NamedTuple):
    """Frames that belong at an offset of the log of a document, byte by byte."""

    kind: str
    id: str
    file_id: int
    offset: int
    frames: bytes
    arriving: int = 0
    """The length of a whole log that stands in the folder of the decision, in place of `frames`."""


class DecisionBody(NamedTuple):
    transaction_id: str
    participants: list[DecidedFrames]
    folder: str = ""


class Remembered(NamedTuple):
    """A block of remembered operations, how many it holds, and when the newest was made."""

    block: Block
    operations: int
    newest_us: int


class SnapshotBody(NamedTuple):
    resume: int
    resume_link: int
    superseded: int
    compressed: bool
    keys: list[str]
    operations: list[Remembered]


_read_file = msgspec.msgpack.Decoder(FileBody).decode
_read_commit = msgspec.msgpack.Decoder(CommitBody).decode
_read_delta = msgspec.msgpack.Decoder(DeltaBody).decode
_read_erasures = msgspec.msgpack.Decoder(dict[str, int]).decode
_read_decision = msgspec.msgpack.Decoder(DecisionBody).decode
_read_snapshot = msgspec.msgpack.Decoder(SnapshotBody).decode
_read_table = msgspec.msgpack.Decoder(list[Block]).decode
_read_entries = msgspec.msgpack.Decoder(dict[str, bytes | Extent]).decode
_read_operations = msgspec.msgpack.Decoder(list[OperationRow]).decode


class Content(NamedTuple):
    """A commit's content and the blocks that belong to it."""

    data: bytes
    table: list[Block]
    blocks: list[bytes]


def _decoded(read: Callable[[bytes | memoryview], Any], data: bytes | memoryview) -> Any:
    try:
        return read(data)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        if isinstance(error, RecursionError) and is_short_of_stack(error):
            raise
        raise Undecodable(str(error)) from error


def pack_block(compressor: Compressor, data: bytes) -> tuple[Block, bytes]:
    codec, stored = compressor.pack(data)
    return Block(len(stored), len(data), codec, block_checksum(stored)), stored


def unpack_block(block: Block, stored: bytes | memoryview, *, verify: bool = True) -> bytes:
    """The block's data. With `verify` off its checksum is not computed."""
    if len(stored) != block.stored:
        raise Undecodable(f"{len(stored)} bytes where a block of {block.stored} was declared")
    if verify and block_checksum(stored) != block.checksum:
        raise Undecodable("a block's checksum does not match")
    return unpack(block.codec, stored, block.raw)


def file_draft(body: FileBody) -> Draft:
    least = len(body) - len(FileBody._field_defaults)
    data = _encode(body if body.arrived else body[: least + (body.checkpoint is not None)])
    return Draft(FrameType.FILE, 0, data, len(data), (), ())


def content_of(body: CommitBody) -> bytes:
    """The content of a commit whose large parts are named by their digests."""
    if body.merge is not None:
        return _encode(body)
    return _encode(body[:-1] if body.erased is not None else body[:-2])


def commit_content(
    body: CommitBody,
    digests: Mapping[str, bytes],
    ahead: Mapping[str, tuple[list[Block], list[bytes]]],
    compressor: Compressor,
    chunk_bytes: int,
) -> Content:
    """Encode a commit. `digests` holds the digest of each part that is given whole and longer than `chunk_bytes`,
    `ahead` of each part that was written ahead its table, and those of its blocks that belong into this frame.
    """
    if not digests and not ahead:
        return Content(content_of(body), [], [])
    table: list[Block] = []
    blocks: list[bytes] = []
    puts: dict[str, bytes | tuple[int, bytes]] = {}
    for key, value in body.puts.items():
        if key not in digests or not isinstance(value, bytes):
            puts[key] = value
            rows, last = ahead.get(key, ((), ()))
            table += rows
            blocks += last
            continue
        puts[key] = (len(value), digests[key])
        for start in range(0, len(value), chunk_bytes):
            block, stored = pack_block(compressor, value[start : start + chunk_bytes])
            table.append(block)
            blocks.append(stored)
    return Content(content_of(body._replace(puts=puts)), table, blocks)


def content_hash(body: CommitBody, content: bytes | memoryview) -> bytes:
    """The hash of a commit's content as it was committed, which its id stands for."""
    return sha256(content).digest() if body.erased is None else body.erased.content_hash


def commit_draft(content: Content, touched: Sequence[int] | None, compressor: Compressor) -> Draft:
    return _draft(FrameType.COMMIT, content, touched, compressor)


def _draft(kind: FrameType, content: Content, touched: Sequence[int] | None, compressor: Compressor) -> Draft:
    data = content.data
    if content.table:
        table = _encode(content.table)
        data = _TABLE_LENGTH.pack(len(table)) + table + data
    codec, stored = compressor.pack(data)
    return Draft(kind, codec, stored, len(data), touched, content.blocks)


def touched_by(body: CommitBody) -> list[int] | None:
    """The hashes of all parts that a commit changes; None when it may be any."""
    if body.cleared:
        return None
    erased = body.erased.parts if body.erased is not None else ()
    touched = [part_hash(key.encode()) for key in (*body.puts, *body.removed, *erased)]
    if body.transaction is not None:
        touched.append(TRANSACTION_MARK)
    return touched


def split_content(data: bytes, has_blocks: bool) -> tuple[memoryview, list[Block]]:
    """(content, table) of an uncompressed body."""
    view = memoryview(data)
    if not has_blocks:
        return view, []
    if len(data) < _TABLE_LENGTH.size:
        raise Undecodable("a body with blocks is too short for its table")
    (length,) = _TABLE_LENGTH.unpack_from(data)
    start = _TABLE_LENGTH.size
    if length > len(data) - start:
        raise Undecodable("a table is longer than the body that holds it")
    return view[start + length :], _decoded(_read_table, view[start : start + length])


def read_file(data: bytes) -> FileBody:
    body: FileBody = _decoded(_read_file, data)
    if body.format > ERASED_FORMAT:
        raise UnsupportedFormat(
            f"written in format {body.format}; this release of waypost reads up to {ERASED_FORMAT}",
            format=body.format,
        )
    return body


def read_commit(content: memoryview) -> CommitBody:
    return _decoded(_read_commit, content)


def placed(table: list[Block], blocks_at: int) -> list[Block]:
    """The rows of a table with the places where their blocks stand, given where the blocks of its frame begin."""
    rows: list[Block] = []
    offset = blocks_at
    for block in table:
        if not block.offset:
            rows.append(Block(block.stored, block.raw, block.codec, block.checksum, offset))
            offset += block.stored
        elif block.offset + block.stored <= blocks_at:
            rows.append(block)
        else:
            raise Undecodable("a block does not stand before the frame that refers to it")
    return rows


def commit_parts(body: CommitBody, table: list[Block]) -> Iterable[tuple[str, Part]]:
    """The parts that a commit puts; large ones as extents, given the rows of its table in their places."""
    row = 0
    for key, value in body.puts.items():
        if isinstance(value, bytes):
            yield key, value
            continue
        length, digest = value
        first, covered = row, 0
        while covered < length:
            if row == len(table) or not table[row].raw:
                raise Undecodable(f"the blocks of part {key!r} end after {covered} of {length} bytes")
            covered += table[row].raw
            row += 1
        if covered != length:
            raise Undecodable(f"the blocks of part {key!r} hold {covered} bytes instead of {length}")
        yield key, Extent(length, digest, table[first:row])
    if row != len(table):
        raise Undecodable("a commit has blocks that belong to no part")
    for key, (length, digest) in body.erased.parts.items() if body.erased else ():
        yield key, Extent(length, digest, [])


def delta_draft(body: DeltaBody, compressor: Compressor) -> Draft:
    """A delta. The blocks of its large parts stand in the same file already, where their extents say."""
    return _draft(FrameType.DELTA, Content(_encode(body), [], []), (), compressor)


def read_delta(content: memoryview) -> DeltaBody:
    return _decoded(_read_delta, content)


class SnapshotBuilder:
    """Collects parts in order of their keys into entry blocks."""

    def __init__(self, compressor: Compressor) -> None:
        self._compressor = compressor
        self._open: dict[str, Part] = {}
        self._open_bytes = 0
        self.keys: list[str] = []
        self.table: list[Block] = []
        self.blocks: list[bytes] = []
        self.compressed = False

    def add(self, key: str, part: Part) -> None:
        if not self._open:
            self.keys.append(key)
        self._open[key] = part
        self._open_bytes += len(key) + (len(part) if isinstance(part, bytes) else 64 * len(part.table))
        if self._open_bytes >= ENTRY_BLOCK_BYTES:
            self._finish_block()

    def copy(self, first_key: str, block: Block, stored: bytes) -> None:
        """Add an entry block of an earlier snapshot as it is; its keys must follow those added so far."""
        self._finish_block()
        self.keys.append(first_key)
        self._append(block._replace(offset=0), stored)

    def _finish_block(self) -> None:
        if self._open:
            self.add_block(_encode(self._open))
            self._open, self._open_bytes = {}, 0

    def add_block(self, data: bytes) -> None:
        self._append(*pack_block(self._compressor, data))

    def _append(self, block: Block, stored: bytes) -> None:
        self.compressed |= block.codec != PLAIN
        self.table.append(block)
        self.blocks.append(stored)

    def finish(self, operations: Sequence[OperationRow]) -> None:
        """No more parts follow; keep what is remembered of the latest writes behind them."""
        self._finish_block()
        if operations:
            self.add_block(_encode(operations))

    def draft(self, body: SnapshotBody) -> Draft:
        """The frame. `body` comes without keys, and knows only of compression elsewhere."""
        body = body._replace(keys=self.keys, compressed=body.compressed or self.compressed)
        return _draft(FrameType.SNAPSHOT, Content(_encode(body), self.table, self.blocks), (), self._compressor)


def data_draft(table: list[Block], blocks: list[bytes], compressor: Compressor) -> Draft:
    """A frame that carries nothing but blocks, of parts that are referred to elsewhere."""
    return _draft(FrameType.DATA, Content(b"\x90", table, blocks), (), compressor)


def erasures_draft(until: dict[str, int]) -> Draft:
    """A frame that says which erasures were carried out, in the whole store, before the file that it stands in."""
    data = _encode(until)
    return Draft(FrameType.ERASURES, PLAIN, data, len(data), (), ())


def read_erasures(content: memoryview) -> dict[str, int]:
    return _decoded(_read_erasures, content)


def decision_draft(body: DecisionBody) -> Draft:
    data = _encode(body)
    return Draft(FrameType.DECISION, PLAIN, data, len(data), (), ())


def read_decision(content: memoryview) -> DecisionBody:
    return _decoded(_read_decision, content)


def read_snapshot(content: memoryview) -> SnapshotBody:
    return _decoded(_read_snapshot, content)


def read_entries(data: bytes) -> dict[str, Part]:
    return _decoded(_read_entries, data)


def read_operations(data: bytes) -> list[OperationRow]:
    return _decoded(_read_operations, data)
