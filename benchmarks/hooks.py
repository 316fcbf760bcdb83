"""Row 9: an event that is handed over by the hook script, from the start of the process to its end.

The floor is a bare interpreter that does nothing, started in the same way and with the same flags, and then, in a
process that runs already, what no durable file can do without: it is made, written, synced, and so is its directory.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks import removals
from benchmarks.bench import Bench
from benchmarks.figures import Measure
from waypost.bench.floor import sync_full
from waypost.bench.goals import Goal
from waypost.bench.turns import Turn, take_turns
from waypost.hooks import spool

MOST_MS = 5.0
EVENT = (
    b'{"session_id": "5f0c", "hook_event_name": "PostToolUse", "tool_name": "Bash", "tool_input": {"command": "ls"}}'
)
_UNCOUNTED = 2
"""Runs before the first turn: the first one of all writes the interpreter's cache."""


def measure(bench: Bench) -> None:
    count = bench.scale.hooks
    bench.say(f"row 9: {bench.scale.rounds} times {count} hooks")
    folder, raw = bench.place("hooks", "spool"), bench.place("hooks", "raw")
    os.mkdir(raw)
    directory = os.open(raw, os.O_RDONLY | os.O_DIRECTORY)
    python = [_interpreter(), "-I", "-S"]
    of_hook = python[:1] if removals.is_removed("bare-interpreter") else python
    script = [*of_hook, spool.script_path(), "--spool", folder]

    def hook() -> None:
        _start(script)

    def floor() -> None:
        _start([*python, "-c", "pass"])
        _store(directory)

    for _ in range(_UNCOUNTED):
        hook()
        floor()
    lanes = take_turns(
        bench.scale.rounds, [("ours", lambda: _turn(hook, count)), ("floor", lambda: _turn(floor, count))]
    )
    os.close(directory)
    ours, bare = lanes["ours"], lanes["floor"]
    bench.findings.measures.append(Measure(9, "hook, process start to exit", "time", ours, bare, None))
    over = [one - other for one, other in zip(ours.round_medians(), bare.round_medians(), strict=True)]
    name = "hook, over a bare interpreter and its syncs"
    bench.findings.goals.append(Goal(9, name, "at most", MOST_MS, " ms", statistics.median(over) / 1000))


def _interpreter() -> str:
    """The interpreter itself: that of an environment looks for it first."""
    return str(getattr(sys, "_base_executable", sys.executable))


def _start(command: list[str]) -> None:
    subprocess.run(command, input=EVENT, check=True, env={"PATH": os.environ.get("PATH", "")})


def _store(directory: int) -> None:
    """Make an event's bytes durable, with as few calls as that takes."""
    name = os.urandom(8).hex()
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
    os.pwrite(file, EVENT, 0)
    sync_full(file)
    sync_full(directory)
    os.close(file)


def _turn(act: Callable[[], None], count: int) -> Turn:
    latencies: list[int] = []
    for _ in range(count):
        started = time.perf_counter_ns()
        act()
        latencies.append(time.perf_counter_ns() - started)
    return Turn.of([{"latencies_ns": latencies}])
