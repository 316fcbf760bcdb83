"""`waypost store sync`: bring two stores to the same documents, or say what that would do."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, get_args

import click

from waypost.cli import messages
from waypost.cli.invocation import Invocation, no_store, options
from waypost.cli.text import count
from waypost.errors import InvalidInput, StoreNotFound
from waypost.store import Progress
from waypost.sync_models import OnConflict, Side, StateConflict, SyncReport

if TYPE_CHECKING:
    from waypost.blocking import Waypost

_SHOWN = 50
_MARKS = {"taken": ("← ", "cyan"), "sent": ("→ ", "cyan"), "merged": ("↔ ", "yellow")}


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="[B]", required=False)
@click.option(
    "--on-conflict",
    type=click.Choice(get_args(OnConflict)),
    default="merge",
    show_default=True,
    help="What becomes of what both have changed in different ways; `merge` leaves it alone on both sides.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@options
@click.pass_obj
def sync(invocation: Invocation, a: str, b: str | None, on_conflict: OnConflict, dry_run: bool) -> int:
    """Bring the stores at A and B to the same workflows and sessions, both ways; without B, the store here and A.

    Only what is missing travels, so that it may be broken off anywhere and done again. Where there is no store at B,
    one is made. With `--on-conflict user_intervention` each conflict is asked about. Ends with 1 where a conflict or a
    failure is left.
    """
    here, there = (invocation.location(), a) if b is None else (a, b)
    with opened(here, dry_run=dry_run) as wp, bar("syncing") as progress:
        report = wp.sync(
            there,
            on_conflict=on_conflict,
            resolve=_asking() if on_conflict == "user_intervention" else None,
            dry_run=dry_run,
            progress=progress,
        ).unwrap()
    if invocation.json:
        messages.print_json(_document(report))
    else:
        _show(report)
    return 1 if report.unresolved or report.failures else 0


@contextmanager
def opened(location: str, *, dry_run: bool) -> Generator[Waypost]:
    """A handle on a store that is there; with `dry_run` one that changes nothing."""
    from waypost.blocking import Waypost
    from waypost.config import find_location, is_directory, load
    from waypost.definitions import Definitions
    from waypost.opening import take_part
    from waypost.store import open_store

    place = find_location(location)
    if place == "memory:":
        raise InvalidInput("a store in memory ends with its process: name a directory")
    config = load(None, None, place if is_directory(place) else None)
    try:
        store = open_store(place, config, create=False, read_only=dry_run)
    except StoreNotFound as error:
        raise no_store(place, error) from error
    try:
        definitions = Definitions(store, config, False)
        if not dry_run:
            take_part(definitions, place)
        yield Waypost(definitions)
    finally:
        store.close()


def _asking() -> Any:
    if not sys.stdin.isatty():
        raise InvalidInput("conflicts are asked about in a terminal: say another --on-conflict")
    return _ask


def _ask(conflict: StateConflict) -> Side | None:
    """Which side stands, as whoever sits there says."""
    messages.note(str(conflict))
    for name in ("base", "ours", "theirs"):
        side = getattr(conflict, name)
        when = f" ({side.time.isoformat(timespec='seconds')})" if side.time is not None else ""
        messages.note(f"  {name}: {side.value!r:.300}{when}")
    choices = click.Choice([*get_args(Side), "skip"])
    said = click.prompt("Which one stands?", type=choices, default="skip", err=True)
    return next((each for each in get_args(Side) if each == said), None)


def _document(report: SyncReport) -> dict[str, object]:
    return {
        "location": report.location,
        "other": report.other,
        "dry_run": report.dry_run,
        "looked_at": report.looked_at,
        "unchanged": report.unchanged,
        "documents": report.documents,
        "conflicts": [_plain(each) for each in report.conflicts],
        "failures": report.failures,
    }


def _plain(conflict: StateConflict) -> dict[str, object]:
    """A conflict with values as people read them, since JSON holds few of the types that there are."""
    sides = {
        name: {"value": f"{side.value!r}", "time": side.time, "commit_id": side.commit_id,
               "operation_id": side.operation_id, "session_id": side.session_id}
        for name, side in (("base", conflict.base), ("ours", conflict.ours), ("theirs", conflict.theirs))
    }  # fmt: skip
    return {
        "kind": conflict.kind,
        "id": conflict.document_id,
        "type": conflict.conflict_type,
        "path": conflict.path,
        "reason": conflict.reason,
        "resolution": conflict.resolution,
        **sides,
    }


def _show(report: SyncReport) -> None:
    from waypost.cli import screen

    screen.show(screen.text((report.location, "dim"), (" ↔ ", "dim"), (report.other, "dim")))
    for one in report.documents[:_SHOWN]:
        new = ", new there" if one.is_new and one.action == "sent" else ", new here" if one.is_new else ""
        what = f"  {one.kind}, {one.action}: {count(one.commits, 'commit')}{new}"
        screen.show(screen.text(_MARKS[one.action], (one.id, "bold"), (what, "dim")))
    if len(report.documents) > _SHOWN:
        screen.show(screen.text(f"… and {len(report.documents) - _SHOWN:,} more: --json has all"))
    for conflict in report.conflicts:
        mark = ("! ", "yellow") if conflict.resolution else ("✗ ", "bold red")
        screen.show(screen.line(mark, str(conflict)))
    for failure in report.failures:
        screen.show(screen.line(("✗ ", "bold red"), f"{failure.kind} {failure.id!r}: {failure.error}"))
    said = "would be synced" if report.dry_run else "synced"
    told = f"{count(len(report.documents), 'document')} {said}, {report.unchanged:,} the same"
    left = len(report.unresolved) + len(report.failures)
    verdict = (f"✗ {left:,} left; {told}", "bold red") if left else (f"✓ {told}", "green")
    screen.show(screen.blank(), screen.text(verdict))


@contextmanager
def bar(doing: str) -> Generator[Progress]:
    """A bar on standard error, where people look."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(doing, total=None)
        yield lambda done, of: bars.update(task, completed=done, total=of)


def _silent(done: int, of: int) -> None:
    """Nobody looks."""
