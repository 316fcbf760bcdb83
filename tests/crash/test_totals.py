"""The count of what the crash tests tried is itself checked: a run below a floor fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROBE = """
def test_probe(totals):
    totals("kill points", {points})
"""


WAIVING_PROBE = """
def test_probe(waive_floor):
    waive_floor("file system crashes", "needs root")
"""


def _run(tmp_path: Path, points: int, probes: str = PROBE) -> subprocess.CompletedProcess[str]:
    probe = tmp_path / "test_probe.py"
    probe.write_text(probes.format(points=points))
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "xdist", "-p", "tests.totals", "--floors"]
    # a place of its own for what is temporary: in the usual one it would first remove what earlier runs have left
    command += ["-p", "no:cacheprovider", "--basetemp", str(tmp_path / "temporary")]
    return subprocess.run(
        [*command, str(probe), "--totals", str(tmp_path / "out" / "totals.txt")],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # each plugin is loaded three times
        capture_output=True,
        text=True,
        check=False,
    )


def test_q03_a_run_that_checked_too_little_fails(tmp_path: Path) -> None:
    ran = _run(tmp_path, 3)
    assert ran.returncode == 1, ran.stdout
    assert "BELOW ITS FLOOR" in ran.stdout


def test_q04_totals_of_all_workers_are_printed_and_kept(tmp_path: Path) -> None:
    ran = _run(tmp_path, 12_345)
    assert "1 passed" in ran.stdout
    kept = (tmp_path / "out" / "totals.txt").read_text()
    assert next(row.split() for row in kept.splitlines() if "kill points" in row)[2] == "12,345"


def test_q09_a_floor_is_waived_only_for_what_was_skipped_by_name(tmp_path: Path) -> None:
    """Who has no root is told what was not tried; where the test runs its floor holds."""
    ran = _run(tmp_path, 0, WAIVING_PROBE)
    row = next(row for row in ran.stdout.splitlines() if "file system crashes" in row)
    assert "BELOW" not in row
    assert "waived: needs root" in row
    assert "kill points" in ran.stdout.split("BELOW")[0]
    ran = _run(tmp_path, 3)
    assert "BELOW" in next(row for row in ran.stdout.splitlines() if "file system crashes" in row)
