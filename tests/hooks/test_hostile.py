"""Hook events of any content: each is done whole or refused with an error of ours, and the store stays sound."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from waypost import blocking
from waypost.errors import WaypostError
from waypost.hooks.entries import Entry
from waypost.hooks.payloads import EVENTS
from waypost.hooks.taking import take

# a failure prints a blob that repeats it
PROPERTY = settings(deadline=None, print_blob=True, max_examples=150, suppress_health_check=[HealthCheck.too_slow])

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**30), 1e300, float("nan"), float("inf"), "", "w", "s", "\ud800", "a\0b", "x" * 600]),
    st.floats(),
    st.text(max_size=20),
)
TEXTS = st.text(max_size=8)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)
FIELDS = """
    workflowId workflow_id sessionId stepId step_id agentId agent output outputs error tags steps description
    timestamp duration execution_time performance memoryUsage workflowName name data id user_id
"""
NAMES = st.sampled_from(FIELDS.split())
PAYLOADS = st.dictionaries(NAMES | st.text(max_size=5), VALUES, max_size=6)
EVENT_NAMES = st.sampled_from([*EVENTS, "tool.used", "workflow.started", "agent.completed"]) | st.text(max_size=10)


@PROPERTY
@given(st.lists(st.tuples(EVENT_NAMES, PAYLOADS, st.booleans()), min_size=1, max_size=8))
def test_x06_any_event_is_done_or_refused(events: list[tuple[str, dict[str, Any], bool]]) -> None:
    """Whatever a payload holds, in either nesting: a success or a Failure, and every workflow is sound afterwards."""
    with blocking.open("memory:") as wp:
        for event, fields, is_nested in events:
            named = {"workflowId": "w", "sessionId": "S", "stepId": "s", "agentId": "a", **fields}
            payload = {"workflowId": "w", "data": named} if is_nested else named
            result = wp.emit_hook_event(event, payload)
            assert result.success or isinstance(result.error, WaypostError)
        for each in wp.list_workflows().items:
            assert wp.validate_workflow_state(each.id).is_valid


@PROPERTY
@given(st.one_of(st.binary(max_size=50), PAYLOADS.map(lambda payload: json.dumps(payload).encode())), EVENT_NAMES)
def test_x06_any_bytes_of_the_spool_are_taken_or_refused(data: bytes, event: str) -> None:
    """Bytes that are no JSON, or JSON of any content, raise nothing but errors of ours."""
    named = data.replace(b"{", json.dumps({"event": event, "workflow_id": "w", "step_id": "s"}).encode()[:-1] + b",", 1)
    with blocking.open("memory:") as wp:
        for number, payload in enumerate((data, named)):
            try:
                take(wp.definitions, Entry(f"n{number}", "waypost", payload, {}, 1))
            except WaypostError:
                pass
        for each in wp.list_workflows().items:
            assert wp.validate_workflow_state(each.id).is_valid
