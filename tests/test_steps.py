"""The life of a step: transitions, retries, owners, dependencies, outputs, and the graph of steps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, get_args

import pytest

from tests.conftest import Pretend
from waypost.blocking import Waypost
from waypost.errors import (
    DependencyUnfinished,
    IllegalTransition,
    InvalidId,
    InvalidInput,
    InvalidWorkflow,
    OutputNotFound,
    RetriesExhausted,
    StepBusy,
    StepNotFound,
    WorkflowNotFound,
    WorkflowPaused,
)
from waypost.folding import StepStatus
from waypost.models import StepOwner, WorkflowStep
from waypost.store import DocumentId, Store
from waypost.store.staging import StagedTransaction

STATUSES: tuple[StepStatus, ...] = get_args(StepStatus)


def steps_of(wp: Waypost, workflow_id: str = "w") -> dict[str, WorkflowStep]:
    return {step.id: step for step in wp.load_workflow_state(workflow_id).unwrap().workflow.steps}


def version_of(wp: Waypost, workflow_id: str = "w") -> int:
    return wp.load_workflow_state(workflow_id).unwrap().metadata.version


@pytest.fixture
def one(wp: Waypost) -> Waypost:
    """A store with a workflow of one step."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    return wp


# --- transitions ---

LEADING_TO: dict[StepStatus, list[StepStatus]] = {
    "pending": [],
    "running": ["running"],
    "completed": ["completed"],
    "failed": ["failed"],
    "skipped": ["skipped"],
}
ALLOWED = {
    ("pending", "running"),
    ("pending", "completed"),
    ("pending", "failed"),
    ("pending", "skipped"),
    ("running", "completed"),
    ("running", "failed"),
    ("running", "skipped"),
    ("failed", "running"),
}


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("after", STATUSES)
def test_trap_26_only_lawful_transitions(wp: Waypost, before: StepStatus, after: StepStatus) -> None:
    """Each pair of statuses is allowed, does nothing, or is refused with both names and what is allowed."""
    wp.create_workflow("w", "W", steps=[WorkflowStep("a", max_retries=1)]).unwrap()
    for status in LEADING_TO[before]:
        wp.update_step_status("w", "a", status).unwrap()
    version = version_of(wp)
    result = wp.update_step_status("w", "a", after)
    if before == after:
        assert result.unwrap().status == before
        assert version_of(wp) == version
    elif (before, after) in ALLOWED:
        assert result.unwrap().status == after
        assert steps_of(wp)["a"].status == after
    else:
        assert isinstance(result.error, IllegalTransition)
        assert (result.error.details["from_status"], result.error.details["to_status"]) == (before, after)
        assert {(before, allowed) for allowed in result.error.details["allowed"]} == {  # type: ignore[attr-defined]
            pair for pair in ALLOWED if pair[0] == before
        }
        assert version_of(wp) == version


def test_trap_26_an_unknown_status_is_refused(one: Waypost) -> None:
    """A word that is no status is refused, and the step stays as it is."""
    assert isinstance(one.update_step_status("w", "a", "done").error, InvalidInput)  # type: ignore[arg-type]
    assert steps_of(one)["a"].status == "pending"


def test_an_unknown_step_or_workflow_is_refused(one: Waypost) -> None:
    """Nothing is made up for an id that is not there."""
    assert isinstance(one.update_step_status("w", "b", "running").error, StepNotFound)
    assert isinstance(one.update_step_status("v", "a", "running").error, WorkflowNotFound)


def test_times_are_those_of_start_and_end(one: Waypost) -> None:
    """Running sets the start, finishing the end, and both are moments in UTC."""
    running = one.update_step_status("w", "a", "running").unwrap()
    assert running.start_time is not None
    assert running.end_time is None
    done = one.update_step_status("w", "a", "completed").unwrap()
    assert done.start_time == running.start_time
    assert done.end_time is not None
    assert done.end_time >= done.start_time
    assert done.end_time.utcoffset() is not None


