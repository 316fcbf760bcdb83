"""Writes that the system takes only in part, at every byte of every kind of frame."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crash.faults import Call, Fault, Shim, installed, short_write
from tests.crash.runs import LARGE, Run, frequent_snapshots, handle, open_store
from tests.crash.session_acts import start_a_session
from tests.crash.sweeps import Told, bench, count_calls, examine, play
from tests.crash.workloads import CLOSE, Act, Workload, change_agent_and_context, log_end, new_store, used_store
from tests.totals import Totals, ring_size

MOST = ring_size(4096, 1 << 20)
"""How far into a frame writes are cut."""


def commit(run: Run) -> None:
    run.write("update_context", "wf", variables={"short": "a text of some length " * 6})


def commit_with_blocks(run: Run) -> None:
    run.write("add_step_output", "wf", "a", LARGE)


def file_and_first_commit(run: Run) -> None:
    run.write("create_workflow", "made", "Made", None, ["a", "b"])


def snapshot(run: Run) -> None:
    with frequent_snapshots():
        run.upkeep("snapshot")


def commit_and_take_a_snapshot(run: Run) -> None:
    commit(run)
    snapshot(run)


class Cut:
    """Once armed, the first write takes so many bytes and every other none, until it is armed anew."""

    def __init__(self) -> None:
        self.taken: int | None = None
        self.skipped = 0
        self.lengths: list[int] = []

    def arm(self, taken: int | None, *, after: int = 0) -> None:
        self.taken, self.skipped, self.lengths = taken, after, []

    def __call__(self, call: Call) -> int | None:
        if call.name != "pwrite":
            return None
        descriptor, data, offset = call.args
        self.lengths.append(len(data))
        if self.taken is None or len(self.lengths) <= self.skipped:
            return None
        taken, self.taken = self.taken, 0
        if taken:
            return os.pwrite(descriptor, bytes(data)[:taken], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Warm(NamedTuple):
    """A store that stays open while write after write is cut."""

    path: Path
    run: Run
    cut: Cut
    told: list[str]

    def contents(self) -> dict[str, bytes]:
        """Every file, logs without their fill."""
        files = (entry for entry in self.path.rglob("*") if entry.is_file() and entry.stat().st_size)
        return {str(entry): entry.read_bytes().rstrip(b"\0") for entry in files}

    def arm(self, taken: int | None, *, after: int = 0) -> None:
        """Cut the write behind so many others."""
        self.run.shim.trace.clear()
        self.cut.arm(taken, after=after)

    def length(self, name: str) -> int:
        """Where the last frame of a log ends."""
        log = self.path / "workflows" / name
        return log_end(log.read_bytes()) if log.exists() else 0


@contextmanager
def warm(workload: Workload) -> Iterator[Warm]:
    """A store in the condition of a workload, open and written to, whose writes can be cut."""
    with bench() as place, place.broken(workload) as path:
        store, told, cut = open_store(path, workload.options), list[str](), Cut()
        run = Run(handle(store, workload.options), workload.options, path=path, shim=Shim(cut), tell=told.append)
        try:
            with installed(run.shim):
                change_agent_and_context(run)
                assert told.count("acknowledged act-1") == 1, told
                with run.shim.active():
                    yield Warm(path, run, cut, told)
        finally:
            store.close()
        examine(workload, path, told, "after all short writes")


def _changed_first(act: Act) -> Act:
    """What makes a store warm, then the write that is cut until at last it is not."""

    def both(run: Run) -> None:
        change_agent_and_context(run)
        run.group("cut")
        act(run)

    return both


@pytest.mark.parametrize("act", [commit, commit_with_blocks, file_and_first_commit, snapshot], ids=lambda a: a.__name__)
def test_t07_d05_a_write_cut_at_any_byte_leaves_the_log_as_it_was(act: Act, totals: Totals) -> None:
    """The same handle is told of a full disk at each byte of a frame: each time the file is as before, to the byte, and
    at last the write is made. The first frame of a new log stays where it came whole.
    """
    name = "made.state" if act is file_and_first_commit else "wf.state"
    with warm(Workload(act.__name__, _changed_first(act), used_store)) as at:
        taken, length, cuts = 0, 1, 0
        before, start = at.contents(), at.length(name)
        while taken < min(length, MOST):
            at.run.group("cut")
            at.arm(taken)
            act(at.run)
            length, taken, cuts = at.cut.lengths[-1], taken + 1, cuts + 1
            now, end = at.contents(), at.length(name)
            if end > start and act is file_and_first_commit:
                made = str(at.path / "workflows" / name)
                assert before.keys() | {made} == now.keys() and os.path.getsize(made) == end
                before, start, taken, cuts = now, end, 0, cuts + 1
                at.run.group("cut")
                at.arm(0, after=1)  # that frame is written again before the first that follows it
                act(at.run)
            assert now == before, f"cut at byte {taken} of a frame"
        assert at.cut.lengths, "nothing was written"
        assert len([line for line in at.told if "ENOSPC" in line]) == cuts, at.told[-3:]
        at.told[:] = [line for line in at.told if " cut-" not in line]
        at.run.group("cut")
        at.arm(None)
        act(at.run)
        assert at.length(name) - start == length
    totals("short writes", taken)


ROOM = (0, 1, 4096, 30_000)


def _commits_with_room(run: Run) -> None:
    change_agent_and_context(run)
    for room in ROOM:
        run.group(f"room{room}")
        commit(run)


def test_t07_d20_fill_that_comes_short_fails_no_commit(totals: Totals) -> None:
    """Where there is room for the frame, though not for all of the zeros ahead, the commit is made."""
    with warm(Workload("fill", _commits_with_room, used_store)) as at:
        for room in ROOM:
            os.truncate(at.path / "workflows" / "wf.state", at.length("wf.state"))
            at.run.group(f"room{room}")
            at.arm(0)
            commit(at.run)
            filled, length = at.cut.lengths
            assert length < filled
            assert at.told.pop().startswith("rolled_back")
            at.run.group(f"room{room}")
            at.arm(length + room)
            commit(at.run)
            assert at.told[-1] == f"acknowledged room{room}-1"
    totals("short writes", 2 * len(ROOM))


def test_t07_d13_a_compaction_cut_at_any_byte_leaves_the_old_log(totals: Totals) -> None:
    """Each frame that a compaction writes (file, data, commits, snapshots) is cut: the old log stands, alone."""
    with warm(Workload("compaction", _changed_first(lambda run: run.upkeep("compact")), used_store)) as at:
        lengths = _lengths_of_a_compaction(at)
        before, count = at.contents(), 0
        for number, length in enumerate(lengths):
            for taken in range(0, min(length, MOST), ring_size(23, 1)):
                at.arm(taken, after=number)
                at.run.upkeep("compact")
                assert "ENOSPC" in at.told[-1], at.told[-1]
                assert at.contents() == before, f"write {number} cut at byte {taken}"
                count += 1
        at.arm(None)
    totals("short writes", count)


def _lengths_of_a_compaction(at: Warm) -> list[int]:
    """How long the writes are that a compaction of this store makes."""
    for _ in range(2):  # the first one of all also does away with what the second does not find
        at.arm(None)
        at.run.upkeep("compact")
    return at.cut.lengths


CUT_FOR_GOOD = [
    Workload("commit", commit, used_store),
    Workload("commit_with_blocks", commit_with_blocks, used_store),
    Workload("first_commit", file_and_first_commit, used_store),
    Workload("snapshot", commit_and_take_a_snapshot, used_store),
    Workload("session", start_a_session, new_store),
    Workload("seal", change_agent_and_context, used_store, phases=CLOSE),
]


def _and_no_cut_back(number: int, taken: int) -> Fault:
    cut = short_write(number, taken)

    def fault(call: Call) -> int | None:
        if call.name == "ftruncate":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return cut(call)

    return fault


@pytest.mark.parametrize("workload", CUT_FOR_GOOD, ids=lambda workload: workload.name)
def test_t07_d06_a_write_that_came_short_and_stays_is_cleared_by_the_next_writer(
    workload: Workload, totals: Totals
) -> None:
    """When the cut back fails too, the handle writes nothing more, and the next writer clears the torn tail."""
    count = 0
    with bench() as place:
        last = [call for call in count_calls(place, workload).trace if call.name == "pwrite"][-1]
        frame = last.args[1][: log_end(last.args[1])]
        step = ring_size(max(1, min(len(frame), MOST) // 40), 1)
        for taken in range(0, min(len(frame), MOST), step):
            with place.broken(workload) as path:
                told: list[str] = []
                assert play(workload, path, _and_no_cut_back(last.number, taken), told.append).met
                assert "StorePoisoned" not in str(Told.of(told).errors), told
                examine(workload, path, told, f"cut at byte {taken} for good")
            count += 1
        assert log_end(frame) == len(frame)
        totals("short writes", count)
