"""Run the crash tests at the size of a night, in jobs that can be broken off and gone on with, and add up their counts.

    make crash-night                          everything that has not passed yet, two jobs at a time
    make crash-night ARGS="--minutes 50"      begin no job after that long; the next run goes on
    make crash-night ARGS="--only model"      the jobs whose names match
    make crash-night ARGS="--records FILE"    keep what came of them elsewhere than in build/night/outcomes.json

A job is one test function with all of its parameters, or some tests of a function that has many. What came of it is
kept with the modules that it loaded, a sum over them and the data beside them (`tools/reach.py`), and the versions that
Waypost runs with: what passed is not run again until one of these changes, so that a change of the page leaves the
story of a power cut as proven as it was.
What a job printed stands in build/night/NAME.txt. The run fails when a job failed, and, once all have passed, when the
totals of all of them miss a floor of ring N.
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
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from tests.totals import FLOORS
from tools.reach import Cache, Sums

ROOT = Path(__file__).resolve().parent.parent
_RING = "N"
TESTS = (
    "tests/crash",
    "tests/postgres/test_cuts.py",
    "tests/postgres/test_cuts_two_stores.py",
    "tests/postgres/test_killed.py",
)
"""Those of which the floors are, as in the Makefile."""
_BUILT = ROOT / "build" / "night"
_AT_ONCE = 2
_MOST_TOGETHER = 12
_LIMIT_S = 4 * 3600
_UNFINISHED = 75  # EX_TEMPFAIL: nothing is wrong, and it goes on another time


class Job(NamedTuple):
    """Tests of one file that are run together, by a name that is a file's too."""

    name: str
    tests: tuple[str, ...]


class Outcome(NamedTuple):
    """What came of a job: whether all passed, how long it took, how many cases it checked, and what it loaded."""

    passed: bool
    seconds: float
    totals: dict[str, int]
    waived: dict[str, str]
    modules: list[str]
    depends: str
    """The sum over the modules and what belongs to them, as they were then."""


class Records:
    """What came of the jobs, the last time that each was run, in a file with a line for each. Which modules they loaded
    stands behind these, since most loaded the same.
    """

    def __init__(self, file: Path, sums: Sums) -> None:
        self._file = file
        self._sums = sums
        found = json.loads(file.read_text()) if file.exists() else {"jobs": {}, "modules": {}}
        modules = {name: list(_unfolded(folders)) for name, folders in found["modules"].items()}
        self._outcomes = {
            name: Outcome(**{**fields, "modules": modules[fields["modules"]]}) for name, fields in found["jobs"].items()
        }

    def outcome(self, job: Job) -> Outcome | None:
        """What came of it, or None if it was not run with the files as they are."""
        found = self._outcomes.get(job.name)
        return found if found is not None and found.depends == self._sums(found.modules) else None

    def keep(self, job: Job, outcome: Outcome) -> None:
        self._outcomes[job.name] = outcome
        names = {modules: str(number) for number, modules in enumerate(sorted(set(map(_key, self._outcomes.values()))))}
        jobs = {name: {**kept._asdict(), "modules": names[_key(kept)]} for name, kept in sorted(self._outcomes.items())}
        modules = {name: _folded(modules) for modules, name in names.items()}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        new.write_text(f'{{"jobs": {_lines(jobs)},\n"modules": {_lines(modules)}}}\n')
        new.replace(self._file)


def _key(outcome: Outcome) -> tuple[str, ...]:
    return tuple(outcome.modules)


def _lines(each: dict[str, Any]) -> str:
    return "{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in each.items()) + "\n}"


def _folded(modules: Iterable[str]) -> dict[str, str]:
    """The names in each folder."""
    folders: dict[str, list[str]] = {}
    for module in modules:
        folder, _, name = module.rpartition("/")
        folders.setdefault(folder, []).append(name.removesuffix(".py"))
    return {folder: " ".join(names) for folder, names in folders.items()}


