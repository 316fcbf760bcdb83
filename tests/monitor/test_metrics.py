"""What a handle says of how it fares, on both faces."""

from __future__ import annotations

import asyncio
import inspect
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.monitor.conftest import SECOND, Clock, Opened
from waypost import clock
from waypost.api import AsyncWaypost
from waypost.blocking import Waypost
from waypost.errors import InvalidInput, VersionConflict, WorkflowNotFound
from waypost.store import DocumentId
from waypost.store.directory import upkeep

BAD = (0, 0.99, 601, -1, float("nan"), float("inf"), "60", True, None)


PAGE = Path(__file__).parents[2] / "docs" / "monitoring.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def count(
    wp: Waypost, taken_ms: float, kind: str = "update_step_status", *, is_save: bool = True, code: str = ""
) -> None:
    """Have an operation counted as if it had ended now."""
    instruments = wp.definitions.observer.instruments
    assert instruments is not None
    instruments.note((kind, is_save, clock.monotonic_ns(), round(taken_ms * 1_000_000), None, code or None))


def test_trap_27_averages_are_means_and_rates_are_those_of_the_window(time: Clock, opened: Opened) -> None:
    """Means are sums / counts, the rate is operations / seconds, and the error rate is failures / operations, which
    falls again as failures pass out of the window.
    """
    wp = opened()
    time.pass_by(20)
    for taken_ms in (10, 10, 10, 50):
        count(wp, taken_ms)
    count(wp, 2, "load_workflow_state", is_save=False)
    count(wp, 6, "load_workflow_state", is_save=False, code="workflow_not_found")
    metrics = wp.get_performance_metrics()
    assert (metrics.average_save_time_ms, metrics.average_load_time_ms) == (20, 4)
    assert (metrics.window_s, metrics.operations_per_second) == (20, 6 / 20)
    assert (metrics.count, metrics.failures, metrics.error_rate) == (6, 1, 1 / 6)
    for _ in range(150):
        count(wp, 1, code="refused")
    assert wp.get_performance_metrics().error_rate == 151 / 156
    time.pass_by(120)
    later = wp.get_performance_metrics()
    assert (later.count, later.error_rate, later.operations_per_second, later.average_save_time_ms) == (0, 0, 0, 0)
    assert 60 <= later.window_s < 65
    assert (later.totals.count, later.totals.failures, later.totals.age_s) == (156, 151, 140)


