"""`waypost store sync`: what it says, what it ends with, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.synced import variables
from tests.test_cli import Shown, call, call_json, here, wp
from waypost.blocking import Waypost

__all__ = ["call", "call_json", "here", "wp"]  # fixtures

Call = Callable[..., Shown]
CallJson = Callable[..., Any]


@pytest.fixture
def parted(wp: Waypost, call: Call, here: Path) -> Path:
    """A second store in `other`, with a workflow in which both have changed x."""
    wp.create_workflow("wf", "Wf", steps=["a", "b"]).unwrap()
    assert call("store", "sync", wp.location, "other").status == 0
    with waypost.open(here / "other") as other:
        wp.update_context("wf", variables={"x": 1}).unwrap()
        other.update_context("wf", variables={"x": 2}).unwrap()
    return here / "other"


def test_two_stores_become_the_same(wp: Waypost, call: Call, call_json: CallJson, here: Path) -> None:
    """Each document is told with what became of it; done again there is nothing to do."""
    wp.create_workflow("wf", "Wf", steps=["a"]).unwrap()
    wp.create_workflow("[bold]x", "Nasty", steps=["a"]).unwrap()
    shown = call("store", "sync", wp.location, "other")
    assert (shown.status, shown.err) == (0, "")
    assert "→ wf  workflow, sent: 1 commit, new there" in shown.out
    assert "→ [bold]x" in shown.out
    assert "2 documents synced, 0 the same" in shown.out
    again = call_json("store", "sync", wp.location, "other")
    assert (again["unchanged"], again["looked_at"], again["documents"]) == (2, 2, [])
    with waypost.open(here / "other") as other:
        other.update_context("wf", variables={"x": 1}).unwrap()
    # without B it is the store here and A
    told = call_json("store", "sync", "other")
    assert [(each["id"], each["action"], each["commits"]) for each in told["documents"]] == [("wf", "taken", 1)]
    assert variables(wp) == {"x": 1}
    assert call("verify", "--state", "other").status == 0


def test_a_dry_run_makes_nothing(wp: Waypost, call: Call, here: Path) -> None:
    wp.create_workflow("wf", "Wf", steps=["a"]).unwrap()
    shown = call("store", "sync", wp.location, "other", "--dry-run")
    assert shown.status == 0
    assert "1 document would be synced" in shown.out
    assert not (here / "other").exists()


def test_trap_08_a_conflict_is_told_and_resolved_as_asked(
    wp: Waypost, call: Call, call_json: CallJson, parted: Path
) -> None:
    """It ends with 1 and changes nothing, until a resolution is named."""
    shown = call("store", "sync", wp.location, str(parted))
    assert shown.status == 1
    assert "context.variables.x: changed on both sides; not resolved" in shown.out
    told = call_json("store", "sync", wp.location, str(parted), status=1)
    (conflict,) = told["conflicts"]
    assert (conflict["ours"]["value"], conflict["theirs"]["value"], conflict["resolution"]) == ("1", "2", None)
    assert call("store", "sync", wp.location, str(parted), "--on-conflict", "user_intervention").status == 2
    shown = call("store", "sync", wp.location, str(parted), "--on-conflict", "last_writer_wins")
    assert shown.status == 0
    assert "resolved by last_writer_wins" in shown.out
    assert variables(wp) == {"x": 2}


def test_what_is_no_store_is_refused(wp: Waypost, call: Call, here: Path) -> None:
    """The first store has to be there, and two have to be named; nothing is made by mistake."""
    wp.create_workflow("wf", "Wf", steps=["a"]).unwrap()
    assert call("store", "sync", "nowhere", "other").status == 3
    assert call("store", "sync", wp.location, wp.location).status == 2
    assert call("store", "sync", wp.location, "memory:").status == 2
    assert not (here / "nowhere").exists()
    assert not (here / "other").exists()
