"""A month of work, and a large store: nothing is leaked, and memory depends on neither how long nor how much."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.seeds import SEED
from tests.store.support import directory_store
from tests.totals import Totals, ring_size
from waypost.blocking import Waypost
from waypost.config import PRESETS
from waypost.definitions import Definitions

ROOT = Path(__file__).parents[2]
BOUND_KB = 3 * 16 * 1024
"""What the caches of two handles may hold, and half as much again, which an allocator cannot give back."""
SLACK_OBJECTS, SLACK_KB = 1_000, 256
"""Less than one object for each commit. The test itself takes so many, once all workflows were used."""
NOTHING_ASIDE = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"
"""What glibc else sets aside for a thread of the memory it freed counts as in use, some hundred KB with each thread."""
OPEN_LOG_BYTES = 64 * 1024 + 4096


def run(*arguments: object, timeout_s: float, **variables: str) -> Any:
    """What a process printed as JSON that was started with some environment variables more."""
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | variables
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=timeout_s
    )
    assert ran.returncode == 0, f"WAYPOST_TEST_SEED={SEED}\n{ran.stderr}"
    return json.loads(ran.stdout)


def grown(samples: tuple[int, ...]) -> int:
    """How much the least grew from the first half to the second: what upkeep is at comes and goes, a leak stays."""
    half = len(samples) // 2
    return min(samples[half:]) - min(samples[:half])


@pytest.mark.timeout(3600)
def test_t18_a_month_of_work_leaves_nothing_behind(tmp_path: Path, totals: Totals) -> None:
    """Two writers and many that are killed make, step, compact and delete workflows: what was told is there, and no
    descriptor, thread, lease, temporary file or memory is left; logs hold little but what is needed.
    """
    rounds = ring_size(20, 450)
    left = run("-m", "tests.crash.soaker", tmp_path / "s", SEED, rounds, timeout_s=3600, GLIBC_TUNABLES=NOTHING_ASIDE)
    seed = f"WAYPOST_TEST_SEED={SEED}"
    assert left["findings"] == [], seed
    assert left["left_open"] == 0, seed
    assert left["most_open"] <= 2 * 2 * 128 + 32, f"{seed}: two handles, 128 documents each, two descriptors for one"
    assert left["threads"] == ["MainThread"], seed
    assert left["temp"] == [] and not left["lease"], seed
    resident = left["resident_kb"]
    # the largest workflow grows all the time; what the handles keep is bounded
    assert max(resident) - resident[0] <= BOUND_KB, f"{seed}: {resident}"
    objects, larger_kb = zip(*left["at_rest"], strict=True)
    assert grown(objects) <= SLACK_OBJECTS, f"{seed}: {objects}"
    assert grown(larger_kb) <= SLACK_KB, f"{seed}: {larger_kb}"
    needed = sum(size for size, _ in left["closed"])
    assert sum(size for _, size in left["closed"]) <= needed * 1.05 + 128 * 1024, seed
    for needed, taken in left["open"]:  # of those who were killed
        assert taken <= needed + OPEN_LOG_BYTES, seed
    totals("soak commits", left["commits"])


UPDATER = """
import sys
from tests.crash.test_soak import opened
store, wp = opened(sys.argv[1])
wp.update_step_status("large", "s0", "running").unwrap()
wp.update_step_status("large", "s0", "completed", {"n": 1}).unwrap()
assert wp.load_workflow_state("large").unwrap().step("s0").output["n"] == 1
store.close()
with open("/proc/self/status") as status:  # ru_maxrss is inherited from who started it
    print(next(row.split()[1] for row in status if row.startswith("VmHWM")))
"""


def opened(path: Path | str, **options: Any) -> tuple[Any, Waypost]:
    store = directory_store(path, max_file_size=2000, **options)
    return store, Waypost(Definitions(store, PRESETS["production"], verbose=False))


def make_large(path: Path, megabytes: int) -> None:
    """A store of so many megabytes, half of them in one workflow of many versions of a large output."""
    rng = random.Random(7)
    store, wp = opened(path, enable_wal=False)
    wp.create_workflow("large", "large", steps=["s0", "s1"]).unwrap()
    for number in range(megabytes // 2):
        wp.add_step_output("large", "s1", rng.randbytes(1 << 20)).unwrap()
        if number % 10 == 0:
            wp.create_workflow(f"w{number}", "w", steps=["s0"]).unwrap()
        wp.add_step_output(f"w{number // 10 * 10}", "s0", rng.randbytes(1 << 20)).unwrap()
    store.close()


@pytest.mark.timeout(1200)
def test_trap_29_x27_a_large_store_takes_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    """One step of the largest workflow is updated within 64 MB, and within 8 MB of what that takes in a small store."""
    peaks: list[int] = []
    for megabytes in (2, ring_size(100, 1024)):
        make_large(tmp_path / f"{megabytes}", megabytes)
        peaks.append(run("-c", UPDATER, tmp_path / f"{megabytes}", timeout_s=600) // 1024)
    assert peaks[1] <= 64 and peaks[1] <= peaks[0] + 8, peaks
