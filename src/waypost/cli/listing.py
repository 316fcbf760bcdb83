"""`waypost list`: the workflows of a store, as a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args

import click

from waypost import clock
from waypost.cli import messages
from waypost.cli.describe import summary
from waypost.cli.invocation import Invocation, options, reading
from waypost.cli.overview import Condition, Found, LeftOut, condition_of, damaged, show_waiting
from waypost.cli.session import session_id
from waypost.cli.text import ago, cut, duration, size
from waypost.folding import WorkflowStatus
from waypost.hooks import spool
from waypost.models import WorkflowSummary
from waypost.queries import StateQuery, StateQueryResult, TimeRange

if TYPE_CHECKING:
    from rich.text import Text


_SHORTEST_ID, _BESIDE = 20, 50
"""An id has what is left beside the columns that matter most, and so much at least."""

_WITH_BARS = 90


_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_AGE = re.compile(r"(\d{1,9})\s*(s|min|h|d)")


def _since(_context: click.Context, _parameter: click.Parameter, given: str | None) -> TimeRange | None:
    """From a time on, told as an age or as a date, of this machine's time zone where it names none."""
    if given is None:
        return None
    age = _AGE.fullmatch(given.strip())
    try:
        if age is not None:
            return TimeRange(clock.to_datetime(clock.now_us()) - timedelta(seconds=int(age[1]) * _UNITS[age[2]]))
        return TimeRange(datetime.fromisoformat(given).astimezone())
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(f"{given!r} is no time: it is 30min, 2h, 7d, or a date as 2026-11-29") from error


@click.command("list")
@click.option(
    "--status", multiple=True, type=click.Choice(get_args(WorkflowStatus)), help="Only these; may be repeated."
)
@click.option("--session", metavar="ID", help="Only those in which a session has written; the beginning will do.")
@click.option("--since", metavar="TIME", callback=_since, help="Only those changed since: 30min, 2h, 7d, or a date.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="At most that many.")
@click.option("--offset", default=0, type=click.IntRange(0, 1_000_000_000), help="Leave out the first ones.")
@click.option("--sort", type=click.Choice(["updated", "created", "size"]), default="updated", show_default=True)
@click.option("--reverse", is_flag=True, help="The smallest or oldest first.")
@options
@click.pass_obj
def list_(
    invocation: Invocation,
    status: tuple[WorkflowStatus, ...],
    session: str | None,
    since: TimeRange | None,
    limit: int,
    offset: int,
    sort: Any,
    reverse: bool,
) -> None:
    """List workflows, the last changed first."""
    with reading(invocation) as store:
        query = StateQuery(
            status=status,
            session_id=None if session is None else session_id(store, session),
            time_range=since,
            limit=limit,
            offset=offset,
            sort_by=sort,
            sort_order="asc" if reverse else "desc",
        )
        with LeftOut() as left_out:
            page = store.wp.list_workflows(query)
        conditions: dict[str, Condition] = {one.id: condition_of(store, one) for one in page}
        unread = list(damaged(store, store.store.documents("workflow"))) if left_out.any else []
        waiting = spool.waiting(invocation.location())
    if invocation.json:
        messages.print_json({**_document(page, conditions, unread), "waiting_events": waiting})
    else:
        _show(page, conditions, unread, offset)
        show_waiting(waiting, invocation.flag())


def _document(
    page: StateQueryResult[WorkflowSummary], conditions: Mapping[str, Condition], unread: list[Found]
) -> dict[str, Any]:
    return {
        "workflows": [{**summary(one), "condition": conditions[one.id]} for one in page],
        "total": page.total,
        "next_offset": page.next_offset,
        "unreadable": [{"id": one.id, "error": one.error} for one in unread],
    }


def _show(
    page: StateQueryResult[WorkflowSummary], conditions: Mapping[str, Condition], unread: list[Found], offset: int
) -> None:
    from waypost.cli import screen

    for one in unread:
        screen.show(screen.unreadable(one.id, one.error))
    if not len(page):
        if not unread:
            screen.show(screen.text("no workflows" if page.total == 0 else f"no more: there are {page.total:,}"))
        return
    headers = ("workflow", "status", "progress", "steps", "changed", "took", "size")
    with screen.paged():
        screen.show(*screen.aligned([_row(one, conditions[one.id]) for one in page], (3, 5, 6), headers))
        if page.has_more:
            rest = page.total - offset - len(page)
            screen.show(screen.text((f"… and {rest:,} more: --offset {page.next_offset}", "dim")))


def _row(one: WorkflowSummary, condition: Condition) -> list[Text]:
    from waypost.cli import screen

    width = screen.width()

    total = sum(one.step_counts.values())
    finished = one.step_counts["completed"] + one.step_counts["skipped"]
    took = summary(one)["duration_ms"]
    return [
        screen.text(cut(one.id, max(_SHORTEST_ID, width - _BESIDE))),
        screen.status_text(condition),
        screen.bar(one.progress / 100, 10 if width >= _WITH_BARS else 0, screen.STYLES[condition][1]),
        screen.text(f"{finished:,}/{total:,}"),
        screen.text(ago(one.updated_at)),
        screen.text("" if took is None else duration(took)),
        screen.text(size(one.size_bytes)),
    ]
