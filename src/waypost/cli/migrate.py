"""`waypost store migrate`: bring the workflows of a store to another schema version, or say what that would do.

Every step is taken once without storing anything before the first workflow is changed, so what is asked about is true.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from waypost.cli import messages
from waypost.cli.invocation import Invocation, options, reading
from waypost.cli.text import count, size
from waypost.errors import InvalidInput
from waypost.migrations import MigrationReport, WorkflowMigration

_SHOWN = 200


@click.command()
@click.option("--dry-run", is_flag=True, help="Take and check every step, say what it would change, store nothing.")
@click.option("--to", metavar="VERSION", help="The version to reach; by default the newest. A lower one leads back.")
@click.option("--application", metavar="NAME", help="Whose version: by default Waypost's own and everybody's.")
@click.option("--import", "module", metavar="MODULE", help="Import this first: it registers an application's steps.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options
@click.pass_obj
def migrate(
    invocation: Invocation, dry_run: bool, to: str | None, application: str | None, module: str | None, yes: bool
) -> int:
    """Bring every workflow to the newest schema version, each in one commit.

    The log of each as it was is kept in backups/. One that cannot be migrated is left as it is. Ends with 1 when there
    was one.
    """
    if module is not None:
        _import(module)
    with reading(invocation) as store:
        location = store.location
        report = store.wp.migrate_workflows(dry_run=True, to=to, application=application)
    if not dry_run and _changing(report):
        if not yes and not _agreed(location, report, invocation.json):
            return 1
        import waypost

        with waypost.open(location) as wp:
            report = wp.migrate_workflows(to=to, application=application)
    if invocation.json:
        messages.print_json({"location": location, **_document(report, dry_run)})
    else:
        _show(location, report, dry_run)
    return 1 if report.failed else 0


def _import(module: str) -> None:
    """Import a module that the caller names, from where the caller is."""
    sys.path.insert(0, os.getcwd())
    try:
        import_module(module)
    except Exception as error:
        raise InvalidInput(f"cannot import {module!r}: {type(error).__name__}: {error}") from error


def _changing(report: MigrationReport) -> int:
    return len(report.workflows) - len(report.failed)


def _agreed(location: str, report: MigrationReport, as_json: bool) -> bool:
    what = (
        f"{count(_changing(report), 'workflow')} of {location} will be migrated to {_targets(report)}; "
        "what they are now is kept in backups/"
    )
    if as_json or not sys.stdin.isatty():
        raise InvalidInput(f"{what}. Say --yes to go on, or --dry-run to see each of them")
    messages.note(what)
    return click.confirm("Migrate?", default=False, err=True)


def _targets(report: MigrationReport) -> str:
    return ", ".join(f"{name} {version}" for name, version in report.targets.items())


def _document(report: MigrationReport, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "targets": report.targets,
        "migrated": _changing(report),
        "current": report.current,
        "failed": len(report.failed),
        "workflows": report.workflows,
    }


def _show(location: str, report: MigrationReport, dry_run: bool) -> None:
    from waypost.cli import screen

    screen.show(screen.text((location, "dim")), screen.text((f"to {_targets(report)}", "dim")))
    changed = [one for one in report.workflows if one.error is None]
    if changed:
        heads = ("workflow", "steps", ">parts", "", ">bytes")
        screen.show(screen.blank(), screen.table(heads, [_row(one) for one in changed[:_SHOWN]]))
    if len(changed) > _SHOWN:
        screen.show(screen.text(f"… and {len(changed) - _SHOWN:,} more: --json has all"))
    for one in report.failed:
        screen.show(screen.line(("✗ ", "bold red"), one.error or ""))
    said = "would be migrated" if dry_run else "migrated"
    verdict = (f"✓ {count(len(changed), 'workflow')} {said}, {report.current:,} up to date", "green")
    if report.failed:
        verdict = (f"✗ {len(report.failed):,} cannot be migrated; {verdict[0][2:]}", "bold red")
    screen.show(screen.blank(), screen.text(verdict))


def _row(one: WorkflowMigration) -> list[object]:
    parts = f"+{one.parts_added:,} -{one.parts_removed:,}"
    sizes = f"{size(one.bytes_before)} to {size(one.bytes_after)}"
    return [one.workflow_id, ", ".join(one.steps), parts, f"{one.parts_changed:,} changed", sizes]
