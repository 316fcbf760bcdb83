"""`waypost list`: the workflows of a store, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import click

from waypost.cli import messages
from waypost.cli.describe import summary
from waypost.cli.invocation import Invocation, options, reading
from waypost.cli.overview import Condition, Found, LeftOut, condition_of, damaged, show_waiting
from waypost.cli.text import ago, duration, size
from waypost.folding import WorkflowStatus
from waypost.hooks import spool
from waypost.models import WorkflowSummary
from waypost.queries import StateQuery, StateQueryResult


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
    headers = ("workflow", "status", "progress", ">steps", "changed", ">took", ">size")
    screen.show(screen.table(headers, [_row(one, conditions[one.id]) for one in page]))
    if page.has_more:
        rest = page.total - offset - len(page)
        screen.show(screen.text((f"… and {rest:,} more: --offset {page.next_offset}", "dim")))


def _row(one: WorkflowSummary, condition: Condition) -> list[Any]:
    from waypost.cli import screen

    total = sum(one.step_counts.values())
    finished = one.step_counts["completed"] + one.step_counts["skipped"]
    took = summary(one)["duration_ms"]
    return [
        one.id,
        screen.status_text(condition),
        screen.bar(one.progress / 100, 10, screen.STYLES[condition][1]),
        f"{finished:,}/{total:,}",
        ago(one.updated_at),
        "" if took is None else duration(took),
        size(one.size_bytes),
    ]
