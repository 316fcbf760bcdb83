"""The blocking face: each operation waits for its commit in the calling thread.

A handle may be used by many threads at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from waypost import transactions
from waypost.definitions import Definitions, Options, signature_of
from waypost.hooks.operation import emit_hook_event
from waypost.models import WorkflowStep
from waypost.opening import intake_of, open_definitions
from waypost.operations import Request
from waypost.performance import StoreMetrics
from waypost.runner import RunLogic
from waypost.runs import Run
from waypost.store import Durability
from waypost.transactions import TransactionBlock
from waypost.watching import Watch

P = ParamSpec("P")
R = TypeVar("R")


def _waits(define: Callable[Concatenate[Definitions, P], Request[R]]) -> Callable[Concatenate[Any, P], R]:
    """The method that runs what a definition requests."""

    @wraps(define)
    def operation(self: Waypost, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return define(self.definitions, *args, **kwargs).run()

    operation.__signature__ = signature_of(define)  # type: ignore[attr-defined]
    return operation


def open(
    location: str | os.PathLike[str] | None = None, *, preset: str | None = None, config: Options | None = None
) -> Waypost:
    """Open a store, making it where there is none.

    The location is a directory, or `memory:`; without one it is `$WAYPOST_STATE`, else the nearest `.claude/state` from
    here upwards. `preset` is "production", "development" or "high_throughput"; `config` overrides single options.

    Raises InvalidConfiguration, StoreLeased, StoreUnavailable, UnsupportedFormat, UnsupportedPlatform.
    """
    return Waypost(open_definitions(location, preset, config))


class Waypost:
    """An open store. Use it in a `with` block, or close it."""

    __slots__ = ("__weakref__", "definitions")

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions

    create_workflow = _waits(Definitions.create_workflow)
    save_workflow_state = _waits(Definitions.save_workflow_state)
    load_workflow_state = _waits(Definitions.load_workflow_state)
    pause_workflow = _waits(Definitions.pause_workflow)
    resume_workflow = _waits(Definitions.resume_workflow)
    delete_workflow = _waits(Definitions.delete_workflow)
    list_workflows = _waits(Definitions.list_workflows)
    validate_workflow_state = _waits(Definitions.validate_workflow_state)
    update_step_status = _waits(Definitions.update_step_status)
    add_steps = _waits(Definitions.add_steps)
    reset_step = _waits(Definitions.reset_step)
    add_step_output = _waits(Definitions.add_step_output)
    get_step_output = _waits(Definitions.get_step_output)
    open_step_output = _waits(Definitions.open_step_output)
    update_agent_state = _waits(Definitions.update_agent_state)
    update_context = _waits(Definitions.update_context)
    create_checkpoint = _waits(Definitions.create_checkpoint)
    list_checkpoints = _waits(Definitions.list_checkpoints)
    get_checkpoint = _waits(Definitions.get_checkpoint)
    validate_checkpoint = _waits(Definitions.validate_checkpoint)
    get_recovery_suggestions = _waits(Definitions.get_recovery_suggestions)
    restore_from_checkpoint = _waits(Definitions.restore_from_checkpoint)
    fork_workflow = _waits(Definitions.fork_workflow)
    cleanup = _waits(Definitions.cleanup)
    export_checkpoint = _waits(Definitions.export_checkpoint)
    import_checkpoint = _waits(Definitions.import_checkpoint)
    export_session = _waits(Definitions.export_session)
    import_session = _waits(Definitions.import_session)
    start_session = _waits(Definitions.start_session)
    resume_session = _waits(Definitions.resume_session)
    pause_session = _waits(Definitions.pause_session)
    end_session = _waits(Definitions.end_session)
    update_session = _waits(Definitions.update_session)
    get_session = _waits(Definitions.get_session)
    list_sessions = _waits(Definitions.list_sessions)
    get_session_statistics = _waits(Definitions.get_session_statistics)
    detect_and_recover_crashed_sessions = _waits(Definitions.detect_and_recover_crashed_sessions)
    migrate_workflows = _waits(Definitions.migrate_workflows)
    rotate_secrets = _waits(Definitions.rotate_secrets)
    erase = _waits(Definitions.erase)
    history = _waits(Definitions.history)
    diff = _waits(Definitions.diff)
    blame = _waits(Definitions.blame)
    backup = _waits(Definitions.backup)
    restore_backup = _waits(Definitions.restore_backup)
    sync = _waits(Definitions.sync)
    get_outcome = _waits(Definitions.get_outcome)
    transact = _waits(transactions.transact)
    emit_hook_event = _waits(emit_hook_event)

    @property
    def location(self) -> str:
        """Where the store is."""
        return self.definitions.store.location

    @property
    def durability(self) -> Durability:
        """What a commit survives once it is acknowledged."""
        return self.definitions.store.durability

    @property
    def session_id(self) -> str | None:
        """The current session: the last that this handle started or resumed, unless it has left it."""
        return self.definitions.session_id

    def in_session(self, session_id: str) -> Waypost:
        """A handle on the same open store that writes in a session's name; closing it closes nothing else. Entering a
        session that was taken over, it writes under the new owner.
        """
        return Waypost(self.definitions.in_session(session_id))

    def run(
        self,
        workflow_id: str,
        steps: Iterable[WorkflowStep | str] | None = None,
        *,
        name: str | None = None,
        session_id: str | None = None,
    ) -> Run:
        """Do a workflow's steps, for `with`: make it or pick it up where it stopped; new steps are added to it.

        `steps` need not be given for a workflow that is there; those that are stored and not given are kept, and are
        the run's `missing`.
        """
        return Run(RunLogic(self.definitions, workflow_id, steps, name, session_id))

    def watch(self, workflow_id: str | None = None, *, cursor: str | None = None) -> Watch:
        """What is committed from now on, by any process, to that workflow or to all: an event for each, in order.

        It is for `with` and `for`, and waits for the next event until it or this handle is closed. With the `cursor`
        of an earlier event it goes on behind that one, and with "start" it begins at the oldest commit that is kept
        (docs/watching.md). Raises InvalidId, InvalidInput, DocumentDamaged, StoreClosed.
        """
        return Watch(self.definitions.store, workflow_id, cursor, intake_of(self.definitions))

    def transaction(self, *, operation_id: str | None = None, session_id: str | None = None) -> TransactionBlock:
        """Changes of any number of workflows, for `with`: all of them are committed at its end, or none.

        The block runs once; where others may change the same, `transact` does it again by itself. Raises
        VersionConflict and what committing raises.
        """
        return TransactionBlock(self.definitions, operation_id, session_id)

    def get_performance_metrics(self, window_s: float = 60) -> StoreMetrics:
        """How the operations of this handle fared in the last so many seconds, from 1 to 600, and in all; asks nobody
        but this process, and waits for nothing (docs/monitoring.md). Raises InvalidInput.
        """
        return self.definitions.observer.metrics(window_s)

    def close(self) -> None:
        """Finish what is under way and let go of the store. May be called twice."""
        self.definitions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Waypost at {self.location}>"
