"""Show that nothing in the store's syncs, locks and comparisons is there in vain: without any one of them a test fails.

    make mutants                        all of them; fails when one survives
    make mutants ARGS="--only upkeep"   those whose name matches, or whose file does
    make mutants ARGS="--changed REV"   those on lines that differ from a revision
    make mutants ARGS="--list"          what there is, without running anything

`sites` finds them in the source, `mutations` says for each which tests must fail without it. Each is removed in a copy
of the tree, and those tests are run there. A site that has no entry fails the run, and so does an entry without a site.
First all these tests must pass while nothing is removed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from tools.mutations import MUTATIONS, Mutation
from tools.sites import Site, find_sites

ROOT = Path(__file__).resolve().parent.parent
_COPIED = ("src", "tests", "tools", "pyproject.toml")
_AT_ONCE = 2
_LIMIT_S = 120
_PYTEST = ("-m", "pytest", "-q", "-x", "--tb=line", "-p", "no:cacheprovider", "--no-header")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)


class Verdict(NamedTuple):
    """What came of a mutant: the test that failed, or none; `broken` where it could not be told."""

    site: Site
    killed_by: str | None
    seconds: float
    broken: str = ""


class Tree:
    """A copy of the tree in which one thing at a time is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, path / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, path / name)
        self.environment = {**os.environ, "PYTHONPATH": str(path / "src")}
        self._times = count(int(time.time()))
        found = self.run(["-c", "import waypost; print(waypost.__file__)"]).stdout.strip()
        assert found == str(path / "src" / "waypost" / "__init__.py"), f"{found} would be tested instead of the copy"

    def run(self, words: Iterable[str], limit_s: float | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *words]
        return subprocess.run(
            command, cwd=self.path, env=self.environment, text=True, capture_output=True, timeout=limit_s
        )

    def _put(self, place: Path, source: str) -> None:
        """Write a module, with a time of its own, by which compiled ones are told apart."""
        place.write_text(source)
        now = next(self._times)
        os.utime(place, (now, now))

    def judge(self, site: Site, instead: str | None, tests: Sequence[str]) -> Verdict:
        """Remove a site, run tests, and put it back."""
        place = self.path / "src" / "waypost" / site.module
        whole = place.read_text()
        begun = time.monotonic()
        self._put(place, site.removed_from(whole, instead))
        try:
            done = self.run([*_PYTEST, "-n", "0", *tests], _LIMIT_S)
        except subprocess.TimeoutExpired:
            return Verdict(site, "the time limit: it hangs", time.monotonic() - begun)
        finally:
            self._put(place, whole)
        seconds = time.monotonic() - begun
        if done.returncode == 0:
            return Verdict(site, None, seconds)
        failed = _FAILED.search(done.stdout)
        if done.returncode == 1 and failed:
            return Verdict(site, failed[1], seconds)
        return Verdict(site, None, seconds, (done.stdout + done.stderr)[-2000:])


def disagreements(sites: Sequence[Site]) -> list[str]:
    """Where what the source has and what `mutations` says of it differ."""
    keys = {site.key for site in sites}
    return [
        *(f"no entry for {key}" for key in sorted(keys - MUTATIONS.keys())),
        *(f"no site for {key}" for key in sorted(MUTATIONS.keys() - keys)),
    ]


def changed_lines(revision: str) -> dict[str, set[int]]:
    """For each module the lines that differ from a revision."""
    command = ["git", "diff", "--unified=0", revision, "--", "src/waypost"]
    told = subprocess.check_output(command, cwd=ROOT, text=True)
    changed: dict[str, set[int]] = {}
    module = ""
    for line in told.splitlines():
        if line.startswith("+++ "):
            module = line.removeprefix("+++ b/src/waypost/")
        elif found := re.match(r"@@ .* \+(\d+)(?:,(\d+))? @@", line):
            first, count = int(found[1]), int(found[2] or 1)
            changed.setdefault(module, set()).update(range(first, first + max(count, 1)))
    return changed


def chosen_from(sites: Sequence[Site], only: str | None, changed: str | None) -> list[Site]:
    chosen = [site for site in sites if site.key in MUTATIONS and (only is None or re.search(only, site.key))]
    if changed is not None:
        lines = changed_lines(changed)
        chosen = [site for site in chosen if site.line in lines.get(site.module, ())]
    return chosen


def check_that_all_pass(tree: Tree, chosen: Sequence[Site]) -> bool:
    """Whether the tests pass while nothing is removed; otherwise a failure says nothing."""
    tests = sorted({test for site in chosen for test in MUTATIONS[site.key].tests})
    begun = time.monotonic()
    done = tree.run([*_PYTEST, "-n", str(_AT_ONCE), *tests])
    print(f"{len(tests)} tests or files with nothing removed: {time.monotonic() - begun:.0f} s", flush=True)
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-2000:])
    return done.returncode == 0


def run(chosen: Sequence[Site], entries: dict[str, Mutation]) -> list[Verdict]:
    """Judge all chosen sites, two at a time, and print each as it is done."""
    if not chosen:
        return []  # or, with no test named, pytest would run all there are
    with tempfile.TemporaryDirectory(prefix="mutants-") as below:
        free: SimpleQueue[Tree] = SimpleQueue()
        trees = [Tree(Path(below) / str(number)) for number in range(_AT_ONCE)]
        for tree in trees:
            free.put(tree)
        if not check_that_all_pass(trees[0], chosen):
            raise SystemExit("the tests fail by themselves")

        def judge(site: Site) -> Verdict:
            tree = free.get()
            try:
                entry = entries[site.key]
                return tree.judge(site, entry.instead, entry.tests)
            finally:
                free.put(tree)

        verdicts: list[Verdict] = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for verdict in pool.map(judge, chosen):
                print(shown(verdict), flush=True)
                verdicts.append(verdict)
        return verdicts


def shown(verdict: Verdict) -> str:
    site = verdict.site
    fate = f"killed by {verdict.killed_by}" if verdict.killed_by else "SURVIVED"
    if verdict.broken:
        fate = f"COULD NOT BE RUN\n{verdict.broken}"
    return f"{verdict.seconds:5.1f} s  {site.module}:{site.line} {site.function}: {site.text}\n         → {fate}"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="PATTERN", help="those whose file, function or text matches")
    parser.add_argument("--changed", metavar="REV", help="those on lines that differ from a revision")
    parser.add_argument("--list", action="store_true", help="show what there is, and run nothing")
    options = parser.parse_args(words)
    sites = find_sites(ROOT / "src" / "waypost")
    wrong = disagreements(sites)
    for each in wrong:
        print(f"WRONG: {each}")
    chosen = chosen_from(sites, options.only, options.changed)
    if options.list:
        for site in sites:
            entry = MUTATIONS.get(site.key)
            fate = ", ".join(entry.tests) if entry else "?"
            print(f"{site.kind:11} {site.key}\n            {fate}")
        return bool(wrong)
    begun = time.monotonic()
    verdicts = run(chosen, MUTATIONS)
    survived = [verdict for verdict in verdicts if verdict.killed_by is None]
    print(
        f"{len(sites)} sites; {len(verdicts)} tried, "
        f"{len(verdicts) - len(survived)} killed, {len(survived)} survived; {time.monotonic() - begun:.0f} s"
    )
    for verdict in survived:
        print(shown(verdict))
    return bool(wrong or survived)


if __name__ == "__main__":
    raise SystemExit(main())
