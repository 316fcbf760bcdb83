"""What docs/adapters.md shows and says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from waypost.adapters import pages

PAGE = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text(encoding="utf-8")
CLAUDE, OPENAI, PYTEST = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("WAYPOST_STATE", None)
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def test_the_example_of_a_conversation_runs(tmp_path: Path) -> None:
    """And prints what the comment beside it says."""
    shown = run(tmp_path, "-W", "error", "-c", OPENAI)
    (said,) = re.findall(r"print\(.*\) +# (.*)", OPENAI)
    assert shown == f"{said}\n"


def test_the_example_of_an_agent_runs(tmp_path: Path) -> None:
    """Where the SDK is installed."""
    if find_spec("claude_agent_sdk") is None:
        pytest.skip("the Claude Agent SDK is not installed: make adapters")
    run(tmp_path, "-W", "error", "-c", f"{CLAUDE}sessions.close()")


def test_the_example_of_tests_runs(tmp_path: Path) -> None:
    """Both fixtures are there, and are no others than the page says."""
    (tmp_path / "test_release.py").write_text(PYTEST)
    shown = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "--rootdir", ".")
    assert "2 passed" in shown
    listed = run(tmp_path, "-m", "pytest", "-p", "no:asyncio", "--fixtures", "--rootdir", ".")
    assert set(re.findall(r"^(\w+) -- .*waypost.pytest_plugin", listed, re.MULTILINE)) == {
        "waypost_state",
        "open_waypost",
    }


def test_the_page_says_the_bounds_and_parts_as_they_are() -> None:
    """Figures and names on the page are those of the source."""
    assert f"{pages.MOST_BYTES >> 20} MiB or {pages.MOST_BATCHES:,} batches" in PAGE
    parts = {pages.ROW, pages.BATCH, pages.SEEN, pages.KNOWN, pages.PAGE, pages.FILTER}
    named = re.findall(r"^\| `([a-z]+)(␟?)[^`]*` \|", PAGE, re.MULTILINE)
    assert {name + mark.replace("␟", pages.SEPARATOR) for name, mark in named} == parts
