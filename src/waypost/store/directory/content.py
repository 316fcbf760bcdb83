"""Large content on its way into a log: written ahead in blocks, and referred to by the commit that puts it.

Invariants:

* The blocks go into data frames of a few MiB, each appended like any frame under a short lock, while others commit.
  They need no sync of their own: they stand before the commit, whose sync covers them.
* The last few blocks wait for the commit and stand in its own frame, so content that is not that large writes nothing
  ahead, and no more than `AHEAD_BYTES` of it are in memory.
* What was written ahead belongs to one generation of the file. When another one took its place, the content is lost
  and written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from waypost.codec import bodies
from waypost.codec.bodies import Block
from waypost.codec.compression import Compressor
from waypost.codec.frame import Draft
from waypost.errors import StoreUnavailable
from waypost.store import parts as sums
from waypost.store.directory.blocks import Blocks
from waypost.store.directory.context import Context
from waypost.store.directory.log import Frame
from waypost.store.values import ContentLost

AHEAD_BYTES = 2 * 1024 * 1024
TRIES = 8
_MOST_ROWS = 16 * 1024
_LARGEST_BLOCK = 1024 * 1024
_SLACK_BYTES = 64 * 1024


class Ahead(NamedTuple):
    """What is about to be written: how many bytes the value has, and how many of the file are still needed at most."""

    length: int
    room: int


class Written:
    """Content in the log of a document; fulfils `contract.Content`."""

    __slots__ = ("_blocks", "digest", "file_id", "frame_bytes", "key", "last", "length", "table")

    def __init__(self, key: str, length: int) -> None:
        self.key = key
        self.length = length
        self.digest = b""
        self.table: list[Block] = []
        """The rows of all blocks. Those that stand in the file have their places; the others are the last ones."""
        self.last: list[bytes] = []
        self.file_id = 0
        """The generation of the file that it was written to; 0 when nothing was written ahead."""
        self.frame_bytes = 0
        self._blocks: Blocks | None = None

    def read(self) -> bytes:
        ahead, here = self.table[: len(self.table) - len(self.last)], self.table[len(self.table) - len(self.last) :]
        pieces = [self._blocks.data(block) for block in ahead] if self._blocks else []
        return b"".join((*pieces, *map(bodies.unpack_block, here, self.last)))

    def note_written(self, found: Frame, blocks: Blocks) -> None:
        """The blocks that were last stand in a frame of the file now."""
        first = len(self.table) - len(self.last)
        self.table[first:] = bodies.placed(self.table[first:], found.blocks_at)
        self.last = []
        self.file_id, self._blocks = blocks.file_id, blocks
        self.frame_bytes += found.header.length


Append = Callable[[Draft, int, Ahead], tuple[Frame, Blocks]]
"""Appends a data frame to the file of that id (0: whichever it is). Raises ContentLost, DocumentTooLarge."""


def write(
    context: Context,
    key: str,
    length: int,
    pieces: Callable[[int], Iterable[bytes]],
    append: Append,
) -> Written:
    """Write content ahead. Raises ContentLost when another file takes the log's place again and again."""
    free = context.layout.folder("temp").free_bytes()
    if length > AHEAD_BYTES and _room(length) > free:
        # what is written ahead is not taken back, so a disk is not filled with what cannot be finished
        raise StoreUnavailable(
            f"{context.layout.path}: {free:,} bytes are free, and a value of {length:,} was to be written",
            errno="ENOSPC",
        )
    size = block_bytes(context.chunk_bytes, length)
    compressor = context.take_compressor()
    for tries_left in reversed(range(TRIES)):
        try:
            written = _write(Written(key, length), pieces(size), append, compressor)
        except ContentLost:
            if not tries_left:
                raise
        else:
            context.give_back(compressor)
            return written
    raise AssertionError("the last try returns or raises")


def block_bytes(chunk_bytes: int, length: int) -> int:
    """So large that the table stays small, and so small that a few fit into memory."""
    return min(max(chunk_bytes, -(-length // _MOST_ROWS)), _LARGEST_BLOCK)


def _room(length: int) -> int:
    """What so many bytes take in the file at most: rows of tables and headers are far less than a fiftieth."""
    return length + length // 50 + _SLACK_BYTES


def _write(content: Written, pieces: Iterable[bytes], append: Append, compressor: Compressor) -> Written:
    digest = sums.part_digest(content.key.encode())
    seen = held = 0
    for piece in pieces:
        if held >= AHEAD_BYTES:
            rows = content.table[len(content.table) - len(content.last) :]
            draft = bodies.data_draft(rows, content.last, compressor)
            content.note_written(
                *append(draft, content.file_id, Ahead(content.length, _room(content.length - seen) + held))
            )
            held = 0
        digest.update(piece)
        row, stored = bodies.pack_block(compressor, piece)
        content.table.append(row)
        content.last.append(stored)
        seen += len(piece)
        held += len(stored)
    if seen != content.length:
        raise ValueError(f"{content.length} bytes were announced, and {seen} came")
    content.digest = digest.digest()
    return content
