"""Workflows as a whole: making, loading, saving, listing, deleting and checking them, their ids and their metadata."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import StoreFactory, make_config
from waypost import clock, loading
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import (
    InvalidId,
    InvalidInput,
    InvalidValue,
    InvalidWorkflow,
    OutputNotFound,
    SecretsNotSealed,
    VersionConflict,
    WorkflowExists,
    WorkflowNotFound,
)
from waypost.models import (
    AgentPerformance,
    AgentState,
    StateMetadata,
    StepOutput,
    Workflow,
    WorkflowContext,
    WorkflowState,
    WorkflowStep,
)
from waypost.queries import StateQuery, TimeRange
from waypost.store import Change, DocumentId, Store, Transaction, View, open_store, parts


def state_of(wp: Waypost, workflow_id: str = "w") -> WorkflowState:
    return wp.load_workflow_state(workflow_id).unwrap()


def view_of(wp: Waypost, workflow_id: str = "w") -> View:
    return wp.definitions.store.view(DocumentId("workflow", workflow_id))


@pytest.fixture
def three(wp: Waypost) -> Waypost:
    """A store with a workflow of three steps and something of everything in it."""
    context = WorkflowContext(user_id="u", variables={"x": 1, "deep": {"list": [1, 2]}}, features={"fast": True})
    wp.create_workflow("w", "W", "s1", ["a", "b", WorkflowStep("c", dependencies=["a"])], context=context).unwrap()
    wp.update_step_status("w", "a", "completed", {"rows": [1]}).unwrap()
    wp.update_agent_state("w", "agent", AgentState("agent", status="busy", task_queue=["t"])).unwrap()
    return wp


# --- making ---


def test_a_new_workflow_is_idle(wp: Waypost) -> None:
    """Creating gives a workflow with the steps in order, all pending, at version 1."""
    made = wp.create_workflow("w", "Name", "s", ["b", "a"]).unwrap()
    assert (made.workflow.id, made.workflow.name, made.workflow.status) == ("w", "Name", "idle")
    assert [(step.id, step.name, step.status) for step in made.workflow.steps] == [
        ("b", "b", "pending"),
        ("a", "a", "pending"),
    ]
    assert (made.metadata.version, made.context.session_id) == (1, "s")
    assert state_of(wp) == made


def test_trap_26_creating_an_existing_id_is_refused(three: Waypost) -> None:
    """A workflow that is there is not overwritten; `if_exists="open"` takes it as it is."""
    before = state_of(three)
    assert isinstance(three.create_workflow("w", "Other").error, WorkflowExists)
    opened = three.create_workflow("w", "Other", steps=["z"], if_exists="open").unwrap()
    assert opened == before == state_of(three)
    assert opened.workflow.name == "W"


def test_an_unknown_word_for_if_exists_is_refused(wp: Waypost) -> None:
    """A misspelt option is an error, not the default."""
    assert isinstance(wp.create_workflow("w", "W", if_exists="opne").error, InvalidInput)  # type: ignore[arg-type]


def test_steps_may_come_from_a_generator(wp: Waypost) -> None:
    """Steps are read once, so that an iterator does as well as a list."""
    made = wp.create_workflow("w", "W", steps=(str(n) for n in range(300))).unwrap()
    assert [step.id for step in made.workflow.steps] == [str(n) for n in range(300)]


def test_what_was_given_is_copied(wp: Waypost) -> None:
    """Changing what was handed in changes nothing that is stored."""
    step = WorkflowStep("a", dependencies=[])
    variables: dict[str, Any] = {"x": [1]}
    wp.create_workflow("w", "W", steps=[step], context=WorkflowContext(variables=variables)).unwrap()
    step.dependencies.append("zzz")
    variables["x"].append(2)
    assert state_of(wp).step("a").dependencies == []
    assert state_of(wp).context.variables == {"x": [1]}


def test_an_output_of_a_new_step_is_not_dropped_silently(wp: Waypost) -> None:
    """Creating takes no steps with outputs, and says what does."""
    step = WorkflowStep("a")
    step.output = 5
    refused = wp.create_workflow("w", "W", steps=[step])
    assert isinstance(refused.error, InvalidWorkflow)
    assert "save_workflow_state" in str(refused.error)


# --- loading ---


def test_an_unknown_workflow_is_not_found(wp: Waypost) -> None:
    """Loading makes nothing up, and makes nothing."""
    assert isinstance(wp.load_workflow_state("w").error, WorkflowNotFound)
    assert wp.list_workflows().total == 0


class CountingView:
    """A view that counts which parts are read."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.read: list[str] = []

    def get(self, key: str) -> bytes | None:
        self.read.append(key.partition("\x1f")[0])
        return self._view.get(key)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)


def test_loading_decodes_only_what_is_touched(three: Waypost) -> None:
    """A state reads two parts when it is loaded, and one step when one step is touched."""
    from waypost import loading

    view = CountingView(view_of(three))
    state = loading.load(view)  # type: ignore[arg-type]
    assert sorted(view.read) == ["context", "workflow"]
    view.read.clear()
    assert state.step("b").status == "pending"
    assert view.read == ["step"]
    view.read.clear()
    assert state.context.variables["x"] == 1
    assert view.read == ["variable"]
    view.read.clear()
    assert state.outputs["a"].version == 1
    assert "value" not in view.read


