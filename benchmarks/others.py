"""Peers beside LangGraph's and DBOS that take part in rows 1 and 4: Apache Burr's persister, and sqlite3 by itself."""

from __future__ import annotations

from importlib.util import find_spec

from benchmarks import machine
from benchmarks.bench import Bench
from benchmarks.crew import Crew, Worker

ENGINES = {"Apache Burr": "peer_burr", "sqlite3": "peer_sqlite3"}
SAVES_ALL = frozenset({"Apache Burr"})
"""Those that save the whole state each time, so that they are asked for fewer saves where it is large."""


def is_installed(name: str) -> bool:
    return name != "Apache Burr" or find_spec("burr") is not None


def hire(bench: Bench, crew: Crew) -> dict[str, Worker]:
    """A process for each that is installed, by its name; of the others the header says that they are not."""
    found: dict[str, Worker] = {}
    for name, engine in ENGINES.items():
        if not is_installed(name):
            bench.findings.header[name] = f"not measured: {machine.BURR} is not installed (make bench has it)"
        else:
            (found[name],) = crew.hire(engine)
    return found


def prepare(bench: Bench, name: str, worker: Worker, steps: int, place: str) -> str:
    """Let it have a state of so many steps in a new database; how durable that is."""
    durability = worker.ask("open", path=bench.place(place, ENGINES[name], f"{steps}.sqlite"))
    bench.findings.header[name] = durability
    worker.ask("use", steps=steps)
    worker.ask("create", steps=steps)
    return str(durability)


def updates_of(bench: Bench, name: str, steps: int) -> int:
    """How many updates it is asked for in a turn."""
    return bench.scale.saves(steps) if name in SAVES_ALL else bench.scale.updates
