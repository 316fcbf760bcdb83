"""A process that is killed at any call, or in the middle of any write, loses nothing that was acknowledged."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.crash.faults import Call, fail_at, kill_at, no_fault, tear_at
from tests.crash.sweeps import (
    Bench,
    bench,
    count_calls,
    examine,
    numbered,
    play,
    play_in_child,
    write_beside,
)
from tests.crash.workloads import ALL, WORKLOADS, Workload
from tests.totals import RING, Totals, ring_size

CHANGING = frozenset(
    {"pwrite", "ftruncate", "fdatasync", "fsync", "rename", "link", "unlink", "mkdir", "chmod", "fchmod"}
)
"""A lock goes with its holder: where one is taken or given back the disk is as at the next of these calls."""
SEED = 5


def is_worth_a_kill(call: Call) -> bool:
    """In the ring of a commit: calls that change what others see. Before any other the disk is as it was before."""
    return RING == "N" or call.name in CHANGING or (call.name == "open" and bool(call.args[1] & os.O_CREAT))


def tears_of(call: Call) -> list[int]:
    """Where a write is torn: within its magic, its header, its middle, and before its last byte."""
    length = len(call.args[1])
    return sorted({1, 6, 139, length // 2, length - 1} & set(range(1, length)))


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_trap_02_t01_d01_a_kill_at_any_call_loses_nothing(workload: Workload, totals: Totals) -> None:
    """SIGKILL before each call of each operation, on a new and on a used store."""
    with bench() as place:
        shim = count_calls(place, workload)
        step = ring_size(9, 1)
        numbers = numbered(shim, is_worth_a_kill)[WORKLOADS.index(workload) % step :: step]
        points = [*workload.some(numbers), len(shim.trace) + 1]
        for point in points:
            with place.broken(workload) as path:
                ended = play_in_child(workload, path, kill_at(point))
                assert ended.killed == (point <= len(shim.trace)), ended
                examine(workload, path, ended.told, f"killed at call {point}", killed=True)
        totals("kill points", len(points))


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_trap_02_t01_d05_a_kill_in_the_middle_of_any_write_loses_nothing(workload: Workload, totals: Totals) -> None:
    """SIGKILL when a part of a write is on disk: a torn tail that the next writer clears."""
    with bench() as place:
        shim = count_calls(place, workload)
        points = [(call.number, taken) for call in shim.trace if call.name == "pwrite" for taken in tears_of(call)]
        chosen = random.Random(SEED).sample(points, min(len(points), ring_size(max(1, 3 // workload.share), 10_000)))
        for number, taken in chosen:
            with place.broken(workload) as path:
                ended = play_in_child(workload, path, tear_at(number, taken))
                assert ended.killed, ended
                examine(workload, path, ended.told, f"killed in call {number} after {taken} bytes", killed=True)
        totals("kill points", len(chosen))


RECOVERED = [each for each in WORKLOADS if not each.name.endswith("-new_store")]


@pytest.mark.parametrize("workload", RECOVERED, ids=lambda workload: workload.name)
def test_q07_d14_a_fault_while_recovering_from_a_kill_loses_nothing(workload: Workload, totals: Totals) -> None:
    """The recovery from a torn write is killed at each of its calls, or told of errors; the next one recovers."""
    with bench() as place:
        writes = [call for call in count_calls(place, workload).trace if call.name == "pwrite"]
        for call in random.Random(SEED).sample(writes, min(len(writes), ring_size(1, 4))):
            torn = place.copy(workload)
            first = play_in_child(workload, torn, tear_at(call.number, len(call.args[1]) // 2))
            assert first.killed, first
            points, met = _break_recoveries(place, workload, torn, first.told)
            totals("kill points", points)
            totals("faults", met)


def _break_recoveries(place: Bench, workload: Workload, torn: Path, lines: list[str]) -> tuple[int, int]:
    recovery = Workload("recovery", write_beside, options=workload.options, phases=ALL)
    with place.again(torn) as path:
        trace = play(recovery, path, no_fault, _nobody).trace
    points = [call.number for call in trace if is_worth_a_kill(call)][:: ring_size(13, 1)]
    for point in workload.some(points):
        with place.again(torn) as path:
            ended = play_in_child(recovery, path, kill_at(point))
            assert ended.killed, ended
            examine(workload, path, lines + ended.told, f"recovery killed at call {point}")
    wanted = ring_size(max(1, 3 // workload.share), len(trace))
    turns = random.Random(SEED).sample(trace, min(len(trace), wanted))
    for turn, call in enumerate(turns):
        kind, onwards = ("EIO", "ENOSPC", "ENOMEM")[turn % 3], bool(turn % 2)
        with place.again(torn) as path:
            told: list[str] = []
            play(recovery, path, fail_at(call.number, kind, onwards=onwards, any_call=True), told.append)
            examine(workload, path, lines + told, f"recovery met {kind} at call {call.number}, onwards: {onwards}")
    return len(workload.some(points)), len(turns)


def _nobody(_: str) -> None:
    pass
