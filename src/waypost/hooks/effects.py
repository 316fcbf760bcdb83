"""What a hook event does to a workflow: all of it in one commit, under the event's own id (docs/hooks.md, section 1).

Each event of a workflow is a method of `_Effect` that checks and encodes what was said, once, and gives the work of
the commit, which may run several times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from waypost import checkpoints, clock, records, steps, workflows
from waypost.automatic import Automatic
from waypost.checkpoints import NewCheckpoint
from waypost.definitions import Definitions
from waypost.errors import InvalidInput
from waypost.hooks import notes, tallies
from waypost.hooks.payloads import EVENTS, HookEvent, mapping_in, snake_case
from waypost.loading import Viewer
from waypost.metrics import NOTE
from waypost.models import AgentPerformance, AgentState, StepOwner, WorkflowStep
from waypost.operations import OperationResult, Request, Work, Write
from waypost.options import HooksConfig
from waypost.steps import Move
from waypost.store import Transaction, View

Projection = Sequence[Any]
"""Where the result of a commit stands in it; see `workflows.render`."""

Owner = StepOwner | UnsetType | None
"""The process that an event speaks for: this one where it is not set, None where it is not known."""


def write(
    definitions: Definitions,
    event: HookEvent,
    *,
    operation_id: str | None,
    session_id: str | None = None,
    hooks: HooksConfig | None = None,
    owner: Owner = UNSET,
) -> Request[OperationResult[Any]]:
    """The request that has the effects of an event of a workflow.

    Fails with InvalidInput for an event that names no workflow, or none of what its kind is about, and with all that
    the operations fail with which do the same.
    """
    effect = _Effect(definitions, event, operation_id, session_id, hooks or definitions.config.hooks, owner)

    def finish(projection: Projection, viewer: Viewer) -> Any:
        effect.remember(viewer())
        return workflows.render(viewer(), projection, viewer, definitions.store)

    request = Write(
        definitions.store,
        definitions.sessions.held,
        event.event,
        effect.workflow_id,
        effect.prepare,
        finish,
        operation_id=operation_id,
        session_id=effect.session_id,
        agent_id=effect.agent_id,
        observer=definitions.observer,
    )
    if event.event not in EVENTS:
        request.counted_as = NOTE
    return request


class _Effect:
    """One event, and what it does to its workflow."""

    def __init__(
        self,
        definitions: Definitions,
        event: HookEvent,
        operation_id: str | None,
        session_id: str | None,
        hooks: HooksConfig,
        owner: Owner,
    ) -> None:
        self._event = event
        self._fields = event.fields
        self._config = definitions.config
        self._hooks = hooks
        self._keys = definitions.store.keys
        self._redaction = definitions.redaction
        self._retention = definitions.retention
        self._operation_id = operation_id or clock.new_id("op")
        self._now_us = clock.now_us()
        self._tallies = tallies.of(definitions.store)
        self._completed: int | None = None
        """How many steps are completed by what the last run of the work has done, if that is known."""
        self._owner = StepOwner.this_process() if owner is UNSET else owner
        self.session_id = session_id
        self.workflow_id = self._workflow_id()
        self.agent_id = self._optional_id("agent_id", "agent")
        self._automatic = Automatic(self._config.checkpoints, self._retention, self.session_id)

    def prepare(self) -> Work[Projection]:
        """Check and encode what was said; the work of the commit."""
        effect = cast("Callable[[], Work[Projection]] | None", getattr(self, _METHODS.get(self._event.event, ""), None))
        work = self.noted() if effect is None else effect()
        ensure = self._ensuring_workflow()

        def whole(tx: Transaction) -> Projection:
            self._completed = self._tallies.at(tx)
            ensure(tx)
            projection = work(tx)
            tx.project(projection)
            return projection

        return whole

    def remember(self, version: View) -> None:
        """Know of the version that came of it how many of its steps are completed."""
        if self._completed is not None:
            self._tallies.keep(version, self._completed)

    # --- what an event says ---

    def _workflow_id(self) -> str:
        """The workflow that it is about; what is about none is kept with its session's own."""
        event = self._event
        found = event.workflow_id
        if found is None and (event.event == "workflow_start" or event.event not in _METHODS):
            found = event.session_id
        if found is None:
            raise InvalidInput(f"the event {event.event!r} names no workflow")
        return found

    def _required_id(self, name: str) -> str:
        found = self._optional_id(name)
        if found is None:
            raise InvalidInput(f"the event {self._event.event!r} has no {name}")
        return found

    def _optional_id(self, *names: str) -> str | None:
        found = next((self._fields[name] for name in names if self._fields.get(name) is not None), None)
        return None if found is None else records.validate_id(found, names[0].replace("_", " "))

    def _text(self, *names: str) -> str | None:
        """A field that is text for people; one of another kind is not taken."""
        return next((found for name in names if isinstance(found := self._fields.get(name), str) and found), None)

    def _error(self) -> str | None:
        """Why something failed, as text."""
        error = self._fields.get("error")
        if isinstance(error, Mapping):
            error = mapping_in(self._fields, "error").get("message", error)
        return None if error is None else steps.error_text(error if isinstance(error, str) else _shown(error))

    @property
    def _time_us(self) -> int:
        """When it happened, as far as that is told and wanted."""
        told = self._event.time_us if self._hooks.enable_performance_tracking else None
        return self._now_us if told is None else min(told, self._now_us)

    @property
    def _duration_us(self) -> int | None:
        told = self._fields.get("duration_ms") if self._hooks.enable_performance_tracking else None
        return None if told is None else round(told * 1000)

    # --- what is there already ---

    def _ensuring_workflow(self) -> Callable[[Transaction], None]:
        is_start = self._event.event == "workflow_start"
        name = self._text("workflow_name", *(["name", "workflow_type"] if is_start else [])) or self.workflow_id
        given = self._fields.get("steps") if is_start else None
        made = self._automatic.workflow_made
        new = workflows.prepare_new(name, self.session_id, _steps_of(given), None, "open", self._redaction, self._keys)

        def ensure(tx: Transaction) -> None:
            if records.find_workflow(tx) is not None:
                return
            was_deleted = tx.size_of(records.TOMBSTONE) is not None
            if self._event.event == "checkpoint_request" or (was_deleted and not is_start):
                records.workflow(tx)  # there is nothing to keep, or it comes too late: it raises
            workflows.create(tx, new, made)

        return ensure

    def _ensuring_step(self, step_id: str) -> Callable[[Transaction], None]:
        step = WorkflowStep(step_id, self._text("step_name", "name") or step_id, self.agent_id)
        new = steps.prepare_new([step], self._redaction)

        def ensure(tx: Transaction) -> None:
            if tx.size_of(records.STEP + step_id) is None:
                steps.add(tx, new)

        return ensure

    # --- workflows ---

    def workflow_start(self) -> Work[Projection]:
        return lambda tx: ["state"]

    def workflow_complete(self) -> Work[Projection]:
        return self._ending("the workflow was completed", ("completion", "final", "preserve"))

    def workflow_error(self) -> Work[Projection]:
        error = self._error() or "unknown error"
        note = self._note({**self._fields, "error": error})
        ending = self._ending("the workflow failed", ("error", "recovery", "analysis"))

        def work(tx: Transaction) -> Projection:
            note(tx)
            return ending(tx)

        return work

    def _ending(self, description: str, tags: tuple[str, ...]) -> Work[Projection]:
        new = self._checkpoint("automatic", description, tags)

        def work(tx: Transaction) -> Projection:
            if self._hooks.enable_auto_checkpoints:
                checkpoints.put(tx, new, self._retention)
            return ["state"]

        return work

    def _checkpoint(self, type: str, description: str, tags: Sequence[str]) -> NewCheckpoint:
        fitting = [tag[: checkpoints.LONGEST_TAG] for tag in tags]
        text = description[: checkpoints.LONGEST_DESCRIPTION]
        return checkpoints.prepare_new(type, text, fitting, self.session_id)

    def checkpoint_request(self) -> Work[Projection]:
        tags = self._fields.get("tags")
        listed: list[Any] = list(cast("Any", tags)) if isinstance(tags, (list, tuple, set)) else [tags] if tags else []
        new = checkpoints.prepare_new("manual", self._text("description") or "", listed, self.session_id)
        return lambda tx: ["checkpoint", checkpoints.put(tx, new, self._retention)]

    # --- steps ---

    def step_start(self) -> Work[Projection]:
        return self._moving("running", UNSET, None)

    def step_complete(self) -> Work[Projection]:
        return self._moving("completed", self._fields.get("output", UNSET), None)

    def step_error(self) -> Work[Projection]:
        return self._moving("failed", self._fields.get("output", UNSET), self._error())

    def _moving(self, status: Any, output: Any, error: str | None) -> Work[Projection]:
        step_id = self._required_id("step_id")
        move = steps.prepare_move(step_id, status, output, error, self.agent_id, self._redaction)
        move = move._replace(time_us=self._time_us, owner=self._owner)
        ensure = self._ensuring_step(step_id)
        chunk_size, enforced = self._config.compression.chunk_size, self._config.steps.enforce_dependencies

        def work(tx: Transaction) -> Projection:
            ensure(tx)
            steps.move(tx, move, chunk_size, enforced, partial(self._moved, move))
            return ["step", step_id]

        return work

    def _moved(self, move: Move, tx: Transaction, step: WorkflowStep) -> None:
        if step.status == "completed" and self._completed is not None:
            self._completed += 1
        if move.status != "running":
            self._time(step)
            records.put_step(tx, step)
        new = self._checkpoint_of(tx, step)
        if new is not None:
            checkpoints.put(tx, new, self._retention)

    def _time(self, step: WorkflowStep) -> None:
        """Have a step end no earlier than it started, and start where only its duration says when that was."""
        if step.end_time is not None and step.start_time is not None:
            step.end_time = max(step.start_time, step.end_time)
        elif step.end_time is not None and self._duration_us is not None:
            step.start_time = clock.to_datetime(max(0, clock.to_us(step.end_time) - self._duration_us))

    def _checkpoint_of(self, tx: Transaction, step: WorkflowStep) -> NewCheckpoint | None:
        """The checkpoint that a step's new status is kept by, if any."""
        text = f"{step.id} {step.status}"
        if step.status == "failed":
            wanted = self._hooks.enable_crash_recovery
            return self._checkpoint("error", text, ("step_error", "recovery", step.id)) if wanted else None
        if not self._hooks.enable_auto_checkpoints:
            return None
        if step.status == "running":
            return self._checkpoint("pre_step", text, ()) if self._config.checkpoints.pre_step else None
        if not self._config.checkpoints.post_step:
            return None
        if self._completed is None:
            self._completed = tallies.count(tx)
        is_due = self._completed % self._hooks.checkpoint_frequency == 0
        return self._checkpoint("post_step", text, ("auto", "step_milestone")) if is_due else None

    # --- agents ---

    def agent_start(self) -> Work[Projection]:
        task = self._text("current_task", "task", "step_id")
        return self._telling(lambda agent: replace(agent, status="active", current_task=task))

    def agent_complete(self) -> Work[Projection]:
        def tell(agent: AgentState) -> AgentState:
            done = agent.performance
            lasted = self._task_ms(agent)
            counted = replace(done, tasks_completed=done.tasks_completed + 1)
            if lasted is not None:
                # a task of which no time is known counts as the average of the others
                known = done.tasks_completed if done.average_execution_time_ms else 0
                average = (done.average_execution_time_ms * known + lasted) / (known + 1)
                counted = replace(counted, average_execution_time_ms=average)
            return replace(agent, status="idle", current_task=None, performance=counted)

        has_output = any(self._fields.get(name) is not None for name in ("output", "outputs"))
        return self._telling(tell, self._note(self._fields) if has_output else None)

    def agent_error(self) -> Work[Projection]:
        def tell(agent: AgentState) -> AgentState:
            failed = agent.performance.tasks_failed + 1
            return replace(agent, status="error", performance=replace(agent.performance, tasks_failed=failed))

        return self._telling(tell, self._note(self._fields) if self._fields.get("error") is not None else None)

    def _telling(
        self, tell: Callable[[AgentState], AgentState], note: Callable[[Transaction], object] | None = None
    ) -> Work[Projection]:
        if self.agent_id is None:
            raise InvalidInput(f"the event {self._event.event!r} has no agent_id")
        agent_id, name = self.agent_id, self._text("agent_name")

        def work(tx: Transaction) -> Projection:
            agent = tell(records.AGENTS.get(tx, records.AGENT + agent_id) or AgentState(agent_id))
            agent = replace(agent, name=name or agent.name, performance=_counted(agent.performance, self._time_us))
            memory = self._fields.get("memory_usage_bytes") if self._hooks.enable_performance_tracking else None
            if memory is not None:
                agent = replace(agent, resources=replace(agent.resources, memory_usage_bytes=memory))
            tx.put(records.AGENT + agent_id, records.encode(self._redaction.agent(agent)))
            if note is not None:
                note(tx)
            return ["agent", agent_id]

        return work

    def _task_ms(self, agent: AgentState) -> float | None:
        """How long a task took: as told, or since its agent began it."""
        if not self._hooks.enable_performance_tracking:
            return None
        if "duration_ms" in self._fields:
            return self._fields["duration_ms"]
        began = agent.performance.last_activity
        if agent.status != "active" or began is None:
            return None
        return max(0, self._time_us - clock.to_us(began)) / 1000

    # --- the rest ---

    def noted(self) -> Work[Projection]:
        """What changes no step is kept as a note."""
        note = self._note(self._fields)

        def work(tx: Transaction) -> Projection:
            note(tx)
            return ["state"]

        return work

    def _note(self, fields: Mapping[str, Any]) -> Callable[[Transaction], None]:
        time_us = self._now_us if self._event.time_us is None else min(self._event.time_us, self._now_us)
        name, data = notes.prepare(self._event.event, fields, time_us, self._operation_id, self._redaction)
        return partial(notes.put, name=name, data=data)


