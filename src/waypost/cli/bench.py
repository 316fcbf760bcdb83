"""`waypost store bench`: what this disk syncs, how close Waypost comes to that, whether the disk seems to lie.

It measures in a folder of its own beside the store, which need not exist, and leaves nothing behind.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from waypost.cli import messages
from waypost.cli.invocation import Invocation, options
from waypost.config import is_directory
from waypost.errors import InvalidInput

if TYPE_CHECKING:
    from rich.text import Text

    from waypost.bench.measuring import Found, Row
    from waypost.bench.verdict import Verdict

_SIGNS = {
    "seems to sync": ("✓ ", "green"),
    "cannot be told": ("· ", "dim"),
    "seems to lie": ("✗ ", "bold red"),
    "is memory": ("✗ ", "bold red"),
}


@click.command()
@click.option("--dir", "place", metavar="DIRECTORY", help="Measure there, in place of beside the store. It must exist.")
@click.option(
    "--seconds", type=click.FloatRange(1, 600), default=20, show_default=True, help="How long to measure, about."
)
@options
@click.pass_obj
def bench(invocation: Invocation, place: str | None, seconds: float) -> int:
    """Measure what the disk under the store syncs, and how close Waypost comes to that.

    Says in words whether the disk seems to lie about syncing. No store is needed, and the one that is there is not
    touched: a folder beside it is made, and removed at the end.

    Ends with 1 when the disk seems to lie, or is memory.
    """
    from waypost.bench import measuring, trial
    from waypost.bench.verdict import judge

    place = _checked(place) if place is not None else trial.place_for(_directory(invocation))
    messages.note(
        f"measuring in {place} for about {seconds:g} s; what else uses the disk meanwhile shows in the figures"
    )
    found = measuring.measure(place, seconds)
    verdict = judge(found.evidence)
    if invocation.json:
        messages.print_json(_document(found, verdict))
    else:
        _show(found, verdict)
    return 1 if verdict.syncing in ("seems to lie", "is memory") else 0


def _directory(invocation: Invocation) -> str:
    location = invocation.location()
    if not is_directory(location):
        # the location may hold a password, so it is not repeated
        raise InvalidInput(
            "only a disk of this machine can be measured, and the store is on a server: name a directory with --dir, "
            "or measure the server from a copy of the source with `make bench`"
        )
    return location


def _checked(place: str) -> str:
    if not os.path.isdir(place):
        raise InvalidInput(f"there is no directory {place!r} to measure in", directory=place)
    return os.path.abspath(place)


def _document(found: Found, verdict: Verdict) -> dict[str, Any]:
    return {
        "folder": found.folder,
        "device": found.device._asdict(),
        "rounds": found.rounds,
        "seconds": round(found.seconds, 3),
        "frame_bytes": found.frame_bytes,
        "rows": [_row_document(row) for row in found.rows],
        "evidence": {name: value for name, value in asdict(found.evidence).items() if name != "device"},
        "verdict": asdict(verdict),
    }


def _row_document(row: Row) -> dict[str, Any]:
    each = row.lane.syncs_each
    return {
        "key": row.key,
        "name": row.name,
        "operations": len(row.lane.latencies_us),
        "per_second": round(row.per_second, 1),
        "p50_us": round(row.lane.median_us, 1),
        "p99_us": round(row.lane.p99_us, 1),
        "to_raw_sync": None if row.to_floor is None else round(row.to_floor, 3),
        "syncs_each": None if each is None else round(each, 3),
        "goal": None if row.goal is None else row.goal.as_json(),
    }


def _show(found: Found, verdict: Verdict) -> None:
    from waypost.cli import screen

    device = found.device
    where = f"{found.folder}: {device.file_system}" + (f" on {device.name}" if device.name else "")
    screen.show(screen.text((where, "dim")))
    headers = ("", ">a second", ">half within", ">99 % within", ">of the raw sync", ">syncs each", "goal")
    screen.show(screen.table(headers, [_cells(row) for row in found.rows]), screen.blank())
    for number, sentence in enumerate(verdict.sentences):
        sign = ("  ", "") if number else _SIGNS[verdict.syncing]
        screen.show(screen.columns([screen.text(sign), screen.prose(sentence)]))
    for text in verdict.suspicions:
        screen.show(screen.columns([screen.text(("  ! ", "yellow")), screen.prose(f"{text}.")]))
    for text in verdict.advice:
        screen.show(screen.columns([screen.text(("  → ", "cyan")), screen.prose(text)]))


def _cells(row: Row) -> list[str | Text]:
    each = row.lane.syncs_each
    return [
        row.name,
        f"{row.per_second:,.0f}",
        _time(row.lane.median_us),
        _time(row.lane.p99_us),
        "" if row.to_floor is None else f"{row.to_floor:.2f} x",
        "" if each is None else f"{each:.2f}",
        "" if row.goal is None else _goal(row),
    ]


def _goal(row: Row) -> Text:
    from waypost.cli import screen

    assert row.goal is not None
    # a checkpoint is held against the update alone, so that its figure stands in no other column
    reached = "" if row.goal.reached == row.to_floor else f" {row.goal.name}: {row.goal.reached:.2f} x"
    sign = ("✓ ", "green") if row.goal.is_met else ("! ", "yellow")
    return screen.text(sign, f"{row.goal.sense} {row.goal.limit:g} x{reached}")


def _time(us: float) -> str:
    return f"{us:,.0f} µs" if us < 10_000 else f"{us / 1_000:,.1f} ms"