def test_a_touched_item_is_the_same_object_again(three: Waypost) -> None:
    """Steps, outputs, agents and variables keep what was changed in place."""
    state = state_of(three)
    assert state.step("a") is state.workflow.steps[0] is next(iter(state.workflow.steps))
    assert state.agents["agent"] is state.agents["agent"]
    assert state.step("a").output is state.outputs["a"].output
    state.context.variables["deep"]["list"].append(3)
    assert state.context.variables["deep"] == {"list": [1, 2, 3]}


def test_an_output_is_read_once_whichever_way_it_is_asked_for(three: Waypost) -> None:
    """A step's value comes with its output in one reading, and is that of the version, also where the step was changed
    by hand; a large one is a part of its own.
    """
    three.add_step_output("w", "b", "x" * 1_000_000).unwrap()
    view = CountingView(view_of(three))
    state = loading.load(view)  # type: ignore[arg-type]
    for step in state.workflow.steps:
        step.output_version += 7
    view.read.clear()
    assert state.step("a").output == {"rows": [1]}
    assert view.read == ["output"]
    assert state.step("b").output == "x" * 1_000_000
    assert state.step("c").output is None
    assert set(view.read) == {"output", "value"}
    assert [state.outputs[name].output for name in "ab"] == [{"rows": [1]}, "x" * 1_000_000]
    assert [state.outputs[name] for name in "ab"] == [three.get_step_output("w", name) for name in "ab"]
    assert state.outputs["a"].compressed == state.outputs["b"].compressed == view.compressed
    del state.outputs["a"]
    assert state.step("a").output is None


def test_loaded_containers_equal_plain_ones(three: Waypost) -> None:
    """Steps compare with lists, and agents, outputs and variables with dictionaries."""
    state = state_of(three)
    assert state.workflow.steps == list(state.workflow.steps)
    assert state.workflow.steps != []
    assert state.context.variables == {"x": 1, "deep": {"list": [1, 2]}}
    assert dict(state.context.features) == {"fast": True}
    assert list(state.agents) == ["agent"]
    assert {name: output.output for name, output in state.outputs.items()} == {"a": {"rows": [1]}}
    assert len(state.outputs) == 1
    assert "b" not in state.outputs


def test_a_loaded_state_never_changes(three: Waypost) -> None:
    """A state is of one version, whatever is committed after it was loaded."""
    state = state_of(three)
    three.update_step_status("w", "b", "completed", 7).unwrap()
    three.update_context("w", variables={"x": 2}).unwrap()
    assert state.step("b").status == "pending"
    assert state.context.variables["x"] == 1
    assert state.workflow.progress == pytest.approx(100 / 3)


# --- metadata ---


def test_trap_35_metadata_is_true_of_its_version(three: Waypost) -> None:
    """Version, size, checksum and time are those of the very version that they stand in, after every commit."""
    changes: list[Any] = [
        lambda: three.update_step_status("w", "b", "running"),
        lambda: three.add_step_output("w", "b", "x" * 1000),
        lambda: three.update_context("w", variables={"x": None}),
        lambda: three.pause_workflow("w"),
        lambda: three.save_workflow_state(state_of(three)),
    ]
    created_at = state_of(three).metadata.created_at
    for change in changes:
        change().unwrap()
        found, view = state_of(three).metadata, view_of(three)
        stored = [(key, view.get(key) or b"") for key in view.keys()]
        assert found.version == view.version
        assert found.size_bytes == sum(len(key.encode()) + len(data) for key, data in stored)
        assert found.checksum == parts.document_checksum(stored).hex()
        assert found.updated_at == clock.to_datetime(view.time_us)
        assert found.compressed == view.compressed
        assert (found.id, found.schema_version, found.created_at) == ("w", "1.0.0", created_at)


def test_trap_35_different_states_differ_in_checksum(wp: Waypost) -> None:
    """States that differ in a value of a user differ in checksum."""
    seen: set[str] = set()
    for number in range(20):
        wp.create_workflow("w", "W", steps=["a"]).unwrap()
        wp.update_step_status("w", "a", "completed", {"value": number}).unwrap()
        seen.add(wp.get_step_output("w", "a").checksum)
        wp.delete_workflow("w").unwrap()
    assert len(seen) == 20


# --- saving ---


def test_saving_what_was_not_changed_commits_nothing(three: Waypost) -> None:
    """Looking at everything and saving it is no change."""
    state = state_of(three)
    assert len(list(state.workflow.steps)) == 3
    assert state.outputs["a"].output == {"rows": [1]}
    assert dict(state.context.variables)
    assert dict(state.agents)
    assert three.save_workflow_state(state).unwrap().metadata.version == state.metadata.version


def test_changes_in_place_are_never_missed(three: Waypost) -> None:
    """What was changed within a loaded object is saved, at any depth and of any kind."""
    state = state_of(three)
    state.workflow.name = "Renamed"
    state.workflow.paused = True
    state.step("b").status = "skipped"
    state.step("c").dependencies.append("b")
    state.step("a").output["rows"].append(2)
    state.agents["agent"].task_queue.append("u")
    state.agents["agent"].performance.tasks_completed = 5
    state.context.variables["deep"]["list"].append(3)
    state.context.configuration["new"] = {"k": None}
    state.context.user_id = "v"
    del state.context.features["fast"]
    saved = three.save_workflow_state(state).unwrap()
    found = state_of(three)
    assert saved == found
    assert found.metadata.version == state.metadata.version + 1
    assert (found.workflow.name, found.workflow.paused) == ("Renamed", True)
    assert found.step("b").status == "skipped"
    assert found.step("c").dependencies == ["a", "b"]
    assert found.outputs["a"].output == {"rows": [1, 2]}
    assert (found.agents["agent"].task_queue, found.agents["agent"].performance.tasks_completed) == (["t", "u"], 5)
    assert found.context.variables == {"x": 1, "deep": {"list": [1, 2, 3]}}
    assert found.context.configuration == {"new": {"k": None}}
    assert found.context.user_id == "v"
    assert found.context.features == {}


