"""The list of mutants is true: every sync, lock and comparison of the store has tests that `make mutants` sees fail."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tools.mutants import ROOT, disagreements, main
from tools.mutations import MUTATIONS
from tools.sites import MODULES, Site, find_sites, function_names

SOURCE = ROOT / "src" / "waypost"
PLANTED = """
class Log:
    def __init__(self):
        self.lock = threading.Lock()

    def after_fork(self):
        self.lock = threading.Lock()

    def write(self):
        with self.lock:
            if self.file.try_lock() and header.checksum == crc32(data):
                self.file.sync()
                self.file.sync()
            if named[:2] != here[:2] or not log.is_current():
                log.lock(wait=True)
            fcntl.flock(1, fcntl.LOCK_UN)
"""


@pytest.fixture(scope="module")
def sites() -> list[Site]:
    return find_sites(SOURCE)


def test_t20_every_site_has_an_entry_and_every_entry_a_site(sites: list[Site]) -> None:
    """A new sync comes with a test that fails without it, and one that goes takes its entry with it."""
    assert disagreements(sites) == []
    assert disagreements(sites[1:]) == [f"no site for {sites[0].key}"]
    assert len(sites) > 150


def test_t20_the_tests_of_all_entries_are_there() -> None:
    """What is named is a file of tests, or a test in it."""
    named = {test for entry in MUTATIONS.values() for test in entry.tests}
    names = {path: set(function_names(ROOT / path)) for path in {test.partition("::")[0] for test in named}}
    for test in named:
        path, _, function = test.partition("::")
        assert function.partition("[")[0] in names[path], test
    assert all(entry.tests for entry in MUTATIONS.values())


def test_t20_every_mutant_is_a_module_that_differs(sites: list[Site]) -> None:
    """Removing a site leaves Python, and something else than before."""
    for site in sites:
        if site.key in MUTATIONS:
            source = (SOURCE / site.module).read_text()
            mutant = site.removed_from(source, MUTATIONS[site.key].instead)
            assert mutant != source, site.key
            ast.parse(mutant)


def test_t20_sites_are_found_in_the_source(tmp_path: Path) -> None:
    """Each kind, with a number where a function has the same text twice; giving back a lock is none."""
    for module in MODULES:
        (tmp_path / module).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / module).write_text("")
    (tmp_path / "store" / "directory").mkdir(parents=True)
    (tmp_path / "store" / "directory" / "log.py").write_text(PLANTED)
    found = [(site.kind, site.key.partition("::")[2], site.without) for site in find_sites(tmp_path)]
    assert [each for each in found if each[0] != "thread lock"] == [
        ("lock", "Log.write::self.file.try_lock()", "True"),
        ("checksum", "Log.write::header.checksum == crc32(data)", "True"),
        ("sync", "Log.write::self.file.sync()", "None"),
        ("sync", "Log.write::self.file.sync() #2", "None"),
        ("identity", "Log.write::named[:2] != here[:2]", "False"),
        ("identity", "Log.write::log.is_current()", "True"),
        ("lock", "Log.write::log.lock(wait=True)", "log.file.identity()"),
    ]
    assert [each[:2] for each in found if each[0] == "thread lock"] == [("thread lock", "Log::self.lock")]


def test_t20_where_no_site_is_chosen_nothing_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    """No change of a site is no reason to run all tests."""
    assert main(["--only", "no such site"]) == 0
    assert "0 tried, 0 killed, 0 survived" in capsys.readouterr().out
