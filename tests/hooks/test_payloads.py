"""Hook events in every form that there is, read as one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from waypost import clock
from waypost.errors import InvalidId, InvalidInput
from waypost.hooks.payloads import EVENTS, HookEvent, event_name, read_event

MOMENT_US = 1_790_000_000_123_000


@pytest.mark.parametrize(
    ("given", "read"),
    [
        *((name, name) for name in EVENTS),
        ("workflow.started", "workflow_start"),
        ("workflow.completed", "workflow_complete"),
        ("workflow.failed", "workflow_error"),
        ("agent.started", "agent_start"),
        ("agent.completed", "agent_complete"),
        ("agent.failed", "agent_error"),
        ("session.started", "session_start"),
        ("session.ended", "session_end"),
        ("stepComplete", "step_complete"),
        ("StepStarted", "step_start"),
        ("step-error", "step_error"),
        ("checkpoint.requested", "checkpoint_request"),
        ("file.modified", "file.modified"),
        ("completed", "completed"),
        ("_error", "_error"),
    ],
)
def test_trap_33_names_of_events(given: str, read: str) -> None:
    """Both sides' names of the twelve are the same events; any other is its own."""
    assert event_name(given) == read


_STEP = {"step_id": "x", "output": {"rowCount": 1}}
FIELDS: list[dict[str, Any]] = [
    {"workflowId": "w", "sessionId": "s", "timestamp": 1, "stepId": "x", "output": {"rowCount": 1}},
    {"workflow_id": "w", "session_id": "s", "timestamp": 1, "step_id": "x", "output": {"rowCount": 1}},
    {"workflowId": "w", "sessionId": "s", "timestamp": 1, "data": {"stepId": "x", "output": {"rowCount": 1}}},
    {"data": {"workflow_id": "w", "session_id": "s", "timestamp": 1, "step_id": "x", "output": {"rowCount": 1}}},
    {"workflow_id": None, "session-id": "s", "timestamp": 1, "data": {"workflowID": "w", **_STEP}},
]


@pytest.mark.parametrize("payload", FIELDS)
def test_trap_33_fields_in_both_nestings_and_namings(payload: dict[str, Any]) -> None:
    """A field is found at the top or in `data`, in either naming; within values no name is changed."""
    assert read_event("step_complete", payload) == HookEvent(
        event="step_complete",
        workflow_id="w",
        session_id="s",
        time_us=1_000_000,
        fields={"step_id": "x", "output": {"rowCount": 1}},
    )


def test_the_top_level_comes_first() -> None:
    """What stands at the top holds, but for what is left empty there; an output of None is one."""
    read = read_event("step_complete", {"stepId": "top", "output": None, "data": {"step_id": "data", "agent_id": "a"}})
    assert read.fields == {"step_id": "top", "output": None, "agent_id": "a"}
    assert read_event("x", {"agentId": None, "data": {"agentId": "a"}}).fields == {"agent_id": "a"}


def test_data_that_is_no_dictionary_is_a_field() -> None:
    """`data` may be anything, and is kept as what it is."""
    assert read_event("x", {"data": [1, 2]}).fields == {"data": [1, 2]}


def test_the_id_of_an_event_is_not_that_of_its_subject() -> None:
    """An `id` at the top names the event; one in `data` is about something else."""
    assert read_event("x", {"id": "e", "data": {"id": "other"}}).id == "e"
    assert read_event("x", {"data": {"id": "other"}}).id is None
    assert read_event("x", {"data": {"eventId": "e"}}).id == "e"


@pytest.mark.parametrize(
    "given",
    [
        1_790_000_000_123,
        1_790_000_000.123,
        "2026-09-21T14:13:20.123Z",
        "2026-09-21T16:13:20.123+02:00",
        clock.to_datetime(MOMENT_US),
        clock.to_datetime(MOMENT_US).astimezone().replace(tzinfo=None).isoformat(),
    ],
)
def test_times_in_three_forms(given: Any) -> None:
    """Milliseconds, seconds, and ISO text are the same moment; text without a zone is local time."""
    assert clock.to_datetime(MOMENT_US).isoformat().startswith("2026-09-21T14:13:20.123")
    assert read_event("x", {"timestamp": given}).time_us == MOMENT_US


@pytest.mark.parametrize(
    "given",
    [
        "yesterday",
        "",
        True,
        -1,
        0,
        float("nan"),
        float("inf"),
        10**400,
        1e300,
        [],
        "9999-12-31T23:59:59",
        datetime.min.replace(tzinfo=UTC),
    ],
)
def test_x06_what_is_no_time_is_refused(given: Any) -> None:
    """A timestamp that is none is an error that says what one is, whatever was given."""
    with pytest.raises(InvalidInput, match="a timestamp is milliseconds, seconds, or ISO text"):
        read_event("x", {"timestamp": given})


def test_durations_are_milliseconds_here_and_seconds_there() -> None:
    """What the state's side tells is in ms; events with dotted names come from a side that counts in seconds."""

    def duration(event: str, **payload: Any) -> Any:
        return read_event(event, payload).fields.get("duration_ms")

    assert duration("step_complete", duration=250) == 250
    assert duration("agent_complete", data={"performance": {"executionTime": 250, "memoryUsage": 5}}) == 250
    assert duration("agent.completed", data={"execution_time": 0.25}) == 250
    assert duration("agent.completed", data={"execution_time_ms": 250}) == 250
    for bad in ("long", True, -1, None, float("nan"), 10**400):
        assert duration("step_complete", duration=bad, durationMs=bad) is None
    read = read_event("agent_complete", {"data": {"performance": {"memoryUsage": 5.0}}})
    assert read.fields["memory_usage_bytes"] == 5


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("x", {"workflowId": 5}),
        ("x", {"workflowId": ""}),
        ("x", {"sessionId": "a\0b"}),
        ("x", {"id": ["e"]}),
        ("", {}),
        (None, {}),
        ("x" * 600, {}),
        ("x\n", {}),
    ],
)
def test_x06_ids_and_names_are_checked(event: Any, payload: dict[str, Any]) -> None:
    """An id or a name that no store could keep is refused before anything is done."""
    with pytest.raises(InvalidId):
        read_event(event, payload)


@pytest.mark.parametrize("payload", [None, [], "x", 5, {5: "x"}, {"data": {None: 1}}])
def test_x06_a_payload_is_a_dictionary_with_names(payload: Any) -> None:
    """Any other payload is refused."""
    with pytest.raises(InvalidInput):
        read_event("x", payload)
