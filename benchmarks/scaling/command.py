"""`python -m benchmarks scale`: measure how costs grow, and print tables, slopes and charts of it."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console

from benchmarks import arguments, chart, kept, machine, report
from benchmarks.chart import Line
from benchmarks.report import Sheet
from benchmarks.scaling import room
from benchmarks.scaling.dimensions import DIMENSIONS, Dimension
from benchmarks.scaling.growth import FLAT, LEEWAY, Curve
from benchmarks.scaling.site import FULL, QUICK, Amount, Site

METHOD = (
    "Medians of single operations, or for processes commits per second of all together. Sizes take turns in each "
    "round; a growth is the median over the rounds of ratios taken within each.",
    f"The slope is that of a straight line through the logarithms, of all sizes; up to {FLAT} times as much is no "
    "growth. Behind it stands the slope between the last two sizes, since what does not grow flattens the line.",
    f"A cost that should not grow is held against {FLAT} times that of the smallest size, in each round; one that may "
    f"grow with what it goes through against n^1, with {LEEWAY} to spare, between the last two sizes.",
)


@dataclass
class Growths:
    """All that a run has found."""

    header: dict[str, str]
    curves: list[Curve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, dimension: str) -> list[Curve]:
        return [curve for curve in self.curves if curve.dimension == dimension]

    def as_json(self) -> dict[str, Any]:
        return {"header": self.header, "curves": [curve.as_json() for curve in self.curves], "notes": self.notes}


def main(words: Sequence[str], *, full: Amount = FULL, quick: Amount = QUICK) -> int:
    parser = _parser()
    options = parser.parse_args(words)
    wanted: dict[str, int] = dict(options.what) or dict.fromkeys(DIMENSIONS, 0)
    if options.keep and len(wanted) < len(DIMENSIONS):
        parser.error("--keep is for a whole run: name all that grows, or nothing")
    amount = quick if options.quick else full
    if options.rounds:
        amount = replace(amount, rounds=options.rounds)
    began = time.monotonic()
    found = _measure(wanted, options.quick, amount, options.dir or machine.find_directory(), Console(stderr=True))
    size = "quick" if options.quick else "full"
    found.header["run"] = f"{size}, {amount.rounds} rounds, {time.monotonic() - began:.0f} s"
    told = kept.Report(
        "scale", "How costs grow", found.header, _sheets(found), _notes(found), charts(found), found.as_json()
    )
    kept.write(told, options.json, options.markdown, options.charts)
    if options.keep:
        kept.keep(told)
    report.show(told.header, told.sheets, told.notes, report.console())
    return 0


def charts(found: Growths) -> dict[str, str]:
    """A chart for each dimension that was measured at more than one size, by the name of its file."""
    drawn: dict[str, str] = {}
    for name, dimension in DIMENSIONS.items():
        curves = [curve for curve in found.of(name) if len(curve.sizes) > 1]
        if curves:
            up = "µs (median)" if curves[0].kind == "time" else "per second, of all together"
            lines = [
                Line(curve.name, list(zip(curve.sizes, curve.figures, strict=True)), curve.words) for curve in curves
            ]
            drawn[f"scale-{name}.svg"] = chart.lines(dimension.title, dimension.title.lower(), up, lines)
    return drawn


def _measure(wanted: dict[str, int], is_quick: bool, amount: Amount, place: str, console: Console) -> Growths:
    with (
        tempfile.TemporaryDirectory(prefix="waypost-scale-", dir=place) as directory,
        console.status("") as status,
    ):
        found = Growths(machine.describe(directory))
        if (disturbance := machine.disturbance()) is not None:
            found.notes.append(disturbance)
        for name, most in wanted.items():
            dimension = DIMENSIONS[name]
            most = most or (dimension.quick if is_quick else dimension.sizes[-1])
            sizes, left_out = _sizes(dimension, most, room.free(directory))
            found.notes += [f"{dimension.title}: {text}" for text in left_out]
            if sizes:
                with tempfile.TemporaryDirectory(dir=directory) as own:
                    found.curves += dimension.measure(Site(own, amount, status.update, found.notes), sizes)
    return found


def _sizes(dimension: Dimension, most: int, there: room.Need) -> tuple[list[int], list[str]]:
    asked = [size for size in dimension.sizes if size <= most]
    return room.fitting([(size, dimension.need(size)) for size in asked], there)


def _notes(found: Growths) -> list[str]:
    grown = [
        f"{curve.name} ({DIMENSIONS[curve.dimension].title.lower()}): {curve.factors[-1]:,.1f} times as much at "
        f"{curve.sizes[-1]:,}"
        for curve in found.curves
        if curve.verdict.startswith("grows")
    ]
    told = [f"GROWS MORE THAN IT SHOULD: {'; '.join(grown)}."] if grown else []
    return [*told, *found.notes, *METHOD]


def _sheets(found: Growths) -> list[Sheet]:
    return [_sheet(DIMENSIONS[name], curves) for name in DIMENSIONS if (curves := found.of(name))]


def _sheet(dimension: Dimension, curves: list[Curve]) -> Sheet:
    sizes = curves[0].sizes
    heads = ["what", *(f"{size:,}" for size in sizes), "growth", "slope", "at the end", "expected", ""]
    lines: list[list[str]] = []
    for curve in curves:
        figures = [report.time(each) if curve.kind == "time" else f"{each:,.0f}/s" for each in curve.figures]
        end = report.NONE if curve.end is None else f"n^{curve.end:.2f}"
        most = report.NONE if curve.most is None else "none" if curve.most == 0 else f"n^{curve.most:g} at most"
        growth = f"{report.figure(curve.factors[-1])} x"
        lines.append([curve.name, *figures, growth, curve.words, end, most, curve.verdict])
    return Sheet(dimension.title, heads, lines, texts=1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks scale",
        description="Measure how the cost of operations grows.",
        epilog="what: "
        + "; ".join(f"{name} ({each.sizes[0]:,} to {each.sizes[-1]:,})" for name, each in DIMENSIONS.items()),
    )
    parser.add_argument(
        "what", nargs="*", type=_wanted, help="what grows, and how far: steps, or steps:10000 (default: all, all sizes)"
    )
    arguments.add_shared(parser, "the smaller sizes and a part of the work: about a minute")
    return parser


def _wanted(text: str) -> tuple[str, int]:
    name, _, most = text.partition(":")
    if name not in DIMENSIONS:
        raise argparse.ArgumentTypeError(f"{text!r}: it is one of {', '.join(DIMENSIONS)}")
    smallest = DIMENSIONS[name].sizes[0]
    if most and (not most.isdigit() or int(most) < smallest):
        raise argparse.ArgumentTypeError(f"{text!r}: the largest size is a number from {smallest} on")
    return name, int(most or 0)
