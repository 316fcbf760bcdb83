"""What a store holds, as the rows of results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from waypost.cli import describe
from waypost.cli.invocation import Reading
from waypost.cli.overview import condition, condition_of
from waypost.codec import values
from waypost.mcp import bounds
from waypost.mcp.results import AgentRow, CheckpointRow, Context, Entry, RunRow, StepRow, Stored, Worker
from waypost.models import StateCheckpoint, WorkflowContext, WorkflowState, WorkflowStep, WorkflowSummary

_MOST_ENTRIES = 100
_MOST_TAGS = 20


def of_summary(store: Reading, given: WorkflowSummary) -> RunRow:
    """A run as a list shows it."""
    return RunRow(
        run_id=given.id,
        name=given.name,
        status=given.status,
        condition=condition_of(store, given),
        progress=given.progress,
        step_counts={**given.step_counts},
        current_step=given.current_step,
        error=Stored.maybe(given.error),
        version=given.version,
        created_at=given.created_at,
        updated_at=given.updated_at,
        started_at=given.start_time,
        ended_at=given.end_time,
        size_bytes=given.size_bytes,
    )


def of_state(given: WorkflowState) -> RunRow:
    """A run as it was loaded."""
    folded, metadata = given.workflow.fold(), given.metadata
    return RunRow(
        run_id=given.workflow.id,
        name=given.workflow.name,
        status=folded.status,
        condition=condition(given),
        progress=folded.progress,
        step_counts={**folded.step_counts},
        current_step=folded.current_step,
        error=Stored.maybe(folded.error),
        version=metadata.version,
        created_at=metadata.created_at,
        updated_at=metadata.updated_at,
        started_at=folded.start_time,
        ended_at=folded.end_time,
        size_bytes=metadata.size_bytes,
    )


def of_step(given: WorkflowStep) -> StepRow:
    found = describe.step(given)
    owner = found["owner"]
    return StepRow(
        step_id=given.id,
        name=given.name,
        status=given.status,
        agent_id=given.agent_id,
        dependencies=bounds.names(given.dependencies),
        dependencies_total=len(given.dependencies),
        started_at=given.start_time,
        ended_at=given.end_time,
        duration_ms=found["duration_ms"],
        retry_count=given.retry_count,
        max_retries=given.max_retries,
        interruptions=given.interruptions,
        error=Stored.maybe(given.error),
        worker=None if owner is None else Worker(pid=owner["pid"], host=owner["host"], liveness=owner["liveness"]),
        output_version=given.output_version,
    )


def steps(given: Iterable[WorkflowStep], room: int = bounds.ROOM) -> list[StepRow]:
    """The first steps that fit."""
    return bounds.filled(map(of_step, given), room)


def of_checkpoint(given: StateCheckpoint) -> CheckpointRow:
    return CheckpointRow(
        checkpoint_id=given.id,
        run_id=given.workflow_id,
        type=given.type,
        description=Stored.maybe(given.description or None),
        tags=list(given.tags[:_MOST_TAGS]),
        created_at=given.created_at,
        parent_id=given.parent_id,
    )


def agents(given: WorkflowState, room: int) -> list[AgentRow]:
    """The first agents that fit."""
    return bounds.filled(
        (
            AgentRow(
                agent_id=each.id,
                name=each.name,
                status=each.status,
                current_task=each.current_task,
                tasks_completed=each.performance.tasks_completed,
            )
            for each in given.agents.values()
        ),
        room,
    )


def context(given: WorkflowContext, room: int) -> Context:
    """The context, a third of the room for each kind of entries."""
    sections = {name: _entries(getattr(given, name), room // 3) for name in ("configuration", "variables", "features")}
    secrets = sorted(given.secrets)
    total = sum(len(getattr(given, name)) for name in sections) + len(secrets)
    shown = secrets[:_MOST_ENTRIES]
    return Context(
        session_id=given.session_id,
        user_id=given.user_id,
        environment=given.environment,
        secret_names=shown,
        cut=total > sum(map(len, sections.values())) + len(shown),
        **sections,
    )


def _entries(given: Mapping[str, Any], room: int) -> list[Entry]:
    """The first entries that fit; each is opened only then."""
    found = ((key, given[key]) for key in islice(sorted(given), _MOST_ENTRIES))
    return bounds.filled((Entry(key=key, value=Stored.value(values.plain(value))) for key, value in found), room)
