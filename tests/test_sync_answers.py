"""Conflicts that are answered: what is shown of them, what an answer may put, and where none can be given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import opened
from tests.synced import statuses, synced, variables
from waypost import Resolution, StateConflict
from waypost.blocking import Waypost
from waypost.redaction import REDACTED

Make = Callable[..., Waypost]
PATTERNS = [
    "context.variables.*_token",
    "context.variables.login.password",
    "outputs.b",
    "environment.*",
    "steps.*.error",
]


@pytest.fixture
def careful(wp_with: Make) -> Waypost:
    return wp_with(security={"redact": PATTERNS})


@pytest.fixture
def careless(wp_with: Make, careful: Waypost) -> Waypost:
    """A store that redacts nothing, and in which all has changed that has in the other."""
    made = wp_with()
    made.create_workflow("wf", "Wf", steps=["a", "b"]).unwrap()
    made.update_context("wf", variables={"a_token": 0, "login": 0}).unwrap()
    made.start_session(session_id="s", environment={"x": 0})
    made.pause_session("s").unwrap()
    synced(made, careful)
    for wp, value in ((careful, "own"), (made, "canary")):
        wp.update_context("wf", variables={"a_token": value, "login": {"user": value, "password": "canary"}}).unwrap()
        wp.update_step_status("wf", "a", "running").unwrap()
        wp.update_step_status("wf", "a", "failed", output=value, error="canary").unwrap()
        wp.add_step_output("wf", "b", value).unwrap()
        wp.update_session("s", environment={"x": value}).unwrap()
    return made


def test_x22_what_is_told_of_a_conflict_is_redacted(careful: Waypost, careless: Waypost) -> None:
    """A store that redacts shows nothing of what another holds in clear at such a path, nor does it to who answers."""
    asked: list[StateConflict] = []
    report = careful.sync(careless, on_conflict="user_intervention", resolve=asked.append).unwrap()
    assert {each.path for each in report.conflicts} == {
        *("context.variables.a_token", "context.variables.login", "outputs.b", "steps.a", "environment.x")
    }
    assert asked == [*report.conflicts]
    assert "canary" not in str(asked).replace("'user': 'canary'", "")
    found = {each.path: each.theirs.value for each in asked}
    assert found["context.variables.login"] == {"user": "canary", "password": REDACTED}
    assert "canary" in str(careless.sync(careful).unwrap().conflicts)


def test_x22_an_answer_is_redacted(careful: Waypost, careless: Waypost) -> None:
    """A value that stands in place of both sides is given, and never written where a pattern matches."""

    def resolve(conflict: StateConflict) -> Any:
        if conflict.path == "context.variables.login":
            return Resolution({"user": "both", "password": "canary"})
        return Resolution("canary") if conflict.path == "context.variables.a_token" else "ours"

    synced(careful, careless, on_conflict="user_intervention", resolve=resolve)
    for wp in (careful, careless):
        assert variables(wp) == {"a_token": REDACTED, "login": {"user": "both", "password": REDACTED}}


@pytest.mark.parametrize("options", [{"on_conflict": "rollback"}, {"on_conflict": "user_intervention"}])
def test_trap_08_what_never_was_one_cannot_go_back(wp_with: Make, options: Any) -> None:
    """Two workflows that were made apart under one id have nothing in common to go back to: neither is emptied."""
    if options["on_conflict"] == "user_intervention":
        options = {**options, "resolve": lambda _: "base"}
    one, other = wp_with(), wp_with()
    for wp, step in ((one, "a"), (other, "b")):
        wp.create_workflow("wf", "Wf", steps=[step]).unwrap()
    assert len(one.sync(other, **options).unwrap().unresolved) == 1
    assert statuses(one) == {"a": "pending"}
    synced(one, other, on_conflict="last_writer_wins")
    assert statuses(one) == statuses(other)


@pytest.mark.parametrize(("how", "found"), [("last_writer_wins", {"new": "pending"}), ("rollback", {"a": "pending"})])
def test_trap_08_made_anew_here_and_changed_there(wp_with: Make, how: Any, found: dict[str, str]) -> None:
    """What was added to a workflow that the other side has deleted does not get into the one that it made since."""
    here, other = wp_with(), wp_with()
    here.create_workflow("wf", "Wf", steps=["a"]).unwrap()
    synced(here, other)
    other.add_steps("wf", ["b"]).unwrap()
    here.delete_workflow("wf").unwrap()
    here.create_workflow("wf", "Wf", steps=["new"]).unwrap()
    (conflict,) = here.sync(other).unwrap().unresolved
    assert (conflict.part, conflict.conflict_type) == ("", "concurrent_write")
    synced(here, other, on_conflict=how)
    assert statuses(here) == statuses(other) == found


def test_x22_one_secret_under_two_keys_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each store has sealed with a key of its own is compared where both keys are there; else it is a conflict,
    which shows neither.
    """
    keys = {"a": "1" * 64, "b": "2" * 64}
    monkeypatch.setenv("WAYPOST_KEY", keys["a"])
    with opened(tmp_path / "a") as a, opened(tmp_path / "b") as b:
        a.create_workflow("wf", "Wf").unwrap()
        synced(a, b)
    for name, key in keys.items():
        monkeypatch.setenv("WAYPOST_KEY", key)
        with opened(tmp_path / name) as wp:
            wp.update_context("wf", secrets={"token": "canary"}).unwrap()
    with opened(tmp_path / "a") as a, opened(tmp_path / "b") as b:
        (conflict,) = a.sync(b).unwrap().unresolved
        assert conflict.path == "context.secrets.token"
        assert "canary" not in str(conflict) + repr(conflict)
    monkeypatch.setenv("WAYPOST_KEY", " ".join(keys.values()))
    with opened(tmp_path / "a") as a, opened(tmp_path / "b") as b:
        assert list(synced(a, b).conflicts) == []
