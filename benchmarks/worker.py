"""One process with one engine: it reads commands from standard input, a JSON object a line, and answers each with one.

    python -m benchmarks.worker floor|floor_postgres|ours|peer|peer_dbos|peer_postgres

A command names a method of the engine as `do`; the rest are its arguments. The answer has the `result`, or the `error`.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from importlib import import_module

ENGINES = ("floor", "floor_postgres", "ours", "peer", "peer_dbos", "peer_postgres")


def main(name: str) -> None:
    if name not in ENGINES:
        raise SystemExit(f"{name!r} is no engine: it is one of {', '.join(ENGINES)}")
    # whatever a library prints must not end between the answers
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    sys.stdout = sys.stderr
    engine = import_module(f"benchmarks.{name}").Engine()
    for line in sys.stdin:
        command = json.loads(line)
        gc.collect()  # so that nobody pays for what an earlier turn has left
        try:
            answer = {"result": getattr(engine, command.pop("do"))(**command)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    engine.close()


if __name__ == "__main__":
    main(sys.argv[1])
