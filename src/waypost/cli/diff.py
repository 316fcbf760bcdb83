"""`waypost diff`: what differs between two versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from msgspec import UNSET

from waypost.cli import describe, messages
from waypost.cli.invocation import Invocation, options, reading, workflow_id
from waypost.cli.text import count, cut
from waypost.delta import Difference, WorkflowDiff
from waypost.references import is_number

if TYPE_CHECKING:
    from rich.text import Text

    from waypost.store.directory import DirectoryStore

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

    A and B are each a workflow, for its newest version, or WORKFLOW@VERSION; the beginning of an id will do.
    """
    with reading(invocation) as store:
        found = store.wp.diff(_reference(store.store, a), _reference(store.store, b))
    if invocation.json:
        messages.print_json(_document(found))
    else:
        _show(found, everything)


def _reference(store: DirectoryStore, given: str) -> str:
    """The reference that is meant, where the beginning of an id was given."""
    name, separator, version = given.rpartition("@")
    if separator and name and is_number(version) and given not in store.documents("workflow"):
        return f"{workflow_id(store, name)}@{version}"
    return workflow_id(store, given)


def _document(found: WorkflowDiff) -> dict[str, Any]:
    return {"before": found.before, "after": found.after, "changes": [_difference(each) for each in found]}


def _difference(each: Difference) -> dict[str, Any]:
    sides = (("before", each.before), ("after", each.after))
    values = {name: describe.at_path(value) for name, value in sides if value is not UNSET}
    return {"kind": each.kind, "path": each.path, **values}


def _show(found: WorkflowDiff, everything: bool) -> None:
    from waypost.cli import screen

    changes: Sequence[Difference] = found.changes
    said = count(len(changes), "difference") if changes else "no differences"
    screen.show(screen.text((f"{found.before} to {found.after}: {said}", "dim")))
    if changes:
        screen.show(*[_line(each, everything) for each in changes])


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
