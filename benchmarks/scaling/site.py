"""Where growth is measured, and how much of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.bench import place_in


@dataclass(frozen=True)
class Amount:
    """How much is measured at each size: so many rounds, and in a turn so many operations in about so many seconds.
    `window` is for how many seconds processes write at once.
    """

    rounds: int = 5
    count: int = 30
    seconds: float = 1.0
    window: float = 0.25


FULL = Amount()
QUICK = Amount(rounds=3, count=10, seconds=0.3, window=0.1)


@dataclass(frozen=True)
class Site:
    """The directory of a run, how much it measures, whom it tells how far it is, and what is to be said in the end."""

    directory: str
    amount: Amount
    say: Callable[[str], None]
    notes: list[str]

    def place(self, *names: str) -> str:
        return place_in(self.directory, *names)
