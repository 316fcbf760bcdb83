"""What the command line says where it cannot do what it was asked: in one sentence, with a status, and no traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.test_cli import Shown, call, call_json, here, waypost, wp
from waypost import errors
from waypost.blocking import Waypost
from waypost.store.directory import restoring

__all__ = ["call", "call_json", "here", "wp"]  # fixtures

_LISTED = ", and no checkpoint: `waypost checkpoint survey --list` shows those that there are"

Call = Callable[..., Shown]
CallJson = Callable[..., Any]


@pytest.fixture
def made(wp: Waypost) -> Waypost:
    wp.create_workflow("survey", "Survey", steps=["fetch", "parse"]).unwrap()
    wp.update_step_status("survey", "fetch", "completed", {"rows": 3}).unwrap()
    return wp


def test_the_page_and_help_tell_the_same_statuses(call: Call) -> None:
    """Those of all errors are among them."""
    page = (Path(__file__).parents[1] / "docs/how-to/command-line.md").read_text(encoding="utf-8")
    told = {int(number): said for number, said in re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE)}
    statuses = {each.exit_status for each in vars(errors).values() if isinstance(each, type)}
    assert set(told) == {0, 1, 130} | statuses
    said = " ".join(call("--help").out.split())
    assert "; ".join(f"{number} {each}" for number, each in told.items()) + "." in said


# --- what the system refuses ---


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["show", "nobody", "--json"], ["--help"]])
def test_a_full_disk_behind_standard_output_is_told(made: Waypost, arguments: list[str]) -> None:
    """In one line on standard error, with status 5."""
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "waypost", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    said = "error: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (5, said)


@pytest.mark.parametrize("closed", ["<&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_what_is_closed_leads_nowhere(made: Waypost, here: Path, closed: str) -> None:
    """A command works without standard streams, and no file of the store takes the place of one."""
    made.close()
    for number, words in enumerate(("status", "checkpoint survey"), 1):
        command = f"{sys.executable} -m waypost {words} {closed}"
        assert subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False).returncode == 0, number
    assert waypost("verify").returncode == 0
    assert waypost("checkpoint", "survey", "--list").stdout.count("survey@c") >= 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["agent", "plugin", "file"],
        ["agent", "plugin", "/proc/x"],
        ["agent", "install", "claude-code", "--yes"],
        ["agent", "uninstall", "claude-code", "--yes"],
        ["agent", "install", "codex", "--yes"],
    ],
)
def test_what_the_system_refuses_is_told(call: Call, call_json: CallJson, here: Path, arguments: list[str]) -> None:
    """A file in the place of a directory and the other way round: the path and why, with status 5."""
    (here / "file").touch()
    (here / ".claude").touch()
    (here / ".codex/hooks.json").mkdir(parents=True)
    shown = call(*arguments)
    assert shown.status == 5 and shown.err.startswith("error: /" if "file" not in arguments else "error: file: ")
    assert shown.err.count("\n") == 1
    assert call_json(*arguments, status=5)["error"]["code"] == "store_error"


def test_a_working_directory_that_is_gone_is_told(made: Waypost, here: Path) -> None:
    gone = here / "gone"
    for words in ("--state rel status", "run x.toml", "demo --keep k", f"--state {here}/.claude/state store backup q"):
        gone.mkdir()
        command = f"cd gone && rmdir ../gone && {sys.executable} -m waypost {words}"
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (5, "error: the working directory is gone\n")


# --- what is left out or goes together with nothing ---


@pytest.mark.parametrize("group", ["store", "session", "secret", "agent", "import"])
def test_a_group_without_a_command_shows_its_help(call: Call, call_json: CallJson, here: Path, group: str) -> None:
    """As `waypost` alone does; a program is told that the command is missing."""
    shown = call(group)
    assert (shown.status, shown.out, shown.err) == (0, call(group, "--help").out, "")
    assert call_json(group, status=2)["error"]["message"] == "missing command"


@pytest.mark.parametrize("arguments", [["survey", "--limit", "3"], ["survey", "--list", "-m", "before parsing"]])
def test_an_option_that_goes_with_nothing_is_refused(
    made: Waypost, call: Call, call_json: CallJson, arguments: list[str]
) -> None:
    """What is said to list checkpoints makes none, and what is said of one to make is not left unheard."""
    before = made.list_checkpoints("survey").total
    shown = call("checkpoint", *arguments)
    assert shown.status == 2 and "--list" in shown.err and made.list_checkpoints("survey").total == before


# --- what is wrong, and where ---


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["checkpoint", "import", "text"], 2, "text: this is no export of a checkpoint: it does not begin like one"),
        (["checkpoint", "import", "cut"], 6, "cut: the export is damaged at byte"),
        (["session", "import", "text"], 2, "text: this is no export of a session: it does not begin like one"),
        (["checkpoint", "import", "pipe"], 2, "cannot read pipe: it is a pipe that nobody writes to"),
        (["checkpoint", "import", "/dev/zero"], 2, "cannot read /dev/zero: it is no regular file"),
        (["run", "pipe"], 2, "pipe: cannot be read: it is a pipe that nobody writes to"),
        (["run", "/dev/zero"], 2, "/dev/zero: cannot be read: it is no regular file"),
        (["session", "import", "pipe"], 2, "pipe is no regular file"),
        (["session", "import", "nowhere"], 2, "cannot read nowhere: No such file or directory"),
        (["show", "survey", "--step", "zz"], 3, "workflow 'survey' has no step 'zz'"),
        (["show", "survey@0"], 3, "versions of 'survey' begin at 1"),
        (["show", "sur@-1"], 3, "'-1' is no version or checkpoint of 'survey'"),
        (["diff", "survey@x", "survey"], 3, "'x' is no version or checkpoint of 'survey'"),
        (["show", "servey@x"], 3, "there is no workflow 'servey@x'"),
        (["restore", "survey@2"], 3, f"'survey@2' is a version{_LISTED}"),
        (["fork", "sur@2", "x"], 3, f"'sur@2' is a version{_LISTED}"),
        (["checkpoint", "export", "survey"], 3, f"'survey' is a workflow{_LISTED}"),
        (["restore", "survey@c0"], 3, "there is no checkpoint 'survey@c0': `waypost checkpoint survey --list`"),
        (["checkpoint", "export", "survey@c", "-o", ""], 2, "the name of the file is empty"),
        (["checkpoint", "export", "survey@c", "-o", "."], 2, ". is a directory: name a file"),
        (["list", "--offset", "9" * 20], 2, "is not in the range"),
        (["session", "list", "--offset", "9" * 20], 2, "is not in the range"),
        (["log", "survey", "--limit", "9" * 20], 2, "is not in the range"),
        (["store", "sync", ""], 2, 'location is ""'),
        (["blame", "survey", "nopath"], 2, "paths begin with workflow, order, steps, agents, outputs, context"),
    ],
)
def test_an_error_says_what_is_wrong_and_where(
    made: Waypost, call: Call, here: Path, arguments: list[str], status: int, said: str
) -> None:
    """The file, the workflow, the value or the names that there are; in one line."""
    kept = made.create_checkpoint("survey").unwrap()
    (here / "text").write_text("some text")
    os.mkfifo(here / "pipe")
    (here / "cut").write_bytes(made.export_checkpoint(kept.id)[:-9])
    shown = call(*arguments)
    assert shown.status == status and shown.err.startswith("error: ") and shown.err.count("\n") == 1
    assert said in shown.err and "Errno" not in shown.err


@pytest.mark.parametrize("is_late", [False, True])
def test_a_pipe_that_somebody_writes_to_is_read_to_its_end(
    made: Waypost, call: Call, here: Path, is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `<(...)` of a shell is one, also when nothing is in it yet."""
    data = made.export_checkpoint(made.create_checkpoint("survey").unwrap().id)
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as file:
            file.write(data)

    if is_late:
        set_blocking = os.set_blocking

        def begin(descriptor: int, blocking: bool) -> None:
            set_blocking(descriptor, blocking)
            writer.start()

        monkeypatch.setattr(os, "set_blocking", begin)
    writer = Thread(target=write)
    if not is_late:
        writer.start()
    try:
        assert call("checkpoint", "import", f"/dev/fd/{reading}", "--as", "other").status == 0
    finally:
        writer.join()
        os.close(reading)
    assert made.load_workflow_state("other").success


