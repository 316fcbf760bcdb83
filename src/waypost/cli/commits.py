"""A commit in a few words, for `log` and `watch`: what became of which step, what else changed, and who did it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from waypost.cli.text import count, cut, listing, short_session
from waypost.history import HistoryEntry

if TYPE_CHECKING:
    from rich.text import Text

SHORT_ID = 12
"""Digits of a commit's id that are shown."""

_PATHS = 3
_LONGEST = 60
_STEPS = 3
_LONGEST_NAME = 30
_UNTOLD = "update_step_status"
"""The operation that most commits are of: what it did to which step says so."""


def what(entry: HistoryEntry, statuses: Mapping[str, str], origin: str | None = None) -> Text:
    """What a commit was: its operation, and what it did to steps or changed else."""
    from waypost.cli import screen

    operation = entry.operation or ""
    if origin is not None:
        said = screen.text(f"{operation}  from ", (origin, "bold"))
    elif operation == "create_workflow":
        said = screen.text(f"{operation}  ", (count(len(statuses), "step") if statuses else "", "dim"))
    elif operation == _UNTOLD and statuses:
        said = of_steps(statuses)
    else:
        told = of_steps(statuses) if statuses and operation != "add_step_output" else screen.text(changed(entry))
        said = screen.text(operation, "  " if operation and told else "", told)
    if entry.together_with:
        said = screen.text(said, ("  with ", "cyan"), (listing(entry.together_with, 3), "cyan"))
    return said


def of_steps(statuses: Mapping[str, str]) -> Text:
    """What became of steps: each with its status, or of many those of each status."""
    from waypost.cli import screen

    made = screen.text()
    if len(statuses) <= _STEPS:
        for name, status in statuses.items():
            made = screen.text(made, ", " if made else "", name, ": ", _coloured(status))
        return made
    by_status: dict[str, list[str]] = {}
    for name, status in statuses.items():
        by_status.setdefault(status, []).append(name)
    for status, names in by_status.items():
        made = screen.text(made, ", " if made else "", f"{listing(names, _STEPS)}: ", _coloured(status))
    return made


def _coloured(status: str) -> tuple[str, str]:
    from waypost.cli import screen

    return status, screen.STYLES.get(status, ("", ""))[1]


def changed(entry: HistoryEntry) -> str:
    """What a commit changed, in a few words, harmless to a terminal."""
    # most steps leave a checkpoint, and sessions a note of themselves: what these came with tells more
    own = [path for path in entry.changed if not path.startswith(("checkpoints[", "sessions.", "sessions["))]
    shown = listing([cut(path, _LONGEST) for path in own or entry.changed], _PATHS)
    return f"all, but for {shown}" if entry.cleared and shown else "all" if entry.cleared else shown


def by(entry: HistoryEntry) -> str:
    """Who made a commit, as far as it is known: the agent, and the session. Shortened in a terminal."""
    from waypost.cli import screen

    names = [name for name in (entry.agent_id, entry.session_id) if name]
    if not screen.is_terminal():
        return ", ".join(names)
    return ", ".join(cut(short_session(name), _LONGEST_NAME) for name in names)
