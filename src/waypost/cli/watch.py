"""`waypost watch`: commits as they are made, a line for each."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from waypost.cli import messages
from waypost.cli.commits import by, changed
from waypost.cli.invocation import Invocation, options, reading, workflow_id
from waypost.cli.text import escape

if TYPE_CHECKING:
    from waypost.watching import CommitEvent, Watch

_LONGEST_CURSOR = 200


@click.command()
@click.argument("workflow", required=False)
@click.option("--from", "cursor", metavar="CURSOR", help="Go on behind an event; `start` is the oldest commit kept.")
@click.option("--count", metavar="N", type=click.IntRange(1), help="End after so many.")
@options
@click.pass_obj
def watch(invocation: Invocation, workflow: str | None, cursor: str | None, count: int | None) -> None:
    """Tell of commits as they are made, by whatever process: a line for each, until Ctrl-C, which is no failure.

    WORKFLOW is an id, or the beginning of one; without it all workflows are watched. With --json each line is a
    document, whose `cursor` goes on behind it.
    """
    with reading(invocation) as store:
        name = None if workflow is None else workflow_id(store.store, workflow)
        with store.wp.watch(name, cursor=cursor) as commits, _until_interrupted(invocation, commits, workflow):
            for number, event in enumerate(commits, 1):
                if invocation.json:
                    messages.print_json_line(_document(event))
                else:
                    print(_line(event))
                sys.stdout.flush()
                if number == count:
                    return


@contextmanager
def _until_interrupted(invocation: Invocation, commits: Watch, workflow: str | None) -> Generator[None]:
    """An interrupt is how it is ended; people are told how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        cursor = commits.cursor
        if not invocation.json and len(cursor) <= _LONGEST_CURSOR:
            command = "waypost watch" if workflow is None else f"waypost watch {escape(workflow)}"
            messages.note(f"\ngo on behind the last one: {command} --from {cursor}")


def _document(event: CommitEvent) -> dict[str, Any]:
    import msgspec

    return {**msgspec.to_builtins(event), "cursor": event.cursor}


def _line(event: CommitEvent) -> str:
    """One line that says what a commit was."""
    version = f"{escape(event.workflow_id)}@{event.version}"
    if event.taken_back_from is not None:
        return f"{'':8}  {version}  was taken back from version {event.taken_back_from}"
    if event.at is None:
        return f"{'':8}  {version}  is no longer kept"
    statuses = ", ".join(f"{escape(step)}: {status}" for step, status in event.statuses.items())
    who = by(event)
    # a step whose status is told need not be named again
    told = [escape(event.operation or ""), statuses or changed(event), who and f"by {escape(who)}"]
    return "  ".join([event.at.astimezone().strftime("%H:%M:%S"), version, *filter(None, told)])
