"""Frames as they were found in a log, and what stands behind the last of them."""

from __future__ import annotations

from typing import NamedTuple

from waypost.codec.bodies import Block, placed, split_content
from waypost.codec.compression import unpack
from waypost.codec.frame import Header, Standing

_WINDOW = 64 * 1024
_ZEROS = bytes(_WINDOW)


class Frame(NamedTuple):
    """A frame that was checked: its header, where it begins in the file, and its bytes (without the blocks when it
    was read).
    """

    header: Header
    offset: int
    data: bytes

    @property
    def end(self) -> int:
        return self.offset + self.header.length

    @property
    def blocks_at(self) -> int:
        """Where its blocks begin in the file."""
        return self.offset + self.header.blocks_offset

    @property
    def standing(self) -> Standing:
        header = self.header
        return Standing(header.version, header.time_us, header.size_bytes, header.document_checksum, header.commit_id)

    def content(self) -> tuple[memoryview, list[Block]]:
        """(content, table with the places of the blocks) of the body, decompressed. Raises Undecodable."""
        header = self.header
        start, end = header.body_offset, header.blocks_offset
        body = unpack(header.codec, memoryview(self.data)[start:end], header.raw)
        content, table = split_content(body, header.length > end)
        return content, placed(table, self.offset + end) if table else table


def is_blank(data: bytes) -> bool:
    """Whether all bytes are zero."""
    return all(data[at : at + _WINDOW] == _ZEROS[: min(_WINDOW, len(data) - at)] for at in range(0, len(data), _WINDOW))


class Tail(NamedTuple):
    """What stands behind the last valid frame: how many bytes that are not zero, whether they are damage, and where
    the last of them ends.
    """

    torn_bytes: int
    damaged: bool
    end: int
