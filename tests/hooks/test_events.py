"""What each of the twelve events does, whichever store it is done in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Pretend
from tests.hooks.support import NOW_MS, emit, flat, nested, notes, state, step, tags
from waypost import clock
from waypost.blocking import Waypost
from waypost.errors import (
    DependencyUnfinished,
    IllegalTransition,
    InvalidId,
    InvalidInput,
    InvalidValue,
    InvalidWorkflow,
    SessionEnded,
    StepBusy,
    WorkflowNotFound,
    WorkflowPaused,
)
from waypost.models import StepOwner, WorkflowStep

Shape = Callable[..., dict[str, Any]]
both_shapes = pytest.mark.parametrize("shape", [nested, flat])


# --- workflows ---


@both_shapes
def test_trap_33_workflow_start_makes_a_workflow_with_name_and_steps(wp: Waypost, shape: Shape) -> None:
    """An unknown workflow is made with the name and the steps that are given; it is the result."""
    steps = ["a", {"id": "b", "name": "B", "agentId": "x", "dependencies": ["a"], "maxRetries": 2, "status": "pending"}]
    made = emit(wp, "workflow_start", shape(workflowName="My Workflow", status="started", steps=steps))
    assert made == state(wp)
    assert (made.workflow.name, made.workflow.status) == ("My Workflow", "idle")
    assert list(made.workflow.steps) == [
        WorkflowStep("a"),
        WorkflowStep("b", "B", agent_id="x", dependencies=["a"], max_retries=2),
    ]
    assert [each.tags for each in wp.list_checkpoints("w").items] == [("initial",)]


def test_workflow_start_leaves_a_workflow_as_it_is(wp: Waypost) -> None:
    """One that is there keeps its name, its steps, and being paused."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    before = wp.pause_workflow("w").unwrap()
    emit(wp, "workflow_start", nested(workflowName="Other", steps=["b"]))
    assert state(wp).workflow == before.workflow


@both_shapes
def test_workflow_complete_is_kept(wp: Waypost, shape: Shape) -> None:
    """The end of a workflow is a checkpoint that says so; what its steps say of it stays."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    ended = emit(wp, "workflow_complete", shape())
    assert (ended.workflow.status, tags(wp)) == ("idle", [("completion", "final", "preserve")])
    assert wp.list_checkpoints("w").items[0].type == "automatic"


@both_shapes
def test_workflow_error_is_recorded_and_kept(wp: Waypost, shape: Shape) -> None:
    """The error is in a note, and the checkpoint of that moment holds it."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    emit(wp, "workflow_error", shape(error="it broke"))
    assert tags(wp) == [("error", "recovery", "analysis")]
    note = {"event": "workflow_error", "at": clock.to_datetime(NOW_MS * 1000), "fields": {"error": "it broke"}}
    assert notes(wp) == [note]
    kept = wp.list_checkpoints("w").items[0].state.context.variables
    assert [kept[name] for name in kept] == [note]


def test_workflow_error_without_a_reason(wp: Waypost) -> None:
    """An error that nobody explains is recorded as unknown."""
    emit(wp, "workflow_error", nested())
    assert notes(wp)[0]["fields"] == {"error": "unknown error"}


# --- steps ---


@both_shapes
def test_trap_33_a_step_from_start_to_end(wp: Waypost, shape: Shape) -> None:
    """The README's own events (fields in `data`) move a step, and so do those with their fields at the top."""
    wp.create_workflow("w", "W", steps=["s"]).unwrap()
    started = emit(wp, "step_start", shape(stepId="s", agentId="agent1"))
    assert (started.status, started.agent_id, started.owner is None) == ("running", "agent1", False)
    assert state(wp).workflow.current_step == "s"
    done = emit(wp, "step_complete", shape(stepId="s", status="completed", output={"result": "success"}))
    assert done == step(wp)
    assert (done.status, done.output, done.owner) == ("completed", {"result": "success"}, None)
    assert state(wp).workflow.progress == 100


@both_shapes
def test_step_error_says_why(wp: Waypost, shape: Shape) -> None:
    """A step that failed has its error and its output, and the workflow has failed with it."""
    wp.create_workflow("w", "W", steps=["s"]).unwrap()
    emit(wp, "step_start", shape(stepId="s"))
    failed = emit(wp, "step_error", shape(stepId="s", error="no disk", output={"done": 3}))
    assert (failed.status, failed.error, failed.output) == ("failed", "no disk", {"done": 3})
    assert (state(wp).workflow.status, state(wp).workflow.error) == ("failed", "no disk")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ({"message": "no disk", "stack": "…"}, "no disk"),
        (OSError("no disk"), "no disk"),
        (None, None),
        (5, "5"),
        ([10**5000], "<list>"),
    ],
)
def test_errors_of_any_kind_become_text(wp: Waypost, error: object, text: str | None) -> None:
    """An error may be an object of the other side: what it says is recorded."""
    failed = emit(wp, "step_error", nested(stepId="s", error=error))
    assert failed.error == text


