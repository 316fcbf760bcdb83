"""`waypost store settle`: finish the transactions over two stores that a crash has left open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from waypost.cli import messages
from waypost.cli.invocation import Invocation, options
from waypost.cli.sync import opened

if TYPE_CHECKING:
    from waypost.prepared import Settled


@click.command()
@click.option("--also", metavar="LOCATION", help="The other store, where it has moved or needs a password.")
@options
@click.pass_obj
def settle(invocation: Invocation, also: str | None) -> int:
    """Carry out, or undo, what transactions over this store and another have prepared in workflows and sessions here.

    Whoever loads or changes such a workflow does the same for it; this does it for all. The other store says what was
    decided. Ends with 1 where something is left.
    """
    from waypost import prepared

    with opened(invocation.location(), dry_run=False) as wp:
        store = wp.definitions.store
        if also is None:
            found = prepared.settle_all(store)
        else:
            with opened(also, dry_run=False) as other:
                found = prepared.settle_all(store, other.definitions.store)
    if invocation.json:
        messages.print_json({"settled": found})
    else:
        _show(found)
    return 1 if any(each.error for each in found) else 0


def _show(found: list[Settled]) -> None:
    from waypost.cli import screen

    for each in found:
        style = "red" if each.error else "green" if each.outcome == "committed" else "yellow"
        screen.show(screen.text(f"{each.kind} {each.id}: ", (each.outcome or each.error, style)))
    if not found:
        screen.show(screen.text(("nothing is open", "dim")))