def test_the_error_of_a_failure_is_kept_and_cleared_by_a_retry(wp: Waypost) -> None:
    """A failed step says why, and a retry begins without that error."""
    wp.create_workflow("w", "W", steps=[WorkflowStep("a", max_retries=1)]).unwrap()
    wp.update_step_status("w", "a", "failed", error=ValueError("no rows")).unwrap()
    assert steps_of(wp)["a"].error == "ValueError: no rows"
    wp.update_step_status("w", "a", "running").unwrap()
    assert steps_of(wp)["a"].error is None


def test_an_error_that_is_no_text_can_be_recorded(one: Waypost) -> None:
    """A failure is recorded even if its message holds what no text may hold."""
    one.update_step_status("w", "a", "failed", error="no file \udce4").unwrap()
    assert steps_of(one)["a"].error == "no file \\udce4"


def test_another_error_for_a_failed_step_is_refused(one: Waypost) -> None:
    """The same status with another error is not taken for the same report."""
    one.update_step_status("w", "a", "failed", error="first").unwrap()
    assert one.update_step_status("w", "a", "failed", error="first").success
    assert isinstance(one.update_step_status("w", "a", "failed", error="second").error, IllegalTransition)
    assert steps_of(one)["a"].error == "first"


@pytest.mark.parametrize("kept", [True, False])
def test_an_update_costs_the_same_whatever_the_number_of_steps(wp_with: Callable[..., Waypost], kept: bool) -> None:
    """An update reads the parts of its step, its dependencies and the workflow, and lists nothing; with a checkpoint it
    reads of those that there are the last.
    """
    wp = wp_with(checkpoints={"post_step": kept})
    wp.create_workflow("w", "W", steps=[*map(str, range(600)), WorkflowStep("z", dependencies=["1", "2"])]).unwrap()
    for step_id in ("1", "2"):
        wp.update_step_status("w", step_id, "completed").unwrap()
    last = wp.list_checkpoints("w")[0].id
    seen: list[StagedTransaction] = []

    def spy(tx: Any) -> Any:
        seen.append(tx)
        return change.work(tx)

    request: Any = wp.definitions.update_step_status("w", "z", "completed", {"rows": 3})
    change = request.change()
    wp.definitions.store.submit(type(change)(change.document, spy, "op", "test")).result()
    own = {f"checkpoint\x1f{one.id}" for one in wp.list_checkpoints("w") if kept and one.id > last}
    assert len(own) == kept and seen[-1].read_prefixes == set()
    assert seen[-1].read <= own | {
        "workflow",
        "prepared",
        *(f"step\x1f{name}" for name in "12z"),
        "output\x1fz\x1f00000001",
        f"checkpoint\x1f{last}",
    }
    assert set(seen[-1].staged.puts) == {"step\x1fz", "output\x1fz\x1f00000001", *own}


# --- retries ---


def test_trap_26_retries_are_counted_and_end(wp: Waypost) -> None:
    """A failed step runs again `max_retries` times, each counted, and then no more."""
    wp.create_workflow("w", "W", steps=[WorkflowStep("a", max_retries=2)]).unwrap()
    for count in range(3):
        assert wp.update_step_status("w", "a", "running").unwrap().retry_count == count
        wp.update_step_status("w", "a", "failed", error="x").unwrap()
    refused = wp.update_step_status("w", "a", "running")
    assert isinstance(refused.error, RetriesExhausted)
    assert "reset_step" in str(refused.error)
    assert steps_of(wp)["a"].retry_count == 2


# --- owners ---


def test_running_again_by_the_owner_changes_nothing(one: Waypost) -> None:
    """The process that runs a step may say so again."""
    first = one.update_step_status("w", "a", "running").unwrap()
    version = version_of(one)
    again = one.update_step_status("w", "a", "running").unwrap()
    assert again == first
    assert version_of(one) == version


def test_a_living_owner_is_left_alone(one: Waypost, as_living_process: Pretend) -> None:
    """A step that another living process works on is busy, and the error says who has it."""
    with as_living_process():
        owner = one.update_step_status("w", "a", "running").unwrap().owner
    assert owner is not None
    refused = one.update_step_status("w", "a", "running")
    assert isinstance(refused.error, StepBusy)
    assert refused.error.retryable
    assert refused.error.details["pid"] == owner.pid
    assert steps_of(one)["a"].owner == owner


