"""Workloads of checkpoints: making them, writing their files, going back, and forking."""

from __future__ import annotations

from collections.abc import Callable

from tests.crash.runs import LARGE, Run
from waypost.errors import WaypostError


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


RETURNING: tuple[Callable[[Run], None], ...] = (make_checkpoints, go_back, fork)
"""Each is done in a new store; making some, and closing with some that have no file yet, in a used one too."""