def test_trap_25_a_changed_output_is_a_new_version(three: Waypost) -> None:
    """Saving a state with another output adds a version and keeps the one before, however it was changed."""
    state = state_of(three)
    state.outputs["a"].output["rows"] = [9]
    three.save_workflow_state(state).unwrap()
    state = state_of(three)
    state.step("a").output = "set on the step"
    assert state.outputs["a"].output == "set on the step"
    three.save_workflow_state(state).unwrap()
    state = state_of(three)
    state.outputs["b"] = StepOutput.of("b", None)
    three.save_workflow_state(state).unwrap()
    assert [three.get_step_output("w", "a", version).output for version in (1, 2, 3)] == [
        {"rows": [1]},
        {"rows": [9]},
        "set on the step",
    ]
    found = three.get_step_output("w", "b")
    assert (found.version, found.output) == (1, None)
    assert three.validate_workflow_state("w").is_valid


def test_only_what_differs_is_written(three: Waypost) -> None:
    """A save writes the parts that differ, so that others' changes of other parts stay."""
    state = state_of(three)
    list(state.workflow.steps)
    dict(state.context.variables)
    three.update_step_status("w", "b", "completed", "theirs").unwrap()
    three.update_context("w", variables={"theirs": 1}).unwrap()
    state.context.variables["x"] = 2
    state.step("a").name = "mine"
    merged = three.save_workflow_state(state).unwrap()
    assert (merged.step("a").name, merged.step("b").output) == ("mine", "theirs")
    assert merged.context.variables == {"x": 2, "deep": {"list": [1, 2]}, "theirs": 1}


def _change_step(state: WorkflowState) -> None:
    state.step("b").name = "mine"


def _change_output(state: WorkflowState) -> None:
    state.outputs["b"] = StepOutput.of("b", "mine")


def _change_variable(state: WorkflowState) -> None:
    state.context.variables["x"] = "mine"


def _remove_variable(state: WorkflowState) -> None:
    del state.context.variables["x"]


def _change_agent(state: WorkflowState) -> None:
    state.agents["agent"].status = "error"


def _pause(state: WorkflowState) -> None:
    state.workflow.paused = True


def _add_step(state: WorkflowState) -> None:
    state.workflow.steps.append(WorkflowStep("mine"))


def _reverse_steps(state: WorkflowState) -> None:
    state.workflow.steps.reverse()


def _save_rotated(wp: Waypost) -> Any:
    state = state_of(wp)
    state.workflow.steps.append(state.workflow.steps.pop(0))
    return wp.save_workflow_state(state)


def _remove_step(state: WorkflowState) -> None:
    del state.workflow.steps[1]


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (_change_step, lambda wp: wp.update_step_status("w", "b", "running")),
        (_change_output, lambda wp: wp.add_step_output("w", "b", "theirs")),
        (_change_variable, lambda wp: wp.update_context("w", variables={"x": "theirs"})),
        (_remove_variable, lambda wp: wp.update_context("w", variables={"x": "theirs"})),
        (_change_agent, lambda wp: wp.update_agent_state("w", "agent", {"status": "idle"})),
        (_pause, lambda wp: wp.pause_workflow("w")),
        (_add_step, lambda wp: wp.add_steps("w", ["theirs"])),
        (_remove_step, lambda wp: wp.update_step_status("w", "b", "running")),
        (_reverse_steps, lambda wp: _save_rotated(wp)),
    ],
    ids=["step", "output", "variable", "removed variable", "agent", "workflow", "order", "removed step", "moved steps"],
)
def test_trap_07_a_part_changed_twice_is_a_conflict(three: Waypost, mine: Any, theirs: Any) -> None:
    """Two who change the same part from the same version cannot both win: the second is told to load again."""
    state = state_of(three)
    mine(state)
    theirs(three).unwrap()
    before = state_of(three)
    refused = three.save_workflow_state(state)
    assert isinstance(refused.error, VersionConflict)
    assert refused.error.retryable
    assert state_of(three) == before
    again = state_of(three)
    mine(again)
    assert three.save_workflow_state(again).success


def test_the_list_of_steps_can_be_edited(three: Waypost) -> None:
    """Steps can be added, replaced, moved and taken out, also by plain strings, and nothing of them stays behind."""
    state = state_of(three)
    steps = state.workflow.steps
    steps.append("d")  # type: ignore[arg-type]
    steps.insert(0, WorkflowStep("first"))
    steps[2] = WorkflowStep("b", name="replaced")
    steps.reverse()
    saved = three.save_workflow_state(state).unwrap()
    assert [step.id for step in saved.workflow.steps] == ["d", "c", "b", "a", "first"]
    assert saved.step("b").name == "replaced"
    assert saved.step("a").output == {"rows": [1]}
    del saved.workflow.steps[1]
    del saved.workflow.steps[2]
    saved = three.save_workflow_state(saved).unwrap()
    assert [step.id for step in saved.workflow.steps] == ["d", "b", "first"]
    assert "a" not in saved.outputs
    assert three.validate_workflow_state("w").is_valid
    three.add_steps("w", ["a"]).unwrap()
    with pytest.raises(OutputNotFound):
        three.get_step_output("w", "a")