def test_an_owner_that_cannot_be_seen_is_left_alone(one: Waypost, as_unseen_process: Pretend) -> None:
    """Not to be seen is no proof of being dead."""
    with as_unseen_process():
        one.update_step_status("w", "a", "running").unwrap()
    refused = one.update_step_status("w", "a", "running")
    assert isinstance(refused.error, StepBusy)
    assert refused.error.details["liveness"] == "unknown"


def test_a_dead_owner_is_replaced(wp: Waypost, as_dead_process: Pretend) -> None:
    """A step whose owner is provably dead is taken over: an interruption, not a retry, and its output stays."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    with as_dead_process():
        wp.update_step_status("w", "a", "running").unwrap()
    wp.add_step_output("w", "a", "half").unwrap()
    taken = wp.update_step_status("w", "a", "running").unwrap()
    assert (taken.interruptions, taken.retry_count, taken.output) == (1, 0, "half")
    assert taken.owner == StepOwner.this_process()
    assert wp.update_step_status("w", "a", "running").unwrap().interruptions == 1


def test_whoever_knows_better_may_finish_a_step(one: Waypost, as_living_process: Pretend) -> None:
    """A step may be reported finished by another process than its owner's, and then has none."""
    with as_living_process():
        one.update_step_status("w", "a", "running").unwrap()
    assert one.update_step_status("w", "a", "completed").unwrap().owner is None


# --- dependencies ---


@pytest.fixture
def chain(wp: Waypost) -> Waypost:
    """A store with a workflow of three steps, each depending on the one before it."""
    steps = ["a", WorkflowStep("b", dependencies=["a"]), WorkflowStep("c", dependencies=["b"])]
    wp.create_workflow("w", "W", steps=steps).unwrap()
    return wp


@pytest.mark.parametrize("status", ["running", "completed"])
def test_trap_26_unmet_dependencies_are_refused(chain: Waypost, status: StepStatus) -> None:
    """A step does not start before what it depends on is finished, nor is it completed without having started."""
    refused = chain.update_step_status("w", "b", status)
    assert isinstance(refused.error, DependencyUnfinished)
    assert refused.error.details["waiting"] == {"a": "pending"}
    chain.update_step_status("w", "a", "running").unwrap()
    assert isinstance(chain.update_step_status("w", "b", status).error, DependencyUnfinished)
    chain.update_step_status("w", "a", "failed").unwrap()
    assert isinstance(chain.update_step_status("w", "b", status).error, DependencyUnfinished)


@pytest.mark.parametrize("finished", ["completed", "skipped"])
def test_finished_is_completed_or_skipped(chain: Waypost, finished: StepStatus) -> None:
    """A step may start when what it depends on is completed or skipped."""
    chain.update_step_status("w", "a", finished).unwrap()
    assert chain.update_step_status("w", "b", "running").success


def test_what_never_starts_needs_no_dependencies(chain: Waypost) -> None:
    """A step may be skipped or failed whatever it depends on."""
    assert chain.update_step_status("w", "b", "skipped").success
    assert chain.update_step_status("w", "c", "failed").success


def test_trap_04_enforce_dependencies_does_what_it_says(wp_with: Callable[..., Waypost]) -> None:
    """With `steps.enforce_dependencies` off, a step starts whatever it depends on."""
    wp = wp_with(steps={"enforce_dependencies": False})
    wp.create_workflow("w", "W", steps=["a", WorkflowStep("b", dependencies=["a"])]).unwrap()
    assert wp.update_step_status("w", "b", "running").success


# --- pausing ---


def test_paused_steps_finish_and_none_starts(wp: Waypost) -> None:
    """In a paused workflow running steps may finish and none may start, until it is resumed."""
    wp.create_workflow("w", "W", steps=["a", "b", "c"]).unwrap()
    wp.update_step_status("w", "a", "running").unwrap()
    assert wp.pause_workflow("w").unwrap().workflow.status == "paused"
    assert isinstance(wp.update_step_status("w", "b", "running").error, WorkflowPaused)
    assert isinstance(wp.update_step_status("w", "b", "completed").error, WorkflowPaused)
    assert wp.update_step_status("w", "a", "completed").success
    assert wp.update_step_status("w", "c", "skipped").success
    assert wp.resume_workflow("w").unwrap().workflow.status == "running"
    assert wp.update_step_status("w", "b", "running").success


