"""Rows 11 to 14: the same on a PostgreSQL server that the run starts, beside LangGraph's PostgresSaver and DBOS.

The server is the one that the locked packages carry, with its own settings, `fsync` on; it lies on the disk that
`/tmp` lies on. The floor is an INSERT of as many bytes as an update of Waypost hands over. Turns go round: DBOS,
PostgresSaver, the floor, Waypost, the floor. What of DBOS is compared, and what cannot be, is said in `peer_dbos`.

Row 11 counts the bytes that an update adds to the server's write-ahead log, by the position of its end before and
after; resets, which are not measured, are taken off by a run that makes only them. Meanwhile the server vacuums
nothing, which would add to the log whenever it is due, and logs no pages as a whole. How often it does that depends on
its settings and on how far apart the updates lie, so that it is counted apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

from tests import servers

from benchmarks import machine
from benchmarks.bench import Bench
from benchmarks.crew import Crew, Worker, ask_all, turn_of_all
from benchmarks.figures import Measure
from benchmarks.rates import lost
from waypost.bench.goals import Goal
from waypost.bench.turns import Lane, Order, take_turns

FLOOR_BYTES = 1_600
"""About as much as an update of Waypost hands to the server: the step and its output."""
AT_LEAST_OVER_PEER = 10
AT_LEAST_LESS_WAL = 100
PEER = "PostgresSaver"


@dataclass(frozen=True)
class Site:
    """A run with its server, and who takes part."""

    bench: Bench
    server: servers.Server
    with_peer: bool
    with_dbos: bool


def measure(bench: Bench) -> None:
    server = servers.Server(servers.carried())
    try:
        version = server.execute("SHOW server_version")[0][0]
        bench.findings.header["PostgreSQL"] = f"{version}, fsync {server.execute('SHOW fsync')[0][0]}"
        with_dbos = machine.has_dbos()
        if not with_dbos:
            bench.findings.header["DBOS"] = f"not measured: {machine.DBOS} is not installed (make bench has it)"
        site = Site(bench, server, bench.with_peer and machine.has_peer("postgres"), with_dbos)
        if bench.rows & {11, 12}:
            _measure_updates(site)
        if 13 in bench.rows:
            _measure_loads(site)
        if 14 in bench.rows:
            _measure_together(site)
            _measure_apart(site)
    finally:
        server.close()


# --- rows 11 and 12 ---


def _measure_updates(site: Site) -> None:
    bench, scale = site.bench, site.bench.scale
    lanes: dict[int, dict[str, Lane]] = {}
    for steps in dict.fromkeys((scale.sizes[0], scale.steps)):
        with Crew() as crew:
            bench.say(f"row 11: preparing {steps:,} steps")
            alone = _ours(site, crew, f"alone_{steps}", steps, alone=True)
            kept = _ours(site, crew, f"kept_{steps}", steps)
            floor = _floor(site, crew)
            peer = _peer(site, crew, f"peer_{steps}", steps)
            dbos = _dbos(site, crew, f"dbos_{steps}", steps)
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
            if dbos is not None:
                order.insert(0, ("dbos", partial(dbos.turn, "update", count=scale.updates)))
            take_turns(1, order)  # to warm up
            lanes[steps] = take_turns(scale.rounds, order)
            if steps == scale.steps and 11 in bench.rows:
                _report_log(site, alone, peer, dbos)
    for steps, found in lanes.items():
        for row, name, engine in ((11, "update", "alone"), (12, "update with a checkpoint", "kept")):
            if row in bench.rows:
                measured = _measured(bench, row, f"{name}, {steps:,} steps", "time", found, engine)
                if steps == scale.steps:
                    goal = f"{name} at {steps:,} steps, faster than {PEER}"
                    bench.findings.goals.append(
                        Goal(row, goal, "at least", AT_LEAST_OVER_PEER, " x", measured.over_peer)
                    )
    if 12 in bench.rows and site.with_dbos:
        bench.findings.notes.append(
            "Row 12: DBOS makes no checkpoints, since a workflow of it can be forked from any step; its figures are "
            "those of row 11."
        )


def _report_log(site: Site, ours: Worker, peer: Worker | None, dbos: Worker | None) -> None:
    bench, scale = site.bench, site.bench.scale
    others = {f"a save of {PEER}": (peer, scale.saves(scale.steps)), "a step of DBOS": (dbos, scale.accounted)}
    with _configured(site.server, autovacuum="off"):
        with _configured(site.server, full_page_writes="off"):
            each = _logged(site, ours, scale.accounted) - _logged(site, ours, scale.accounted, dry=True)
            theirs = {name: _logged(site, *of) for name, of in others.items() if of[0] is not None}
        whole = [_logged(site, ours, scale.accounted)]
        whole += [_logged(site, *of) for of in others.values() if of[0] is not None]
    name = f"write-ahead log of an update at {scale.steps:,} steps, less than {PEER}"
    reached = next(iter(theirs.values())) / each if peer is not None and each > 0 else None
    bench.findings.goals.append(Goal(11, name, "at least", AT_LEAST_LESS_WAL, " x", reached))
    bench.findings.notes.append(
        f"Row 11: an update of Waypost adds {each:,.0f} bytes to the server's write-ahead log"
        + "".join(f", {name} {logged:,.0f}" for name, logged in theirs.items())
        + ". Right after a checkpoint of the server, which then logs each page as a whole when it is first touched: "
        + ", ".join(f"{logged:,.0f}" for logged in whole)
        + ", Waypost's with the reset before it."
    )


def _logged(site: Site, worker: Worker | None, count: int, dry: bool = False) -> float:
    """Bytes of the write-ahead log for each of so many updates, from a checkpoint of the server on."""
    assert worker is not None
    server = site.server
    server.execute("CHECKPOINT")
    before = server.execute("SELECT pg_current_wal_insert_lsn()")[0][0]
    worker.ask("account", count=count, dry=dry)
    return float(server.execute("SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", (before,))[0][0]) / count


@contextmanager
def _configured(server: servers.Server, **settings: str) -> Iterator[None]:
    """Let the server have other settings meanwhile. It finishes first what it vacuums."""
    _configure(server, *(f"SET {name} = {value}" for name, value in settings.items()))
    while server.execute("SELECT 1 FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"):
        time.sleep(0.1)
    yield
    _configure(server, *(f"RESET {name}" for name in settings))


def _configure(server: servers.Server, *changes: str) -> None:
    for change in changes:
        server.execute(f"ALTER SYSTEM {change}")
    server.execute("SELECT pg_reload_conf()")


# --- row 13 ---


def _measure_loads(site: Site) -> None:
    bench, scale = site.bench, site.bench.scale
    with Crew() as crew:
        bench.say("row 13: preparing")
        ours = _ours(site, crew, "loaded", scale.steps)
        peer = _peer(site, crew, "peer_loaded", scale.steps)
        dbos = _dbos(site, crew, "dbos_loaded", scale.steps)
        for whole, cold in ((False, False), (False, True), (True, True)):
            name = f"load, {scale.steps:,} steps, {'all' if whole else 'one'} touched, {'cold' if cold else 'hot'}"
            bench.say(f"row 13: {name}")
            how: dict[str, Any] = {"cold": cold, "count": scale.slow_loads if whole else scale.loads}
            order: Order[str] = [("ours", partial(ours.turn, "load", workflow="measured", whole=whole, **how))]
            if peer is not None:
                order.insert(0, ("peer", partial(peer.turn, "load", whole=whole, **how)))
            if dbos is not None:
                look = partial(dbos.turn, "load", **how)
                order.insert(0, ("dbos", partial(dbos.turn, "replay", count=how["count"]) if whole else look))
            _measured(bench, 13, name, "time", take_turns(scale.rounds, order), "ours")
    if dbos is not None:
        bench.findings.notes.append(
            "Row 13: DBOS lists the recorded steps, hot in a process that runs workflows and cold with a new "
            "DBOSClient. Where all are touched, it replays them, as it does before it goes on with a workflow: two "
            "SELECTs a step. Starting DBOS and the wait for its queue are left out."
        )


# --- row 14 ---


def _measure_together(site: Site) -> None:
    bench, server, scale = site.bench, site.server, site.bench.scale
    with Crew() as crew:
        bench.say("row 14: preparing")
        peers = crew.hire("peer_postgres", scale.processes) if site.with_peer else []
        ours = crew.hire("ours", scale.processes)
        ask_all(ours, "open", [{"path": server.url("together")}] * scale.processes)
        shares = [
            {"steps": scale.steps, "share": number, "shares": scale.processes} for number in range(scale.processes)
        ]
        ours[0].ask("create", workflow="measured", steps=scale.steps)
        ask_all(ours, "use", [{"workflow": "measured", **share} for share in shares])
        first = ours[0].ask("audit")["version"]
        floors = [_floor(site, crew) for _ in range(scale.processes)]
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


def _measure_apart(site: Site) -> None:
    """As many processes with a workflow each, beside DBOS, which has no workflow that several write to."""
    bench, server, scale = site.bench, site.server, site.bench.scale
    each, steps = range(scale.processes), max(10, scale.steps // scale.processes)
    with Crew() as crew:
        bench.say("row 14: preparing a workflow each")
        dbos = crew.hire("peer_dbos", scale.processes) if site.with_dbos else []
        ours = crew.hire("ours", scale.processes)
        ask_all(ours, "open", [{"path": server.url("apart")}] * scale.processes)
        ask_all(ours, "create", [{"workflow": f"measured-{number}", "steps": steps} for number in each])
        ask_all(ours, "use", [{"workflow": f"measured-{number}", "steps": steps} for number in each])
        floors = [_floor(site, crew) for _ in each]
        for number, worker in enumerate(dbos):  # the first makes the tables
            worker.ask("open", **_place_of_dbos(server, "dbos_apart"), executor=f"process-{number}")
        ask_all(dbos, "create", [{"steps": steps}] * len(dbos))
        bench.say("row 14: commits to a workflow each")
        floor = ("floor", partial(turn_of_all, floors, "rate", scale.window))
        order: Order[str] = [floor, ("ours", partial(turn_of_all, ours, "rate", scale.window)), floor]
        if dbos:
            order.insert(0, ("dbos", partial(turn_of_all, dbos, "rate", scale.window)))
        lanes = take_turns(scale.rounds, order)
        audits = [worker.ask("audit") for worker in dbos]
    _measured(bench, 14, f"{scale.processes} processes, a workflow each", "rate", lanes, "ours")
    if audits:
        told, found = (sum(audit[name] for audit in audits) for name in ("told", "found"))
        bench.findings.notes.append(
            "Row 14: DBOS has no workflow that several processes write to, so that it stands only beside a workflow "
            f"each; it lost {told - found:,} of {told:,} steps."
        )


# --- preparing ---


def _ours(site: Site, crew: Crew, schema: str, steps: int, *, alone: bool = False) -> Worker:
    (worker,) = crew.hire("ours")
    durability = worker.ask("open", path=site.server.url(schema), alone=alone)
    site.bench.findings.header["Waypost on PostgreSQL"] = f"durability {durability!r}, preset production"
    worker.ask("create", workflow="measured", steps=steps)
    worker.ask("use", workflow="measured", steps=steps)
    return worker


def _peer(site: Site, crew: Crew, schema: str, steps: int) -> Worker | None:
    if not site.with_peer:
        return None
    (worker,) = crew.hire("peer_postgres")
    durability = worker.ask("open", path=_place_of_peer(site.server, schema))
    site.bench.findings.header[PEER] = f"{durability}, its own settings"
    worker.ask("use", steps=steps)
    worker.ask("create", steps=steps)
    return worker


def _dbos(site: Site, crew: Crew, schema: str, steps: int) -> Worker | None:
    if not site.with_dbos:
        return None
    (worker,) = crew.hire("peer_dbos")
    durability = worker.ask("open", **_place_of_dbos(site.server, schema))
    site.bench.findings.header["DBOS"] = f"{durability}, its own settings"
    worker.ask("create", steps=steps)
    return worker


def _floor(site: Site, crew: Crew) -> Worker:
    (worker,) = crew.hire("floor_postgres")
    worker.ask("open", path=_place_of_peer(site.server, "floor"), frame_bytes=FLOOR_BYTES)
    return worker


def _place_of_peer(server: servers.Server, schema: str) -> str:
    """A connection string for a schema of its own, without the word that is Waypost's."""
    _make_schema(server, schema)
    user = f"host={server.directory} port={server.port} user={servers.ROLE} dbname={servers.DATABASE}"
    return f"{user} options='-c search_path={schema}'"


def _place_of_dbos(server: servers.Server, schema: str) -> dict[str, str]:
    """A URL, and the schema for its tables."""
    _make_schema(server, schema)
    where = urlencode({"host": str(server.directory), "port": str(server.port)})
    return {"path": f"postgresql://{servers.ROLE}@/{servers.DATABASE}?{where}", "schema": schema}


def _make_schema(server: servers.Server, schema: str) -> None:
    server.execute(f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {servers.ROLE}")


def _measured(bench: Bench, row: int, name: str, kind: Any, lanes: dict[str, Lane], engine: str) -> Measure:
    others = {"DBOS": lanes["dbos"]} if "dbos" in lanes else {}
    made = Measure(row, name, kind, lanes[engine], lanes.get("floor"), lanes.get("peer"), others)
    bench.findings.served.append(made)
    return made
