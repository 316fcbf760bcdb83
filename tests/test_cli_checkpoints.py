"""The commands that keep workflows and go back to what is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import ON_REQUEST, make_config
from tests.test_cli import NASTY, Shown, call, call_json, here, wp
from waypost import blocking
from waypost.blocking import Waypost

__all__ = ["call", "call_json", "here", "wp"]  # fixtures

Call = Callable[..., Shown]
CallJson = Callable[..., Any]


@pytest.fixture
def made(wp: Waypost) -> Waypost:
    wp.create_workflow("survey", "Survey", steps=["fetch", "parse"]).unwrap()
    wp.update_step_status("survey", "fetch", "completed", {"rows": 3}).unwrap()
    return wp


def test_a_workflow_is_kept_and_listed(made: Waypost, call: Call, call_json: CallJson) -> None:
    """By the beginning of its id, with a description and tags; what is listed is what was made."""
    shown = call("checkpoint", "sur", "-m", "before parsing", "--tag", "stable", "--tag", "x")
    kept = made.list_checkpoints("survey")[0]
    assert shown.status == 0 and kept.id in shown.out
    assert (kept.description, kept.tags) == ("before parsing", ("stable", "x"))
    second = call_json("checkpoint", "survey")
    assert second["parent_id"] == kept.id and second["workflow_id"] == "survey"
    listed = call("checkpoint", "--list")
    assert [line.split()[0] for line in listed.out.splitlines()[1:3]] == [second["checkpoint_id"], kept.id]
    assert call_json("checkpoint", "survey", "--list", "--tag", "stable")["total"] == 1
    more = made.list_checkpoints("survey").total - 1
    assert f"… and {more} more" in call("checkpoint", "--list", "--limit", "1").out
    with blocking.open(".claude/state", config=make_config({"checkpoints": ON_REQUEST})) as quiet:
        quiet.create_workflow("other", "Other").unwrap()
    assert call("checkpoint", "other", "--list").out.strip() == "no checkpoints"


def test_a_fork_is_another_workflow(made: Waypost, call: Call, call_json: CallJson) -> None:
    """It has what was kept, by as much of the checkpoint's id as tells it from others."""
    kept = made.create_checkpoint("survey").unwrap()
    assert "survey2" in call("fork", kept.id[:-2], "survey2").out
    assert made.load_workflow_state("survey2").unwrap().step("fetch").output == {"rows": 3}
    assert call_json("fork", kept.id, "survey3")["checkpoint_id"] == kept.id
    assert call("fork", kept.id, "survey2").status == 4


def test_going_back_shows_what_changes_and_asks(made: Waypost, call: Call, call_json: CallJson) -> None:
    """Without a terminal it wants --yes; the differences are those of `waypost diff`."""
    kept = made.create_checkpoint("survey").unwrap()
    made.update_context("survey", variables={"rows": 4}).unwrap()
    refused = call("restore", kept.id)
    assert refused.status == 2 and "1 difference" in refused.err and "--yes" in refused.err
    assert "rows" in made.load_workflow_state("survey").unwrap().context.variables
    assert "- context.variables.rows" in call("diff", "survey", kept.id[:-3]).out
    shown = call("restore", kept.id[:-3], "--yes")
    assert shown.status == 0 and kept.id in shown.out
    assert "rows" not in made.load_workflow_state("survey").unwrap().context.variables
    made.update_context("survey", variables={"rows": 5}).unwrap()
    found = call_json("restore", kept.id, "--yes")
    assert [each["path"] for each in found["changes"]] == ["context.variables.rows"] and found["id"] == "survey"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("checkpoint",), 2),
        (("checkpoint", "nobody"), 3),
        (("checkpoint", "nobody", "--list"), 3),
        (("fork", "survey@c", "other"), 2),
        (("fork", "nobody@c1", "other"), 3),
        (("fork", "nonsense", "other"), 3),
        (("restore", "survey@c", "--yes"), 2),
        (("restore", "nonsense", "--yes"), 3),
        (("diff", "survey", "survey@c0"), 3),
    ],
)
def test_what_cannot_be_done_is_told(made: Waypost, call: Call, arguments: tuple[str, ...], status: int) -> None:
    """Nothing to keep, nothing of that name, a beginning of several ids."""
    for _ in range(2):
        made.create_checkpoint("survey").unwrap()
    shown = call(*arguments)
    assert shown.status == status and shown.err.startswith("error: ") and not shown.out


def test_where_there_is_no_store_none_is_made(here: Any, call: Call) -> None:
    """A command that keeps something needs something to keep."""
    assert call("checkpoint", "w").status == 3
    assert call("fork", "w@c1", "v").status == 3
    assert not list(here.iterdir())


def test_what_was_given_is_shown_harmlessly(made: Waypost, call: Call) -> None:
    """A description cannot act on the terminal."""
    made.create_checkpoint("survey", NASTY).unwrap()
    shown = call("checkpoint", "--list")
    assert "\x1b" not in shown.out and "\u202e" not in shown.out


def test_checkpoints_of_a_lost_workflow_are_listed(made: Waypost, call: Call, here: Any) -> None:
    """Its log is gone, and what is kept of it is found."""
    kept = made.create_checkpoint("survey", "all that is left").unwrap()
    made.close()
    (here / ".claude/state/workflows/survey.state").unlink()
    assert kept.id in call("checkpoint", "survey", "--list").out
    assert call("restore", kept.id, "--yes").status == 0 and call("show", "survey").status == 0
    assert call("fork", kept.id, "again").status == 0