# --- outputs ---


@pytest.mark.parametrize("value", [0, False, "", None, [], {}, 0.0, b""], ids=repr)
def test_trap_26_falsy_outputs_are_outputs(one: Waypost, value: Any) -> None:
    """Nothing that counts as false in Python is lost or changed."""
    one.update_step_status("w", "a", "completed", value).unwrap()
    found = one.get_step_output("w", "a")
    assert found.version == 1
    assert found.output == value
    assert type(found.output) is type(value)


def test_trap_26_a_status_without_output_keeps_the_output(wp: Waypost) -> None:
    """Updating the status alone leaves the output that is there."""
    wp.create_workflow("w", "W", steps=[WorkflowStep("a", max_retries=1)]).unwrap()
    wp.update_step_status("w", "a", "failed", {"rows": 1}, "x").unwrap()
    wp.update_step_status("w", "a", "running").unwrap()
    assert wp.update_step_status("w", "a", "completed").unwrap().output == {"rows": 1}
    assert wp.get_step_output("w", "a").version == 1


def test_an_equal_output_again_is_no_new_version(one: Waypost) -> None:
    """A report sent twice is one report."""
    one.update_step_status("w", "a", "completed", {"rows": [1, 2]}).unwrap()
    version = version_of(one)
    assert one.update_step_status("w", "a", "completed", {"rows": [1, 2]}).success
    assert one.get_step_output("w", "a").version == 1
    assert version_of(one) == version


def test_another_output_for_a_completed_step_is_refused(one: Waypost) -> None:
    """A completed step is not completed again with something else, and the refusal names the way."""
    one.update_step_status("w", "a", "completed", 1).unwrap()
    for other in (2, None, True):
        refused = one.update_step_status("w", "a", "completed", other)
        assert isinstance(refused.error, IllegalTransition)
        assert "add_step_output" in str(refused.error)
    assert one.get_step_output("w", "a").output == 1


def test_an_output_for_a_step_completed_without_one_is_added_by_name(one: Waypost) -> None:
    """A step that was completed without an output does not get one by being completed again."""
    one.update_step_status("w", "a", "completed").unwrap()
    assert isinstance(one.update_step_status("w", "a", "completed", 1).error, IllegalTransition)
    assert one.add_step_output("w", "a", 1).unwrap().version == 1


def test_trap_25_second_output_is_version_two(one: Waypost) -> None:
    """A second output is version 2, version 1 stays readable, and both have their own size and checksum."""
    first = one.add_step_output("w", "a", {"rows": 1}, "agent").unwrap()
    second = one.add_step_output("w", "a", {"rows": [1, 2, 3]}).unwrap()
    assert (first.version, second.version) == (1, 2)
    assert first.agent_id == "agent"
    assert one.get_step_output("w", "a").output == {"rows": [1, 2, 3]}
    assert one.get_step_output("w", "a", 1).output == {"rows": 1}
    assert one.get_step_output("w", "a", 1) == first
    assert first.checksum != second.checksum


def test_trap_25_size_and_checksum_are_those_of_the_bytes(store: Store, one: Waypost) -> None:
    """What an output says of its value can be recomputed from the stored bytes."""
    from hashlib import sha256

    from waypost.codec import values

    found = one.add_step_output("w", "a", {"text": "Grüße"}).unwrap()
    data = values.encode({"text": "Grüße"})
    assert (found.size_bytes, found.checksum) == (len(data), sha256(data).hexdigest())
    assert data in (store.view(DocumentId("workflow", "w")).get("output\x1fa\x1f00000001") or b"")


def test_trap_25_an_unknown_step_has_no_output(one: Waypost) -> None:
    """Outputs of steps and versions that are not there are refused, for writing and for reading."""
    assert isinstance(one.add_step_output("w", "b", 1).error, StepNotFound)
    with pytest.raises(StepNotFound):
        one.get_step_output("w", "b")
    with pytest.raises(OutputNotFound):
        one.get_step_output("w", "a")
    one.add_step_output("w", "a", 1).unwrap()
    for version in (0, -1, 2):
        with pytest.raises(OutputNotFound):
            one.get_step_output("w", "a", version)


