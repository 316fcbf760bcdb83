"""Sessions as they are seen: whose they are, whether their owners are alive, and what a crash has left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from waypost.models import Count, StateMetadata, StepOwner
from waypost.queries import TimeRange

SessionStatus = Literal["active", "paused", "completed", "crashed"]
PresenceState = Literal["alive", "suspect", "crashed"]
RecoveryStrategy = Literal["full_recovery", "partial_recovery", "fresh_start"]
OnClash = Literal["refuse", "rename", "merge"]


class Presence(Struct, frozen=True):
    """Whether the owner of a session is there, and the evidence for it, as one sentence.

    `crashed` is said on proof alone; who cannot be seen, and has left no sign of life of late, is `suspect`.
    """

    state: PresenceState
    evidence: str


class CrashRecoveryData(Struct, frozen=True, kw_only=True):
    """What was found when a session was recovered from the death of its owner.

    `timestamp` is when it began, `error` the evidence of the death. `data_loss` is in percent, as in the plan.
    `corrupted_files` names the workflows that could not be read; `last_valid_checkpoint` is the newest whole one of
    its workflows; `ambiguous_steps` are those that were running in the dead process, by workflow.
    """

    timestamp: datetime
    error: str
    recovery_strategy: RecoveryStrategy
    data_loss: float
    corrupted_files: Sequence[str] = ()
    last_valid_checkpoint: str | None = None
    ambiguous_steps: Mapping[str, Sequence[str]] = {}


class SessionState(Struct, frozen=True, kw_only=True):
    """One session. Its workflows are those in which it has written; deleted ones are left out.

    `status` is `crashed` also where nobody has recorded yet that the owner is dead: `presence` says why. `owner` and
    `presence` are None where nobody holds the session.
    """

    metadata: StateMetadata
    session_id: str
    user_id: str | None
    status: SessionStatus
    start_time: datetime
    end_time: datetime | None
    active_workflows: Sequence[str]
    completed_workflows: Sequence[str]
    environment: Mapping[str, Any]
    preferences: Mapping[str, Any]
    last_checkpoint_id: str | None
    crash_recovery_data: CrashRecoveryData | None
    owner: StepOwner | None
    presence: Presence | None


class SessionQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which sessions to list, the last started first. What is None or empty does not narrow the list.

    `time_range` is compared with the time of the start; `limit` is a number of sessions.
    """

    status: Sequence[SessionStatus] = ()
    user_id: str | None = None
    time_range: TimeRange | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100
    offset: Count = 0


class SessionStatistics(Struct, frozen=True, kw_only=True):
    """A session in figures. `session_duration_ms` goes to its end, or to now; `last_activity` is the time of the last
    commit that it or one of its workflows had.
    """

    session_id: str
    workflow_count: int
    active_workflows: int
    completed_workflows: int
    session_duration_ms: float
    last_activity: datetime


class WorkflowTriage(Struct, frozen=True, kw_only=True):
    """The steps of a workflow by what is known of them after a crash.

    `ambiguous` ones were running in a process that is dead: they may have had effects, or not. `running` ones are in
    the hands of a process that is alive, or may be. `problem` says why the workflow cannot be read; `checkpoint_id` is
    then its newest whole checkpoint, and the other fields are of that one: what was done since would be lost.
    `in_doubt` says that the system refused to read it, which may pass: nothing is recorded then, and the next recovery
    looks again.
    """

    workflow_id: str
    version: int = 0
    done: Sequence[str] = ()
    failed: Sequence[str] = ()
    never_started: Sequence[str] = ()
    ambiguous: Sequence[str] = ()
    running: Sequence[str] = ()
    problem: str | None = None
    checkpoint_id: str | None = None
    in_doubt: bool = False

    @property
    def loads(self) -> bool:
        """Whether the workflow can be read as it is, and so loses nothing."""
        return self.problem is None

    @property
    def data_loss(self) -> float:
        """The share of the steps, 0 to 1, that may have been finished and would be so no more."""
        if self.loads:
            return 0.0
        unfinished = len(self.failed) + len(self.never_started) + len(self.ambiguous) + len(self.running)
        total = unfinished + len(self.done)
        return unfinished / total if total and self.checkpoint_id is not None else 1.0


class SessionRecoveryPlan(Struct, frozen=True, kw_only=True):
    """What a dead owner has left of a session, and how to go on.

    `estimated_data_loss` is the mean over the workflows of what each may lose, in percent. `is_carried_out` says
    whether all of it was done: what would lose anything waits for consent.
    """

    session_id: str
    evidence: str
    strategy: RecoveryStrategy
    recoverable_workflows: Sequence[str]
    corrupted_workflows: Sequence[str]
    suggested_checkpoints: Sequence[str]
    estimated_data_loss: float
    recovery_steps: Sequence[str]
    warnings: Sequence[str]
    workflows: Sequence[WorkflowTriage]
    is_carried_out: bool


class SessionExport(Struct, frozen=True):
    """What was written to a file: the session, its workflows, the file's size, and the SHA-256 of its bytes, in hex."""

    session_id: str
    workflows: Sequence[str]
    size_bytes: int
    sha256: str


class SessionImport(Struct, frozen=True, kw_only=True):
    """What an import has made: the id of the session here, and what became of each of its workflows, by the ids here.

    `made` are new with all of their past, `merged` had changed on both sides or here not yet, `unchanged` were here
    already; `renamed` says which ids in the export are others here.
    """

    session_id: str
    made: Sequence[str]
    merged: Sequence[str]
    unchanged: Sequence[str]
    renamed: Mapping[str, str]

    @property
    def workflows(self) -> Sequence[str]:
        return sorted([*self.made, *self.merged, *self.unchanged])
