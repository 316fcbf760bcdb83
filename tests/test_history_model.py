"""Diff and blame against a naive oracle: whole states, loaded version by version and compared leaf by leaf."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, structs, to_builtins

from tests.conftest import make_config
from tests.store.support import directory_store
from waypost import loading
from waypost.blocking import Waypost
from waypost.codec import paths
from waypost.definitions import Definitions
from waypost.models import AgentState, WorkflowStep
from waypost.store import DocumentId, Store
from waypost.store.memory import MemoryStore

WF = DocumentId("workflow", "w")
MISSING = object()

KEYS = st.sampled_from(["a", "b.c", "", "[0]", "é", 'q"'])
LEAVES = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, -0.0, 1.0, float("nan"), "", "x", b"x"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.integers(0, 1) | st.none(), inner, max_size=3)
    ),
    max_leaves=8,
)
STEPS = st.sampled_from(["one", "two.2", "three-3"])
ACTION = st.one_of(
    st.tuples(st.just("output"), STEPS, VALUES),
    st.tuples(st.just("status"), STEPS, st.sampled_from(["running", "completed", "failed"])),
    st.tuples(st.just("reset"), STEPS, st.none()),
    st.tuples(st.just("variable"), KEYS.filter(bool), VALUES),
    st.tuples(st.just("forget"), KEYS.filter(bool), st.none()),
    st.tuples(st.just("agent"), st.sampled_from(["g", "h"]), st.sampled_from(["idle", "busy"])),
    st.tuples(st.just("save"), STEPS, VALUES),
    st.tuples(st.just("drop"), STEPS, st.none()),
    st.tuples(st.just("delete"), st.none(), st.none()),
    st.tuples(st.sampled_from(["checkpoint", "compact", "snapshot"]), st.none(), st.none()),
    st.tuples(st.just("restore"), st.integers(0, 3), st.none()),
)


def act(wp: Waypost, action: str, name: Any, value: Any) -> None:
    """Do one thing to the workflow. What its rules refuse changes nothing, and is looked at by nobody."""
    if action in ("compact", "snapshot"):
        store: Any = wp.definitions.store
        if not isinstance(store, MemoryStore):
            store.tidy(WF, action)
        return
    if action == "delete":
        wp.delete_workflow("w").unwrap()
        wp.create_workflow("w", "W again", steps=["one", "two.2"]).unwrap()
        return
    if action == "restore":
        kept = wp.list_checkpoints("w").items
        if kept:
            wp.restore_from_checkpoint(kept[name % len(kept)].id).unwrap()
        return
    if action in ("forget", "save", "drop"):
        state = wp.load_workflow_state("w").unwrap()
        if action == "forget":
            state.context.variables.pop(name, None)
        elif action == "drop":
            state.workflow.steps[:] = [step for step in state.workflow.steps if step.id != name]
        elif all(step.id != name for step in state.workflow.steps):
            state.workflow.steps.insert(0, WorkflowStep(name))
        else:
            state.step(name).output = value
        outcome: Any = wp.save_workflow_state(state)
    elif action == "checkpoint":
        outcome = wp.create_checkpoint("w")
    elif action == "output":
        outcome = wp.add_step_output("w", name, value)
    elif action == "status":
        outcome = wp.update_step_status("w", name, value)
    elif action == "reset":
        outcome = wp.reset_step("w", name)
    elif action == "variable":
        outcome = wp.update_context("w", variables={name: value})
    else:
        outcome = wp.update_agent_state("w", name, AgentState(name, status=value))
    bool(outcome)  # looked at


# --- the oracle ---


def whole(store: Store, version: int) -> dict[str, Any]:
    """A version as one tree, made from the state that loading gives."""
    view = store.view_at(WF, version)
    if view is None or view.size_of("workflow") is None:
        return {}
    state = loading.load(view)
    found: dict[str, Any] = {
        "workflow": {"name": state.workflow.name, "paused": state.workflow.paused},
        "steps": {
            step.id: {**structs.asdict(step), "owner": to_builtins(step.owner and structs.asdict(step.owner))}
            for step in state.workflow.steps
        },
        "agents": {name: plain(agent) for name, agent in state.agents.items()},
        "outputs": {name: each.output for name, each in state.outputs.items()},
    }
    variables = dict(state.context.variables)
    found["context"] = {"variables": variables} if variables else {}
    return {name: each for name, each in found.items() if each}


def plain(struct: Any) -> dict[str, Any]:
    fields = structs.asdict(struct)
    return {name: plain(each) if hasattr(each, "__struct_fields__") else each for name, each in fields.items()}


def canon(value: Any) -> Any:
    """A form in which == tells types, zeros and NaN apart or together as they are stored, whatever a dict's order."""
    if isinstance(value, dict):
        return "dict", tuple(sorted((repr(key), canon(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return type(value).__name__, tuple(map(canon, value))
    return type(value).__name__, repr(value)


def every_path(value: Any, steps: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    """What stands at every place of a tree, by the keys and indices that lead there."""
    found = {steps: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found.update(every_path(item, (*steps, key)))
    return found


def at(tree: Any, keys: tuple[Any, ...]) -> Any:
    for key in keys:
        found = every_path(tree).get((key,), MISSING) if isinstance(tree, (dict, list)) else MISSING
        if found is MISSING or (isinstance(tree, dict) and all(canon(each) != canon(key) for each in tree)):
            return MISSING
        tree = found
    return tree


def spelled(keys: tuple[Any, ...]) -> str:
    """A path in the notation of the project, written here for a second time."""
    text = ""
    for key in keys:
        if isinstance(key, str):
            import json

            text += f".{key}" if key.isidentifier() else f"[{json.dumps(key)}]"
        else:
            text += f"[{key!r}]"
    return text.removeprefix(".")


def apply(tree: Any, changes: list[Any]) -> Any:
    """The tree after what a diff says has been done to it: removals from the end, so that indices hold."""
    copied = copy(tree)
    for change in [each for each in reversed(changes) if each.kind == "removed"] + [
        each for each in changes if each.kind != "removed"
    ]:
        *way, last = paths.parse(change.path)
        place = copied
        for step in way:
            key = key_of(place, step)
            if isinstance(place, dict) and key not in place:
                place[key] = {}
            place = place[key]
        key = key_of(place, last)
        if change.kind == "removed":
            del place[key]
        elif isinstance(place, list) and key == len(place):
            place.append(change.after)
        else:
            place[key] = change.after
    return copied


def copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: copy(item) for key, item in value.items()}
    return [copy(item) for item in value] if isinstance(value, list) else value


def key_of(place: Any, step: str) -> Any:
    text = paths.text_of(step)
    if text is not None:
        return text
    return None if step == "[None]" else int(step[1:-1])


def pruned(tree: dict[str, Any]) -> Any:
    """Without groups that are empty, which are nothing by themselves."""
    kept = {name: each for name, each in tree.items() if each and name != "sessions"}
    if not kept.get("context", {}).get("variables", True):
        del kept["context"]["variables"]
    return {name: each for name, each in kept.items() if each}


# --- the properties ---


def played(make: Callable[[], Store], actions: list[tuple[str, Any, Any]]) -> Waypost:
    wp = Waypost(Definitions(make(), make_config(), verbose=False))
    wp.create_workflow("w", "W", steps=["one", "two.2"]).unwrap()
    for action in actions:
        act(wp, *action)
    return wp


SETTINGS = settings(max_examples=60, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
TOLD = ("workflow.name", "workflow.paused", "steps", "agents", "outputs", "context.variables")


def is_told(path: str) -> bool:
    return path.startswith(TOLD)


def check_diffs(wp: Waypost, pairs: list[tuple[int, int]]) -> None:
    store = wp.definitions.store
    for a, b in pairs:
        before, after = whole(store, a), whole(store, b)
        there, back = list(wp.diff(f"w@{a}", f"w@{b}")), list(wp.diff(f"w@{b}", f"w@{a}"))
        assert list(wp.diff(f"w@{a}", f"w@{a}")) == []
        opposite = {"added": "removed", "removed": "added", "changed": "changed"}
        assert {(each.path, each.kind, canon(each.before), canon(each.after)) for each in there} == {
            (each.path, opposite[each.kind], canon(each.after), canon(each.before)) for each in back
        }
        if before and after:  # a workflow that is not there differs as a whole
            told = [each for each in there if is_told(each.path)]
            assert canon(pruned(apply(before, told))) == canon(pruned(after))


def check_blames(wp: Waypost, chosen: Callable[[list[Any]], list[Any]]) -> None:
    store = wp.definitions.store
    newest = store.view(WF).version
    trees = [whole(store, version) for version in range(newest + 1)]
    known: Mapping[tuple[Any, ...], Any] = every_path(trees[-1])
    for keys in chosen([keys for keys in known if len(keys) > 1 and keys != ("workflow",)]):
        values = [at(tree, keys) for tree in trees]
        told = [canon(value) for value in values]
        set_at = next(version for version in range(newest, 0, -1) if told[version] != told[version - 1])
        before = values[set_at - 1]
        since = next((version for version in range(set_at - 1, 0, -1) if told[version] != told[version - 1]), None)
        found = wp.blame("w", spelled(keys))
        assert (found.path, found.commit.version, found.or_before) == (spelled(keys), set_at, False)
        assert canon(found.value) == told[-1]
        assert canon(found.before) == canon(UNSET if before is MISSING else before)
        assert found.before_since == (None if before is MISSING else since)


@SETTINGS
@given(actions=st.lists(ACTION, max_size=14), data=st.data(), on_disk=st.booleans())
def test_t10_diff_and_blame_agree_with_whole_states(tmp_path_factory, actions, data, on_disk) -> None:
    """After any changes, what a diff names leads from one version's state to the other's and back, and blame names the
    version at which a value, compared in every version there was, last became another.
    """

    def make() -> Store:
        return directory_store(tmp_path_factory.mktemp("model") / "store") if on_disk else MemoryStore()

    with played(make, actions) as wp:
        newest = wp.definitions.store.view(WF).version
        versions = st.integers(1, newest)
        check_diffs(wp, [(data.draw(versions), data.draw(versions)) for _ in range(3)])
        check_blames(wp, lambda all_of: [data.draw(st.sampled_from(all_of)) for _ in range(min(6, len(all_of)))])


@SETTINGS
@given(
    keys=st.lists(st.text(max_size=6) | st.integers() | st.none() | st.booleans() | st.floats(), min_size=1, max_size=5)
)
def test_paths_are_read_as_they_are_written(keys: list[Any]) -> None:
    """Any keys that have a notation come back from the path made of them, each to its own step."""
    steps = [paths.key_step(key) for key in keys]
    assume = [step for step in steps if step is not None]
    assert paths.parse(paths.written(assume)) == assume
    assert len(set(assume)) == len({canon(key) for key in keys if paths.key_step(key) is not None})
    nested: Any = "here"
    for key in reversed(keys):
        nested = {key: nested}
    if len(assume) == len(keys):
        place = nested
        for step in assume:
            (place,) = paths.child(place, step) or (MISSING,)
        assert place == "here"


@SETTINGS
@given(text=st.text(max_size=30) | st.text(alphabet='.[]"\\a0', max_size=12))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    """Whatever is given for a path is read, or refused with InvalidInput; what was read means the same when written."""
    from waypost.errors import InvalidInput

    try:
        steps = paths.parse(text)
    except InvalidInput:
        return
    assert paths.parse(paths.written(steps)) == steps
