"""Rows 6, 7 and 8: commits per second of many processes, or of many tasks, in the same window of time.

Callers go round their own steps: reset, running, completed with an output; each is a commit. The peer saves once for
each changed step. Rates count from a worker's first operation to the end of its last.

As by default, completing a step makes a checkpoint. Row 7, where several processes make and remove those of one
workflow, has the figures without them as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.bench import Bench
from benchmarks.crew import Crew, Worker, ask_all, turn_of_all
from benchmarks.figures import Measure
from waypost.bench.goals import Goal
from waypost.bench.turns import Lane, Order, take_turns

REGION = 4 << 20


def measure_apart(bench: Bench) -> None:
    """Row 6: processes, each with a workflow of its own."""
    scale = bench.scale
    each, whole = range(scale.processes), {"steps": scale.steps}
    with Crew() as crew:
        bench.say("row 6: preparing")
        peers = _hire_peers(bench, crew, scale.processes)
        ours = crew.hire("ours", scale.processes)
        ask_all(ours, "open", [{"path": bench.place("apart", "store")}] * scale.processes)
        ask_all(ours, "create", [{"workflow": f"measured-{number}", "steps": scale.steps} for number in each])
        ask_all(ours, "use", [{"workflow": f"measured-{number}", **whole} for number in each])
        floors = crew.hire("floor", scale.processes)
        files = [bench.place("apart", f"floor-{number}") for number in each]
        frame = _mean_frame(ours)
        ask_all(floors, "open", [{"path": path, "frame_bytes": frame, "length": REGION} for path in files])
        _prepare_peers(peers, [bench.place("apart", f"peer-{number}.sqlite") for number in each], [whole] * len(peers))
        bench.say("row 6: commits")
        lanes = _take_turns(bench, ours, floors, peers, "rate")
    measured = Measure(
        6, f"{scale.processes} processes, a workflow each", "rate", lanes["ours"], lanes["floor"], lanes.get("peer")
    )
    bench.findings.measures.append(measured)
    of_floor = f"{scale.processes} processes, a workflow each, of the floor's rate"
    bench.findings.goals.append(Goal(6, of_floor, "at least", 0.85, " x", measured.to_floor))
    bench.findings.goals.append(
        Goal(6, "fairness: slowest / fastest process", "at least", 0.7, "", lanes["ours"].fairness)
    )
    bench.findings.notes.append(
        f"Row 6: fairness (slowest / fastest process) of Waypost {lanes['ours'].fairness:.2f}, of the floor "
        f"{lanes['floor'].fairness:.2f}{_peers_fairness(lanes)}. SqliteSaver has a database for each process."
    )


def measure_together(bench: Bench) -> None:
    """Row 7: processes that update different steps of one workflow."""
    scale = bench.scale
    each = range(scale.processes)
    with Crew() as crew:
        bench.say("row 7: preparing")
        peers = _hire_peers(bench, crew, scale.processes)
        ours = crew.hire("ours", scale.processes)
        ask_all(ours, "open", [{"path": bench.place("together", "store")}] * scale.processes)
        alone = crew.hire("ours", scale.processes)
        ask_all(alone, "open", [{"path": bench.place("together", "alone"), "alone": True}] * scale.processes)
        shares = [{"steps": scale.steps, "share": number, "shares": scale.processes} for number in each]
        for workers in (ours, alone):
            workers[0].ask("create", workflow="measured", steps=scale.steps)
            ask_all(workers, "use", [{"workflow": "measured", **share} for share in shares])
        first = ours[0].ask("audit")["version"]
        first_alone = alone[0].ask("audit")["version"]
        floors = crew.hire("floor", scale.processes)
        frame, path = _mean_frame(ours), bench.place("together", "floor")
        regions = [{"path": path, "frame_bytes": frame, "region": number, "length": REGION} for number in each]
        ask_all(floors, "open", regions)
        _prepare_peers(peers, [bench.place("together", "peer.sqlite")] * len(peers), shares)
        bench.say("row 7: commits")
        _mean_frame(alone)  # so that both have begun
        lanes = _take_turns(bench, ours, floors, peers, "rate_on_shared", alone)
        (gone, acknowledged), (gone_alone, _) = lost(ours, first), lost(alone, first_alone)
        theirs = [worker.ask("audit") for worker in peers]
    measured = Measure(
        7, f"{scale.processes} processes, one workflow", "rate", lanes["ours"], lanes["floor"], lanes.get("peer")
    )
    without = Measure(7, "the same without checkpoints", "rate", lanes["alone"], lanes["floor"], lanes.get("peer"))
    bench.findings.measures += [measured, without]
    for lane, lost_updates, how in (("ours", gone, ""), ("alone", gone_alone, ", without checkpoints")):
        name = f"{scale.processes} processes, one workflow{how}: commits per second"
        bench.findings.goals += [
            Goal(7, name, "at least", 8_000, "/s", lanes[lane].rate),
            Goal(7, f"acknowledged updates that were lost{how}", "at most", 0, "", lost_updates),
            Goal(7, f"p99 of a commit{how}", "at most", 5, " ms", lanes[lane].p99_us / 1000),
        ]
    bench.findings.notes.append(
        f"Row 7: Waypost lost {gone:,} of {acknowledged:,} acknowledged commits{_peers_loss(theirs)}. Fairness of "
        f"Waypost {lanes['ours'].fairness:.2f}, of the floor {lanes['floor'].fairness:.2f}{_peers_fairness(lanes)}."
    )


def measure_callers(bench: Bench) -> None:
    """Row 8: tasks of one event loop on one workflow. The floor is one process that syncs each of its frames."""
    scale = bench.scale
    with Crew() as crew:
        bench.say("row 8: preparing")
        peers = _hire_peers(bench, crew, 1)
        (ours,) = crew.hire("ours")
        ours.ask("open", path=bench.place("callers", "store"))
        ours.ask("create", workflow="measured", steps=scale.steps)
        ours.ask("use", workflow="measured", steps=scale.steps)
        frame = _mean_frame([ours])
        ours.ask("start_callers", steps=scale.steps, callers=scale.callers)
        (floor,) = crew.hire("floor")
        floor.ask("open", path=bench.place("callers", "floor"), frame_bytes=frame)
        _prepare_peers(peers, [bench.place("callers", "peer.sqlite")], [{"steps": scale.steps}])
        bench.say("row 8: commits")
        floors = ("floor", partial(turn_of_all, [floor], "rate", scale.window))
        order: Order[str] = [floors, ("ours", partial(ours.turn, "rate_of_callers", seconds=scale.window)), floors]
        if peers:
            call = {"callers": scale.callers, "seconds": scale.window}
            order.insert(0, ("peer", partial(peers[0].turn, "rate_of_callers", **call)))
        take_turns(1, order)  # to warm up
        lanes = take_turns(scale.rounds, order)
    measured = Measure(
        8, f"{scale.callers} async callers, one workflow", "rate", lanes["ours"], lanes["floor"], lanes.get("peer")
    )
    bench.findings.measures.append(measured)
    name = f"{scale.callers} async callers, one workflow: commits per second"
    bench.findings.goals.append(Goal(8, name, "at least", 15_000, "/s", lanes["ours"].rate))
    bench.findings.notes.append(
        "Row 8: the floor is one process that syncs each frame; SqliteSaver is AsyncSqliteSaver."
    )


def _mean_frame(ours: list[Worker]) -> int:
    found = ask_all(ours, "calibrate", [{"count": 20}] * len(ours))
    return round(sum(each["mean"] for each in found) / len(found))


def _hire_peers(bench: Bench, crew: Crew, count: int) -> list[Worker]:
    """Start the peer's processes, early, since they take long to import what they need."""
    return crew.hire("peer", count) if bench.with_peer else []


