"""A session moves in little memory, however large it is: what is held is a piece, and what tells of all pieces."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.totals import RING

MEGABYTES = 1024 if RING == "N" else 200
MOST_MEGABYTES = 64
PROGRAM = """
import gc, random, resource, sys
from pathlib import Path
import waypost

class Random:
    def __init__(self, seed, length):
        self.rng, self.left = random.Random(seed), length
    def read(self, size=-1):
        size = min(self.left, 1 << 20 if size < 0 else size)
        self.left -= size
        return self.rng.randbytes(size)

def most():
    return int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line).split()[1])

def begin():
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return most()

act, place, megabytes = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
config = {"performance": {"max_file_size": 2 * megabytes}}
told = []
with waypost.open(place / ("source" if act != "import" else "target"), config=config) as wp:
    if act == "fill":
        wp.start_session(session_id="s")
        for name, share in (("one", 2), ("two", 4), ("three", 8)):
            wp.create_workflow(name, name, steps=["a", "b"]).unwrap()
            wp.add_step_output(name, "a", Random(name, (megabytes << 20) // share)).unwrap()
            wp.create_checkpoint(name).unwrap()
        for number in range(megabytes // 8):
            wp.add_step_output("three", "b", random.Random(number).randbytes(1 << 20)).unwrap()
    else:
        before = begin()
        if act == "export":
            report = wp.export_session("s", place / "file", progress=lambda done, of: told.append(done / of))
            assert report.size_bytes > megabytes << 20, report
        else:
            wp.import_session(place / "file", progress=lambda done, of: told.append(done / of)).unwrap()
        print((most() - before) // 1024)
        assert len(told) > megabytes / 4 and 0 < told[0] < told[-1] <= 1
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel is asked how much memory was held at most")
@pytest.mark.timeout(900)
def test_trap_29_a_large_session_moves_in_64_mib(tmp_path: Path) -> None:
    """Exported to a file and imported from it, each in a process of its own, with progress all the way."""
    taken: dict[str, int] = {}
    for act in ("fill", "export", "import"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, act, str(tmp_path), str(MEGABYTES)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": "src"},
        )
        assert done.returncode == 0, done.stderr
        if act != "fill":
            taken[act] = int(done.stdout)
    print(f"{MEGABYTES} MiB: {taken}")
    assert max(taken.values()) <= MOST_MEGABYTES, taken
