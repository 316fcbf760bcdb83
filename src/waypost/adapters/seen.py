"""Which items a row has already, told by their keys, however many pages it has."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from hashlib import blake2b
from heapq import merge

DIGEST_BYTES = 16
_PREFIX_BYTES, _MOST_NUMBERS = 6, 1 << 16


def digest_of(key: str) -> bytes:
    """What stands for the key of an item: keys are anything, lone surrogates too."""
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


class Filters:
    """What the closed pages of a row may hold: 8 bytes in memory for each key, so that nobody has to ask each page.

    They are 6 bytes of a digest and 2 of a page's number, in sorted arrays of which each has twice as many as the next:
    so neither looking for a digest nor adding those of a page costs much more for a longer row.
    """

    def __init__(self) -> None:
        self._known: tuple[bytes, int, list[array[int]]] = b"", 0, []
        """The word of a row's record, how many pages were taken in, and what they may hold."""

    def looker(self, closed: int, birth: bytes, digests_of: Callable[[int], list[bytes]]) -> Callable[[bytes], bool]:
        """Tells of digests whether one of the first so many pages has them. `birth` is another word as soon as those
        pages are others, and `digests_of` reads the digests of one.
        """
        known, taken, levels = self._known
        if known != birth or taken > closed:
            taken, levels = 0, []
        for number in range(taken, closed):
            levels = _with(levels, number, digests_of(number))
            self._known = birth, number + 1, levels
        asked: dict[int, set[bytes]] = {}

        def holds(number: int, digest: bytes) -> bool:
            if number not in asked:
                asked[number] = set(digests_of(number))
            return digest in asked[number]

        def look(digest: bytes) -> bool:
            found = (number for low in _may_hold(levels, digest) for number in range(low, closed, _MOST_NUMBERS))
            return any(holds(number, digest) for number in found)

        return look


def _with(levels: list[array[int]], number: int, digests: list[bytes]) -> list[array[int]]:
    """The arrays with those of one page more."""
    added = array("Q", [_prefix(digest) | number % _MOST_NUMBERS for digest in digests])
    kept = list(levels)
    while kept and len(kept[-1]) < 2 * len(added):
        added = array("Q", merge(kept.pop(), added))
    return [*kept, added]


def _may_hold(levels: list[array[int]], digest: bytes) -> Iterator[int]:
    """The numbers, as far as they are kept, of the pages that may hold a digest; nearly always those that do."""
    sought = _prefix(digest)
    for level in levels:
        at = bisect_left(level, sought)
        while at < len(level) and level[at] - sought < _MOST_NUMBERS:
            yield level[at] - sought
            at += 1


def _prefix(digest: bytes) -> int:
    return int.from_bytes(digest[:_PREFIX_BYTES], "big") * _MOST_NUMBERS
