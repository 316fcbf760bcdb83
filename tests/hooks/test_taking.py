"""Events of the spool in Waypost's own dialect: what they say is done once, and what says nothing is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.hooks.support import NOW_MS, nested, state, tags
from waypost import clock
from waypost.blocking import Waypost
from waypost.errors import InvalidInput, StoreClosed, WaypostError
from waypost.hooks.entries import Entry
from waypost.hooks.taking import read_entry, take


def entry(payload: Any, name: str = "n1") -> Entry:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Entry(name, "waypost", data, {"CLAUDE_PID": "1"}, NOW_MS * 1000)


def taken(wp: Waypost, payload: Any, name: str = "n1") -> None:
    take(wp.definitions, entry(payload, name))


SHAPES: list[dict[str, Any]] = [
    {"event": "step_complete", "payload": {"workflowId": "w", "data": {"stepId": "s", "output": 1}}, "timestamp": 9},
    {"event": "step_complete", "workflow_id": "w", "step_id": "s", "output": 1},
    {"type": "step.completed", "workflow_id": "w", "data": {"step_id": "s", "output": 1}},
    {"hook_event_name": "StepComplete", "workflowId": "w", "stepId": "s", "output": 1},
]


@pytest.mark.parametrize("payload", SHAPES)
def test_trap_33_both_envelopes_of_the_original(wp: Waypost, payload: dict[str, Any]) -> None:
    """An event may be what the prototype writes down, or what the template's hooks do."""
    taken(wp, payload)
    assert (state(wp).step("s").status, state(wp).step("s").output) == ("completed", 1)


def test_what_tells_no_time_happened_when_it_came(wp: Waypost) -> None:
    """The time of an event is that of its arrival in the spool, not of its folding."""
    taken(wp, {"event": "step_start", "workflow_id": "w", "step_id": "s"})
    assert state(wp).step("s").start_time == clock.to_datetime(NOW_MS * 1000)


def test_d12_an_event_that_is_taken_again_acts_once(wp: Waypost) -> None:
    """Its id, or else its file's name, is the operation id."""
    wp.create_workflow("w", "W").unwrap()
    for name, payload, made in (
        ("n1", {"event": "checkpoint_request", **nested()}, 1),
        ("n1", {"event": "checkpoint_request", **nested()}, 1),
        ("n2", {"event": "checkpoint_request", **nested()}, 2),
        ("n3", {"event": "checkpoint_request", "id": "e", **nested()}, 3),
        ("n4", {"event": "checkpoint_request", "id": "e", **nested()}, 3),
    ):
        taken(wp, payload, name)
        assert len(tags(wp)) == made


def test_what_comes_from_elsewhere_has_no_owner(wp: Waypost) -> None:
    """Who handed it over is not known: neither a step nor a session becomes the folding process's own."""
    taken(wp, {"event": "session_start", "session_id": "S"}, "n1")
    taken(wp, {"event": "step_start", "session_id": "S", "workflow_id": "w", "step_id": "s"}, "n2")
    session = wp.get_session("S")
    assert (session.status, session.owner, session.active_workflows) == ("active", None, ["w"])
    assert (state(wp).step("s").status, state(wp).step("s").owner) == ("running", None)
    taken(wp, {"event": "step_start", "session_id": "S", "workflow_id": "w", "step_id": "s"}, "n3")
    taken(wp, {"event": "session_start", "session_id": "S"}, "n4")
    taken(wp, {"event": "session_end", "session_id": "S"}, "n5")
    taken(wp, {"event": "session_end", "session_id": "S"}, "n5")
    assert (wp.get_session("S").status, tags(wp)) == ("completed", [("session_end", "S")])


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"5",
        b'"step_start"',
        b"[" * 100_000,
        b'{"event": 5, "workflow_id": "w"}',
        b'{"workflow_id": "w"}',
        b'{"event": "step_start", "payload": []}',
        b'{"event": "step_start", "workflow_id": 1e999}',
        b'{"event": "step_start", "timestamp": ' + b"9" * 5000 + b', "workflow_id": "w", "step_id": "s"}',
    ],
)
def test_x06_what_cannot_be_used_is_refused(wp: Waypost, payload: bytes) -> None:
    """Whatever the bytes are, they become an event or an error of ours, and an error changes nothing."""
    with pytest.raises(WaypostError):
        taken(wp, payload)
    assert wp.list_workflows().total == 0


def test_what_is_no_json_is_told(wp: Waypost) -> None:
    """The reason says what is wrong."""
    with pytest.raises(InvalidInput, match="the event is no JSON"):
        read_entry(entry(b"{"))
    with pytest.raises(InvalidInput, match="the event has no name"):
        read_entry(entry(b"{}"))


def test_what_the_store_cannot_take_is_no_refusal(wp: Waypost) -> None:
    """An error of the store is raised as such, so that the event stays in the spool."""
    wp.close()
    with pytest.raises(StoreClosed):
        taken(wp, {"event": "step_start", "workflow_id": "w", "step_id": "s"})
