"""What a workflow's steps say about the workflow: status, progress, times; told anew when asked, never stored.

Two writers cannot disagree about what nobody writes. A fold depends on nothing but the steps and whether
the workflow is paused, so the same version folds to the same values everywhere and at any time.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, Protocol

StepStatus = Literal["pending", "running", "completed", "failed", "skipped"]
WorkflowStatus = Literal["idle", "running", "paused", "completed", "failed"]

STEP_STATUSES: tuple[StepStatus, ...] = ("pending", "running", "completed", "failed", "skipped")
WORKFLOW_STATUSES: tuple[WorkflowStatus, ...] = ("idle", "running", "paused", "completed", "failed")

FINISHED: frozenset[StepStatus] = frozenset({"completed", "skipped"})
"""What a step must be for those that depend on it to start, and for it to count as progress."""

_MILLISECOND = timedelta(milliseconds=1)


class StepLike(Protocol):
    """As much of a step as folding looks at."""

    @property
    def id(self) -> str: ...
    @property
    def status(self) -> StepStatus: ...
    @property
    def start_time(self) -> datetime | None: ...
    @property
    def end_time(self) -> datetime | None: ...
    @property
    def retry_count(self) -> int: ...
    @property
    def max_retries(self) -> int: ...
    @property
    def error(self) -> str | None: ...


class Fold(NamedTuple):
    """A workflow seen as a whole.

    `progress` is finished / all x 100. `current_step` is the running step that started last. `end_time` is there
    once the workflow completed or failed and nothing runs any more. `total_execution_time_ms` reaches from the
    first time that a step holds to the last one. `error_count` counts failed attempts.
    """

    status: WorkflowStatus
    progress: float
    current_step: str | None
    start_time: datetime | None
    end_time: datetime | None
    error: str | None
    total_execution_time_ms: float
    step_execution_times_ms: dict[str, float]
    step_counts: dict[StepStatus, int]
    error_count: int


def fold(steps: Iterable[StepLike], paused: bool) -> Fold:
    """Fold steps in their order into one view of the workflow."""
    counts: dict[StepStatus, int] = dict.fromkeys(STEP_STATUSES, 0)
    times: list[datetime] = []
    durations: dict[str, float] = {}
    current: StepLike | None = None
    gone: StepLike | None = None
    errors = 0
    for step in steps:
        status = step.status
        counts[status] += 1
        errors += step.retry_count
        start, end = step.start_time, step.end_time
        if start is not None:
            times.append(start)
            if end is not None:
                durations[step.id] = (end - start) / _MILLISECOND
        if end is not None:
            times.append(end)
        if status == "failed":
            errors += 1
            if gone is None and step.retry_count >= step.max_retries:
                gone = step
        elif status == "running" and (current is None or _started_later(step, current)):
            current = step
    status = _status(counts, gone is not None, paused)
    first, last = (min(times), max(times)) if times else (None, None)
    return Fold(
        status=status,
        progress=_progress(counts),
        current_step=None if current is None else current.id,
        start_time=first,
        end_time=last if status in ("completed", "failed") and not counts["running"] else None,
        error=gone.error if gone is not None and status == "failed" else None,
        total_execution_time_ms=0.0 if first is None or last is None else (last - first) / _MILLISECOND,
        step_execution_times_ms=durations,
        step_counts=counts,
        error_count=errors,
    )


def _started_later(step: StepLike, than: StepLike) -> bool:
    if step.start_time is None or than.start_time is None:
        return step.start_time is not None
    return step.start_time > than.start_time


def _progress(counts: dict[StepStatus, int]) -> float:
    total = sum(counts.values())
    return 100.0 * sum(counts[status] for status in FINISHED) / total if total else 0.0


def _status(counts: dict[StepStatus, int], failed: bool, paused: bool) -> WorkflowStatus:
    total = sum(counts.values())
    if total and sum(counts[status] for status in FINISHED) == total:
        return "completed"
    if failed:
        return "failed"
    if paused:
        return "paused"
    return "running" if counts["pending"] < total else "idle"
