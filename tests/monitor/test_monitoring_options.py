"""Each option of the section `monitoring` does what it says."""

from __future__ import annotations

import pytest

from tests.monitor.conftest import Clock, Opened
from tests.monitor.test_alerts import judge, thresholds
from tests.monitor.test_metrics import count
from waypost import clock
from waypost.alerts import Rules
from waypost.monitor import StatePerformanceMonitor


def test_monitoring_enable_metrics(opened: Opened) -> None:
    """`monitoring.enable_metrics` false counts nothing and says so; the memory is told all the same."""
    counted, uncounted = opened(), opened(enable_metrics=False)
    for wp in (counted, uncounted):
        wp.create_workflow("w", "W").unwrap()
    on, off = counted.get_performance_metrics(), uncounted.get_performance_metrics()
    assert (on.enabled, on.count, on.totals.count, len(on.series)) == (True, 1, 1, 1)
    assert (off.enabled, off.count, off.totals.count, len(off.series)) == (False, 0, 0, 0)
    assert off.memory_usage_bytes > 0


def test_monitoring_metrics_interval(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """`monitoring.metrics_interval` is how often a monitor looks that is not told otherwise."""
    waited: list[float] = []
    monkeypatch.setattr(StatePerformanceMonitor, "_watch", lambda self, stop, seconds: waited.append(seconds))
    for looking in (StatePerformanceMonitor(opened(metrics_interval=12_000)), StatePerformanceMonitor(opened())):
        looking.start_monitoring()
        looking.start_monitoring(250)
        looking.stop_monitoring()
    assert waited == [12, 0.25, 15, 0.25]


@pytest.mark.parametrize("option", ["save_time", "load_time", "error_rate", "memory_usage"])
def test_alert_thresholds(option: str, time: Clock, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is between two thresholds of `monitoring.alert_thresholds.save_time`,
    `monitoring.alert_thresholds.load_time`, `monitoring.alert_thresholds.error_rate` or
    `monitoring.alert_thresholds.memory_usage` crosses the lower one alone.
    """
    monkeypatch.setattr(clock, "resident_bytes", lambda: 300 << 20)
    lower, upper = (0.4, 0.6) if option == "error_rate" else (200, 400)
    found: list[list[tuple[str, str]]] = []
    for threshold in (lower, upper):
        wp = opened(**thresholds(**{option: threshold}))
        count(wp, 300, code="refused")
        count(wp, 300, "load_workflow_state", is_save=False)
        found.append(judge(wp, Rules(wp.definitions.config.monitoring.alert_thresholds)))
    assert found == [[(option, "fired")], []]
    assert time.now_ns > 0
