"""`python -m benchmarks without`: the rows with and without what they rest on, in turns.

An optimisation whose removal does not show in its row is none, or the row does not measure what it says.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from benchmarks import arguments, machine, removals, report, table
from benchmarks.bench import FULL, QUICK, Scale
from benchmarks.figures import Findings
from benchmarks.removals import OPTIMISATIONS
from benchmarks.report import Sheet
from waypost.bench.goals import Goal

SHOWS = 0.1
"""A removal shows in a row that it makes worse by more than this share, in each of its turns."""


@dataclass
class Effect:
    """What one row reached with an optimisation and without it, turn by turn."""

    optimisation: str
    goal: Goal
    with_it: list[float] = field(default_factory=list[float])
    without: list[float] = field(default_factory=list[float])

    @property
    def worse(self) -> list[float]:
        """How many times worse it was without, in each turn."""
        pairs = zip(self.with_it, self.without, strict=True)
        return [after / before if self.goal.sense == "at most" else before / after for before, after in pairs]

    @property
    def shows(self) -> bool:
        return min(self.worse) > 1 + SHOWS


def main(words: Sequence[str], *, full: Scale = FULL, quick: Scale = QUICK) -> int:
    options = _parser().parse_args(words)
    scale = replace(quick if options.quick else full, rounds=1)
    place = options.dir or machine.find_directory()
    console = Console(stderr=True)
    effects: list[Effect] = []
    names = options.names or [*OPTIMISATIONS]
    for name in names:
        console.print(f"{name}: {OPTIMISATIONS[name].what}", highlight=False)
        effects += measure(name, scale, place, options.rounds, console)
    if options.json:
        found = [{**vars(each), "goal": each.goal.name, "row": each.goal.row, "shows": each.shows} for each in effects]
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    header = {**machine.describe(place), "turns": f"{options.rounds} with and {options.rounds} without, of one round"}
    hidden = _hidden(names, effects)
    notes = [f"A removal shows where it makes a row worse by more than {SHOWS:.0%} in each turn.", *hidden]
    report.show(header, [_sheet(effects)], notes, report.console())
    return 1 if hidden else 0


def measure(name: str, scale: Scale, place: str, rounds: int, console: Console) -> list[Effect]:
    """The goals of the rows that rest on an optimisation, with it and without, in turns."""
    rows = frozenset(OPTIMISATIONS[name].rows)
    effects: dict[str, Effect] = {}
    for number in range(rounds):
        for is_removed in (False, True) if number % 2 == 0 else (True, False):
            with removals.removed(name if is_removed else None):
                found = table.measure(rows, scale, place, console)
            for goal, reached in _reached(found):
                effect = effects.setdefault(goal.name, Effect(name, goal))
                (effect.without if is_removed else effect.with_it).append(reached)
    return [each for each in effects.values() if len(each.with_it) == len(each.without) == rounds]


def _reached(findings: Findings) -> list[tuple[Goal, float]]:
    """The goals that can be compared, as nothing can with none; of row 9, which is a difference, the whole instead.

    Of row 1 also what an update costs the disk: how long that takes is lost among other things where it is quick.
    """
    found = [(goal, goal.reached) for goal in findings.goals if goal.row != 9]
    for cost in findings.costs:
        name = f"update at {cost.steps:,} steps, writes of the disk"
        found.append((Goal(1, name, "at most", 2, "", cost.disk_writes), cost.disk_writes))
    for each in findings.measures:
        if each.row == 9:
            found.append((Goal(9, f"{each.name}, against the floor", "at most", 2, " x", each.to_floor), each.to_floor))
    return [(goal, reached) for goal, reached in found if reached is not None and reached > 0]


def _hidden(names: Sequence[str], effects: Sequence[Effect]) -> list[str]:
    """What shows in none of its goals, a line for each."""
    shown = {each.optimisation for each in effects if each.shows}
    return [f"NOTHING SHOWS that {name} was removed." for name in names if name not in shown]


def _sheet(effects: Sequence[Effect]) -> Sheet:
    lines: list[list[str]] = []
    for each in effects:
        figures = [f"{statistics.median(of):,.4g}{each.goal.unit}" for of in (each.with_it, each.without)]
        worse = f"{report.figure(statistics.median(each.worse))} x"
        lines.append([each.optimisation, str(each.goal.row), each.goal.name, *figures, worse, _said(each)])
    return Sheet("Without what they rest on", ["without", "row", "what", "with it", "without", "worse", ""], lines)


def _said(effect: Effect) -> str:
    return "shows" if effect.shows else report.NONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks without",
        description="Measure rows with and without what they rest on. Ends with 1 where a removal shows in none.",
        epilog="; ".join(f"{name}: {each.what} (rows {_rows(each.rows)})" for name, each in OPTIMISATIONS.items()),
    )
    parser.add_argument("names", nargs="*", type=_name, metavar="NAME", help="what to remove (default: each)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, for a first look")
    parser.add_argument("--rounds", type=arguments.count, default=3, help="how often they take turns (3)")
    parser.add_argument("--dir", help="where to keep files meanwhile: a directory on the disk that is measured")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    return parser


def _name(text: str) -> str:
    if text not in OPTIMISATIONS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(OPTIMISATIONS)}")
    return text


def _rows(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows))
