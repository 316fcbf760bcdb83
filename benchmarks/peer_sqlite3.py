"""What one would write by hand: sqlite3 with a row for each step as JSON, in WAL mode with synchronous=FULL.

There is nothing around it: no history, no checkpoints, no checksums, nobody told of a change, no rules between steps.
"""

from __future__ import annotations

import json
import sqlite3
from itertools import cycle
from typing import Any

from benchmarks.machine import bytes_handed_over, sqlite_durability
from waypost.bench import states, timing


class Engine:
    """One connection, and the steps of one workflow in one table."""

    def __init__(self) -> None:
        self._path = ""
        self._connection: sqlite3.Connection | None = None
        self._outputs = states.outputs()
        self._turn = cycle([""])
        self._steps: dict[str, Any] = {}

    def open(self, path: str) -> str:
        """Open the database and say how durable it is."""
        self._path = path
        return f"{sqlite_durability(self._open())}, set so"

    def use(self, steps: int) -> None:
        self._turn = cycle(states.own_steps(steps))

    def create(self, steps: int) -> None:
        self._steps = {step["id"]: step for step in states.make_steps(steps)}
        rows = [(step_id, json.dumps(step)) for step_id, step in self._steps.items()]
        with self._open() as connection:
            connection.execute("CREATE TABLE steps (id TEXT PRIMARY KEY, step TEXT NOT NULL)")
            connection.executemany("INSERT INTO steps VALUES (?, ?)", rows)

    def update(self, count: int) -> dict[str, Any]:
        """Durable updates of a row, one after the other."""
        return timing.repeat(count, self._once)

    def account(self, count: int, dry: bool = False) -> dict[str, float]:
        """What updates cost: bytes handed to the system. With `dry` nothing is updated."""
        before = bytes_handed_over()
        self.update(0 if dry else count)
        return {"bytes": bytes_handed_over() - before}

    def load(self, whole: bool, cold: bool, count: int) -> dict[str, Any]:
        """Read and decode one row, or every row."""
        latencies: list[int] = []
        for _ in range(count):
            if cold:
                self.close()
            latencies.append(timing.lasting(self._read_all if whole else self._read_one))
        return {"latencies_ns": latencies}

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(self._path)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
        return self._connection

    def _once(self) -> int:
        step = self._steps[next(self._turn)]
        step["output"] = next(self._outputs)
        return timing.lasting(lambda: self._write(step))

    def _write(self, step: dict[str, Any]) -> None:
        with self._open() as connection:
            connection.execute("UPDATE steps SET step = ? WHERE id = ?", (json.dumps(step), step["id"]))

    def _read_one(self) -> None:
        row = self._open().execute("SELECT step FROM steps WHERE id = ?", (states.step_id(5),)).fetchone()
        _check([row])

    def _read_all(self) -> None:
        _check(self._open().execute("SELECT step FROM steps").fetchall())


def _check(rows: list[tuple[str]]) -> None:
    if any(json.loads(step)["output"] is None for (step,) in rows) or not rows:
        raise AssertionError("a step has lost its output")
