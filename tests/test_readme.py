"""The README's examples, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert len(EXAMPLES) >= 2


def test_every_command_of_the_readme_is_in_the_makefile():
    """Each `make` target that the README names exists."""
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"`?make ([a-z-]+)", README)) - {"and"}
    assert named >= {"demo", "test", "bench"}
    assert [target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_links_of_the_documents_lead_somewhere():
    """Each relative link in the documents names a file that is there."""
    for page in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
