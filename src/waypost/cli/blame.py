"""`waypost blame`: who made a value what it is, and what was there before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from msgspec import UNSET

from waypost.blame import Blame
from waypost.cli import describe, messages
from waypost.cli.invocation import Invocation, options, reading, workflow_id
from waypost.cli.text import ago, cut, listing

if TYPE_CHECKING:
    from rich.text import Text

_PREVIEW = 1000


@click.command()
@click.argument("workflow")
@click.argument("path")
@click.option("--all", "everything", is_flag=True, help="Values in full.")
@options
@click.pass_obj
def blame(invocation: Invocation, workflow: str, path: str, everything: bool) -> None:
    """Show which commit made what is at PATH what it is now, and what was there before.

    WORKFLOW is an id, or the beginning of one. PATH is as `waypost diff` shows it: outputs.fetch.rows[3].price,
    steps.fetch.status, context.variables.x, or the beginning of one, for all that is below.
    """
    with reading(invocation) as store:
        found = store.wp.blame(workflow_id(store.store, workflow), path)
    if invocation.json:
        messages.print_json(_document(found))
    else:
        _show(found, everything)


def _document(found: Blame) -> dict[str, Any]:
    before = {} if found.before is UNSET else {"before": describe.at_path(found.before)}
    return {
        "workflow_id": found.workflow_id,
        "path": found.path,
        "value": describe.at_path(found.value),
        **before,
        "before_since": found.before_since,
        "or_before": found.or_before,
        "commit": found.commit,
    }


def _show(found: Blame, everything: bool) -> None:
    from waypost.cli import screen

    commit = found.commit
    title = screen.text((found.path, "bold"), (f"  of {found.workflow_id}", "dim"))
    rows: list[tuple[str, str | Text]] = [("value", _value(found.value, everything))]
    if found.or_before:
        rows.append(("set", f"at or before version {commit.version:,}, with which the history that is kept begins"))
    else:
        rows.append(("set", f"{ago(commit.at)}, by {commit.operation}, in version {commit.version:,}"))
    named = (("session", commit.session_id), ("agent", commit.agent_id), ("operation", commit.operation_id))
    rows += [(name, value) for name, value in (*named, ("commit", commit.commit_id)) if value]
    if commit.together_with:
        rows.append(("with", listing(commit.together_with, 20)))
    if not found.or_before:
        rows.append(("before", _before(found, everything)))
    screen.show(title, screen.indented(screen.facts(rows)))


def _before(found: Blame, everything: bool) -> str:
    if found.before is UNSET:
        return "nothing that is known"
    since = "" if found.before_since is None else f", since version {found.before_since:,}"
    return f"{_value(found.before, everything)}{since}"


def _value(value: Any, everything: bool) -> str:
    shown = describe.value_text(value)
    return shown if everything else cut(shown, _PREVIEW)
