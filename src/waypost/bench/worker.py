"""One process with one engine: it reads commands from standard input, a JSON object a line, and answers each with one.

    python -m waypost.bench.worker floor|waypost

A command names a method of the engine as `do`; the rest are its arguments. The answer has the `result`, or the `error`.
The process ends when its input does, so that it does not outlive whoever started it, however that dies.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from typing import Any


def serve(engine: Any) -> None:
    """Do what an engine is told, until the input ends."""
    # whatever a library prints must not end between the answers
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    sys.stdout = sys.stderr
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


def main(name: str) -> None:
    if name == "floor":
        from waypost.bench import floor

        serve(floor.Engine())
    elif name == "waypost":
        from waypost.bench import counting, engine

        counting.begin()
        serve(engine.Engine())
    else:
        raise SystemExit(f"{name!r} is no engine: it is floor or waypost")


if __name__ == "__main__":
    main(sys.argv[1])
