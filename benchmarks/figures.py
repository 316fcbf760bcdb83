"""Figures as they are reported: measures, goals, costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from waypost.bench.goals import Goal
from waypost.bench.turns import Lane, times_as_long, times_the_rate


@dataclass(frozen=True)
class Measure:
    """One line of the main table: the same work by each engine."""

    row: int
    name: str
    kind: Literal["time", "rate"]
    ours: Lane
    floor: Lane | None
    peer: Lane | None
    others: Mapping[str, Lane] = field(default_factory=dict[str, Lane])
    """Further peers, by name, where they take part."""

    @property
    def to_floor(self) -> float | None:
        """Times as long as the floor, or the floor's rate as a multiple."""
        return None if self.floor is None else self._compare(self.ours, self.floor)

    @property
    def over_peer(self) -> float | None:
        """How many times as fast as the peer."""
        return self._over(self.peer)

    @property
    def over_others(self) -> dict[str, float | None]:
        """The same of the further peers, by name."""
        return {name: self._over(lane) for name, lane in self.others.items()}

    def _over(self, other: Lane | None) -> float | None:
        if other is None:
            return None
        return times_as_long(other, self.ours) if self.kind == "time" else times_the_rate(self.ours, other)

    def _compare(self, lane: Lane, other: Lane) -> float:
        return times_as_long(lane, other) if self.kind == "time" else times_the_rate(lane, other)

    def as_json(self) -> dict[str, Any]:
        lanes = {"waypost": self.ours, "floor": self.floor, "peer": self.peer}
        return {
            "row": self.row,
            "name": self.name,
            "kind": self.kind,
            **{name: None if lane is None else lane.as_json() for name, lane in lanes.items()},
            "to_floor": _rounded(self.to_floor),
            "over_peer": _rounded(self.over_peer),
            "others": {
                name: {**lane.as_json(), "over": _rounded(self.over_others[name])} for name, lane in self.others.items()
            },
        }


@dataclass(frozen=True)
class Cost:
    """What one update costs, at one size of state. None where it could not be counted."""

    steps: int
    frame_bytes: float
    bytes: float | None
    syncs: float
    disk_writes: float | None
    """Of all processes meanwhile: those of the journal are among them."""
    peer_bytes: float | None
    peer_syncs: float | None
    counted_by: str

    def as_json(self) -> dict[str, Any]:
        return {name: _rounded(value) if isinstance(value, float) else value for name, value in vars(self).items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


@dataclass(frozen=True)
class Syncs:
    """How often an engine syncs for one update, as the kernel counts it, and how it says that it is set."""

    engine: str
    durability: str
    each: float

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "each": _rounded(self.each)}


@dataclass
class Findings:
    """All that a run has found."""

    header: dict[str, str]
    measures: list[Measure] = field(default_factory=list)
    served: list[Measure] = field(default_factory=list)
    """Those of the store on a server, whose floor and peer are others."""
    goals: list[Goal] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    syncs: list[Syncs] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "header": self.header,
            "measures": [measure.as_json() for measure in [*self.measures, *self.served]],
            "goals": [goal.as_json() for goal in self.goals],
            "costs": [cost.as_json() for cost in self.costs],
            "syncs": [each.as_json() for each in self.syncs],
            "notes": self.notes,
        }
