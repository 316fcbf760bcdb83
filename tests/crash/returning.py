"""Workloads of checkpoints: making them, writing their files, going back, and forking; and of erasing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache

import pytest

from tests.crash.runs import LARGE, NOW_US, Run, handle
from waypost import clock
from waypost.errors import WaypostError
from waypost.store.memory import MemoryStore


def _newest(run: Run) -> str:
    """The newest checkpoint of the workflow; where there is none, or it cannot be had, an id that leads nowhere."""
    try:
        found = run.wp.list_checkpoints("wf").items
    except WaypostError:
        return "wf@cnone"
    return found[0].id if found else "wf@cnone"


def make_checkpoints(run: Run) -> None:
    """Two, of which the second stands on the first; then more is written."""
    run.write("create_checkpoint", "wf", "first", ["a"])
    run.write("update_context", "wf", variables={"n": "second"})
    run.write("create_checkpoint", "wf", "second")
    run.upkeep("keep")
    run.write("update_context", "wf", variables={"n": "third"})


def go_back(run: Run) -> None:
    """A large value and a small one come, and go again."""
    run.write("create_checkpoint", "wf", "before")
    run.write("add_step_output", "wf", "b", LARGE[::-1])
    run.write("restore_from_checkpoint", _newest(run))
    run.write("update_context", "wf", variables={"n": "after"})


def fork(run: Run) -> None:
    run.write("create_checkpoint", "wf", "before")
    run.write("fork_workflow", _newest(run), "forked")


def complete_steps(run: Run) -> None:
    """Each completed step makes a checkpoint, and the third lets the first go; then all have their files."""
    run.write("create_workflow", "kept", "Kept", None, ["a", "b", "c"])
    run.write("update_step_status", "kept", "a", "completed", LARGE)
    run.upkeep("keep", of="kept")
    run.write("update_step_status", "kept", "b", "completed", 1)
    run.upkeep("keep", of="kept")
    run.write("update_step_status", "kept", "c", "failed", error="no")
    run.upkeep("keep", of="kept")


@cache
def carried() -> bytes:
    """What another history of the workflow has kept, as it was exported there: a large value among it."""
    wp = handle(MemoryStore(), "chunked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now_us", lambda: NOW_US - 5_000_000)
        wp.create_workflow("wf", "Elsewhere", None, ["a", "b"]).unwrap()
        wp.add_step_output("wf", "a", LARGE[::-1]).unwrap()
        made = wp.create_checkpoint("wf", "made elsewhere", ["t"]).unwrap()
    return wp.export_checkpoint(made.id)


def carry_in(run: Run) -> None:
    """To a workflow that there is, twice; it becomes another workflow as well; then it is gone back to."""
    run.write("import_checkpoint", carried())
    run.write("update_context", "wf", variables={"n": "second"})
    run.write("import_checkpoint", carried(), "carried")
    run.write("import_checkpoint", carried())
    run.upkeep("keep")
    run.write("restore_from_checkpoint", "wf@c")


def carry_away(run: Run) -> None:
    """What was exported before is all that is left, and the workflow is made of it."""
    run.write("create_checkpoint", "wf", "before")
    with suppress(WaypostError):
        run.wp.export_checkpoint(_newest(run))  # what it gives depends on what was done before it
    run.write("delete_workflow", "wf")
    run.write("import_checkpoint", carried())
    run.write("update_context", "wf", variables={"n": "after"})


def erase_values(run: Run) -> None:
    """A large output, which history and a checkpoint hold."""
    run.write("add_step_output", "wf", "b", LARGE[::-1])
    run.write("create_checkpoint", "wf", "holds it")
    run.upkeep("keep")
    run.write("erase", "wf", "outputs.b")
    run.write("update_context", "wf", variables={"n": "after"})


RETURNING: tuple[Callable[[Run], None], ...] = (make_checkpoints, go_back, fork, carry_in, carry_away, erase_values)
"""Each is done in a new store; making some, and closing with some that have no file yet, in a used one too."""
