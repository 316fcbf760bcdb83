"""The README's examples, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tools import docs_pages

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_trap_01_an_example_runs_as_it_stands(tmp_path, number):
    """Each Python example works in an empty directory, and its process ends by itself."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    environment.pop("WAYPOST_STATE", None)
    command = [sys.executable, "-W", "error", "-c", EXAMPLES[number]]
    first = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (first.returncode, first.stderr) == (0, "")
    for line in re.findall(r"print\(.*\) +# (.*)", EXAMPLES[number]):
        assert line in first.stdout
    assert (tmp_path / ".claude" / "state" / "FORMAT").exists()


def test_there_are_examples():
    """The README shows Python, so that the test above has something to run."""
    assert EXAMPLES


def test_the_readme_is_one_screen_and_says_what_matters():
    """It is short, shows the two commands and the picture, and each promise in it has a command that shows it."""
    assert len(README.splitlines()) <= 80
    assert {"make demo", "make test"} <= set(re.findall(r"^make \w+", README, re.MULTILINE))
    assert "docs/pictures/timeline.webp" in README
    rows = README.partition("| promise | shown by |")[2].splitlines()[2:]
    promises = [row for row in rows[: rows.index("")] if row]
    assert len(promises) >= 10
    assert [row for row in promises if not re.search(r"\| `make [^|]*`.*\|$", row)] == []
    everything = (ROOT / "docs" / "promises.md").read_text()
    assert [row for row in promises if row not in everything] == []


def test_links_of_the_documents_lead_somewhere():
    """Each relative link in the documents names a file that is there, or a page that the site has."""
    made = {f"docs/reference/{name}.md" for name in ("index", *docs_pages.PAGES)}
    for page in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            path = (page.parent / target).resolve()
            assert path.exists() or path.relative_to(ROOT).as_posix() in made, f"{page.name}: {target}"
