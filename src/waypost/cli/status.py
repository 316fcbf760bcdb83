"""`waypost status`: one screen that says what needs somebody, what is at work, what is unfinished, and how to go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import click

from waypost.cli import describe, messages
from waypost.cli.invocation import Invocation, Reading, options, reading, workflow_id
from waypost.cli.overview import IN_ORDER, MOST, Condition, Found, Overview, RunningStep, look, show_next, show_waiting
from waypost.cli.session import evidence, resume_command
from waypost.cli.text import ago, count, cut, duration, listing, short_session
from waypost.errors import WaypostError
from waypost.folding import WorkflowStatus
from waypost.hooks import spool
from waypost.session_models import SessionQuery, SessionState

if TYPE_CHECKING:
    from rich.text import Text

_SHOWN_OF_EACH = 12
_SHOWN_COMPLETED = 3
_SHOWN_SESSIONS = 5
_LONGEST_ID = 40
_NARROW = 70
"""Columns below which there are no bars."""

_ON_SCREEN: tuple[Condition, ...] = (
    "interrupted", "failed", "damaged", "running", "unfinished", "paused", "idle", "completed"
)  # fmt: skip
"""What needs somebody comes first."""

_TITLES: dict[Condition, str] = {
    "running": "at work",
    "interrupted": "interrupted: whoever was at work has died",
    "failed": "failed",
    "damaged": "cannot be read",
    "paused": "paused",
    "unfinished": "unfinished, and nobody is at work",
    "idle": "not started",
    "completed": "completed",
}


@click.command()
@click.argument("workflow", required=False)
@options
@click.pass_obj
def status(invocation: Invocation, workflow: str | None) -> None:
    """Show what needs somebody, what is at work and what is unfinished, who is at work on it, and how to go on.

    WORKFLOW is an id, or the beginning of one.
    """
    with reading(invocation) as store:
        only = None if workflow is None else workflow_id(store.store, workflow)
        overview = look(store, only, closely=MOST if invocation.json else _SHOWN_OF_EACH)
        overview.found = [_with_place(one, invocation) for one in overview.found]
        location = store.location
        waiting = spool.waiting(invocation.location())
        sessions = _crashed(store) if only is None and not invocation.json else ()
        command = _next(store, overview.found)
    if invocation.json:
        messages.print_json({**_document(location, overview), "go_on": command, "waiting_events": waiting})
    else:
        _show(location, overview, sessions, command, detailed=only is not None)
        show_waiting(waiting, invocation.flag())


def _crashed(store: Reading) -> Sequence[SessionState]:
    return store.wp.list_sessions(SessionQuery(status=("crashed",), limit=_SHOWN_SESSIONS)).items


def _with_place(found: Found, invocation: Invocation) -> Found:
    return found if found.go_on is None else replace(found, go_on=found.go_on + invocation.flag())


def _next(store: Reading, found: Sequence[Found]) -> str | None:
    """The one command to go on with: that of the first workflow nobody is at work on, as its session names it."""
    # of one that may not be read nothing is known that goes on with it
    waiting = [one for one in found if one.condition not in ("running", "completed") and one.go_on is not None]
    if not waiting or waiting[0].condition == "damaged":
        return waiting[0].go_on if waiting else None
    try:
        session_id = store.wp.load_workflow_state(waiting[0].id).unwrap().context.session_id
        session = None if session_id is None else store.wp.get_session(session_id)
    except WaypostError:  # its session is not here, or is damaged
        session = None
    own = resume_command(session) if session is not None and session.status in ("crashed", "paused") else None
    return waiting[0].go_on if own is None else own


def _document(location: str, overview: Overview) -> dict[str, object]:
    found = overview.found
    return {
        "location": location,
        "counts": _counts(overview),
        "workflows": found,
        "not_looked_at": overview.beyond[None],
    }


def _counts(overview: Overview) -> dict[Condition, int]:
    counts = Counter([one.condition for one in overview.found])
    return {condition: counts[condition] + overview.beyond[condition] for condition in IN_ORDER}


# --- for people ---


def _show(
    location: str, overview: Overview, sessions: Sequence[SessionState], command: str | None, *, detailed: bool
) -> None:
    from waypost.cli import screen

    found, counts = overview.found, _counts(overview)
    groups: dict[Condition, list[Found]] = {
        condition: [one for one in found if one.condition == condition] for condition in _ON_SCREEN
    }
    shown: dict[Condition, list[Found]] = {
        condition: group[: _most(condition, detailed)] for condition, group in groups.items()
    }
    rows = [_row(one, detailed) for group in shown.values() for one in group if one.condition != "damaged"]
    lines = iter(screen.aligned(rows, (2,)) if rows else ())

    screen.show(screen.text((location, "dim")))
    if not found:
        screen.show(screen.text("no workflows yet"))
    _show_sessions(sessions)
    for condition, group in shown.items():
        if group:
            is_damaged = condition == "damaged"
            made = [screen.unreadable(one.id, one.error) if is_damaged else next(lines) for one in group]
            _show_group(condition, made, counts[condition])
    if overview.beyond[None]:
        rest = f"{overview.beyond[None]:,} more that run, failed or are paused were not looked at: waypost list"
        screen.show(screen.blank(), screen.text((rest, "dim")))
    if command is not None:
        show_next(command)
    elif any(one.condition == "running" for one in found):
        screen.show(screen.blank(), screen.text("nothing waits for you: what is unfinished is being worked on"))
    elif found:
        screen.show(screen.blank(), screen.text("nothing is unfinished"))


def _most(condition: Condition, detailed: bool) -> int:
    return _SHOWN_COMPLETED if condition == "completed" and not detailed else _SHOWN_OF_EACH


def _show_group(condition: Condition, lines: Sequence[Text], number: int) -> None:
    from waypost.cli import screen

    title = screen.heading(_TITLES[condition])
    if number > 1:
        title = screen.text(title, (f"  {number:,}", "dim"))
    screen.show(screen.blank(), title, *(screen.indented(line) for line in lines))
    if number > len(lines):
        asked = f" --status {condition}" if condition in get_args(WorkflowStatus) and condition != "running" else ""
        screen.show(screen.indented(screen.text((f"… and {number - len(lines):,} more: waypost list{asked}", "dim"))))


def _show_sessions(sessions: Sequence[SessionState]) -> None:
    """Those whose owners have died: what they left is told by another command."""
    from waypost.cli import screen

    if not sessions:
        return
    screen.show(screen.blank(), screen.heading("sessions that crashed"))
    rows = [
        [
            screen.text(("! ", "bold yellow"), (short_session(one.session_id), "bold")),
            screen.text(one.user_id or ""),
            screen.text((ago(one.start_time), "dim")),
            screen.text(evidence(one)),
        ]
        for one in sessions
    ]
    screen.show(*(screen.indented(line) for line in screen.aligned(rows)))
    screen.show(screen.indented(screen.text(("what was running, and how to go on: waypost resume", "dim"))))


def _row(one: Found, detailed: bool) -> list[Text]:
    from waypost.cli import screen

    sign, style = screen.STYLES[one.condition]
    bar_width = 10 if screen.width() >= _NARROW else 0
    return [
        screen.text((sign, style), " ", (cut(one.id, _LONGEST_ID), "bold" if one.condition != "completed" else "")),
        screen.bar(one.progress / 100, bar_width, style),
        screen.text(f"{one.finished:,}/{one.total:,}" if one.total else ""),
        screen.text((ago(one.updated_at), "dim")) if one.updated_at else screen.text(""),
        _what(one, 20 if detailed else 3),
    ]


def _what(one: Found, most: int) -> Text:
    """What there is to say about a workflow beside its numbers."""
    from waypost.cli import screen

    if one.running:
        return _workers(one.running, most)
    if one.failed:
        return screen.text((listing(one.failed, most), "red"), f": {one.error}" if one.error else "")
    return screen.text((one.name if one.name != one.id else "", "dim"))


def _workers(steps: Sequence[RunningStep], most: int) -> Text:
    """Which process works on which steps, for how long, and whether it is there."""
    from waypost.cli import screen

    text = screen.text("")
    by_owner: dict[tuple[int | None, str | None, str], list[RunningStep]] = {}
    for step in steps:
        by_owner.setdefault((step.pid, step.host, step.liveness), []).append(step)
    for (pid, host, liveness), theirs in by_owner.items():
        who = "nobody on record" if pid is None else f"process {pid} on {host}"
        style = screen.STYLES[liveness][1]
        names = listing([step.id for step in theirs], most)
        pieces = (", " if text else "", names, (f" ({who}: ", "dim"), (liveness, style), (")", "dim"))
        text = screen.text(text, *pieces, (_since(theirs), "dim"))
    return text if len(steps) < 2 else screen.text((count(len(steps), "step") + ": ", "dim"), text)


def _since(steps: Sequence[RunningStep]) -> str:
    """For how long the one of them that was begun first has been running, where somebody is at work on it."""
    begun = [step.since for step in steps if step.since is not None and step.liveness != "dead"]
    longest = describe.elapsed_ms(min(begun, default=None), None)
    return "" if longest is None else f" for {duration(longest)}"