def test_outputs_can_be_taken_out(three: Waypost) -> None:
    """Removing an output from a state removes all its versions."""
    three.add_step_output("w", "a", 2).unwrap()
    state = state_of(three)
    del state.outputs["a"]
    assert "a" not in state.outputs
    saved = three.save_workflow_state(state).unwrap()
    assert saved.outputs == {}
    assert saved.step("a").output is None
    assert three.validate_workflow_state("w").is_valid


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda s: s.workflow.steps.append(WorkflowStep("a")), InvalidWorkflow),
        (lambda s: s.workflow.steps.append(WorkflowStep("d", dependencies=["x"])), InvalidWorkflow),
        (lambda s: s.step("a").dependencies.append("c"), InvalidWorkflow),
        (lambda s: s.workflow.steps.__delitem__(0), InvalidWorkflow),
        (lambda s: setattr(s.step("a"), "status", "done"), InvalidWorkflow),
        (lambda s: setattr(s.step("a"), "start_time", datetime(2020, 1, 1)), InvalidWorkflow),  # noqa: DTZ001
        (lambda s: setattr(s.step("a"), "id", ""), InvalidId),
        (lambda s: setattr(s.step("c"), "id", "renamed"), InvalidWorkflow),
        (lambda s: setattr(s.step("a"), "id", "b"), InvalidWorkflow),
        (lambda s: s.outputs.__setitem__("x", StepOutput.of("x", 1)), InvalidWorkflow),
        (lambda s: s.outputs.__setitem__("a", 5), InvalidInput),
        (lambda s: s.context.variables.__setitem__("v", object()), InvalidValue),
        (lambda s: s.context.variables.__setitem__("a\nb", 1), InvalidId),
        (lambda s: setattr(s.context, "variables", [1]), InvalidInput),
        (lambda s: s.context.secrets.__setitem__("k", "v"), SecretsNotSealed),
        (lambda s: setattr(s.agents["agent"], "status", "asleep"), InvalidInput),
        (lambda s: s.agents.__setitem__("b", AgentState("c")), InvalidInput),
        (lambda s: setattr(s.workflow, "name", 5), InvalidInput),
    ],
)  # fmt: skip
def test_a_state_that_is_not_lawful_is_refused_whole(three: Waypost, spoil: Any, error: type[Exception]) -> None:
    """One bad thing in a state keeps all of it from being saved."""
    before = state_of(three)
    state = state_of(three)
    state.context.variables["x"] = "also changed"
    spoil(state)
    assert isinstance(three.save_workflow_state(state).error, error)
    assert state_of(three) == before


def test_a_state_made_by_hand_makes_a_workflow(wp: Waypost) -> None:
    """A state for an id that is not there is stored whole."""
    state = WorkflowState(
        workflow=Workflow("w", "W", ["a", WorkflowStep("b", status="completed", dependencies=["a"])]),  # type: ignore[list-item]
        agents={"x": AgentState("x", performance=AgentPerformance(tasks_completed=2))},
        outputs={"b": StepOutput.of("b", [1, 2], "x")},
        context=WorkflowContext(variables={"v": (1, 2)}),
    )
    saved = wp.save_workflow_state(state).unwrap()
    assert [step.status for step in saved.workflow.steps] == ["pending", "completed"]
    assert (saved.outputs["b"].output, saved.outputs["b"].agent_id) == ([1, 2], "x")
    assert (saved.context.variables, saved.agents) == ({"v": (1, 2)}, state.agents)
    assert wp.validate_workflow_state("w").errors == []


def test_a_state_made_by_hand_replaces_the_version_it_names(three: Waypost) -> None:
    """A whole state takes the place of the version in its metadata if that is the current one, else it conflicts."""
    version = state_of(three).metadata.version
    state = WorkflowState(
        metadata=StateMetadata(version=version),
        workflow=Workflow("w", "New", [WorkflowStep("b"), WorkflowStep("a", status="completed")]),
        outputs={"a": StepOutput.of("a", {"rows": [1]})},
        context=WorkflowContext(variables={"x": 1}),
    )
    for wrong in (0, version - 1, version + 1):
        state.metadata = StateMetadata(version=wrong)
        assert isinstance(three.save_workflow_state(state).error, VersionConflict)
    state.metadata = StateMetadata(version=version)
    saved = three.save_workflow_state(state).unwrap()
    assert [step.id for step in saved.workflow.steps] == ["b", "a"]
    assert (saved.context.variables, saved.context.features, saved.agents) == ({"x": 1}, {}, {})
    assert saved.outputs["a"].version == 1
    assert three.validate_workflow_state("w").is_valid


def test_a_loaded_state_can_be_saved_under_another_id(three: Waypost) -> None:
    """Giving a loaded state another id copies the workflow, and leaves the first as it was."""
    before = state_of(three)
    state = state_of(three)
    state.workflow.id = "copy"
    three.save_workflow_state(state).unwrap()
    copy = state_of(three, "copy")
    assert copy.step("a").output == {"rows": [1]}
    assert copy.context.variables == before.context.variables
    assert [step.id for step in copy.workflow.steps] == ["a", "b", "c"]
    assert state_of(three) == before


