"""The operations on checkpoints, as requests."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from msgspec.structs import replace

from waypost import carrying, checkpoints, cleaning
from waypost.cleaning import CleanupReport
from waypost.errors import InvalidInput
from waypost.loading import Viewer
from waypost.models import RecoverySuggestions, StateCheckpoint, ValidationReport, WorkflowState
from waypost.operations import Load, OperationResult, Request, Work
from waypost.queries import StateQuery, StateQueryResult
from waypost.requests import Requests, done_before
from waypost.store import DocumentId


class CheckpointDefinitions(Requests):
    """Those of the operations that make, find and use checkpoints; see `definitions`."""

    def create_checkpoint(
        self,
        workflow_id: str,
        description: str = "",
        tags: Iterable[str] = (),
        *,
        type: str = "manual",
        operation_id: str | None = None,
        session_id: str | None = None,
    ) -> Request[OperationResult[StateCheckpoint]]:
        """Keep a workflow as it is now. Gives the checkpoint, whose `state` is read when it is asked for.

        Fails with WorkflowNotFound, InvalidInput.
        """

        session_id = self._session(session_id)

        def prepare() -> Work[str]:
            new = checkpoints.prepare_new(type, description, tags, session_id)
            return lambda tx: checkpoints.make(tx, new, self.retention)

        def finish(checkpoint_id: str, viewer: Viewer) -> StateCheckpoint:
            return checkpoints.made(self.store, viewer(), checkpoint_id)

        return self._write("create_checkpoint", workflow_id, prepare, finish, operation_id, session_id)

    def list_checkpoints(
        self, workflow_id: str | None = None, limit: int = 20, *, query: StateQuery | None = None
    ) -> Request[StateQueryResult[StateCheckpoint]]:
        """The checkpoints of a workflow, or of all, newest first: the first `limit` of them, or those that `query` asks
        for, whose own limit counts then.

        Raises InvalidInput for a query whose fields are of another kind or out of range.
        """

        def read() -> StateQueryResult[StateCheckpoint]:
            wanted = replace(StateQuery(), limit=limit) if query is None else query
            return checkpoints.listed(self.store, workflow_id, wanted)

        return self._read("list_checkpoints", read)

    def get_checkpoint(self, checkpoint_id: str) -> Request[StateCheckpoint]:
        """A checkpoint by its id, or by as much of it as tells it from others; its `state` is read when asked for.

        Raises CheckpointNotFound, and InvalidInput where several begin so.
        """
        return self._read("get_checkpoint", lambda: checkpoints.get(self.store, checkpoint_id))

    def validate_checkpoint(self, checkpoint_id: str) -> Request[ValidationReport]:
        """Read and check all that is kept of a checkpoint, and what it stands on. Raises CheckpointNotFound."""
        return self._read("validate_checkpoint", lambda: checkpoints.validate(self.store, checkpoint_id))

    def get_recovery_suggestions(self, workflow_id: str) -> Request[RecoverySuggestions]:
        """The checkpoints of a workflow, and which is best gone back to, each warning from a real check.

        Raises WorkflowNotFound where there is neither the workflow nor a checkpoint of it.
        """
        return self._read("get_recovery_suggestions", lambda: checkpoints.suggestions(self.store, workflow_id))

    def cleanup(self, dry_run: bool = False) -> Request[OperationResult[CleanupReport]]:
        """Bring the checkpoints of all workflows within the bounds of retention, and give back the space of what goes.
        With `dry_run` nothing is changed, and the report says what would go.

        What retention never takes stays. `retention.max_store_size` is kept by this alone.
        """
        return Load(
            self.store,
            "cleanup",
            lambda _: cleaning.cleanup(self.store, self.config.retention, dry_run=dry_run),
            self.observer,
        )

    def restore_from_checkpoint(
        self,
        checkpoint_id: str,
        *,
        expected_version: int | None = None,
        operation_id: str | None = None,
        session_id: str | None = None,
    ) -> Request[OperationResult[WorkflowState]]:
        """Make a workflow what it was, as a new version of it: history and checkpoints stay. Gives its state.
        A step that was running then is nobody's, unless the same process is at it now.

        Also a workflow of which nothing is left but its checkpoints comes back. With `expected_version` it is done only
        while the workflow is at that version, 0 where nothing else is left of it.

        Fails with CheckpointNotFound, VersionConflict, InvalidInput, DocumentDamaged.
        """

        def prepare() -> Work[None]:
            if self._was_done(checkpoints.workflow_of(checkpoint_id), operation_id):
                return done_before
            if expected_version is not None and (type(expected_version) is not int or expected_version < 0):
                raise InvalidInput("expected_version is a number from 0 on, or None", expected_version=expected_version)
            wanted = checkpoints.prepare_return(self.store, checkpoint_id, None, self._large_bytes)
            return partial(checkpoints.restore, wanted=wanted, expected_version=expected_version)

        # the workflow's id, or something that no checkpoint has, which preparing tells
        workflow_id = str(checkpoint_id).rpartition(checkpoints.MARK)[0] or checkpoint_id
        return self._write(
            "restore_from_checkpoint", workflow_id, prepare, self._state, operation_id, session_id, stages=True
        )

    def export_checkpoint(self, checkpoint_id: str) -> Request[bytes]:
        """A checkpoint as bytes that stand alone: the version that it keeps, all of it, and what it says of itself.

        Raises CheckpointNotFound, InvalidInput, DocumentDamaged.
        """
        return self._read("export_checkpoint", lambda: carrying.export(self.store, checkpoint_id, self.config))

    def import_checkpoint(
        self,
        data: bytes,
        new_workflow_id: str | None = None,
        *,
        operation_id: str | None = None,
        session_id: str | None = None,
    ) -> Request[OperationResult[StateCheckpoint]]:
        """Have what was exported among the checkpoints of its workflow, which is made of it where there is none; or
        make another workflow of it, which keeps it under an id of its own. Gives the checkpoint; one that is there
        already stays as it is.

        Fails with InvalidInput, InvalidId, DocumentDamaged, UnsupportedFormat, DocumentTooLarge, WorkflowExists.
        """
        workflow_id = carrying.workflow_in(data) if new_workflow_id is None else new_workflow_id

        def prepare() -> Work[str]:
            if self._was_done(DocumentId("workflow", workflow_id), operation_id):
                return done_before
            return carrying.prepare(self.store, data, new_workflow_id, self.config, self.retention, self._large_bytes)

        def finish(checkpoint_id: str, viewer: Viewer) -> StateCheckpoint:
            return checkpoints.made(self.store, viewer(), checkpoint_id)

        return self._write("import_checkpoint", workflow_id, prepare, finish, operation_id, session_id, stages=True)

    def fork_workflow(
        self,
        checkpoint_id: str,
        new_workflow_id: str,
        *,
        operation_id: str | None = None,
        session_id: str | None = None,
    ) -> Request[OperationResult[WorkflowState]]:
        """Make another workflow of what one was at a checkpoint. Gives its state. A step that was running then is
        nobody's in the other, so that whoever wants to may do it there.

        Fails with CheckpointNotFound, WorkflowExists, InvalidId, InvalidInput, DocumentDamaged.
        """

        def prepare() -> Work[None]:
            target = DocumentId("workflow", new_workflow_id)
            if self._was_done(target, operation_id):
                return done_before
            wanted = checkpoints.prepare_return(self.store, checkpoint_id, target, self._large_bytes)
            return partial(checkpoints.fork, wanted=wanted)

        return self._write(
            "fork_workflow", new_workflow_id, prepare, self._state, operation_id, session_id, stages=True
        )
