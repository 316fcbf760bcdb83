"""The tools that write. All but the making of a run is done under a claim, which keeps a second orchestrator out.

An operation id makes a call that may be sent twice one that is done once: the store gives the first result again.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from waypost import triage
from waypost.blocking import Waypost
from waypost.errors import CheckpointNotFound, InvalidInput
from waypost.folding import StepStatus
from waypost.mcp import rows
from waypost.mcp.plans import sort_pending
from waypost.mcp.reads import CheckpointId, RunId, StepId
from waypost.mcp.results import (
    CheckpointMade,
    Claimed,
    Deleted,
    Names,
    RunChanged,
    StepChanged,
)
from waypost.mcp.stores import Stores, claim_of
from waypost.models import StateCheckpoint, Tombstone, WorkflowState, WorkflowStep
from waypost.operations import OperationResult, Success
from waypost.records import MAX_ID_LENGTH

T = TypeVar("T")

OperationId = Annotated[
    str,
    Field(
        max_length=512,
        description="Any new text. The same call with the same one again changes nothing and gives the first result: "
        "send it again after an answer that was lost.",
    ),
]
AgentId = Annotated[str, Field(max_length=512, description="Who does it; recorded with the change.")]
_MOST_STEPS = 1_000
_MOST_TAGS = 20
_MOST_NOTES = 50

_STATUSES: dict[str, StepStatus] = {
    "start": "running", "complete": "completed", "fail": "failed", "skip": "skipped"
}  # fmt: skip


class NewStep(BaseModel):
    """A step of a new run."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, max_length=512)
    name: str = Field("", max_length=2_000, description="As the id by default.")
    depends_on: list[str] = Field([], max_length=_MOST_STEPS, description="Ids of steps that must be finished first.")
    max_retries: int = Field(0, ge=0, le=1_000, description="How often it may be started again after it failed.")

    def as_step(self) -> WorkflowStep:
        return WorkflowStep(self.id, self.name, dependencies=self.depends_on, max_retries=self.max_retries)


class WriteTools:
    """What can be changed."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def start_run(
        self,
        run_id: RunId,
        steps: Annotated[list[NewStep], Field(max_length=_MOST_STEPS, description="The plan, in its order.")],
        name: Annotated[str, Field(max_length=2_000, description="For people; as the id by default.")] = "",
        operation_id: OperationId = "",
    ) -> RunChanged:
        """Make a run, all of whose steps are pending, and claim it for this server. The store is made where there is
        none. Record each step with set_step as you begin and end it.
        """
        wp = self._stores.writer(create=True)
        new = [step.as_step() for step in steps]
        made = wp.create_workflow(run_id, name or run_id, steps=new, operation_id=operation_id or None)
        made = _done(made, _is(WorkflowState))
        self._stores.claim(run_id)
        return _changed(made)

    def set_step(
        self,
        run_id: RunId,
        step_id: StepId,
        action: Annotated[
            Literal["start", "complete", "fail", "skip", "reset"],
            Field(description="reset makes a step that ended pending again; its outputs stay."),
        ],
        output: Annotated[
            Any, Field(description="Its result as JSON; null is none. Only with start, complete and fail.")
        ] = None,
        output_text: Annotated[str, Field(description="Its result as text, in place of `output`; kept exactly.")] = "",
        error: Annotated[str, Field(max_length=20_000, description="Why it failed; needed with fail.")] = "",
        agent_id: AgentId = "",
        operation_id: OperationId = "",
    ) -> StepChanged:
        """Record that a step begins, or how it ended. A step that is running belongs to this server until it ends:
        start it before you do it. Claims the run.
        """
        value = _value(output, output_text)
        if action == "fail" and not error:
            raise InvalidInput("say in `error` why the step failed")
        if error and action != "fail":
            raise InvalidInput(f"an error belongs to fail, and not to {action}")
        if value and action in ("skip", "reset"):
            raise InvalidInput(f"{action} takes no output")
        _expect(self._stores.writer(), run_id)
        with self._stores.claimed(run_id) as (wp, session):
            if action == "reset":
                reset = wp.reset_step(run_id, step_id, operation_id=operation_id or None, session_id=session)
                reset = _done(reset, _is(list))
                step = _only(reset.data) or wp.load_workflow_state(run_id).unwrap().step(step_id)
                return _step_changed(wp, run_id, step, reset)
            moved = _done(
                wp.update_step_status(
                    run_id,
                    step_id,
                    _STATUSES[action],
                    **value,
                    error=error or None,
                    agent_id=agent_id or None,
                    operation_id=operation_id or None,
                    session_id=session,
                ),
                _is_step(step_id, _STATUSES[action]),
            )
            return _step_changed(wp, run_id, moved.data, moved)

    def save_checkpoint(
        self,
        run_id: RunId,
        description: Annotated[str, Field(max_length=2_000, description="What is true of the run now.")] = "",
        tags: Annotated[list[str], Field(max_length=_MOST_TAGS)] = [],  # noqa: B006  # never changed
        notes: Annotated[
            dict[str, Any],
            Field(
                max_length=_MOST_NOTES, description="Put among the run's variables first, by key: what the next needs."
            ),
        ] = {},  # noqa: B006
        operation_id: OperationId = "",
    ) -> CheckpointMade:
        """Keep the run as it is now, to go back to or to hand over. Claims the run."""
        _expect(self._stores.writer(), run_id)
        operation = operation_id or None
        with self._stores.claimed(run_id) as (wp, session):
            if notes:
                # in a commit of its own: with the same operation id it is not made again
                noted = None if operation is None else _beside(operation, "notes")
                _done(wp.update_context(run_id, variables=notes, operation_id=noted, session_id=session))
            made = wp.create_checkpoint(run_id, description, tags, operation_id=operation, session_id=session)
            made = _done(made, _is(StateCheckpoint))
            return CheckpointMade(checkpoint=rows.of_checkpoint(made.data), **_told(made))

    def claim_run(
        self,
        run_id: RunId,
        action: Annotated[
            Literal["claim", "take_over", "release"],
            Field(description="take_over also takes it from a process that is alive, whose writes fail from then on."),
        ] = "claim",
    ) -> Claimed:
        """Hold a run for this server, so that no other MCP server writes to it meanwhile, or let go of it. Every tool
        that writes claims it, too; the claim ends with this server.
        """
        wp = self._stores.writer()
        _expect(wp, run_id)
        if action == "release":
            self._stores.release(run_id)
        else:
            self._stores.claim(run_id, take_over=action == "take_over", anew=True)
        sorted_ = triage.triage(wp.definitions.store, None, run_id)
        left = [] if sorted_ is None else [*sorted_.ambiguous]
        return Claimed(run_id=run_id, claim=claim_of(wp, run_id), interrupted=Names.of(left))


class RestoreTool:
    """Going back, which takes the newest state out of sight."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def restore_checkpoint(
        self,
        checkpoint_id: CheckpointId,
        confirm: Annotated[str, Field(max_length=600, description="The checkpoint id once more.")],
        operation_id: OperationId = "",
    ) -> RunChanged:
        """Make a run what it was at a checkpoint, as a new version of it: history and checkpoints stay. Look at `diff`
        of the run and the checkpoint first, and ask the user. Claims the run.
        """
        _confirm(checkpoint_id, confirm)
        wp = self._stores.writer()
        found = wp.get_checkpoint(checkpoint_id)
        if found.id != checkpoint_id:
            raise CheckpointNotFound(f"there is no checkpoint {checkpoint_id!r}: give its id whole")
        with self._stores.claimed(found.workflow_id) as (wp, session):
            operation = operation_id or None
            restored = wp.restore_from_checkpoint(found.id, operation_id=operation, session_id=session)
            return _changed(_done(restored, _is(WorkflowState)))


