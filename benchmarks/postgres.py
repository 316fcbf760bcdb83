"""Rows 11 to 14: the same on a PostgreSQL server that the run starts, `fsync` on, beside LangGraph's PostgresSaver.

The server is the one that the locked packages carry, with its own settings; it lies on the disk that `/tmp` lies on.
The floor is an INSERT of as many bytes as an update of Waypost hands over. Turns go round: the peer, the floor,
Waypost, the floor.

Row 11 counts the bytes that an update adds to the server's write-ahead log, by the position of its end before and
after; resets, which are not measured, are taken off by a run that makes only them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tests import servers

from benchmarks import machine
from benchmarks.bench import Bench
from benchmarks.crew import Crew, Worker, ask_all, turn_of_all
from benchmarks.figures import Goal, Lane, Measure, Order, take_turns
from benchmarks.rates import lost

FLOOR_BYTES = 1_600
"""About as much as an update of Waypost hands to the server: the step and its output."""
AT_LEAST_OVER_PEER = 10
AT_LEAST_LESS_WAL = 100
PEER = "PostgresSaver"


def measure(bench: Bench) -> None:
    server = servers.Server(servers.carried())
    try:
        version = server.execute("SHOW server_version")[0][0]
        bench.findings.header["PostgreSQL"] = f"{version}, fsync {server.execute('SHOW fsync')[0][0]}"
        with_peer = bench.with_peer and machine.has_peer("postgres")
        if bench.rows & {11, 12}:
            _measure_updates(bench, server, with_peer)
        if 13 in bench.rows:
            _measure_loads(bench, server, with_peer)
        if 14 in bench.rows:
            _measure_together(bench, server, with_peer)
    finally:
        server.close()


# --- rows 11 and 12 ---


def _measure_updates(bench: Bench, server: servers.Server, with_peer: bool) -> None:
    scale = bench.scale
    with Crew() as crew:
        lanes: dict[int, dict[str, Lane]] = {}
        for steps in dict.fromkeys((scale.sizes[0], scale.steps)):
            bench.say(f"row 11: preparing {steps:,} steps")
            alone = _ours(bench, crew, server, f"alone_{steps}", steps, alone=True)
            kept = _ours(bench, crew, server, f"kept_{steps}", steps)
            floor = _floor(crew, server)
            peer = _peer(bench, crew, server, f"peer_{steps}", steps) if with_peer else None
            bench.say(f"row 11: updates of {steps:,} steps")
            turn = ("floor", partial(floor.turn, "update", count=scale.updates))
            order: Order[str] = [
                turn,
                ("alone", partial(alone.turn, "update", count=scale.updates)),
                turn,
                ("kept", partial(kept.turn, "update", count=scale.updates)),
            ]
            if peer is not None:
                order.insert(0, ("peer", partial(peer.turn, "update", count=scale.saves(steps))))
            take_turns(1, order)  # to warm up
            lanes[steps] = take_turns(scale.rounds, order)
            if steps == scale.steps and 11 in bench.rows:
                _report_log(bench, server, alone, peer)
    for steps, found in lanes.items():
        for row, name, engine in ((11, "update", "alone"), (12, "update with a checkpoint", "kept")):
            if row in bench.rows:
                measured = _measured(bench, row, f"{name}, {steps:,} steps", "time", found, engine)
                if steps == scale.steps:
                    goal = f"{name} at {steps:,} steps, faster than {PEER}"
                    bench.findings.goals.append(
                        Goal(row, goal, "at least", AT_LEAST_OVER_PEER, " x", measured.over_peer)
                    )


def _report_log(bench: Bench, server: servers.Server, ours: Worker, peer: Worker | None) -> None:
    scale = bench.scale
    count, saves = scale.accounted, scale.saves(scale.steps)
    resets = _logged(server, ours, count, dry=True)
    each = max(1, _logged(server, ours, count, dry=False) - resets) / count
    theirs = None if peer is None else _logged(server, peer, saves, dry=False) / saves
    name = f"write-ahead log of an update at {scale.steps:,} steps, less than {PEER}"
    reached = None if theirs is None else theirs / each
    bench.findings.goals.append(Goal(11, name, "at least", AT_LEAST_LESS_WAL, " x", reached))
    bench.findings.notes.append(
        f"Row 11: an update of Waypost adds {each:,.0f} bytes to the server's write-ahead log"
        + ("." if theirs is None else f", a save of {PEER} {theirs:,.0f}.")
    )


def _logged(server: servers.Server, worker: Worker, count: int, *, dry: bool) -> int:
    """Bytes of the write-ahead log for so many updates, from a checkpoint of the server on."""
    server.execute("CHECKPOINT")
    worker.ask("update", count=5)  # the pages that each update touches are logged as a whole once
    before = server.execute("SELECT pg_current_wal_insert_lsn()")[0][0]
    worker.ask("account", count=count, dry=dry)
    return int(server.execute("SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", (before,))[0][0])


# --- row 13 ---


def _measure_loads(bench: Bench, server: servers.Server, with_peer: bool) -> None:
    scale = bench.scale
    with Crew() as crew:
        bench.say("row 13: preparing")
        ours = _ours(bench, crew, server, "loaded", scale.steps)
        peer = _peer(bench, crew, server, "peer_loaded", scale.steps) if with_peer else None
        for cold in (False, True):
            what = {"whole": False, "cold": cold, "count": scale.loads}
            order: Order[str] = [("ours", partial(ours.turn, "load", workflow="measured", **what))]
            if peer is not None:
                order.insert(0, ("peer", partial(peer.turn, "load", **what)))
            lanes = take_turns(scale.rounds, order)
            name = f"load, {scale.steps:,} steps, one touched, {'cold' if cold else 'hot'}"
            _measured(bench, 13, name, "time", lanes, "ours")


# --- row 14 ---


def _measure_together(bench: Bench, server: servers.Server, with_peer: bool) -> None:
    scale = bench.scale
    with Crew() as crew:
        bench.say("row 14: preparing")
        peers = crew.hire("peer_postgres", scale.processes) if with_peer else []
        ours = crew.hire("ours", scale.processes)
        ask_all(ours, "open", [{"path": server.url("together")}] * scale.processes)
        shares = [
            {"steps": scale.steps, "share": number, "shares": scale.processes} for number in range(scale.processes)
        ]
        ours[0].ask("create", workflow="measured", steps=scale.steps)
        ask_all(ours, "use", [{"workflow": "measured", **share} for share in shares])
        first = ours[0].ask("audit")["version"]
        floors = [_floor(crew, server) for _ in range(scale.processes)]
        if peers:
            place = _place_of_peer(server, "peer_together")
            peers[0].ask("open", path=place)
            ask_all(peers[1:], "open", [{"path": place}] * (len(peers) - 1))
            ask_all(peers, "use", shares)
            peers[0].ask("create", steps=scale.steps)
        bench.say("row 14: commits")
        floor = ("floor", partial(turn_of_all, floors, "rate", scale.window))
        order: Order[str] = [floor, ("ours", partial(turn_of_all, ours, "rate", scale.window)), floor]
        if peers:
            order.insert(0, ("peer", partial(turn_of_all, peers, "rate_on_shared", scale.window)))
        lanes = take_turns(scale.rounds, order)
        gone, acknowledged = lost(ours, first)
        theirs = [worker.ask("audit") for worker in peers]
    _measured(bench, 14, f"{scale.processes} processes, one workflow", "rate", lanes, "ours")
    bench.findings.goals.append(Goal(14, "acknowledged updates that were lost on a server", "at most", 0, "", gone))
    told = sum(audit["told"] for audit in theirs)
    bench.findings.notes.append(
        f"Row 14: Waypost lost {gone:,} of {acknowledged:,} acknowledged commits; fairness {lanes['ours'].fairness:.2f}"
        + (
            f". {PEER}, reading the newest state and saving it, lost {told - theirs[-1]['found']:,} of {told:,}."
            if theirs
            else "."
        )
    )


# --- preparing ---


def _ours(bench: Bench, crew: Crew, server: servers.Server, schema: str, steps: int, *, alone: bool = False) -> Worker:
    (worker,) = crew.hire("ours")
    durability = worker.ask("open", path=server.url(schema), alone=alone)
    bench.findings.header["Waypost on PostgreSQL"] = f"durability {durability!r}, preset production"
    worker.ask("create", workflow="measured", steps=steps)
    worker.ask("use", workflow="measured", steps=steps)
    return worker


def _peer(bench: Bench, crew: Crew, server: servers.Server, schema: str, steps: int) -> Worker:
    (worker,) = crew.hire("peer_postgres")
    durability = worker.ask("open", path=_place_of_peer(server, schema))
    bench.findings.header[PEER] = f"{durability}, its own settings"
    worker.ask("use", steps=steps)
    worker.ask("create", steps=steps)
    return worker


def _floor(crew: Crew, server: servers.Server) -> Worker:
    (worker,) = crew.hire("floor_postgres")
    worker.ask("open", path=_place_of_peer(server, "floor"), frame_bytes=FLOOR_BYTES)
    return worker


def _place_of_peer(server: servers.Server, schema: str) -> str:
    """A connection string for a schema of its own, without the word that is Waypost's."""
    server.execute(f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {servers.ROLE}")
    user = f"host={server.directory} port={server.port} user={servers.ROLE} dbname={servers.DATABASE}"
    return f"{user} options='-c search_path={schema}'"


def _measured(bench: Bench, row: int, name: str, kind: Any, lanes: dict[str, Lane], engine: str) -> Measure:
    made = Measure(row, name, kind, lanes[engine], lanes.get("floor"), lanes.get("peer"))
    bench.findings.served.append(made)
    return made
