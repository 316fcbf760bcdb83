"""What it costs a write and its sync that somebody has asked for the file's times before: `store/directory/statx.py`.

    python -m tools.times_asked [DIRECTORY]

prints the median of a write into a file that was written before, with its sync, behind a question by `statx` for number
and length, and behind one by `stat`, which asks for the times as well. Both take turns.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

from waypost.store.directory import statx

WRITES, ROUNDS, FRAME = 200, 10, b"x" * 700
_ROOM = 1 << 20


def measure(place: str) -> dict[str, float]:
    """Microseconds of a write with its sync, by what was asked before it."""
    statx.load()
    with tempfile.TemporaryDirectory(dir=place) as folder:
        directory = os.open(folder, os.O_RDONLY)
        descriptor = os.open("file", os.O_CREAT | os.O_RDWR, 0o600, dir_fd=directory)
        os.pwrite(descriptor, bytes(_ROOM), 0)
        os.fsync(descriptor)
        questions: dict[str, Callable[..., object]] = {"statx": statx.stat, "stat": os.stat}
        taken: dict[str, list[int]] = {name: [] for name in questions}
        for _ in range(ROUNDS):
            for name, ask in questions.items():
                for number in range(WRITES):
                    ask("file", dir_fd=directory, follow_symlinks=False)
                    began = time.perf_counter_ns()
                    os.pwrite(descriptor, FRAME, number * len(FRAME))
                    os.fdatasync(descriptor)
                    taken[name].append(time.perf_counter_ns() - began)
        os.close(descriptor)
        os.close(directory)
    return {name: statistics.median(each) / 1000 for name, each in taken.items()}


def main(words: list[str]) -> int:
    found = measure(words[0] if words else ".")
    print(f"behind statx {found['statx']:.1f} us, behind stat {found['stat']:.1f} us")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
