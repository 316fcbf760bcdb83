"""Goals: what is to be reached, and whether it was. Rows are those of `python -m benchmarks`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

STEPS = 1_000
"""How many steps the workflow has that most goals are about."""
AT_MOST_OF_FLOOR = {STEPS: 1.35}
"""How many times as long as the floor an update may take, by the number of steps of the workflow."""
AT_MOST_OF_ALONE = 1.1
"""How many times as long as an update alone one with an automatic checkpoint may take."""


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
            "reached": None if self.reached is None else round(self.reached, 3),
            "verdict": self.verdict,
        }
