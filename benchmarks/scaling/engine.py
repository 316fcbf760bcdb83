"""Waypost at a size: what is large is made without syncs, and then single operations are measured, as a user has them.

Each operation is done so often, or until its seconds are over, once at least; making, resetting and opening what is
measured with an open handle are outside the time that is measured.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import waypost
from benchmarks import ours
from waypost.bench import states, timing

WORKFLOW = "measured"
STEPS_OF_MANY = ("collect", "publish")
"""Steps of a workflow of which there are very many."""
OPTIONS: dict[str, Any] = {
    "retention": {"max_checkpoints": 100_000, "max_workflow_size": 1 << 20, "max_store_size": 1 << 20},
    "performance": {"max_file_size": 4095},
    "checkpoints": {"post_step": False},
}
"""Nothing that was made is given up meanwhile, files may be as long as they can be, and an update is one alone."""
PIECES = 4096
"""Different lines of a large value."""


class Engine(ours.Engine):
    """One handle on a store that is large in one way."""

    def open(self, path: str, alone: bool = True) -> str:
        """Open the store and say its durability; without `alone` completing a step makes a checkpoint."""
        self._path = path
        self._options = OPTIONS if alone else {**OPTIONS, "checkpoints": {}}
        return self._open().durability

    # --- making ---

    def make_steps(self, steps: int) -> None:
        """A workflow of so many completed steps."""
        with self._making():
            self.create(WORKFLOW, steps)

    def make_workflows(self, first: int, beyond: int) -> None:
        """Small workflows, numbered from the first to the one before the last."""
        with self._making():
            for number in range(first, beyond):
                name = workflow_name(number)
                self._open().create_workflow(name, f"Workflow {number}", steps=STEPS_OF_MANY).unwrap()

    def make_checkpoints(self, count: int) -> None:
        """So many checkpoints of the workflow in use, one update apart."""
        with self._making():
            for number in range(count):
                self.update(1)
                self._open().create_checkpoint(self._workflow, f"checkpoint {number}").unwrap()

    def make_value(self, length: int) -> None:
        """Let a variable of the workflow have so many characters."""
        with self._making():
            self._put(_text(length, 0))

    # --- measuring ---

    def measure(self, what: str, count: int, seconds: float, **arguments: Any) -> dict[str, Any]:
        """Do one of the things below so often, but not once more after so many seconds."""
        once: Callable[..., int] = getattr(self, f"_once_{what}")
        return {"latencies_ns": [once(**arguments) for _ in timing.turns(count, seconds)]}

    def _once_update(self) -> int:
        return int(self.update(1)["latencies_ns"][0])

    def _once_load(self, touch: str, cold: bool = False) -> int:
        """Load and touch one step and its output, all of them, or the large value."""
        if cold:
            self.close()
        else:
            self._open()
        return timing.lasting(lambda: self._touch(touch))

    def _once_open(self) -> int:
        """Open the store, as a process that begins does. Closing is not counted."""
        self.close()
        return timing.lasting(self._open)

    def _once_close(self) -> int:
        """Close the store after a checkpoint was made, as a process that ends does."""
        self._once_keep()
        return timing.lasting(self.close)

    def _once_list_workflows(self, cold: bool = False, changed: bool = False) -> int:
        """The first page of all workflows, it may be after an update of one; cold with the opening of the store."""
        self._open()
        if changed:
            self.update(1)
        if cold:
            self.close()
        return timing.lasting(lambda: _some(self._open().list_workflows()))

    def _once_list_checkpoints(self) -> int:
        """The first page of the checkpoints of a workflow."""
        handle = self._open()
        return timing.lasting(lambda: _some(handle.list_checkpoints(self._workflow)))

    def _once_keep(self) -> int:
        """Make a checkpoint, one update after the one before it."""
        self.update(1)
        handle = self._open()
        return timing.lasting(lambda: handle.create_checkpoint(self._workflow, "one more").unwrap())

    def _once_restore(self, which: str, after: int = 3, cold: bool = False) -> int:
        """Go back to the newest checkpoint or to the first one that was made, some updates later."""
        handle = self._open()
        if which == "newest":
            wanted = handle.create_checkpoint(self._workflow, "to go back to").unwrap().id
        else:
            query = waypost.StateQuery(workflow_id=self._workflow, limit=1, sort_by="created", sort_order="asc")
            wanted = handle.list_checkpoints(query=query).items[0].id
        self.update(after)
        if cold:
            self.close()
        return timing.lasting(lambda: self._open().restore_from_checkpoint(wanted).unwrap())

    def _once_put(self, length: int) -> int:
        """Give the variable another value of so many characters."""
        value = _text(length, random.getrandbits(32))
        return timing.lasting(lambda: self._put(value))

    # --- inside ---

    def _put(self, value: str) -> None:
        self._open().update_context(self._workflow, variables={"large": value}).unwrap()

    def _touch(self, touch: str) -> None:
        state = self._open().load_workflow_state(self._workflow).unwrap()
        if touch == "large":
            seen = [state.context.variables["large"]]
        else:
            steps = state.workflow.steps if touch == "whole" else [state.step(states.step_id(0))]
            seen = [step.output for step in steps]
        if any(each is None for each in seen):
            raise AssertionError("what was stored is not there any more")

    @contextmanager
    def _making(self) -> Generator[None]:
        """Make without a sync for each commit and with one of everything at the end, and leave the store closed."""
        self._open()
        syncs = os.fsync, os.fdatasync
        os.fsync = os.fdatasync = _no_sync
        try:
            yield
            self.close()
        finally:
            os.fsync, os.fdatasync = syncs
        os.sync()
        self._open()


def workflow_name(number: int) -> str:
    return f"workflow-{number:07}"


def _no_sync(descriptor: Any) -> None:
    pass


def _some(page: Any) -> None:
    if not page.items:
        raise AssertionError("nothing is listed")


def _text(length: int, seed: int) -> str:
    """Log lines of about the length that is asked for, which compress as such lines do."""
    rng = random.Random(seed)
    lines = [
        f"2026-05-{rng.randrange(1, 29):02} {rng.random():.6f} {rng.choice(states.WORDS)} {rng.choice(states.FOLDERS)}/"
        f"{rng.choice(states.WORDS)}.py:{rng.randrange(2000)} {rng.randbytes(8).hex()} "
        f"{' '.join(rng.choices(states.WORDS, k=6))}\n"
        for _ in range(min(PIECES, length // 80 + 1))
    ]
    text = "".join(lines)
    return (text * (length // len(text) + 1))[:length]
