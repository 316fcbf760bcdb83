"""Every public operation, defined once: its signature, its documentation, and the request that it is.

The two faces take their methods from here and differ only in how they wait. A definition does no work: checking
and encoding belong to the request, so that what is wrong with an argument is reported like any other failure.

Every write takes `operation_id` (an id seen before gives the first result and changes nothing; made up where it is
absent), and `session_id`, which is recorded with the commit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from functools import partial
from inspect import Signature, signature
from typing import Any, BinaryIO, TypeVar

from msgspec import UNSET, UnsetType

from waypost import checkpoints, clock, loading, migrations, records, rotation, saving, validation, workflows
from waypost import steps as steps_
from waypost.bundling import SessionCarrying
from waypost.checkpointing import CheckpointDefinitions
from waypost.config import Config
from waypost.erasing import ErasingDefinitions
from waypost.folding import StepStatus
from waypost.loading import Viewer
from waypost.lookback import LookingBack
from waypost.migrations import MigrationReport
from waypost.models import (
    AgentState,
    StepOutput,
    Tombstone,
    ValidationReport,
    WorkflowContext,
    WorkflowState,
    WorkflowStep,
    WorkflowSummary,
)
from waypost.operations import Load, OperationResult, Request, Success, Work, find_outcome
from waypost.queries import StateQuery, StateQueryResult
from waypost.requests import done_before
from waypost.rotation import RotationReport
from waypost.sessioning import SessionDefinitions
from waypost.store import (
    Backup,
    Counters,
    Restored,
    Transaction,
)
from waypost.syncing import Syncing
from waypost.workflows import IfExists

T = TypeVar("T")

Options = Mapping[str, Mapping[str, object]] | Config


def signature_of(define: Callable[..., Request[Any]]) -> Signature:
    """How an operation is seen from outside: what its request gives in place of the request."""
    seen = signature(define)
    return seen.replace(return_annotation=str(seen.return_annotation).removeprefix("Request[")[:-1])


def _as_returned(data: T, viewer: Viewer) -> T:
    return data


def _steps(changed: list[WorkflowStep], viewer: Viewer) -> list[WorkflowStep]:
    return [loading.with_outputs(step, viewer) for step in changed]


class Definitions(CheckpointDefinitions, ErasingDefinitions, SessionDefinitions, SessionCarrying, LookingBack, Syncing):
    """The operations over one open store."""

    spool: str | None = None
    """The path of the spool that is folded into it; None where it was not opened for that."""

    def in_session(self, session_id: str) -> Definitions:
        """The same over the same store, in a session's name. Closing it lets go of nothing."""
        bound = copy(self)
        bound.session_id = records.validate_id(session_id, "session id")
        bound._is_bound = True
        self.sessions.held.enter_anew(session_id)
        return bound

    def close(self) -> None:
        """Finish what is under way, pause the sessions that are held, and let go of the store."""
        if not self._is_bound:
            self.ending.end()
            self.sessions.close()
            self.store.close()

    # --- whole workflows ---

    def create_workflow(
        self,
        workflow_id: str,
        name: str,
        session_id: str | None = None,
        steps: Iterable[WorkflowStep | str] = (),
        *,
        context: WorkflowContext | None = None,
        if_exists: IfExists = "error",
        operation_id: str | None = None,
    ) -> Request[OperationResult[WorkflowState]]:
        """Make a workflow, all of whose steps are pending; a plain string is a step of that id and name.

        With `if_exists="open"` a workflow that is there is taken as it is. The id of a deleted one may be used anew.

        Fails with WorkflowExists, InvalidId, InvalidWorkflow, InvalidValue, SecretsNotSealed.
        """

        session_id = self._session(session_id)

        def prepare() -> Work[None]:
            new = workflows.prepare_new(name, session_id, steps, context, if_exists, self.redaction, self.store.keys)
            return partial(workflows.create, new=new, made=self._automatic(session_id).workflow_made)

        return self._write("create_workflow", workflow_id, prepare, self._state, operation_id, session_id)

    def save_workflow_state(
        self,
        state: WorkflowState,
        create_checkpoint: bool = False,
        checkpoint_tags: Iterable[str] = (),
        *,
        operation_id: str | None = None,
        session_id: str | None = None,
    ) -> Request[OperationResult[WorkflowState]]:
        """Save what was changed in a state since it was loaded, and give the state as it is then; with
        `create_checkpoint` the same commit keeps it.

        Changes made in place count. Others' changes of other parts stay. A state made by hand stands for the whole
        workflow: it makes one, or replaces the version that its metadata names.

        Fails with VersionConflict (retryable) if another commit changed one of the same parts since, and with
        WorkflowNotFound, InvalidWorkflow, InvalidInput, InvalidValue, SecretsNotSealed.
        """

        session_id = self._session(session_id)

        def prepare() -> Work[None]:
            plan = saving.prepare(state, self._home, self.redaction)
            new = checkpoints.prepare_new("automatic", "", checkpoint_tags, session_id) if create_checkpoint else None

            def save(tx: Transaction) -> None:
                saving.save(tx, plan, self._chunk_size)
                if new is not None:
                    checkpoints.put(tx, new, self.retention)

            return save

        name = state.workflow.id
        return self._write("save_workflow_state", name, prepare, self._state, operation_id, session_id)

    def load_workflow_state(self, workflow_id: str) -> Request[OperationResult[WorkflowState]]:
        """The workflow as it is now; its parts are decoded when they are touched. Fails with WorkflowNotFound."""
        return Load(
            self.store,
            "load_workflow_state",
            lambda counters: loading.load(self._view(workflow_id, counters), self._home, self.store.keys),
            self.observer,
        )

    def pause_workflow(
        self, workflow_id: str, *, operation_id: str | None = None, session_id: str | None = None
    ) -> Request[OperationResult[WorkflowState]]:
        """Let no step start until the workflow is resumed; running ones may finish. Fails with WorkflowNotFound."""
        work = partial(workflows.pause, made=self._automatic(session_id).workflow_paused)
        return self._write("pause_workflow", workflow_id, lambda: work, self._state, operation_id, session_id)

    def resume_workflow(
        self, workflow_id: str, *, operation_id: str | None = None, session_id: str | None = None
    ) -> Request[OperationResult[WorkflowState]]:
        """Let steps start again. Fails with WorkflowNotFound."""
        return self._write(
            "resume_workflow", workflow_id, lambda: workflows.resume, self._state, operation_id, session_id
        )

    def delete_workflow(
        self, workflow_id: str, *, operation_id: str | None = None, session_id: str | None = None
    ) -> Request[OperationResult[Tombstone]]:
        """Delete a workflow with all that belongs to it; a tombstone says when. Fails with WorkflowNotFound."""

        session_id = self._session(session_id)

        def prepare() -> Work[Tombstone]:
            time_us = clock.now_us()
            return lambda tx: workflows.delete(tx, time_us, session_id)

        return self._write("delete_workflow", workflow_id, prepare, _as_returned, operation_id, session_id)

    def list_workflows(self, query: StateQuery | None = None) -> Request[StateQueryResult[WorkflowSummary]]:
        """The workflows that a query asks for, one page of them; by default all, the last changed first.

        Raises InvalidInput for a query whose fields are of another kind or out of range.
        """
        wanted = StateQuery() if query is None else query
        return self._read("list_workflows", lambda: workflows.list_workflows(self.catalogue, wanted))

    def validate_workflow_state(self, workflow_id: str) -> Request[ValidationReport]:
        """Decode every part of a workflow, and check that they fit together and add up. Raises WorkflowNotFound."""
        return self._read("validate_workflow_state", lambda: validation.validate(self._view(workflow_id)))

    # --- steps ---

    def update_step_status(
        self,
        workflow_id: str,
        step_id: str,
        status: StepStatus,
        output: Any | UnsetType = UNSET,
        error: str | BaseException | None = None,
        *,
        agent_id: str | None = None,
        operation_id: str | None = None,
        session_id: str | None = None,
    ) -> Request[OperationResult[WorkflowStep]]:
        """Give a step another status, and with it an output if one is named. Gives the step as it is then.

        None, 0 and "" are outputs; a status without one leaves the earlier one. The same status with an equal
        output changes nothing. A file that is open for reading bytes is read from where it stands, and its content is
        the output. A step that is running belongs to this process until it is finished.

        Fails with WorkflowNotFound, StepNotFound, IllegalTransition, RetriesExhausted, StepBusy, WorkflowPaused,
        DependencyUnfinished, InvalidInput, InvalidValue.
        """

        source = self._source(output, step_id)

        def prepare() -> Work[WorkflowStep]:
            given = output if source is None else UNSET
            wanted = steps_.prepare_move(step_id, status, given, error, agent_id, self.redaction)
            if source is not None:
                check = partial(steps_.check_move, wanted=wanted, enforce_dependencies=self._enforce_dependencies)
                value = self._staged(source, workflow_id, step_id, operation_id, check)
                if value is None:
                    return done_before
                wanted = wanted._replace(value=value)
            moved = self._automatic(session_id).step_moved
            return lambda tx: steps_.move(tx, wanted, self._chunk_size, self._enforce_dependencies, moved)

        return self._write(
            "update_step_status", workflow_id, prepare, loading.with_outputs, operation_id, session_id, agent_id,
            stages=source is not None,
        )  # fmt: skip

    def add_steps(
        self,
        workflow_id: str,
        steps: Iterable[WorkflowStep | str],
        *,
        operation_id: str | None = None,
        session_id: str | None = None,
    ) -> Request[OperationResult[list[WorkflowStep]]]:
        """Put new steps behind those that are there; they may depend on those. Gives the new steps.

        Fails with WorkflowNotFound, InvalidWorkflow, InvalidId.
        """

        def prepare() -> Work[list[WorkflowStep]]:
            new = steps_.prepare_new(steps, self.redaction)
            return lambda tx: steps_.add(tx, new)

        return self._write("add_steps", workflow_id, prepare, _steps, operation_id, session_id)

    def reset_step(
        self,
        workflow_id: str,
        step_id: str,
        *,
        cascade: bool = False,
        operation_id: str | None = None,
        session_id: str | None = None,
    ) -> Request[OperationResult[list[WorkflowStep]]]:
        """Make a finished or failed step pending again, with `cascade` also all that depend on it.

        Outputs stay. Gives the steps that changed. Fails with WorkflowNotFound, StepNotFound, and
        IllegalTransition if one of them is running.
        """

        def prepare() -> Work[list[WorkflowStep]]:
            records.validate_id(step_id, "step id")
            return lambda tx: steps_.reset(tx, step_id, cascade)

        return self._write("reset_step", workflow_id, prepare, _steps, operation_id, session_id)

    def add_step_output(
        self,
        workflow_id: str,
        step_id: str,
        output: Any,
        agent_id: str | None = None,
        *,
        operation_id: str | None = None,
        session_id: str | None = None,
    ) -> Request[OperationResult[StepOutput]]:
        """Add the next version of a step's output; earlier ones stay readable. The step keeps its status.

        The content of a file that is open for reading bytes is stored as `bytes` and never in memory as a whole; see
        `open_step_output`.

        Fails with WorkflowNotFound, StepNotFound, InvalidValue, DocumentTooLarge.
        """
        source = self._source(output, step_id)

        def prepare() -> Work[StepOutput]:
            value = steps_.prepare_output(step_id, output if source is None else UNSET, agent_id, self.redaction)
            if source is not None:
                value = self._staged(
                    source, workflow_id, step_id, operation_id, lambda view: steps_.expect(view, step_id)
                )
            if value is None:
                return done_before
            time_us = clock.now_us()
            return lambda tx: steps_.add_output(tx, step_id, value, agent_id, time_us, self._chunk_size)

        return self._write(
            "add_step_output", workflow_id, prepare, loading.with_value, operation_id, session_id, agent_id,
            stages=source is not None,
        )  # fmt: skip

    def get_step_output(self, workflow_id: str, step_id: str, version: int | None = None) -> Request[StepOutput]:
        """One version of a step's output, the newest by default; its value is decoded when asked for.

        Raises WorkflowNotFound, StepNotFound, OutputNotFound.
        """
        return self._read("get_step_output", lambda: workflows.read_output(self._view(workflow_id), step_id, version))

    def open_step_output(self, workflow_id: str, step_id: str, version: int | None = None) -> Request[BinaryIO]:
        """One version of a step's output, the newest by default, as a file to read from; for outputs that are bytes.

        It is read from the store block by block, each of them checked, and the whole once all was read in order. It can
        seek, and what others do to the workflow meanwhile changes nothing in it. Reading raises DocumentDamaged.

        Raises WorkflowNotFound, StepNotFound, OutputNotFound, and InvalidInput for an output of another type.
        """
        return self._read("open_step_output", lambda: workflows.open_output(self._view(workflow_id), step_id, version))

    # --- agents and context ---

    def update_agent_state(
        self,
        workflow_id: str,
        agent_id: str,
        agent_state: AgentState | Mapping[str, Any],
        *,
        operation_id: str | None = None,
        session_id: str | None = None,
    ) -> Request[OperationResult[AgentState]]:
        """Put an agent in the place of what was known of it; a dictionary changes only the fields it names.

        Fails with WorkflowNotFound, InvalidId, InvalidInput.
        """

        def prepare() -> Work[AgentState]:
            change = workflows.prepare_agent(agent_id, agent_state, self.redaction)
            return lambda tx: workflows.update_agent(tx, agent_id, change)

        return self._write("update_agent_state", workflow_id, prepare, _as_returned, operation_id, session_id, agent_id)

    def update_context(
        self,
        workflow_id: str,
        *,
        variables: Mapping[str, Any] | None = None,
        configuration: Mapping[str, Any] | None = None,
        features: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Any] | None = None,
        operation_id: str | None = None,
        session_id: str | None = None,
    ) -> Request[OperationResult[WorkflowContext]]:
        """Merge into the context by key; keys that are not named keep their values. Gives the whole context.

        Secrets are sealed (docs/secrets.md). Fails with WorkflowNotFound, InvalidId, InvalidValue, and with
        SecretsNotSealed if secrets are given and there is no key.
        """

        def prepare() -> Work[None]:
            new = workflows.prepare_context(
                variables, configuration, features, secrets, self.redaction, self.store.keys
            )
            return lambda tx: workflows.update_context(tx, new)

        return self._write("update_context", workflow_id, prepare, self._context, operation_id, session_id)

    # --- the store as a whole ---

    def backup(self, path: str | os.PathLike[str]) -> Request[OperationResult[Backup]]:
        """Copy the store to a path where nothing is yet, while it is in use, each workflow as it is at one commit.

        The copy is a store itself, and is verified before it has its name. Fails with InvalidInput where something is
        at that path, or the store is in memory, and with DocumentDamaged, LockTimeout, StoreUnavailable.
        """
        return Load(self.store, "backup", lambda counters: self.store.backup(os.fspath(path)), self.observer)

    def restore_backup(
        self, path: str | os.PathLike[str], *, allow_older: bool = False
    ) -> Request[OperationResult[Restored]]:
        """Put a backup in the place of all that the store holds, all or nothing; what was there is kept aside. The
        handle is in no session then: it may resume those that came back.

        No other process may be writing. Fails with Refused if the store holds something that is not in the backup,
        unless `allow_older` says that this may be taken back; with InvalidInput and DocumentDamaged for what is no
        whole backup; and with LockTimeout, StorePoisoned, StoreUnavailable.
        """

        def restore(_: Counters) -> Restored:
            restored = self.store.restore_backup(os.fspath(path), allow_older=allow_older)
            # numbers are given out again from where the backup stands, and one of before may be another's by then
            self.sessions.held.forget_all()
            if not self._is_bound:
                self.session_id = None
            return restored

        return Load(self.store, "restore_backup", restore, self.observer)

    # --- conduct ---

    def migrate_workflows(
        self, *, dry_run: bool = False, to: str | None = None, application: str | None = None
    ) -> Request[MigrationReport]:
        """Bring every workflow to the newest schema version that is known, or to the one that is named.

        Without `application`, `to` is a version of Waypost's own schema, and may lead back to an older one. With
        `dry_run` every step is taken and checked, and nothing is stored. A workflow that cannot be migrated is left as
        it is, and reported; the others go on. Raises InvalidConfiguration for a version that no migration leads to.
        """

        def migrate() -> MigrationReport:
            targets = migrations.choose_targets(to, application)
            return migrations.migrate_store(self.store, targets, dry_run=dry_run)

        return self._read("migrate_workflows", migrate)

    def rotate_secrets(self) -> Request[RotationReport]:
        """Seal every workflow's secrets anew with the current key, where another sealed them: docs/secrets.md.

        History and checkpoints keep what they have, sealed with the key of its time. A workflow with a secret that does
        not open is left as it is, and reported; the others go on. Raises SecretsNotSealed where there is no key.
        """
        return self._read("rotate_secrets", lambda: rotation.rotate(self.store))

    def get_outcome(self, operation_id: str) -> Request[Success[Any]]:
        """What became of a write: its first result. Raises OperationNotFound where no commit of that id is known."""
        return self._read("get_outcome", lambda: find_outcome(self.store, operation_id))
