"""`waypost status`: one screen that says what runs, what failed, what is unfinished, and how to go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from waypost.cli import messages
from waypost.cli.invocation import Invocation, options, reading, workflow_id
from waypost.cli.overview import IN_ORDER, MOST, Condition, Found, Overview, RunningStep, look, show_waiting
from waypost.cli.text import ago, count, cut, listing
from waypost.hooks import spool

if TYPE_CHECKING:
    from rich.text import Text

_SHOWN_OF_EACH = 12
_SHOWN_COMPLETED = 3
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
    """Show what is running, what failed and what is unfinished, who is at work on it, and how to go on.

    WORKFLOW is an id, or the beginning of one.
    """
    with reading(invocation) as store:
        only = None if workflow is None else workflow_id(store.store, workflow)
        overview = look(store, only, closely=MOST if invocation.json else _SHOWN_OF_EACH)
        overview.found = [_with_place(one, invocation) for one in overview.found]
        location = store.location
        waiting = spool.waiting(invocation.location())
    if invocation.json:
        messages.print_json({**_document(location, overview), "waiting_events": waiting})
    else:
        _show(location, overview, detailed=only is not None)
        show_waiting(waiting)


def _with_place(found: Found, invocation: Invocation) -> Found:
    return found if found.go_on is None else replace(found, go_on=found.go_on + invocation.flag())


def _next(found: Sequence[Found]) -> str | None:
    """The one command to go on with: that of the first workflow nobody is at work on."""
    waiting = [one for one in found if one.condition not in ("running", "completed")]
    return waiting[0].go_on if waiting else None


def _document(location: str, overview: Overview) -> dict[str, object]:
    found = overview.found
    return {
        "location": location,
        "counts": _counts(overview),
        "workflows": found,
        "not_looked_at": overview.beyond[None],
        "go_on": _next(found),
    }


def _counts(overview: Overview) -> dict[Condition, int]:
    counts = Counter([one.condition for one in overview.found])
    return {condition: counts[condition] + overview.beyond[condition] for condition in IN_ORDER}


# --- for people ---


def _show(location: str, overview: Overview, *, detailed: bool) -> None:
    from waypost.cli import screen

    found, counts = overview.found, _counts(overview)

    screen.show(screen.text((location, "dim")))
    if not found:
        screen.show(screen.text("no workflows yet"))
    for condition in IN_ORDER:
        group = [one for one in found if one.condition == condition]
        if group:
            _show_group(condition, group, counts[condition], detailed)
    if overview.beyond[None]:
        rest = f"{overview.beyond[None]:,} more that run, failed or are paused were not looked at: waypost list"
        screen.show(screen.blank(), screen.text((rest, "dim")))
    command = _next(found)
    if command is not None:
        screen.show(screen.blank(), screen.text("go on with  ", (command, "bold")))
    elif any(one.condition == "running" for one in found):
        screen.show(screen.blank(), screen.text("nothing waits for you: what is unfinished is being worked on"))
    elif found:
        screen.show(screen.blank(), screen.text("nothing is unfinished"))


def _show_group(condition: Condition, group: Sequence[Found], number: int, detailed: bool) -> None:
    from waypost.cli import screen

    most = _SHOWN_COMPLETED if condition == "completed" and not detailed else _SHOWN_OF_EACH
    title = screen.heading(_TITLES[condition])
    if number > 1:
        title = screen.text(title, (f"  {number:,}", "dim"))
    screen.show(screen.blank(), title)
    if condition == "damaged":
        screen.show(*(screen.indented(screen.unreadable(one.id, one.error)) for one in group[:most]))
    else:
        rows = [_row(one, detailed) for one in group[:most]]
        screen.show(screen.indented(screen.table(("", "", "", "", ""), rows, headless=True)))
    if number > most:
        screen.show(screen.indented(screen.text((f"… and {number - most:,} more: waypost list", "dim"))))


def _row(one: Found, detailed: bool) -> list[Text]:
    from waypost.cli import screen

    sign, style = screen.STYLES[one.condition]
    return [
        screen.text((sign, style), " ", (cut(one.id, 40), "bold" if one.condition != "completed" else "")),
        screen.bar(one.progress / 100, 10, style),
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
    """Which process works on which steps, and whether it is there."""
    from waypost.cli import screen

    text = screen.text("")
    by_owner: dict[tuple[int | None, str | None, str], list[str]] = {}
    for step in steps:
        by_owner.setdefault((step.pid, step.host, step.liveness), []).append(step.id)
    for (pid, host, liveness), names in by_owner.items():
        who = "nobody on record" if pid is None else f"process {pid} on {host}"
        style = screen.STYLES[liveness][1]
        pieces = (", " if text else "", listing(names, most), (f" ({who}: ", "dim"), (liveness, style), (")", "dim"))
        text = screen.text(text, *pieces)
    return text if len(steps) < 2 else screen.text((count(len(steps), "step") + ": ", "dim"), text)
