"""`python -m benchmarks`: measure the rows that are asked for, and print what they have reached."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from benchmarks import arguments, compare, flush, kept, machine, ratios, report, table, without
from benchmarks.bench import FULL, QUICK, ROWS, Scale
from benchmarks.scaling import command as scaling


def main(words: Sequence[str] | None = None, *, full: Scale = FULL, quick: Scale = QUICK) -> int:
    given = sys.argv[1:] if words is None else list(words)
    if given[:1] and given[0] in COMMANDS:
        return COMMANDS[given[0]](given[1:])
    parser = _parser()
    options = parser.parse_args(given)
    if options.keep and options.rows != frozenset(ROWS):
        parser.error("--keep is for a whole run: leave out --rows")
    if options.flush_us and (options.keep or not flush.is_possible()):
        why = "--keep is for the disk as it is" if options.keep else f"there is no {flush.COMPILER} to build it with"
        parser.error(f"--flush-us: {why}")
    scale = quick if options.quick else full
    if options.rounds:
        scale = replace(scale, rounds=options.rounds)
    place = options.dir or machine.find_directory()
    began = time.monotonic()
    with flush.slowed(options.flush_us):
        findings = table.measure(options.rows, scale, place, Console(stderr=True))
    if options.flush_us:
        findings.header["flush"] = f"MADE SLOWER: {options.flush_us:,} µs are added to each sync of every engine"
    amount = "quick" if options.quick else "full"
    findings.header["run"] = f"{amount}, {scale.rounds} rounds, {time.monotonic() - began:.0f} s"
    told = kept.Report(
        "table",
        "Side by side",
        findings.header,
        list(report.sheets(findings)),
        report.notes(findings),
        ratios.charts(findings),
        findings.as_json(),
    )
    kept.write(told, options.json, options.markdown, options.charts)
    if options.keep:
        kept.keep(told)
    report.show(told.header, told.sheets, told.notes, report.console())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Waypost beside the raw floor of the disk, LangGraph's checkpointers and DBOS.",
        epilog="rows: " + "; ".join(f"{number} {name}" for number, name in ROWS.items()),
    )
    parser.add_argument("--rows", type=_rows, default=frozenset(ROWS), help="which rows, as in 1,3,4 (default: all)")
    parser.add_argument(
        "--flush-us", type=arguments.count, metavar="N", help="have each sync of every engine take N µs longer (Linux)"
    )
    arguments.add_shared(parser, "a tenth of the work, for a first look")
    return parser


def _rows(text: str) -> frozenset[int]:
    try:
        rows = frozenset(int(word) for word in text.split(","))
    except ValueError:
        rows = frozenset({0})
    if not rows <= ROWS.keys():
        raise argparse.ArgumentTypeError(f"{text!r}: rows are {', '.join(map(str, ROWS))}")
    return rows


COMMANDS = {"scale": scaling.main, "compare": compare.main, "without": without.main}


if __name__ == "__main__":
    sys.exit(main())
