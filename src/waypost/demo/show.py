"""The demo as people see it: what happened, the proof that nothing ran twice, what it cost, and what was found out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from waypost.cli import screen
from waypost.cli.text import count, duration, listing, size
from waypost.demo.conduct import Latencies, Story, Wreck

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

SAVE_TARGET_MS, LOAD_TARGET_MS = 500, 200
"""What the system that Waypost follows promises for saving and loading a state."""

_WIDTH = 64
_LEVELS = " ▁▂▃▄▅▆▇█"


def opening(location: str, modules: int, steps: int, agents: int) -> list[RenderableType]:
    return [
        screen.heading(f"{agents} agents survey Python's standard library, and lose their process in the middle"),
        screen.text(f"{count(modules, 'module')}, {count(steps, 'step')}; each update is synced to the disk"),
        screen.text((location, "dim")),
        screen.blank(),
    ]


def after_the_kill(wreck: Wreck) -> list[RenderableType]:
    """What the store says about the process that was killed."""
    running = [f"{step.id} ({step.agent})" for step in wreck.running]
    status = (wreck.session, "yellow" if wreck.session == "crashed" else "red")
    rows: list[tuple[str, str | Text]] = [
        ("finished", f"{len(wreck.finished):,}"),
        ("running", screen.text(f"{len(running):,}  ", (listing(running, 3), "dim"))),
        ("never started", f"{wreck.pending:,}"),
        (
            "their session",
            screen.text(status, ": ", wreck.evidence),
        ),
        ("what it was told", _kept(wreck)),
    ]
    title = screen.text(("✗ killed with SIGKILL", "bold red"), (f"  at version {wreck.version:,} of the state", "dim"))
    return [title, screen.indented(screen.facts(rows)), screen.blank()]


def _kept(wreck: Wreck) -> Text:
    """Whether what the worker had been told to be recorded is there."""
    if wreck.lost:
        return screen.line((f"✗ {listing(wreck.lost)} were acknowledged and are not there", "bold red"))
    if not wreck.whole:
        return screen.line(("✗ the file is damaged", "bold red"))
    return screen.line((f"✓ all {wreck.acknowledged:,} acknowledged steps are there, and the file is whole", "green"))


def closing(story: Story) -> list[RenderableType]:
    return [
        screen.blank(),
        *_proof(story),
        screen.blank(),
        *_timeline(story),
        screen.blank(),
        *_cost(story),
        screen.blank(),
        *_found_out(story.report),
        screen.blank(),
        *_files(story),
    ]


def _proof(story: Story) -> list[RenderableType]:
    finished, again = len(story.wreck.finished), len(story.repeated_finished)
    verified = story.verified
    return [
        _verdict(
            not again,
            f"of the {finished:,} steps finished before the kill, {again or 'none'} ran again "
            f"({story.executions:,} executions, counted in a journal outside the store)",
        ),
        _verdict(
            set(story.run_twice) <= {step.id for step in story.wreck.running},
            f"{count(len(story.run_twice), 'step')} ran twice, cut off by the kill the first time: "
            f"{listing(story.run_twice, 4)}"
            if story.run_twice
            else "no step ran twice",
        ),
        _verdict(
            bool(verified["sound"]),
            f"every byte verified: {verified['commits']:,} commits, {size(verified['size_bytes'])}",
        ),
    ]


def _verdict(kept: bool, said: str) -> Text:
    return screen.line(("✓ ", "green") if kept else ("✗ ", "bold red"), said)


# --- the timeline ---


def _timeline(story: Story) -> list[RenderableType]:
    rows = [[screen.text((agent, "dim")), _row(story, agent)] for agent in story.agents]
    killed, resumed = (_column(story, moment) for moment in (story.killed_s, story.resumed_s))
    axis = f"{'0 s':<{max(3, killed - 9)}}killed {story.killed_s:.1f} s"
    axis = f"{axis:<{resumed + 3}}"
    axis = f"{axis:<{_WIDTH - 6}}{story.ended_s:>4.1f} s"
    rows.append([screen.text(""), screen.text((axis, "dim"))])
    return [screen.heading("who was at work when"), screen.indented(screen.table(("", ""), rows, headless=True))]


def _column(story: Story, moment: float) -> int:
    return min(_WIDTH - 1, int(moment / story.ended_s * _WIDTH))


def _row(story: Story, agent: str) -> Text:
    """One character for each slice of time: how much of it the agent was at work."""
    slice_s = story.ended_s / _WIDTH
    busy = [0.0] * _WIDTH
    for who, _, begin, end, _ in story.spans:
        if who == agent:
            for column in range(_column(story, begin), _column(story, end) + 1):
                busy[column] += max(0.0, min(end, (column + 1) * slice_s) - max(begin, column * slice_s))
    killed, resumed = _column(story, story.killed_s), _column(story, story.resumed_s)
    pieces: list[tuple[str, str]] = []
    for column, seconds in enumerate(busy):
        level = (
            _LEVELS[min(8, round(8 * seconds / slice_s))]
            if seconds == 0
            else _LEVELS[max(1, min(8, round(8 * seconds / slice_s)))]
        )
        if column == killed:
            pieces.append(("✗", "bold red"))
        elif killed < column < resumed:
            pieces.append(("·", "dim"))
        else:
            pieces.append((level, "cyan" if column < killed else "green"))
    return screen.text(*pieces)


# --- the cost ---


def _cost(story: Story) -> list[RenderableType]:
    rows = [
        _latency("update a step, durably", story.updates_alone, f"save: {SAVE_TARGET_MS} ms"),
        _latency(f"  with {len(story.agents)} agents in one Python", story.updates, ""),
        _latency("  bare write and sync of this disk", story.raw_syncs, ""),
        ["load the whole state, every output", f"{story.load_ms:.0f} ms", "", f"load: {LOAD_TARGET_MS} ms"],
    ]
    table = screen.table((f"{story.steps:,} steps", ">p50", ">p99", "the original's target"), rows)
    total = (
        f"{count(story.syncs, 'sync')} and {size(story.bytes_written)} written for "
        f"{count(story.updates.count if story.updates else 0, 'update')}"
    )
    note = "Its targets are for saves that no fsync follows; here each update is synced before it is acknowledged."
    return [
        screen.heading("what it cost"),
        screen.indented(table),
        screen.indented(screen.line((total, "dim"))),
        screen.indented(screen.line((note, "dim"))),
    ]


def _latency(name: str, found: Latencies | None, target: str) -> list[str]:
    if found is None:
        return [name, "", "", target]
    return [name, duration(found.p50_ms), duration(found.p99_ms), target]


# --- what was found out ---


def _found_out(report: dict[str, Any]) -> list[RenderableType]:
    totals, cycles, documentation = report["totals"], report["cycles"], report["documentation"]
    shown = (
        f"{totals['modules']:,} modules, {totals['lines']:,} lines, {totals['functions']:,} functions, "
        f"{totals['classes']:,} classes"
    )
    rows: list[tuple[str, str | Text]] = [
        ("in all", shown),
        ("most imported", _ranked(report["imports"]["most_imported"], "module", "importers", "modules")),
        ("longest function", _ranked(report["longest"]["longest"][:3], "function", "lines", "lines")),
        ("most ways through", _ranked(report["complexity"]["most_complex"][:3], "function", "complexity", "ways")),
        ("import cycles", _cycles(cycles)),
        (
            "documented",
            f"{documentation['share']:.0%} of {documentation['documentable']:,} public names; {_least(documentation)}",
        ),
    ]
    return [screen.heading("what the survey found out"), screen.indented(screen.facts(rows))]


def _ranked(entries: Sequence[dict[str, Any]], name: str, number: str, unit: str) -> str:
    named = [f"{entry[name]} {entry[number]:,}" for entry in entries]
    return f"{', '.join(named)} {unit}"


def _cycles(cycles: dict[str, Any]) -> str:
    if not cycles["knots"]:
        return "none"
    ways = "; ".join(" → ".join(way) for way in cycles["examples"][:3])
    return f"{cycles['modules_in_knots']} modules in {count(cycles['knots'], 'knot')}: {ways}"


def _least(documentation: dict[str, Any]) -> str:
    named = [f"{one['module']} ({one['documented']} of {one['documentable']})" for one in documentation["least"][:3]]
    return f"least {', '.join(named)}"


def _files(story: Story) -> list[RenderableType]:
    checkpoints = [number for name, number in story.files if name.startswith("checkpoints/") and number]
    rows = [[name, size(number)] for name, number in story.files if number > 16 and "checkpoints/" not in name]
    rows.append(
        [f"checkpoints/  {count(len(checkpoints), 'file')}: the beginning, and the newest", size(sum(checkpoints))]
    )
    table = screen.table(("file", ">size"), rows, headless=True)
    held = f"with all {story.verified['commits']:,} versions; the state itself is {size(story.state_bytes)}"
    return [
        screen.heading("what lies on the disk"),
        screen.indented(table),
        screen.indented(screen.text((held, "dim"))),
    ]
