"""Which pages a thread has, and what ids each may hold.

Invariants:

* A checkpoint that is put goes into the page that its id *belongs to*: the one with the highest lowest id that is not
  behind it. That is the same for every writer.
* In a thread that one store wrote, a page ends where the next one begins. Where a thread went on apart in two stores
  that were synced since, two pages may follow the same one, and a page may hold ids that belong to later pages: it
  *overlaps* these. Whoever looks for something looks into all pages that may hold it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """A page: the lowest id that belongs into it, its number, and that of the one behind which it was begun."""

    low: str
    number: int
    after: int = 0
    end: str | None = None
    """All ids in it are below that one; None where nothing says so."""
    is_last: bool = True
    """Whether no page was begun behind it."""
    overlaps: bool = False
    """Whether it may hold ids that belong to later pages."""


FIRST = Row("", 0)


def behind(checkpoint_id: str) -> str:
    """The lowest text that sorts behind an id."""
    return f"{checkpoint_id}\0"


class Layout:
    """The pages of a thread, from the lowest ids on. `stamp` is the version of the head that says so."""

    def __init__(self, stamp: bytes, listed: Iterable[Row], reaches: Mapping[int, str]) -> None:
        """`reaches` are the highest ids in pages which may hold higher ones than those behind them begin with."""
        self.stamp = stamp
        found = [FIRST, *sorted(listed)]
        ends: dict[int, str] = {}
        for row in found[1:]:
            ends[row.after] = max(ends.get(row.after, ""), row.low)
        for number, reach in reaches.items():
            if number in ends:
                ends[number] = max(ends[number], behind(reach))
        self.rows = tuple(
            Row(*row[:3], end, end is None, following is not None and (end is None or following.low < end))
            for row, following in zip(found, [*found[1:], None], strict=True)
            for end in [ends.get(row.number)]
        )
        self._lows = [row.low for row in self.rows]
        self.highest_first = sorted(self.rows, key=lambda row: (row.end is None, row.end or "", row.low), reverse=True)
        """The pages, those first that may hold the highest ids."""
        self.overlapping = tuple(row for row in self.rows if row.overlaps)
        self.last = tuple(row for row in self.rows if row.is_last)
        """The pages behind which none was begun: one, and one more for each line that went on apart."""

    def __len__(self) -> int:
        return len(self.rows)

    def belongs(self, checkpoint_id: str) -> Row:
        """The page that an id belongs to."""
        return self.rows[max(0, bisect_right(self._lows, checkpoint_id) - 1)]

    def others(self, checkpoint_id: str) -> list[Row]:
        """The pages that may hold an id though it belongs to another one, the latest first."""
        belongs = self.belongs(checkpoint_id).number
        return [
            row
            for row in reversed(self.overlapping)
            if row.number != belongs and row.low <= checkpoint_id and (row.end is None or checkpoint_id < row.end)
        ]

    def is_ahead(self, row: Row) -> bool:
        """Whether no other page may hold an id that is higher than those of a page."""
        return row.number == self.rows[-1].number and all(
            each.end is not None and each.end <= row.low for each in self.overlapping
        )

    def untold(self) -> set[int]:
        """The pages of which the head may not say yet which namespaces they hold: their own word counts."""
        return {
            *(number for row in self.last for number in (row.number, row.after)),
            *(row.number for row in self.overlapping),
            0,
        }