def test_a_loaded_state_replaces_no_other_workflow(three: Waypost) -> None:
    """Under the id of another workflow a loaded state conflicts, also if both are at the same version."""
    three.create_workflow("other", "Other").unwrap()
    while state_of(three, "other").metadata.version < state_of(three).metadata.version:
        three.update_context("other", variables={"n": state_of(three, "other").metadata.version}).unwrap()
    state = state_of(three)
    state.workflow.id = "other"
    assert isinstance(three.save_workflow_state(state).error, VersionConflict)


def test_a_loaded_state_can_be_saved_to_another_store(three: Waypost, store_factory: StoreFactory) -> None:
    """A state carries all that it stands for, and never passes for a version of another store's workflow."""
    other = Waypost(Definitions(store_factory(), make_config(), verbose=False))
    copied = other.save_workflow_state(state_of(three)).unwrap()
    assert copied.workflow == state_of(three).workflow
    assert copied.outputs["a"].output == {"rows": [1]}
    while state_of(other).metadata.version < state_of(three).metadata.version:
        other.update_context("w", variables={"n": state_of(other).metadata.version}).unwrap()
    assert isinstance(other.save_workflow_state(state_of(three)).error, VersionConflict)


def test_a_state_of_a_deleted_workflow_is_not_saved(three: Waypost) -> None:
    """Saving brings nothing back that was deleted meanwhile."""
    state = state_of(three)
    state.workflow.name = "X"
    three.delete_workflow("w").unwrap()
    assert isinstance(three.save_workflow_state(state).error, WorkflowNotFound)


# --- agents and context ---


def test_an_agent_is_replaced_or_changed_by_field(three: Waypost) -> None:
    """An AgentState takes the place of the agent; a dictionary changes the fields it names, nested ones too."""
    changed = three.update_agent_state("w", "agent", {"performance": {"tasks_completed": 3}, "status": "idle"}).unwrap()
    assert (changed.status, changed.task_queue, changed.performance.tasks_completed) == ("idle", ["t"], 3)
    three.update_agent_state("w", "agent", {"performance": {"error_rate": 0.5}}).unwrap()
    assert state_of(three).agents["agent"].performance == AgentPerformance(tasks_completed=3, error_rate=0.5)
    three.update_agent_state("w", "agent", AgentState("agent")).unwrap()
    assert state_of(three).agents["agent"] == AgentState("agent")
    assert three.update_agent_state("w", "new", {"current_task": "x"}).unwrap().name == "new"


@pytest.mark.parametrize(
    "given", [{"staus": "idle"}, {"status": "asleep"}, {"id": "other"}, AgentState("other"), 5, {"task_queue": {1}}]
)
def test_an_agent_of_another_kind_is_refused(three: Waypost, given: Any) -> None:
    """Unknown fields, values of other kinds and another agent's id change nothing."""
    before = state_of(three)
    assert isinstance(three.update_agent_state("w", "agent", given).error, InvalidInput)
    assert state_of(three) == before


def test_context_is_merged_by_key(three: Waypost) -> None:
    """Keys that are named get their new value, None included, and the others keep theirs."""
    merged = three.update_context("w", variables={"x": None, "y": 2}, configuration={"c": 1}).unwrap()
    assert merged.variables == {"x": None, "y": 2, "deep": {"list": [1, 2]}}
    assert (merged.configuration, merged.features, merged.user_id) == ({"c": 1}, {"fast": True}, "u")
    assert state_of(three).context == merged


def test_x22_without_a_key_secrets_are_refused_and_stay_out_of_sight(three: Waypost) -> None:
    """Giving secrets writes nothing at all, and no text of a context shows them."""
    before = state_of(three)
    assert isinstance(three.update_context("w", variables={"x": 5}, secrets={"k": "canary"}).error, SecretsNotSealed)
    context = WorkflowContext(secrets={"k": "canary"})
    assert isinstance(three.create_workflow("v", "V", context=context).error, SecretsNotSealed)
    assert state_of(three) == before
    assert "canary" not in repr(context)
    assert "canary" not in repr(WorkflowState(workflow=Workflow("w"), context=context))


def test_a_bad_value_is_named_by_its_path(three: Waypost) -> None:
    """The error says where the value stands that cannot be stored, and nothing is written."""
    before = state_of(three)
    refused = three.update_step_status("w", "b", "completed", {"rows": [1, {"price": object()}]})
    assert isinstance(refused.error, InvalidValue)
    assert refused.error.path == "outputs.b.rows[1].price"
    refused = three.update_context("w", variables={"x": {"y": object()}})
    assert isinstance(refused.error, InvalidValue)
    assert refused.error.path == "context.variables.x.y"
    assert state_of(three) == before


# --- deleting ---


def test_a_deleted_workflow_says_so(three: Waypost) -> None:
    """Loading a deleted workflow fails with the time of its deletion, and it is in no list."""
    gone = three.delete_workflow("w").unwrap()
    refused = three.load_workflow_state("w")
    assert isinstance(refused.error, WorkflowNotFound)
    assert "was deleted" in str(refused.error)
    assert refused.error.details["deleted_at"] == gone.deleted_at.isoformat(timespec="seconds")
    assert three.list_workflows().total == 0
    assert list(view_of(three).keys()) == ["tombstone"]
    for again in (three.delete_workflow("w"), three.pause_workflow("w"), three.add_steps("w", ["x"])):
        assert isinstance(again.error, WorkflowNotFound)


