"""Figures: what engines did in their turns, medians and ratios of that, and goals.

A ratio is taken in each round, between turns that lie next to each other, and the median of the rounds is given: a
machine that is slower for some seconds then slows both sides of a ratio.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Turn:
    """What one engine did in one turn: how long each operation took, and operations per second of each process."""

    latencies_us: list[float]
    rates: list[float]

    @classmethod
    def of(cls, answers: Sequence[dict[str, Any]]) -> Turn:
        """From the answers of the workers that took the turn."""
        return cls(
            [latency / 1000 for answer in answers for latency in answer["latencies_ns"]],
            [len(answer["latencies_ns"]) / answer["seconds"] for answer in answers if "seconds" in answer],
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


# --- what is reported ---


@dataclass(frozen=True)
class Measure:
    """One line of the main table: the same work by each engine."""

    row: int
    name: str
    kind: Literal["time", "rate"]
    ours: Lane
    floor: Lane | None
    peer: Lane | None
    dbos: Lane | None = None
    """DBOS takes part where there is a server."""

    @property
    def to_floor(self) -> float | None:
        """Times as long as the floor, or the floor's rate as a multiple."""
        return None if self.floor is None else self._compare(self.ours, self.floor)

    @property
    def over_peer(self) -> float | None:
        """How many times as fast as the peer."""
        return self._over(self.peer)

    @property
    def over_dbos(self) -> float | None:
        return self._over(self.dbos)

    def _over(self, other: Lane | None) -> float | None:
        if other is None:
            return None
        return times_as_long(other, self.ours) if self.kind == "time" else times_the_rate(self.ours, other)

    def _compare(self, lane: Lane, other: Lane) -> float:
        return times_as_long(lane, other) if self.kind == "time" else times_the_rate(lane, other)

    def as_json(self) -> dict[str, Any]:
        lanes = {"waypost": self.ours, "floor": self.floor, "peer": self.peer, "dbos": self.dbos}
        return {
            "row": self.row,
            "name": self.name,
            "kind": self.kind,
            **{name: None if lane is None else lane.as_json() for name, lane in lanes.items()},
            "to_floor": _rounded(self.to_floor),
            "over_peer": _rounded(self.over_peer),
            "over_dbos": _rounded(self.over_dbos),
        }


@dataclass(frozen=True)
class Goal:
    """A goal, and what was reached; None where nothing could be measured."""

    row: int
    name: str
    sense: Literal["at most", "at least"]
    limit: float
    unit: str
    reached: float | None

    @property
    def is_met(self) -> bool | None:
        if self.reached is None:
            return None
        return self.reached <= self.limit if self.sense == "at most" else self.reached >= self.limit

    @property
    def verdict(self) -> str:
        return {True: "met", False: "not met", None: "not measured"}[self.is_met]

    def as_json(self) -> dict[str, Any]:
        return {
            "row": self.row,
            "name": self.name,
            "goal": f"{self.sense} {self.limit:g}{self.unit}",
            "limit": self.limit,
            "reached": _rounded(self.reached),
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Cost:
    """What one update costs, at one size of state. None where it could not be counted."""

    steps: int
    frame_bytes: float
    bytes: float | None
    syncs: float
    peer_bytes: float | None
    peer_syncs: float | None
    counted_by: str

    def as_json(self) -> dict[str, Any]:
        return {name: _rounded(value) if isinstance(value, float) else value for name, value in vars(self).items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


@dataclass
class Findings:
    """All that a run has found."""

    header: dict[str, str]
    measures: list[Measure] = field(default_factory=list)
    served: list[Measure] = field(default_factory=list)
    """Those of the store on a server, whose floor and peer are others."""
    goals: list[Goal] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "header": self.header,
            "measures": [measure.as_json() for measure in [*self.measures, *self.served]],
            "goals": [goal.as_json() for goal in self.goals],
            "costs": [cost.as_json() for cost in self.costs],
            "notes": self.notes,
        }
