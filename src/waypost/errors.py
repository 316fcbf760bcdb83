"""Every error that Waypost raises or reports, drawn as a tree.

    WaypostError
    ├── InvalidInput            the caller gave something that cannot be taken
    │   ├── InvalidId
    │   ├── InvalidValue            (names the path of the bad value)
    │   ├── InvalidConfiguration
    │   └── InvalidWorkflow         (duplicate, unknown or cyclic steps)
    ├── NotFound
    │   ├── WorkflowNotFound
    │   ├── SessionNotFound
    │   ├── StepNotFound
    │   ├── OutputNotFound
    │   ├── CheckpointNotFound
    │   ├── OperationNotFound
    │   ├── VersionNotFound
    │   ├── PathNotFound            (names the nearest place that is there)
    │   ├── ValueErased             (there was a value, and it was erased)
    │   └── StoreNotFound
    ├── Refused                 understood, and against a rule of the data
    │   ├── WorkflowExists
    │   ├── WorkflowPaused
    │   ├── SessionExists
    │   ├── ImportConflict          what comes in and what is here went different ways
    │   ├── SessionBusy             (retryable: another process holds it)
    │   ├── SessionPaused
    │   ├── SessionEnded
    │   ├── SessionFenced           somebody else has taken it over
    │   ├── IllegalTransition
    │   ├── RetriesExhausted
    │   ├── StepBusy                (retryable)
    │   ├── DependencyUnfinished    (retryable)
    │   ├── SecretsNotSealed
    │   ├── KeyMissing              (names the key's id)
    │   ├── TransactionPending      (retryable: one over two stores has it)
    │   └── VersionConflict         (retryable)
    ├── StepFailed              a step of a run failed; carries its name
    └── StoreError              the store cannot do it
        ├── StoreUnavailable        (retryable: full disk, no permission, too many files…)
        ├── LockTimeout             (retryable)
        ├── StoreLeased             another kernel holds the directory
        ├── StoreReadOnly
        ├── StoreClosed
        ├── StorePoisoned           a sync failed; the outcome is unknown
        ├── DocumentTooLarge
        ├── DocumentDamaged         (names file and offset)
        ├── SealBroken              sealed bytes were changed, or moved here from elsewhere
        ├── UnsupportedFormat       newer, foreign, or a codec that is not installed
        ├── SchemaOutdated          an older schema, not migrated yet
        ├── MigrationFailed         a step of a migration is missing, failed, or made something unsound
        └── UnsupportedPlatform

`code` is stable and meant for programs; `str(error)` is one sentence for people;
`details` holds the plain facts of the sentence; `retryable` says whether the same
call may succeed later without anyone changing anything.
"""

from __future__ import annotations

from typing import ClassVar


class WaypostError(Exception):
    """Something that Waypost was asked to do did not happen."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False
    exit_status: ClassVar[int] = 1
    """What the command line exits with."""

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.details)


def _rebuild(kind: type[WaypostError], message: str, details: dict[str, object]) -> WaypostError:
    return kind(message, **details)


class InvalidInput(WaypostError):
    """What was given cannot be taken."""

    code = "invalid_input"
    exit_status = 2


class InvalidId(InvalidInput):
    """An id is empty, too long, or holds characters that no id may hold."""

    code = "invalid_id"


class InvalidValue(InvalidInput):
    """A value cannot be stored so that it comes back exactly; `path` says where it stands."""

    code = "invalid_value"

    def __init__(self, message: str, *, path: str = "", reason: str = "", **details: object) -> None:
        super().__init__(message, path=path, **details)
        self.path = path
        self.reason = reason
        """Why, without where: for who must not repeat the path."""


class InvalidConfiguration(InvalidInput):
    """An option is unknown, or its value is not of the kind or range that it takes."""

    code = "invalid_configuration"


class InvalidWorkflow(InvalidInput):
    """Steps are given twice, depend on steps that are not there, or on each other in a circle."""

    code = "invalid_workflow"


class NotFound(WaypostError):
    """What was named is not in the store."""

    code = "not_found"
    exit_status = 3


class WorkflowNotFound(NotFound):
    """There is no workflow of that id."""

    code = "workflow_not_found"


class SessionNotFound(NotFound):
    """There is no session of that id."""

    code = "session_not_found"


class StepNotFound(NotFound):
    """The workflow has no step of that id."""

    code = "step_not_found"


class OutputNotFound(NotFound):
    """The step has no output of that version."""

    code = "output_not_found"


class CheckpointNotFound(NotFound):
    """There is no checkpoint of that id."""

    code = "checkpoint_not_found"


class OperationNotFound(NotFound):
    """No commit of that operation id is known: it did not happen, or it is too long ago."""

    code = "operation_not_found"


class VersionNotFound(NotFound):
    """The workflow never had that version, or its history does not reach back so far any more."""

    code = "version_not_found"


class PathNotFound(NotFound):
    """There is nothing at that path; `nearest` is the last place on it where there is something."""

    code = "path_not_found"


class ValueErased(NotFound, KeyError):
    """What was there has been erased, from this version and from all others; `size_bytes` and `digest` are known of it
    where a version that held it is read.
    """

    code = "value_erased"

    def __init__(self, message: str, *, size_bytes: int | None = None, digest: str | None = None, **details: object):
        super().__init__(message, size_bytes=size_bytes, digest=digest, **details)
        self.size_bytes = size_bytes
        self.digest = digest


class StoreNotFound(NotFound):
    """There is no store at that place, and this call does not make one."""

    code = "store_not_found"


class Refused(WaypostError):
    """The call was understood, and a rule of the data forbids it."""

    code = "refused"
    exit_status = 4


class WorkflowExists(Refused):
    """A workflow of that id is there already."""

    code = "workflow_exists"


class WorkflowPaused(Refused):
    """The workflow is paused: steps may finish, none may start."""

    code = "workflow_paused"


class IllegalTransition(Refused):
    """The step's status does not lead to the status that was asked for."""

    code = "illegal_transition"


