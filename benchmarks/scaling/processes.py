"""Commits per second of 1 to 32 processes: each with a workflow of its own, and all on different steps of one.

The floor has as many processes, and each of them a file. Rates are of all together, and nothing is expected of them:
they grow while there are processors and the disk takes more syncs at once, and the floor shows how far that goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from benchmarks.crew import Crew, Worker, ask_all, turn_of_all
from benchmarks.scaling.engine import WORKFLOW
from benchmarks.scaling.growth import Curve
from benchmarks.scaling.site import Site
from waypost.bench.turns import Order, Turn, take_turns

REGION = 4 << 20
STEPS = 320


def measure(site: Site, sizes: Sequence[int]) -> list[Curve]:
    most = max(sizes)
    with Crew() as crew:
        site.say(f"processes: starting {3 * most}")
        apart, together, floors = (crew.hire(engine, most) for engine in ("scaled", "scaled", "floor"))
        _prepare(site, apart, together)
        frame = round(sum(each["mean"] for each in ask_all(apart, "calibrate", [{"count": 5}] * most)) / most)
        files = [site.place("scale-processes", f"floor-{number}") for number in range(most)]
        ask_all(floors, "open", [{"path": path, "frame_bytes": frame, "length": REGION} for path in files])
        lanes = {"apart": apart, "together": together, "floor": floors}
        order: Order[tuple[str, int]] = [
            ((name, size), partial(_turn, workers[:size], site.amount.window, WORKFLOW if name == "together" else None))
            for size in sizes
            for name, workers in lanes.items()
        ]
        site.say("processes: commits")
        take_turns(1, order)  # to warm up
        found = take_turns(site.amount.rounds, order)
    names = {
        "apart": "commits per second, a workflow each",
        "together": "commits per second, one workflow",
        "floor": "raw writes and syncs per second, a file each",
    }
    return [
        Curve("processes", name, "rate", {size: found[lane, size] for size in sizes}) for lane, name in names.items()
    ]


def _prepare(site: Site, apart: list[Worker], together: list[Worker]) -> None:
    for name, workers in (("apart", apart), ("together", together)):
        ask_all(workers, "open", [{"path": site.place("scale-processes", name)}] * len(workers))
    for number, worker in enumerate(apart):
        worker.ask("create", workflow=f"measured-{number}", steps=STEPS)
        worker.ask("use", workflow=f"measured-{number}", steps=STEPS)
    together[0].ask("create", workflow=WORKFLOW, steps=STEPS)
    for number, worker in enumerate(together):
        worker.ask("use", workflow=WORKFLOW, steps=STEPS, share=number, shares=len(together))


def _turn(workers: list[Worker], seconds: float, workflow: str | None) -> Turn:
    """All in the same window; of a workflow of all, what others wrote while some were idle is taken in before it."""
    if workflow is not None:
        ask_all(workers, "load", [{"workflow": workflow, "whole": False, "cold": False, "count": 1}] * len(workers))
    return turn_of_all(workers, "rate", seconds)