def test_trap_27_percentiles_of_each_kind_are_those_of_a_sorted_list(time: Clock, opened: Opened) -> None:
    """p50, p95 and p99 are at most a sixteenth above those of the same times in a list, for each kind and for all."""
    wp, rng = opened(), random.Random(3)
    times = {kind: [rng.expovariate(1 / mean) + 0.01 for _ in range(400)] for kind, mean in (("a", 2), ("b", 50))}
    for kind, each in times.items():
        for taken_ms in each:
            count(wp, taken_ms, kind)
    time.pass_by(1)
    metrics = wp.get_performance_metrics()
    for found, own in (*((metrics.operations[kind], times[kind]) for kind in "ab"), (metrics, times["a"] + times["b"])):
        ordered = sorted(own)
        for name, share in (("p50_ms", 50), ("p95_ms", 95), ("p99_ms", 99)):
            true = ordered[-(-share * len(ordered) // 100) - 1]
            assert true - 1e-6 <= getattr(found, name) <= true * 17 / 16 + 1e-4
    assert metrics.operations["a"].longest_ms == pytest.approx(max(times["a"]), abs=1e-5)
    assert metrics.operations["a"].average_ms == pytest.approx(sum(times["a"]) / 400, abs=1e-4)


def test_every_operation_counts_once_under_its_name(wp: Waypost) -> None:
    """Writes, loads, lists, failures, transactions and hook events; what is done within a transaction is part of it."""
    wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
    wp.update_step_status("w", "a", "completed", 1, operation_id="once").unwrap()
    wp.update_step_status("w", "a", "completed", 1, operation_id="once").unwrap()
    assert not wp.update_step_status("w", "nope", "completed")
    wp.load_workflow_state("w").unwrap()
    assert not wp.load_workflow_state("v")
    wp.list_workflows()
    with pytest.raises(WorkflowNotFound):
        wp.get_step_output("v", "a")
    wp.transact(lambda tx: [tx.update_context("w", variables={"x": 1}), tx.load_workflow_state("w")][0]).unwrap()
    with wp.transaction() as tx:
        tx.update_context("w", variables={"x": 2})
        assert tx._definitions.observer.instruments is None
    wp.emit_hook_event("step_complete", {"workflow_id": "w", "step_id": "b"}).unwrap()
    wp.emit_hook_event("Anybody's \N{SNOWMAN} name", {"workflow_id": "w"}).unwrap()
    assert not wp.emit_hook_event("step_complete", {})
    metrics = wp.get_performance_metrics()
    kinds = ("create_workflow", "update_step_status", "step_complete", "hook_note")
    saves = [metrics.operations[kind] for kind in kinds]
    mean = sum(each.average_ms * each.count for each in saves) / sum(each.count for each in saves)
    assert metrics.average_save_time_ms == pytest.approx(mean)
    assert metrics.average_load_time_ms == metrics.operations["load_workflow_state"].average_ms > 0
    assert {kind: (each.count, each.failures) for kind, each in metrics.operations.items()} == {
        "create_workflow": (1, 0),
        "update_step_status": (3, 1),
        "load_workflow_state": (2, 1),
        "list_workflows": (1, 0),
        "get_step_output": (1, 1),
        "transact": (1, 0),
        "transaction": (1, 0),
        "step_complete": (1, 0),
        "hook_note": (1, 0),
        "emit_hook_event": (1, 1),
    }


def test_a_transaction_that_was_overtaken_counts_as_failed(wp: Waypost) -> None:
    """The commit of a block that raises VersionConflict is a failed operation; a block that raises is none."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()

    def overtaken() -> None:
        with wp.transaction() as tx:
            tx.update_context("w", variables={"x": 1})
            wp.update_context("w", variables={"x": 2}).unwrap()

    def broken() -> None:
        with wp.transaction():
            raise ZeroDivisionError

    with pytest.raises(VersionConflict):
        overtaken()
    with pytest.raises(ZeroDivisionError):
        broken()
    found = wp.get_performance_metrics().operations["transaction"]
    assert (found.count, found.failures) == (1, 1)


async def test_both_faces_tell_the_same_and_at_once(wp: Waypost, awp: AsyncWaypost) -> None:
    """`get_performance_metrics` is no coroutine on either face, and takes the same arguments."""
    shown = [inspect.signature(face.get_performance_metrics) for face in (Waypost, AsyncWaypost)]
    assert shown[0] == shown[1]
    assert not inspect.iscoroutinefunction(AsyncWaypost.get_performance_metrics)
    (await awp.create_workflow("w", "W", steps=["a"])).unwrap()
    await asyncio.gather(*(awp.load_workflow_state("w") for _ in range(5)))
    found = awp.get_performance_metrics().operations
    assert (found["create_workflow"].count, found["load_workflow_state"].count) == (1, 5)
    assert wp.get_performance_metrics().count == 0  # another handle, which counts for itself


def test_a_handle_in_a_session_counts_with_its_handle(wp: Waypost) -> None:
    """`in_session` gives the same store under another name, and one count."""
    session = wp.start_session("ann")
    wp.in_session(session.session_id).create_workflow("w", "W").unwrap()
    assert wp.get_performance_metrics().operations["create_workflow"].count == 1


def test_costs_are_the_sums_of_what_operations_report(tmp_path: Path) -> None:
    """Bytes, calls, syncs and the ratio of compression are those of the results; what was held in memory is a hit."""
    with waypost.open(tmp_path / "s") as wp:
        results = [wp.create_workflow("w", "W", steps=["a", "b"])]
        results += [wp.update_step_status("w", step, "completed", {"text": "word " * 900}) for step in "ab"]
        results += [wp.load_workflow_state("w")]
        metrics = wp.get_performance_metrics()
        costs = [result.performance for result in results]
        for name in ("bytes_read", "bytes_written", "io_operations", "syncs"):
            assert getattr(metrics, name) == sum(getattr(cost, name) for cost in costs)
            assert getattr(metrics.totals, name) == getattr(metrics, name)
        raw = sum(cost.compression_ratio * cost.bytes_written for cost in costs if cost.compression_ratio is not None)
        assert metrics.compression_ratio == pytest.approx(raw / metrics.bytes_written)
        # one for each commit, but for those that a sync of upkeep, which writes out checkpoints, has covered already
        assert 1 <= metrics.syncs <= 4 and metrics.compression_ratio > 1
        assert metrics.cache_hit_rate == 1
    with waypost.open(tmp_path / "s") as wp:
        cold = wp.load_workflow_state("w").performance
        assert cold.bytes_read > 300
        for _ in range(3):
            wp.load_workflow_state("w").unwrap()
        assert wp.get_performance_metrics().cache_hit_rate == 0.75


def test_bytes_of_a_log_that_took_the_place_of_another_are_its_own(tmp_path: Path) -> None:
    """Who reads a workflow anew, because its log was exchanged, reports what he read of the new one."""
    document = DocumentId("workflow", "w")
    with waypost.open(tmp_path / "s") as wp, waypost.open(tmp_path / "s") as other:
        wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
        assert other.load_workflow_state("w").performance.bytes_read > 300
        for number in range(40):
            wp.update_context("w", variables={"x": number}).unwrap()
        store: Any = wp.definitions.store
        assert upkeep.compact(store._document(document), store._context)
        performance = other.load_workflow_state("w").performance
        length = wp.definitions.store.log_bytes(document)
    assert 300 < performance.bytes_read < 2 * length
    assert other.get_performance_metrics().cache_hit_rate == 0


def test_loads_of_every_store_are_hits_once_it_is_held(wp: Waypost) -> None:
    """The workflow that was made here is in memory, and one that is not there is no load."""
    assert wp.get_performance_metrics().cache_hit_rate is None
    wp.create_workflow("w", "W").unwrap()
    wp.load_workflow_state("w").unwrap()
    assert not wp.load_workflow_state("v")
    before = wp.get_performance_metrics().cache_hit_rate
    wp.load_workflow_state("w").unwrap()
    assert before in (0, 1)
    assert wp.get_performance_metrics().cache_hit_rate in (0.5, 1)


TAKING = """
import waypost

with waypost.open("memory:") as wp:
    before = wp.get_performance_metrics().memory_usage_bytes
    taken = bytearray(b"x" * (64 << 20))
    print(wp.get_performance_metrics().memory_usage_bytes - before)
"""


def test_memory_is_that_of_the_process() -> None:
    """What is resident grows by what the process takes, and is not the figure of an option. In a process of its own,
    since tests before this one may have left memory that is given back at any time.
    """
    done = subprocess.run([sys.executable, "-c", TAKING], capture_output=True, text=True, timeout=60, check=True)
    assert 32 << 20 < int(done.stdout) < 96 << 20


def test_memory_is_told_where_the_system_has_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is the most that there was, in bytes."""

    def refuse(*_: object) -> object:
        raise FileNotFoundError

    now = clock.resident_bytes()
    monkeypatch.setattr("builtins.open", refuse)
    assert clock.resident_bytes() >= now * 0.9


@pytest.mark.parametrize("window_s", BAD, ids=repr)
def test_a_window_is_from_a_second_to_ten_minutes(wp: Waypost, window_s: object) -> None:
    """Any other is refused, and the error says what is taken."""
    with pytest.raises(InvalidInput, match="from 1 to 600"):
        wp.get_performance_metrics(window_s)  # type: ignore[arg-type]


def test_the_series_is_for_charts(time: Clock, opened: Opened) -> None:
    """One point for each five seconds, oldest first, with time, rate, failures and p95; at most ten minutes."""
    wp = opened()
    count(wp, 3)
    time.pass_by(7)
    count(wp, 5, code="refused")
    series = wp.get_performance_metrics(1).series
    assert [(each.count, each.failures, each.p95_ms, each.seconds) for each in series] == [(1, 0, 3, 5), (1, 1, 5, 2)]
    assert (series[0].operations_per_second, series[1].operations_per_second) == (1 / 5, 1 / 2)
    assert (series[1].start - series[0].start).total_seconds() == pytest.approx(5, abs=0.01)
    assert abs(clock.to_us(series[0].start) + 7_000_000 - clock.now_us()) < 5_000_000
    time.pass_by(100_000)
    assert len(wp.get_performance_metrics().series) == 120


def test_the_wait_of_the_clock_is_the_window(time: Clock, opened: Opened) -> None:
    """A longer window holds more, and says what it covers."""
    wp = opened()
    for _ in range(40):
        count(wp, 1)
        time.pass_by(10)
    found = {asked: wp.get_performance_metrics(asked) for asked in (1, 60, 600)}
    assert [each.count for each in found.values()] == [0, 6, 40]
    assert [each.window_s for each in found.values()] == [5, 60, 400]
    assert time.now_ns == 1_400 * SECOND


def test_the_examples_of_the_page_run_as_they_stand(tmp_path: Path) -> None:
    """Each Python example of docs/monitoring.md works in an empty directory, one after the other."""
    assert len(EXAMPLES) == 2
    for example in EXAMPLES:
        command = [sys.executable, "-W", "error", "-c", example]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
