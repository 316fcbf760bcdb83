"""The text for Prometheus: its form, its figures, and that nothing stored gets into it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import waypost
from tests.monitor.conftest import SECOND, Clock, Opened
from tests.monitor.test_metrics import count
from waypost import clock, metrics, prometheus
from waypost.blocking import Waypost
from waypost.hooks import script, spool
from waypost.metrics import Metric

LIMIT_S = 60
SAMPLE = re.compile(r'([a-z_]+)(\{(?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)+\})? (-?[0-9.e+-]+|\+Inf)')


def samples(text: str) -> dict[tuple[str, str], float]:
    """The samples of a text by name and labels; each line is checked, and so is what stands above its family."""
    found: dict[tuple[str, str], float] = {}
    families: dict[str, str] = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in families
            families[name] = kind
            continue
        if line.startswith("# HELP "):
            continue
        match = SAMPLE.fullmatch(line)
        assert match is not None, line
        name, labels = match[1], match[2] or ""
        family = name if name in families else re.sub(r"_(bucket|sum|count)$", "", name)
        assert family == list(families)[-1], line
        assert (families[family] == "histogram") == (family != name)
        assert (name, labels) not in found
        found[name, labels] = float(match[3])
    return found


def test_the_text_has_the_figures_of_the_handle(time: Clock, opened: Opened) -> None:
    """Counts, sums and buckets are those of the operations; a time at the end of a bucket is within it."""
    wp = opened()
    for taken_ms in (0.01, 0.065536, 0.065537, 3.0, 30_000.0):
        count(wp, taken_ms)
    count(wp, 2, "step_complete", code="step_not_found")
    count(wp, 2, "load_workflow_state", is_save=False, code="workflow_not_found")
    time.pass_by(10_000)  # totals do not forget
    found = samples(waypost.prometheus_text(wp))
    name, label = "waypost_operation_duration_seconds", 'operation="update_step_status"'
    buckets = [value for (family, labels), value in found.items() if family == f"{name}_bucket" and label in labels]
    assert buckets == [1, 2, 3, 3, 4, 4, 4, 4, 4, 4, 4, 5]
    assert found[f"{name}_count", f"{{{label}}}"] == 5
    assert found[f"{name}_sum", f"{{{label}}}"] == pytest.approx(30.003141073)
    assert found["waypost_hook_duration_seconds_count", '{event="step_complete"}'] == 1
    assert (f"{name}_count", '{operation="step_complete"}') not in found
    assert found["waypost_operation_failures_total", '{operation="step_complete"}'] == 1
    assert found["waypost_operation_failures_total", '{operation="update_step_status"}'] == 0
    assert found["waypost_store_errors_total", '{code="workflow_not_found"}'] == 1
    assert found["waypost_loads_total", ""] == 0
    assert found["waypost_process_resident_bytes", ""] > 1 << 20


def test_the_text_tells_of_the_store(tmp_path: Path) -> None:
    """Workflows by status, events that wait, and the bytes and syncs of operations; without the store none of it."""
    with waypost.open(tmp_path / "s") as wp:
        wp.create_workflow("one", "One", steps=["a"]).unwrap()
        done = wp.update_step_status("one", "a", "completed")
        wp.create_workflow("two", "Two", steps=["a"]).unwrap()
        where, now_ns = (str(tmp_path / "s"), "spool"), clock.monotonic_ns()
        for boot, arrived_ns in ((clock.boot_id(), now_ns - 7 * SECOND), (clock.boot_id(), now_ns)):
            script.append(where, boot, arrived_ns, {"dialect": "waypost"}, b"{}")
        text = waypost.prometheus_text(wp)
        found = samples(text)
        assert found["waypost_runs", '{status="completed"}'] == found["waypost_runs", '{status="idle"}'] == 1
        assert found["waypost_runs", '{status="failed"}'] == 0
        assert found["waypost_spool_events", ""] == 2
        assert 7 <= found["waypost_spool_lag_seconds", ""] < 7 + LIMIT_S
        assert found["waypost_store_syncs_total", ""] >= 3
        assert found["waypost_store_written_bytes_total", ""] > done.performance.bytes_written
        without = waypost.prometheus_text(wp, with_store=False)
        assert set(samples(without)) == {key for key in found if not re.match("waypost_(runs|spool)", key[0])}
        assert "list_workflows" not in text  # looking is no operation


@pytest.mark.parametrize(
    ("boot", "arrived_ns", "least", "most"),
    [
        ("", lambda: clock.now_us() * 1000 - 9 * SECOND, lambda: 9, lambda: 9 + LIMIT_S),
        (
            "feedbeef-1",
            lambda: 1,
            lambda: clock.monotonic_ns() / SECOND - LIMIT_S,
            lambda: clock.monotonic_ns() / SECOND,
        ),
        (clock.boot_id(), lambda: clock.monotonic_ns() + 9 * SECOND, lambda: 0, lambda: 0),
    ],
    ids=["no boot", "earlier", "ahead"],
)
def test_an_event_of_any_boot_has_waited_for_some_time(
    boot: str, arrived_ns: Callable[[], int], least: Callable[[], float], most: Callable[[], float], tmp_path: Path
) -> None:
    """By wall time where no boot is known, at least since this boot where it came before, and never less than 0."""
    assert spool.oldest_s(str(tmp_path / "spool")) == 0
    script.append((str(tmp_path), "spool"), boot, arrived_ns(), {"dialect": "waypost"}, b"{}")
    assert least() <= spool.oldest_s(str(tmp_path / "spool")) <= most()


def test_steps_are_timed_once_each_as_they_are_finished(wp: Waypost) -> None:
    """By updates, runs and hook events: from start to end; what changes nothing, or fails, is not counted."""
    wp.create_workflow("w", "W", steps=["a", "b", "c", "d"]).unwrap()
    wp.update_step_status("w", "a", "running").unwrap()
    for _ in range(2):
        wp.update_step_status("w", "a", "completed", 1).unwrap()  # the second time changes nothing
    for event, at in (("step_start", 1_700_000_000_000), ("step_complete", 1_700_000_004_000)):
        wp.emit_hook_event(event, {"workflow_id": "w", "step_id": "b", "timestamp": at}).unwrap()
    wp.update_step_status("w", "c", "running").unwrap()
    wp.update_step_status("w", "c", "failed", error="x").unwrap()
    wp.update_step_status("w", "d", "skipped").unwrap()
    assert not wp.update_step_status("w", "nope", "completed")
    found = samples(waypost.prometheus_text(wp))
    name = "waypost_step_duration_seconds"
    assert found[f"{name}_count", '{status="completed"}'] == 2
    assert found[f"{name}_count", '{status="failed"}'] == 1
    assert 4 <= found[f"{name}_sum", '{status="completed"}'] < 4 + LIMIT_S
    assert len([key for key in found if key[0] == f"{name}_count"]) == 2


def test_nothing_that_is_stored_is_in_the_text(opened: Opened) -> None:
    """Neither ids nor names, of workflows, steps, users or events, however they are written."""
    wp = opened()
    canary = 'CANARY"}\n\\ 1'
    wp.create_workflow("CANARY-id", canary, steps=["CANARY-step"]).unwrap()
    wp.emit_hook_event("CANARY.event", {"workflow_id": "CANARY-id", "x": canary}).unwrap()
    assert not wp.update_step_status("CANARY-id", canary, "completed")
    text = waypost.prometheus_text(wp)
    assert "CANARY" not in text
    assert ("waypost_hook_duration_seconds_count", '{event="hook_note"}') in samples(text)


def test_x27_series_are_bounded_and_labels_escaped(opened: Opened) -> None:
    """A package that calls an operation what it likes gets so many series, each a line of the format."""
    wp = opened()
    for number in range(500):
        count(wp, 1, f'{number}"\\\n}} 1', code=f'"{number}\n')
    found = samples(waypost.prometheus_text(wp))
    assert len(found) < 101 * 15 + 101 + 20
    assert found["waypost_operation_duration_seconds_count", '{operation="other"}'] == 400


def test_a_handle_that_counts_nothing_has_a_text(opened: Opened) -> None:
    """What can be seen of process and store is there, and no counter."""
    found = samples(waypost.prometheus_text(opened(enable_metrics=False)))
    assert {name for name, _ in found} == {"waypost_process_resident_bytes", "waypost_runs"}


def test_names_stand_in_one_module_and_follow_the_rules_of_both() -> None:
    """Each name begins with ours, is one of OpenTelemetry, and gives the documented one for Prometheus."""
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    named = [each for each in vars(metrics).values() if isinstance(each, Metric)]
    assert len(named) == len({each.name for each in named}) == 19
    for each in named:
        assert re.fullmatch(r"waypost(\.[a-z_]+)+", each.name)
        assert f"`{each.prometheus_name}`" in page
        assert f"`{each.prometheus_label}`" in page or not each.attribute
    source = Path(prometheus.__file__).read_text(encoding="utf-8")
    assert not re.search(r'"waypost[._]', source)
