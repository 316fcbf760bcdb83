"""Alerts: what fires, when, how often, and to whom it is told."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.monitor.conftest import Clock, Opened
from tests.monitor.test_metrics import count
from waypost import clock, monitor
from waypost.alerts import Alert, Rules
from waypost.blocking import Waypost
from waypost.errors import InvalidInput, Refused, StoreClosed
from waypost.monitor import StatePerformanceMonitor
from waypost.performance import metrics_of

MB = 1 << 20
LIMIT_S = 20


def thresholds(**given: Any) -> dict[str, Any]:
    """Alert thresholds that nothing crosses, but for those given."""
    never = {"save_time": 10**9, "load_time": 10**9, "error_rate": 1.0, "memory_usage": 10**9}
    return {"alert_thresholds": never | given}


class Told:
    """A callback that keeps what it is told, and that one can wait for."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        self._changed = threading.Condition()

    def __call__(self, alert: Alert) -> None:
        with self._changed:
            self.alerts.append(alert)
            self._changed.notify_all()

    def wait_for(self, number: int) -> list[tuple[str, str]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.alerts) >= number, LIMIT_S), self.alerts
            return [(each.rule, each.state) for each in self.alerts]


def judge(wp: Waypost, rules: Rules) -> list[tuple[str, str]]:
    return [(each.rule, each.state) for each in rules.judge(metrics_of(wp.definitions.observer.instruments))]


@pytest.mark.parametrize(
    ("rule", "threshold", "below", "above"),
    [
        ("save_time", 500, [("update_step_status", 500.0, "")], [("update_step_status", 501.0, "")]),
        ("load_time", 200, [("load_workflow_state", 200.0, "")], [("load_workflow_state", 300.0, "")]),
        ("error_rate", 0.5, [("a", 1.0, "x"), ("a", 1.0, "")], [("a", 1.0, "x")]),
    ],
)
def test_trap_28_a_configured_threshold_fires_once_and_clears_once(
    rule: str, threshold: float, below: list[Any], above: list[Any], time: Clock, opened: Opened
) -> None:
    """At the threshold nothing fires, above it one alert does, however often one looks; back again it clears once."""
    wp = opened(**thresholds(**{rule: threshold}))
    rules = Rules(wp.definitions.config.monitoring.alert_thresholds)
    for kind, taken_ms, code in below:
        count(wp, taken_ms, kind, is_save=kind == "update_step_status", code=code)
    assert judge(wp, rules) == []
    for kind, taken_ms, code in above:
        count(wp, taken_ms, kind, is_save=kind == "update_step_status", code=code)
    assert judge(wp, rules) == [(rule, "fired")]
    assert [judge(wp, rules) for _ in range(3)] == [[]] * 3
    assert list(rules.firing) == [rule]
    time.pass_by(100)
    assert judge(wp, rules) == [(rule, "cleared")]
    assert judge(wp, rules) == []
    assert rules.firing == {}


def test_trap_28_memory_fires_and_clears(monkeypatch: pytest.MonkeyPatch, opened: Opened) -> None:
    """`memory_usage` is in MB of what the process has resident, and the alert tells value, threshold and unit."""
    wp = opened(**thresholds(memory_usage=400))
    rules = Rules(wp.definitions.config.monitoring.alert_thresholds)
    found: list[Alert] = []
    for resident in (400 * MB, 401 * MB, 900 * MB, 100 * MB):
        monkeypatch.setattr(clock, "resident_bytes", lambda resident=resident: resident)
        found += rules.judge(wp.get_performance_metrics())
    assert [(each.state, each.value, each.threshold, each.unit) for each in found] == [
        ("fired", 401, 400, "MB"),
        ("cleared", 100, 400, "MB"),
    ]
    assert [each.message for each in found] == [
        "memory_usage is 401 MB, above 400 MB",
        "memory_usage is 100 MB, no longer above 400 MB",
    ]


