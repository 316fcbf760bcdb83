"""What can be large, at which sizes it is measured, what is measured there, and with which exponent a cost may grow.

A load finds out where every step lies, a list of workflows looks at each one's file and at all steps of what has
changed, one of checkpoints at each one's record, and a large value is written and read whole: these may grow with what
they go through, and nothing else may.

Where there are many checkpoints there were as many updates, each of which left its record and a version of an output:
going back to the first takes all of these away, who opens the store after that takes in as much, and who closes it
reads the checkpoint before and looks at each part, so that no damaged file is built on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

from benchmarks.crew import Crew, Worker, WorkerFailed, ask_all
from benchmarks.scaling import processes
from benchmarks.scaling.engine import WORKFLOW
from benchmarks.scaling.growth import Curve
from benchmarks.scaling.room import Need
from benchmarks.scaling.site import Site
from waypost.bench.turns import Lane, Order, take_turns

MB = 1_000_000
STEPS = 100
"""Of a workflow, where something else is large."""
MAKERS = 2
"""Processes that make workflows at once."""


@dataclass(frozen=True)
class Thing:
    """One operation of the engine, as it is told and as it is asked for; `most` is the exponent it may grow with."""

    name: str
    what: str
    most: float
    arguments: dict[str, Any] = field(default_factory=dict)
    takes_length: bool = False


Measurement = Callable[[Site, Sequence[int]], list[Curve]]


@dataclass(frozen=True)
class Dimension:
    """`quick` is the largest size of a first look."""

    name: str
    title: str
    sizes: tuple[int, ...]
    quick: int
    need: Callable[[int], Need]
    measure: Measurement


def measure_sizes(
    name: str,
    things: Sequence[Thing],
    make: Callable[[Worker, int, str], None],
    alone: bool,
    site: Site,
    sizes: Sequence[int],
) -> list[Curve]:
    """Let each size have its store and its process, and all of them their turns at one thing after the other."""
    with Crew() as crew:
        workers: dict[int, Worker] = {}
        for size in sizes:
            site.say(f"{name}: making {size:,}")
            (worker,) = crew.hire("scaled")
            path = site.place(f"scale-{name}", f"{size}")
            try:
                worker.ask("open", path=path, alone=alone)
                make(worker, size, path)
                workers[size] = worker
            except WorkerFailed as error:
                site.notes.append(f"{name}: {size:,} could not be made: {_last_line(error)}")
        curves: list[Curve] = []
        for thing in things if workers else ():
            site.say(f"{name}: {thing.name}")
            try:
                curves.append(Curve(name, thing.name, "time", _lanes(site, thing, workers), thing.most))
            except WorkerFailed as error:
                site.notes.append(f"{name}: {thing.name}: not measured: {_last_line(error)}")
    return curves


def _lanes(site: Site, thing: Thing, workers: dict[int, Worker]) -> dict[int, Lane]:
    order: Order[int] = []
    for size, worker in workers.items():
        given = {**thing.arguments, **({"length": size} if thing.takes_length else {})}
        asked = {"what": thing.what, "count": site.amount.count, "seconds": site.amount.seconds, **given}
        order.append((size, partial(worker.turn, "measure", **asked)))
    take_turns(1, order)  # to warm up
    return take_turns(site.amount.rounds, order)


def _last_line(error: WorkerFailed) -> str:
    return str(error).strip().splitlines()[-1]


# --- what is large ---


def _make_steps(worker: Worker, steps: int, path: str) -> None:
    worker.ask("make_steps", steps=steps)
    worker.ask("use", workflow=WORKFLOW, steps=steps)


def _make_workflows(worker: Worker, workflows: int, path: str) -> None:
    _make_steps(worker, STEPS, path)  # one of them
    shares = [1 + (workflows - 1) * share // MAKERS for share in range(MAKERS + 1)]
    with Crew() as crew:
        makers = crew.hire("scaled", MAKERS)
        ask_all(makers, "open", [{"path": path}] * MAKERS)
        ranges = pairwise(shares)
        ask_all(makers, "make_workflows", [{"first": first, "beyond": beyond} for first, beyond in ranges])


def _make_checkpoints(worker: Worker, checkpoints: int, path: str) -> None:
    _make_steps(worker, STEPS, path)
    worker.ask("make_checkpoints", count=checkpoints)


def _make_value(worker: Worker, length: int, path: str) -> None:
    _make_steps(worker, STEPS, path)
    worker.ask("make_value", length=length)


_LAZILY, _WHOLE = {"touch": "one"}, {"touch": "whole"}

_OF_STEPS = (
    Thing("update of a step", "update", 0),
    Thing("load, one step touched", "load", 1, _LAZILY),
    Thing("load, one step touched, store opened anew", "load", 1, {**_LAZILY, "cold": True}),
    Thing("load, every step touched", "load", 1, _WHOLE),
    Thing("checkpoint", "keep", 0),
    Thing("restore", "restore", 1, {"which": "newest"}),
    Thing("list of workflows", "list_workflows", 0),
    Thing("list of workflows, it has changed", "list_workflows", 1, {"changed": True}),
    Thing("list, it has changed, store opened anew", "list_workflows", 1, {"changed": True, "cold": True}),
)

_OF_WORKFLOWS = (
    Thing("update of a step of one", "update", 0),
    Thing("load of one, one step touched", "load", 0, _LAZILY),
    Thing("opening the store", "open", 0),
    Thing("load of one, store opened anew", "load", 0, {**_LAZILY, "cold": True}),
    Thing("closing the store, after a checkpoint", "close", 0),
    Thing("list, the first page of 100", "list_workflows", 1),
    Thing("list, store opened anew", "list_workflows", 1, {"cold": True}),
)

_OF_CHECKPOINTS = (
    Thing("update of a step, with its checkpoint", "update", 0),
    Thing("checkpoint", "keep", 0),
    Thing("load, one step touched", "load", 0, _LAZILY),
    Thing("load, one step touched, store opened anew", "load", 1, {**_LAZILY, "cold": True}),
    Thing("closing the store, after a checkpoint", "close", 1),
    Thing("list, the first page of 20", "list_checkpoints", 1),
    Thing("restore of the newest", "restore", 0, {"which": "newest"}),
    Thing("restore of the oldest", "restore", 1, {"which": "oldest"}),
)

_OF_VALUES = (
    Thing("writing the value", "put", 1, takes_length=True),
    Thing("load, the value touched", "load", 1, {"touch": "large"}),
    Thing("load, the value not touched", "load", 0, _LAZILY),
    Thing("load, the value not touched, store opened anew", "load", 0, {**_LAZILY, "cold": True}),
    Thing("update of another part", "update", 0),
    Thing("checkpoint of another part's change", "keep", 0),
    Thing("restore of other parts", "restore", 0, {"which": "newest"}),
)

DIMENSIONS = {
    each.name: each
    for each in (
        Dimension(
            "steps",
            "Steps of a workflow",
            (10, 100, 1_000, 10_000, 100_000),
            10_000,
            lambda steps: Need(10 * MB + 4_000 * steps, 50 * MB + 20_000 * steps),
            partial(measure_sizes, "steps", _OF_STEPS, _make_steps, True),
        ),
        Dimension(
            "workflows",
            "Workflows in a store",
            (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000),
            1_000,
            lambda count: Need(10 * MB + 12_000 * count, 100 * MB + 4_000 * count, 3 * count),
            partial(measure_sizes, "workflows", _OF_WORKFLOWS, _make_workflows, True),
        ),
        Dimension(
            "checkpoints",
            "Checkpoints that a workflow keeps",
            (1, 10, 100, 1_000, 10_000),
            1_000,
            lambda count: Need(10 * MB + 50_000 * count, 100 * MB + 20_000 * count, 100 + 3 * count),
            partial(measure_sizes, "checkpoints", _OF_CHECKPOINTS, _make_checkpoints, False),
        ),
        Dimension(
            "processes",
            "Processes that write at once",
            (1, 2, 4, 8, 16, 32),
            8,
            lambda count: Need(20 * MB * count, 150 * MB * count),
            processes.measure,
        ),
        Dimension(
            "values",
            "Bytes of one value",
            (1_000, 10_000, 100_000, MB, 10 * MB, 100 * MB, 1_000 * MB),
            10 * MB,
            lambda length: Need(10 * MB + 10 * length, 50 * MB + 8 * length),
            partial(measure_sizes, "values", _OF_VALUES, _make_value, True),
        ),
    )
}
