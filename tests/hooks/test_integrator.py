"""The hook integrator: events emitted, counted and told to listeners, of whom none does harm."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

import waypost
from tests.hooks.support import nested
from waypost import integrator
from waypost.api import AsyncWaypost
from waypost.errors import InvalidConfiguration, InvalidInput, Refused, StoreClosed
from waypost.hooks.listeners import DEEPEST, MOST_WAITING
from waypost.hooks.payloads import HookEvent
from waypost.integrator import HookIntegrator, create_state_hook_integrator


@pytest.fixture
def hooks(awp: AsyncWaypost) -> HookIntegrator:
    return create_state_hook_integrator(awp)


async def tags(awp: AsyncWaypost, workflow_id: str = "w") -> list[tuple[str, ...]]:
    found = (await awp.list_checkpoints(workflow_id, limit=1000)).items
    return [each.tags for each in reversed(found) if each.tags != ("initial",)]


# --- emitting ---


async def test_trap_33_twenty_parallel_completions_are_all_kept(awp: AsyncWaypost, hooks: HookIntegrator) -> None:
    """Of events that come at once none is lost and none refused, and each fifth completion is kept."""
    steps = [f"s{number}" for number in range(20)]
    (await hooks.emit_hook_event("workflow_start", nested(steps=steps))).unwrap()
    events = [hooks.emit_hook_event("step_complete", nested(stepId=each, output=each)) for each in steps]
    for result in await asyncio.gather(*events):
        result.unwrap()
    state = (await awp.load_workflow_state("w")).unwrap()
    assert [(each.status, each.output) for each in state.workflow.steps] == [("completed", each) for each in steps]
    assert await tags(awp) == [("auto", "step_milestone")] * 4
    assert hooks.get_statistics().events == {"workflow_start": 1, "step_complete": 20}


async def test_what_is_completed_is_forgotten(
    awp: AsyncWaypost, hooks: HookIntegrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An integrator that is there for months remembers the workflows that are live, also where nobody asks."""
    monkeypatch.setattr(integrator, "MOST_KNOWN", 8)
    hooks = create_state_hook_integrator(awp)
    (await hooks.emit_hook_event("step_start", nested("live", stepId="s"))).unwrap()
    for number in range(40):
        (await hooks.emit_hook_event("step_complete", nested(f"w{number}", stepId="s"))).unwrap()
        await hooks.settle()
        assert len(hooks._workflows) <= 20
    assert hooks.get_statistics().active_workflows == 1


async def test_options_of_its_own(awp: AsyncWaypost) -> None:
    """An integrator may have other options than its store; they are checked as those are."""
    hooks = create_state_hook_integrator(awp, {"checkpoint_frequency": 1})
    (await hooks.emit_hook_event("step_complete", nested(stepId="s"))).unwrap()
    assert await tags(awp) == [("auto", "step_milestone")]
    for bad in ({"checkpoint_frequency": 0}, {"checkpointFrequency": 5}, {"enable_auto_checkpoints": "yes"}):
        with pytest.raises(InvalidConfiguration):
            create_state_hook_integrator(awp, bad)


async def test_a_cancelled_emitter_leaves_its_event_behind(awp: AsyncWaypost, hooks: HookIntegrator) -> None:
    """Cancelling whoever waits for an event does not undo it, nor keep listeners from it."""
    told: list[str] = []

    async def listen(event: HookEvent) -> None:
        told.append(event.event)

    hooks.register_hook_listener("step_complete", listen)
    emitting = asyncio.ensure_future(hooks.emit_hook_event("step_complete", nested(stepId="s")))
    await asyncio.sleep(0)
    emitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await emitting
    await hooks.shutdown()
    assert (await awp.load_workflow_state("w")).unwrap().workflow.progress == 100
    assert told == ["step_complete"]


# --- listeners ---


async def test_listeners_are_told_after_the_commit(awp: AsyncWaypost, hooks: HookIntegrator) -> None:
    """Asynchronous and plain functions are told of their events, in order, when these can be read by anyone."""
    told: list[tuple[str, Any]] = []

    async def asynchronous(event: HookEvent) -> None:
        step = (await awp.load_workflow_state("w")).unwrap().step(event.fields["step_id"])
        told.append(("async", (step.id, step.status)))

    def plain(event: HookEvent) -> None:
        assert threading.current_thread() is not threading.main_thread()
        told.append(("plain", event.event))

    hooks.register_hook_listener("step.completed", asynchronous)
    hooks.register_hook_listener("*", plain)
    hooks.register_hook_listener("stepError", plain)
    hooks.register_hook_listener("tool.used", lambda event: asynchronous(event))
    for number in range(3):
        (await hooks.emit_hook_event("step_complete", nested(stepId=f"s{number}"))).unwrap()
    await hooks.settle()  # what two listeners are told has no order among them
    (await hooks.emit_hook_event("tool.used", nested(stepId="s0"))).unwrap()
    await hooks.settle()
    assert [what for kind, what in told if kind == "async"] == [
        *((f"s{number}", "completed") for number in range(3)),
        ("s0", "completed"),
    ]
    assert [what for kind, what in told if kind == "plain"] == ["step_complete"] * 3 + ["tool.used"]