def test_a_large_output_is_a_part_of_its_own(store: Store, wp_with: Callable[..., Waypost]) -> None:
    """A value larger than `chunk_size` is not read with the rest of its output, and comes back whole."""
    wp = wp_with(compression={"chunk_size": 4096})
    wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
    large = "x" * 5000
    wp.update_step_status("w", "a", "completed", large).unwrap()
    wp.update_step_status("w", "b", "completed", "y" * 100).unwrap()
    view = wp.definitions.store.view(DocumentId("workflow", "w"))
    assert list(view.keys("value")) == ["value\x1fa\x1f00000001"]
    assert (view.size_of("output\x1fa\x1f00000001") or 0) < 200
    assert wp.load_workflow_state("w").unwrap().step("a").output == large
    assert wp.get_step_output("w", "b").output == "y" * 100


# --- the graph ---


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        (["a", "a"], "given twice"),
        ([WorkflowStep("a", dependencies=["x"])], "'x'"),
        ([WorkflowStep("a", dependencies=["a"])], "a → a"),
        ([WorkflowStep("a", dependencies=["b"]), WorkflowStep("b", dependencies=["a"])], "circle"),
    ],
    ids=["duplicate", "unknown", "itself", "circle"],
)
def test_trap_26_steps_that_are_no_graph_are_refused(wp: Waypost, steps: list[Any], named: str) -> None:
    """Duplicates, unknown dependencies and circles are refused, at creation and when added."""
    refused = wp.create_workflow("w", "W", steps=steps)
    assert isinstance(refused.error, InvalidWorkflow)
    assert named in str(refused.error)
    assert wp.list_workflows().total == 0
    wp.create_workflow("w", "W", steps=["z"]).unwrap()
    assert isinstance(wp.add_steps("w", steps).error, InvalidWorkflow)
    assert list(steps_of(wp)) == ["z"]


def test_a_circle_is_named_in_the_order_of_dependence(wp: Waypost) -> None:
    """The error lists the steps of the circle, each before the one that it depends on."""
    steps = [WorkflowStep(x, dependencies=[y]) for x, y in ("ab", "bc", "ca")]
    refused = wp.create_workflow("w", "W", steps=steps)
    assert refused.error is not None
    circle: Any = refused.error.details["circle"]
    assert circle[0] == circle[-1]
    assert all(later in dict(("ab", "bc", "ca"))[earlier] for earlier, later in pairwise(circle))


def test_added_steps_stand_behind_and_may_depend_on_all(wp: Waypost) -> None:
    """New steps come last, over page boundaries too, and may depend on old and new ones."""
    wp.create_workflow("w", "W", steps=map(str, range(255))).unwrap()
    added = wp.add_steps("w", ["x", WorkflowStep("y", dependencies=["0", "x"])]).unwrap()
    assert [step.id for step in added] == ["x", "y"]
    assert list(steps_of(wp)) == [*map(str, range(255)), "x", "y"]
    assert isinstance(wp.add_steps("w", ["x"]).error, InvalidWorkflow)
    assert wp.validate_workflow_state("w").is_valid


def test_ten_thousand_steps_in_a_row(wp: Waypost) -> None:
    """A chain of 10,000 steps is no deeper for the checks than one of three."""
    steps = [WorkflowStep("0"), *(WorkflowStep(str(n), dependencies=[str(n - 1)]) for n in range(1, 10_000))]
    wp.create_workflow("w", "W", steps=steps).unwrap()
    assert len(wp.load_workflow_state("w").unwrap().workflow.steps) == 10_000
    steps[0].dependencies = ["9999"]
    assert isinstance(wp.create_workflow("v", "V", steps=steps).error, InvalidWorkflow)


