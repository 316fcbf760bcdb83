"""What a sync of two stores reports: what became of each document, and what is in conflict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

OnConflict = Literal["merge", "last_writer_wins", "user_intervention", "rollback"]
Side = Literal["ours", "theirs", "base"]
ConflictType = Literal["concurrent_write", "version_mismatch", "lock_timeout", "data_corruption"]


class Resolution(Struct, frozen=True):
    """A value that is to stand in place of both sides: for variables, configuration and features."""

    value: Any


class ConflictSide(Struct, frozen=True, kw_only=True):
    """A part as one side has it, and who changed it last there. `value` is UNSET where the part is not there, and in
    place of a conflict about a whole document. What is not known of the change is None.
    """

    value: Any | UnsetType = UNSET
    time: datetime | None = None
    commit_id: str | None = None
    operation_id: str | None = None
    operation: str | None = None
    session_id: str | None = None


class StateConflict(Struct, frozen=True, kw_only=True):
    """A part of a document that both stores have changed since their common version, in different ways. `ours` is the
    store that syncs, `theirs` the other.

    `conflict_type` is `concurrent_write`; `version_mismatch` where the common version is not kept on either side; and
    `data_corruption` where every part could be merged, and the workflow would not be sound. `part` is empty, and so is
    `path`, where the whole document is meant: because it was deleted on one side, or would not be sound. `resolution`,
    `resolved_by` and `resolved_at` are None for as long as it is not resolved: then nothing was changed.
    """

    conflict_type: ConflictType
    kind: Literal["workflow", "session", "thread"]
    document_id: str
    part: str
    path: str
    reason: str
    base: ConflictSide
    ours: ConflictSide
    theirs: ConflictSide
    resolution: OnConflict | None = None
    resolved_by: str | None = None
    resolved_at: datetime | None = None

    @property
    def operation_1(self) -> str | None:
        """The id of the operation that changed it last here."""
        return self.ours.operation_id

    @property
    def operation_2(self) -> str | None:
        """The id of the operation that changed it last on the other side."""
        return self.theirs.operation_id

    def __str__(self) -> str:
        where = f", {self.path}" if self.path else ""
        state = f"resolved by {self.resolved_by}" if self.resolved_by else "not resolved"
        return f"{self.kind} {self.document_id!r}{where}: {self.reason}; {state}"


Resolve = Callable[[StateConflict], Side | Resolution | None]
"""What an application answers to a conflict: which side stands, another value, or None where it cannot say."""


class SyncedDocument(Struct, frozen=True, kw_only=True):
    """A document that was not the same on both sides. `taken` came here, `sent` went there, `merged` became one commit
    on both; `commits` says how many were appended, or came with a document that was new.
    """

    kind: Literal["workflow", "session", "thread"]
    id: str
    action: Literal["taken", "sent", "merged"]
    is_new: bool
    commits: int


class SyncFailure(Struct, frozen=True, kw_only=True):
    """A document that could not be synced, and why. The others went on."""

    kind: Literal["workflow", "session", "thread"]
    id: str
    code: str
    error: str


class SyncReport(Struct, frozen=True, kw_only=True):
    """What a sync has done, or would do. `looked_at` counts documents, `unchanged` those that were the same.

    A document with a conflict that is not resolved was not changed on either side, nor one that failed, but for commits
    that it lacked and that came before the failure.
    """

    location: str
    other: str
    dry_run: bool
    looked_at: int
    unchanged: int
    documents: Sequence[SyncedDocument]
    conflicts: Sequence[StateConflict]
    failures: Sequence[SyncFailure]

    @property
    def unresolved(self) -> Sequence[StateConflict]:
        """The conflicts that still stand."""
        return [each for each in self.conflicts if each.resolution is None]

    @property
    def is_complete(self) -> bool:
        """Whether both stores hold the same now."""
        return not self.dry_run and not self.unresolved and not self.failures
