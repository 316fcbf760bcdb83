"""Findings as tables: on the terminal, and as Markdown."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Cost, Findings, Measure, Syncs
from waypost.bench.goals import Goal
from waypost.bench.turns import Lane

NONE = "-"

METHOD = (
    "The floor is one pwrite and one fdatasync of a frame as long as Waypost's, in a file written before, on the same "
    "file system; with several processes it has as many.",
    "On a server the floor is one INSERT of as many bytes as an update of Waypost hands over, prepared, each in a "
    "transaction of its own.",
    "Turns go round, in most rows SqliteSaver, floor, Waypost, floor. A ratio is the median over the rounds of ratios "
    "taken within each; medians and p99 are over all operations, rates the medians of the rounds.",
    "An update of Waypost gives a step the status completed and a new output; a save of SqliteSaver is put() of the "
    "whole state with one step's output changed. A step is about 1.2 KB.",
    "Times depend on how long this disk's flush takes, and many virtual disks do not really flush: compare ratios and "
    "counts of syncs, not times.",
)


@dataclass(frozen=True)
class Sheet:
    """A table before it is drawn. The first columns are text, the rest figures."""

    title: str
    heads: list[str]
    lines: list[list[str]]
    texts: int = 2


UNREST = 1.2
"""Above this the floor's turns differ so much that the machine had other things to do."""


def notes(findings: Findings) -> list[str]:
    """All that is to be said under the tables."""
    unrest = [
        f"{measure.floor.unrest:.2f} x at {measure.name!r}"
        for measure in [*findings.measures, *findings.served]
        if measure.row != 4 and measure.floor is not None and measure.floor.unrest > UNREST
    ]
    warning = (
        f"THE MACHINE WAS NOT QUIET: two turns of the floor in one round differed by {', '.join(unrest)}. A ratio "
        "there that is nearer to its goal than that says nothing."
    )
    return [*([warning] if unrest else []), *findings.notes, *METHOD]


def sheets(findings: Findings) -> Iterator[Sheet]:
    if findings.measures:
        yield _measures("Side by side: medians, p99 of single operations", findings.measures, "SqliteSaver")
    if findings.served:
        yield _measures("The same on a PostgreSQL server", findings.served, "PostgresSaver")
    if any(measure.others for measure in [*findings.measures, *findings.served]):
        yield _others([*findings.measures, *findings.served])
    if findings.goals:
        lines = [_goal_line(goal) for goal in findings.goals]
        yield Sheet("Goals", ["row", "what", "goal", "reached", ""], lines)
    if findings.costs:
        yield _costs(findings.costs, any(cost.peer_bytes is not None for cost in findings.costs))
    if findings.syncs:
        yield _syncs(findings.syncs)


def console() -> Console:
    """Standard output; a pipe has no width of its own, and the tables are wide."""
    return Console() if sys.stdout.isatty() else Console(width=190)


def show(header: Mapping[str, str], tables: Iterable[Sheet], remarks: Iterable[str], console: Console) -> None:
    for name, value in header.items():
        console.print(f"[bold]{name}[/]  {value}", highlight=False)
    for sheet in tables:
        table = Table(title=sheet.title, title_justify="left")
        for number, head in enumerate(sheet.heads):
            table.add_column(head, justify="left" if number < sheet.texts else "right", overflow="fold")
        for line in sheet.lines:
            table.add_row(*line, style=_STYLES.get(line[-1]))
        console.print()
        console.print(table)
    console.print()
    for remark in remarks:
        console.print(f"- {remark}", highlight=False, markup=False)


_STYLES = {"met": "green", "not met": "red", "grows more than it should": "red"}


def as_markdown(
    title: str, header: Mapping[str, str], tables: Iterable[Sheet], remarks: Iterable[str], level: int = 1
) -> str:
    """The same as Markdown; `level` is that of the title."""
    lines = [f"{'#' * level} {title}", ""]
    lines += [f"- **{name}**: {value}" for name, value in header.items()]
    for sheet in tables:
        lines += ["", f"{'#' * (level + 1)} {sheet.title}", "", _markdown_line(sheet.heads)]
        lines.append(_markdown_line(["---"] * sheet.texts + ["---:"] * (len(sheet.heads) - sheet.texts)))
        lines += [_markdown_line(line) for line in sheet.lines]
    lines += ["", *(f"- {remark}" for remark in remarks), ""]
    return "\n".join(lines)


def _markdown_line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


# --- cells ---


def _measures(title: str, measures: list[Measure], peer: str) -> Sheet:
    with_peer = any(measure.peer is not None for measure in measures)
    heads = ["row", "measure", "Waypost", "p99", "floor", "p99", "Waypost / floor"]
    if with_peer:
        heads += [peer, "p99", "Waypost is"]
    lines: list[list[str]] = []
    for measure in measures:
        line = [str(measure.row), measure.name, *_lane(measure, measure.ours), *_lane(measure, measure.floor)]
        line.append(NONE if measure.to_floor is None else f"{figure(measure.to_floor)} x")
        if with_peer:
            line += [*_lane(measure, measure.peer), _faster(measure.over_peer)]
        lines.append(line)
    return Sheet(title, heads, lines)


def _others(measures: list[Measure]) -> Sheet:
    lines = [
        [str(measure.row), measure.name, name, *_lane(measure, lane), _faster(measure.over_others[name])]
        for measure in measures
        for name, lane in measure.others.items()
    ]
    return Sheet("Further peers", ["row", "measure", "peer", "its median", "p99", "Waypost is"], lines, texts=3)


def _syncs(counted: list[Syncs]) -> Sheet:
    lines = [[each.engine, each.durability, _count(each.each)] for each in counted]
    return Sheet("Syncs of one update, counted by strace", ["engine", "durability", "syncs"], lines)


def _lane(measure: Measure, lane: Lane | None) -> list[str]:
    if lane is None:
        return [NONE, NONE]
    return [f"{lane.rate:,.0f}/s" if measure.kind == "rate" else time(lane.median_us), time(lane.p99_us)]


def time(us: float) -> str:
    return f"{us:,.0f} µs" if us < 10_000 else f"{us / 1000:,.1f} ms"


def _faster(times: float | None) -> str:
    if times is None:
        return NONE
    return f"{figure(times)} x faster" if times >= 1 else f"{figure(1 / times)} x slower"


def figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _goal_line(goal: Goal) -> list[str]:
    reached = NONE if goal.reached is None else f"{figure(goal.reached)}{goal.unit}"
    if goal.reached == 0:
        reached = f"0{goal.unit}"
    return [str(goal.row), goal.name, f"{goal.sense} {goal.limit:,g}{goal.unit}", reached, goal.verdict]


def _costs(costs: list[Cost], with_peer: bool) -> Sheet:
    heads = ["steps", "syncs counted by", "syncs", "writes of the disk", "frame", "all bytes written"]
    if with_peer:
        heads += ["SqliteSaver's syncs", "bytes written"]
    lines: list[list[str]] = []
    for cost in costs:
        counts = [_count(cost.syncs), _count(cost.disk_writes), _bytes(cost.frame_bytes), _bytes(cost.bytes)]
        line = [f"{cost.steps:,}", cost.counted_by, *counts]
        lines.append(line + ([_count(cost.peer_syncs), _bytes(cost.peer_bytes)] if with_peer else []))
    return Sheet("What one update costs: syncs, and bytes handed to the system", heads, lines)


def _count(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _bytes(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}"