def test_trap_28_an_alert_reaches_log_callback_and_event(
    monkeypatch: pytest.MonkeyPatch, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    """One of each when it fires, one of each when it clears, and `watch` tells of the events."""
    caplog.set_level(logging.INFO, "waypost")
    wp, told = opened(**thresholds(memory_usage=400)), Told()
    wp.create_workflow("w", "W").unwrap()
    looking = StatePerformanceMonitor(wp, told, workflow_id="w")
    with wp.watch("w") as watch:
        monkeypatch.setattr(clock, "resident_bytes", lambda: 500 * MB)
        looking.start_monitoring(10)
        assert told.wait_for(1) == [("memory_usage", "fired")]
        first = watch.get(LIMIT_S)
        assert list(looking.firing) == ["memory_usage"]
        monkeypatch.setattr(clock, "resident_bytes", lambda: 300 * MB)
        assert told.wait_for(2) == [("memory_usage", "fired"), ("memory_usage", "cleared")]
        second = watch.get(LIMIT_S)
        looking.stop_monitoring()
    assert first is not None and second is not None
    assert [first.operation, second.operation] == [monitor.EVENT] * 2
    notes = wp.load_workflow_state("w").unwrap().context.variables
    said = [note["fields"] for _, note in sorted(notes.items())]
    assert [(each["rule"], each["state"], each["value"], each["threshold"], each["unit"]) for each in said] == [
        ("memory_usage", "fired", 500, 400, "MB"),
        ("memory_usage", "cleared", 300, 400, "MB"),
    ]
    logged = [(each.levelname, each.getMessage()) for each in caplog.records if "memory_usage" in each.getMessage()]
    assert logged == [
        ("WARNING", "memory_usage is 500 MB, above 400 MB"),
        ("INFO", "memory_usage is 300 MB, no longer above 400 MB"),
    ]
    assert any("operations/s, error rate 0.0000" in each.getMessage() for each in caplog.records)


async def test_trap_28_listeners_of_an_integrator_are_told() -> None:
    """With an integrator the event is of the handle's session, and its listeners hear of it as of any."""
    state_api, hooks = await waypost.initialize_workflow_state("development", "memory:")
    heard: asyncio.Queue[waypost.HookEvent] = asyncio.Queue()
    hooks.register_hook_listener(
        "performance.threshold", lambda event: loop.call_soon_threadsafe(heard.put_nowait, event)
    )
    loop = asyncio.get_running_loop()
    session = await state_api.start_session("ann")
    instruments = state_api.definitions.observer.instruments
    assert instruments is not None
    instruments.note(("update_step_status", True, clock.monotonic_ns(), 60_000_000_000, None, None))
    looking = StatePerformanceMonitor(state_api, hook_integrator=hooks)
    looking.start_monitoring(10)
    event = await asyncio.wait_for(heard.get(), LIMIT_S)
    assert (event.session_id, event.fields["rule"], event.fields["state"]) == (session.session_id, "save_time", "fired")
    await hooks.shutdown()
    await state_api.close()
    assert not looking.is_monitoring


@pytest.mark.parametrize("raised", [ValueError, SystemExit])
def test_a_callback_that_fails_ends_no_monitor(
    raised: type[BaseException], monkeypatch: pytest.MonkeyPatch, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and told of the next alert all the same."""
    told = Told()

    def fails(alert: Alert) -> None:
        told(alert)
        raise raised

    looking = StatePerformanceMonitor(opened(**thresholds(memory_usage=400)), fails)
    monkeypatch.setattr(clock, "resident_bytes", lambda: 500 * MB)
    looking.start_monitoring(10)
    told.wait_for(1)
    monkeypatch.setattr(clock, "resident_bytes", lambda: 300 * MB)
    told.wait_for(2)
    looking.stop_monitoring()
    assert "the callback of the monitor failed" in caplog.text


def test_an_event_that_cannot_be_recorded_is_told(
    monkeypatch: pytest.MonkeyPatch, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    """An alert about a workflow that was deleted reaches the callback, and the log says why there is no event."""
    wp, told = opened(**thresholds(memory_usage=400)), Told()
    wp.create_workflow("w", "W").unwrap()
    wp.delete_workflow("w").unwrap()
    monkeypatch.setattr(clock, "resident_bytes", lambda: 500 * MB)
    looking = StatePerformanceMonitor(wp, told, workflow_id="w")
    looking.start_monitoring(10)
    told.wait_for(1)
    monkeypatch.setattr(clock, "resident_bytes", lambda: 300 * MB)
    told.wait_for(2)
    looking.stop_monitoring()
    assert "an alert was not recorded as an event" in caplog.text


def stopped_by(end: Callable[[StatePerformanceMonitor, Waypost], None], opened: Opened) -> None:
    wp, before = opened(), set(threading.enumerate())
    looks = threading.Semaphore(0)
    looking = StatePerformanceMonitor(wp)
    judge_ = looking._rules.judge
    looking._rules.judge = lambda metrics: (looks.release(), judge_(metrics))[1]  # type: ignore[method-assign]
    looking.start_monitoring(10)
    assert looks.acquire(timeout=LIMIT_S)
    (thread,) = {*threading.enumerate()} - before
    assert (thread.name, thread.daemon) == ("waypost-monitor", True)
    end(looking, wp)
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    assert not looking.is_monitoring


def test_a_monitor_ends_when_it_is_stopped(opened: Opened) -> None:
    """Its thread is gone, and stopping it again does no harm."""
    stopped_by(lambda looking, wp: (looking.stop_monitoring(), looking.stop_monitoring())[0], opened)


def test_a_monitor_ends_with_its_handle(opened: Opened) -> None:
    """Closing the handle stops it, and none can be started on a handle that is closed."""

    def close(looking: StatePerformanceMonitor, wp: Waypost) -> None:
        wp.close()
        with pytest.raises(StoreClosed):
            looking.start_monitoring(10)

    stopped_by(close, opened)


def test_a_monitor_that_is_started_twice_is_one(opened: Opened) -> None:
    """The second start only changes the interval; one stop ends it."""
    looking = StatePerformanceMonitor(opened())
    for interval_ms in (3_600_000, 3_600_000, 1000):
        looking.start_monitoring(interval_ms)
    looking.stop_monitoring()
    for thread in [each for each in threading.enumerate() if each.name == "waypost-monitor"]:
        thread.join(LIMIT_S)
        assert not thread.is_alive()


@pytest.mark.parametrize("interval_ms", [0, 9, 3_600_001, 1.5, True, "1000"])
def test_an_interval_is_whole_milliseconds_within_bounds(interval_ms: Any, opened: Opened) -> None:
    """Any other is refused, and nothing is started."""
    looking = StatePerformanceMonitor(opened())
    with pytest.raises(InvalidInput, match="from 10 to 3600000"):
        looking.start_monitoring(interval_ms)
    assert not looking.is_monitoring


def test_a_handle_that_counts_nothing_is_not_monitored(opened: Opened) -> None:
    """It is refused aloud, with the option that is to blame."""
    with pytest.raises(Refused, match="enable_metrics"):
        StatePerformanceMonitor(opened(enable_metrics=False)).start_monitoring()


def test_a_monitor_keeps_no_process_alive(tmp_path: Path) -> None:
    """A program that neither stops it nor closes its handle ends when its last line is done."""
    program = """if True:
        import waypost
        wp = waypost.open("memory:")
        waypost.StatePerformanceMonitor(wp).start_monitoring(3_600_000)
        print("done")
    """
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
