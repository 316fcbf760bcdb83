"""`waypost session export` and `import`: a session in one file, from store to store."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import NASTY, Shown, call, call_json, here, wp
from waypost import keys
from waypost.blocking import Waypost

__all__ = ["call", "call_json", "here", "wp"]  # fixtures

Call = Callable[..., Shown]
CallJson = Callable[..., Any]


@pytest.fixture
def made(wp: Waypost) -> Waypost:
    wp.start_session("ann", session_id="first")
    wp.create_workflow("survey", "Survey", steps=["fetch"]).unwrap()
    wp.add_step_output("survey", "fetch", {"rows": 3}).unwrap()
    wp.create_checkpoint("survey").unwrap()
    return wp


def test_a_session_goes_to_a_file_and_comes_back(made: Waypost, call: Call, call_json: CallJson, here: Path) -> None:
    """By the beginning of its id; what is told is what was written, and what became of each workflow."""
    shown = call("session", "export", "fir", "file")
    assert (shown.status, shown.err) == (0, "")
    assert "holds session first with 1 workflow" in shown.out
    assert call("session", "export", "first", "file").status == 2  # it is there already
    told = call_json("session", "export", "first", "file", "--yes")
    data = (here / "file").read_bytes()
    assert (told["size_bytes"], told["sha256"]) == (len(data), sha256(data).hexdigest())
    assert (told["session_id"], told["workflows"]) == ("first", ["survey"])
    shown = call("--state", "other", "session", "import", "file", "--as", "second")
    assert shown.status == 0, shown
    assert "new here" in shown.line("survey") and "second" in shown.out
    again = call_json("--state", "other", "session", "import", "file", "--as", "second")
    assert (again["session_id"], again["made"], again["unchanged"]) == ("second", [], ["survey"])
    assert "paused" in call("--state", "other", "session", "list").line("second")
    assert call_json("--state", "other", "show", "survey")["name"] == "Survey"


def test_a_clash_is_told_and_settled_as_asked(made: Waypost, call: Call, call_json: CallJson) -> None:
    assert call("session", "export", "first", "file").status == 0
    assert call("--state", "other", "session", "import", "file").status == 0
    made.update_context("survey", variables={"x": 1}).unwrap()
    assert call("session", "export", "first", "newer").status == 0
    refused = call("--state", "other", "session", "import", "newer")
    assert refused.status == 4 and "'survey'" in refused.err and "--on-clash" in refused.err
    renamed = call_json("--state", "other", "session", "import", "newer", "--on-clash", "rename", "--as", "third")
    assert renamed["renamed"] == {"survey": "survey-2"}
    merged = call("--state", "other", "session", "import", "newer", "--on-clash", "merge")
    assert "merged with what was here" in merged.line("survey")


def test_an_export_can_go_through_a_pipe(made: Waypost, here: Path) -> None:
    """To standard output and from standard input."""
    waypost = [sys.executable, "-m", "waypost"]
    sent = subprocess.run([*waypost, "session", "export", "first", "-"], capture_output=True, check=True, cwd=here)
    taken = subprocess.run(
        [*waypost, "--state", "other", "session", "import", "-", "--json"],
        input=sent.stdout,
        capture_output=True,
        check=True,
        cwd=here,
    )
    assert json.loads(taken.stdout)["made"] == ["survey"]


def test_a_sealed_export_needs_the_key(made: Waypost, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("session", "export", "first", "file", "--sealed").status != 0
    monkeypatch.setenv(keys.KEY_VARIABLE, keys.new_key())
    assert call("session", "export", "first", "file", "--sealed").status == 0
    assert call("--state", "other", "session", "import", "file").status == 0
    monkeypatch.setenv(keys.KEY_VARIABLE, keys.new_key())
    refused = call("--state", "third", "session", "import", "file")
    assert refused.status != 0 and "key" in refused.err


@pytest.mark.parametrize("data", [b"", b"no export", NASTY.encode(), b"WPF\x01" + bytes(200)], ids=repr)
def test_x21_what_is_no_export_is_one_clear_error(data: bytes, call: Call, here: Path) -> None:
    (here / "file").write_bytes(data)
    shown = call("--state", "other", "session", "import", "file")
    assert shown.status in (2, 6) and shown.err.startswith("error: ") and len(shown.err.splitlines()) == 1
    assert call("--state", "other", "session", "import", "nowhere").status == 2
    assert not (here / "other").exists()


def test_no_store_is_made_for_what_cannot_be_taken_in(made: Waypost, call: Call, here: Path) -> None:
    """A file that is damaged, and a directory that is no backup, are told before there is a store for them, and before
    it is asked whether all that a store holds is to go."""
    assert call("session", "export", "first", "file").status == 0
    data = (here / "file").read_bytes()
    (here / "bad").write_bytes(data[: len(data) // 2])
    (here / "folder").mkdir()
    kept = made.list_checkpoints("survey")[0]
    (here / "cut").write_bytes(made.export_checkpoint(kept.id)[:-9])
    for arguments, status in (
        (("session", "import", "bad"), 6),
        (("session", "import", "folder"), 2),
        (("checkpoint", "import", "folder/none"), 2),
        (("checkpoint", "import", "cut"), 6),
        (("store", "restore", "folder"), 2),
        (("store", "restore", "nowhere"), 3),
    ):
        shown = call("--state", "other", *arguments)
        assert shown.status == status and shown.err.startswith("error: "), shown.err
        assert not (here / "other").exists()
    shown = call("store", "restore", "folder")
    assert shown.status == 2 and "is no backup" in shown.err
