"""Redaction: what stands at a path that a pattern matches is never written, whichever way it comes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import opened
from waypost import patterns, records, register_type, unregister_type
from waypost.blocking import Waypost
from waypost.codec import values
from waypost.errors import InvalidConfiguration, InvalidInput
from waypost.models import AgentState, StepOutput, Workflow, WorkflowContext, WorkflowState, WorkflowStep
from waypost.redaction import REDACTED, Redaction
from waypost.store import DocumentId

LOGIN = {"user": "u", "password": "canary", "rows": [{"email": "canary"}, {"email": None, "n": 1}], "n": 3}


def stored(given: Any, *patterns: str, root: tuple[str, ...] = ("outputs", "login")) -> Any:
    return values.decode(Redaction(patterns).encode(given, *root))


# --- patterns ---


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("outputs.*.password", {**LOGIN, "password": REDACTED}),
        ("outputs.login.pass*", {**LOGIN, "password": REDACTED}),
        ("outputs.log??.password", {**LOGIN, "password": REDACTED}),
        ('outputs["login"].password', {**LOGIN, "password": REDACTED}),
        ('outputs.*["pass[vw]ord"]', {**LOGIN, "password": REDACTED}),
        ("outputs.*.PASSWORD", LOGIN),
        ("outputs.logout.password", LOGIN),
        ("outputs.log.password", LOGIN),
        ("outputs.*.word", LOGIN),
        ("outputs.*.password.more", LOGIN),
        ("context.variables.login.password", LOGIN),
        ("outputs.*.rows", {**LOGIN, "rows": REDACTED}),
        ("outputs.*.rows.*.email", {**LOGIN, "rows": [{"email": REDACTED}, {"email": REDACTED, "n": 1}]}),
        ("outputs.*.rows[0].email", {**LOGIN, "rows": [{"email": REDACTED}, LOGIN["rows"][1]]}),  # type: ignore[index]
        ("outputs.*.rows.1", {**LOGIN, "rows": [LOGIN["rows"][0], REDACTED]}),  # type: ignore[index]
        ("outputs.*.*", dict.fromkeys(LOGIN, REDACTED)),
        ("outputs.*", REDACTED),
        ("outputs.log*", REDACTED),
    ],
)
def test_x22_a_pattern_redacts_what_it_matches_and_nothing_else(pattern: str, expected: Any) -> None:
    """An element is compared whole; the value there becomes a text, whatever it was."""
    assert stored(LOGIN, pattern) == expected
    assert LOGIN["password"] == "canary"


def test_the_rest_of_a_redacted_value_keeps_its_types() -> None:
    """Tuples, sets, keys that are no text, and the order of a dictionary."""
    given = {"z": (1, {"password": "canary"}), 7: {"password": "canary"}, (1, 2): "canary", "s": {1, 2}, "a": b"x"}
    found = stored(given, "outputs.*.*.password", "outputs.*.z.*.password")
    assert found == {
        "z": (1, {"password": REDACTED}),
        7: {"password": REDACTED},
        (1, 2): "canary",
        "s": {1, 2},
        "a": b"x",
    }
    assert list(found) == list(given)
    assert stored(given, "outputs.*.*")[(1, 2)] == REDACTED


def test_several_patterns_redact_each_its_own() -> None:
    """What one matches and what another matches."""
    found = stored(LOGIN, "outputs.*.password", "outputs.login.rows.*.email", "outputs.other.n")
    assert "canary" not in str(found) and found["n"] == 3


class Account:
    def __init__(self, password: str) -> None:
        self.password = password


def test_x22_fields_of_a_registered_type_are_looked_into(wp: Waypost) -> None:
    """As its `encode` gives them; `decode` gets what is left."""
    register_type("test.account", Account, lambda one: {"password": one.password}, lambda one: Account(**one))
    try:
        found = stored({"main": Account("canary")}, "outputs.*.main.password")
        assert isinstance(found["main"], Account) and found["main"].password == REDACTED
    finally:
        unregister_type("test.account")


def test_a_value_that_no_pattern_leads_into_is_encoded_once() -> None:
    """And keeps the bytes that it has without patterns; so does one in which nothing is found."""
    for pattern in ("context.variables.x.y", "outputs.login.other"):
        assert Redaction([pattern]).encode(LOGIN, "outputs", "login") == values.encode(LOGIN)


@pytest.mark.parametrize("text", ["secrets.x", "outputs.*.pass[vw]ord", "outputs.*.passwor[d]", "outputs.a[!b]"])
def test_a_pattern_that_is_none_is_refused(text: str) -> None:
    """Also where it does not come by way of the options; nor is one taken for another that would redact nothing."""
    with pytest.raises(InvalidConfiguration):
        Redaction([text])


@pytest.mark.parametrize("key", [7, -7, None, True, 1.5, 1e20, 1e-7, float("inf"), float("-inf"), float("nan")])
def test_a_key_that_is_no_text_stands_in_brackets(key: object) -> None:
    """As paths write it."""
    assert stored({"a": {key: "canary", "b": 1}}, f"outputs.*.a[{key!r}]")["a"]["b"] == 1
    assert "canary" not in repr(stored({"a": {key: "canary"}}, f"outputs.*.a[{key!r}]"))


# --- operations ---

PATTERNS = [
    "outputs.*.password",
    "outputs.whole",
    "context.variables.*_token",
    "context.configuration.db.password",
    "context.features.*.password",
    "agents.*.current_task",
    "agents.*.task_queue.*",
    "steps.*.error",
    "result.*",
    "environment.*_token",
    "preferences.mail.password",
]


@pytest.fixture
def careful(wp_with: Callable[..., Waypost]) -> Waypost:
    """A store with patterns, and a workflow `w` with steps `a`, `b` and `whole`."""
    wp = wp_with(security={"redact": PATTERNS})
    wp.create_workflow("w", "W", steps=["a", WorkflowStep("b", max_retries=1), "whole"]).unwrap()
    return wp


def everything(wp: Waypost) -> bytes:
    """All that the store has of the workflow, in every version that it keeps."""
    store = wp.definitions.store
    found = b""
    for commit in store.past(DocumentId("workflow", "w")).commits():
        found += b"".join(commit.read(key) for key in commit.puts)
    operations = [store.view(DocumentId("workflow", "w")).operation(f"op{n}") for n in range(3)]
    return found + repr([each and each.projection for each in operations]).encode()


def test_x22_values_are_redacted_whichever_way_they_come(careful: Waypost) -> None:
    """What `security.redact` names is in no status with an output, added output, context, agent, error, whole state or
    result of a transaction.
    """
    secret = {"password": "canary", "n": 1}
    assert careful.update_step_status("w", "a", "completed", secret).unwrap().output == {"password": REDACTED, "n": 1}
    careful.add_step_output("w", "a", secret).unwrap()
    careful.add_step_output("w", "whole", ["canary"]).unwrap()
    careful.update_step_status("w", "b", "failed", error=ValueError("canary")).unwrap()
    careful.update_context(
        "w",
        variables={"api_token": "canary", "x": 1},
        configuration={"db": secret},
        features={"f": {"password": "canary"}},
    ).unwrap()
    careful.update_agent_state("w", "one", {"current_task": "canary", "task_queue": ["canary", "canary"]}).unwrap()
    careful.update_agent_state("w", "two", AgentState("two", current_task="canary")).unwrap()
    careful.transact(lambda tx: {"token": "canary"}, operation_id="op0").unwrap()
    careful.transact(lambda tx: tx.add_step_output("w", "a", secret) and {"t": "canary"}, operation_id="op1").unwrap()
    state = careful.load_workflow_state("w").unwrap()
    state.outputs["b"] = StepOutput.of("b", secret)
    state.step("b").error = "another canary"
    state.agents["three"] = AgentState("three", task_queue=["canary"])
    state.context.variables["other_token"] = {"deep": "canary"}
    careful.save_workflow_state(state).unwrap()
    assert b"canary" not in everything(careful)
    found = careful.load_workflow_state("w").unwrap()
    assert found.step("b").error == REDACTED
    assert dict(found.context.variables) == {"api_token": REDACTED, "other_token": REDACTED, "x": 1}
    assert found.context.configuration["db"] == {"password": REDACTED, "n": 1}
    assert found.agents["one"].current_task == REDACTED and found.agents["one"].task_queue == [REDACTED, REDACTED]
    assert found.agents["two"].current_task == found.agents["three"].task_queue[0] == REDACTED
    assert (found.outputs["b"].output, found.outputs["whole"].output) == ({"password": REDACTED, "n": 1}, REDACTED)


def test_x22_a_state_made_by_hand_and_a_new_workflow_are_redacted(careful: Waypost) -> None:
    """The context that a workflow is made with, and all of a state that was never in a store."""
    context = WorkflowContext(variables={"a_token": "canary"})
    careful.create_workflow("v", "V", context=context).unwrap()
    assert careful.load_workflow_state("v").unwrap().context.variables["a_token"] == REDACTED
    step = WorkflowStep("a", status="failed", error="canary")
    step.output = {"password": "canary"}
    careful.save_workflow_state(WorkflowState(workflow=Workflow("u", steps=[step]), context=context)).unwrap()
    found = careful.load_workflow_state("u").unwrap()
    assert (found.step("a").error, found.step("a").output) == (REDACTED, {"password": REDACTED})
    assert context.variables == {"a_token": "canary"} and step.error == "canary"


def test_a_file_is_not_looked_into_and_is_redacted_whole(careful: Waypost) -> None:
    """As docs/secrets.md says: only a pattern for the whole output counts, and then the file is not even read."""
    careful.add_step_output("w", "a", io.BytesIO(b'{"password": "canary"}')).unwrap()
    assert careful.get_step_output("w", "a").output == b'{"password": "canary"}'
    file = io.BytesIO(b"canary" * 100_000)
    careful.add_step_output("w", "whole", file).unwrap()
    assert careful.get_step_output("w", "whole").output == REDACTED and file.tell() == 0
    with pytest.raises(InvalidInput):
        careful.open_step_output("w", "whole")


def test_the_same_output_said_again_is_the_same_redacted(careful: Waypost) -> None:
    """Outputs are compared as they are stored."""
    careful.update_step_status("w", "a", "completed", {"password": "canary"}).unwrap()
    version = careful.load_workflow_state("w").unwrap().metadata.version
    careful.update_step_status("w", "a", "completed", {"password": "another"}).unwrap()
    state = careful.load_workflow_state("w").unwrap()
    state.step("a").output["password"] = "third"
    careful.save_workflow_state(state).unwrap()
    assert careful.load_workflow_state("w").unwrap().metadata.version == version


def test_x22_the_files_of_a_store_hold_nothing_that_is_redacted(tmp_path: Path) -> None:
    """Not in a log either, nor in the text of a workflow as it was."""
    with opened(tmp_path / "s", security={"redact": PATTERNS[:2]}, compression={"enabled": False}) as wp:
        wp.create_workflow("w", "W", steps=["a"]).unwrap()
        wp.update_step_status("w", "a", "completed", {"password": "canary", "n": "shown"}).unwrap()
    files = b"".join(each.read_bytes() for each in (tmp_path / "s").rglob("*") if each.is_file())
    assert b"shown" in files and b"canary" not in files
    assert records.OUTPUT.encode() in files


def test_x22_what_a_session_keeps_is_redacted(careful: Waypost) -> None:
    """Its environment and preferences, as they are given and as they are merged."""
    session = careful.start_session(session_id="s", environment={"a_token": "canary", "x": 1})
    careful.update_session(
        "s", environment={"b_token": "canary"}, preferences={"mail": {"password": "canary"}}
    ).unwrap()
    found = careful.get_session("s")
    assert session.environment == {"a_token": REDACTED, "x": 1}
    assert found.environment == {"a_token": REDACTED, "b_token": REDACTED, "x": 1}
    assert found.preferences == {"mail": {"password": REDACTED}}


@settings(deadline=None, print_blob=True)
@given(
    st.text(max_size=30)
    | st.lists(st.sampled_from(["outputs", "context", ".", "*", "[", "]", '"', "a", "3", "?", "variables"])).map(
        "".join
    )
)
def test_t09_any_text_is_a_pattern_or_refused(text: str) -> None:
    """A pattern redacts something or nothing, and never fails afterwards."""
    if patterns.parse(text) is None:
        with pytest.raises(InvalidConfiguration):
            Redaction([text])
    else:
        Redaction([text]).encode({"a": [{"b": 1}, (2,)], 3: {4}}, "outputs", "a")
