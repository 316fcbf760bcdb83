"""Blocks of a log as they are decoded: read on demand, checked, and kept within bounds of memory."""

from __future__ import annotations

from collections import OrderedDict
from itertools import accumulate
from threading import Lock

from waypost.codec import bodies
from waypost.codec.bodies import Block, Extent, Part
from waypost.codec.compression import Undecodable
from waypost.errors import DocumentDamaged
from waypost.store import erasures
from waypost.store.directory.files import File
from waypost.store.values import Pieces

_PART_BYTES, _EXTENT_BYTES, _BLOCK_BYTES = 200, 280, 200  # of Python's objects, beside their content


class BlockCache:
    """Decoded entry blocks of all documents, the least recently used dropped beyond a number of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held: OrderedDict[tuple[int, int, int], tuple[dict[str, Part], int]] = OrderedDict()
        self._lock = Lock()
        self.bytes = 0

    def after_fork(self) -> None:
        """In the child: the lock may be held by a thread that is not there."""
        self._lock = Lock()

    def clear(self) -> None:
        """Forget all of it."""
        with self._lock:
            self._held.clear()
            self.bytes = 0

    def get(self, key: tuple[int, int, int]) -> dict[str, Part] | None:
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._held.move_to_end(key)
            return found[0]

    def put(self, key: tuple[int, int, int], entries: dict[str, Part], size: int) -> None:
        with self._lock:
            if key not in self._held:
                self._held[key] = entries, size
                self.bytes += size
            while self.bytes > self._limit and len(self._held) > 1:
                _, (_, dropped) = self._held.popitem(last=False)
                self.bytes -= dropped


class Blocks:
    """Reads and checks blocks of one file."""

    def __init__(self, file: File, file_id: int, cache: BlockCache, verify: bool) -> None:
        self.file = file
        self.file_id = file_id
        self._cache = cache
        self._verify = verify

    def data(self, block: Block) -> bytes:
        """The data of a block. Raises DocumentDamaged."""
        try:
            return bodies.unpack_block(block, self.file.read(block.stored, block.offset), verify=self._verify)
        except Undecodable as error:
            raise damaged(self.file, block.offset, error) from error

    def value(self, part: Part) -> bytes:
        return part if isinstance(part, bytes) else b"".join(map(self.data, _rows(part)))

    def pieces(self, part: Part) -> Pieces:
        """A part to be read block by block."""
        if isinstance(part, bytes):
            return Pieces.of(part)
        table = _rows(part)
        starts = list(accumulate((block.raw for block in table[:-1]), initial=0))

        def read(number: int) -> bytes:
            return self.data(table[number])

        return Pieces(part.length, starts, read)

    def entries(self, block: Block) -> dict[str, Part]:
        key = (self.file_id, block.offset, block.checksum)
        found = self._cache.get(key)
        if found is None:
            data = self.data(block)
            try:
                found = bodies.read_entries(data)
            except Undecodable as error:
                raise damaged(self.file, block.offset, error) from error
            self._cache.put(key, found, _memory_of(found, len(data)))
        return found


def _rows(part: Extent) -> list[Block]:
    """Where a large part stands. Raises ValueErased."""
    if bodies.is_erased(part):
        raise erasures.gone(part.length, part.digest)
    return part.table


def _memory_of(entries: dict[str, Part], stored: int) -> int:
    """About how many bytes decoded parts take: the objects often weigh more than what they hold."""
    blocks = [len(part.table) for part in entries.values() if isinstance(part, Extent)]
    return stored + _PART_BYTES * len(entries) + _EXTENT_BYTES * len(blocks) + _BLOCK_BYTES * sum(blocks)


def damaged(file: File, offset: int, error: Exception) -> DocumentDamaged:
    return DocumentDamaged(
        f"{file.name}: damaged at byte {offset}: {error} (waypost store repair keeps what is whole)",
        file=file.name,
        offset=offset,
        reason=str(error),
    )