def _unfolded(folders: dict[str, str]) -> Iterator[str]:
    for folder, names in folders.items():
        yield from (f"{folder}/{name}.py" for name in names.split())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make crash-night", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no job after that long")
    parser.add_argument("--only", default="", metavar="PATTERN", help="jobs whose names match")
    where = _BUILT / "outcomes.json"
    parser.add_argument("--records", type=Path, default=where, metavar="FILE", help="where to keep what came of them")
    options = parser.parse_args(arguments)
    sums = Sums(ROOT)
    records = Records(options.records, sums)
    every = list(jobs(collect()))
    asked = [job for job in every if re.search(options.only, job.name)]
    due = [job for job in asked if not _has_passed(records, job)]
    print(f"{len(asked):,} jobs, {len(asked) - len(due):,} have passed before", flush=True)
    _run_all(due, records, sums, time.monotonic() + options.minutes * 60)
    return _judge(every, asked, records)


def collect() -> list[str]:
    """The ids of all crash tests."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *TESTS]
    shown = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if line.startswith(TESTS) and "::" in line]


def jobs(tests: Sequence[str]) -> Iterator[Job]:
    """The tests as jobs, in their order: those of a function together, unless they are many."""
    functions: dict[str, list[str]] = {}
    for test in tests:
        functions.setdefault(test.partition("[")[0], []).append(test)
    for function, found in functions.items():
        for number, start in enumerate(range(0, len(found), _MOST_TOGETHER)):
            name = re.sub(r"\W+", "-", function.removeprefix("tests/crash/").removeprefix("tests/").replace(".py", ""))
            several = len(found) > _MOST_TOGETHER
            part = tuple(found[start : start + _MOST_TOGETHER])
            yield Job(f"{name}-{number:03}" if several else name, part)


def _has_passed(records: Records, job: Job) -> bool:
    outcome = records.outcome(job)
    return outcome is not None and outcome.passed


def _environment() -> dict[str, str]:
    return {**os.environ, "CRASH_RING": _RING}


def _writing_bytecode(cache: Cache) -> dict[str, str]:
    rest = {name: value for name, value in _environment().items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**rest, "PYTHONPYCACHEPREFIX": str(cache.folder)}


# --- running ---


def _run_all(due: Sequence[Job], records: Records, sums: Sums, deadline: float) -> None:
    waiting = list(due)
    caches = SimpleQueue[Cache]()
    for number in range(_AT_ONCE):
        caches.put(Cache(ROOT, _BUILT / f"bytecode-{number}"))

    def run(job: Job) -> Outcome:
        cache = caches.get()
        try:
            return _run(job, cache, sums)
        finally:
            caches.put(cache)

    running: dict[Future[Outcome], Job] = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while waiting or running:
            while waiting and len(running) < _AT_ONCE and time.monotonic() < deadline:
                job = waiting.pop(0)
                running[pool.submit(run, job)] = job
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                job, outcome = running.pop(done), done.result()
                records.keep(job, outcome)
                sign = "passed" if outcome.passed else "FAILED"
                counted = ", ".join(f"{count:,} {kind}" for kind, count in outcome.totals.items())
                print(f"{sign}  {job.name}  {outcome.seconds:,.0f} s  {counted}", flush=True)


def _run(job: Job, cache: Cache, sums: Sums) -> Outcome:
    _BUILT.mkdir(parents=True, exist_ok=True)
    cache.clear()
    counts = _BUILT / f"{job.name}.counts"
    counts.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--timeout", str(_LIMIT_S)]
    began = time.monotonic()
    ran = subprocess.run(
        [*command, "--counts", str(counts), *job.tests],
        cwd=ROOT,
        env=_writing_bytecode(cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    counted = json.loads(counts.read_text()) if counts.exists() else {"totals": {}, "waived": {}}
    (_BUILT / f"{job.name}.txt").write_text(ran.stdout)
    modules = cache.loaded()
    if not {test.partition("::")[0] for test in job.tests} <= set(modules):
        raise RuntimeError(f"{job.name}: not even its own tests left bytecode in {cache.folder}\n{ran.stdout}")
    seconds = round(time.monotonic() - began, 1)
    return Outcome(ran.returncode == 0, seconds, **counted, modules=modules, depends=sums(modules))


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