async def test_what_was_not_done_is_not_told(hooks: HookIntegrator) -> None:
    """Neither an event that failed, nor one that was delivered again, reaches a listener."""
    told: list[str | None] = []

    async def listen(event: HookEvent) -> None:
        told.append(event.id)

    hooks.register_hook_listener("*", listen)
    for _ in range(2):
        assert await hooks.emit_hook_event("step_complete", {"id": "e", **nested(stepId="s", output=1)})
    assert not await hooks.emit_hook_event("step_complete", {"id": "f", **nested(stepId="s", output=2)})
    await hooks.settle()
    assert told == ["e"]


async def test_listeners_can_be_removed(hooks: HookIntegrator) -> None:
    """One that was removed, by what registering gave or by its function, is told of nothing any more."""
    told: list[str] = []

    async def one(event: HookEvent) -> None:
        told.append("one")

    async def two(event: HookEvent) -> None:
        told.append("two")

    first = hooks.register_hook_listener("step_start", one)
    hooks.register_hook_listener("step_start", two)
    await hooks.emit_hook_event("step_start", nested(stepId="a"))
    await hooks.settle()
    first.remove()
    first.remove()
    await hooks.emit_hook_event("step_start", nested(stepId="b"))
    await hooks.settle()
    assert hooks.unregister_hook_listener("step.started", two)
    assert not hooks.unregister_hook_listener("step_start", two)
    await hooks.emit_hook_event("step_start", nested(stepId="c"))
    await hooks.settle()
    assert told == ["one", "two", "two"]


async def test_x24_a_listener_that_fails_harms_nobody(
    awp: AsyncWaypost, hooks: HookIntegrator, caplog: pytest.LogCaptureFixture
) -> None:
    """What a listener raises is logged and counted; the event, its emitter and other listeners know nothing of it."""
    told: list[str] = []

    async def fail(event: HookEvent) -> None:
        raise RuntimeError("asynchronously")

    def exit(event: HookEvent) -> None:
        raise SystemExit("at once")

    async def cancel(event: HookEvent) -> None:
        raise asyncio.CancelledError

    async def listen(event: HookEvent) -> None:
        told.append(event.event)

    for function in (fail, exit, cancel, listen):
        hooks.register_hook_listener("step_complete", function)
    for number in range(2):
        (await hooks.emit_hook_event("step_complete", nested(stepId=f"s{number}"))).unwrap()
    await hooks.settle()
    assert told == ["step_complete"] * 2
    statistics = hooks.get_statistics()
    assert (statistics.listener_failures, statistics.failed_hook_events) == (6, 0)
    for text in ("RuntimeError: asynchronously", "SystemExit('at once')", "it was cancelled"):
        assert text in caplog.text
    assert (await awp.load_workflow_state("w")).unwrap().workflow.progress == 100


