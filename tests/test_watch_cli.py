"""`waypost watch`: what it prints, how it goes on and ends, and that nothing stored reaches the terminal raw."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from tests.conftest import opened
from waypost import cli
from waypost.blocking import Waypost
from waypost.store import Change, DocumentId, Transaction

PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have it ignored
from waypost import cli
sys.exit(cli.call(sys.argv[1:]))
"""


class Shown(NamedTuple):
    status: int
    out: str
    err: str


class Call(Protocol):
    def __call__(self, *arguments: str) -> Shown: ...


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WAYPOST_STATE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def wp(here: Path) -> Iterator[Waypost]:
    with opened(here) as made:
        yield made


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: str) -> Shown:
        capsys.readouterr()
        status = cli.call(arguments)
        return Shown(status, *capsys.readouterr())

    return run


def fill(wp: Waypost) -> None:
    wp.create_workflow("survey", "survey", steps=["fetch"]).unwrap()
    wp.update_step_status("survey", "fetch", "completed", output=1, agent_id="robot").unwrap()
    wp.update_context("survey", variables={"rows": 3}).unwrap()


def test_a_line_for_each_commit(wp: Waypost, call: Call) -> None:
    """A line names the version, what became of steps or else the operation and what it changed, and who did it."""
    fill(wp)
    shown = call("watch", "surv", "--from", "start", "--count", "3")
    assert shown.status == 0
    lines = [line.split("  ")[1:] for line in shown.out.splitlines()]
    assert lines == [
        ["survey@1", "create_workflow", "1 step"],
        ["survey@2", "fetch: completed", "by robot"],
        ["survey@3", "update_context", "context.variables.rows"],
    ]


def test_json_is_one_document_on_each_line_whose_cursor_goes_on(wp: Waypost, call: Call) -> None:
    """Each line is a whole document; a watch from the cursor of one prints those behind it."""
    fill(wp)
    shown = call("watch", "--from", "start", "--count", "3", "--json")
    documents = [json.loads(line) for line in shown.out.splitlines()]
    assert [each["version"] for each in documents] == [1, 2, 3]
    assert documents[1]["statuses"] == {"fetch": "completed"} and documents[1]["workflow_id"] == "survey"
    again = call("watch", "--from", documents[0]["cursor"], "--count", "2", "--json")
    assert [json.loads(line) for line in again.out.splitlines()] == documents[1:]


def test_x21_nothing_stored_reaches_a_terminal_raw(wp: Waypost, call: Call) -> None:
    """Control characters in anything that a commit holds are written out."""

    def work(tx: Transaction) -> None:
        tx.put("step\x1fevil\x1b[31m", b"\xff\x1b]0;x\x07")

    change = Change(DocumentId("workflow", "w"), work, "op\x1b[2J", "eat\x1b[2J", session="s\x1b[2J", agent="a\n\x07")
    wp.definitions.store.submit(change).result()
    for arguments in (["--json"], []):
        shown = call("watch", "--from", "start", "--count", "1", *arguments)
        assert shown.status == 0
        assert not [each for each in shown.out if not each.isprintable() and each != "\n"]
        assert shown.out.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--from", "junk"], 2, "no cursor"),
        (["nowhere"], 3, "no workflow"),
        (["--count", "0"], 2, "--count"),
    ],
)
def test_what_is_wrong_is_told(wp: Waypost, call: Call, arguments: list[str], status: int, words: str) -> None:
    """A text that is no cursor, a workflow that is not there and a count below one are refused with their reasons."""
    fill(wp)
    shown = call("watch", *arguments)
    assert shown.status == status and words in shown.err


def test_without_a_store_there_is_nothing_to_watch(here: Path, call: Call) -> None:
    """Watching makes no store."""
    assert call("watch").status == 3
    assert not here.exists()


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_it_is_live_and_an_interrupt_is_its_end(wp: Waypost, arguments: list[str]) -> None:
    """A commit is printed while it goes on waiting; Ctrl-C ends it with 0, and people are told how to go on."""
    fill(wp)
    command = [sys.executable, "-c", PROGRAM, "watch", "--from", "start", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        for _ in range(3):
            assert "survey" in process.stdout.readline()
        wp.update_context("survey", variables={"rows": 4}).unwrap()
        assert "update_context" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    if arguments:
        assert err == ""
    else:
        assert err.strip().startswith("go on behind the last one: waypost watch --from w1")
