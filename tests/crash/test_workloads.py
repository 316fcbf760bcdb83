"""The sweeps leave no write operation and no system call out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from inspect import signature
from pathlib import Path

import pytest

from tests.crash.runs import Run
from tests.crash.sweeps import bench, count_calls, model
from tests.crash.workloads import WORKLOADS, Workload
from waypost.definitions import Definitions

SAMPLE = (
    "make_a_store",
    "open_after_a_torn_tail",
    "compact-used_store",
    "add_a_large_output-new_store",
    "transact_over_three",
    "open_a_half_decided_store",
)


def test_q06_every_write_operation_has_a_workload() -> None:
    """A public operation that takes an operation id is done by some workload."""
    writes = {name for name in dir(Definitions) if callable(getattr(Definitions, name)) and name[0] != "_"}
    writes = {name for name in writes if "operation_id" in signature(getattr(Definitions, name)).parameters}
    writes |= {"transact"}  # it is defined apart, and attached to each face
    writes |= {"resume_session", "detect_and_recover_crashed_sessions"}  # commits that no caller names
    done: set[str] = set()
    for workload in WORKLOADS:
        run = Run(model(workload)[1], workload.options)
        workload.act(run)
        done |= run.operations
    assert writes - {"get_outcome"} - done == set()


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_t21_a_workload_makes_the_same_calls_each_time(workload: Workload) -> None:
    """What a sweep counts once holds for each of its runs, and something is written."""
    with bench() as place:
        first, second = ([call.name for call in count_calls(place, workload).trace] for _ in range(2))
        assert first == second
        assert first


# --- the shim's count and the kernel's ------------------------------------------------------------

KERNEL_NAMES = {
    "open": ("openat",),
    "pwrite": ("pwrite64",),
    "pread": ("pread64",),
    "ftruncate": ("ftruncate",),
    "fdatasync": ("fdatasync",),
    "fsync": ("fsync",),
    "flock": ("flock",),
    "rename": ("rename", "renameat", "renameat2"),
    "link": ("link", "linkat"),
    "unlink": ("unlink", "unlinkat"),
    "mkdir": ("mkdir", "mkdirat"),
    "chmod": ("chmod", "fchmodat", "fchmodat2"),
    "fchmod": ("fchmod",),
}
COUNT = """
import dataclasses, sys
from pathlib import Path
from tests.crash.faults import no_fault
from tests.crash.sweeps import play, standing_still
from tests.crash.workloads import ALL, WORKLOADS
from waypost.store.directory import layout
workload = next(each for each in WORKLOADS if each.name == sys.argv[1])
layout.sync_above = lambda path: None  # strace is asked for what is in the store
with standing_still():
    shim = play(dataclasses.replace(workload, phases=ALL), Path(sys.argv[2]), no_fault, lambda line: None)
print(",".join(call.name for call in shim.trace))
"""


def _counted_by_strace(trace: Path, place: Path) -> Counter[str]:
    """Calls that name a place or a descriptor into it."""
    calls = [re.match(r"(?:\d+ +)?(\w+)\(", line) for line in trace.read_text().splitlines() if str(place) in line]
    return Counter(found[1] for found in calls if found)


@pytest.mark.skipif(not shutil.which("strace") and not os.environ.get("CI"), reason="needs strace")
@pytest.mark.parametrize("name", SAMPLE)
def test_q08_the_kernel_is_asked_for_what_the_shim_counts_and_nothing_else(name: str, tmp_path: Path) -> None:
    """Each call of the storage core goes through the shim: strace counts as many of each name."""
    workload = next(each for each in WORKLOADS if each.name == name)
    trace = tmp_path / "trace"
    interpreter = subprocess.check_output(
        [sys.executable, "-c", "import sys; print(sys.executable)"], text=True
    ).strip()
    with bench() as place:
        path = place.copy(workload)
        told = subprocess.run(
            ["strace", "-f", "-qq", "-y", "-s", "8", "-o", str(trace), interpreter, "-c", COUNT, name, str(path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])},
            cwd=Path(__file__).parents[2],
            check=True,
            capture_output=True,
            text=True,
        )
        shim = Counter(told.stdout.strip().split(","))
        kernel = _counted_by_strace(trace, place.root)
    for called, names in KERNEL_NAMES.items():
        assert sum(kernel[each] for each in names) == shim[called], f"{called}: strace {kernel}, shim {shim}"
    assert shim["pwrite"]
    assert not kernel.keys() & {"write", "writev", "pwritev", "pwritev2", "mmap", "sendfile", "fallocate", "truncate"}
