"""History, diff and blame: what became of a workflow, what differs between versions, and who made it so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec import UNSET

from tests.conftest import make_config
from waypost import delta, places
from waypost.api import AsyncWaypost
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import (
    InvalidId,
    InvalidInput,
    PathNotFound,
    VersionNotFound,
    WorkflowNotFound,
)
from waypost.models import AgentState, WorkflowStep
from waypost.places import LargeValue
from waypost.store import DocumentId

WF = DocumentId("workflow", "w")


def changes(wp: Waypost, a: str, b: str) -> dict[str, tuple[str, Any, Any]]:
    return {each.path: (each.kind, each.before, each.after) for each in wp.diff(a, b)}


# --- history ---


def test_history_tells_each_commit(wp: Waypost) -> None:
    """The newest commit comes first, with its time, operation, ids, session, agent and what it changed."""
    wp.create_workflow("w", "W", "s1", ["fetch", "a.b"]).unwrap()
    wp.update_step_status(
        "w", "fetch", "completed", {"rows": 1}, agent_id="g", operation_id="op-1", session_id="s2"
    ).unwrap()
    done, made = wp.history("w")
    assert (done.version, done.operation, done.operation_id) == (2, "update_step_status", "op-1")
    assert (done.session_id, done.agent_id, done.kept, done.cleared, done.transaction_id) == (
        "s2",
        "g",
        True,
        False,
        None,
    )
    after, first = (f'checkpoints["{one.id}"]' for one in wp.list_checkpoints("w"))
    assert list(done.changed) == ["steps.fetch", "outputs.fetch", "sessions.s2", after]
    assert (made.version, made.operation, made.session_id) == (1, "create_workflow", "s1")
    assert list(made.changed) == ["workflow", "order", 'steps["a.b"]', "steps.fetch", "context", "sessions.s1", first]
    state = wp.load_workflow_state("w").unwrap()
    assert done.at == state.metadata.updated_at and done.at.utcoffset() == timedelta(0)
    assert done.commit_id == wp.definitions.store.view(WF).commit_id.hex()


def test_history_has_pages(wp: Waypost) -> None:
    """`limit` and `before` give one page after the other, without a gap and to the end."""
    wp.create_workflow("w", "W").unwrap()
    for number in range(6):
        wp.update_context("w", variables={"n": number}).unwrap()
    first = wp.history("w", limit=3)
    second = wp.history("w", limit=3, before=first[-1].version)
    third = wp.history("w", limit=3, before=second[-1].version)
    assert [[each.version for each in page] for page in (first, second, third)] == [[7, 6, 5], [4, 3, 2], [1]]
    assert len(wp.history("w", limit=None)) == 7
    for wrong in ({"limit": 0}, {"before": 0}, {"limit": True}, {"limit": "3"}):
        with pytest.raises(InvalidInput):
            wp.history("w", **wrong)


def test_a_deleted_workflow_has_a_history(wp: Waypost) -> None:
    """The commit that deleted it is the newest; what never was has none."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.delete_workflow("w", session_id="s").unwrap()
    gone, made = wp.history("w")
    assert (gone.operation, gone.cleared, gone.session_id, list(gone.changed)) == (
        "delete_workflow", True, "s", ["tombstone"]
    )  # fmt: skip
    assert made.version == 1
    with pytest.raises(WorkflowNotFound):
        wp.history("nothing")
    with pytest.raises(InvalidId):
        wp.history("")


def test_commits_over_several_workflows_are_marked(wp: Waypost) -> None:
    """A commit that was one with others names its transaction and the others' versions."""
    wp.create_workflow("w", "W").unwrap()

    def work(tx: Any) -> None:
        tx.create_workflow("v", "V")
        tx.pause_workflow("w")

    wp.transact(work).unwrap()
    (here, before), (there,) = wp.history("w"), wp.history("v")
    assert here.transaction_id and here.transaction_id == there.transaction_id
    assert (list(here.together_with), list(there.together_with)) == (["v@1"], ["w@2"])
    assert (before.transaction_id, list(before.together_with)) == (None, [])


async def test_the_asynchronous_face_looks_back_too(awp: AsyncWaypost) -> None:
    """History, diff and blame are awaited there, and give the same."""
    (await awp.create_workflow("w", "W", steps=["a"])).unwrap()
    (await awp.update_step_status("w", "a", "running")).unwrap()
    assert [each.version for each in await awp.history("w")] == [2, 1]
    assert "steps.a.status" in [each.path for each in await awp.diff("w@1", "w@2")]
    assert (await awp.blame("w", "steps.a.status")).commit.version == 2
    with pytest.raises(PathNotFound):
        await awp.blame("w", "steps.b")


# --- diff ---


