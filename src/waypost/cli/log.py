"""`waypost log`: the commits of a workflow, the newest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from waypost import checkpoints, history
from waypost.cli import graph, messages
from waypost.cli.commits import SHORT_ID, by, what
from waypost.cli.invocation import Invocation, Reading, options, reading, workflow_argument, workflow_id
from waypost.cli.text import ago, cut
from waypost.errors import WaypostError
from waypost.history import HistoryEntry
from waypost.models import WorkflowStep

if TYPE_CHECKING:
    from rich.text import Text

_LONGEST_ERROR = 200

Place = tuple[str, int]
"""A workflow, and a version of it."""


@dataclass
class Line:
    """A version of a workflow, and what is said of it."""

    workflow_id: str
    entry: HistoryEntry
    steps: Mapping[str, WorkflowStep]
    origin: str | None
    merged: Sequence[bytes]

    @property
    def place(self) -> Place:
        return self.workflow_id, self.entry.version


@click.command()
@workflow_argument()
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1, 1_000_000_000), help="At most that many commits."
)
@click.option("--before", metavar="VERSION", type=click.IntRange(1), help="Only commits of versions below this one.")
@click.option("--oneline", is_flag=True, help="Only the id, the version and what each did.")
@click.option("--graph", "drawn", is_flag=True, help="Draw where it went back, and go on with what it was forked from.")
@options
@click.pass_obj
def log(invocation: Invocation, workflow: str, limit: int, before: int | None, oneline: bool, drawn: bool) -> None:
    """Show the commits of a workflow, the newest first: what each did and changed, and who made it.

    WORKFLOW is an id, or the beginning of one; a deleted workflow has a log too.
    """
    with reading(invocation) as store:
        name = workflow_id(store.store, workflow)
        if invocation.json:
            found = store.wp.history(name, limit=limit + 1, before=before)
            messages.print_json(_document(name, found[:limit], len(found) > limit))
            return
        lines = list(_lines(store, name, limit + 1, before))
        page, more = lines[:limit], len(lines) > limit
        shown = list(_drawn(store, page, limit - len(page)) if drawn else _listed(page))
    _show(shown, page, more, oneline)


def _document(name: str, page: Sequence[HistoryEntry], more: bool) -> dict[str, Any]:
    import msgspec

    commits = [{**msgspec.to_builtins(entry)} for entry in page]
    return {"workflow_id": name, "commits": commits, "next_before": page[-1].version if more else None}


def _lines(store: Reading, name: str, limit: int, before: int | None) -> Iterator[Line]:
    for entry, commit in history.told(store.store, name, limit, before):
        if commit is None:
            yield Line(name, entry, {}, None, ())
        else:
            merged = () if commit.merge is None else commit.merge.parents
            yield Line(name, entry, history.steps(commit), history.origin(commit), merged)


# --- what goes on from what ---


def _listed(page: Sequence[Line]) -> Iterator[tuple[str, Line | None]]:
    """Each version with the sign before it."""
    for line in page:
        yield ("*─" if line.entry.transaction_id else "*"), line


def _drawn(store: Reading, page: Sequence[Line], room: int) -> Iterator[tuple[str, Line | None]]:
    """The same with lines that say what goes on from what, and some that only join them. Behind a workflow that was
    forked come, while there is room, the versions that it came from.
    """
    lines = list(page)
    commits: list[tuple[Place, Place | None]] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        parent = _parent(store, line)
        if at == len(lines) - 1 and parent is not None and parent[0] != line.workflow_id and room > 0:
            earlier = list(_lines(store, parent[0], room, parent[1] + 1))
            lines += earlier
            room -= len(earlier)
        commits.append((line.place, parent))
        at += 1
    following = iter(lines)
    for each in graph.draw(commits):
        yield each.graph, next(following) if each.is_commit else None


def _parent(store: Reading, line: Line) -> Place | None:
    """What a version goes on from: the one before it, or that of the checkpoint that it went back to."""
    name, version = line.place
    if line.origin is not None:
        try:
            document, checkpoint = checkpoints.find(store.store, line.origin)
            return document.id, checkpoints.version_of(store.store, document, checkpoint).version
        except WaypostError:  # it is gone, and so is what would tell its version
            return None
    return (name, version - 1) if version > 1 else None


# --- for people ---


def _show(shown: Sequence[tuple[str, Line | None]], page: Sequence[Line], more: bool, oneline: bool) -> None:
    from waypost.cli import screen

    if not page:
        screen.show(screen.text("no commits of so early a version"))
        return
    with screen.paged():
        if oneline:
            screen.show(*screen.aligned([_short(*each) for each in shown], (2,)))
        else:
            headers = ("", "version", "commit", "when", "by", "what")
            screen.show(*screen.aligned(list(_rows(shown)), (1,), headers))
        if more:
            screen.show(screen.text((f"… and older ones: --before {page[-1].entry.version}", "dim")))


def _rows(shown: Sequence[tuple[str, Line | None]]) -> Iterator[list[Text]]:
    from waypost.cli import screen

    first = next(line.workflow_id for _, line in shown if line is not None)
    for kept, lines in groupby(shown, lambda each: each[1] is None or each[1].entry.kept):
        if kept:
            yield from (_row(sign, line, first) for sign, line in lines)
            continue
        gone = [line.entry.version for _, line in lines if line is not None]
        versions = f"{gone[-1]:,}" if len(gone) == 1 else f"{gone[-1]:,} to {gone[0]:,}"
        said = screen.text(("no longer kept", "dim"))
        yield [screen.text((":", "dim")), screen.text(versions), said, *[screen.text("")] * 3]


def _row(sign: str, line: Line | None, first: str) -> list[Text]:
    from waypost.cli import screen

    if line is None:
        return [screen.text((sign, "dim")), *[screen.text("")] * 5]
    entry = line.entry
    other = "" if line.workflow_id == first else f"{line.workflow_id}@"
    return [
        _signed(sign, entry),
        screen.text((other, "dim"), f"{entry.version:,}"),
        screen.text(((entry.commit_id or "")[:SHORT_ID], "dim")),
        screen.text(ago(entry.at)),
        screen.text((by(entry), "dim")),
        _what(line),
    ]


def _short(sign: str, line: Line | None) -> list[Text]:
    from waypost.cli import screen

    if line is None:
        return [screen.text((sign, "dim")), *[screen.text("")] * 3]
    said = _what(line) if line.entry.kept else screen.text(("no longer kept", "dim"))
    commit_id = (line.entry.commit_id or "")[:SHORT_ID]
    return [_signed(sign, line.entry), screen.text((commit_id, "yellow")), screen.text(f"{line.entry.version:,}"), said]


def _signed(sign: str, entry: HistoryEntry) -> Text:
    from waypost.cli import screen

    return screen.text((sign, "cyan" if entry.transaction_id else "yellow"))


def _what(line: Line) -> Text:
    from waypost.cli import screen

    said = what(line.entry, {name: step.status for name, step in line.steps.items()}, line.origin)
    errors = [step.error for step in line.steps.values() if step.status == "failed" and step.error]
    if len(errors) == 1:
        said = screen.text(said, (f"  {cut(errors[0], _LONGEST_ERROR)}", "dim"))
    if line.merged:
        said = screen.text(
            said, ("  of ", "cyan"), (" and ".join(each.hex()[:SHORT_ID] for each in line.merged), "cyan")
        )
    return said