def test_a_deleted_id_can_be_used_anew(three: Waypost) -> None:
    """A new workflow of a deleted id has nothing of the old one but a version that goes on."""
    version = state_of(three).metadata.version
    three.delete_workflow("w").unwrap()
    made = three.create_workflow("w", "New", steps=["z"]).unwrap()
    assert [step.id for step in made.workflow.steps] == ["z"]
    assert (made.outputs, made.agents, made.context.variables) == ({}, {}, {})
    assert made.metadata.version > version
    assert three.validate_workflow_state("w").is_valid


# --- listing ---


@pytest.fixture
def many(wp: Waypost) -> Waypost:
    """A store with five workflows of different status, size and session."""
    for number, session in enumerate(["s1", "s2", "s1", None, "s2"]):
        wp.create_workflow(f"w{number}", f"W{number}", session, ["a", "b"]).unwrap()
    wp.update_step_status("w1", "a", "completed", "x" * 500, session_id="s1").unwrap()
    wp.update_step_status("w2", "a", "failed").unwrap()
    wp.pause_workflow("w3").unwrap()
    for step_id in "ab":
        wp.update_step_status("w4", step_id, "skipped").unwrap()
    return wp


def test_a_list_shows_what_the_workflows_are(many: Waypost) -> None:
    """Each workflow is summed up by the same values as when it is loaded."""
    found = many.list_workflows()
    assert found.total == len(found) == 5
    for summary in found:
        state = state_of(many, summary.id)
        assert (summary.name, summary.status, summary.progress, summary.version, summary.size_bytes) == (
            state.workflow.name,
            state.workflow.status,
            state.workflow.progress,
            state.metadata.version,
            state.metadata.size_bytes,
        )
        assert (summary.created_at, summary.updated_at) == (state.metadata.created_at, state.metadata.updated_at)
    assert {summary.id: summary.status for summary in found} == {
        "w0": "idle",
        "w1": "running",
        "w2": "failed",
        "w3": "paused",
        "w4": "completed",
    }
    assert {summary.id: list(summary.session_ids) for summary in found}["w1"] == ["s1", "s2"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (StateQuery(workflow_id="w2"), {"w2"}),
        (StateQuery(workflow_id="nobody"), set()),
        (StateQuery(session_id="s1"), {"w0", "w1", "w2"}),
        (StateQuery(session_id="s2"), {"w1", "w4"}),
        (StateQuery(status=["failed", "paused"]), {"w2", "w3"}),
        (StateQuery(session_id="s1", status=["failed"]), {"w2"}),
        (StateQuery(time_range=TimeRange(start=datetime(2000, 1, 1, tzinfo=UTC))), {"w0", "w1", "w2", "w3", "w4"}),
        (StateQuery(time_range=TimeRange(end=datetime(2000, 1, 1, tzinfo=UTC))), set()),
    ],
)
def test_a_query_narrows_the_list(many: Waypost, query: StateQuery, expected: set[str]) -> None:
    """Each field of a query leaves out what does not fit it, and all of them hold together."""
    assert {summary.id for summary in many.list_workflows(query)} == expected