def test_diff_goes_into_values(wp: Waypost) -> None:
    """What changed is named by a path into the value; what was added or removed whole is one change."""
    wp.create_workflow("w", "W", steps=["fetch", "parse"]).unwrap()
    wp.update_agent_state("w", "a", AgentState("a", status="idle")).unwrap()
    wp.add_step_output("w", "fetch", {"rows": [{"price": 1}, {"price": 2}], "gone": None}).unwrap()
    wp.update_context("w", variables={"x": 1, "same": [1]}).unwrap()
    wp.update_agent_state("w", "a", AgentState("a", status="busy")).unwrap()
    wp.add_step_output("w", "fetch", {"rows": [{"price": 1}, {"price": 3}, {"price": 4}]}).unwrap()
    wp.update_context("w", variables={"x": True, "new": {"a": {}}}).unwrap()
    wp.add_steps("w", ["report"]).unwrap()
    found = changes(wp, "w@4", "w")
    report = found.pop("steps.report")
    assert (report[0], report[1], report[2]["status"]) == ("added", UNSET, "pending")
    assert found == {
        "agents.a.status": ("changed", "idle", "busy"),
        "steps.fetch.output_version": ("changed", 1, 2),
        "outputs.fetch.rows[1].price": ("changed", 2, 3),
        "outputs.fetch.rows[2]": ("added", UNSET, {"price": 4}),
        "outputs.fetch.gone": ("removed", None, UNSET),
        "context.variables.x": ("changed", 1, True),
        "context.variables.new": ("added", UNSET, {"a": {}}),
    }
    diff = wp.diff("w@4", "w")
    assert (diff.before, diff.after, len(diff)) == ("w@4", "w@8", 8)


def test_diff_of_equal_versions_is_empty(wp: Waypost) -> None:
    """A version does not differ from itself, nor from one whose values are the same."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.update_context("w", variables={"n": float("nan"), "d": {"a": 1, "b": 2}}).unwrap()
    wp.update_context("w", variables={"d": {"b": 2, "a": 1}}).unwrap()
    assert len(wp.diff("w", "w")) == len(wp.diff("w@2", "w@3")) == 0
    wp.update_context("w", variables={"n": 1}).unwrap()
    wp.update_context("w", variables={"n": float("nan")}).unwrap()
    assert len(wp.diff("w@3", "w@5")) == 0


def test_diff_compares_two_workflows(wp: Waypost) -> None:
    """Either side may be another workflow, or what is left of a deleted one."""
    for name in ("w", "v"):
        wp.create_workflow(name, name.upper(), steps=["a"]).unwrap()
    assert set(changes(wp, "w", "v")) == {"workflow.name", "workflow.created_at"}
    wp.delete_workflow("v").unwrap()
    found = changes(wp, "w", "v")
    assert (found["steps.a"][0], found["workflow"][0], found["tombstone"][0]) == ("removed", "removed", "added")


def test_diff_tells_the_order_of_steps_only_where_it_changed(wp: Waypost) -> None:
    """Steps added at the end are told by themselves; moved ones, or ones put between, by the whole order."""
    wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
    wp.add_steps("w", ["c"]).unwrap()
    assert set(changes(wp, "w@1", "w@2")) == {"steps.c"}
    assert set(changes(wp, "w@2", "w@1")) == {"steps.c"}
    state = wp.load_workflow_state("w").unwrap()
    state.workflow.steps.insert(0, WorkflowStep("z"))
    wp.save_workflow_state(state).unwrap()
    assert changes(wp, "w@2", "w@3")["order"] == ("changed", ["a", "b", "c"], ["z", "a", "b", "c"])
    assert changes(wp, "w@3", "w@2")["order"] == ("changed", ["z", "a", "b", "c"], ["a", "b", "c"])
    state = wp.load_workflow_state("w").unwrap()
    state.workflow.steps[0], state.workflow.steps[1] = state.workflow.steps[1], state.workflow.steps[0]
    wp.save_workflow_state(state).unwrap()
    assert set(changes(wp, "w@3", "w@4")) == {"order"}


def test_references_name_whole_ids_first(wp: Waypost) -> None:
    """`w@1` is the workflow of that id where there is one, and else version 1 of `w`."""
    wp.create_workflow("w", "W").unwrap()
    wp.pause_workflow("w").unwrap()
    assert (wp.diff("w@1", "w").before, wp.diff("w@0", "w@2").before) == ("w@1", "w@0")
    wp.create_workflow("w@1", "Another").unwrap()
    assert wp.diff("w@1", "w").before == "w@1@1"
    assert wp.diff("w@1@1", "w@2").before == "w@1@1"


@pytest.mark.parametrize(
    ("reference", "error", "said"),
    [
        ("w@3", VersionNotFound, "its newest is 2"),
        ("w@99999999999999999999999", WorkflowNotFound, "there is no workflow"),
        ("x@1", WorkflowNotFound, "there is no workflow 'x'"),
        ("x@0", WorkflowNotFound, "there is no workflow 'x'"),
        ("@1", WorkflowNotFound, "there is no workflow '@1'"),
        ("w@-1", WorkflowNotFound, "there is no workflow 'w@-1'"),
        ("w@", WorkflowNotFound, "there is no workflow 'w@'"),
        ("w@٣", WorkflowNotFound, "there is no workflow"),
        ("", InvalidId, "not empty"),
        ("w\n@1", InvalidId, "control character"),
    ],
)
def test_what_names_no_version_is_refused(wp: Waypost, reference: str, error: type[Exception], said: str) -> None:
    """A reference to what is not there says what is."""
    wp.create_workflow("w", "W").unwrap()
    wp.pause_workflow("w").unwrap()
    for pair in ((reference, "w"), ("w", reference)):
        with pytest.raises(error, match=said):
            wp.diff(*pair)


class Reads:
    """A version that tells which of its parts were decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.roots: list[str] = []
        real = places.value

        def value(get: Any, root: Any) -> Any:
            self.roots.append(places.path_of(root))
            return real(get, root)

        monkeypatch.setattr(places, "value", value)


