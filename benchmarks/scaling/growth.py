"""Curves: what an operation costs at each size, the exponent it grows with, and whether it may.

The exponent is the slope of a line through the logarithms of sizes and costs, by least squares. Where a cost has a part
that does not grow, that line is too flat for the large sizes: the slope of the last two sizes is told as well, and what
may grow is judged by that one. What may not grow at all is judged by how many times as dear the largest size is, and
is said to grow only where it did in each round: syncs of a disk that others use differ by more than is looked for.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from waypost.bench.turns import Lane, times_as_long, times_the_rate

FLAT = 1.3
"""Up to so many times as dear is no growth, as in row 3 of the table."""
LEEWAY = 0.15
"""By how much the slope at the end may be above the exponent that is expected."""


@dataclass(frozen=True)
class Curve:
    """One operation at several sizes. `most` is the largest exponent that its cost should grow with, 0 where it should
    not grow at all; None where nothing is expected, as of rates.
    """

    dimension: str
    name: str
    kind: Literal["time", "rate"]
    lanes: Mapping[int, Lane]
    most: float | None = None

    @property
    def sizes(self) -> list[int]:
        return sorted(self.lanes)

    @property
    def figures(self) -> list[float]:
        """At each size the median, in µs or per second."""
        return [self._figure(self.lanes[size]) for size in self.sizes]

    @property
    def factors(self) -> list[float]:
        """At each size how many times the figure of the smallest."""
        first = self.lanes[self.sizes[0]]
        compare = times_as_long if self.kind == "time" else times_the_rate
        return [compare(self.lanes[size], first) for size in self.sizes]

    @property
    def slope(self) -> float | None:
        """None where there is one size only."""
        return slope(self.sizes, self.factors)

    @property
    def end(self) -> float | None:
        """The slope between the last two sizes."""
        return slope(self.sizes[-2:], self.factors[-2:])

    @property
    def words(self) -> str:
        return in_words(self.slope, self.factors[-1])

    @property
    def verdict(self) -> str:
        """Nothing where nothing is expected, or too few sizes were measured."""
        if self.most is None or self.end is None:
            return ""
        grows = self._least_factor() > FLAT and (self.most == 0 or self.end > self.most + LEEWAY)
        return "grows more than it should" if grows else "as it should"

    def as_json(self) -> dict[str, Any]:
        return {
            "dimension": self.dimension,
            "name": self.name,
            "kind": self.kind,
            "points": [
                {"size": size, "times_the_smallest": round(factor, 3), **self.lanes[size].as_json()}
                for size, factor in zip(self.sizes, self.factors, strict=True)
            ],
            "slope": None if self.slope is None else round(self.slope, 3),
            "slope_at_the_end": None if self.end is None else round(self.end, 3),
            "words": self.words,
            "most": self.most,
            "verdict": self.verdict,
        }

    def _least_factor(self) -> float:
        """How many times as dear the largest size is as the smallest in the round in which that is least."""
        first, last = (self.lanes[size].round_medians() for size in (self.sizes[0], self.sizes[-1]))
        return min(large / small for large, small in zip(last, first, strict=True))

    def _figure(self, lane: Lane) -> float:
        return lane.rate if self.kind == "rate" else lane.median_us


def slope(sizes: Sequence[int], figures: Sequence[float]) -> float | None:
    """The exponent of the power of the size that fits best; None for fewer than two sizes."""
    if len(sizes) < 2:
        return None
    fit = statistics.linear_regression([math.log(size) for size in sizes], [math.log(each) for each in figures])
    return fit.slope


def in_words(exponent: float | None, factor: float) -> str:
    """What an exponent means, where the largest size is so many times as dear as the smallest."""
    if exponent is None:
        return "one size only"
    if 1 / FLAT <= factor <= FLAT:
        return "does not grow"
    return f"{'grows' if exponent > 0 else 'falls'} as n^{exponent:.2f}"
