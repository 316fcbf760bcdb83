"""One process with one engine, which does what it reads (waypost.bench.worker).

python -m benchmarks.worker floor|floor_postgres|ours|peer|peer_dbos|peer_postgres|scaled
"""

from __future__ import annotations

import sys
from importlib import import_module

from waypost.bench.worker import serve

ENGINES = {
    "floor": "waypost.bench.floor",
    "scaled": "benchmarks.scaling.engine",
    **{name: f"benchmarks.{name}" for name in ("floor_postgres", "ours", "peer", "peer_dbos", "peer_postgres")},
}


def main(name: str) -> None:
    if name not in ENGINES:
        raise SystemExit(f"{name!r} is no engine: it is one of {', '.join(ENGINES)}")
    serve(import_module(ENGINES[name]).Engine())


if __name__ == "__main__":
    main(sys.argv[1])
