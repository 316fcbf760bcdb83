"""`waypost log`: the commits of a workflow, the newest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import click

from waypost.cli import messages
from waypost.cli.invocation import Invocation, options, reading, workflow_id
from waypost.cli.text import ago, cut, listing
from waypost.history import HistoryEntry

_PATHS = 3
_LONGEST = 60
_ID = 12


@click.command()
@click.argument("workflow")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="At most that many commits.")
@click.option("--before", metavar="VERSION", type=click.IntRange(1), help="Only commits of versions below this one.")
@options
@click.pass_obj
def log(invocation: Invocation, workflow: str, limit: int, before: int | None) -> None:
    """Show the commits of a workflow, the newest first: what each did and changed, and who made it.

    WORKFLOW is an id, or the beginning of one; a deleted workflow has a log too.
    """
    with reading(invocation) as store:
        name = workflow_id(store.store, workflow)
        found = store.wp.history(name, limit=limit + 1, before=before)
    page, more = found[:limit], len(found) > limit
    if invocation.json:
        commits = [{**_document(entry)} for entry in page]
        messages.print_json(
            {"workflow_id": name, "commits": commits, "next_before": page[-1].version if more else None}
        )
    else:
        _show(page, more)


def _document(entry: HistoryEntry) -> dict[str, Any]:
    import msgspec

    return msgspec.to_builtins(entry)


def _show(page: Sequence[HistoryEntry], more: bool) -> None:
    from waypost.cli import screen

    if not page:
        screen.show(screen.text("no commits of so early a version"))
        return
    headers = ("", ">version", "when", "operation", "by", "changed", "commit")
    screen.show(screen.table(headers, list(_rows(page))))
    if more:
        screen.show(screen.text((f"… and older ones: --before {page[-1].version}", "dim")))


def _rows(page: Sequence[HistoryEntry]) -> Iterator[list[Any]]:
    from waypost.cli import screen

    for kept, entries in groupby(page, lambda entry: entry.kept):
        if kept:
            yield from map(_row, entries)
            continue
        gone = [entry.version for entry in entries]
        versions = f"{gone[-1]:,}" if len(gone) == 1 else f"{gone[-1]:,} to {gone[0]:,}"
        yield [screen.text((":", "dim")), versions, screen.text(("no longer kept", "dim")), "", "", "", ""]


def _row(entry: HistoryEntry) -> list[Any]:
    from waypost.cli import screen

    is_joint = entry.transaction_id is not None
    return [
        screen.text(("*─" if is_joint else "*", "cyan" if is_joint else "yellow")),
        f"{entry.version:,}",
        ago(entry.at),
        entry.operation or "",
        by(entry),
        screen.text(changed(entry), (f"  with {listing(entry.together_with, 3)}" if is_joint else "", "cyan")),
        screen.text(((entry.commit_id or "")[:_ID], "dim")),
    ]


def changed(entry: HistoryEntry) -> str:
    """What a commit changed, in a few words, harmless to a terminal."""
    # most steps leave a checkpoint: what it came with tells more
    own = [path for path in entry.changed if not path.startswith("checkpoints[")]
    shown = listing([cut(path, _LONGEST) for path in own or entry.changed], _PATHS)
    return f"all, but for {shown}" if entry.cleared and shown else "all" if entry.cleared else shown


def by(entry: HistoryEntry) -> str:
    """Who made a commit, as far as it is known."""
    return ", ".join(name for name in (entry.session_id, entry.agent_id) if name)
