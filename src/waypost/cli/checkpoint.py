"""`waypost checkpoint` and `waypost fork`: keeping a workflow as it is, and making another one of what is kept."""

from __future__ import annotations

from typing import Any

import click

from waypost.cli import describe, messages
from waypost.cli.invocation import Invocation, options, reading, workflow_id, writing
from waypost.cli.text import ago, cut, listing
from waypost.models import StateCheckpoint, StateQuery, StateQueryResult

_DESCRIPTION = 60


@click.command()
@click.argument("workflow", required=False)
@click.option("-m", "--message", default="", metavar="TEXT", help="What the checkpoint is for.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag; may be repeated. With --list: only these.")
@click.option("--list", "listed", is_flag=True, help="List checkpoints, of WORKFLOW or of all, and make none.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="List at most that many.")
@options
@click.pass_obj
def checkpoint(
    invocation: Invocation, workflow: str | None, message: str, tags: tuple[str, ...], listed: bool, limit: int
) -> None:
    """Keep WORKFLOW as it is now, whatever becomes of it; or list what is kept.

    WORKFLOW is an id, or the beginning of one.
    """
    if listed:
        _list(invocation, workflow, tags, limit)
        return
    if workflow is None:
        raise click.UsageError("name the workflow that is to be kept, or say --list")
    with writing(invocation) as store:
        made = store.wp.create_checkpoint(workflow_id(store.store, workflow), message, tags).unwrap()
    if invocation.json:
        messages.print_json(describe.checkpoint(made))
        return
    from waypost.cli import screen

    screen.show(screen.text(("✓ ", "green"), (made.id, "bold"), f"  keeps {made.workflow_id} as it is now"))


def _list(invocation: Invocation, workflow: str | None, tags: tuple[str, ...], limit: int) -> None:
    with reading(invocation) as store:
        name = None if workflow is None else _workflow_of_checkpoints(store.store, workflow)
        page = store.wp.list_checkpoints(name, query=StateQuery(tags=tags, limit=limit))
    if invocation.json:
        messages.print_json({"checkpoints": [describe.checkpoint(one) for one in page], "total": page.total})
    else:
        _show(page)


def _workflow_of_checkpoints(store: Any, workflow: str) -> str:
    """The id of a workflow, or of one of which nothing but checkpoints is left."""
    from waypost.store import DocumentId

    return workflow if store.checkpoints(DocumentId("workflow", workflow)) else workflow_id(store, workflow)


def _show(page: StateQueryResult[StateCheckpoint]) -> None:
    from waypost.cli import screen

    if not len(page):
        screen.show(screen.text("no checkpoints"))
        return
    headers = ("checkpoint", "made", "type", "tags", "for", "after")
    screen.show(screen.table(headers, [_row(one) for one in page]))
    if page.has_more:
        screen.show(screen.text((f"… and {page.total - len(page):,} more: --limit", "dim")))


def _row(one: StateCheckpoint) -> list[Any]:
    from waypost.cli import screen

    parent = "" if one.parent_id is None else one.parent_id.removeprefix(one.workflow_id)
    return [
        one.id,
        ago(one.created_at),
        one.type,
        listing(one.tags, 4),
        cut(one.description, _DESCRIPTION),
        screen.text((parent, "dim")),
    ]


@click.command()
@click.argument("checkpoint")
@click.argument("new_id")
@options
@click.pass_obj
def fork(invocation: Invocation, checkpoint: str, new_id: str) -> None:
    """Make a workflow NEW_ID of what one was at CHECKPOINT: its steps, outputs and context.

    CHECKPOINT is an id, or the beginning of one.
    """
    with writing(invocation) as store:
        source = store.wp.get_checkpoint(checkpoint)
        made = store.wp.fork_workflow(source.id, new_id).unwrap()
    if invocation.json:
        messages.print_json({"checkpoint_id": source.id, **describe.state(made)})
        return
    from waypost.cli import screen

    screen.show(screen.text(("✓ ", "green"), (made.workflow.id, "bold"), f"  begins where {source.id} stands"))
