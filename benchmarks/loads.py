"""Row 4: loading a workflow, lazily and whole, with an open handle and from cold, with a short log and with a long one.

*Lazily* touches one step and its output, *whole* every step and output; `get_tuple` decodes everything either way, and
so does Burr, while by hand with sqlite3 *lazily* is one row. *Cold* opens the store anew in a running process, with the
files in the page cache, as the peers open their databases. The floor is no commit here: it is one read of as many bytes
as the state takes in Waypost's store.
"""

from __future__ import annotations

from functools import partial
from itertools import product

from benchmarks import others
from benchmarks.bench import Bench, Scale
from benchmarks.crew import Crew, Worker
from benchmarks.figures import Measure
from waypost.bench.goals import Goal
from waypost.bench.turns import Lane, Order, take_turns, times_as_long

AT_LEAST_OVER_PEER = {"lazily": 8, "whole": 2}
AT_MOST_GROWTH = 1.3
MOST_ROUNDS = 5
"""A load waits for no disk, so that fewer rounds are enough."""

Key = tuple[str, str, str]
"""Which engine or log, how much is touched, and how the store is open."""


def measure(bench: Bench) -> None:
    scale = bench.scale
    with Crew() as crew:
        bench.say(f"row 4: a log of {scale.long_log:,} updates")
        peer = crew.hire("peer")[0] if bench.with_peer else None
        (ours,) = crew.hire("ours")
        ours.ask("open", path=bench.place("loads", "store"))
        stored = ours.ask("create", workflow="short", steps=scale.steps)
        ours.ask("create", workflow="long", steps=scale.steps)
        ours.ask("lengthen", workflow="long", steps=scale.steps, commits=scale.long_log)
        (floor,) = crew.hire("floor")
        floor.ask("open", path=bench.place("loads", "floor"), frame_bytes=1, length=stored)
        if peer is not None:
            _prepare_peer(bench, peer)
        further = others.hire(bench, crew)
        for name, worker in further.items():
            others.prepare(bench, name, worker, scale.steps, "loads")
        bench.say("row 4: loads")
        order = _order(scale, ours, floor, peer, further, stored)
        take_turns(1, order)  # to warm up
        _report(bench, take_turns(min(scale.rounds, MOST_ROUNDS), order))


def _prepare_peer(bench: Bench, peer: Worker) -> None:
    peer.ask("open", path=bench.place("loads", "peer.sqlite"))
    peer.ask("use", steps=bench.scale.steps)
    peer.ask("create", steps=bench.scale.steps)
    peer.ask("update", count=5)


def _order(
    scale: Scale, ours: Worker, floor: Worker, peer: Worker | None, further: dict[str, Worker], stored: int
) -> Order[Key]:
    order: Order[Key] = []
    for state, touched in product(("warm", "cold"), ("lazily", "whole")):
        is_fast = (state, touched) == ("warm", "lazily")
        count = scale.loads if is_fast else scale.slow_loads
        how = {"whole": touched == "whole", "cold": state == "cold", "count": count}
        if peer is not None:
            order.append((("peer", touched, state), partial(peer.turn, "load", **{**how, "count": scale.slow_loads})))
        for name, worker in further.items():
            few = {} if name not in others.SAVES_ALL else {"count": scale.slow_loads}
            order.append(((name, touched, state), partial(worker.turn, "load", **{**how, **few})))
        order += [
            (("floor", touched, state), partial(floor.turn, "read", count=scale.loads, length=stored)),
            (("short", touched, state), partial(ours.turn, "load", workflow="short", **how)),
            (("long", touched, state), partial(ours.turn, "load", workflow="long", **how)),
        ]
    return order


def _report(bench: Bench, lanes: dict[Key, Lane]) -> None:
    steps, findings = bench.scale.steps, bench.findings
    grown: dict[str, float] = {}
    for _, touched, state in [key for key in lanes if key[0] == "short"]:
        short, long = lanes["short", touched, state], lanes["long", touched, state]
        opened = "open handle" if state == "warm" else "opened cold"
        floor, peer = lanes["floor", touched, state], lanes.get(("peer", touched, state))
        further = {name: lanes[name, touched, state] for name in others.ENGINES if (name, touched, state) in lanes}
        measured = Measure(4, f"load {touched}, {opened}", "time", short, floor, peer, further)
        findings.measures.append(measured)
        findings.measures.append(
            Measure(4, f"{measured.name}, after {bench.scale.long_log:,} updates", "time", long, floor, peer)
        )
        name = f"load {touched}, {steps:,} steps, {opened}, faster than get_tuple"
        findings.goals.append(Goal(4, name, "at least", AT_LEAST_OVER_PEER[touched], " x", measured.over_peer))
        grown[f"{touched}, {opened}"] = times_as_long(long, short)
    worst = max(grown, key=lambda name: grown[name])
    name = f"load after {bench.scale.long_log:,} updates, against before (worst: {worst})"
    findings.goals.append(Goal(4, name, "at most", AT_MOST_GROWTH, " x", grown[worst]))
