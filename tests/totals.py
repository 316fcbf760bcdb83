"""What the crash tests tried, counted over all worker processes, with a floor for each below which a run fails.

A test that kills, breaks or damages something takes the fixture `totals` and counts each case that it checked:
`totals("kill points", 120)`. Sizes are asked for with `ring_size(commit, night)`: ring C (the default) runs with every
change, ring N (`CRASH_RING=N`) by hand. With `--floors`, as `make crash` gives it, a run that checked fewer cases of
a kind than its floor fails: a harness that injects nothing must not pass.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

RING = os.environ.get("CRASH_RING", "C")

FLOORS: dict[str, dict[str, int]] = {
    "C": {
        "kill points": 300,
        "crash states": 20_000,
        "crash states within recovery": 2_000,
        "crash states after a failed sync": 5_000,
        "file system crashes": 100,
        "faults": 500,
        "short writes": 4_000,
        "damaged logs": 200_000,
        # the matrix asks for 30 seconds of each of sixteen readers; these are about 80 for all of them together
        "fuzz inputs": 150_000,
        # the matrix asks for 100,000 and 10,000: a step with its comparisons costs about a hundredth of a second and a
        # schedule a fortieth, which is more than these files may take of the fifteen minutes on two cores
        "model steps": 20_000,
        "schedules": 3_700,
        "history operations": 20_000,
        "reads beside writers": 100_000,
        "copies of a live store": 20,
        "soak commits": 5_000,
        "verdicts on owners": 3_000,
        "connection cuts": 200,
    },
    "N": {
        "kill points": 1_500,
        "crash states": 1_000_000,
        "crash states within recovery": 200_000,
        "crash states after a failed sync": 100_000,
        "file system crashes": 4_000,
        "faults": 5_000,
        "short writes": 100_000,
        "damaged logs": 1_000_000,
        "fuzz inputs": 1_000_000,
        "model steps": 1_000_000,
        "schedules": 50_000,
        "history operations": 1_000_000,
        "reads beside writers": 10_000_000,
        "copies of a live store": 1_000,
        "soak commits": 100_000,
        "verdicts on owners": 30_000,
        "connection cuts": 2_000,
    },
}
"""For each ring, how many cases of each kind must have been checked at least."""

Totals = Callable[[str, int], None]
WaiveFloor = Callable[[str, str], NoReturn]

_counted: Counter[str] = Counter()
_waived: dict[str, str] = {}


def ring_size(commit: int, night: int) -> int:
    """How many cases to try in the ring that runs."""
    return night if RING == "N" else commit


@pytest.fixture(scope="session")
def totals() -> Totals:
    """Counts cases of a kind that `FLOORS` names."""

    def count(kind: str, cases: int) -> None:
        assert kind in FLOORS[RING], kind
        _counted[kind] += cases

    return count


@pytest.fixture(scope="session")
def waive_floor() -> WaiveFloor:
    """Skips a test that cannot run on this computer, for a reason, and with it the floor of what it would have counted.

    For what needs root or a certain device; in CI, where both are there, the test runs and the floor holds.
    """

    def waive(kind: str, reason: str) -> NoReturn:
        assert kind in FLOORS[RING], kind
        _waived[kind] = reason
        pytest.skip(reason)

    return waive


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--floors", action="store_true", help="fail when fewer cases were checked than the floors say")
    parser.addoption("--totals", metavar="FILE", help="also write how many cases were checked to a file")
    parser.addoption("--counts", metavar="FILE", help="the same as JSON, for who adds up several runs")


def pytest_sessionfinish(session: pytest.Session) -> None:
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:  # in a worker of xdist, whose counts its controller adds up
        output["totals"] = dict(_counted)
        output["waived"] = dict(_waived)
        return
    place = session.config.getoption("--counts")
    if place:
        with open(place, "w", encoding="utf-8") as file:
            json.dump({"totals": dict(_counted), "waived": dict(_waived)}, file)
    if session.config.getoption("--floors") and _missed():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    output: dict[str, Any] = getattr(node, "workeroutput", {})
    _counted.update(output.get("totals", {}))
    _waived.update(output.get("waived", {}))


def _missed() -> list[str]:
    return [kind for kind, floor in FLOORS[RING].items() if _counted[kind] < floor and kind not in _waived]


def _table() -> list[str]:
    rows = [f"ring {RING}: cases checked"]
    for kind, floor in FLOORS[RING].items():
        short = "  BELOW ITS FLOOR" if kind in _missed() else ""
        if kind in _waived:
            short = f"  waived: {_waived[kind]}"
        rows.append(f"  {kind:34} {_counted[kind]:>12,}   floor {floor:>10,}{short}")
    return rows


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not (_counted or config.getoption("--floors")):
        return
    table = _table() if config.getoption("--floors") else [f"{kind}: {n:,}" for kind, n in sorted(_counted.items())]
    terminalreporter.section("crash tests")
    for row in table:
        terminalreporter.write_line(row)
    place = config.getoption("--totals")
    if place:
        os.makedirs(os.path.dirname(place) or ".", exist_ok=True)
        with open(place, "w", encoding="utf-8") as file:
            file.write("\n".join(table) + "\n")
