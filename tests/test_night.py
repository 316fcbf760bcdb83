"""The night's run of the crash tests: what passed is not run again, and what all jobs checked adds up to the floors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tools import night
from tools.night import Job, Outcome, Records, Sums

from tests.totals import FLOORS

ENOUGH = FLOORS["N"]


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "night" / "outcomes.json")


def outcome(passed: bool = True, totals: dict[str, int] | None = None) -> Outcome:
    return Outcome("", passed, 1.0, dict(ENOUGH) if totals is None else totals, {})


def test_q04_tests_of_a_function_are_one_job_unless_they_are_many() -> None:
    """Each test is in one job, and no job's name is another's."""
    tests = ["tests/crash/test_a.py::test_one", *(f"tests/crash/test_a.py::test_many[{n}]" for n in range(30))]
    made = list(night.jobs([*tests, "tests/crash/test_b.py::test_one"], str.upper))
    assert {job.depends for job in made} == {"TESTS/CRASH/TEST_A.PY", "TESTS/CRASH/TEST_B.PY"}
    assert [test for job in made for test in job.tests] == [*tests, "tests/crash/test_b.py::test_one"]
    assert [len(job.tests) for job in made] == [1, 12, 12, 6, 1]
    assert len({job.name for job in made}) == len(made)


def test_q04_the_night_runs_what_make_crash_runs() -> None:
    """Else a floor would be of tests that are not among them."""
    (line,) = [line for line in (night.ROOT / "Makefile").read_text().splitlines() if line.startswith("CRASH := ")]
    assert line.removeprefix("CRASH := ").split() == list(night.TESTS)


FILES = {
    "src/waypost/__init__.py": "TABLE = {'Later': 'waypost.later'}",
    "src/waypost/later.py": "",
    "src/waypost/store/__init__.py": "",
    "src/waypost/store/log.py": "",
    "src/waypost/store/queries/all.sql": "",
    "src/waypost/web/__init__.py": "",
    "src/waypost/web/page.css": "",
    "tests/__init__.py": "",
    "tests/conftest.py": "from tests import seeds",
    "tests/seeds.py": "",
    "tests/child.py": "import waypost.store.log",
    "tests/golden/log": "",
    "tests/crash/__init__.py": "",
    "tests/crash/test_a.py": "RUN = ['-m', 'tests.child']",
    "tests/crash/test_b.py": "PROGRAM = 'from waypost import web'",
    "requirements/runtime.txt": "",
}


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ("src/waypost/__init__.py", "ab"),
        ("src/waypost/later.py", "ab"),
        ("src/waypost/store/__init__.py", "a"),
        ("src/waypost/store/log.py", "a"),
        ("src/waypost/store/queries/all.sql", "a"),
        ("src/waypost/web/__init__.py", "b"),
        ("src/waypost/web/page.css", "b"),
        ("src/waypost/web/new.css", "b"),
        ("tests/conftest.py", "ab"),
        ("tests/seeds.py", "ab"),
        ("tests/child.py", "a"),
        ("tests/golden/log", "ab"),
        ("tests/crash/test_a.py", "a"),
        ("tests/unused.py", ""),
        ("requirements/runtime.txt", "ab"),
    ],
)
def test_q04_what_passed_counts_until_something_changes_that_it_can_reach(
    changed: str, again: str, tmp_path: Path
) -> None:
    """By an import, by a name in a text, as a package that it is in, or as data beside."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    tests = {name: f"tests/crash/test_{name}.py" for name in "ab"}
    before = {name: Sums(tmp_path)(test) for name, test in tests.items()}
    assert {name: Sums(tmp_path)(test) for name, test in tests.items()} == before
    with (tmp_path / changed).open("a") as file:
        file.write("\n# changed")
    assert "".join(name for name, test in tests.items() if Sums(tmp_path)(test) != before[name]) == again


def test_q04_a_run_goes_on_where_it_was_broken_off(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has passed is left out, what failed, was never begun or has changed is run; another run finds it so."""
    made = [Job(name, (f"tests/crash/test_{name}.py::test",)) for name in ("passed", "failed", "new")]
    records.keep(made[0], outcome())
    records.keep(made[1], outcome(passed=False))
    made.append(Job("changed", ("tests/crash/test_changed.py::test",), "files as they are"))
    records.keep(made[-1], outcome())
    ran: list[str] = []

    def run(job: Job) -> Outcome:
        ran.append(job.name)
        return outcome()._replace(depends=job.depends)

    monkeypatch.setattr(night, "collect", lambda: [job.tests[0] for job in made])
    monkeypatch.setattr(night, "jobs", lambda *_: iter(made))
    monkeypatch.setattr(night, "_run", run)
    file = ["--records", str(tmp_path / "night" / "outcomes.json")]
    assert night.main([*file, "--minutes", "0"]) == 1  # nothing is begun, and one has failed
    assert ran == []
    assert night.main(file) == 0
    assert sorted(ran) == ["changed", "failed", "new"]
    assert night.main(file) == 0 and len(ran) == 3


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([outcome(), outcome(totals={})], 0),
        ([outcome(), None], 75),
        ([outcome(), outcome(passed=False)], 1),
        ([outcome(totals={}), outcome(totals={})], 1),
        ([outcome(totals={**ENOUGH, "faults": ENOUGH["faults"] - 1}), outcome(totals={"faults": 1})], 0),
        ([outcome(totals={**ENOUGH, "faults": ENOUGH["faults"] - 2}), outcome(totals={"faults": 1})], 1),
    ],
)
def test_q03_the_sum_of_all_jobs_is_held_against_the_floors(
    outcomes: list[Any], status: int, records: Records, capsys: pytest.CaptureFixture[str]
) -> None:
    """It passes once every job has, and together they checked as much as each floor asks for."""
    made = [Job(f"job{number}", ("a",)) for number in range(len(outcomes))]
    for job, each in zip(made, outcomes, strict=True):
        if each is not None:
            records.keep(job, each)
    assert night._judge(made, made, records) == status
    assert "ring N: cases checked" in capsys.readouterr().out
