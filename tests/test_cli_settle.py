"""`waypost store settle`: what it finishes, what it says, and what it ends with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.test_cli import Shown, call, call_json, here, wp
from tests.test_two_stores import amount, dying, move
from waypost.blocking import Waypost

__all__ = ["call", "call_json", "here", "wp"]  # fixtures

Call = Callable[..., Shown]


class Left:
    """Two stores in `a` and `b`, and a transaction over them that was left open."""

    def __init__(self, here: Path) -> None:
        with waypost.open(here / "a") as first, waypost.open(here / "b") as second:
            self.here, self.there = first, second
            for handle, name in ((first, "from"), (second, "to")):
                context = waypost.WorkflowContext(variables={"amount": 0})
                handle.create_workflow(name, name, context=context).unwrap()
            with pytest.MonkeyPatch.context() as patch:
                dying(self, patch, before="carry out")  # type: ignore[arg-type]

    def move(self, **options: Any) -> Any:
        return self.here.transact(move, also=self.there, **options)


@pytest.fixture
def left(here: Path) -> Path:
    Left(here)
    return here


def test_what_is_open_is_finished_and_told(left: Path, call: Call) -> None:
    shown = call("store", "settle", "--state", "b")
    assert (shown.status, shown.out.strip(), shown.err) == (0, "workflow to: committed", "")
    assert call("store", "settle", "--state", "b").out.strip() == "nothing is open"
    with waypost.open(left / "b") as there:
        assert amount(there, "to") == 1


def test_a_store_that_has_moved_is_named(left: Path, call: Call, call_json: Callable[..., Any]) -> None:
    (left / "a").rename(left / "moved")
    shown = call("store", "settle", "--state", "b")
    assert (shown.status, f"{left / 'a'}" in shown.out.replace("\n", "")) == (1, True)
    told = call_json("store", "settle", "--state", "b", "--also", "moved")
    assert told == {"settled": [{"kind": "workflow", "id": "to", "outcome": "committed", "error": ""}]}


def test_there_is_nothing_to_settle_where_no_store_is(call: Call, wp: Waypost) -> None:
    assert call("store", "settle").out.strip() == "nothing is open"
    assert call("store", "settle", "--state", "nowhere").status != 0
