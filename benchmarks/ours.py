"""Waypost as a user has it (waypost.bench.engine), and what only the benchmarks ask of it.

That is what updates cost in all, what files take, what was lost, long logs, and many callers in one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import waypost
from benchmarks.machine import bytes_handed_over, bytes_on_medium, disk_writes
from waypost.bench import engine, states
from waypost.bench.engine import PRESET, Work
from waypost.instruments import Instruments

UPKEEP = 0.1
"""Seconds in which the store's own thread finishes what it has begun."""

TASKS = 32
"""Tasks that make a long log."""


class Engine(engine.Engine):
    """One handle, the steps of one workflow that this process may update, and tasks that do."""

    def __init__(self) -> None:
        super().__init__()
        self._callers: Callers | None = None

    def update_in_pairs(self, count: int) -> dict[str, dict[str, list[int]]]:
        """Pairs of durable step updates: one is counted by the handle's instruments, and one is not. Their times, and
        those in which this thread was at work.
        """
        handle = self._open()
        observer = handle.definitions.observer
        instruments = observer.instruments
        found = {name: {"latencies_ns": list[int](), "cpu_ns": list[int]()} for name in ("counted", "uncounted")}
        for number in range(2 * count):
            name = "counted" if number % 4 in (0, 3) else "uncounted"
            (step_id,) = self._choose(1)
            self._reset([step_id])
            output = next(self._outputs)
            observer.instruments = instruments if name == "counted" else None
            started, busy = time.perf_counter_ns(), time.thread_time_ns()
            result = handle.update_step_status(self._workflow, step_id, "completed", output)
            found[name]["cpu_ns"].append(time.thread_time_ns() - busy)
            found[name]["latencies_ns"].append(time.perf_counter_ns() - started)
            result.unwrap()
        observer.instruments = instruments
        return found

    def count_operations(self, count: int) -> float:
        """How many ns it takes to count an operation: queued, and sorted into its slice with the others."""
        instruments = Instruments()
        counters = self._open().load_workflow_state(self._workflow).counters
        started = time.perf_counter_ns()
        for number in range(count):
            instruments.note(("update_step_status", True, started, 200_000 + number, counters, None))
        return (time.perf_counter_ns() - started) / count

    def account(self, count: int, dry: bool = False) -> dict[str, float | None]:
        """What updates cost: bytes of their frames, bytes handed to the system in all, syncs as they are reported, and
        writes of the disk, None where these are not told.

        In all means with what the store writes beside them, such as snapshots and zeros ahead of the log's end; only
        the frames of the resets are taken off. With `dry` all is done but the updates.
        """
        before = bytes_handed_over()
        done = frames = resets = syncs = 0
        written: list[int | None] = []
        while done < count:
            chosen = self._choose(count - done)
            resets += self._reset(chosen)
            done += len(chosen)
            already = disk_writes(self._path)
            for step_id in () if dry else chosen:
                result = self._open().update_step_status(self._workflow, step_id, "completed", next(self._outputs))
                result.unwrap()
                frames += result.performance.bytes_written
                syncs += result.performance.syncs
            now = disk_writes(self._path)
            written.append(None if already is None or now is None else now - already)
        time.sleep(UPKEEP)
        return {
            "frame_bytes": frames,
            "bytes": bytes_handed_over() - before - resets,
            "syncs": syncs,
            "disk_writes": None if None in written else sum(filter(None, written)),
        }

    def settle(self, seconds: float) -> None:
        """Leave time for what the store does later, so that it falls into nobody else's turn."""
        time.sleep(seconds)

    def occupy(self) -> dict[str, int]:
        """What the closed store takes on the medium, and how many versions of the workflow it still holds."""
        self.close()
        taken = bytes_on_medium(self._path)
        handle = self._open()
        versions = handle.load_workflow_state(self._workflow).unwrap().metadata.version
        handle.diff(
            f"{self._workflow}@1", f"{self._workflow}@{versions}"
        )  # fails where history does not go so far back
        self.close()
        return {"bytes": taken, "versions": versions}

    def audit(self) -> dict[str, Any]:
        """What is stored in the end, read by a newly opened handle, and what this process was told is stored."""
        self.close()
        state = self._open().load_workflow_state(self._workflow).unwrap()
        versions = {step_id: state.step(step_id).output_version for step_id in self._acknowledged}
        return {
            "version": state.metadata.version,
            "commits": self._commits,
            "missing": sum(max(0, told - versions[step_id]) for step_id, told in self._acknowledged.items()),
        }

    # --- many callers in one event loop ---

    def start_callers(self, steps: int, callers: int) -> None:
        self.close()  # one handle, as a program of that kind has
        shares = [states.own_steps(steps, share, callers) for share in range(callers)]
        self._callers = Callers(self._path, [self._rounds(share) for share in shares])

    def rate_of_callers(self, seconds: float) -> dict[str, Any]:
        assert self._callers is not None
        return self._callers.rate(seconds)

    def lengthen(self, workflow: str, steps: int, commits: int) -> int:
        """Commit so often that the log grows while the state does not: outputs stay as they are."""
        self.close()
        self._workflow = workflow
        shares = [states.own_steps(steps, share, TASKS) for share in range(TASKS)]
        callers = Callers(self._path, [self._rounds(share, with_output=False) for share in shares if share])
        done = callers.commit(commits)
        callers.close()
        return done

    def close(self) -> None:
        if self._callers is not None:
            self._callers.close()
            self._callers = None
        super().close()


class Callers:
    """Tasks on one asynchronous handle, each going round its own steps."""

    def __init__(self, path: str, work: list[Iterator[Work]]) -> None:
        self._runner = asyncio.Runner()
        self._work = work
        self._handle = self._runner.run(self._opened(path))

    async def _opened(self, path: str) -> waypost.AsyncWaypost:
        return await waypost.open_async(path, preset=PRESET)

    def rate(self, seconds: float) -> dict[str, Any]:
        """Commits of all callers together, for so long."""
        began = time.monotonic()
        found = self._runner.run(self._all(began + seconds, None))
        return {"latencies_ns": found, "seconds": time.monotonic() - began}

    def commit(self, commits: int) -> int:
        each = -(-commits // len(self._work))
        return len(self._runner.run(self._all(None, each)))

    async def _all(self, until: float | None, each: int | None) -> list[int]:
        found = await asyncio.gather(*(self._one(work, until, each) for work in self._work))
        return [latency for of_one in found for latency in of_one]

    async def _one(self, work: Iterator[Work], until: float | None, each: int | None) -> list[int]:
        latencies: list[int] = []
        while not latencies or (
            (until is None or time.monotonic() < until) and (each is None or len(latencies) < each)
        ):
            operation, arguments = next(work)
            started = time.perf_counter_ns()
            result = await getattr(self._handle, operation)(*arguments)
            latencies.append(time.perf_counter_ns() - started)
            result.unwrap()
        return latencies

    def close(self) -> None:
        self._runner.run(self._handle.close())
        self._runner.close()
