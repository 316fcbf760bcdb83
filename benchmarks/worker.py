"""One process with one engine, which does what it reads (waypost.bench.worker).

python -m benchmarks.worker ENGINE
"""

from __future__ import annotations

import sys
from importlib import import_module

from waypost.bench.worker import serve

OWN = ("floor_postgres", "ours", "peer", "peer_burr", "peer_dbos", "peer_postgres", "peer_sqlite3")
ENGINES = {
    "floor": "waypost.bench.floor",
    "scaled": "benchmarks.scaling.engine",
    **{name: f"benchmarks.{name}" for name in OWN},
}


def main(name: str) -> None:
    if name not in ENGINES:
        raise SystemExit(f"{name!r} is no engine: it is one of {', '.join(ENGINES)}")
    engine = import_module(ENGINES[name]).Engine()
    if name == "ours":
        from benchmarks import removals  # which loads the store

        removals.remove()
    serve(engine)


if __name__ == "__main__":
    main(sys.argv[1])
