"""Measure a disk and Waypost on it, in rounds: in each, every engine has a turn, and the raw sync two.

Times are those of single operations, one caller; rates are of commits in a window of time, of which a step takes three:
reset, running, completed. As by default completing a step makes a checkpoint, except where an update alone is said.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from waypost.bench import devices, trial
from waypost.bench.crew import HEAD_START, Crew, Worker, WorkerFailed, ask_all, turn_of_all
from waypost.bench.devices import Device
from waypost.bench.goals import AT_MOST_OF_ALONE, AT_MOST_OF_FLOOR, STEPS, Goal
from waypost.bench.turns import Lane, Order, Turn, take_turns, times_as_long, times_the_rate
from waypost.bench.verdict import MUCH_BYTES, Evidence
from waypost.errors import StoreUnavailable

THREADS = 8
_WORKFLOW = "measured"
_TURNS = 10
"""Turns of a round that last for a window of time."""
_PROBES, _FLOODS = 20, 3
_LEAST_WINDOW_S = 0.02
_ROUND_S, _MOST_ROUNDS = 4.0, 10
_CALIBRATING = 10


@dataclass(frozen=True)
class Row:
    """One line of what was measured. `to_floor` is how many times as long as the raw sync an operation takes, or for
    rates how many times its rate; None where there is nothing to compare.
    """

    key: str
    name: str
    lane: Lane
    to_floor: float | None = None
    goal: Goal | None = None

    @property
    def per_second(self) -> float:
        """Operations per second: of all callers together where that was measured."""
        if self.lane.rounds[0][0].rates:
            return self.lane.rate
        return 1e6 / fmean(self.lane.latencies_us)


@dataclass(frozen=True)
class Found:
    """All that a run has found; `folder` is where it lay, and is gone."""

    folder: str
    device: Device
    rounds: int
    seconds: float
    frame_bytes: int
    rows: list[Row]
    evidence: Evidence


def measure(place: str, seconds: float, steps: int = STEPS) -> Found:
    """Measure in a directory, for about so many seconds; a workflow has so many steps.

    Raises StoreUnavailable where the directory cannot be written to or is too full.
    """
    began = time.monotonic()
    with trial.folder_in(place) as folder:
        device = devices.look(folder)
        try:
            with Crew() as crew:
                team = _Team(crew, folder, steps)
                rounds = round(min(_MOST_ROUNDS, max(2, seconds / _ROUND_S)))
                take_turns(1, team.order(_LEAST_WINDOW_S))  # to warm up
                left = seconds - (time.monotonic() - began)
                lanes = take_turns(rounds, team.order(max(_LEAST_WINDOW_S, left / (rounds * _TURNS) - HEAD_START)))
        except WorkerFailed as error:
            why = str(error).strip().splitlines()[-1]
            raise StoreUnavailable(f"measuring in {place} went wrong: {why}", location=place) from error
    rows = _rows(lanes, steps, has_goals=device.kind != "memory")
    evidence = _evidence(device, lanes, rows, team.durability)
    return Found(folder, device, rounds, time.monotonic() - began, team.frame, rows, evidence)


class _Team:
    """The processes that take turns: two of the floor, three of Waypost."""

    def __init__(self, crew: Crew, folder: str, steps: int) -> None:
        self._floor, self._growing = crew.hire("floor", 2)
        self._alone, self._kept, self._second = ours = crew.hire("waypost", 3)
        names = ("alone", "kept", "kept")
        opened = [{"path": os.path.join(folder, name), "alone": name == "alone"} for name in names]
        self.durability = ask_all(ours[:2], "open", opened[:2])[0]
        ask_all(ours[:2], "create", [{"workflow": _WORKFLOW, "steps": steps}] * 2)
        self._second.ask("open", **opened[2])
        shares: list[dict[str, int]] = [{}, {"share": 0, "shares": 4}, {"share": 1, "shares": 4}]
        ask_all(ours, "use", [{"workflow": _WORKFLOW, "steps": steps, **share} for share in shares])
        found = ask_all(ours, "calibrate", [{"count": _CALIBRATING}] * len(ours))
        self._kept.ask("go_round", steps=steps, share=2, shares=4)
        self._kept.ask("start_threads", steps=steps, share=3, shares=4, threads=THREADS)
        self.frame = round(found[0]["update"])
        self._floor.ask("open", path=os.path.join(folder, "raw"), frame_bytes=self.frame)
        self._growing.ask("open", path=os.path.join(folder, "growing"), frame_bytes=self.frame, is_growing=True)

    def order(self, window: float) -> Order[str]:
        """Who has a turn of so many seconds when."""
        raw = partial(turn_of_all, [self._floor], "rate", window)
        kept = self._kept
        return [
            ("raw", raw),
            ("update", partial(self._alone.turn, "update_for", seconds=window)),
            ("checkpointed", partial(kept.turn, "update_for", seconds=window)),
            ("raw", raw),
            ("growing", partial(turn_of_all, [self._growing], "rate", window)),
            ("threads", partial(self._threads, window)),
            ("processes", partial(turn_of_all, [kept, self._second], "rate", window)),
            ("load_lazily", partial(_load, kept, window, False)),
            ("load_whole", partial(_load, kept, window, True)),
            ("restore", partial(kept.turn, "restore", cold=False, seconds=window)),
            ("write", partial(self._floor.turn, "write", count=_PROBES)),
            ("little", partial(self._floor.turn, "sync_after", count=_PROBES, length=self.frame)),
            ("much", partial(self._floor.turn, "sync_after", count=_FLOODS, length=MUCH_BYTES)),
        ]

    def _threads(self, window: float) -> Turn:
        start = time.monotonic()
        return self._kept.turn("rate_of_threads", start=start, seconds=window)


def _load(worker: Worker, window: float, whole: bool) -> Turn:
    return worker.turn("load", workflow=_WORKFLOW, whole=whole, cold=False, seconds=window)


def _rows(lanes: Mapping[str, Lane], steps: int, *, has_goals: bool) -> list[Row]:
    """The lines. Memory has no sync to be close to, and so no goals."""
    raw = lanes["raw"]
    update = times_as_long(lanes["update"], raw)
    beside = times_as_long(lanes["checkpointed"], lanes["update"])
    limit = AT_MOST_OF_FLOOR.get(steps)
    goals: dict[str, Goal] = {}
    if has_goals:
        goals["checkpointed"] = Goal(2, "against the update alone", "at most", AT_MOST_OF_ALONE, " x", beside)
        if (limit := AT_MOST_OF_FLOOR.get(steps)) is not None:
            goals["update"] = Goal(1, "update, against the raw sync", "at most", limit, " x", update)
    return [
        Row("raw", "raw sync, blocks written before", raw, 1.0),
        Row("growing", "raw sync, of a file that grows", lanes["growing"], times_as_long(lanes["growing"], raw)),
        Row("update", "durable update", lanes["update"], update, goals.get("update")),
        Row(
            "checkpointed",
            "the same with its checkpoint",
            lanes["checkpointed"],
            times_as_long(lanes["checkpointed"], raw),
            goals.get("checkpointed"),
        ),
        Row("threads", f"commits of {THREADS} threads", lanes["threads"], times_the_rate(lanes["threads"], raw)),
        Row("processes", "commits of 2 processes", lanes["processes"], times_the_rate(lanes["processes"], raw)),
        Row("load_lazily", f"load {steps:,} steps, touch one", lanes["load_lazily"]),
        Row("load_whole", f"load {steps:,} steps, touch all", lanes["load_whole"]),
        Row("restore", "restore a checkpoint", lanes["restore"], times_as_long(lanes["restore"], raw)),
    ]


def _evidence(device: Device, lanes: Mapping[str, Lane], rows: list[Row], durability: str) -> Evidence:
    by_key = {row.key: row for row in rows}
    to_floor = by_key["update"].to_floor
    assert to_floor is not None
    return Evidence(
        device=device,
        syncs_per_second=by_key["raw"].per_second,
        growing_per_second=by_key["growing"].per_second,
        raw_us=lanes["raw"].median_us,
        raw_p99_us=lanes["raw"].p99_us,
        write_us=lanes["write"].median_us,
        little_us=lanes["little"].median_us,
        much_us=lanes["much"].median_us,
        to_floor=to_floor,
        unrest=lanes["raw"].unrest,
        durability=durability,
    )
