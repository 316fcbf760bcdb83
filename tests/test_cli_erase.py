"""`waypost erase`, and how the other commands show what was erased."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.files import files_with
from tests.test_cli import Shown, call, call_json, here, wp
from waypost.blocking import Waypost

__all__ = ["call", "call_json", "here", "wp"]  # fixtures

Call = Callable[..., Shown]
CallJson = Callable[..., Any]
CANARY = "canary-77c1"


@pytest.fixture
def made(wp: Waypost) -> Waypost:
    wp.create_workflow("survey", "Survey", "s1", ["fetch", "parse"]).unwrap()
    wp.update_step_status("survey", "fetch", "completed", {"login": CANARY}).unwrap()
    wp.update_context("survey", variables={"password": CANARY, "n": 1}).unwrap()
    return wp


def test_it_says_what_will_go_and_asks(made: Waypost, call: Call, call_json: CallJson) -> None:
    """Without a terminal it wants --yes; then nothing has changed."""
    refused = call("erase", "sur", "context.variables.password")
    assert refused.status == 2 and "--yes" in refused.err and not refused.out
    assert "from 1 commit and" in refused.err and "backups of its log in the store would be removed" in refused.err
    assert call("erase", "survey", "context.variables.password", "--json").status == 2
    assert made.load_workflow_state("survey").unwrap().context.variables["password"] == CANARY


def test_it_erases_and_says_from_where(made: Waypost, call: Call, call_json: CallJson, here: Path) -> None:
    """The workflow by the beginning of its id; as a sentence, and as JSON."""
    kept = made.list_checkpoints("survey").total
    shown = call("erase", "sur", "context.variables.password", "--yes")
    assert shown.status == 0 and "context.variables.password  is erased from 1 commit" in shown.out
    (here / ".claude/state/backups").mkdir(exist_ok=True)
    (here / ".claude/state/backups/survey.state.0").write_bytes(b"x")
    found = call_json("erase", "survey", "outputs.fetch", "--yes")
    assert (found["path"], found["workflow_id"], found["session_id"]) == ("outputs.fetch", "survey", None)
    assert [each["operation"] for each in found["commits"]] == ["update_step_status"]
    assert found["removed_files"] == ["backups/survey.state.0"] and len(found["checkpoints"]) <= kept
    assert files_with(here / ".claude/state", CANARY) == []


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("erase",), 2),
        (("erase", "survey"), 2),
        (("erase", "survey", "steps.fetch", "--yes"), 2),
        (("erase", "survey", "outputs.fetch.login", "--yes"), 2),
        (("erase", "survey", "outputs.nothing", "--yes"), 3),
        (("erase", "survey", "outputs.nothing"), 3),
        (("erase", "nobody", "outputs.fetch", "--yes"), 3),
    ],
)
def test_what_cannot_be_erased_is_told(made: Waypost, call: Call, arguments: tuple[str, ...], status: int) -> None:
    """With the status that stands for it, and nothing on standard output."""
    shown = call(*arguments)
    assert (shown.status, shown.out) == (status, "") and shown.err


def test_where_there_is_no_store_none_is_made(here: Path, call: Call) -> None:
    """There is nothing to erase from."""
    assert call("erase", "w", "outputs.a", "--yes").status == 3
    assert not list(here.iterdir())


def test_other_commands_say_that_it_was_erased(made: Waypost, call: Call, call_json: CallJson) -> None:
    """show, log, diff and blame have a word in its place, and JSON an object."""
    made.erase("survey", "outputs.fetch", session_id="s9").unwrap()
    made.erase("survey", "context.variables.password").unwrap()
    assert call_json("show", "survey")["steps"][0]["output"] == {"erased": True, "version": 1}
    assert "which was erased" in call("show", "survey", "--step", "fetch").out
    assert "erased" in call("show", "survey", "--outputs").out
    assert call_json("log", "survey")["commits"][1]["operation"] == "erase"
    blame = call_json("blame", "survey", "context.variables.password")
    assert (blame["value"]["erased"], blame["commit"]["operation"]) == (True, "erase")
    assert blame["before"]["size_bytes"] == len(CANARY) + 1
    assert "erased" in call("blame", "survey", "context.variables.password").out
    changes = {each["path"]: each for each in call_json("diff", "survey@1", "survey@3")["changes"]}
    assert changes["context.variables.password"]["after"]["erased"]
    assert "erased, of 12 B" in call("diff", "survey@1", "survey@3").out
    assert call("verify").status == 0