def _prepare_peers(peers: list[Worker], paths: list[str], shares: list[dict[str, int]]) -> None:
    """Give each its database and its steps; the first to open a database fills it."""
    # setting one up at the same moment, they would refuse each other its lock
    for worker, path, share in zip(peers, paths, shares, strict=bool(peers)):
        worker.ask("open", path=path)
        worker.ask("use", **share)
    makers = peers[: len(set(paths))]
    ask_all(makers, "create", [{"steps": share["steps"]} for share in shares[: len(makers)]])


def _take_turns(
    bench: Bench,
    ours: list[Worker],
    floors: list[Worker],
    peers: list[Worker],
    peers_do: str,
    alone: Sequence[Worker] = (),
) -> dict[str, Lane]:
    window = bench.scale.window
    floor = ("floor", partial(turn_of_all, floors, "rate", window))
    order: Order[str] = [floor, ("ours", partial(turn_of_all, ours, "rate", window)), floor]
    if alone:
        order += [("alone", partial(turn_of_all, [*alone], "rate", window)), floor]
    if peers:
        order.insert(0, ("peer", partial(turn_of_all, peers, peers_do, window)))
    return take_turns(bench.scale.rounds, order)


def lost(ours: list[Worker], first_version: int) -> tuple[int, int]:
    """How many commits were acknowledged and are not there, and how many were acknowledged."""
    found = [worker.ask("audit") for worker in ours]
    commits = sum(each["commits"] for each in found)
    unseen = commits - (found[-1]["version"] - first_version)
    return max(0, unseen, sum(each["missing"] for each in found)), commits


def _peers_loss(audits: list[dict[str, Any]]) -> str:
    if not audits:
        return ""
    told, found = sum(audit["told"] for audit in audits), audits[-1]["found"]
    return f"; SqliteSaver, reading the newest state and saving it changed, {told - found:,} of {told:,}"


def _peers_fairness(lanes: dict[str, Lane]) -> str:
    return f", of SqliteSaver {lanes['peer'].fairness:.2f}" if "peer" in lanes else ""
