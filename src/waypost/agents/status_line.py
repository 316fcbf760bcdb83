"""One line for an agent's status line: what another command says, and whether this project's events are kept.

    python -I -S /path/to/waypost/agents/status_line.py [--then COMMAND] < what the agent tells

The agent starts it every few seconds, so it runs without site-packages and imports next to nothing.
"""

import os
import sys
from importlib.machinery import SourceFileLoader

TYPE_CHECKING = False  # the module that it comes from is not imported here
if TYPE_CHECKING:
    from typing import Any

_SUFFIX = ".event"


def main(arguments: list[str]) -> None:
    """Write the line. Never fails: a status line is not worth a traceback in somebody's terminal."""
    told = sys.stdin.buffer.read()
    pieces: list[str] = []
    if arguments[:1] == ["--then"] and len(arguments) > 1:
        pieces.append(output_of(arguments[1], told).rstrip("\n"))
    pieces.append(own())
    os.write(1, (" · ".join([each for each in pieces if each]) + "\n").encode("utf-8", "surrogateescape"))


def output_of(command: str, told: bytes) -> str:
    """What a command of the shell says that is told the same; nothing where it cannot be run."""
    import subprocess

    try:
        done = subprocess.run(["/bin/sh", "-c", command], input=told, stdout=subprocess.PIPE, check=False)
    except OSError:
        return ""
    return done.stdout.decode("utf-8", "replace")


def own() -> str:
    """Whether there is a store for this project's events, and how many wait to be taken in."""
    script: Any = type(sys)("script")
    SourceFileLoader("script", os.path.join(os.path.dirname(__file__), "../hooks/script.py")).exec_module(script)
    try:
        place: tuple[str, str] | None = script.find_spool(None)
        if place is None:
            return "waypost: no store here"
        waiting = len([name for name in os.listdir(os.path.join(*place)) if name.endswith(_SUFFIX)])
    except FileNotFoundError:
        waiting = 0
    except OSError as error:
        return f"waypost: {error.strerror}"
    return f"waypost: {waiting} waiting" if waiting else "waypost: recording"


if __name__ == "__main__":
    main(sys.argv[1:])