@pytest.mark.parametrize("output", [0, "", False, None, [], {"a": 1}])
def test_trap_33_outputs_that_are_falsy_are_outputs(wp: Waypost, output: object) -> None:
    """What was told as an output is one; what was not told is none."""
    emit(wp, "step_complete", nested(stepId="s", output=output))
    emit(wp, "step_complete", nested(stepId="t"))
    assert wp.get_step_output("w", "s").output == output
    assert step(wp, "t").output_version == 0


@pytest.mark.parametrize("event", ["step_start", "step_complete", "step_error"])
def test_trap_33_unknown_workflows_and_steps_are_made(wp: Waypost, event: str) -> None:
    """An event of a step that is not known makes it, and its workflow, under the names given."""
    emit(wp, event, nested(stepId="s", stepName="Step", workflowName="Flow", agentId="x"))
    assert (state(wp).workflow.name, step(wp).name, step(wp).agent_id) == ("Flow", "Step", "x")
    emit(wp, event, nested(stepId="t"))
    assert [(each.id, each.name) for each in state(wp).workflow.steps] == [("s", "Step"), ("t", "t")]


def test_steps_keep_their_rules(wp: Waypost) -> None:
    """An event does nothing that an update may not do, and is told what keeps it from it."""
    wp.create_workflow("w", "W", steps=["a", WorkflowStep("b", dependencies=["a"])]).unwrap()
    assert isinstance(wp.emit_hook_event("step_start", nested(stepId="b")).error, DependencyUnfinished)
    emit(wp, "step_complete", nested(stepId="a", output=1))
    again = wp.emit_hook_event("step_complete", nested(stepId="a", output=2))
    assert isinstance(again.error, IllegalTransition)
    assert emit(wp, "step_complete", nested(stepId="a", output=1)).output == 1
    wp.pause_workflow("w").unwrap()
    assert isinstance(wp.emit_hook_event("step_start", nested(stepId="b")).error, WorkflowPaused)
    assert step(wp, "b").status == "pending"


def test_a_step_that_another_process_does_is_left_to_it(wp: Waypost, as_living_process: Pretend) -> None:
    """A step that runs elsewhere is not started again by an event."""
    with as_living_process():
        emit(wp, "step_start", nested(stepId="s"))
    assert isinstance(wp.emit_hook_event("step_start", nested(stepId="s")).error, StepBusy)


def test_a_deleted_workflow_stays_deleted(wp: Waypost) -> None:
    """A late event does not bring a workflow back; to start it anew is another matter."""
    wp.create_workflow("w", "W", steps=["s"]).unwrap()
    wp.delete_workflow("w").unwrap()
    assert isinstance(wp.emit_hook_event("step_complete", nested(stepId="s")).error, WorkflowNotFound)
    assert emit(wp, "workflow_start", nested()).workflow.steps == []


# --- agents ---


@both_shapes
def test_an_agent_from_start_to_end(wp: Waypost, shape: Shape) -> None:
    """An agent is active, then idle with its task counted and its time and memory told."""
    agent = emit(wp, "agent_start", shape(agentId="a", agentName="Agent", currentTask="parse"))
    assert (agent.id, agent.name, agent.status, agent.current_task) == ("a", "Agent", "active", "parse")
    performance = {"memoryUsage": 1000, "executionTime": 300}
    emit(wp, "agent_complete", shape(agentId="a", performance=performance))
    agent = emit(wp, "agent_complete", shape(agentId="a", performance={**performance, "executionTime": 100}))
    assert (agent.name, agent.status, agent.current_task) == ("Agent", "idle", None)
    assert (agent.performance.tasks_completed, agent.performance.average_execution_time_ms) == (2, 200)
    assert agent.performance.last_activity == clock.to_datetime(NOW_MS * 1000)
    assert agent.resources.memory_usage_bytes == 1000
    assert state(wp).performance.agent_performance == {"a": agent.performance}
    assert state(wp).performance.memory_peak_usage_bytes == 1000


