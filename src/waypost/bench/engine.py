"""Waypost as a user has it: `waypost.open`, the production preset, public operations only.

An *update* is `update_step_status(..., "completed", output)`; the step is reset before, outside the time that is
measured. Where rates are measured, callers go round and round their own steps: reset, running, completed with an
output, and each of the three counts as the commit that it is. Completing a step makes a checkpoint, which rides in the
commit, unless the options that the store is opened with say otherwise.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any

import waypost
from waypost.bench import counting, states, timing, turns

PRESET = "production"
ALONE: dict[str, Any] = {"checkpoints": {"post_step": False}}
"""Options with which completing a step makes no checkpoint."""
_AT_ONCE = 10
"""Steps that are reset before as many are updated, where it is time that says how often."""

Work = tuple[str, tuple[Any, ...]]
"""The name of an operation, and its arguments."""


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
        self._shares: list[Iterator[Work]] = []
        self._acknowledged: dict[str, int] = {}
        self._commits = 0

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

    def go_round(self, steps: int, share: int, shares: int) -> None:
        """Choose other steps for rates than for updates: going round leaves off in the middle of a step."""
        self._work = self._rounds(states.own_steps(steps, share, shares))

    def start_threads(self, steps: int, share: int, shares: int, threads: int) -> None:
        """Deal steps out to threads."""
        own = states.own_steps(steps, share, shares)
        self._shares = [self._rounds(own[number::threads]) for number in range(threads)]

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
        """Durable step updates, one after the other, and how many syncs this process made meanwhile."""
        latencies: list[int] = []
        syncs: list[int | None] = []
        update = self._open().update_step_status
        while count > 0:
            chosen = self._choose(count)
            self._reset(chosen)
            before = counting.so_far()
            for step_id, output in [(step_id, next(self._outputs)) for step_id in chosen]:
                started = time.perf_counter_ns()
                result = update(self._workflow, step_id, "completed", output)
                latencies.append(time.perf_counter_ns() - started)
                result.unwrap()
            syncs.append(counting.since(before))
            count -= len(chosen)
        return {"latencies_ns": latencies, "syncs": turns.total(syncs)}

    def update_for(self, seconds: float) -> dict[str, Any]:
        """The same for so long."""
        found = [self.update(_AT_ONCE) for _ in timing.turns(None, seconds)]
        latencies = [latency for each in found for latency in each["latencies_ns"]]
        return {"latencies_ns": latencies, "syncs": turns.total([each["syncs"] for each in found])}

    def rate(self, start: float, seconds: float) -> dict[str, Any]:
        """Commits from a moment of the monotonic clock on, for so long."""
        before = counting.so_far()
        found = timing.within(start, seconds, self._once)
        return {**found, "syncs": counting.since(before)}

    def rate_of_threads(self, start: float, seconds: float) -> dict[str, Any]:
        """The same of threads that share the handle, each going round its own steps."""
        before, handle, began = counting.so_far(), self._open(), max(start, time.monotonic())

        def once(work: Iterator[Work]) -> int:
            operation, arguments = next(work)
            return timing.lasting(lambda: getattr(handle, operation)(*arguments).unwrap())

        def one(work: Iterator[Work]) -> list[int]:
            return timing.within(start, seconds, partial(once, work))["latencies_ns"]

        with ThreadPoolExecutor(len(self._shares)) as pool:
            found = [latency for latencies in pool.map(one, self._shares) for latency in latencies]
        return {"latencies_ns": found, "seconds": time.monotonic() - began, "syncs": counting.since(before)}

    def load(
        self, workflow: str, whole: bool, cold: bool, count: int | None = None, seconds: float | None = None
    ) -> dict[str, Any]:
        """Load and touch one step and its output, or every step and output; cold with a newly opened store."""
        latencies: list[int] = []
        if cold:
            self.close()
        else:
            _load(self._open(), workflow, whole)  # what the first load finds out is known to the others
        for _ in timing.turns(count, seconds):
            started = time.perf_counter_ns()
            _load(self._open(), workflow, whole)
            latencies.append(time.perf_counter_ns() - started)
            if cold:
                self.close()
        return {"latencies_ns": latencies}

    def restore(
        self, cold: bool, count: int | None = None, after: int = 10, seconds: float | None = None
    ) -> dict[str, Any]:
        """Go back to the checkpoint that some updates ago was made; cold with a newly opened store.

        Opening counts, closing does not: the restored workflow is there, durable, before.
        """
        latencies: list[int] = []
        for _ in timing.turns(count, seconds):
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

    def _check_restored(self, result: Any, checkpoint_id: str, version: int) -> None:
        """That the state is that of the checkpoint, by a step and by its number."""
        restored = result.unwrap()
        then = self._open().get_checkpoint(checkpoint_id).state
        if then.metadata.version != version or restored.workflow.steps != then.workflow.steps:
            raise AssertionError("the workflow was not restored")

    def close(self) -> None:
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
