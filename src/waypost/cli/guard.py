"""Ends the commands of a run whose runner died: a small process beside the runner, told of each command.

    python -I -S guard.py GRACE        standard input: lines "+PGID" and "-PGID"

It reads which process groups are at work. Standard input is a pipe that nobody but the runner can write to, so it
ends when the runner does, however that dies. Then what is still at work is told to end (SIGTERM) and, after GRACE
seconds, killed. So a command does not outlive its runner and meet itself, started again by the next one.

It runs without site-packages and imports next to nothing, since every run starts one.
"""

import os
import signal
import sys
import time

GRACE_S = 5.0
"""Seconds between asking a command to end and killing it."""

_LOOK_EVERY_S = 0.02


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # whoever interrupts the runner is not to interrupt this
        signal.signal(number, signal.SIG_IGN)
    groups = _listen()
    end_groups(groups, float(sys.argv[1]))


def _listen() -> set[int]:
    """The groups that are at work when the runner ends."""
    groups: set[int] = set()
    for line in sys.stdin:
        if line.startswith("+"):
            groups.add(int(line))
        elif line.startswith("-"):
            groups.discard(-int(line))
    return groups


def end_groups(groups: set[int], grace_s: float) -> None:
    """Ask process groups to end, and kill what has not ended within the grace."""
    deadline = time.monotonic() + grace_s
    groups = {group for group in groups if signal_group(group, signal.SIGTERM)}
    while groups and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
        groups = {group for group in groups if signal_group(group, 0)}
    for group in groups:
        signal_group(group, signal.SIGKILL)


def signal_group(group: int, number: int) -> bool:
    """Send a signal to every process of a group; False when it has none, or none that is ours."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main()
