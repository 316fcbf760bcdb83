"""What is kept, as objects: steps, outputs and agents by themselves, and what folds out of the steps."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from waypost.blocking import Waypost
from waypost.errors import StepNotFound
from waypost.folding import WorkflowStatus, fold
from waypost.models import (
    AgentPerformance,
    AgentResources,
    AgentState,
    StateMetadata,
    StepOutput,
    Workflow,
    WorkflowState,
    WorkflowStep,
)
from waypost.records import STEPS, encode

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


# --- single objects ---


def test_a_step_is_named_after_its_id() -> None:
    """A step without a name bears its id as name, made by hand or given as a string."""
    assert WorkflowStep("a").name == "a"
    assert WorkflowStep("a", "Name").name == "Name"
    assert Workflow("w", steps=["a"]).steps == [WorkflowStep("a")]  # type: ignore[list-item]
    assert (AgentState("x").name, Workflow("w").name) == ("x", "w")


def test_steps_do_not_share_their_lists() -> None:
    """Changing the dependencies of one step changes no other."""
    first, second = WorkflowStep("a"), WorkflowStep("b")
    first.dependencies.append("x")
    assert second.dependencies == []


def test_a_step_comes_back_from_its_bytes_equal() -> None:
    """Every field of a step survives encoding, and encodes to the same bytes again."""
    step = WorkflowStep("a", "A", "agent", "failed", at(0.000001), at(2), ["x", "y"], False, 1, 3, "error", 2, None, 4)
    data = encode(step)
    assert STEPS.decode("step", data) == step
    assert encode(STEPS.decode("step", data)) == data


def test_the_places_of_stored_fields_never_change() -> None:
    """Steps are stored by the place of their fields: new fields come last, and none moves."""
    assert WorkflowStep.__struct_fields__[:14] == (
        "id",
        "name",
        "agent_id",
        "status",
        "start_time",
        "end_time",
        "dependencies",
        "parallel",
        "retry_count",
        "max_retries",
        "error",
        "interruptions",
        "owner",
        "output_version",
    )
    assert StepOutput.__struct_fields__[:6] == (
        "step_id",
        "agent_id",
        "timestamp",
        "size_bytes",
        "checksum",
        "version",
    )


def test_the_output_of_a_step_by_hand() -> None:
    """A step that comes from no store keeps the output it was given, and takes no part in equality by it."""
    step = WorkflowStep("a")
    assert step.output is None
    step.output = {"rows": 3}
    assert step.output == {"rows": 3}
    assert step == WorkflowStep("a")


def test_what_is_true_cannot_be_changed() -> None:
    """Metadata and outputs are facts: assigning to their fields fails."""
    for made, name in ((StateMetadata(), "version"), (StepOutput.of("a", 1), "checksum")):
        with pytest.raises(AttributeError):
            setattr(made, name, 5)


def test_a_value_is_decoded_once_and_when_asked_for(wp: Waypost) -> None:
    """The value of an output stays encoded until it is touched, and is the same object from then on."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.update_step_status("w", "a", "completed", [1]).unwrap()
    output = wp.load_workflow_state("w").unwrap().outputs["a"]
    assert "_value" not in vars(output)
    assert output.output is output.output


def test_a_copy_keeps_what_it_was_copied_from(wp: Waypost) -> None:
    """Copies of loaded things, deep or not, have their outputs, and a deep copy of a state can be changed and saved."""
    wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
    step = wp.update_step_status("w", "a", "completed", [1]).unwrap()
    state = wp.load_workflow_state("w").unwrap()
    state.step("a").output.append(2)
    output = wp.get_step_output("w", "a")
    for copied in (copy.copy, copy.deepcopy):
        assert copied(step).output == [1]
        assert copied(output).output == [1]
        assert copied(state).step("a").output == [1, 2]
    other = copy.deepcopy(state)
    other.step("a").output.append(3)
    other.step("b").name = "B"
    assert (state.outputs["a"].output, state.step("b").name) == ([1, 2], "b")
    saved = wp.save_workflow_state(other).unwrap()
    assert (saved.outputs["a"].output, saved.outputs["a"].version, saved.step("b").name) == ([1, 2, 3], 2, "B")


