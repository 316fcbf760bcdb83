"""All rows of the table, those that are asked for."""

from __future__ import annotations

import tempfile

from rich.console import Console

from benchmarks import checkpoints, disk, hooks, loads, machine, measuring, postgres, rates, updates
from benchmarks.bench import Bench, Scale
from benchmarks.figures import Findings


def measure(rows: frozenset[int], scale: Scale, place: str, console: Console) -> Findings:
    """Measure rows in a temporary directory below a place."""
    with_peer = machine.has_peer()
    with (
        tempfile.TemporaryDirectory(prefix="waypost-benchmarks-", dir=place) as directory,
        console.status("") as status,
    ):
        findings = Findings(machine.describe(directory))
        if (disturbance := machine.disturbance()) is not None:
            findings.notes.append(disturbance)
        if not with_peer:
            findings.header["SqliteSaver"] = f"not measured: {machine.PEER} is not installed (make bench has it)"
        bench = Bench(scale, rows, directory, with_peer, findings, status.update)
        steps = {
            updates.measure: {1, 3},
            checkpoints.measure_updates: {2},
            loads.measure: {4},
            checkpoints.measure_restores: {5},
            rates.measure_apart: {6},
            rates.measure_together: {7},
            rates.measure_callers: {8},
            hooks.measure: {9},
            disk.measure: {10},
            postgres.measure: {11, 12, 13, 14},
            measuring.measure: {15},
        }
        for step, of_rows in steps.items():
            if rows & of_rows:
                step(bench)
    return findings
