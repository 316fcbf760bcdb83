"""What the tests of hook events share: payloads in both shapes of the original, and looking at what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waypost.blocking import Waypost
from waypost.models import WorkflowState, WorkflowStep

NOW_MS = 1_790_000_000_000
"""A moment of 2026, before any at which these tests run."""


def nested(workflow_id: str = "w", **data: Any) -> dict[str, Any]:
    """A payload as the original's README writes it: camelCase, and what belongs to the event in `data`."""
    return {"workflowId": workflow_id, "timestamp": NOW_MS, "data": data}


def flat(workflow_id: str = "w", **fields: Any) -> dict[str, Any]:
    """A payload as the original's code reads it, but for the names of its fields."""
    return {"workflow_id": workflow_id, "timestamp": NOW_MS, **fields}


def emit(wp: Waypost, event: str, payload: Mapping[str, Any]) -> Any:
    """The data of an event that can be used."""
    return wp.emit_hook_event(event, payload).unwrap()


def state(wp: Waypost, workflow_id: str = "w") -> WorkflowState:
    return wp.load_workflow_state(workflow_id).unwrap()


def step(wp: Waypost, step_id: str = "s", workflow_id: str = "w") -> WorkflowStep:
    return state(wp, workflow_id).step(step_id)


def tags(wp: Waypost, workflow_id: str = "w") -> list[tuple[str, ...]]:
    """Of all checkpoints but the one that a workflow begins with, oldest first."""
    found = [each.tags for each in wp.list_checkpoints(workflow_id, limit=1000).items]
    return [each for each in reversed(found) if each != ("initial",)]


def notes(wp: Waypost, workflow_id: str = "w") -> list[Mapping[str, Any]]:
    """Those of a workflow, oldest first."""
    variables = state(wp, workflow_id).context.variables
    return [variables[name] for name in sorted(variables) if name.startswith("hook_note.")]
