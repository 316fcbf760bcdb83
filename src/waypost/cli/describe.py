"""What a store holds, as plain dictionaries: what `--json` prints, and what the screens are made from.

Values are rendered plain (`codec.values.plain`), so no object of an application is ever rebuilt here.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec

from waypost import clock
from waypost.cli.text import size
from waypost.codec import values
from waypost.models import StateCheckpoint, StepOutput, WorkflowState, WorkflowStep, WorkflowSummary
from waypost.places import ErasedValue, LargeValue, SealedValue
from waypost.session_models import SessionRecoveryPlan, SessionState, WorkflowTriage

PREVIEWED_BYTES = 64 * 1024
"""Outputs up to this size are loaded without being asked for."""

_MILLISECOND = timedelta(milliseconds=1)


def elapsed_ms(start: datetime | None, end: datetime | None) -> float | None:
    """From start to end, or to now for what has not ended."""
    return None if start is None else ((end or datetime.now(UTC)) - start) / _MILLISECOND


def summary(given: WorkflowSummary) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(given)
    found["duration_ms"] = elapsed_ms(given.start_time, given.end_time or given.updated_at)
    return found


def owner(step: WorkflowStep) -> dict[str, Any] | None:
    """Who works on a step, and whether that process is still there."""
    if step.owner is None:
        return None
    held = step.owner
    return {
        "pid": held.pid,
        "host": held.host.partition("/")[0],
        "machine": held.host,
        "boot": held.boot,
        "start_ticks": held.start,
        "liveness": clock.liveness(held.identity),
    }


def as_of_then(given: WorkflowState) -> WorkflowState:
    """An earlier version, of which nobody is at a step any more: how long one ran is told as of then."""
    for step in given.workflow.steps:
        if step.status == "running":
            step.owner, step.end_time = None, given.metadata.updated_at
    return given


def step(given: WorkflowStep) -> dict[str, Any]:
    """A step, without its output."""
    ended = given.end_time if given.status != "running" else None
    return {
        "id": given.id,
        "name": given.name,
        "status": given.status,
        "agent_id": given.agent_id,
        "dependencies": given.dependencies,
        "parallel": given.parallel,
        "start_time": given.start_time,
        "end_time": given.end_time,
        "duration_ms": None if given.status == "pending" else elapsed_ms(given.start_time, ended or given.end_time),
        "retry_count": given.retry_count,
        "max_retries": given.max_retries,
        "interruptions": given.interruptions,
        "error": given.error,
        "owner": owner(given),
        "output_version": given.output_version,
    }


def output(given: StepOutput, *, load: bool) -> dict[str, Any]:
    """An output; its `value` is there if it is to be loaded."""
    found: dict[str, Any] = {
        "version": given.version,
        "agent_id": given.agent_id,
        "timestamp": given.timestamp,
        "size_bytes": given.size_bytes,
        "checksum": given.checksum,
    }
    if load:
        found["value"] = values.plain(given.output)
    return found


def checkpoint(given: StateCheckpoint) -> dict[str, Any]:
    """A checkpoint, without the state that it keeps."""
    return {
        "checkpoint_id": given.id,
        "workflow_id": given.workflow_id,
        "type": given.type,
        "description": given.description,
        "tags": list(given.tags),
        "created_at": given.created_at,
        "session_id": given.session_id,
        "parent_id": given.parent_id,
    }


def at_path(given: Any) -> Any:
    """What a diff or a blame gives of a value: as `plain`, of what is not loaded its size and checksum, and of what is
    sealed that it is.
    """
    if isinstance(given, LargeValue):
        return {"size_bytes": given.size_bytes, "checksum": given.checksum, "loaded": False}
    if isinstance(given, ErasedValue):
        return {"size_bytes": given.size_bytes, "digest": given.digest, "erased": True}
    if isinstance(given, SealedValue):
        return {"sealed": True, "key_id": given.key_id}
    if _has_others_in_it(given):
        return {name: at_path(each) for name, each in given.items()}
    return values.plain(given)


def _has_others_in_it(given: Any) -> bool:
    """Whether something that stands for a value is in a section, however deep."""
    if not isinstance(given, dict):
        return False
    found = cast("dict[str, Any]", given).values()
    return any(isinstance(each, (LargeValue, SealedValue, ErasedValue)) or _has_others_in_it(each) for each in found)


def value_text(given: Any) -> str:
    """The same for people, on one line."""
    if isinstance(given, LargeValue):
        return f"{size(given.size_bytes)}, not loaded, SHA-256 {given.checksum}"
    if isinstance(given, SealedValue):
        return f"sealed with key {given.key_id}"
    if isinstance(given, ErasedValue):
        return "erased" if given.size_bytes is None else f"erased, of {size(given.size_bytes)}"
    return json.dumps(at_path(given), ensure_ascii=False)


def state(given: WorkflowState) -> dict[str, Any]:
    """A workflow as a whole, without its steps and outputs."""
    folded = given.workflow.fold()
    context = given.context
    return {
        "id": given.workflow.id,
        "name": given.workflow.name,
        "status": folded.status,
        "paused": given.workflow.paused,
        "progress": folded.progress,
        "step_counts": folded.step_counts,
        "current_step": folded.current_step,
        "error": folded.error,
        "error_count": folded.error_count,
        "start_time": folded.start_time,
        "end_time": folded.end_time,
        "duration_ms": folded.total_execution_time_ms,
        "metadata": msgspec.to_builtins(given.metadata),
        # what an agent reports of itself may be no number that JSON has
        "agents": {name: values.plain(msgspec.to_builtins(agent)) for name, agent in given.agents.items()},
        "context": {
            "session_id": context.session_id,
            "user_id": context.user_id,
            "environment": context.environment,
            "configuration": {name: values.plain(value) for name, value in context.configuration.items()},
            "variables": {name: values.plain(value) for name, value in context.variables.items()},
            "features": {name: values.plain(value) for name, value in context.features.items()},
            "secrets": sorted(context.secrets),
        },
    }


def session(given: SessionState) -> dict[str, Any]:
    """A session, with what is seen of its owner."""
    return {
        **msgspec.to_builtins(given, enc_hook=str),
        "environment": {name: values.plain(value) for name, value in given.environment.items()},
        "preferences": {name: values.plain(value) for name, value in given.preferences.items()},
    }


def triage(given: WorkflowTriage) -> dict[str, Any]:
    """The steps of a workflow by what is known of them."""
    return {**msgspec.to_builtins(given), "data_loss": given.data_loss}


def recovery_plan(given: SessionRecoveryPlan) -> dict[str, Any]:
    """How to go on with a session whose owner is dead."""
    return {**msgspec.to_builtins(given), "workflows": [triage(each) for each in given.workflows]}