def _shown(error: object) -> str:
    """An error that is no text, as text; one of the other side may be anything."""
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__}>"


def _counted(done: AgentPerformance, time_us: int) -> AgentPerformance:
    """With the error rate that follows from the counts, and when the agent was last heard of."""
    tasks = done.tasks_completed + done.tasks_failed
    rate = done.tasks_failed / tasks if tasks else 0.0
    return replace(done, error_rate=rate, last_activity=clock.to_datetime(time_us))


_METHODS = {
    name: name
    for name in (
        *("workflow_start", "workflow_complete", "workflow_error", "step_start", "step_complete", "step_error"),
        *("agent_start", "agent_complete", "agent_error", "checkpoint_request"),
    )
}


def _steps_of(given: object) -> list[WorkflowStep | str]:
    """The steps that a workflow is said to have: ids, steps, or their fields in either naming. Raises InvalidInput."""
    if given is None:
        return []
    if not isinstance(given, (list, tuple)):
        raise InvalidInput(f"the steps of a workflow are a list, not {type(given).__name__}")
    return [_step_of(each) for each in cast("Sequence[Any]", given)]


def _step_of(given: Any) -> WorkflowStep | str:
    if not isinstance(given, Mapping):
        return given
    fields = {snake_case(str(key)): value for key, value in cast("Mapping[Any, Any]", given).items()}
    if "id" not in fields:
        raise InvalidInput("a step has an id")
    known = {name: fields[name] for name in _FIELDS_OF_A_STEP if fields.get(name) is not None}
    return WorkflowStep(**known)


_FIELDS_OF_A_STEP = ("id", "name", "agent_id", "dependencies", "parallel", "max_retries")
