"""What the rows share: how much is measured, where, and with whom."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.figures import Findings

ROWS = {
    1: "durable step update, one caller",
    2: "the same with an automatic checkpoint",
    3: "growth with the size of the state",
    4: "load",
    5: "restore from a checkpoint",
    6: "processes, a workflow each",
    7: "processes, one workflow, different steps",
    8: "asynchronous callers, one workflow",
    9: "hook, one event in a process of its own",
    10: "disk, with every version kept",
    11: "on PostgreSQL: durable step update, one caller",
    12: "the same with an automatic checkpoint",
    13: "on PostgreSQL: load",
    14: "on PostgreSQL: processes, one workflow, different steps; and a workflow each",
    15: "what it costs that operations are counted",
}


@dataclass(frozen=True)
class Scale:
    """How much is measured. Counts are those of one engine in one turn; `window` and `settling` are in seconds."""

    rounds: int = 10
    sizes: tuple[int, ...] = (10, 1_000, 10_000)
    steps: int = 1_000
    updates: int = 30
    beside: int = 300
    kept: int = 1_000
    accounted: int = 300
    loads: int = 10
    slow_loads: int = 2
    long_log: int = 20_000
    processes: int = 8
    callers: int = 64
    hooks: int = 20
    window: float = 0.25
    settling: float = 1.2

    def saves(self, steps: int) -> int:
        """How often the peer saves: fewer times where each takes long."""
        return max(2, min(self.updates, 10_000 // steps))


FULL = Scale()
QUICK = Scale(
    rounds=2,
    hooks=5,
    updates=20,
    beside=60,
    kept=100,
    accounted=100,
    loads=5,
    slow_loads=1,
    long_log=2_000,
    window=0.15,
)


@dataclass
class Bench:
    """One run: its scale, its directory, whether the peer takes part, and what was found so far."""

    scale: Scale
    rows: frozenset[int]
    directory: str
    with_peer: bool
    findings: Findings
    say: Callable[[str], None] = field(default=lambda text: None)

    def place(self, *names: str) -> str:
        """A path for one engine's files; what is above it exists."""
        return place_in(self.directory, *names)


def place_in(directory: str, *names: str) -> str:
    """A path below a directory; what is above it exists."""
    path = os.path.join(directory, *names)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path
