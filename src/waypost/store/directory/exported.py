"""Checkpoints as bytes that stand alone: what one is exported as, and what an import reads (docs/format.md, section 7).

An export is the file of a base, as it would stand in `checkpoints/`. What is read here may come from anywhere, so
nothing of it is believed before it is checked, down to the last byte: the version that `read` gives is whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from waypost.codec import bodies, frame
from waypost.codec.bodies import Block, Extent, FileBody
from waypost.codec.compression import PLAIN, Compressor, Undecodable
from waypost.codec.frame import FrameType, Standing
from waypost.errors import DocumentDamaged, DocumentTooLarge, InvalidInput, UnsupportedFormat
from waypost.options import CompressionConfig
from waypost.store import parts as sums
from waypost.store.directory import keeping
from waypost.store.directory.blocks import BlockCache, Blocks
from waypost.store.directory.checkpoints import Kept, Layer, check_extent
from waypost.store.directory.compaction import Rewriter
from waypost.store.directory.files import File, Identity
from waypost.store.directory.frames import Frame
from waypost.store.directory.layout import document_id
from waypost.store.directory.scrubbing import Scrubbed
from waypost.store.directory.standing import Stands
from waypost.store.directory.state import DocumentView, Snapshot, Source
from waypost.store.kinds import DocumentId
from waypost.store.values import Pieces
from waypost.store.views import OperationRecord, View

NAME = "the export"
_TIMES, _SLACK_BYTES = 4, 64 * 1024
"""Keys and values take so much room at most, among what says where they begin and end."""
_CACHE_BYTES = 1 << 20


class HeldFile(File):
    """A file that is in memory alone."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | bytearray = b"") -> None:
        super().__init__(-1, NAME)
        self.data = data

    def identity(self) -> Identity:
        return Identity(0, 0, len(self.data))

    def read(self, length: int, offset: int) -> bytes:
        return bytes(memoryview(self.data)[offset : offset + length])

    def write(self, data: bytes, offset: int) -> int:
        assert isinstance(self.data, bytearray) and offset == len(self.data)
        self.data += data
        return len(data)


# --- writing ---


def write(version: View, name: str, compression: CompressionConfig) -> bytes:
    """A version as the file of a checkpoint of that name, read back before it is given. Raises DocumentDamaged."""
    file, compressor = HeldFile(bytearray()), Compressor(compression)
    out = Rewriter(file, frame.new_file_id(), frame.MAX_FRAME_BYTES, compressor)
    keeping.put_checkpoint(out, compressor, name, as_source(version, compressor, compression.chunk_size), None)
    data = bytes(file.data)
    try:
        read(data, frame.MAX_FRAME_BYTES)
    except DocumentDamaged as error:
        raise DocumentDamaged(f"checkpoint {name!r} cannot be exported: {error}", checkpoint_id=name) from error
    return data


def as_source(version: View, compressor: Compressor, chunk_bytes: int) -> Source:
    """A version whose parts can be copied as they are kept, wherever it comes from."""
    return version if isinstance(version, Kept | DocumentView | Scrubbed) else _Cut(version, compressor, chunk_bytes)


