"""What a version says of itself, by where it stands in a file; and how two are laid beside each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from waypost.codec.bodies import Extent, Part, is_erased
from waypost.codec.frame import Standing


class Stands(ABC):
    """A version that knows its standing, and where its parts are."""

    __slots__ = ()
    standing: Standing

    @property
    def version(self) -> int:
        return self.standing.version

    @property
    def time_us(self) -> int:
        return self.standing.time_us

    @property
    def size_bytes(self) -> int:
        return self.standing.size_bytes

    @property
    def checksum(self) -> bytes:
        return self.standing.checksum

    @property
    def commit_id(self) -> bytes:
        return self.standing.commit_id

    @abstractmethod
    def located(self, key: str) -> tuple[Part | None, Any]:
        """The part as it is kept, and who reads its blocks."""

    def erased(self, key: str) -> bytes | None:
        part = self.located(key)[0]
        return part.digest if isinstance(part, Extent) and is_erased(part) else None


def in_order(many: Iterable[str], few: Sequence[str]) -> Iterator[str]:
    """Keys of both, each given sorted, of which the second are few."""
    found = 0
    for key in many:
        while found < len(few) and few[found] < key:
            yield few[found]
            found += 1
        yield key
    yield from few[found:]


def is_surely_same(one: Part | None, other: Part | None) -> bool:
    """Whether two parts of one key, which may stand in different files, are the same, as far as that can be told
    without reading them. Nothing is the same as what was erased.
    """
    if isinstance(one, Extent) and isinstance(other, Extent):
        return one[:2] == other[:2] and not is_erased(one) and not is_erased(other)
    return one == other
