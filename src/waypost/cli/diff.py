"""`waypost diff`: what differs between two versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from msgspec import UNSET

from waypost.cli import describe, messages
from waypost.cli.invocation import Invocation, options, reading, reference
from waypost.cli.text import count, cut
from waypost.delta import Difference, WorkflowDiff

if TYPE_CHECKING:
    from rich.text import Text

_PREVIEW = 200
_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--all", "everything", is_flag=True, help="Values in full.")
@options
@click.pass_obj
def diff(invocation: Invocation, a: str, b: str, everything: bool) -> None:
    """Show what leads from one version to another: what was added (+), removed (-) and changed (~).

    A and B are each a workflow, for its newest version, WORKFLOW@VERSION, or a checkpoint; beginnings of ids will do.
    """
    with reading(invocation) as store:
        found = store.wp.diff(reference(store, a), reference(store, b))
    if invocation.json:
        messages.print_json(document(found))
    else:
        show(found.changes, f"{found.before} to {found.after}", everything)


def document(found: WorkflowDiff) -> dict[str, Any]:
    return {"before": found.before, "after": found.after, "changes": [difference(each) for each in found]}


def difference(each: Difference) -> dict[str, Any]:
    sides = (("before", each.before), ("after", each.after))
    values = {name: describe.at_path(value) for name, value in sides if value is not UNSET}
    return {"kind": each.kind, "path": each.path, **values}


def show(changes: Sequence[Difference], between: str, everything: bool, most: int | None = None) -> None:
    """Show differences under a line that says between what; at most so many of them."""
    from waypost.cli import screen

    said = count(len(changes), "difference") if changes else "no differences"
    screen.show(screen.text((f"{between}: {said}", "dim")))
    if changes:
        screen.show(*[_line(each, everything) for each in changes[:most]])
    if most is not None and len(changes) > most:
        screen.show(screen.text((f"… and {len(changes) - most:,} more", "dim")))


def _line(each: Difference, everything: bool) -> Text:
    from waypost.cli import screen

    sign, style = _SIGNS[each.kind]
    before, after = (_value(value, everything) for value in (each.before, each.after))
    if each.kind == "changed":
        return screen.line((f"{sign} {each.path}", style), "  ", (before, "red"), (" -> ", "dim"), (after, "green"))
    return screen.line((f"{sign} {each.path}", style), f"  {before}{after}")


def _value(value: Any, everything: bool) -> str:
    shown = "" if value is UNSET else describe.value_text(value)
    return shown if everything else cut(shown, _PREVIEW)
