"""The examples run as they stand, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import servers

ROOT = Path(__file__).parent.parent
SAYS = {
    "claude_code": ["Was running then, and may have had effects", "make test", "claude --resume 0b6f7c1e", "crashed"],
    "orchestrator": ["count-email running", "count-http pending", "completed with 14 commits"],
    "parallel_agents": ["ann did", "dee did"],
    "moving_a_session": ["on the train: 67 % done", "workflow thesis taken", "{'papers': 41} {'pages': 12} pending"],
    "team_on_postgres": ["release sent", "completed ann did it bob did it"],
    "claude_agent_session": ["0007: Mend the roof", "3 messages, the last: Red", "2 sessions, one of them True"],
    "openai_agents_session": ["'It rains again' → 3 items, from 'My roof leaks' on"],
}
"""What is in the output of each."""
NEEDS = {"claude_agent_session": "claude_agent_sdk", "openai_agents_session": "agents"}
ELSEWHERE = {"langgraph_agent"}
"""Run by the tests of their adapters."""


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs_as_it_stands(name: str, tmp_path: Path) -> None:
    """It ends by itself, without a warning, and says what it is there to show."""
    package = NEEDS.get(name)
    if package is not None and find_spec(package) is None:
        pytest.skip(f"{package} is not installed: make adapters")
    if name == "team_on_postgres":
        with servers.postgres().lent() as location:
            shown = run(name, tmp_path, location)
    else:
        shown = run(name, tmp_path)
    assert [said for said in SAYS[name] if said not in shown] == [], shown
    assert list(tmp_path.iterdir()) == []


def run(name: str, folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(folder)}
    environment.pop("WAYPOST_STATE", None)
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py"), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def test_each_example_is_run() -> None:
    """None lies there that nobody has tried."""
    found = {file.stem for file in (ROOT / "examples").glob("*.py")}
    assert found - ELSEWHERE == set(SAYS)