def test_agent_error_rate_is_failures_of_all(wp: Waypost) -> None:
    """The rate is failed tasks / all tasks, and falls again."""
    rates: list[float] = []
    for event in ("agent_error", "agent_error", "agent_complete", "agent_complete", "agent_complete", "agent_error"):
        agent = emit(wp, event, nested(agentId="a"))
        rates.append(round(agent.performance.error_rate, 3))
        assert agent.status == ("error" if event == "agent_error" else "idle")
    assert rates == [1.0, 1.0, 0.667, 0.5, 0.4, 0.5]
    assert (agent.performance.tasks_completed, agent.performance.tasks_failed) == (3, 3)


def test_the_time_of_a_task_is_that_since_its_start(wp: Waypost) -> None:
    """Where no duration is told, the times of both events say it."""
    emit(wp, "agent_start", flat(agent_id="a"))
    agent = emit(wp, "agent_complete", {**flat(agent_id="a"), "timestamp": NOW_MS + 250})
    assert agent.performance.average_execution_time_ms == 250


def test_what_agents_put_out_or_fail_with_is_noted(wp: Waypost) -> None:
    """An agent has no place for outputs and errors: they are in notes."""
    emit(wp, "agent_complete", nested(agentId="a", outputs={"files": ["x"]}))
    emit(wp, "agent_error", nested(agentId="a", error="lost"))
    emit(wp, "agent_complete", nested(agentId="a"))
    said = [(each["event"], each["fields"]) for each in notes(wp)]
    assert ("agent_complete", {"agent_id": "a", "outputs": {"files": ["x"]}}) in said
    assert ("agent_error", {"agent_id": "a", "error": "lost"}) in said
    assert len(said) == 2


# --- checkpoints ---


@both_shapes
def test_trap_34_one_request_is_one_checkpoint(wp: Waypost, shape: Shape) -> None:
    """A checkpoint_request makes one checkpoint, with the description and the tags that were given."""
    wp.create_workflow("w", "W", steps=["s"]).unwrap()
    made = emit(wp, "checkpoint_request", shape(description="Before it", tags=["milestone", "mine"], type="manual"))
    assert (made.type, made.description, made.tags) == ("manual", "Before it", ("milestone", "mine"))
    assert tags(wp) == [("milestone", "mine")]
    assert emit(wp, "checkpoint_request", shape(tags="one")).tags == ("one",)
    assert len(tags(wp)) == 2


def test_a_checkpoint_of_nothing_is_refused(wp: Waypost) -> None:
    """A request for a workflow that is not there makes none."""
    assert isinstance(wp.emit_hook_event("checkpoint_request", nested()).error, WorkflowNotFound)
    assert wp.list_workflows().total == 0


# --- sessions ---


def test_a_session_from_start_to_end(wp: Waypost) -> None:
    """session_start makes a session that this process holds, session_end ends it with checkpoints of its live
    workflows.
    """
    started = emit(wp, "session_start", {"sessionId": "S", "data": {"userId": "u"}})
    assert (started.status, started.user_id) == ("active", "u")
    assert wp.session_id is None  # it is not this handle's, unless it enters it
    emit(wp, "step_complete", {"sessionId": "S", **nested("done", stepId="s")})
    emit(wp, "step_start", {"sessionId": "S", **nested("open", stepId="s")})
    emit(wp, "step_start", nested("other", stepId="s"))
    ended = emit(wp, "session_end", {"sessionId": "S"})
    assert (ended.status, ended.active_workflows, ended.completed_workflows) == ("completed", ["open"], ["done"])
    assert [("session_end", "S") in tags(wp, each) for each in ("open", "done", "other")] == [True, False, False]
    assert emit(wp, "session_end", {"sessionId": "S"}).status == "completed"
    late = wp.emit_hook_event("step_complete", {"sessionId": "S", **nested("open", stepId="s")})
    assert isinstance(late.error, SessionEnded)


def test_session_start_leaves_a_session_as_it_is(wp: Waypost) -> None:
    """One that is there is given as it is."""
    wp.start_session("u", session_id="S")
    assert emit(wp, "session_start", {"sessionId": "S"}).user_id == "u"


def test_the_end_of_a_label_keeps_its_workflows(wp: Waypost) -> None:
    """A session that is only a name has checkpoints made of its live workflows, once for each event."""
    emit(wp, "step_complete", {"sessionId": "label", **nested("done", stepId="s")})
    for name in ("v", "w"):
        emit(wp, "step_start", {"sessionId": "label", **nested(name, stepId="s")})
    made = emit(wp, "session_end", {"id": "e", "sessionId": "label"})
    assert sorted(made) == sorted(wp.list_checkpoints(name).items[0].id for name in ("v", "w"))
    assert emit(wp, "session_end", {"id": "e", "sessionId": "label"}) == made
    assert tags(wp, "v") == tags(wp, "w") == [("session_end", "label")]
    assert tags(wp, "done") == []


