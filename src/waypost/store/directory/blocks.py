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

HOW_TO_MEND = "waypost store repair keeps what is whole"
_PART_BYTES, _EXTENT_BYTES, _BLOCK_BYTES = 200, 280, 200  # of Python's objects, beside their content


class Held:
    """A decoded entry block in the cache, for whoever found it there to find it again without asking.

    `entries` never change, and are None once they were dropped: who remembers this holds nothing that the cache does
    not hold. So one who reads them looks once.
    """

    __slots__ = ("entries", "size", "used")

    def __init__(self, entries: dict[str, Part], size: int) -> None:
        self.entries: dict[str, Part] | None = entries
        self.size = size
        self.used = False
        """Whether it was asked for since it was last about to be dropped."""

    def drop(self) -> int:
        """Let go of the entries; the bytes that are free now."""
        self.entries = None
        return self.size


class BlockCache:
    """Decoded entry blocks of all documents. Beyond a number of bytes the oldest are dropped, but for those that were
    used since their turn last came.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held: OrderedDict[tuple[int, int, int], Held] = OrderedDict()
        self._lock = Lock()
        self.bytes = 0

    def after_fork(self) -> None:
        """In the child: the lock may be held by a thread that is not there."""
        self._lock = Lock()

    def clear(self) -> None:
        """Forget all of it."""
        with self._lock:
            for held in self._held.values():
                held.drop()
            self._held.clear()
            self.bytes = 0

    def get(self, key: tuple[int, int, int]) -> Held | None:
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                found.used = True
            return found

    def put(self, key: tuple[int, int, int], entries: dict[str, Part], size: int) -> Held:
        with self._lock:
            made = self._held.get(key)
            if made is None:
                made = self._held[key] = Held(entries, size)
                self.bytes += size
            chances = len(self._held)  # it ends, however many are used meanwhile
            while self.bytes > self._limit and len(self._held) > 1:
                oldest = next(iter(self._held))
                held = self._held[oldest]
                if held is made or (held.used and chances > 0):
                    held.used = False
                    self._held.move_to_end(oldest)  # not taken out and put in, which may fail and would lose its count
                    chances -= 1
                else:
                    del self._held[oldest]
                    self.bytes -= held.drop()
            return made


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

    def entries(self, block: Block) -> tuple[dict[str, Part], Held]:
        """The parts in an entry block, and where the cache holds them."""
        key = (self.file_id, block.offset, block.checksum)
        held = self._cache.get(key)
        found = None if held is None else held.entries
        if held is None or found is None:
            data = self.data(block)
            try:
                found = bodies.read_entries(data)
            except Undecodable as error:
                raise damaged(self.file, block.offset, error) from error
            held = self._cache.put(key, found, _memory_of(found, len(data)))
        return found, held


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
        f"{file.name}: damaged at byte {offset}: {error} ({HOW_TO_MEND})",
        file=file.name,
        offset=offset,
        reason=str(error),
    )
