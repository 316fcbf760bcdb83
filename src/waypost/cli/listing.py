"""`waypost list`: the workflows of a store, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

import click

from waypost.cli import messages
from waypost.cli.describe import summary
from waypost.cli.invocation import Invocation, options, reading
from waypost.cli.overview import Condition, Found, LeftOut, condition_of, damaged, show_waiting
from waypost.cli.text import ago, cut, duration, size
from waypost.folding import WorkflowStatus
from waypost.hooks import spool
from waypost.models import WorkflowSummary
from waypost.queries import StateQuery, StateQueryResult

if TYPE_CHECKING:
    from rich.text import Text


_SHORTEST_ID, _BESIDE = 20, 50
"""An id has what is left beside the columns that matter most, and so much at least."""

_WITH_BARS = 90


@click.command("list")
@click.option(
    "--status", multiple=True, type=click.Choice(get_args(WorkflowStatus)), help="Only these; may be repeated."
)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="At most that many.")
@click.option("--offset", default=0, type=click.IntRange(0), help="Leave out the first ones.")
@click.option("--sort", type=click.Choice(["updated", "created", "size"]), default="updated", show_default=True)
@click.option("--reverse", is_flag=True, help="The smallest or oldest first.")
@options
@click.pass_obj
def list_(
    invocation: Invocation, status: tuple[WorkflowStatus, ...], limit: int, offset: int, sort: Any, reverse: bool
) -> None:
    """List workflows, the last changed first."""
    query = StateQuery(status=status, limit=limit, offset=offset, sort_by=sort, sort_order="asc" if reverse else "desc")
    with reading(invocation) as store:
        with LeftOut() as left_out:
            page = store.wp.list_workflows(query)
        conditions: dict[str, Condition] = {one.id: condition_of(store, one) for one in page}
        unread = list(damaged(store, store.store.documents("workflow"))) if left_out.any else []
        waiting = spool.waiting(invocation.location())
    if invocation.json:
        messages.print_json({**_document(page, conditions, unread), "waiting_events": waiting})
    else:
        _show(page, conditions, unread, offset)
        show_waiting(waiting)


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
