"""What is kept of a run, where that is asked for: figures for each release, and tables and charts in the documents.

The section of a kind in docs/benchmarks.md stands between two comments, and is replaced as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from benchmarks.report import Sheet, as_markdown

PLACES = "benchmarks/results, docs/benchmarks.md and docs/pictures"
_ROOT = Path(__file__).resolve().parent.parent

Kind = Literal["table", "scale"]


@dataclass(frozen=True)
class Report:
    """All that a run has to tell: what was measured on, tables, what stands below them, charts by their file's name,
    and the same in figures.
    """

    kind: Kind
    title: str
    header: Mapping[str, str]
    sheets: list[Sheet]
    notes: list[str]
    charts: Mapping[str, str]
    document: Mapping[str, Any]

    def as_json(self) -> str:
        return json.dumps(self.document, indent=1) + "\n"

    def as_markdown(self) -> str:
        return as_markdown(self.title, self.header, self.sheets, self.notes)


def write(report: Report, json_file: str | None, markdown_file: str | None, charts: str | None) -> None:
    """Write what was asked for to where it was asked for."""
    if json_file:
        Path(json_file).write_text(report.as_json(), encoding="utf-8")
    if markdown_file:
        Path(markdown_file).write_text(report.as_markdown(), encoding="utf-8")
    if charts:
        _write_charts(Path(charts), report.charts)


def keep(report: Report, root: Path = _ROOT) -> None:
    """Keep a run as that of the release that was measured, in place of an earlier one of it."""
    results = root / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    suffix = "" if report.kind == "table" else f"-{report.kind}"
    (results / f"{version('waypost')}{suffix}.json").write_text(report.as_json(), encoding="utf-8")
    _write_charts(root / "docs" / "pictures", report.charts)
    page = root / "docs" / "benchmarks.md"
    page.write_text(with_section(page.read_text(encoding="utf-8"), report), encoding="utf-8")


def with_section(page: str, report: Report) -> str:
    """A page whose section of this kind is a report's. Raises ValueError where the page has no such section."""
    begin, end = f"<!-- {report.kind} begins -->\n", f"<!-- {report.kind} ends -->\n"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no section between {begin.strip()} and {end.strip()}")
    pictures = [f"![{report.title}: {Path(name).stem}](pictures/{name})\n" for name in report.charts]
    text = as_markdown(report.title, report.header, report.sheets, report.notes, level=3)
    return "\n".join([f"{before}{begin}", *pictures, f"{text}{end}"]) + after


def _write_charts(folder: Path, charts: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawing in charts.items():
        (folder / name).write_text(drawing, encoding="utf-8")