def test_diff_decodes_only_what_differs(wp: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten thousand steps of which one changed, one is decoded."""
    wp.create_workflow("w", "W", steps=[f"s{number}" for number in range(10_000)]).unwrap()
    wp.update_step_status("w", "s77", "running").unwrap()
    reads = Reads(monkeypatch)
    assert "steps.s77.status" in changes(wp, "w@1", "w@2")
    assert set(reads.roots) == {"steps.s77"}


def test_large_outputs_are_compared_without_being_loaded(store_factory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An output longer than a chunk is told by size and checksum, and its bytes are never asked for."""
    config = make_config({"compression": {"chunk_size": 4096}})
    store = store_factory(config)
    wp = Waypost(Definitions(store, config, verbose=False))
    wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
    for value in (b"x" * 9000, b"y" * 9000, b"y" * 9000, 1):
        wp.add_step_output("w", "a", value).unwrap()
    asked: list[str] = []

    def view_at(document: Any, version: int, real: Any = store.view_at) -> Any:
        view = real(document, version)
        get = view.get

        class Watched:
            def __getattr__(self, name: str) -> Any:
                return getattr(view, name)

            def get(self, key: str) -> bytes | None:
                asked.append(key)
                return get(key)

        return Watched()

    monkeypatch.setattr(store, "view_at", view_at)
    found = changes(wp, "w@2", "w@3")["outputs.a"]
    assert found[0] == "changed"
    assert isinstance(found[1], LargeValue) and isinstance(found[2], LargeValue)
    assert (found[1].size_bytes, found[1].checksum != found[2].checksum) == (9003, True)
    assert set(changes(wp, "w@3", "w@4")) == {"steps.a.output_version"}
    assert changes(wp, "w@4", "w@5")["outputs.a"] == ("changed", found[2], 1)
    assert asked and not any(key.startswith("value") for key in asked)
    assert wp.blame("w", "outputs.a").before_since == 3
    wp.add_step_output("w", "b", [b"z" * 9000]).unwrap()
    with pytest.raises(PathNotFound, match="a value of 9,004 bytes"):
        wp.blame("w", "outputs.b[0]")


# --- values ---


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, []),
        ({}, [], [("changed", "")]),
        ([1, 2], [1], [("removed", "[1]")]),
        ([1], [2, 1], [("changed", "[0]"), ("added", "[1]")]),
        (0.0, -0.0, [("changed", "")]),
        (1, 1.0, [("changed", "")]),
        ({1: "a"}, {True: "a"}, [("removed", "[1]"), ("added", "[True]")]),
        ({"1": "a"}, {1: "a"}, [("removed", '["1"]'), ("added", "[1]")]),
        ({"a": None}, {}, [("removed", "a")]),
        ({(1, 2): {"a": 1, "b": 2}, (3,): 3}, {(3,): 3, (1, 2): {"b": 2, "a": 1}}, []),
        ({(1, 2): 1}, {(1, 2): True}, [("changed", "")]),
        ({(1, 2): 1}, {(1, 2.0): 1}, [("changed", "")]),
    ],
)
def test_differences_of_values(before: Any, after: Any, expected: list[tuple[str, str]]) -> None:
    """Types count, keys are told apart by type, lists are compared by index, and None is a value."""
    assert [(each.kind, each.path) for each in delta.differences(before, after)] == expected