@pytest.mark.parametrize("command", ["checkpoint", "session"])
def test_a_restore_that_was_cut_off_is_carried_out_by_an_import(
    made: Waypost, here: Path, call: Call, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """An import opens a store to write, as whatever finishes a restore does, also where it then refuses its file."""
    store, state = made.definitions.store, here / ".claude/state"
    store.backup(str(here / "backup"))
    (here / "nonsense").write_bytes(b"x")

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(restoring, "_carry_out", cut_off)
        with pytest.raises(KeyboardInterrupt):
            store.restore_backup(str(here / "backup"))
    made.close()
    assert (state / "restoring").exists()
    assert call(command, "import", "nonsense").status == 2
    assert not (state / "restoring").exists()


# --- what changes meanwhile ---


@pytest.fixture
def deleted_meanwhile(made: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workflow `gone` is at work when workflows are listed, and deleted before any of them is looked at."""
    made.create_workflow("gone", "Gone", steps=["a"]).unwrap()
    made.update_step_status("gone", "a", "running").unwrap()
    list_workflows = Waypost.list_workflows

    def listed(wp: Waypost, query: Any = None) -> Any:
        page = list_workflows(wp, query)
        made.delete_workflow("gone")
        return page

    monkeypatch.setattr(Waypost, "list_workflows", listed)


def test_what_is_deleted_since_it_was_listed_is_not_looked_at(deleted_meanwhile: None, call_json: CallJson) -> None:
    """An overview leaves it out."""
    assert [one["id"] for one in call_json("status")["workflows"]] == ["survey"]


def test_a_page_shows_what_was_listed(deleted_meanwhile: None, call_json: CallJson) -> None:
    """One that is deleted since then is told of as it was, with nobody at work on it."""
    listed = call_json("list")["workflows"]
    assert [(one["id"], one["condition"]) for one in listed] == [("gone", "unfinished"), ("survey", "unfinished")]