def test_a_session_of_another_process_is_not_ended(wp: Waypost, as_living_process: Pretend) -> None:
    """Its end is the owner's to tell: what this one says makes the checkpoints, and the session goes on."""
    with as_living_process():
        wp.definitions.sessions.start_for("S", StepOwner.this_process(), {}, "op")
    emit(wp, "step_start", {"sessionId": "S", **nested(stepId="s")})
    emit(wp, "session_end", {"sessionId": "S"})
    assert (wp.get_session("S").status, tags(wp)) == ("active", [("session_end", "S")])


# --- once ---


def test_d12_an_event_that_comes_twice_acts_once(wp: Waypost) -> None:
    """The id of an event is the operation id of its commit, and gives its first result again."""
    for event, data in (
        ("workflow_start", {"workflowName": "W"}),
        ("step_start", {"stepId": "s"}),
        ("step_complete", {"stepId": "s", "output": 1}),
        ("agent_complete", {"agentId": "a"}),
        ("checkpoint_request", {"description": "x"}),
        ("workflow_error", {"error": "e"}),
        ("git.commit", {"files_changed": 3}),
    ):
        first = wp.emit_hook_event(event, {"id": f"id {event}", **nested(**data)})
        before = state(wp)
        again = wp.emit_hook_event(event, {"id": f"id {event}", **nested(**data)})
        assert (again.unwrap(), again.success and again.repeated) == (first.unwrap(), True)
        assert state(wp).metadata == before.metadata
        assert wp.get_outcome(f"id {event}").data == first.unwrap()


def test_an_events_effects_are_one_commit(wp: Waypost) -> None:
    """Workflow, step, output and checkpoint of one event are one version: all of it, or nothing."""
    emit(wp, "step_error", nested(stepId="s", error="e", output=1))
    assert state(wp).metadata.version == 1
    assert len(wp.list_checkpoints("w").items) == 2
    (entry,) = wp.history("w")
    assert entry.operation == "step_error"
    bad = wp.emit_hook_event("step_complete", nested("v", stepId="s", output=object()))
    assert isinstance(bad.error, InvalidValue)
    assert wp.list_workflows().total == 1


# --- bad input ---


@pytest.mark.parametrize(
    ("event", "payload", "error"),
    [
        ("step_complete", {"stepId": "s"}, InvalidInput),
        ("step_complete", {"workflowId": "w"}, InvalidInput),
        ("step_complete", {"workflowId": "w", "stepId": 5}, InvalidId),
        ("step_complete", {"workflowId": 5, "stepId": "s"}, InvalidId),
        ("step_complete", {"workflowId": "w", "stepId": "s", "output": {1, object()}}, InvalidValue),
        ("step_complete", {"workflowId": "w", "stepId": "s", "timestamp": "soon"}, InvalidInput),
        ("step_complete", {"workflowId": "w", "stepId": "s", "id": "a\nb"}, InvalidId),
        ("agent_start", {"workflowId": "w"}, InvalidInput),
        ("agent_start", {"workflowId": "w", "agentId": ""}, InvalidId),
        ("checkpoint_request", {"workflowId": "w", "tags": [5]}, InvalidId),
        ("workflow_start", {"workflowId": "w", "steps": "abc"}, InvalidInput),
        ("workflow_start", {"workflowId": "w", "steps": ["a", "a"]}, InvalidWorkflow),
        ("workflow_start", {"workflowId": "w", "steps": [{"name": "a"}]}, InvalidInput),
        ("workflow_start", {"workflowId": "w", "steps": [{"id": "a", "dependencies": "b"}]}, InvalidWorkflow),
        ("workflow_start", {"workflowId": "w", "steps": [5]}, InvalidWorkflow),
        ("session_start", {}, InvalidInput),
        ("session_end", {"sessionId": []}, InvalidId),
        ("session_start", {"sessionId": "s", "userId": 5}, InvalidId),
        ("file.modified", {}, InvalidInput),
        ("", {"workflowId": "w"}, InvalidId),
        ("step_start", [], InvalidInput),
    ],
)
def test_trap_33_an_unusable_event_is_an_error_that_is_told(
    wp: Waypost, event: str, payload: Any, error: type[Exception]
) -> None:
    """Whatever cannot be used is a Failure that says why, and changes nothing."""
    result = wp.emit_hook_event(event, payload)
    assert not result.success
    assert isinstance(result.error, error), result.error
    assert (result.status, wp.list_workflows().total, len(wp.list_sessions().items)) == ("rolled_back", 0, 0)
