"""`waypost store repair`: keep what is whole of a damaged store, and move the rest aside."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from waypost.cli import messages
from waypost.cli.invocation import Invocation, no_store, options, reading
from waypost.cli.text import count, listing
from waypost.errors import DocumentDamaged, InvalidInput, StoreNotFound
from waypost.maintenance import RepairReport
from waypost.maintenance import repair as repair_store

if TYPE_CHECKING:
    from rich.text import Text

    from waypost.store.directory.mending import Repaired

_SHOWN = 200


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options
@click.pass_obj
def repair(invocation: Invocation, dry_run: bool, yes: bool) -> int:
    """Keep what is whole of a damaged store; what is not is moved aside into its directory `damaged`.

    Nothing is deleted. What was lost is told document by document, here and in a file beside each original. Checkpoints
    whose files are whole stay checkpoints, also those that were made in a version that is lost.
    Ends with 0 when nothing is amiss any more, and with 6 when something is, or would be mended.
    """
    location = invocation.location()
    planned = _repair(location, dry_run=True)
    # what a dry run does not see a repair may meet all the same, so that nothing is sound for want of a plan
    sound = not planned.repaired and _is_sound(invocation)
    if dry_run or sound:
        return _tell(invocation, planned, sound=sound)
    if not yes and not _agreed(planned, invocation.json):
        return 1
    done = _repair(location, dry_run=False)
    return _tell(invocation, done, sound=done.is_complete and _is_sound(invocation))


def _is_sound(invocation: Invocation) -> bool:
    with reading(invocation) as store:
        return store.store.verify().sound


def _repair(location: str, *, dry_run: bool) -> RepairReport:
    try:
        return repair_store(location, dry_run)
    except StoreNotFound as error:
        raise no_store(location, error) from error


def _agreed(planned: RepairReport, as_json: bool) -> bool:
    files = count(len(planned.repaired), "file") if planned.repaired else "what waypost verify finds amiss"
    what = f"{files} of {planned.location} will be changed or moved into damaged/"
    if as_json or not sys.stdin.isatty():
        raise InvalidInput(f"{what} (--dry-run shows each). Say --yes to go on")
    _show(planned)
    messages.note(f"{what}. End what is writing to it first; nothing is deleted.")
    return click.confirm("Repair it?", default=False, err=True)


def _tell(invocation: Invocation, report: RepairReport, *, sound: bool) -> int:
    if invocation.json:
        messages.print_json({**asdict(report), "sound": sound})
    else:
        _show(report)
        _show_verdict(report, sound)
    return 0 if sound else DocumentDamaged.exit_status


def _show(report: RepairReport) -> None:
    from waypost.cli import screen

    screen.show(screen.text((report.location, "dim")))
    if report.repaired:
        rows = [_row(each) for each in report.repaired[:_SHOWN]]
        screen.show(screen.table(("what is done", "file", "why", "what that means"), rows))
    if len(report.repaired) > _SHOWN:
        screen.show(screen.text(f"… and {len(report.repaired) - _SHOWN:,} more: --json has all"))


def _show_verdict(report: RepairReport, sound: bool) -> None:
    from waypost.cli import screen

    if sound and not report.repaired:
        verdict = ("✓ nothing to repair", "green")
    elif report.dry_run:
        said = "does what is said above" if report.repaired else "looks into what waypost verify finds amiss"
        verdict = (f"nothing was changed: waypost store repair {said}", "yellow")
    elif sound:
        verdict = ("✓ repaired: the originals are in damaged/, each with a report", "green")
    else:
        verdict = ("✗ not all could be mended: see above, and waypost verify", "bold red")
    screen.show(screen.blank(), screen.text(verdict))


def _row(each: Repaired) -> list[str | Text]:
    from waypost.cli import screen

    style = "bold red" if each.action == "left" else "yellow" if _is_loss(each) else "dim"
    return [screen.text((each.action, style)), each.file, each.found, "; ".join(_meaning(each))]


def _is_loss(each: Repaired) -> bool:
    behind = each.newest_version is not None and each.newest_version > (each.kept_version or 0)
    return behind or not each.is_exact


def _meaning(each: Repaired) -> list[str]:
    """What was kept and what was lost of a document, in a few words."""
    said: list[str] = []
    if each.id is not None and each.kept_version is None:
        said.append(f"nothing of {each.kind} {each.id} can be kept")
    elif each.id is not None:
        said.append(f"{each.kind} {each.id} is kept at version {each.kept_version:,}, {count(each.kept_parts, 'part')}")
    if each.kept_version and each.is_exact and (each.newest_version or 0) > each.kept_version:
        said.append(f"versions {each.kept_version + 1:,} to {each.newest_version:,} are lost")
    if not each.is_exact and each.kept_version:
        said.append("which is a new version, since parts are lost")
    if each.lost_parts:
        said.append(f"lost values: {listing(each.lost_parts)}")
    if each.lost_keys:
        ranges = [
            f"from {first!r} to {'the last' if behind is None else repr(behind)}" for first, behind in each.lost_keys
        ]
        said.append(f"parts that may be lost: {listing(ranges)}")
    if each.history_from:
        said.append(f"versions before {each.history_from:,} cannot be looked at any more")
    if each.lost_bytes:
        said.append(f"not whole: {listing(f'bytes {start:,} to {end:,}' for start, end in each.lost_bytes)}")
    if each.action == "adopted":
        said.append("can be listed, restored and forked as before")
    if each.original:
        said.append(f"the original is {each.original}")
    return said
