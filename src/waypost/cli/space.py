"""`waypost store du` and `waypost store cleanup`: what takes how much, and giving it back."""

from __future__ import annotations

import sys
from typing import Any

import click
from msgspec import structs

from waypost import usage
from waypost.cleaning import CleanupReport
from waypost.cli import messages
from waypost.cli.invocation import Invocation, Reading, options, reading, workflow_id, writing
from waypost.cli.text import count, size
from waypost.errors import InvalidInput
from waypost.usage import WorkflowUsage

_MOST_SHOWN = 30


@click.command()
@click.argument("workflow", required=False)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 100_000), help="Show at most that many.")
@options
@click.pass_obj
def du(invocation: Invocation, workflow: str | None, limit: int) -> None:
    """What each workflow takes on disk, the largest first; or of WORKFLOW each checkpoint and output.

    WORKFLOW is an id, or the beginning of one.
    """
    with reading(invocation) as store:
        if workflow is None:
            _show_store(invocation, store, limit)
        else:
            _show_workflow(invocation, store, workflow_id(store.store, workflow), limit)


def _show_store(invocation: Invocation, store: Reading, limit: int) -> None:
    found = sorted(usage.of_store(store.store), key=lambda one: (-one.total_bytes, one.workflow_id))
    total = sum(one.total_bytes for one in found)
    threads, thread_bytes = usage.of_threads(store.store)
    if invocation.json:
        shown = [_document(one) for one in found[:limit]]
        of_threads = {"threads": threads, "thread_bytes": thread_bytes}
        messages.print_json({"workflows": shown, "total": len(found), "total_bytes": total, **of_threads})
        return
    from waypost.cli import screen

    if found:
        headers = ("workflow", ">all", ">log", ">checkpoints", "")
        screen.show(screen.table(headers, [_row(one) for one in found[:limit]]))
    if len(found) > limit:
        screen.show(screen.text((f"… and {len(found) - limit:,} more: --limit", "dim")))
    of_adapters = f"; {count(threads, 'thread')} of adapters, {size(thread_bytes)}" if threads else ""
    screen.show(screen.text((f"{count(len(found), 'workflow')}, {size(total)}{of_adapters}", "dim")))


def _row(one: WorkflowUsage) -> list[Any]:
    of_files = f"in {count(len(one.checkpoints), 'file')}" if one.checkpoints else ""
    return [one.workflow_id, size(one.total_bytes), size(one.log_bytes), size(one.checkpoint_bytes), of_files]


def _document(one: WorkflowUsage) -> dict[str, Any]:
    return {
        "workflow_id": one.workflow_id,
        "total_bytes": one.total_bytes,
        "log_bytes": one.log_bytes,
        "checkpoint_bytes": one.checkpoint_bytes,
        "checkpoint_files": len(one.checkpoints),
    }


def _show_workflow(invocation: Invocation, store: Reading, name: str, limit: int) -> None:
    one, outputs = usage.of_workflow(store.store, name), usage.outputs(store.store, name)
    checkpoints = sorted(one.checkpoints.items(), key=lambda item: (-item[1], item[0]))
    outputs = sorted(outputs, key=lambda each: -each.size_bytes)
    if invocation.json:
        sizes = [{"checkpoint_id": each, "file_bytes": taken} for each, taken in checkpoints]
        shown = [{"step_id": each.step_id, "version": each.version, "size_bytes": each.size_bytes} for each in outputs]
        messages.print_json({**_document(one), "checkpoints": sizes, "outputs": shown})
        return
    from waypost.cli import screen

    rows = [["log, with history", size(one.log_bytes)], ["checkpoints", size(one.checkpoint_bytes)]]
    screen.show(screen.table((name, f">{size(one.total_bytes)}"), rows))
    _show_some(("checkpoint", ">file"), [[each, size(taken)] for each, taken in checkpoints], limit)
    _show_some(
        ("output", ">version", ">before compression"),
        [[each.step_id, f"{each.version:,}", size(each.size_bytes)] for each in outputs],
        limit,
    )


def _show_some(headers: tuple[str, ...], rows: list[list[Any]], limit: int) -> None:
    from waypost.cli import screen

    if rows:
        screen.show(screen.text(""), screen.table(headers, rows[:limit]))
        if len(rows) > limit:
            screen.show(screen.text((f"… and {len(rows) - limit:,} more: --limit", "dim")))


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options
@click.pass_obj
def cleanup(invocation: Invocation, dry_run: bool, yes: bool) -> int:
    """Remove checkpoints beyond the bounds of retention (`waypost store config`), and give their space back.

    Those that were asked for, or have the tag milestone, release, backup or stable, stay.
    """
    if dry_run:
        with reading(invocation) as store:
            _tell(invocation, store.wp.cleanup(dry_run=True).unwrap())
        return 0
    with writing(invocation) as store:
        if not yes and not _agreed(store.wp.cleanup(dry_run=True).unwrap(), invocation.json):
            return 1
        _tell(invocation, store.wp.cleanup().unwrap())
    return 0


def _agreed(would: CleanupReport, as_json: bool) -> bool:
    if not would.deleted_checkpoints:
        return True  # what is given back then belongs to nothing
    what = f"{count(len(would.deleted_checkpoints), 'checkpoint')} would go, about {size(would.freed_bytes)}"
    if as_json or not sys.stdin.isatty():
        raise InvalidInput(f"{what}. Say --yes to go on")
    _show_names(would)
    messages.note(f"{what}.")
    return click.confirm("Remove them?", default=False, err=True)


def _tell(invocation: Invocation, report: CleanupReport) -> None:
    if invocation.json:
        messages.print_json(structs.asdict(report))
        return
    from waypost.cli import screen

    if report.dry_run:
        _show_names(report)
    for problem in report.problems:
        messages.note(problem)
    number = count(len(report.deleted_checkpoints), "checkpoint")
    freed = size(report.freed_bytes)
    said = f"{number} would go, about {freed}" if report.dry_run else f"{number} removed, {freed} given back"
    left = f"; {count(report.checkpoints, 'checkpoint')} left, {size(report.checkpoint_bytes)} in files"
    screen.show(screen.text((said, "bold"), left))


def _show_names(report: CleanupReport) -> None:
    from waypost.cli import screen

    names = report.deleted_checkpoints
    for name in names[:_MOST_SHOWN]:
        screen.show(screen.text(("- ", "red"), name))
    if len(names) > _MOST_SHOWN:
        screen.show(screen.text((f"… and {len(names) - _MOST_SHOWN:,} more: --json", "dim")))