def test_a_list_goes_through_steps_once_for_each_commit(many: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """However recent a change is, the steps behind it are gone through by one list, and the next takes its word."""
    gone_through: list[str] = []
    every_step = loading.every_step

    def counted(view: View) -> Iterator[WorkflowStep]:
        gone_through.append(view.document.id)
        return every_step(view)

    monkeypatch.setattr(loading, "every_step", counted)
    first = many.list_workflows()
    gone_through.clear()
    assert many.list_workflows() == first
    assert gone_through == []
    many.update_step_status("w0", "a", "failed", error="no network").unwrap()
    assert many.list_workflows(StateQuery(status=["failed"])).total == 2
    assert gone_through == ["w0"]


def test_a_list_is_sorted_and_paged(many: Waypost) -> None:
    """Lists are sorted by creation, change or size, either way, and come in pages that miss nothing."""

    def ids(**fields: Any) -> list[str]:
        return [summary.id for summary in many.list_workflows(StateQuery(**fields))]

    created = ["w0", "w1", "w2", "w3", "w4"]
    assert ids(sort_by="created", sort_order="asc") == created
    assert ids(sort_by="created") == created[::-1]
    assert ids(sort_by="updated", sort_order="asc") == ["w0", "w1", "w2", "w3", "w4"]
    assert ids(sort_by="size")[0] == "w1"
    pages: list[str] = []
    offset: int | None = 0
    while offset is not None:
        page = many.list_workflows(StateQuery(sort_by="created", sort_order="asc", limit=2, offset=offset))
        assert page.has_more == (page.next_offset is not None)
        assert page.total == 5
        pages += [summary.id for summary in page.items]
        offset = page.next_offset
    assert pages == created


@pytest.mark.parametrize(
    "query",
    [StateQuery(limit=0), StateQuery(offset=-1), StateQuery(sort_by="name"), StateQuery(status=["done"]), {"limit": 3}],  # type: ignore[arg-type,list-item]
)
def test_a_query_out_of_range_is_refused(many: Waypost, query: Any) -> None:
    """A query that means nothing raises, rather than listing everything."""
    with pytest.raises(InvalidInput):
        many.list_workflows(query)


# --- checking ---


def corrupt(store: Store, work: Any) -> None:
    document = DocumentId("workflow", "w")
    store.submit(Change(document, work, clock.new_id("op"), "test")).result()


def _encode(value: object) -> bytes:
    from waypost import records

    return records.encode(value)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda tx: tx.put("step\x1fa", b"\xc1"), "step a"),
        (lambda tx: tx.put("step\x1fa", _encode(["a", "a", None, "done"])), "step a"),
        (lambda tx: tx.put("variable\x1fx", b"\xc1"), "variable x"),
        (lambda tx: tx.put("strange", b"\xc0"), "strange"),
        (lambda tx: tx.put("order\x1f00000", _encode(["a", "b"])), "'c' is missing in the order"),
        (lambda tx: tx.put("order\x1f00000", _encode(["a", "b", "c", "d"])), "'d' stands in the order"),
        (lambda tx: tx.put("order\x1f00000", _encode(["a", "b", "c", "c"])), "2 times"),
        (lambda tx: tx.put("step\x1fb", _encode(WorkflowStep("b", dependencies=["x"]))), "'x'"),
        (lambda tx: tx.put("step\x1fb", _encode(WorkflowStep("b", dependencies=["b"]))), "circle"),
        (lambda tx: tx.put("step\x1fb", _encode(WorkflowStep("b", output_version=2))), "no output of version 2"),
        (lambda tx: tx.put("output\x1fz\x1f00000001", tx.get("output\x1fa\x1f00000001")), "'z'"),
        (lambda tx: tx.put("output\x1fa\x1f00000001", _swapped(tx)), "another size or checksum"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_found(three: Waypost, damage: Any, named: str) -> None:
    """A check decodes every part, and says of each thing that is wrong what it is."""
    assert three.validate_workflow_state("w").is_valid
    corrupt(three.definitions.store, damage)
    report = three.validate_workflow_state("w")
    assert not report.is_valid
    assert any(named in error for error in report.errors), report.errors


def _swapped(tx: Transaction) -> bytes:
    """The output of step a with another value under the same checksum."""
    return (tx.get("output\x1fa\x1f00000001") or b"").replace(b"rows", b"ROWS")


def test_a_wrong_checksum_is_found(three: Waypost) -> None:
    """A check adds the checksum up anew and compares."""
    from waypost import validation

    view: Any = CountingView(view_of(three))
    assert validation.validate(view).is_valid
    view.checksum = bytes(32)
    assert any("checksum of the workflow" in error for error in validation.validate(view).errors)


def test_oddities_are_warnings(three: Waypost) -> None:
    """What can be done by hand and is odd makes a warning, and the state stays valid."""
    state = state_of(three)
    state.step("b").status = "running"
    state.step("c").status = "completed"
    state.step("a").start_time = datetime.now(UTC) + timedelta(days=1)
    three.save_workflow_state(state).unwrap()
    report = three.validate_workflow_state("w")
    assert report.is_valid
    assert sorted(report.warnings) == [
        "step 'a' ends before it starts",
        "step 'b' is running and has no start",
        "step 'c' is completed and has no end",
    ]


def test_checking_what_is_not_there_raises(wp: Waypost) -> None:
    """A check of an unknown workflow raises WorkflowNotFound."""
    with pytest.raises(WorkflowNotFound):
        wp.validate_workflow_state("w")


# --- ids ---

STRANGE_IDS = [
    "../../etc/passwd",
    "..",
    ".",
    "/",
    "a/../z",
    "C:\\x",
    "CON",
    "aux.txt",
    "a.",
    "a ",
    " a ",
    "-rf",
    "~",
    "$HOME",
    "%00",
    "A",
    "a",
    "ä",
    "a\u0308",
    "日本",
    "\U0001f4a5",
    "e\u0301\u200d",
    "x" * 512,
    "\U0001f4a5" * 512,
    "'; drop table",
    "<b>",
]
REFUSED_IDS: list[Any] = [
    "",
    "a\0b",
    "a\nb",
    "a\x1fb",
    "\x7f",
    "\x85",
    "\u202e",
    "a\u200f",
    "\u2066a",
    "\ud800",
    "x" * 513,
    None,
    5,
    b"a",
]


def test_trap_32_n03_strange_ids_round_trip(wp: Waypost) -> None:
    """Any id that is a text of lawful length is itself: none is joined, normalised, folded or trimmed."""
    for workflow_id in STRANGE_IDS:
        wp.create_workflow(workflow_id, "W", workflow_id, [workflow_id]).unwrap()
        wp.update_step_status(workflow_id, workflow_id, "completed", workflow_id, agent_id=workflow_id).unwrap()
        wp.update_agent_state(workflow_id, workflow_id, {}).unwrap()
        wp.update_context(workflow_id, variables={workflow_id: workflow_id}).unwrap()
    assert {summary.id for summary in wp.list_workflows()} == set(STRANGE_IDS)
    for workflow_id in STRANGE_IDS:
        state = state_of(wp, workflow_id)
        assert [step.id for step in state.workflow.steps] == [workflow_id]
        assert state.outputs[workflow_id].output == workflow_id
        assert state.context.variables == {workflow_id: workflow_id}
        assert list(state.agents) == [workflow_id]
        assert wp.validate_workflow_state(workflow_id).is_valid


@pytest.mark.parametrize("bad", REFUSED_IDS, ids=ascii)
def test_trap_32_n03_ids_that_nothing_can_keep_are_refused(wp: Waypost, bad: Any) -> None:
    """An id that is empty, too long, no text, or holds a character that no id may hold is InvalidId everywhere."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    before = state_of(wp)
    for result in (
        wp.create_workflow(bad, "W"),
        wp.load_workflow_state(bad),
        wp.update_step_status(bad, "a", "running"),
        wp.update_step_status("w", bad, "running"),
        wp.add_step_output("w", bad, 1),
        wp.reset_step("w", bad),
        wp.update_agent_state("w", bad, {}),
        wp.update_context("w", variables={bad: 1}),
        wp.delete_workflow(bad),
        wp.save_workflow_state(WorkflowState(workflow=Workflow(bad, "W"))),
    ):
        assert isinstance(result.error, InvalidId), result
    if bad is not None:
        for result in (
            wp.create_workflow("v", "W", bad),
            wp.update_step_status("w", "a", "running", agent_id=bad),
            wp.update_step_status("w", "a", "running", session_id=bad),
            wp.update_step_status("w", "a", "running", operation_id=bad),
        ):
            assert isinstance(result.error, InvalidId), result
    with pytest.raises(InvalidId):
        wp.validate_workflow_state(bad)
    with pytest.raises(InvalidId):
        wp.get_outcome(bad)
    assert state_of(wp) == before
    assert wp.list_workflows().total == 1


def test_trap_32_a_refused_id_is_named_without_being_repeated_raw() -> None:
    """The error says what was wrong and where, and holds no control character itself."""
    from waypost.records import validate_id

    with pytest.raises(InvalidId, match=r"U\+001B at 2") as caught:
        validate_id("ab\x1b[31m", "workflow id")
    assert str(caught.value).isprintable()


# --- any edit of a state ---

NAMES = st.sampled_from(["a", "b", "c", "x", "y"])
VALUES = st.one_of(st.none(), st.integers(-3, 3), st.text(max_size=3), st.lists(st.integers(0, 3), max_size=3))
EDITS = st.one_of(
    st.tuples(st.just("set"), NAMES, VALUES),
    st.tuples(st.just("unset"), NAMES, st.none()),
    st.tuples(st.just("grow"), NAMES, VALUES),
    st.tuples(st.just("step"), NAMES, st.sampled_from(["pending", "skipped", "completed"])),
    st.tuples(st.just("drop"), NAMES, st.none()),
    st.tuples(st.just("move"), NAMES, st.none()),
    st.tuples(st.just("output"), NAMES, VALUES),
    st.tuples(st.just("output in place"), NAMES, VALUES),
    st.tuples(st.just("save"), NAMES, st.none()),
)


class Plain:
    """What a state should hold, in plain lists and dictionaries."""

    def __init__(self) -> None:
        self.variables: dict[str, Any] = {}
        self.steps: list[tuple[str, str]] = []
        self.outputs: dict[str, Any] = {}

    def edit(self, state: WorkflowState, kind: str, name: str, value: Any) -> None:
        """The same edit of both."""
        steps, ids = state.workflow.steps, [step_id for step_id, _ in self.steps]
        match kind:
            case "set":
                self.variables[name] = state.context.variables[name] = value
            case "unset":
                assert (self.variables.pop(name, self) is self) == (state.context.variables.pop(name, self) is self)
            case "grow" if isinstance(self.variables.get(name), list):
                self.variables[name] = [*self.variables[name], value]
                state.context.variables[name].append(value)
            case "step" if name in ids:
                self.steps[ids.index(name)] = (name, value)
                state.step(name).status = value
            case "step":
                self.steps.append((name, value))
                steps.append(WorkflowStep(name, status=value))
            case "drop" if name in ids:
                del self.steps[ids.index(name)]
                self.outputs.pop(name, None)
                state.outputs.pop(name, None)
                del steps[ids.index(name)]
            case "move" if name in ids:
                self.steps.insert(0, self.steps.pop(ids.index(name)))
                steps.insert(0, steps.pop(ids.index(name)))
            case "output" if name in ids:
                self.outputs[name] = value
                state.outputs[name] = StepOutput.of(name, value)
            case "output in place" if isinstance(self.outputs.get(name), list):
                self.outputs[name] = [*self.outputs[name], value]
                state.outputs[name].output.append(value)
            case _:
                pass

    def agrees_with(self, state: WorkflowState) -> None:
        assert dict(state.context.variables) == self.variables
        assert [(step.id, step.status) for step in state.workflow.steps] == self.steps
        assert {name: output.output for name, output in state.outputs.items()} == self.outputs
        assert {step.id: step.output for step in state.workflow.steps if step.output_version} == self.outputs


@given(st.lists(EDITS, max_size=25))
@settings(max_examples=150, deadline=None)
def test_any_edits_are_saved_as_they_were_made(edits: list[tuple[str, str, Any]]) -> None:
    """Whatever is done to a state, in any order and with saves between, is what the store holds afterwards."""
    wp = Waypost(Definitions(open_store("memory:", make_config()), make_config(), verbose=False))
    state, plain = wp.create_workflow("w", "W").unwrap(), Plain()
    for kind, name, value in [*edits, ("save", "", None)]:
        if kind == "save":
            state = wp.save_workflow_state(state).unwrap()
            plain.agrees_with(state_of(wp))
        else:
            plain.edit(state, kind, name, value)
    report = wp.validate_workflow_state("w")
    assert report.errors == []
