"""`python -m benchmarks compare`: two runs side by side, row by row; kept ones, or two commits measured in turns.

Of two files that were kept only the ratios to the floor and to the peer say anything, unless both are of one machine
in one state. Two commits are measured here and now: each is checked out in a worktree of its own, whose own
`make bench` sets up its own environment, and then runs of one round each take turns, the order turned round each time.
So rounds of both alternate, but each run prepares its stores anew.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import arguments, report
from benchmarks.report import Sheet

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
NOISE = 0.1
"""Differences below this share are not told as such."""

Document = dict[str, Any]


class CannotCompare(Exception):
    """What was named is no run and no commit, or cannot be measured."""


@dataclass(frozen=True)
class Side:
    """One of the two: what it is called, and its runs, which belong to those of the other one by one."""

    name: str
    runs: list[Document]


@dataclass(frozen=True)
class Found:
    """One measure of both: ratios are the second against the first, run by run. A `time` is how many times as
    long, a `rate` how many times as fast. `to_floor` and `over_peer` are what each reached in its own runs.
    """

    row: int
    name: str
    kind: str
    first: float
    second: float
    ratios: list[float]
    to_floor: tuple[float, float] | None
    over_peer: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """Whether the second is slower or faster: only where each of its runs was."""
        times = [ratio if self.kind == "time" else 1 / ratio for ratio in self.ratios]
        if min(times) > 1 + NOISE:
            return "slower"
        if max(times) < 1 / (1 + NOISE):
            return "faster"
        return "the same" if 1 / (1 + NOISE) <= statistics.median(times) <= 1 + NOISE else "cannot be told"

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


def main(words: Sequence[str]) -> int:
    options = _parser().parse_args(words)
    console = Console(stderr=True)
    try:
        if all(_file_of(name) is not None for name in (options.first, options.second)):
            sides = [Side(name, [_read(name)]) for name in (options.first, options.second)]
            how = (
                "two kept runs, not measured in turns: only the last two columns say much where machine or load differ"
            )
        else:
            sides = _measured(options, console)
            how = f"measured in turns, {options.rounds} runs of one round each, each with stores of its own"
        found = compare(*sides)
    except CannotCompare as error:
        console.print(f"[red]✗[/] {error}", highlight=False)
        return 2
    header = {"first": sides[0].name, "second": sides[1].name, "how": how}
    notes = [
        f"The second is slower or faster where it is so by more than {NOISE:.0%} in each of its runs.",
        *_missing(*sides),
    ]
    if options.json:
        document = {**header, "measures": [vars(each) | {"verdict": each.verdict} for each in found]}
        Path(options.json).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        text = report.as_markdown("Two runs side by side", header, [_sheet(found)], notes)
        Path(options.markdown).write_text(text, encoding="utf-8")
    report.show(header, [_sheet(found)], notes, report.console())
    return 0


def compare(first: Side, second: Side) -> list[Found]:
    """The measures that all runs of both have, in the order of the first."""
    indexed = [[_indexed(run) for run in side.runs] for side in (first, second)]
    common = [key for key in indexed[0][0] if all(key in run for runs in indexed for run in runs)]
    if not common:
        raise CannotCompare(f"{first.name} and {second.name} have no measure in common")
    return [_found(key, [run[key] for run in indexed[0]], [run[key] for run in indexed[1]]) for key in common]


def _found(key: tuple[int, str], first: list[Document], second: list[Document]) -> Found:
    return Found(
        row=key[0],
        name=key[1],
        kind=first[0]["kind"],
        first=statistics.median(map(_figure, first)),
        second=statistics.median(map(_figure, second)),
        ratios=[_figure(other) / _figure(one) for one, other in zip(first, second, strict=True)],
        to_floor=_both("to_floor", first, second),
        over_peer=_both("over_peer", first, second),
    )


def _both(name: str, first: list[Document], second: list[Document]) -> tuple[float, float] | None:
    """The medians of a ratio; None where a run does not have it."""
    if any(run.get(name) is None for run in [*first, *second]):
        return None
    return statistics.median(run[name] for run in first), statistics.median(run[name] for run in second)


def _figure(measure: Document) -> float:
    of_ours = measure["waypost"]
    return float(of_ours["per_second"] if measure["kind"] == "rate" else of_ours["median_us"])


def _indexed(run: Document) -> dict[tuple[int, str], Document]:
    return {(measure["row"], measure["name"]): measure for measure in run["measures"]}


def _missing(first: Side, second: Side) -> list[str]:
    names = [{name for run in side.runs for _, name in _indexed(run)} for side in (first, second)]
    return [
        f"Only {side.name} has {', '.join(repr(name) for name in sorted(own - other))}."
        for side, own, other in ((first, *names), (second, *names[::-1]))
        if own - other
    ]


def _sheet(found: Sequence[Found]) -> Sheet:
    lines: list[list[str]] = []
    for each in found:
        figures = [report.time(one) if each.kind == "time" else f"{one:,.0f}/s" for one in (each.first, each.second)]
        ratios = [_change(each.to_floor), _change(each.over_peer)]
        lines.append([str(each.row), each.name, *figures, f"{report.figure(each.ratio)} x", each.verdict, *ratios])
    heads = ["row", "measure", "first", "second", "second / first", "second is", "Waypost / floor", "faster than peer"]
    return Sheet("Waypost beside itself", heads, lines)


def _change(both: tuple[float, float] | None) -> str:
    return report.NONE if both is None else f"{report.figure(both[0])} → {report.figure(both[1])}"


# --- what was kept ---


def _file_of(name: str) -> Path | None:
    """The file that a name stands for: itself, or the run that was kept of that version."""
    return next((path for path in (Path(name), RESULTS / f"{name}.json") if path.is_file()), None)


def _read(name: str) -> Document:
    path = _file_of(name)
    assert path is not None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        _indexed(document)
    except (ValueError, KeyError, TypeError) as error:
        raise CannotCompare(f"{path} is no run of the benchmarks: {error!r}") from error
    return document


# --- what is measured now ---


def _measured(options: argparse.Namespace, console: Console) -> list[Side]:
    """Measure two commits in turns."""
    names = [options.first, options.second]
    commits = [_commit(name) for name in names]
    with tempfile.TemporaryDirectory(prefix="waypost-compare-") as directory:
        trees = [Path(directory) / str(number) for number in range(len(names))]
        sides = [Side(f"{name} ({commit[:10]})", []) for name, commit in zip(names, commits, strict=True)]
        try:
            for tree, commit in zip(trees, commits, strict=True):
                console.print(f"setting up {commit[:10]}", highlight=False)
                _git("worktree", "add", "--detach", "--quiet", str(tree), commit)
                _make(tree, "--help")
            for number in range(options.rounds):
                console.print(f"round {number + 1} of {options.rounds}", highlight=False)
                turns = list(zip(trees, sides, strict=True))
                for tree, side in turns if number % 2 == 0 else turns[::-1]:
                    side.runs.append(_run(tree, options))
        finally:
            for tree in trees:
                subprocess.run(
                    ["git", "-C", str(ROOT), "worktree", "remove", "--force", str(tree)], capture_output=True
                )
    return sides


def _commit(name: str) -> str:
    found = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"],
        capture_output=True,
        text=True,
    )
    if found.returncode:
        raise CannotCompare(f"{name} is no file, no kept run and no commit (both have to be runs, or both commits)")
    return found.stdout.strip()


def _run(tree: Path, options: argparse.Namespace) -> Document:
    found = tree / "build" / "compared.json"
    found.parent.mkdir(exist_ok=True)
    words = ["--rounds", "1", "--json", str(found)]
    words += ["--quick"] if options.quick else []
    words += ["--rows", options.rows] if options.rows else []
    words += ["--dir", options.dir] if options.dir else []
    _make(tree, *words)
    return json.loads(found.read_text(encoding="utf-8"))


def _make(tree: Path, *words: str) -> None:
    """Let a worktree's own Makefile run its own benchmarks, in an environment of its own."""
    base = str(getattr(sys, "_base_executable", sys.executable))
    command = ["make", "-C", str(tree), "bench", f"PYTHON={base}", "ARGS=" + shlex.join(words).replace("$", "$$")]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        last = (ran.stderr.strip() or ran.stdout.strip()).splitlines()[-3:]
        raise CannotCompare(f"`make bench` of {tree.name} failed: {' / '.join(last)}")


def _git(*words: str) -> None:
    ran = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    if ran.returncode:
        raise CannotCompare(f"git {words[0]} failed: {ran.stderr.strip()}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks compare",
        description="Two runs side by side: files of --json or versions that were kept; or two commits, measured now.",
    )
    parser.add_argument("first", help="a file, a kept version, or a commit")
    parser.add_argument("second", help="the same kind")
    parser.add_argument("--rows", help="of commits: which rows, as in 1,3,4 (default: all)")
    parser.add_argument("--quick", action="store_true", help="of commits: a tenth of the work")
    parser.add_argument("--rounds", type=arguments.count, default=5, help="of commits: how often they take turns (5)")
    parser.add_argument("--dir", help="of commits: where to keep files meanwhile")
    parser.add_argument("--json", metavar="FILE", help="write the comparison there")
    parser.add_argument("--markdown", metavar="FILE", help="write the table there")
    return parser