async def test_x24_a_listener_that_hangs_harms_nobody(awp: AsyncWaypost, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for a listener; one that takes longer than its limit is given up, and a plain one that is still busy
    is not called again until it is done.
    """
    hooks = create_state_hook_integrator(awp, listener_timeout_s=0.2)
    go_on = threading.Event()
    told: list[str] = []

    async def hang(event: HookEvent) -> None:
        await asyncio.sleep(3600)

    def hang_in_thread(event: HookEvent) -> None:
        told.append(f"hung {event.fields['step_id']}")
        go_on.wait()

    async def listen(event: HookEvent) -> None:
        told.append("listened")

    for function in (hang, hang_in_thread, listen):
        hooks.register_hook_listener("*", function)
    for step_id in ("a", "b"):
        (await hooks.emit_hook_event("step_start", nested(stepId=step_id))).unwrap()
    await hooks.settle()
    assert sorted(told) == ["hung a", "listened", "listened"]
    assert hooks.get_statistics().listener_failures == 4
    assert caplog.text.count("it took longer than 0.2 s") == 3
    assert caplog.text.count("it is still busy with an earlier one") == 1
    go_on.set()
    while "hung c" not in told:  # once it is done it is called again
        (await hooks.emit_hook_event("step_start", nested(stepId="c"))).unwrap()
        await hooks.settle()
    await hooks.shutdown()


async def test_x24_a_listener_that_refuses_to_end_is_told_nothing_more(
    awp: AsyncWaypost, caplog: pytest.LogCaptureFixture
) -> None:
    """A coroutine that goes on after it was given up is not called beside itself, and that counts as failures."""
    hooks = create_state_hook_integrator(awp, listener_timeout_s=0.05)
    go_on = asyncio.Event()
    calls: list[str] = []

    async def refuse(event: HookEvent) -> None:
        calls.append(event.fields["step_id"])
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        raise RuntimeError("at last")

    hooks.register_hook_listener("step_start", refuse)
    for step_id in ("a", "b"):
        (await hooks.emit_hook_event("step_start", nested(stepId=step_id))).unwrap()
    await hooks.settle()
    assert (calls, hooks.get_statistics().listener_failures) == (["a"], 2)
    assert caplog.text.count("it is still busy") == 1
    go_on.set()
    while calls == ["a"]:  # once it has ended it is called again
        (await hooks.emit_hook_event("step_start", nested(stepId="c"))).unwrap()
        await hooks.settle()
    assert calls == ["a", "c"]
    assert "RuntimeError: at last" in caplog.text


async def test_x27_what_waits_for_a_listener_is_bounded(
    hooks: HookIntegrator, caplog: pytest.LogCaptureFixture
) -> None:
    """Of more events than may wait for it a slow listener is not told, and that is counted."""
    caplog.set_level(logging.CRITICAL)
    release = asyncio.Event()
    told: list[str] = []

    async def slow(event: HookEvent) -> None:
        await release.wait()
        told.append(event.event)

    listener = hooks.register_hook_listener("x", slow)
    for _ in range(MOST_WAITING + 10):
        listener.tell(HookEvent(event="x"))
    release.set()
    await hooks.settle()
    assert (len(told), hooks.listener_failures) == (MOST_WAITING, 10)


@pytest.mark.parametrize("kind", ["asynchronous", "plain"])
async def test_trap_34_listeners_that_emit_come_to_an_end(awp: AsyncWaypost, hooks: HookIntegrator, kind: str) -> None:
    """A listener that answers each checkpoint_request with another one is stopped at a depth, with an error that says
    so; each request made one checkpoint.
    """
    loop = asyncio.get_running_loop()
    results: list[Any] = []
    (await awp.create_workflow("w", "W")).unwrap()

    async def asynchronous(event: HookEvent) -> None:
        results.append(await hooks.emit_hook_event("checkpoint_request", nested(tags=["again"])))

    def plain(event: HookEvent) -> None:
        emitting = hooks.emit_hook_event("checkpoint_request", nested(tags=["again"]))
        results.append(asyncio.run_coroutine_threadsafe(emitting, loop).result(60))

    hooks.register_hook_listener("checkpoint_request", asynchronous if kind == "asynchronous" else plain)
    for number in range(2):  # the depth is that of each event, and is not used up
        (await hooks.emit_hook_event("checkpoint_request", nested(tags=["first"]))).unwrap()
        await hooks.settle()
        assert len(results) == (number + 1) * DEEPEST
        assert [bool(each) for each in results[-DEEPEST:]] == [True] * (DEEPEST - 1) + [False]
        assert isinstance(results[-1].error, Refused)
        assert "lead to one another" in str(results[-1].error)
    assert (await tags(awp)).count(("again",)) == 2 * (DEEPEST - 1)
    assert (await tags(awp)).count(("first",)) == 2


async def test_trap_34_a_request_without_listeners_is_one_checkpoint(awp: AsyncWaypost, hooks: HookIntegrator) -> None:
    """Nothing of ours answers an event by another: one request, one checkpoint, then it is quiet."""
    (await awp.create_workflow("w", "W")).unwrap()
    assert (await hooks.emit_hook_event("checkpoint_request", nested(tags=["t"]))).unwrap().tags == ("t",)
    await hooks.settle()
    assert await tags(awp) == [("t",)]
    assert hooks.get_statistics().total_hook_events == 1


# --- statistics ---


async def test_statistics_are_true(awp: AsyncWaypost, hooks: HookIntegrator) -> None:
    """Counts, rate and average are those of the events that were emitted, and workflows are active until they are
    completed, deleted, or were never there.
    """
    empty = hooks.get_statistics()
    assert (empty.total_hook_events, empty.error_rate, empty.average_response_time_ms) == (0, 0.0, 0.0)
    durations: list[float] = []
    began = time.perf_counter()
    for workflow_id in ("a", "b", "c"):
        result = await hooks.emit_hook_event("step_start", nested(workflow_id, stepId="s"))
        durations.append(result.duration_ms)
    for event, payload, error in (
        ("step_complete", nested("a", stepId="s"), None),
        ("step_start", {"stepId": "s"}, InvalidInput),
        ("step_start", [], InvalidInput),
    ):
        result = await hooks.emit_hook_event(event, payload)  # type: ignore[arg-type]
        assert error is None or isinstance(result.error, error)
        durations.append(result.duration_ms)
    (await awp.delete_workflow("b")).unwrap()
    found = hooks.get_statistics()
    assert (found.active_workflows, found.total_hook_events, found.failed_hook_events) == (1, 6, 2)
    assert found.error_rate == 2 / 6
    assert found.average_response_time_ms == pytest.approx(sum(durations) / 6)
    assert 0 < found.average_response_time_ms < (time.perf_counter() - began) * 1000
    assert found.events == {"step_start": 4, "step_complete": 1, "invalid": 1}
    await awp.close()
    assert hooks.get_statistics().active_workflows == 1


# --- its end ---


async def test_shutdown_keeps_live_workflows_and_closes_nothing(awp: AsyncWaypost, hooks: HookIntegrator) -> None:
    """shutdown makes a checkpoint of each live workflow, refuses what comes later, and leaves the handle open."""
    (await hooks.emit_hook_event("step_start", nested("live", stepId="s"))).unwrap()
    (await hooks.emit_hook_event("step_complete", nested("done", stepId="s"))).unwrap()
    (await awp.create_workflow("other", "O")).unwrap()
    await hooks.shutdown()
    await hooks.shutdown()
    assert await tags(awp, "live") == [("shutdown", "cleanup")]
    assert await tags(awp, "done") == await tags(awp, "other") == []
    assert isinstance((await hooks.emit_hook_event("step_start", nested(stepId="s"))).error, Refused)
    (await awp.update_step_status("live", "s", "completed")).unwrap()


async def test_shutdown_waits_for_what_is_under_way(awp: AsyncWaypost, hooks: HookIntegrator) -> None:
    """What was emitted before is committed, and kept as live like the rest."""
    emitting = [asyncio.ensure_future(hooks.emit_hook_event("step_start", nested(stepId=each))) for each in "abc"]
    await asyncio.sleep(0)
    await hooks.shutdown()
    assert [each.done() and bool(each.result()) for each in emitting] == [True] * 3
    assert await tags(awp) == [("shutdown", "cleanup")]
    kept = (await awp.list_checkpoints("w")).items[0]
    assert [step.status for step in kept.state.workflow.steps] == ["running"] * 3


async def test_each_shutdown_waits_until_all_is_kept(awp: AsyncWaypost, hooks: HookIntegrator) -> None:
    """Whoever closes the handle behind the second one takes nothing from the first."""
    (await hooks.emit_hook_event("step_start", nested(stepId="s"))).unwrap()
    first = asyncio.ensure_future(hooks.shutdown())
    await asyncio.sleep(0)
    await hooks.shutdown()
    assert await tags(awp) == [("shutdown", "cleanup")]
    await first


async def test_a_shutdown_that_was_cancelled_is_finished(awp: AsyncWaypost, hooks: HookIntegrator) -> None:
    """A time limit of the caller's takes no checkpoint away."""
    told = asyncio.Event()

    async def listen(_: HookEvent) -> None:
        await told.wait()

    hooks.register_hook_listener("*", listen)
    (await hooks.emit_hook_event("step_start", nested(stepId="s"))).unwrap()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(hooks.shutdown(), 0.05)
    told.set()
    await hooks.shutdown()
    assert await tags(awp) == [("shutdown", "cleanup")]


async def test_shutdown_without_automatic_checkpoints(awp: AsyncWaypost) -> None:
    """Where events make no checkpoints, their end makes none."""
    hooks = create_state_hook_integrator(awp, {"enable_auto_checkpoints": False})
    (await hooks.emit_hook_event("step_start", nested(stepId="s"))).unwrap()
    await hooks.shutdown()
    assert await tags(awp) == []


async def test_shutdown_of_a_closed_store_raises_nothing(
    awp: AsyncWaypost, hooks: HookIntegrator, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be kept any more is logged."""
    (await hooks.emit_hook_event("step_start", nested(stepId="s"))).unwrap()
    await awp.close()
    assert isinstance((await hooks.emit_hook_event("step_start", nested(stepId="s"))).error, StoreClosed)
    await hooks.shutdown()
    assert "workflow 'w' was not kept at shutdown" in caplog.text


async def test_the_factories_make_what_they_say(tmp_path: Any) -> None:
    """A store with options of its own, and its integrator; presets have the original's options."""
    async with waypost.create_workflow_state_api(tmp_path / "s", {"hooks": {"checkpoint_frequency": 2}}) as api:
        assert api.definitions.config.hooks.checkpoint_frequency == 2
        assert isinstance(waypost.create_state_hook_integrator(api), waypost.HookIntegrator)
    for preset, frequency, recovery in (("development", 10, False), ("production", 5, True)):
        api, hooks = await waypost.initialize_workflow_state(preset, "memory:")
        assert api.definitions.config.hooks.checkpoint_frequency == frequency
        assert api.definitions.config.hooks.enable_crash_recovery is recovery
        await hooks.shutdown()
        await api.close()
