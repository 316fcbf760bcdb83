"""Turns: what engines did in theirs, and medians and ratios of that.

A ratio is taken in each round, between turns that lie next to each other, and the median of the rounds is given: a
machine that is slower for some seconds then slows both sides of a ratio.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

K = TypeVar("K", bound=Hashable)


def total(counts: Sequence[int | None]) -> int | None:
    """The sum; None where one was not counted."""
    counted = [each for each in counts if each is not None]
    return sum(counted) if len(counted) == len(counts) else None


@dataclass(frozen=True)
class Turn:
    """What one engine did in one turn: how long each operation took, and operations per second of each process."""

    latencies_us: list[float]
    rates: list[float]
    syncs: int | None = None
    """Those that the process made meanwhile; None where it does not say."""

    @classmethod
    def of(cls, answers: Sequence[dict[str, Any]]) -> Turn:
        """From the answers of the workers that took the turn."""
        return cls(
            [latency / 1000 for answer in answers for latency in answer["latencies_ns"]],
            [len(answer["latencies_ns"]) / answer["seconds"] for answer in answers if "seconds" in answer],
            total([answer.get("syncs") for answer in answers]),
        )


@dataclass
class Lane:
    """All turns of one engine at one thing, by rounds."""

    rounds: list[list[Turn]] = field(default_factory=list)

    @property
    def latencies_us(self) -> list[float]:
        return [latency for turns in self.rounds for turn in turns for latency in turn.latencies_us]

    @property
    def median_us(self) -> float:
        return statistics.median(self.latencies_us)

    @property
    def p99_us(self) -> float:
        """The smallest latency that 99 % stay within."""
        ordered = sorted(self.latencies_us)
        return ordered[math.ceil(0.99 * len(ordered)) - 1]

    @property
    def rate(self) -> float:
        """Operations per second of all processes together: the median of the rounds."""
        return statistics.median(self.round_rates())

    @property
    def syncs_each(self) -> float | None:
        """Syncs for each operation, of all turns together; None where they were not counted."""
        syncs = total([turn.syncs for turns in self.rounds for turn in turns])
        return None if syncs is None else syncs / len(self.latencies_us)

    @property
    def fairness(self) -> float:
        """The slowest process against the fastest: the median of the turns."""
        found = [min(turn.rates) / max(turn.rates) for turns in self.rounds for turn in turns]
        return statistics.median(found)

    @property
    def unrest(self) -> float:
        """How much the medians of neighbouring turns differ: the median over the rounds of largest / smallest."""
        found = [[statistics.median(turn.latencies_us) for turn in turns if turn.latencies_us] for turns in self.rounds]
        return statistics.median(max(medians) / min(medians) for medians in found)

    def round_medians(self) -> list[float]:
        return [statistics.median([each for turn in turns for each in turn.latencies_us]) for turns in self.rounds]

    def round_rates(self) -> list[float]:
        return [statistics.fmean(sum(turn.rates) for turn in turns) for turns in self.rounds]

    def as_json(self) -> dict[str, float]:
        found = {"median_us": self.median_us, "p99_us": self.p99_us, "operations": len(self.latencies_us)}
        if self.rounds[0][0].rates:
            found |= {"per_second": self.rate, "fairness": self.fairness}
        return {name: round(value, 3) for name, value in found.items()}


Order = list[tuple[K, Callable[[], Turn]]]
"""What has its turn when: a key, and how to let it measure."""


def take_turns(rounds: int, order: Order[K]) -> dict[K, Lane]:
    """Let engines take their turns, so many rounds. What stands in the order twice has two turns in each round."""
    lanes: dict[K, Lane] = {key: Lane() for key, _ in order}
    for _ in range(rounds):
        for lane in lanes.values():
            lane.rounds.append([])
        for key, measure in order:
            lanes[key].rounds[-1].append(measure())
    return lanes


def times_as_long(lane: Lane, other: Lane) -> float:
    """How many times as long one takes as the other."""
    return _median_ratio(lane.round_medians(), other.round_medians())


def times_the_rate(lane: Lane, other: Lane) -> float:
    """One's rate as a multiple of the other's."""
    return _median_ratio(lane.round_rates(), other.round_rates())


def growth(small: Lane, small_floor: Lane, large: Lane, large_floor: Lane) -> float:
    """How many times as long the large takes as the small, each against the floor beside it."""
    return _median_ratio(
        [of / floor for of, floor in zip(large.round_medians(), large_floor.round_medians(), strict=True)],
        [of / floor for of, floor in zip(small.round_medians(), small_floor.round_medians(), strict=True)],
    )


def _median_ratio(of: Iterable[float], to: Iterable[float]) -> float:
    return statistics.median(one / other for one, other in zip(of, to, strict=True))
