"""Rows 1 and 3: one caller's durable step updates at several sizes of state, what they cost, and how the time grows.

No checkpoint rides with them: row 2 says what one adds. Each size has processes of its own. In a round the sizes follow
each other, and at each the turns are: the peers, the floor, Waypost, the floor.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import others
from benchmarks.bench import Bench
from benchmarks.crew import Crew, Worker
from benchmarks.figures import Cost, Measure, Syncs
from waypost.bench import states
from waypost.bench.goals import AT_MOST_OF_FLOOR, Goal
from waypost.bench.turns import Lane, Order, growth, take_turns

AT_LEAST_OVER_PEER = {10: 1.8, 1_000: 30, 10_000: 300}
AT_MOST_GROWTH = 1.3
WAYPOST, PEER = "Waypost", "SqliteSaver"
SYNCS = "fsync,fdatasync,sync_file_range,msync,sync,syncfs"


def measure(bench: Bench) -> None:
    scale = bench.scale
    with Crew() as crew:
        ours: dict[int, Worker] = {}
        floors: dict[int, Worker] = {}
        further: dict[int, dict[str, Worker]] = {}
        peers = dict(zip(scale.sizes, crew.hire("peer", len(scale.sizes)), strict=True)) if bench.with_peer else {}
        for steps in scale.sizes:
            bench.say(f"row 1: preparing {steps:,} steps")
            ours[steps], floors[steps] = crew.hire("ours")[0], crew.hire("floor")[0]
            _prepare_ours(bench, ours[steps], steps)
            frame = ours[steps].ask("calibrate", count=20)["update"]
            floors[steps].ask("open", path=bench.place("floor", f"{steps}"), frame_bytes=round(frame))
            if bench.with_peer:
                _prepare_peer(bench, peers[steps], steps)
            further[steps] = others.hire(bench, crew)
            for name, worker in further[steps].items():
                others.prepare(bench, name, worker, steps, "further")
        bench.say("row 1: updates")
        order: Order[tuple[str, int]] = []
        for steps in scale.sizes:
            floor = (("floor", steps), partial(floors[steps].turn, "update", count=scale.updates))
            if bench.with_peer:
                order.append((("peer", steps), partial(peers[steps].turn, "update", count=scale.saves(steps))))
            for name, worker in further[steps].items():
                count = others.updates_of(bench, name, steps)
                order.append(((name, steps), partial(worker.turn, "update", count=count)))
            order += [floor, (("ours", steps), partial(ours[steps].turn, "update", count=scale.updates)), floor]
        take_turns(1, order)  # to warm up
        lanes = take_turns(scale.rounds, order)
        _report(bench, lanes)
        if 1 in bench.rows:
            bench.say("row 1: what an update costs")
            _report_costs(bench, ours, peers)


def _prepare_ours(bench: Bench, worker: Worker, steps: int, place: str = "ours") -> None:
    durability = worker.ask("open", path=bench.place(place, f"{steps}"), alone=True)
    bench.findings.header["Waypost"] = f"durability {durability!r}, preset production"
    worker.ask("create", workflow="measured", steps=steps)
    worker.ask("use", workflow="measured", steps=steps)


def _prepare_peer(bench: Bench, worker: Worker, steps: int, place: str = "peer") -> None:
    durability = worker.ask("open", path=bench.place(place, f"{steps}.sqlite"))
    bench.findings.header["SqliteSaver"] = f"{durability}, its own settings"
    worker.ask("use", steps=steps)
    worker.ask("create", steps=steps)


def _report(bench: Bench, lanes: dict[tuple[str, int], Lane]) -> None:
    findings, sizes = bench.findings, bench.scale.sizes
    for steps in sizes if 1 in bench.rows else ():
        measured = Measure(
            1,
            f"update, {steps:,} steps",
            "time",
            lanes["ours", steps],
            lanes["floor", steps],
            lanes.get(("peer", steps)),
            {name: lanes[name, steps] for name in others.ENGINES if (name, steps) in lanes},
        )
        findings.measures.append(measured)
        if (limit := AT_MOST_OF_FLOOR.get(steps)) is not None:
            name = f"update at {steps:,} steps, against the floor"
            findings.goals.append(Goal(1, name, "at most", limit, " x", measured.to_floor))
        if (limit := AT_LEAST_OVER_PEER.get(steps)) is not None:
            name = f"update at {steps:,} steps, faster than SqliteSaver"
            findings.goals.append(Goal(1, name, "at least", limit, " x", measured.over_peer))
    if 3 in bench.rows:
        first, last = sizes[0], sizes[-1]
        grown = {
            engine: growth(lanes[engine, first], lanes["floor", first], lanes[engine, last], lanes["floor", last])
            for engine in ("ours", "peer")
            if (engine, first) in lanes
        }
        name = f"growth of an update, {first:,} to {last:,} steps"
        findings.goals.append(Goal(3, name, "at most", AT_MOST_GROWTH, " x", grown["ours"]))
        theirs = f"SqliteSaver's {grown['peer']:,.1f} x" if "peer" in grown else "SqliteSaver's was not measured"
        findings.notes.append(
            f"Row 3: from {first:,} to {last:,} steps an update of Waypost grows {grown['ours']:.2f} x, {theirs}, each "
            f"against the floor beside it."
        )


# --- costs ---


def _report_costs(bench: Bench, ours: dict[int, Worker], peers: dict[int, Worker]) -> None:
    scale = bench.scale
    for steps in scale.sizes:
        cost = ours[steps].ask("account", count=scale.accounted)
        saves = scale.saves(steps)
        theirs = peers[steps].ask("account", count=saves) if peers else {"bytes": 0}
        syncs, peer_syncs, counted_by = cost["syncs"] / scale.accounted, None, "its own counters"
        if steps == scale.steps and _can_trace():
            bench.findings.syncs += _traced_syncs(bench, steps)
            traced = {each.engine: each.each for each in bench.findings.syncs}
            syncs, peer_syncs, counted_by = traced[WAYPOST], traced.get(PEER), "strace"
        bench.findings.costs.append(
            Cost(
                steps=steps,
                frame_bytes=cost["frame_bytes"] / scale.accounted,
                bytes=cost["bytes"] / scale.accounted if cost["bytes"] > 0 else None,
                syncs=syncs,
                disk_writes=None if cost["disk_writes"] is None else cost["disk_writes"] / scale.accounted,
                peer_bytes=theirs["bytes"] / saves if theirs["bytes"] else None,
                peer_syncs=peer_syncs,
                counted_by=counted_by,
            )
        )


def _traced_syncs(bench: Bench, steps: int) -> list[Syncs]:
    """Syncs of an update of each engine as the kernel sees them."""
    scale, header = bench.scale, bench.findings.header
    count = min(scale.accounted, len(states.own_steps(steps)))
    ours = partial(_prepare_ours, bench, steps=steps)
    found = [Syncs(WAYPOST, header["Waypost"], _traced(bench, "ours", ours, count))]
    if bench.with_peer:
        peer = partial(_prepare_peer, bench, steps=steps)
        found.append(Syncs(PEER, header[PEER], _traced(bench, "peer", peer, 2 * scale.saves(steps))))
    for name in [name for name in others.ENGINES if others.is_installed(name)]:
        prepare = partial(others.prepare, bench, name, steps=steps)
        each = _traced(bench, others.ENGINES[name], prepare, others.updates_of(bench, name, steps))
        found.append(Syncs(name, header[name], each))
    return found


def _traced(bench: Bench, engine: str, prepare: Callable[..., object], count: int) -> float:
    """Syncs for each of so many updates: those of a process that makes them, less those of one that does all else."""
    summaries: list[Path] = []
    with Crew() as crew:
        for kind in ("dry", "real"):
            summaries.append(Path(bench.place("traces", f"{engine}-{kind}")))
            crew.hire(engine, through=("strace", "-c", "-f", "-qq", "-e", f"trace={SYNCS}", "-o", str(summaries[-1])))
        for worker, kind in zip(crew.workers, ("dry", "real"), strict=True):
            prepare(worker=worker, place=f"traced-{engine}-{kind}")
            worker.ask("account", count=count, dry=kind == "dry")
    dry, real = [_calls(path.read_text(encoding="utf-8")) for path in summaries]
    return (real - dry) / count


def _calls(summary: str) -> int:
    """All calls of a table that strace -c has written: % time, seconds, usecs/call, calls, (errors,) name."""
    lines = [line.split() for line in summary.splitlines()]
    return sum(int(line[3]) for line in lines if len(line) >= 5 and line[-1] in SYNCS.split(","))


def _can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-c", "-o", "/dev/null", "true"], capture_output=True).returncode == 0