class DeleteTool:
    """Deleting, which nothing brings back."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def delete_run(
        self,
        run_id: RunId,
        confirm: Annotated[str, Field(max_length=512, description="The run id once more.")],
        operation_id: OperationId = "",
    ) -> Deleted:
        """Delete a run with all that belongs to it, for good. Ask the user first."""
        _confirm(run_id, confirm)
        wp, operation = self._stores.writer(), operation_id or None
        if operation is None:
            _expect(wp, run_id)
        with self._stores.claimed(run_id) as (wp, session):
            gone = wp.delete_workflow(run_id, operation_id=operation, session_id=session)
            gone = _done(gone, _is(Tombstone))
        self._stores.release(run_id)
        return Deleted(
            run_id=run_id, deleted_at=gone.data.deleted_at, operation_id=gone.operation_id, repeated=gone.repeated
        )


# --- what they share ---


def _expect(wp: Waypost, run_id: str) -> None:
    """Raises WorkflowNotFound, before anything is written in the name of a claim."""
    wp.load_workflow_state(run_id).unwrap()


def _confirm(named: str, confirm: str) -> None:
    if confirm != named:
        raise InvalidInput("nothing was changed: `confirm` has to repeat the id, letter for letter")


def _value(output: Any, output_text: str) -> dict[str, Any]:
    """The output as an argument, if there is one: None is one for the store, and none here."""
    if output is not None and output_text:
        raise InvalidInput("give the result as `output` or as `output_text`, and not as both")
    if output_text:
        return {"output": output_text}
    return {} if output is None else {"output": output}


def _beside(operation_id: str, what: str) -> str:
    """The id of another operation that belongs to one; no two ids lead to the same, however long they are."""
    named = f"{operation_id}/{what}"
    return named if len(named) <= MAX_ID_LENGTH else f"{sha256(operation_id.encode()).hexdigest()}/{what}"


def _done(result: OperationResult[T], is_of_it: Callable[[T], bool] = lambda _: True) -> Success[T]:
    """What was done, now or under the same operation id before. Raises what failed, and InvalidInput where that was
    something else: what is asked for now was not done.
    """
    result.unwrap()
    assert isinstance(result, Success)
    if result.repeated and not is_of_it(result.data):
        raise InvalidInput("nothing was done: that operation_id was sent with another call before; give a new one")
    return result


def _is(kind: type) -> Callable[[object], bool]:
    return lambda data: isinstance(data, kind)


def _is_step(step_id: str, status: StepStatus) -> Callable[[object], bool]:
    return lambda data: isinstance(data, WorkflowStep) and (data.id, data.status) == (step_id, status)


def _told(result: Success[Any]) -> dict[str, Any]:
    return {"operation_id": result.operation_id, "repeated": result.repeated, "durability": result.durability}


def _changed(result: Success[Any]) -> RunChanged:
    return RunChanged(run=rows.of_state(result.data), **_told(result))


def _only(changed: list[WorkflowStep]) -> WorkflowStep | None:
    return changed[0] if changed else None


def _step_changed(wp: Waypost, run_id: str, step: WorkflowStep, result: Success[Any]) -> StepChanged:
    ready, _ = sort_pending(list(wp.load_workflow_state(run_id).unwrap().workflow.steps))
    return StepChanged(step=rows.of_step(step), next=Names.of(ready), **_told(result))
