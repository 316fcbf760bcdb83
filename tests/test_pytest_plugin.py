"""The fixtures that Waypost gives to pytest, in a project of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

THEIRS = """
import os, subprocess, sys
import waypost

def test_a_first_that_needs_none():
    assert "waypost.blocking" not in sys.modules and "msgspec" not in sys.modules

def test_b_a_store_of_its_own(open_waypost, waypost_state):
    assert list(open_waypost.list_workflows()) == []
    open_waypost.create_workflow("release", "Release", steps=["build"]).unwrap()
    assert waypost_state.name == "waypost-state" and (waypost_state / "FORMAT").exists()

def test_c_the_next_one_is_empty(open_waypost):
    assert list(open_waypost.list_workflows()) == []

def test_d_what_opens_by_itself_finds_it(waypost_state):
    with waypost.open() as wp:
        wp.create_workflow("release", "Release", steps=["build"]).unwrap()
    shown = subprocess.run([sys.executable, "-m", "waypost", "list"], capture_output=True, text=True, check=True)
    assert "release" in shown.stdout

def test_e_nothing_is_left_behind(tmp_path):
    assert os.environ["WAYPOST_STATE"] == "elsewhere"
"""


def test_a_project_that_has_waypost_has_its_fixtures(tmp_path: Path) -> None:
    """Each test gets a store of its own, and one that needs none imports nothing for it."""
    (tmp_path / "test_theirs.py").write_text(THEIRS)
    environment = {**os.environ, "WAYPOST_STATE": "elsewhere"}
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio", "--rootdir", "."]
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "5 passed" in done.stdout, done.stdout + done.stderr
    assert not (tmp_path / "elsewhere").exists()