class _Cut(Stands):
    """A version of any store, its large parts cut into blocks one at a time; fulfils `keeping.Source`."""

    compressed = False

    def __init__(self, version: View, compressor: Compressor, chunk_bytes: int) -> None:
        self.document = version.document
        self.standing = Standing(
            version.version, version.time_us, version.size_bytes, version.checksum, version.commit_id
        )
        self._version = version
        self._compressor = compressor
        self._chunk_bytes = chunk_bytes

    def located(self, key: str) -> tuple[bodies.Part | None, Blocks]:
        file = HeldFile(bytearray())
        blocks = Blocks(file, 0, BlockCache(0), True)
        gone = self._version.erased(key)
        if gone is not None:
            return Extent(self._version.size_of(key) or 0, gone, []), blocks
        value = self._version.get(key)
        if value is None or len(value) <= self._chunk_bytes:
            return value, blocks
        digest = sums.part_digest(key.encode())
        table: list[Block] = []
        digest.update(value)
        for start in range(0, len(value), self._chunk_bytes):
            block, stored = bodies.pack_block(self._compressor, value[start : start + self._chunk_bytes])
            table.append(block._replace(offset=len(file.data)))
            file.write(stored, len(file.data))
        return Extent(len(value), digest.digest(), table), blocks

    def get(self, key: str) -> bytes | None:
        return self._version.get(key)

    def pieces(self, key: str) -> Pieces | None:
        return self._version.pieces(key)

    def size_of(self, key: str) -> int | None:
        return self._version.size_of(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return self._version.keys(prefix)

    def differing(self, other: View) -> set[str]:
        return self._version.differing(other)

    def operation(self, operation_id: str) -> OperationRecord | None:
        return self._version.operation(operation_id)


# --- reading ---


def owner(data: bytes) -> tuple[DocumentId, str]:
    """(document, name of the checkpoint) as the beginning of an export says. Raises as `read` does."""
    _, body = _first(HeldFile(data))
    return document_id(body.kind, body.id), body.checkpoint or ""


def read(data: bytes, limit_bytes: int) -> Kept:
    """The version that an export holds.

    Raises InvalidInput for what is no export, UnsupportedFormat for that of a newer release, DocumentTooLarge for what
    holds more than `limit_bytes`, and DocumentDamaged for everything else that is not as it was written.
    """
    return read_file(HeldFile(data), limit_bytes)


def read_file(file: File, limit_bytes: int) -> Kept:
    """As `read`, of an export that need not be in memory."""
    first, body = _first(file)
    frames = list(_frames(file, first))
    name = body.checkpoint or ""
    *ahead, main, seal = [None, None, *frames]
    if main is not None and main.header.type == FrameType.DELTA:
        raise InvalidInput(f"it holds checkpoint {name!r} as what differs from another: export the checkpoint instead")
    if main is None or seal is None or seal.header.type != FrameType.SEAL or main.header.type != FrameType.SNAPSHOT:
        raise _damaged(frames[-1].end if frames else first.end, "it does not end with a version and a seal")
    if main.header.size_bytes > limit_bytes:
        raise DocumentTooLarge(
            f"the export holds {main.header.size_bytes:,} bytes, more than performance.max_file_size allows "
            f"({limit_bytes:,})",
            limit_bytes=limit_bytes,
        )
    try:
        _check_frames([each for each in ahead if each is not None], main, seal, file)
        return _version(file, body, main)
    except Undecodable as error:
        raise _damaged(main.offset, str(error)) from error
    except DocumentDamaged as error:
        offset, reason = error.details.get("offset"), error.details.get("reason")
        if isinstance(offset, int) and reason is not None:  # the rest of what it says is for files of a store
            raise _damaged(offset, str(reason)) from error
        raise


def _damaged(offset: int, why: str) -> DocumentDamaged:
    return DocumentDamaged(f"{NAME} is damaged at byte {offset}: {why}", file=NAME, offset=offset)


def _first(file: File) -> tuple[Frame, FileBody]:
    head = file.read(8, 0)
    if frame.is_newer(head):
        raise UnsupportedFormat(f"{NAME} is written in a newer format ({head[3]})", format=head[3])
    if head[: len(frame.MAGIC)] != frame.MAGIC:
        raise InvalidInput("this is no export of a checkpoint: it does not begin like one")
    found = _frame_at(file, 0, 0, 0)
    if found.header.type != FrameType.FILE:
        raise InvalidInput("this is no export of a checkpoint: its first frame says of no file what it is")
    if found.header.codec != PLAIN or found.header.length != found.header.blocks_offset:
        raise _damaged(0, "its first frame is compressed, or has blocks")
    try:
        body = bodies.read_file(bytes(found.content()[0]))
    except Undecodable as error:
        raise _damaged(0, str(error)) from error
    if body.kind == "bundle":
        raise InvalidInput("this is an export of a session, and no export of a checkpoint")
    if body.checkpoint is None:
        raise InvalidInput(f"this is the log of {body.kind} {body.id!r}, and no export of a checkpoint")
    if body.kind != "workflow":
        raise InvalidInput(f"this is a checkpoint of a {body.kind}, and only those of workflows can be imported")
    return found, body


def _frames(file: File, first: Frame) -> Iterator[Frame]:
    """The frames behind the first, each linked to the one before it, up to the last byte."""
    found = first
    size = file.identity().size
    while found.end < size:
        found = _frame_at(file, found.end, first.header.file_id, found.header.checksum)
        yield found


def _frame_at(file: File, offset: int, file_id: int, link: int) -> Frame:
    head = file.read(frame.HEADER_BYTES, offset)
    if frame.is_newer(head):
        raise UnsupportedFormat(f"{NAME}: byte {offset} begins a frame of a newer format", offset=offset)
    header = frame.read_header(head)
    if header is None:
        raise _damaged(offset, "no frame begins there, or it ends within one")
    if not frame.fits(header, file.identity().size - offset):
        raise _damaged(offset, "a frame is longer than what is there, or its lengths do not add up")
    data = file.read(header.blocks_offset, offset)
    if not frame.intact(header, data, 0, offset):
        raise _damaged(offset, "the checksum of a frame does not match")
    if (file_id and header.file_id != file_id) or header.link != link:
        raise _damaged(offset, "a frame does not belong behind the one before it")
    if not frame.is_known(header):
        raise UnsupportedFormat(f"{NAME}: byte {offset} begins a frame of type {header.type}", offset=offset)
    return Frame(header, offset, data)


def _check_frames(ahead: list[Frame], main: Frame, seal: Frame, file: File) -> None:
    """Frames of data, a version, and a seal behind it; all their blocks. Raises Undecodable, DocumentDamaged."""
    if any(each.header.type != FrameType.DATA for each in ahead):
        raise Undecodable("something stands before the version that does not belong there")
    if seal.standing != main.standing or seal.header.synced != seal.offset or seal.end != seal.blocks_at:
        raise Undecodable("its seal is of something else")
    if not main.header.version:
        raise Undecodable("it is of no version that a document ever had")
    for each in (*ahead, main):
        _check_room(each.header.raw, main)
        _, table = each.content()
        end = each.blocks_at
        for block in table:
            if block.offset != end or end + block.stored > each.end:
                raise _damaged(each.offset, "a block does not stand where its frame says")
            end += block.stored
            if frame.block_checksum(file.read(block.stored, block.offset)) != block.checksum:
                raise _damaged(block.offset, "the checksum of a block does not match")
        if end != each.end:
            raise _damaged(end, "bytes that belong to no block")


def _check_room(raw: int, main: Frame) -> None:
    """Whether so much may come out of compressed bytes: keys and values of a version are as long as it says."""
    if raw > _TIMES * main.header.size_bytes + _SLACK_BYTES:
        raise Undecodable(f"{raw:,} bytes are said to be packed in a version of {main.header.size_bytes:,}")


def _version(file: File, body: FileBody, main: Frame) -> Kept:
    """The version itself, every part of it compared with what sums and digests say. Raises Undecodable."""
    document, name = document_id(body.kind, body.id), body.checkpoint or ""
    blocks = Blocks(file, main.header.file_id, BlockCache(_CACHE_BYTES), True)
    base = Snapshot(blocks, main)
    if base.operation_blocks or base.body.operations:
        raise Undecodable("it remembers writes, which no checkpoint does")
    for row, first_key in enumerate(base.body.keys):
        block = base.block(row)
        assert block is not None
        _check_room(block.raw, main)
        if next(iter(base.entries(row)), None) != first_key:
            raise Undecodable("its keys are not those of its blocks")
    keys = list(base.keys())
    if any(one >= other for one, other in pairwise(keys)):
        raise Undecodable("its keys are out of order")
    kept = Kept(Layer(name, document, main.standing, file.identity().size, blocks, base, None, {}, []))
    if not kept.is_sound():
        raise Undecodable("its parts are not what its checksum says")
    for key in keys:
        part, _ = kept.located(key)
        if isinstance(part, Extent):
            _check_extent(key, part, blocks, body.format >= frame.ERASED_FORMAT)
    return kept


def _check_extent(key: str, part: Extent, blocks: Blocks, may_be_erased: bool) -> None:
    if bodies.is_erased(part) and may_be_erased:
        return
    if not part.table or sum(row.raw for row in part.table) != part.length:
        raise Undecodable(f"the blocks of part {key!r} are not as long as it is")
    check_extent(key, part, blocks)
