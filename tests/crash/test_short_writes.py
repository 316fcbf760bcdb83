"""Writes that the system takes only in part, at every byte of every kind of frame."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crash.faults import Call, Shim, installed
from tests.crash.sweeps import Bench, Told, bench, examine, play, write_beside
from tests.crash.workloads import (
    ALL,
    CLOSE,
    LARGE,
    WF,
    Act,
    Run,
    Workload,
    add_a_large_output,
    frequent_snapshots,
    handle,
    make_the_first,
    new_store,
    no_store,
    open_store,
    used_store,
)
from tests.totals import Totals, ring_size
from waypost.errors import StorePoisoned, WaypostError
from waypost.store.directory import upkeep

MOST = ring_size(4096, 1 << 20)
"""How far into a frame writes are cut."""


class Kind(NamedTuple):
    """A kind of frame: what writes it, and which of the writes it is that are made then."""

    name: str
    act: Act
    prepare: Act = used_store
    write: int = 1
    longest: int = 12_000


def small_commit(run: Run) -> None:
    run.write("update_context", "wf", variables={"short": "a text of some length " * 6})


def commit_with_blocks(run: Run) -> None:
    run.write("add_step_output", "wf", "a", LARGE)


def first_commit(run: Run) -> None:
    run.write("create_workflow", "made", "Made", None, ["a", "b"])


def snapshot(run: Run) -> None:
    with frequent_snapshots():
        run.upkeep("snapshot")


APPENDED = [
    Kind("commit", small_commit),
    Kind("commit_with_blocks", commit_with_blocks),
    Kind("file_and_first_commit", first_commit),
    Kind("snapshot", snapshot),
]


class Cut:
    """Every write but the first comes to nothing, and the first takes so many bytes."""

    def __init__(self) -> None:
        self.taken: int | None = None
        self.lengths: list[int] = []
        self.code = errno.ENOSPC

    def __call__(self, call: Call) -> int | None:
        if call.name != "pwrite":
            return None
        descriptor, data, offset = call.args
        if self.taken is None:
            self.lengths.append(len(bytes(data)))
            return None
        taken, self.taken = self.taken, 0
        if taken:
            return os.pwrite(descriptor, bytes(data)[:taken], offset)
        raise OSError(self.code, os.strerror(self.code))


def contents(path: Path) -> dict[str, bytes]:
    """Every file of a store, without the fill of logs."""
    return {
        str(entry.relative_to(path)): entry.read_bytes().rstrip(b"\0")
        for entry in sorted(path.rglob("*"))
        if entry.is_file()
    }