class RetriesExhausted(Refused):
    """The step has failed as often as its `max_retries` allows."""

    code = "retries_exhausted"


class StepBusy(Refused):
    """The step is being worked on by an owner that is alive, or cannot be shown to be dead."""

    code = "step_busy"
    retryable = True


class SessionExists(Refused):
    """There is a session of that id already."""

    code = "session_exists"


class ImportConflict(Refused):
    """What is imported is here already and has another history, or was changed on both sides in different ways."""

    code = "import_conflict"


class SessionBusy(Refused):
    """The session is held by an owner that is alive, or cannot be shown to be dead."""

    code = "session_busy"
    retryable = True


class SessionPaused(Refused):
    """Nobody is in the session: it is paused, or its owner died."""

    code = "session_paused"


class SessionEnded(Refused):
    """The session has ended, and stays so."""

    code = "session_ended"


class SessionFenced(Refused):
    """The session was taken over by somebody else since this handle entered it; nothing was written."""

    code = "session_fenced"


class DependencyUnfinished(Refused):
    """The step cannot start before the steps it depends on are finished."""

    code = "dependency_unfinished"
    retryable = True


class SecretsNotSealed(Refused):
    """There is no key to seal secrets with, and they are never stored in clear."""

    code = "secrets_not_sealed"


class KeyMissing(Refused):
    """The key that something is sealed with is not at hand; `key_id` tells which."""

    code = "key_missing"


class TransactionPending(Refused):
    """A transaction over two stores has prepared the document, and is not decided: do it again."""

    code = "transaction_pending"
    retryable = True


class VersionConflict(Refused):
    """Another commit changed the same part first: load it again and repeat the change."""

    code = "version_conflict"
    retryable = True


class StepFailed(WaypostError):
    """A step of a run failed; the cause is chained to this error."""

    code = "step_failed"


class StoreError(WaypostError):
    """The store cannot do what was asked."""

    code = "store_error"
    exit_status = 5


class StoreUnavailable(StoreError):
    """The operating system refused a file operation; nothing was changed."""

    code = "store_unavailable"
    retryable = True


class LockTimeout(StoreError):
    """A lock was not free within the time limit."""

    code = "lock_timeout"
    retryable = True


class StoreLeased(StoreError):
    """Another machine (or a boot before this one) holds the directory."""

    code = "store_leased"


class StoreReadOnly(StoreError):
    """The store is open for reading only."""

    code = "store_read_only"


class StoreClosed(StoreError):
    """The handle was closed, or belongs to the process before a fork."""

    code = "store_closed"


class StorePoisoned(StoreError):
    """A sync failed, so it is not known what is on disk: nothing is acknowledged until the file is rewritten."""

    code = "store_poisoned"


class DocumentTooLarge(StoreError):
    """The document or value does not fit within the configured bounds."""

    code = "document_too_large"


class DocumentDamaged(StoreError):
    """Bytes on disk are not the bytes that were written; file and offset say which."""

    code = "document_damaged"
    exit_status = 6

    def __init__(self, message: str, *, file: str = "", offset: int | None = None, **details: object) -> None:
        super().__init__(message, file=file, offset=offset, **details)
        self.file = file
        self.offset = offset


class SealBroken(StoreError):
    """Sealed bytes are not those that were sealed with that key for that place."""

    code = "seal_broken"
    exit_status = 6


class UnsupportedFormat(StoreError):
    """The file is foreign, newer than this release, or compressed with a codec that is not installed."""

    code = "unsupported_format"
    exit_status = 6


class SchemaOutdated(StoreError):
    """The document is of an older schema version, and has to be migrated first."""

    code = "schema_outdated"


class MigrationFailed(StoreError):
    """A document could not be brought to another schema version, and is as it was."""

    code = "migration_failed"


class UnsupportedPlatform(StoreError):
    """This operating system cannot give the guarantees that the directory store needs."""

    code = "unsupported_platform"
