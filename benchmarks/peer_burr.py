"""Apache Burr's SQLitePersister as its documentation opens it, with its own settings for durability.

A save is a real `save` of a state that holds all steps, after one of them has changed; only `save` is timed. What an
application of Burr does around it is left out, which is in its favour.
"""

from __future__ import annotations

from itertools import cycle
from typing import Any

from burr.core.persistence import SQLitePersister
from burr.core.state import State

from benchmarks.machine import bytes_handed_over, sqlite_durability
from waypost.bench import states, timing

APP = "measured"


class Engine:
    """One persister, and the newest state of one application."""

    def __init__(self) -> None:
        self._path = ""
        self._persister: Any = None
        self._outputs = states.outputs()
        self._turn = cycle([""])
        self._steps: dict[str, Any] = {}
        self._number = 0

    def open(self, path: str) -> str:
        """Open the database and say how durable it is."""
        self._path = path
        return f"{sqlite_durability(self._open().connection)}, its own settings"

    def use(self, steps: int) -> None:
        self._turn = cycle(states.own_steps(steps))

    def create(self, steps: int) -> None:
        self._steps = {step["id"]: step for step in states.make_steps(steps)}
        self._save()

    def update(self, count: int) -> dict[str, Any]:
        """Durable saves, one after the other."""
        return timing.repeat(count, self._once)

    def account(self, count: int, dry: bool = False) -> dict[str, float]:
        """What saves cost: bytes handed to the system. With `dry` nothing is saved."""
        before = bytes_handed_over()
        self.update(0 if dry else count)
        return {"bytes": bytes_handed_over() - before}

    def load(self, whole: bool, cold: bool, count: int) -> dict[str, Any]:
        """`load` and touch one step; it decodes everything, so the whole state is there then anyway."""
        del whole
        latencies: list[int] = []
        for _ in range(count):
            if cold:
                self.close()
            latencies.append(timing.lasting(self._load))
        return {"latencies_ns": latencies}

    def close(self) -> None:
        if self._persister is not None:
            self._persister.connection.close()
            self._persister = None

    def _open(self) -> Any:
        if self._persister is None:
            self._persister = SQLitePersister(self._path)
            self._persister.initialize()
        return self._persister

    def _once(self) -> int:
        self._steps[next(self._turn)]["output"] = next(self._outputs)
        return timing.lasting(self._save)

    def _save(self) -> None:
        self._number += 1
        state = State({"name": "A measured workflow", "steps": self._steps})
        self._open().save(None, APP, self._number, "update", state, "completed")

    def _load(self) -> None:
        found = self._open().load(None, APP)
        if found["state"]["steps"][states.step_id(5)]["output"] is None:
            raise AssertionError("a step has lost its output")
