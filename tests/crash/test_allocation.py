"""Memory runs out at the n-th allocation of an operation: MemoryError or a documented error, and no damage."""

from __future__ import annotations

import faulthandler
import importlib
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.crash.faults import Shim, Tell, in_child, installed, no_fault
from tests.crash.runs import Run, handle, open_store
from tests.crash.session_acts import go_on_when_paused, paused_store
from tests.crash.sweeps import FOR_SEQUENCES, FOR_STORES, Bench, Told, bench, check_errors, examine, play, write_beside
from tests.crash.workloads import (
    Workload,
    add_a_large_output,
    compact,
    create_workflow,
    new_store,
    start_and_complete_a_step,
    take_a_snapshot,
    used_store,
)
from tests.totals import Totals, ring_size

SEED = 19
STARVED = [
    Workload("step", start_and_complete_a_step, used_store),
    Workload("large", add_a_large_output, used_store),
    Workload("first", create_workflow, new_store),
    Workload("snapshot", take_a_snapshot, used_store),
    Workload("compaction", compact, used_store),
    Workload("resumption", go_on_when_paused, paused_store),
]
CRASHED = frozenset({-signal.SIGSEGV, -signal.SIGABRT})
"""Modules in C that do not look whether they were given memory, or free it twice: to the store this is a kill."""
MOST_ALLOCATIONS = 1 << 20
WIDE = 50
"""How many allocations fail in a row, in every second case. Without any memory at all CPython 3.11 never gets out of a
`with` block.
"""


def _testcapi() -> Any:
    try:
        module = importlib.import_module("_testcapi")
    except ImportError:
        pytest.skip("this interpreter comes without _testcapi, which makes allocations fail")
    return module


def _starve(workload: Workload, path: Path, capi: Any, number: int, width: int, tell: Tell) -> None:
    """In a child: from the n-th allocation on so many fail; then the same handle goes on, with memory again."""
    faulthandler.disable()
    store = open_store(path, workload.options)
    lines: list[str] = []
    run = Run(handle(store, workload.options), workload.options, path=path, tell=lines.append)
    fail, stop = capi.set_nomemory, capi.remove_mem_hooks
    starved = False
    fail(number, number + width)
    try:
        workload.act(run)
    except MemoryError:
        starved = True
    except RuntimeError as error:
        starved = str(error) in ("can't allocate lock", "can't allocate read lock")  # what CPython says of it
        if not starved:
            raise
    finally:
        stop()
    for line in lines:
        tell(line)
    if starved:
        tell("starved")
    run.tell = tell
    with installed(Shim()):
        write_beside(run)
    store.close()


def _allocations(place: Bench, workload: Workload, capi: Any) -> int:
    """How many allocations a workload makes: below it one of them fails, above it none does."""
    low, high = 1, MOST_ALLOCATIONS
    while low < high:
        middle = (low + high) // 2
        with place.broken(workload) as path:
            ended = in_child(lambda tell, path=path, middle=middle: _starve(workload, path, capi, middle, WIDE, tell))
        failed = ended.status != 0 or "starved" in ended.told or bool(Told.of(ended.told).errors)
        low, high = (middle + 1, high) if failed else (low, middle)
    return low


def _attempts(place: Bench, workload: Workload) -> list[str]:
    """What the workload tells that it tries."""
    told: list[str] = []
    with place.broken(workload) as path:
        play(workload, path, no_fault, told.append)
    return [line for line in told if line.startswith("attempt")]


@pytest.mark.parametrize("workload", STARVED, ids=lambda workload: workload.name)
def test_t19_an_allocation_that_fails_harms_nothing(workload: Workload, totals: Totals) -> None:
    """The same handle goes on with memory again; all that was acknowledged is there; nothing is said wrongly."""
    capi = _testcapi()
    with bench() as place:
        most = _allocations(place, workload, capi)
        attempts = _attempts(place, workload)
        numbers = random.Random(SEED).sample(range(1, most), min(most - 1, ring_size(84, 4000)))
        hit = 0
        for turn, number in enumerate(numbers):
            with place.broken(workload) as path:
                where = (
                    f"allocation {number} of {most} fails{f', and {WIDE - 1} more' if turn % 2 else ''}; seed {SEED}"
                )
                ended = in_child(
                    lambda tell, path=path, number=number, turn=turn: _starve(
                        workload, path, capi, number, WIDE if turn % 2 else 1, tell
                    )
                )
                hit += ended.status in CRASHED or "starved" in ended.told
                if ended.status in CRASHED:  # it told nothing, so each write may be there or not
                    examine(workload, path, attempts, where, killed=True)
                    continue
                assert ended.status == 0, f"{where}\n" + "\n".join(ended.told)
                told = Told.of(ended.told)
                check_errors(told, FOR_STORES | FOR_SEQUENCES)
                assert "beside-1" in told.acknowledged, where
                examine(workload, path, ended.told, where)
        assert hit > len(numbers) // 10
        totals("faults", len(numbers))
