"""LangGraph's SqliteSaver as its documentation opens it, with its own settings for durability.

A save is a real `put` of a checkpoint whose channel values hold the whole state, after one step of it has changed; only
`put` is timed. What LangGraph itself does around it is left out, which is in its favour.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from benchmarks.machine import bytes_handed_over, bytes_on_medium, sqlite_durability
from waypost.bench import states, timing

THREAD = "measured"


class Engine:
    """One connection, and the newest checkpoint of one thread."""

    def __init__(self) -> None:
        self._path = ""
        self._stack = ExitStack()
        self._saver: Any = None
        self._outputs = states.outputs()
        self._own: list[str] = []
        self._turn: Iterator[str] = iter(())
        self._checkpoint: dict[str, Any] = {}
        self._config: dict[str, Any] = _config()
        self._number = 0
        self._increments = 0

    def open(self, path: str) -> str:
        """Open the database and say how durable it is."""
        self._path = path
        return sqlite_durability(self._open().conn)

    def create(self, steps: int) -> int:
        """Save the first checkpoint; its bytes."""
        values = {"name": "A measured workflow", "steps": {step["id"]: step for step in states.make_steps(steps)}}
        self._checkpoint = {**empty_checkpoint(), "channel_values": values}
        self._put()
        return len(self._open().serde.dumps_typed(self._checkpoint)[1])

    def use(self, steps: int, share: int = 0, shares: int = 1) -> None:
        self._own = states.own_steps(steps, share, shares)
        self._turn = _round_and_round(self._own)

    # --- measuring ---

    def update(self, count: int) -> dict[str, Any]:
        """Durable saves, one after the other."""
        return timing.repeat(count, self._save)

    def account(self, count: int, dry: bool = False) -> dict[str, float]:
        """What saves cost: bytes handed to the system. With `dry` nothing is saved."""
        before = bytes_handed_over()
        self.update(0 if dry else count)
        return {"bytes": bytes_handed_over() - before}

    def rate(self, start: float, seconds: float) -> dict[str, Any]:
        """Saves from a moment of the monotonic clock on, for so long."""
        return timing.within(start, seconds, self._save)

    def rate_on_shared(self, start: float, seconds: float) -> dict[str, Any]:
        """As `rate`, where others save to the same thread: read the newest state, change a step of it, save it."""
        return timing.within(start, seconds, self._read_change_save)

    def load(self, whole: bool, cold: bool, count: int) -> dict[str, Any]:
        """`get_tuple` and touch one step; it decodes everything, so the whole state is there then anyway."""
        latencies: list[int] = []
        if cold:
            self.close()
        else:
            self._load()
        for _ in range(count):
            started = time.perf_counter_ns()
            self._load()
            latencies.append(time.perf_counter_ns() - started)
            if cold:
                self.close()
        return {"latencies_ns": latencies}

    def restore(self, cold: bool, count: int, after: int) -> dict[str, Any]:
        """Get the checkpoint of some saves ago and put it as the newest one; cold with a newly opened database."""
        latencies: list[int] = []
        for _ in range(count):
            self.update(1)
            wanted = self._config
            self.update(after)
            if cold:
                self.close()
            started = time.perf_counter_ns()
            self._checkpoint = self._open().get_tuple(wanted).checkpoint
            self._put()
            latencies.append(time.perf_counter_ns() - started)
        return {"latencies_ns": latencies}

    def occupy(self) -> dict[str, int]:
        """What the closed database takes on the medium, and how many checkpoints are in it."""
        versions = sum(1 for _ in self._open().conn.execute("SELECT checkpoint_id FROM checkpoints"))
        self.close()
        return {"bytes": bytes_on_medium(os.path.dirname(self._path)), "versions": versions}

    def audit(self) -> dict[str, int]:
        """The increments that this process was told are saved, and those of everybody that are."""
        steps = self._open().get_tuple(_config()).checkpoint["channel_values"]["steps"]
        return {"told": self._increments, "found": sum(step.get("increments", 0) for step in steps.values())}

    # --- many callers in one event loop ---

    def rate_of_callers(self, callers: int, seconds: float) -> dict[str, Any]:
        """Saves of tasks on one AsyncSqliteSaver, the package's own for asynchronous callers."""
        self.close()
        return asyncio.run(self._rate_of_callers(callers, seconds))

    async def _rate_of_callers(self, callers: int, seconds: float) -> dict[str, Any]:
        async with AsyncExitStack() as stack:
            saver = await stack.enter_async_context(AsyncSqliteSaver.from_conn_string(self._path))
            began = time.monotonic()
            found = await asyncio.gather(*(self._call(saver, began + seconds) for _ in range(callers)))
            elapsed = time.monotonic() - began
        return {"latencies_ns": [latency for of_one in found for latency in of_one], "seconds": elapsed}

    async def _call(self, saver: Any, until: float) -> list[int]:
        latencies: list[int] = []
        while not latencies or time.monotonic() < until:
            self._change()
            arguments = self._arguments(saver)
            started = time.perf_counter_ns()
            self._config = await saver.aput(*arguments)
            latencies.append(time.perf_counter_ns() - started)
        return latencies

    def close(self) -> None:
        self._stack.close()
        self._saver = None

    # --- inside ---

    def _open(self) -> Any:
        if self._saver is None:
            self._saver = self._stack.enter_context(SqliteSaver.from_conn_string(self._path))
            self._saver.setup()
        return self._saver

    def _load(self) -> None:
        found = self._open().get_tuple(_config())
        if found.checkpoint["channel_values"]["steps"][states.step_id(5)]["output"] is None:
            raise AssertionError("a step has lost its output")

    def _save(self) -> int:
        self._change()
        return timing.lasting(self._put)

    def _read_change_save(self) -> int:
        started = time.perf_counter_ns()
        found = self._open().get_tuple(_config())
        self._checkpoint, self._config = found.checkpoint, found.config
        step = self._checkpoint["channel_values"]["steps"][next(self._turn)]
        step["output"], step["increments"] = next(self._outputs), step.get("increments", 0) + 1
        self._put()
        self._increments += 1
        return time.perf_counter_ns() - started

    def _change(self) -> None:
        """Change one step of the state, and make the checkpoint a new one."""
        self._checkpoint["channel_values"]["steps"][next(self._turn)]["output"] = next(self._outputs)

    def _put(self) -> None:
        saver = self._open()
        self._config = saver.put(*self._arguments(saver))

    def _arguments(self, saver: Any) -> tuple[Any, ...]:
        self._number += 1
        version = saver.get_next_version(self._checkpoint["channel_versions"].get("steps"), None)
        self._checkpoint = {
            **self._checkpoint,
            "id": str(uuid6(clock_seq=self._number)),
            "channel_versions": {"name": version, "steps": version},
        }
        return (
            self._config,
            self._checkpoint,
            {"source": "loop", "step": self._number, "parents": {}},
            {"steps": version},
        )


def _config() -> dict[str, Any]:
    return {"configurable": {"thread_id": THREAD, "checkpoint_ns": ""}}


def _round_and_round(ids: list[str]) -> Iterator[str]:
    while True:
        yield from ids
