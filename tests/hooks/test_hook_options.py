"""Each option of the section `hooks` does what it says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.hooks.support import NOW_MS, emit, nested, notes, state, step, tags
from waypost import clock
from waypost.blocking import Waypost

Opened = Callable[..., Waypost]


def complete(wp: Waypost, *step_ids: object) -> None:
    for step_id in step_ids:
        emit(wp, "step_complete", nested(stepId=f"s{step_id}"))


@pytest.mark.parametrize("frequency", [1, 3])
def test_trap_16_checkpoint_frequency(wp_with: Opened, frequency: int) -> None:
    """`hooks.checkpoint_frequency`: the completion of each that-many-th step is kept, and no other; what was completed
    before it was opened counts.
    """
    wp = wp_with(hooks={"checkpoint_frequency": frequency})
    emit(wp, "workflow_start", nested(steps=[f"s{number}" for number in range(7)]))
    for number in range(7):
        emit(wp, "step_start", nested(stepId=f"s{number}"))
        complete(wp, number)
        assert len(tags(wp)) == (number + 1) // frequency
    kept = wp.list_checkpoints("w", limit=1).items[0]
    assert (kept.type, kept.tags) == ("post_step", ("auto", "step_milestone"))
    completed = sum(each.status == "completed" for each in kept.state.workflow.steps)
    assert completed == 7 // frequency * frequency


def test_updates_are_not_thinned(wp_with: Opened) -> None:
    """What is completed by an update is kept as ever; only events are thinned."""
    wp = wp_with(hooks={"checkpoint_frequency": 5})
    wp.create_workflow("w", "W", steps=["a", "s1"]).unwrap()
    wp.update_step_status("w", "a", "completed").unwrap()
    complete(wp, 1)
    assert tags(wp) == [()]


def test_enable_auto_checkpoints(wp_with: Opened) -> None:
    """`hooks.enable_auto_checkpoints` off: events make the checkpoints that they ask for, and no others."""
    wp = wp_with(hooks={"enable_auto_checkpoints": False, "checkpoint_frequency": 1})
    emit(wp, "session_start", {"sessionId": "S"})
    emit(wp, "step_complete", {"sessionId": "S", **nested(stepId="s")})
    emit(wp, "step_start", {"sessionId": "S", **nested(stepId="t")})
    for event in ("workflow_complete", "workflow_error"):
        emit(wp, event, nested())
    emit(wp, "session_end", {"sessionId": "S"})
    assert tags(wp) == []
    emit(wp, "checkpoint_request", nested(tags=["asked"]))
    assert tags(wp) == [("asked",)]


def test_checkpoints_options_hold_for_events_too(wp_with: Opened) -> None:
    """`checkpoints.post_step` and `pre_step` say whether there are any of those at all."""
    wp = wp_with(hooks={"checkpoint_frequency": 1}, checkpoints={"post_step": False, "pre_step": True})
    emit(wp, "step_start", nested(stepId="s"))
    complete(wp, "")
    assert [each.type for each in wp.list_checkpoints("w").items] == ["pre_step", "manual"]


@pytest.mark.parametrize("enabled", [True, False])
def test_enable_crash_recovery(wp_with: Opened, enabled: bool) -> None:
    """`hooks.enable_crash_recovery`: a step that failed is kept, under a tag of its own."""
    wp = wp_with(hooks={"enable_crash_recovery": enabled})
    emit(wp, "step_error", nested(stepId="s" * 200, error="e"))
    assert tags(wp) == ([("step_error", "recovery", "s" * 128)] if enabled else [])
    if enabled:
        kept = wp.list_checkpoints("w").items[0]
        assert (kept.type, kept.state.step("s" * 200).status) == ("error", "failed")


def test_enable_performance_tracking(wp_with: Opened) -> None:
    """`hooks.enable_performance_tracking`: times, durations and memory are those that events tell; without it times are
    those of the commits, and no use is recorded.
    """
    told = {"performance": {"executionTime": 40, "memoryUsage": 7}}
    for tracking in (True, False):
        wp = wp_with(hooks={"enable_performance_tracking": tracking})
        before = clock.to_datetime(clock.now_us())
        emit(wp, "step_start", nested(stepId="s"))
        emit(wp, "step_complete", {**nested(stepId="s"), "timestamp": NOW_MS + 250})
        emit(wp, "step_complete", nested(stepId="t", duration=125))
        emit(wp, "agent_complete", nested(agentId="a", **told))
        performance, agent = state(wp).performance, state(wp).agents["a"]
        assert agent.performance.tasks_completed == 1
        if tracking:
            assert step(wp).start_time == clock.to_datetime(NOW_MS * 1000)
            assert performance.step_execution_times_ms == {"s": 250, "t": 125}
            assert agent.performance.average_execution_time_ms == 40
        else:
            assert (step(wp).start_time or before) >= before
            assert performance.step_execution_times_ms.keys() == {"s"}
            assert agent.performance.average_execution_time_ms == 0
        assert performance.memory_peak_usage_bytes == (7 if tracking else 0)


def test_times_that_cannot_be_are_mended(wp: Waypost) -> None:
    """A step does not end before it started, and nothing happens later than it is told."""
    ahead = clock.now_us() // 1000 + 3_600_000
    started = emit(wp, "step_start", {**nested(stepId="s"), "timestamp": ahead})
    assert started.start_time <= clock.to_datetime(clock.now_us())
    ended = emit(wp, "step_complete", nested(stepId="s"))
    assert ended.end_time == ended.start_time
    ages = emit(wp, "step_complete", nested(stepId="t", duration=9e14))
    assert ages.start_time == clock.to_datetime(0)
    emit(wp, "tool.used", {**nested(), "timestamp": ahead})
    assert notes(wp)[0]["at"] <= clock.to_datetime(clock.now_us())
