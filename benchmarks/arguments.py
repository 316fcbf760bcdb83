"""Options that the commands of the benchmarks share."""

from __future__ import annotations

import argparse

from benchmarks import kept


def add_shared(parser: argparse.ArgumentParser, quick: str) -> None:
    """`quick` says what a quick run is."""
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--rounds", type=count, help="how often those that are compared take their turns")
    parser.add_argument("--dir", help="where to keep files meanwhile: a directory on the disk that is measured")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables there")
    parser.add_argument("--charts", metavar="DIRECTORY", help="write the charts there")
    parser.add_argument("--keep", action="store_true", help=f"keep figures, tables and charts in {kept.PLACES}")


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)
