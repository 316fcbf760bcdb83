"""`waypost erase`: a value that should never have been stored."""

from __future__ import annotations

import sys

import click
from msgspec import structs

from waypost import erasures
from waypost.cli import messages
from waypost.cli.invocation import Invocation, options, workflow_id, writing
from waypost.cli.text import count, listing
from waypost.erasures import Erasure
from waypost.errors import InvalidInput
from waypost.store import Store

_MOST_SHOWN = 10


@click.command()
@click.argument("workflow")
@click.argument("path")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options
@click.pass_obj
def erase(invocation: Invocation, workflow: str, path: str, yes: bool) -> int:
    """Take what is at PATH out of WORKFLOW, all of its history, and its checkpoints. It cannot be brought back.

    PATH names an output (outputs.fetch, or outputs.fetch@2 for one version of it), a variable (context.variables.x), a
    configuration value, a feature, a secret, or an agent (agents.writer). The commits that put it stay, and say so.

    Backups of this workflow's log that the store keeps, and what a repair put aside of it, are removed. Backups
    elsewhere, exports, and workflows that were forked from this one are out of reach. WORKFLOW is an id, or the
    beginning of one.
    """
    with writing(invocation) as store:
        name = workflow_id(store.store, workflow)
        if not yes and not _agreed(store.store, name, path, invocation.json):
            return 1
        done = store.wp.erase(name, path).unwrap()
    _tell(invocation, done)
    return 0


def _agreed(store: Store, name: str, path: str, as_json: bool) -> bool:
    commits, checkpoints = erasures.holders(store, name, path)
    what = (
        f"{path} of {name} would be erased from {count(len(commits), 'commit')} and "
        f"{count(len(checkpoints), 'checkpoint')}, and all backups of its log in the store would be removed"
    )
    if as_json or not sys.stdin.isatty():
        raise InvalidInput(f"{what}. Say --yes to go on")
    from waypost.cli import screen

    for each in commits[:_MOST_SHOWN]:
        screen.show(screen.text(("- ", "red"), f"version {each.version:,}, by {each.operation}"))
    if len(commits) > _MOST_SHOWN:
        screen.show(screen.text((f"… and {len(commits) - _MOST_SHOWN:,} more", "dim")))
    messages.note(f"{what}. It cannot be brought back.")
    return click.confirm("Erase it?", default=False, err=True)


def _tell(invocation: Invocation, done: Erasure) -> None:
    if invocation.json:
        messages.print_json(structs.asdict(done))
        return
    from waypost.cli import screen

    commits, checkpoints = count(len(done.commits), "commit"), count(len(done.checkpoints), "checkpoint")
    said = f"  is erased from {commits} and {checkpoints} of {done.workflow_id}"
    screen.show(screen.text(("✓ ", "green"), (done.path, "bold"), said))
    if done.removed_files:
        screen.show(screen.text((f"removed {listing(done.removed_files, _MOST_SHOWN)}", "dim")))
