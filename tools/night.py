"""Run the crash tests at the size of a night, in jobs that can be broken off and gone on with, and add up their counts.

    make crash-night                          everything that has not passed yet, two jobs at a time
    make crash-night ARGS="--minutes 50"      begin no job after that long; the next run goes on
    make crash-night ARGS="--only model"      the jobs whose names match

A job is one test function with all of its parameters, or one test of a function that has many. What came of it is kept
in build/night/ under a sum over the source and the tests: what passed is not run again until one of them changes. The
run fails when a job failed, and, once all have passed, when the totals of all of them miss a floor of ring N.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from tests.totals import FLOORS

ROOT = Path(__file__).resolve().parent.parent
_RING = "N"
_TESTS = "tests/crash"
_SUMMED = ("src", "tests", "pyproject.toml", "requirements")
_AT_ONCE = 2
_MOST_TOGETHER = 12
_LIMIT_S = 4 * 3600
_UNFINISHED = 75  # EX_TEMPFAIL: nothing is wrong, and it goes on another time


class Job(NamedTuple):
    """Tests that are run together, by a name that is a file's too."""

    name: str
    tests: tuple[str, ...]


class Outcome(NamedTuple):
    """What came of a job: whether all passed, how long it took, and how many cases of each kind it checked."""

    passed: bool
    seconds: float
    totals: dict[str, int]
    waived: dict[str, str]


class Records:
    """What came of the jobs of one state of the tree."""

    def __init__(self, place: Path) -> None:
        self._place = place
        place.mkdir(parents=True, exist_ok=True)

    def outcome(self, job: Job) -> Outcome | None:
        try:
            return Outcome(**json.loads((self._place / f"{job.name}.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def keep(self, job: Job, outcome: Outcome, said: str) -> None:
        (self._place / f"{job.name}.txt").write_text(said)
        new = self._place / f"{job.name}.new"
        new.write_text(json.dumps(outcome._asdict(), indent=1))
        new.replace(self._place / f"{job.name}.json")

    def counted_in(self, job: Job) -> Path:
        """Where the run of a job leaves its counts."""
        return self._place / f"{job.name}.counts"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make crash-night", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no job after that long")
    parser.add_argument("--only", default="", metavar="PATTERN", help="jobs whose names match")
    options = parser.parse_args(arguments)
    records = Records(ROOT / "build" / "night" / fingerprint(ROOT))
    every = list(jobs(collect()))
    asked = [job for job in every if re.search(options.only, job.name)]
    due = [job for job in asked if not _has_passed(records, job)]
    print(f"{len(asked):,} jobs, {len(asked) - len(due):,} have passed before", flush=True)
    _run_all(due, records, time.monotonic() + options.minutes * 60)
    return _judge(every, asked, records)


def fingerprint(root: Path) -> str:
    """A sum over all that a test may depend on: their results count while it is the same."""
    found = sha256()
    for top in _SUMMED:
        place = root / top
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file() and "__pycache__" not in file.parts:
                found.update(f"{file.relative_to(root)}\0".encode())
                found.update(sha256(file.read_bytes()).digest())
    return found.hexdigest()[:16]


def collect() -> list[str]:
    """The ids of all crash tests."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", _TESTS]
    shown = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if line.startswith(_TESTS) and "::" in line]


def jobs(tests: Sequence[str]) -> Iterator[Job]:
    """The tests as jobs, in their order: those of a function together, unless they are many."""
    functions: dict[str, list[str]] = {}
    for test in tests:
        functions.setdefault(test.partition("[")[0], []).append(test)
    for function, found in functions.items():
        for number, start in enumerate(range(0, len(found), _MOST_TOGETHER)):
            name = re.sub(r"\W+", "-", function.removeprefix(_TESTS + "/").replace(".py", ""))
            several = len(found) > _MOST_TOGETHER
            yield Job(f"{name}-{number:03}" if several else name, tuple(found[start : start + _MOST_TOGETHER]))


def _has_passed(records: Records, job: Job) -> bool:
    outcome = records.outcome(job)
    return outcome is not None and outcome.passed


def _environment() -> dict[str, str]:
    return {**os.environ, "CRASH_RING": _RING}


# --- running ---


def _run_all(due: Sequence[Job], records: Records, deadline: float) -> None:
    waiting = list(due)
    running: dict[Future[Outcome], Job] = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while waiting or running:
            while waiting and len(running) < _AT_ONCE and time.monotonic() < deadline:
                job = waiting.pop(0)
                running[pool.submit(_run, job, records)] = job
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                job, outcome = running.pop(done), done.result()
                sign = "passed" if outcome.passed else "FAILED"
                counted = ", ".join(f"{count:,} {kind}" for kind, count in outcome.totals.items())
                print(f"{sign}  {job.name}  {outcome.seconds:,.0f} s  {counted}", flush=True)


def _run(job: Job, records: Records) -> Outcome:
    counts = records.counted_in(job)
    counts.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--timeout", str(_LIMIT_S)]
    began = time.monotonic()
    ran = subprocess.run(
        [*command, "--counts", str(counts), *job.tests],
        cwd=ROOT,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    counted = json.loads(counts.read_text()) if counts.exists() else {"totals": {}, "waived": {}}
    outcome = Outcome(ran.returncode == 0, time.monotonic() - began, **counted)
    records.keep(job, outcome, ran.stdout)
    return outcome


# --- adding up ---


def _judge(every: Sequence[Job], asked: Sequence[Job], records: Records) -> int:
    outcomes = {job: records.outcome(job) for job in every}
    failed = [job for job in asked if (outcome := outcomes[job]) is not None and not outcome.passed]
    left = [job for job in every if outcomes[job] is None]
    print("\n".join(_table([outcome for outcome in outcomes.values() if outcome is not None], is_whole=not left)))
    for job in failed:
        print(f"FAILED {job.name}: {' '.join(job.tests[:1])}")
    if failed:
        return 1
    if left:
        print(f"{len(left):,} of {len(every):,} jobs are left: make crash-night goes on with them")
        return _UNFINISHED
    missed = _missed([outcome for outcome in outcomes.values() if outcome is not None])
    return 1 if missed else 0


def _summed(outcomes: Sequence[Outcome]) -> tuple[Counter[str], dict[str, str]]:
    totals: Counter[str] = Counter()
    waived: dict[str, str] = {}
    for outcome in outcomes:
        totals.update(outcome.totals)
        waived.update(outcome.waived)
    return totals, waived


def _missed(outcomes: Sequence[Outcome]) -> list[str]:
    totals, waived = _summed(outcomes)
    return [kind for kind, floor in FLOORS[_RING].items() if totals[kind] < floor and kind not in waived]


def _table(outcomes: Sequence[Outcome], *, is_whole: bool) -> Iterator[str]:
    totals, waived = _summed(outcomes)
    hours = sum(outcome.seconds for outcome in outcomes) / 3600
    yield f"ring {_RING}: cases checked in {len(outcomes):,} jobs, {hours:.1f} hours of one core"
    for kind, floor in FLOORS[_RING].items():
        short = "  BELOW ITS FLOOR" if is_whole and totals[kind] < floor else ""
        said = f"  waived: {waived[kind]}" if kind in waived else short
        yield f"  {kind:34} {totals[kind]:>12,}   floor {floor:>10,}{said}"


if __name__ == "__main__":
    sys.exit(main())
