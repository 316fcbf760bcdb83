"""Waypost as a user has it: `waypost.open`, the production preset, public operations only.

An *update* is `update_step_status(..., "completed", output)`; the step is reset before, outside the time that is
measured. Where rates are measured, callers go round and round their own steps: reset, running, completed with an
output, and each of the three counts as the commit that it is. Completing a step makes a checkpoint, which rides in the
commit, unless the options that the store is opened with say otherwise.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

import waypost
from benchmarks import states, timing
from benchmarks.machine import bytes_handed_over, bytes_on_medium
from waypost.instruments import Instruments

PRESET = "production"
ALONE: dict[str, Any] = {"checkpoints": {"post_step": False}}
"""Options with which completing a step makes no checkpoint."""
UPKEEP = 0.1
"""Seconds in which the store's own thread finishes what it has begun."""

Work = tuple[str, tuple[Any, ...]]
"""The name of an operation, and its arguments."""

TASKS = 32
"""Tasks that make a long log."""


class Engine:
    """One handle, and the steps of one workflow that this process may update."""

    def __init__(self) -> None:
        self._outputs = states.outputs()
        self._path = self._workflow = ""
        self._options: dict[str, Any] = {}
        self._handle: waypost.Waypost | None = None
        self._own: list[str] = []
        self._next = 0
        self._work: Iterator[Work] = iter(())
        self._acknowledged: dict[str, int] = {}
        self._commits = 0
        self._callers: Callers | None = None

    # --- preparing ---

    def open(self, path: str, alone: bool = False) -> str:
        """Open the store and say its durability; `alone` is without the checkpoints that completed steps make."""
        self._path, self._options = path, ALONE if alone else {}
        return self._open().durability

    def create(self, workflow: str, steps: int) -> int:
        """Make a workflow of completed steps; the bytes of its one commit."""
        given = [_as_step(step) for step in states.make_steps(steps)]
        state = waypost.WorkflowState(workflow=waypost.Workflow(workflow, "A measured workflow", given))
        saved = self._open().save_workflow_state(state)
        saved.unwrap()
        return saved.performance.bytes_written

    def use(self, workflow: str, steps: int, share: int = 0, shares: int = 1) -> None:
        """Choose what to update: all steps of a workflow, or one caller's share."""
        self._workflow = workflow
        self._own = states.own_steps(steps, share, shares)
        self._next = 0
        self._work = self._rounds(self._own)

    def calibrate(self, count: int) -> dict[str, float]:
        """Do some work; the length of the frames of updates, and of all commits."""
        updates: list[int] = []
        every: list[int] = []
        for _ in range(3 * count):
            operation, arguments = next(self._work)
            written = self._do(operation, arguments).performance.bytes_written
            every.append(written)
            if arguments[2:3] == ("completed",):
                updates.append(written)
        return {"update": statistics.median(updates), "mean": statistics.fmean(every)}

    # --- measuring ---

    def update(self, count: int) -> dict[str, Any]:
        """Durable step updates, one after the other."""
        latencies: list[int] = []
        update = self._open().update_step_status
        while count > 0:
            chosen = self._choose(count)
            self._reset(chosen)
            for step_id, output in [(step_id, next(self._outputs)) for step_id in chosen]:
                started = time.perf_counter_ns()
                result = update(self._workflow, step_id, "completed", output)
                latencies.append(time.perf_counter_ns() - started)
                result.unwrap()
            count -= len(chosen)
        return {"latencies_ns": latencies}

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

    def account(self, count: int, dry: bool = False) -> dict[str, float]:
        """What updates cost: bytes of their frames, bytes handed to the system in all, and syncs as they are reported.

        In all means with what the store writes beside them, such as snapshots and zeros ahead of the log's end; only
        the frames of the resets are taken off. With `dry` all is done but the updates.
        """
        before = bytes_handed_over()
        done = frames = resets = syncs = 0
        while done < count:
            chosen = self._choose(count - done)
            resets += self._reset(chosen)
            done += len(chosen)
            for step_id in () if dry else chosen:
                result = self._open().update_step_status(self._workflow, step_id, "completed", next(self._outputs))
                result.unwrap()
                frames += result.performance.bytes_written
                syncs += result.performance.syncs
        time.sleep(UPKEEP)
        return {"frame_bytes": frames, "bytes": bytes_handed_over() - before - resets, "syncs": syncs}

    def rate(self, start: float, seconds: float) -> dict[str, Any]:
        """Commits from a moment of the monotonic clock on, for so long."""
        return timing.within(start, seconds, self._once)

    def load(self, workflow: str, whole: bool, cold: bool, count: int) -> dict[str, Any]:
        """Load and touch one step and its output, or every step and output; cold with a newly opened store."""
        latencies: list[int] = []
        if cold:
            self.close()
        else:
            _load(self._open(), workflow, whole)  # what the first load finds out is known to the others
        for _ in range(count):
            started = time.perf_counter_ns()
            _load(self._open(), workflow, whole)
            latencies.append(time.perf_counter_ns() - started)
            if cold:
                self.close()
        return {"latencies_ns": latencies}

    def settle(self, seconds: float) -> None:
        """Leave time for what the store does later, so that it falls into nobody else's turn."""
        time.sleep(seconds)

    def restore(self, cold: bool, count: int, after: int) -> dict[str, Any]:
        """Go back to the checkpoint that some updates ago was made; cold with a newly opened store.

        Opening counts, closing does not: the restored workflow is there, durable, before.
        """
        latencies: list[int] = []
        for _ in range(count):
            self.update(1)
            handle = self._open()
            checkpoint_id = handle.list_checkpoints(self._workflow, 1).items[0].id
            self.update(after)
            expected = handle.get_checkpoint(checkpoint_id).state.metadata.version
            if cold:
                self.close()
            started = time.perf_counter_ns()
            result = self._open().restore_from_checkpoint(checkpoint_id)
            latencies.append(time.perf_counter_ns() - started)
            self._check_restored(result, checkpoint_id, expected)
        return {"latencies_ns": latencies}

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

    def _check_restored(self, result: Any, checkpoint_id: str, version: int) -> None:
        """That the state is that of the checkpoint, by a step and by its number."""
        restored = result.unwrap()
        then = self._open().get_checkpoint(checkpoint_id).state
        if then.metadata.version != version or restored.workflow.steps != then.workflow.steps:
            raise AssertionError("the workflow was not restored")

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
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    # --- inside ---

    def _open(self) -> waypost.Waypost:
        if self._handle is None:
            self._handle = waypost.open(self._path, preset=PRESET, config=self._options)
        return self._handle

    def _choose(self, count: int) -> list[str]:
        """The next steps in turn, not more than there are."""
        first = self._next
        self._next = (first + min(count, len(self._own))) % len(self._own)
        turned = self._own[first:] + self._own[:first]
        return turned[:count]

    def _reset(self, steps: list[str]) -> int:
        """Make steps pending again; the bytes of the frames."""
        written = 0
        for step_id in steps:
            result = self._open().reset_step(self._workflow, step_id)
            result.unwrap()
            written += result.performance.bytes_written
        return written

    def _rounds(self, own: list[str], with_output: bool = True) -> Iterator[Work]:
        while True:
            for step_id in own:
                yield "reset_step", (self._workflow, step_id)
                yield "update_step_status", (self._workflow, step_id, "running")
                output = (next(self._outputs),) if with_output else ()
                yield "update_step_status", (self._workflow, step_id, "completed", *output)

    def _once(self) -> int:
        return timing.lasting(partial(self._do, *next(self._work)))

    def _do(self, operation: str, arguments: tuple[Any, ...]) -> Any:
        result = getattr(self._open(), operation)(*arguments)
        done = result.unwrap()
        self._commits += 1
        if len(arguments) == 4:
            self._acknowledged[done.id] = done.output_version
        return result


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


def _as_step(given: dict[str, Any]) -> waypost.WorkflowStep:
    fields: dict[str, Any] = dict(given)
    output = fields.pop("output")
    for name in ("start_time", "end_time"):
        fields[name] = datetime.fromisoformat(fields[name])
    step = waypost.WorkflowStep(**fields)
    step.output = output
    return step


def _load(handle: waypost.Waypost, workflow: str, whole: bool) -> None:
    state = handle.load_workflow_state(workflow).unwrap()
    touched = state.workflow.steps if whole else [state.step(states.step_id(5))]
    for step in touched:
        if step.output is None:
            raise AssertionError(f"step {step.id} has lost its output")