def test_steps_and_outputs_travel_between_processes_with_their_values(wp: Waypost) -> None:
    """What is sent to another process arrives with the value that it had, or is refused, and never without it."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    step = wp.update_step_status("w", "a", "completed", [1]).unwrap()
    output = wp.get_step_output("w", "a")
    for sent in (step, output):
        arrived = pickle.loads(pickle.dumps(sent))
        assert (arrived, arrived.output) == (sent, [1])
    assert pickle.loads(pickle.dumps(WorkflowStep("b"))).output is None
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(wp.load_workflow_state("w").unwrap())


def test_a_step_is_found_by_its_id(wp: Waypost) -> None:
    """`state.step` finds steps of loaded, edited and hand-made states, and raises for others."""
    made = WorkflowState(workflow=Workflow("w", steps=["a", "b"]))  # type: ignore[list-item]
    loaded = wp.save_workflow_state(made).unwrap()
    edited = wp.load_workflow_state("w").unwrap()
    edited.workflow.steps.append(WorkflowStep("c"))
    for state in (made, loaded, edited):
        assert state.step("b").id == "b"
        with pytest.raises(StepNotFound):
            state.step("x")
    assert edited.step("c") is edited.workflow.steps[2]


# --- folding ---


@pytest.mark.parametrize(
    ("steps", "paused", "expected"),
    [
        ([], False, "idle"),
        (["pending"], False, "idle"),
        (["pending"], True, "paused"),
        (["running", "pending"], False, "running"),
        (["completed", "pending"], False, "running"),
        (["skipped", "pending"], False, "running"),
        (["running"], True, "paused"),
        (["completed", "skipped"], False, "completed"),
        (["completed", "skipped"], True, "completed"),
        (["completed", "failed"], False, "failed"),
        (["running", "failed"], True, "failed"),
    ],
)
def test_trap_26_the_status_follows_from_the_steps(steps: list[Any], paused: bool, expected: WorkflowStatus) -> None:
    """A workflow is idle until a step starts, completed when all are finished, failed when one has no retries left."""
    workflow = Workflow("w", steps=[WorkflowStep(str(n), status=one) for n, one in enumerate(steps)], paused=paused)
    assert workflow.status == expected


def test_a_failed_step_with_retries_left_fails_nothing() -> None:
    """A workflow fails only when a failed step may not be tried again."""
    step = WorkflowStep("a", status="failed", retry_count=1, max_retries=2, error="x")
    assert (Workflow("w", steps=[step]).status, Workflow("w", steps=[step]).error) == ("running", None)
    step.retry_count = 2
    assert (Workflow("w", steps=[step]).status, Workflow("w", steps=[step]).error) == ("failed", "x")


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [([], 0), (["pending"], 0), (["completed", "pending", "running", "failed"], 25), (["completed", "skipped"], 100)],
)
def test_trap_26_progress_is_the_share_of_finished_steps(statuses: list[Any], expected: float) -> None:
    """Progress is finished / all x 100, and ends at 100."""
    steps = [WorkflowStep(str(n), status=one) for n, one in enumerate(statuses)]
    assert Workflow("w", steps=steps).progress == expected


def test_trap_26_times_are_what_their_names_say() -> None:
    """Start, end and durations come from the steps' times and from nothing else."""
    steps = [
        WorkflowStep("a", status="completed", start_time=at(1), end_time=at(3)),
        WorkflowStep("b", status="completed", start_time=at(2), end_time=at(2.5)),
        WorkflowStep("c", status="completed", end_time=at(6)),
    ]
    folded = fold(steps, paused=False)
    assert (folded.start_time, folded.end_time) == (at(1), at(6))
    assert folded.total_execution_time_ms == 5000
    assert folded.step_execution_times_ms == {"a": 2000, "b": 500}
    steps.append(WorkflowStep("d", status="running", start_time=at(7)))
    folded = fold(steps, paused=False)
    assert (folded.end_time, folded.current_step, folded.total_execution_time_ms) == (None, "d", 6000)


def test_a_failed_workflow_ends_when_nothing_runs_any_more() -> None:
    """A failed workflow has no end while another step is still running."""
    steps = [
        WorkflowStep("a", status="failed", start_time=at(0), end_time=at(1)),
        WorkflowStep("b", status="running", start_time=at(0)),
    ]
    assert (Workflow("w", steps=steps).status, Workflow("w", steps=steps).end_time) == ("failed", None)
    assert Workflow("w", steps=steps[:1]).end_time == at(1)