@pytest.mark.parametrize(
    "bad",
    [
        WorkflowStep("a", max_retries=-1),
        WorkflowStep("a", max_retries="3"),  # type: ignore[arg-type]
        WorkflowStep("a", status="running"),
        WorkflowStep("a", dependencies="b"),  # type: ignore[arg-type]
        WorkflowStep(5),  # type: ignore[arg-type]
        {"id": "a"},
        None,
    ],
    ids=["negative", "text for a number", "not pending", "one text", "number for an id", "a dictionary", "nothing"],
)
def test_steps_of_other_kinds_are_refused(wp: Waypost, bad: Any) -> None:
    """A field of another type than declared is refused before anything is written, and is named."""
    refused = wp.create_workflow("w", "W", steps=[bad])
    assert isinstance(refused.error, InvalidWorkflow)
    assert wp.list_workflows().total == 0


def test_a_bad_field_is_named(wp: Waypost) -> None:
    """The error says which field it is, not where it stands in the bytes."""
    refused = wp.create_workflow("w", "W", steps=[WorkflowStep("a", max_retries="3")])  # type: ignore[arg-type]
    assert "max_retries" in str(refused.error)


def test_bad_ids_of_steps_are_refused(wp: Waypost) -> None:
    """Ids of steps and of what they depend on follow the rule for ids."""
    assert isinstance(wp.create_workflow("w", "W", steps=["a\x1fb"]).error, InvalidId)
    assert isinstance(wp.create_workflow("w", "W", steps=[WorkflowStep("a", dependencies=[""])]).error, InvalidId)


# --- reset ---


def test_reset_makes_a_finished_step_pending(one: Waypost) -> None:
    """A reset step is as if it had not run, but for its outputs, whose versions go on."""
    one.update_step_status("w", "a", "completed", "first").unwrap()
    (reset,) = one.reset_step("w", "a").unwrap()
    assert (reset.status, reset.start_time, reset.end_time, reset.retry_count) == ("pending", None, None, 0)
    assert one.get_step_output("w", "a").output == "first"
    one.update_step_status("w", "a", "completed", "second").unwrap()
    assert one.get_step_output("w", "a").version == 2


def test_reset_gives_an_exhausted_step_new_retries(wp: Waypost) -> None:
    """A failed step without retries may run and be retried again once it was reset."""
    wp.create_workflow("w", "W", steps=[WorkflowStep("a", max_retries=1)]).unwrap()
    for _ in range(2):
        for status in ("running", "failed", "running", "failed"):
            wp.update_step_status("w", "a", status).unwrap()
        assert isinstance(wp.update_step_status("w", "a", "running").error, RetriesExhausted)
        wp.reset_step("w", "a").unwrap()


def test_reset_of_a_pending_step_does_nothing(one: Waypost) -> None:
    """What is pending already is no change."""
    version = version_of(one)
    assert one.reset_step("w", "a").unwrap() == []
    assert version_of(one) == version


def test_reset_cascades_when_asked(wp: Waypost) -> None:
    """With `cascade` all steps that depend on it, directly or not, are reset too, and no others."""
    steps = ["a", "x", WorkflowStep("b", dependencies=["a"]), WorkflowStep("c", dependencies=["b", "x"])]
    wp.create_workflow("w", "W", steps=steps).unwrap()
    for step_id in "axbc":
        wp.update_step_status("w", step_id, "completed").unwrap()
    assert [step.id for step in wp.reset_step("w", "a").unwrap()] == ["a"]
    assert steps_of(wp)["b"].status == "completed"
    wp.update_step_status("w", "a", "completed").unwrap()
    assert [step.id for step in wp.reset_step("w", "a", cascade=True).unwrap()] == ["a", "b", "c"]
    assert {step.id: step.status for step in steps_of(wp).values()} == {
        "a": "pending",
        "x": "completed",
        "b": "pending",
        "c": "pending",
    }


def test_reset_refuses_running_steps_and_changes_nothing(chain: Waypost) -> None:
    """A running step is not reset under its owner's hands, and then none is."""
    chain.update_step_status("w", "a", "completed").unwrap()
    chain.update_step_status("w", "b", "running").unwrap()
    assert isinstance(chain.reset_step("w", "b").error, IllegalTransition)
    assert isinstance(chain.reset_step("w", "a", cascade=True).error, IllegalTransition)
    assert steps_of(chain)["a"].status == "completed"
