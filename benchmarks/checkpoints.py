"""Rows 2 and 5: what a checkpoint adds to an update, and how long it takes to go back to one.

Row 2: two stores hold the same state. In one, completing a step makes a checkpoint, as it does by default; in the
other the option is off. What the store does later, such as writing the newest checkpoint out, falls into the turn that
caused it, or between turns.

Row 5: each time some steps are updated, each with its checkpoint, and then the workflow goes back to where it was
before them. *Hot* has the store open; *cold* opens it anew in a running process, and that counts. The peer gets that
checkpoint and puts it as its newest. Closing is not counted for either: what was restored is durable before. Going back
in Waypost gives the state, which decodes a step when that is touched.
"""

from __future__ import annotations

from functools import partial

from benchmarks.bench import Bench
from benchmarks.crew import Crew, Worker
from benchmarks.figures import Measure
from waypost.bench.goals import AT_MOST_OF_ALONE, Goal
from waypost.bench.turns import Order, Turn, take_turns, times_as_long

AT_LEAST_OVER_PEER = {"hot": 30, "cold": 10}
UPDATES_BETWEEN = 10
MOST_ROUNDS = 5


def measure_updates(bench: Bench) -> None:
    scale = bench.scale
    with Crew() as crew:
        bench.say("row 2: preparing")
        kept, alone = crew.hire("ours", 2)
        for worker, name, alone_ in ((kept, "with", False), (alone, "alone", True)):
            worker.ask("open", path=bench.place("kept", name), alone=alone_)
            worker.ask("create", workflow="measured", steps=scale.steps)
            worker.ask("use", workflow="measured", steps=scale.steps)
        (floor,) = crew.hire("floor")
        frame = alone.ask("calibrate", count=20)["update"]
        floor.ask("open", path=bench.place("kept", "floor"), frame_bytes=round(frame))
        bench.say("row 2: updates")
        updates = {worker: partial(_settled_update, bench, worker) for worker in (kept, alone)}
        order: Order[str] = [
            ("floor", partial(floor.turn, "update", count=scale.beside)),
            ("alone", updates[alone]),
            ("kept", updates[kept]),
            ("floor", partial(floor.turn, "update", count=scale.beside)),
            ("kept", updates[kept]),
            ("alone", updates[alone]),
        ]
        take_turns(1, order)  # to warm up
        lanes = take_turns(min(scale.rounds, MOST_ROUNDS), order)
    name = f"update, {scale.steps:,} steps"
    bench.findings.measures += [
        Measure(2, f"{name}, with a checkpoint", "time", lanes["kept"], lanes["floor"], None),
        Measure(2, f"{name}, alone", "time", lanes["alone"], lanes["floor"], None),
    ]
    reached = times_as_long(lanes["kept"], lanes["alone"])
    name = "update with an automatic checkpoint, against the update alone"
    bench.findings.goals.append(Goal(2, name, "at most", AT_MOST_OF_ALONE, " x", reached))


def _settled_update(bench: Bench, worker: Worker) -> Turn:
    turn = worker.turn("update", count=bench.scale.beside)
    worker.ask("settle", seconds=bench.scale.settling)
    return turn


def measure_restores(bench: Bench) -> None:
    scale = bench.scale
    with Crew() as crew:
        bench.say("row 5: preparing")
        peer = crew.hire("peer")[0] if bench.with_peer else None
        (ours,) = crew.hire("ours")
        ours.ask("open", path=bench.place("restores", "store"))
        ours.ask("create", workflow="measured", steps=scale.steps)
        ours.ask("use", workflow="measured", steps=scale.steps)
        ours.ask("update", count=scale.beside)
        if peer is not None:
            peer.ask("open", path=bench.place("restores", "peer.sqlite"))
            peer.ask("use", steps=scale.steps)
            peer.ask("create", steps=scale.steps)
        bench.say("row 5: restores")
        order: Order[tuple[str, str]] = []
        for how in AT_LEAST_OVER_PEER:
            each = {"cold": how == "cold", "count": scale.slow_loads, "after": UPDATES_BETWEEN}
            if peer is not None:
                order.append((("peer", how), partial(peer.turn, "restore", **each)))
            order.append((("ours", how), partial(ours.turn, "restore", **each)))
        take_turns(1, order)  # to warm up
        lanes = take_turns(scale.rounds, order)
    for how, limit in AT_LEAST_OVER_PEER.items():
        measured = Measure(
            5, f"restore, {scale.steps:,} steps, {how}", "time", lanes["ours", how], None, lanes.get(("peer", how))
        )
        bench.findings.measures.append(measured)
        name = f"restore of {scale.steps:,} steps, {how}, faster than get + put of SqliteSaver"
        bench.findings.goals.append(Goal(5, name, "at least", limit, " x", measured.over_peer))