def test_the_current_step_is_the_one_started_last() -> None:
    """With several steps running, the current one is the last to have started; with none, there is none."""
    steps = [WorkflowStep(name, status="running", start_time=at(when)) for name, when in (("a", 1), ("b", 3), ("c", 2))]
    assert Workflow("w", steps=steps).current_step == "b"
    assert Workflow("w", steps=[WorkflowStep("a")]).current_step is None


def test_folded_values_follow_changes_in_place(wp: Waypost) -> None:
    """A loaded workflow tells its status anew once a step was touched, and cannot be told one."""
    wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
    workflow = wp.load_workflow_state("w").unwrap().workflow
    assert (workflow.status, workflow.progress) == ("idle", 0)
    workflow.steps[0].status = "completed"
    assert (workflow.status, workflow.progress) == ("running", 50)
    del workflow.steps[1]
    assert workflow.status == "completed"
    with pytest.raises(AttributeError):
        workflow.status = "idle"  # type: ignore[misc]


def test_a_fold_keeps_no_step(wp: Waypost) -> None:
    """Asking for the status of a loaded workflow touches no step, and is computed once."""
    wp.create_workflow("w", "W", steps=map(str, range(10))).unwrap()
    state = wp.load_workflow_state("w").unwrap()
    assert state.workflow.fold() is state.workflow.fold()
    assert wp.save_workflow_state(state).unwrap().metadata.version == 1


class _Meanwhile(dict[str, int]):
    """Does something before it takes in the first item."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._acts = [act]

    def __setitem__(self, key: str, value: int) -> None:
        acts, self._acts = self._acts, []
        for act in acts:
            act()
        super().__setitem__(key, value)


def test_nobody_meets_a_step_before_it_is_whole(wp: Waypost) -> None:
    """Memory runs out as a step is read, or another thread asks for the same one: its output is there for both, and the
    same step.
    """
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.update_step_status("w", "a", "completed", output={"x": 1}).unwrap()

    def out_of_memory() -> None:
        raise MemoryError

    state = wp.load_workflow_state("w").unwrap()
    state.workflow.steps._outputs.newest = _Meanwhile(out_of_memory)  # type: ignore[attr-defined]
    with pytest.raises(MemoryError):
        _ = state.workflow.steps[0]
    assert state.workflow.steps[0].output == {"x": 1}
    assert wp.save_workflow_state(state).unwrap().workflow.steps[0].output == {"x": 1}

    others: list[WorkflowStep] = []
    steps = wp.load_workflow_state("w").unwrap().workflow.steps
    steps._outputs.newest = _Meanwhile(  # type: ignore[attr-defined]
        lambda: others.extend(step for step in steps if step.output == {"x": 1})
    )
    step = steps[0]
    assert others == [step] and others[0] is step is steps[0]


def test_performance_is_told_by_steps_and_agents(wp: Waypost) -> None:
    """Times and errors come from the steps; memory, operations and cache hits from what agents report."""
    steps = [
        WorkflowStep("a", status="completed", start_time=at(0), end_time=at(1), retry_count=2),
        WorkflowStep("b", status="failed", start_time=at(1), end_time=at(2)),
    ]
    agents = {
        "x": AgentState("x", resources=AgentResources(memory_usage_bytes=10, io_operations=1, cache_hit_rate=0.5)),
        "y": AgentState("y", performance=AgentPerformance(tasks_completed=3), resources=AgentResources(7, 1.0, 2, 4)),
    }
    state = WorkflowState(workflow=Workflow("w", steps=steps), agents=agents)
    for found in (state.performance, wp.save_workflow_state(state).unwrap().performance):
        assert found.total_execution_time_ms == 2000
        assert found.step_execution_times_ms == {"a": 1000, "b": 1000}
        assert found.agent_performance["y"].tasks_completed == 3
        assert (found.memory_peak_usage_bytes, found.io_operations, found.network_requests) == (10, 3, 4)
        assert (found.cache_hit_rate, found.error_count) == (0.5, 3)


def test_times_that_are_stored_have_a_zone() -> None:
    """A moment in another zone is stored as the same moment in UTC, and one without a zone is refused."""
    other = START.astimezone(datetime.now().astimezone().tzinfo)
    assert STEPS.check(WorkflowStep("a", start_time=other), "a step")[0].start_time == START
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(encode(WorkflowStep("a", start_time=datetime(2026, 1, 1))), type=WorkflowStep)  # noqa: DTZ001
