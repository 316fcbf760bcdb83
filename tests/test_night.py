"""The night's run of the crash tests: what passed is not run again, and what all jobs checked adds up to the floors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tools import night
from tools.night import Job, Outcome, Records
from tools.reach import Cache, Sums

from tests.totals import FLOORS

ENOUGH = FLOORS["N"]


MODULES = ["tests/test_night.py"]


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "night" / "outcomes.json", Sums(night.ROOT))


def outcome(passed: bool = True, totals: dict[str, int] | None = None, depends: str | None = None) -> Outcome:
    now = Sums(night.ROOT)(MODULES) if depends is None else depends
    return Outcome(passed, 1.0, dict(ENOUGH) if totals is None else totals, {}, MODULES, now)


def test_q04_tests_of_a_function_are_one_job_unless_they_are_many() -> None:
    """Each test is in one job, and no job's name is another's."""
    tests = ["tests/crash/test_a.py::test_one", *(f"tests/crash/test_a.py::test_many[{n}]" for n in range(30))]
    made = list(night.jobs([*tests, "tests/crash/test_b.py::test_one"]))
    assert [test for job in made for test in job.tests] == [*tests, "tests/crash/test_b.py::test_one"]
    assert [len(job.tests) for job in made] == [1, 12, 12, 6, 1]
    assert len({job.name for job in made}) == len(made)


def test_q04_the_night_runs_what_make_crash_runs() -> None:
    """Else a floor would be of tests that are not among them."""
    (line,) = [line for line in (night.ROOT / "Makefile").read_text().splitlines() if line.startswith("CRASH := ")]
    assert line.removeprefix("CRASH := ").split() == list(night.TESTS)


FILES = {
    "src/waypost/__init__.py": "",
    "src/waypost/later.py": "",
    "src/waypost/store/__init__.py": "",
    "src/waypost/store/log.py": "import waypost.later",
    "src/waypost/store/queries/all.sql": "",
    "src/waypost/web/__init__.py": "",
    "src/waypost/web/page.css": "",
    "tests/__init__.py": "",
    "tests/conftest.py": "from tests import seeds",
    "tests/seeds.py": "",
    "tests/child.py": "import os, signal, waypost.store.log\nos.kill(os.getpid(), signal.SIGKILL)",
    "tests/golden/log": "",
    "tests/crash/__init__.py": "",
    "tests/crash/test_a.py": """
import os, subprocess, sys
def test_a():
    subprocess.run([sys.executable, "-c", "import tests.child"], env={**os.environ, "PYTHONPATH": "src:."})
""",
    "tests/crash/test_b.py": """
import os
def test_b():
    if not (child := os.fork()):
        from waypost import web
        os._exit(0)
    os.waitpid(child, 0)
""",
    "tests/unused.py": "",
    "requirements/runtime.txt": "",
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    """A tree of tests, and what was loaded when they ran, one after the other with one cache."""
    root = tmp_path_factory.mktemp("tree")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    cache, loaded = Cache(root, root / "bytecode"), dict[str, list[str]]()
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(cache.folder), "PYTHONPATH": str(root / "src")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # there is the one of Waypost
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for name in "ab":
        cache.clear()
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/crash/test_{name}.py"]
        subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)
        loaded[name] = cache.loaded()
    return root, loaded


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ("src/waypost/__init__.py", "ab"),
        ("src/waypost/later.py", "a"),
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
def test_q04_what_passed_counts_until_something_changes_that_it_loaded(
    changed: str, again: str, ran: tuple[Path, dict[str, list[str]]], tmp_path: Path
) -> None:
    """In whatever process, also one that was killed and a fork; and the data beside."""
    root, loaded = shutil.copytree(ran[0], tmp_path / "tree"), ran[1]
    before = {name: Sums(root)(modules) for name, modules in loaded.items()}
    assert before == {name: Sums(ran[0])(modules) for name, modules in loaded.items()}
    with (root / changed).open("a") as file:
        file.write("\n# changed")
    assert "".join(name for name, modules in loaded.items() if Sums(root)(modules) != before[name]) == again


def test_q04_a_module_that_is_gone_has_changed(tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    for name in (*MODULES, "requirements/runtime.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    before = Sums(tmp_path)(MODULES)
    (tmp_path / MODULES[0]).unlink()
    assert Sums(tmp_path)(MODULES) != before


def test_q04_records_are_found_again(records: Records, tmp_path: Path) -> None:
    """Each with its modules, of which a file holds every list once."""
    lists = [["tests/a.py", "tests/crash/b.py", "src/waypost/c.py"], ["tests/a.py"]]
    sums = Sums(night.ROOT)
    made = {
        Job(f"job{number}", ("a",)): outcome()._replace(modules=lists[number % 2], depends=sums(lists[number % 2]))
        for number in range(4)
    }
    for job, each in made.items():
        records.keep(job, each)
    file = tmp_path / "night" / "outcomes.json"
    again = Records(file, sums)
    assert {job: again.outcome(job) for job in made} == made
    assert len(json.loads(file.read_text())["modules"]) == 2


def test_q04_a_run_goes_on_where_it_was_broken_off(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has passed is left out, what failed, was never begun or has changed is run; another run finds it so."""
    made = [Job(name, (f"tests/crash/test_{name}.py::test",)) for name in ("passed", "failed", "new")]
    records.keep(made[0], outcome())
    records.keep(made[1], outcome(passed=False))
    made.append(Job("changed", ("tests/crash/test_changed.py::test",)))
    records.keep(made[-1], outcome(depends="of files as they were"))
    ran: list[str] = []

    def run(job: Job, *_: Any) -> Outcome:
        ran.append(job.name)
        return outcome()

    monkeypatch.setattr(night, "collect", lambda: [job.tests[0] for job in made])
    monkeypatch.setattr(night, "jobs", lambda *_: iter(made))
    monkeypatch.setattr(night, "_run", run)
    file = ["--records", str(tmp_path / "night" / "outcomes.json")]
    assert night.main([*file, "--minutes", "0"]) == 1  # nothing is begun, and one has failed
    assert ran == []
    assert night.main(file) == 0
    assert sorted(ran) == ["changed", "failed", "new"]
    assert night.main(file) == 0 and len(ran) == 3


def test_q04_a_job_is_run_at_the_size_of_a_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it loaded is seen, also where Python was told to keep no bytecode."""
    monkeypatch.setattr(night, "_BUILT", tmp_path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    file = "tests/crash/test_models_found.py"
    name = "test_e11_a_log_is_sealed_by_whoever_compacted_it"
    sums = Sums(night.ROOT)
    outcome = night._run(Job("a", (f"{file}::{name}",)), Cache(night.ROOT, tmp_path / "bytecode"), sums)
    assert outcome.passed, (tmp_path / "a.txt").read_text()
    assert {file, "tests/conftest.py", "src/waypost/store/directory/layout.py"} <= set(outcome.modules)
    assert not any(each.startswith(("src/waypost/web/", "src/waypost/sessions")) for each in outcome.modules)
    assert outcome.depends == sums(outcome.modules)
    assert night._environment()["CRASH_RING"] == "N"


def test_q04_a_job_that_left_no_trace_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would count for good."""
    monkeypatch.setattr(night, "_BUILT", tmp_path)
    with pytest.raises(RuntimeError, match="a: not even its own tests left bytecode"):
        night._run(Job("a", ("tests/crash/test_none.py",)), Cache(night.ROOT, tmp_path / "bytecode"), Sums(night.ROOT))


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
