"""`waypost checkpoint`, `restore` and `fork`: keeping a workflow as it is, going back there, or on from there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from waypost.cli import describe, diff, messages
from waypost.cli.commands import Entry, Verb
from waypost.cli.invocation import Invocation, options, reading, workflow_id, writing
from waypost.cli.invocation import checkpoint as checkpoint_of
from waypost.cli.text import ago, count, cut, listing
from waypost.delta import Difference
from waypost.errors import InvalidInput, WorkflowNotFound
from waypost.models import StateCheckpoint
from waypost.queries import StateQuery, StateQueryResult

if TYPE_CHECKING:
    from waypost.blocking import Waypost

_DESCRIPTION = 60
_MOST_CHANGES = 30
_LISTED = 20


_CARRYING = {
    "export": Entry("waypost.cli.carrying:export", "Write a checkpoint to one file that stands alone."),
    "import": Entry("waypost.cli.carrying:import_", "Keep what such a file holds, here or in another store."),
}


@click.command(cls=Verb, entries=_CARRYING)
@click.argument("workflow", required=False)
@click.option("-m", "--message", metavar="TEXT", help="What the checkpoint is for.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag; may be repeated. With --list: only these.")
@click.option("--list", "listed", is_flag=True, help="List checkpoints, of WORKFLOW or of all, and make none.")
@click.option("--limit", type=click.IntRange(1, 10_000), help="With --list: at most that many.  [default: 20]")
@options
@click.pass_obj
def checkpoint(
    invocation: Invocation,
    workflow: str | None,
    message: str | None,
    tags: tuple[str, ...],
    listed: bool,
    limit: int | None,
) -> None:
    """Keep WORKFLOW as it is now, whatever becomes of it; or list what is kept; or carry it to another store.

    WORKFLOW is an id, or the beginning of one. One that is called like a command stands behind `--`.
    """
    if listed:
        if message is not None:
            raise click.UsageError("--message is of a checkpoint that is made: --list makes none")
        _list(invocation, workflow, tags, limit or _LISTED)
        return
    if limit is not None:
        raise click.UsageError("--limit goes with --list")
    if workflow is None:
        raise click.UsageError("name the workflow that is to be kept, or say --list")
    with writing(invocation) as store:
        made = store.wp.create_checkpoint(workflow_id(store.store, workflow), message or "", tags).unwrap()
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
@click.option("--yes", is_flag=True, help="Do not ask.")
@options
@click.pass_obj
def restore(invocation: Invocation, checkpoint: str, yes: bool) -> int:
    """Make a workflow what it was at CHECKPOINT, as a new version: what came since stays in its history.

    Shows what that changes, and asks. CHECKPOINT is an id, or the beginning of one.
    """
    with writing(invocation) as store:
        kept = checkpoint_of(store, checkpoint, invocation.flag())
        changes = _changes(store.wp, kept)
        if not yes and not _agreed(kept, changes, invocation.json):
            return 1
        state = store.wp.restore_from_checkpoint(kept.id).unwrap()
    if invocation.json:
        messages.print_json({"checkpoint_id": kept.id, "changes": _documents(changes), **describe.state(state)})
        return 0
    from waypost.cli import screen

    said = f"  is what it was at {kept.id}, as version {state.metadata.version:,}"
    screen.show(screen.text(("✓ ", "green"), (kept.workflow_id, "bold"), said))
    return 0


def _changes(wp: Waypost, kept: StateCheckpoint) -> list[Difference]:
    """What going back would change; all of it is new where nothing but checkpoints is left of the workflow."""
    try:
        return list(wp.diff(kept.workflow_id, kept.id))
    except WorkflowNotFound:
        return []


def _documents(changes: list[Difference]) -> list[dict[str, Any]]:
    return [diff.difference(each) for each in changes]


def _agreed(kept: StateCheckpoint, changes: list[Difference], as_json: bool) -> bool:
    if as_json or not sys.stdin.isatty():
        what = count(len(changes), "difference") if changes else "no differences"
        raise InvalidInput(f"{kept.workflow_id} would go back to {kept.id} ({what}). Say --yes to go on")
    diff.show(changes, f"{kept.workflow_id} as it is, to {kept.id}", False, _MOST_CHANGES)
    return click.confirm("Restore it?", default=False, err=True)


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
        source = checkpoint_of(store, checkpoint, invocation.flag())
        made = store.wp.fork_workflow(source.id, new_id).unwrap()
    if invocation.json:
        messages.print_json({"checkpoint_id": source.id, **describe.state(made)})
        return
    from waypost.cli import screen

    screen.show(screen.text(("✓ ", "green"), (made.workflow.id, "bold"), f"  begins where {source.id} stands"))
