"""The ratios of the main table as charts: how many times as fast as its peers, and how near to the floor."""

from __future__ import annotations

from benchmarks import chart, report
from benchmarks.chart import Bar
from benchmarks.figures import Findings, Measure

NO_FLOOR = frozenset({4})
"""Rows whose floor is no commit, so that nobody comes near to it."""


def charts(findings: Findings) -> dict[str, str]:
    """SVG by the name of its file; nothing for what was not measured."""
    drawn: dict[str, str] = {}
    peers = [*_over(findings.measures, "SqliteSaver"), *_over(findings.served, "PostgresSaver")]
    if peers:
        title = "Waypost beside its peers, each as durable as it says it is"
        drawn["benchmarks-peers.svg"] = chart.bars(title, "times as fast as the peer; left of 1 it is slower", peers)
    measures = [*findings.measures, *findings.served]
    floors = [bar for measure in measures if measure.row not in NO_FLOOR for bar in _of_floor(measure)]
    if floors:
        title = "Waypost beside the least that can be durable"
        drawn["benchmarks-floor.svg"] = chart.bars(title, "times as long as the bare writes and syncs", floors)
    return drawn


def _over(measures: list[Measure], peer: str) -> list[Bar]:
    found: list[Bar] = []
    for measure in measures:
        for series, times in {peer: measure.over_peer, **measure.over_others}.items():
            if times is not None:
                found.append(Bar(_name(measure), series, times, f"{report.figure(times)} x"))
    return found


def _of_floor(measure: Measure) -> list[Bar]:
    if measure.to_floor is None:
        return []
    times = measure.to_floor if measure.kind == "time" else 1 / measure.to_floor
    return [Bar(_name(measure), "Waypost / floor", times, f"{report.figure(times)} x")]


def _name(measure: Measure) -> str:
    return f"{measure.row}: {measure.name}"
