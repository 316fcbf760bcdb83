"""Checkpoints that nobody asks for: each rides in the commit of what it is made for, and stands for its version."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from waypost import checkpoints
from waypost.checkpoints import NewCheckpoint
from waypost.folding import StepStatus
from waypost.models import CheckpointType, WorkflowStep
from waypost.options import CheckpointsConfig
from waypost.retention import Retention
from waypost.store import Transaction

INITIAL_TAG = "initial"
_OF_STEPS: dict[StepStatus, tuple[CheckpointType, Callable[[CheckpointsConfig], bool]]] = {
    "running": ("pre_step", attrgetter("pre_step")),
    "completed": ("post_step", attrgetter("post_step")),
    "skipped": ("post_step", attrgetter("post_step")),
    "failed": ("error", attrgetter("error")),
}
"""The type of the checkpoint for each status, and the option that asks for it."""


class Automatic:
    """Makes the checkpoints that the options ask for, within the work of other operations."""

    def __init__(self, wanted: CheckpointsConfig, retention: Retention, session_id: str | None) -> None:
        self._retention = retention
        self._session_id = session_id
        self._wanted = wanted

    def workflow_made(self, tx: Transaction) -> None:
        """Of a workflow as it began, which stays for as long as the workflow does."""
        if self._wanted.initial:
            self._make(tx, "manual", "as it was made", (INITIAL_TAG,))

    def workflow_paused(self, tx: Transaction) -> None:
        if self._wanted.pause:
            self._make(tx, "automatic", "paused")

    def step_moved(self, tx: Transaction, step: WorkflowStep) -> None:
        """Of a workflow one of whose steps has got another status."""
        found = _OF_STEPS.get(step.status)
        if found is not None and found[1](self._wanted):
            self._make(tx, found[0], f"{step.id} {step.status}")

    def _make(self, tx: Transaction, type: CheckpointType, description: str, tags: tuple[str, ...] = ()) -> None:
        checkpoints.put(tx, NewCheckpoint(type, description, tags, self._session_id), self._retention)
