"""The command line: what each command shows, as tables, plain text and JSON, and what becomes of errors."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import re
import select
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_config
from waypost import blocking, cli, clock
from waypost.cli import describe, text
from waypost.models import WorkflowStep
from waypost.store.directory import lease

NASTY = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202e[bold]x[/bold]\x1b]8;;http://evil\x1b\\ \u2028\ufeff"
"""What a terminal would act on: titles, clearing, colours, links, reversal, other line ends, and rich's own markup."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without variables that say where a store is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WAYPOST_STATE", raising=False)
    return tmp_path


@pytest.fixture
def wp(here: Path) -> Iterator[blocking.Waypost]:
    """An open store where the commands look for it."""
    with blocking.open(".claude/state", config=make_config()) as opened:
        yield opened


class Shown:
    """What a command printed, and how it ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    def line(self, begin: str) -> str:
        """The one line that says something about what it begins with, blanks and signs aside."""
        said = re.compile(rf"[ ▶✓✗!·‖↷]*{re.escape(begin)} +\S")
        (found,) = [line for line in self.out.splitlines() if said.match(line)]
        return found


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> Shown:
        capsys.readouterr()
        status = cli.call(arguments)
        captured = capsys.readouterr()
        return Shown(status, captured.out, captured.err)

    return run


@pytest.fixture
def call_json(call):
    def run(*arguments: str, status: int = 0) -> Any:
        shown = call(*arguments, "--json")
        assert shown.status == status, shown.out + shown.err
        return strict_json(shown.out)

    return run


def strict_json(printed: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    def in_order(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        assert names == sorted(names)
        return dict(pairs)

    return json.loads(printed, parse_constant=refuse, object_pairs_hook=in_order)


def hostile(printed: str) -> list[str]:
    """The characters that a terminal acts on, or that hide or turn round what is shown; line ends aside."""
    return [char for char in printed if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char != "\n"]


def waypost(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "waypost", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **more)


def in_another_process(source: str) -> None:
    """Do something with the store in a process that then dies without closing it."""
    program = f"import os, waypost\nwp = waypost.open('.claude/state')\n{source}\nos._exit(0)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def every_file(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "directory"
        for path in root.rglob("*")
    }


READING = [
    ["status"],
    ["resume"],
    ["session", "list"],
    ["status", "w"],
    ["list"],
    ["show", "w"],
    ["show", "w", "--outputs", "--all"],
    ["show", "w", "--step", "a"],
    ["log", "w"],
    ["diff", "w@1", "w"],
    ["blame", "w", "steps.a.status"],
    ["verify"],
    ["store", "doctor"],
    ["store", "config"],
    ["store", "migrate"],
    ["store", "migrate", "--dry-run"],
    ["store", "repair", "--dry-run"],
]


# --- the command line itself ---


def test_help_names_the_commands(call) -> None:
    """Help lists what there is, a line each. What it may load stands in test_import_budgets.py."""
    shown = call("--help")
    assert shown.status == 0
    for name in ("demo", "run", "status", "list", "show", "log", "diff", "blame", "secret", "verify", "store"):
        assert re.search(rf"^  {name} ", shown.out, re.MULTILINE)


def test_without_a_command_there_is_help(call) -> None:
    """`waypost` alone shows what there is."""
    assert call().out == call("--help").out
    assert call().status == 0


def test_the_module_is_the_command(here: Path) -> None:
    """`python -m waypost` does what `waypost` does."""
    done = waypost("--version")
    assert done.returncode == 0 and re.fullmatch(r"waypost \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["lst"], "there is no command 'lst': did you mean list?"),
        (["store", "docter"], "there is no command 'docter': did you mean doctor?"),
        (["show"], "missing argument 'WORKFLOW'"),
        (["list", "--limit", "0"], "invalid value for '--limit'"),
        (["list", "--status", "odd"], "invalid value for '--status'"),
        (["list", "--bogus"], "no such option"),
    ],
)
def test_misuse_is_told_with_status_2(call, here: Path, arguments: list[str], expected: str) -> None:
    """A command line that cannot be taken ends with 2 and one sentence, or one document with --json."""
    shown = call(*arguments)
    assert shown.status == 2 and shown.out == ""
    assert shown.err.startswith("error: ") and expected in shown.err and shown.err.count("\n") == 1
    shown = call(*arguments, "--json")
    error = strict_json(shown.out)["error"]
    assert shown.status == 2 and error["code"] == "usage" and expected in error["message"]
    assert error["retryable"] is False and error["details"] == {}


@pytest.mark.parametrize(
    "arguments", [["list", "--state", "x"], ["--state", "x", "list"], ["store", "--state", "x", "doctor"]]
)
def test_common_options_stand_anywhere(call, here: Path, arguments: list[str]) -> None:
    """--state and --json are taken before and behind the command."""
    assert "there is no store in x" in call(*arguments).err
    assert strict_json(call("--json", *arguments).out)["error"]["details"] == {"location": "x"}


@pytest.mark.parametrize("arguments", [arguments for arguments in READING if arguments != ["store", "config"]])
def test_reading_makes_nothing(call, here: Path, arguments: list[str]) -> None:
    """Where there is no store, a reading command says so with status 3, and leaves no trace."""
    shown = call(*arguments)
    assert (shown.status, shown.out) == (3, "")
    assert shown.err.startswith(f"error: there is no store in {here}/.claude/state: name another place")
    assert strict_json(call(*arguments, "--json").out)["error"]["code"] == "store_not_found"
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("arguments", READING)
def test_reading_changes_nothing(call, here: Path, wp: blocking.Waypost, arguments: list[str]) -> None:
    """A reading command leaves every byte as it was, also of a store that a dead process left with a torn tail."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.update_step_status("w", "a", "completed", {"x": 1}).unwrap()
    wp.close()
    with (here / ".claude/state/workflows/w.state").open("ab") as file:
        file.write(b"WPF\x01torn")
    before = every_file(here)
    status = 6 if arguments in (["verify"], ["store", "repair", "--dry-run"]) else 0
    assert call(*arguments).status == status
    assert call(*arguments, "--json").status == status
    assert every_file(here) == before


def test_an_error_is_a_document_with_json(call, wp: blocking.Waypost) -> None:
    """With --json an error has code, message, retryable and details, and the exit status of its kind."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    shown = call("show", "w", "--step", "b", "--json")
    assert shown.status == 3 and shown.err == ""
    assert strict_json(shown.out) == {
        "error": {
            "code": "step_not_found",
            "message": "workflow 'w' has no step 'b'",
            "retryable": False,
            "details": {"given": "b"},
        }
    }


def test_who_reads_no_further_is_no_error(wp: blocking.Waypost, here: Path) -> None:
    """A pipe that is closed early ends the command quietly."""
    for number in range(60):
        wp.create_workflow(f"w{number}", "x" * 2000, steps=[f"s{n}" for n in range(20)]).unwrap()
    command = f"{sys.executable} -m waypost status --json | head -c 10"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == '{\n  "count' and done.stderr == ""


# --- names ---


def test_the_beginning_of_an_id_will_do(call, call_json, wp: blocking.Waypost) -> None:
    """A unique beginning stands for the id, an id for itself, and an ambiguous beginning names the candidates."""
    for name in ("build", "build-all", "deploy"):
        wp.create_workflow(name, name, steps=["compile", "compress", "link"]).unwrap()
    assert call_json("show", "dep")["id"] == "deploy"
    assert call_json("show", "build")["id"] == "build"
    assert call_json("status", "build-")["workflows"][0]["id"] == "build-all"
    assert call_json("show", "deploy", "--step", "l")["id"] == "link"
    shown = call("show", "bui")
    assert shown.status == 2 and shown.err == "error: 'bui' is the beginning of 2 workflows: 'build', 'build-all'\n"
    error = call_json("show", "deploy", "--step", "com", status=2)["error"]
    assert error["details"] == {"given": "com", "candidates": ["compile", "compress"]}
    assert call("show", "biuld").err == "error: there is no workflow 'biuld': did you mean 'build'?\n"


def test_a_deleted_workflow_is_told_apart(call, wp: blocking.Waypost) -> None:
    """A deleted workflow is not listed, does not make a beginning ambiguous, and is told as deleted."""
    for name in ("one", "ones"):
        wp.create_workflow(name, name, steps=["a"]).unwrap()
    wp.delete_workflow("ones").unwrap()
    assert "ones" not in call("list").out
    assert call("show", "on").status == 0
    shown = call("show", "ones")
    assert shown.status == 3 and "workflow 'ones' was deleted at" in shown.err


# --- harmless to a terminal ---


@pytest.fixture
def nasty(wp: blocking.Waypost) -> blocking.Waypost:
    """A store in which whatever may hold such text holds what a terminal would act on."""
    steps = ["[red]markup[/red]", "b", WorkflowStep("c", name=NASTY, max_retries=3)]
    wp.create_workflow("[bold]w[/bold]", NASTY, steps=steps).unwrap()
    wp.update_step_status("[bold]w[/bold]", "b", "completed", {NASTY: [NASTY], "text": f"{NASTY}\n{NASTY}"}).unwrap()
    wp.update_step_status("[bold]w[/bold]", "c", "failed", NASTY, error=NASTY).unwrap()
    wp.update_context("[bold]w[/bold]", variables={"v": NASTY}, configuration={"run_file": f"/x/{NASTY}"}).unwrap()
    wp.update_agent_state("[bold]w[/bold]", "a", {"name": NASTY, "current_task": NASTY}).unwrap()
    wp.start_session("[bold]u[/bold]", {"resume_command": NASTY})
    return wp


NASTY_COMMANDS = [
    ["status"],
    ["resume"],
    ["session", "list"],
    ["status", "[bold]"],
    ["list"],
    ["show", "[bold]"],
    ["show", "[bold]", "--outputs", "--all"],
    ["show", "[bold]", "--timeline", "--tree"],
    ["show", "[bold]", "--step", "b"],
    ["show", "[bold]", "--step", "c"],
    ["show", NASTY],
    ["show", "[bold]", "--step", NASTY],
    ["list", "--status", NASTY],
    ["status", "--state", NASTY],
    ["store", "config", "--state", NASTY.replace("/", "")],
    [NASTY],
]


@pytest.mark.parametrize("arguments", NASTY_COMMANDS)
def test_x21_stored_text_cannot_reach_the_terminal(call, nasty: blocking.Waypost, arguments: list[str]) -> None:
    """Whatever is stored or given, only line ends and printable text come out, also in errors and JSON."""
    for more in ([], ["--json"]):
        shown = call(*arguments, *more)
        printed = shown.out + shown.err
        assert printed
        assert hostile(printed) == []
        if more:
            strict_json(shown.out)


def test_x21_markup_is_text(call, nasty: blocking.Waypost) -> None:
    """Square brackets in stored text are shown, and style nothing."""
    printed = call("show", "[bold]").out
    assert "[red]markup[/red]" in printed and "[bold]x[/bold]" in printed


def on_terminal(
    *arguments: str, columns: int = 100, seen: Callable[[bytes], object] = lambda _: None, **more: str
) -> str:
    """What a command writes to a terminal; `seen` is told what there is so far, `more` are environment variables."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "LINES": "50", "TERM": "xterm-256color", "PAGER": "", **more}
    if "NO_COLOR" not in more:
        environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "waypost", *arguments]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    data = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            read = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not read:
            break
        data += read
        seen(data)
    os.close(ours)
    assert process.wait(timeout=60) == 0, data
    return data.decode()


def test_x21_in_a_terminal_too(nasty: blocking.Waypost) -> None:
    """In a terminal there are the colours of the command itself, and no other sequence."""
    for arguments in NASTY_COMMANDS[:8]:
        printed = on_terminal(*arguments)
        assert "\x1b[" in printed, "no colours: this is no terminal"
        rest = re.sub(r"\x1b\[[0-9;]*m", "", printed).replace("\r\n", "\n")
        assert hostile(rest) == []


def test_a_terminal_is_not_overrun(wp: blocking.Waypost) -> None:
    """Tables fit the width of the terminal; what is cut is cut with an ellipsis, and never the status."""
    steps = [WorkflowStep(f"step-{n:03}-{'long' * 20}", agent_id="agent" * 9) for n in range(3)]
    wp.create_workflow("w" * 200, "name" * 50, steps=steps).unwrap()
    for arguments in (["status"], ["list"], ["show", "w"]):
        lines = re.sub(r"\x1b\[[0-9;]*m", "", on_terminal(*arguments)).splitlines()
        assert max(map(len, lines)) <= 100
    assert "· pending" in "\n".join(lines) and "…" in "\n".join(lines)


def test_a_pipe_gets_plain_uncut_text(wp: blocking.Waypost) -> None:
    """In a pipe there are no colours and no bars, and nothing is cut."""
    wp.create_workflow("w" * 200, "W", steps=["s" * 300]).unwrap()
    for arguments in (["status"], ["list"], ["show", "w"]):
        done = waypost(*arguments)
        assert done.returncode == 0 and "\x1b" not in done.stdout and "━" not in done.stdout
        assert not any(line.endswith(" ") for line in done.stdout.splitlines())
    assert "s" * 300 in done.stdout


def test_ascii_is_enough(wp: blocking.Waypost) -> None:
    """Where only ASCII can be written, nothing fails."""
    wp.create_workflow("wörk", "W", steps=["a"]).unwrap()
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for arguments in (["status"], ["list"], ["show", "w"], ["show", "w", "--json"], ["show", "ü"]):
        done = waypost(*arguments, env=environment)
        assert (done.stdout + done.stderr).isascii() and "Traceback" not in done.stderr
    assert waypost("list", env=environment).returncode == 0


# --- what the commands show ---


@pytest.fixture
def many(wp: blocking.Waypost) -> blocking.Waypost:
    """A store with a workflow in each condition."""
    for name in ("running", "interrupted", "failed", "paused", "unfinished", "idle", "completed"):
        wp.create_workflow(name, f"The {name} one", steps=["a", "b"]).unwrap()
    wp.update_step_status("running", "a", "running", agent_id="me").unwrap()
    wp.update_step_status("failed", "a", "failed", error="out of luck").unwrap()
    wp.pause_workflow("paused").unwrap()
    wp.update_step_status("unfinished", "a", "completed").unwrap()
    wp.update_step_status("completed", "a", "completed").unwrap()
    wp.update_step_status("completed", "b", "skipped").unwrap()
    in_another_process("wp.update_step_status('interrupted', 'a', 'running', agent_id='other').unwrap()")
    return wp


def test_status_tells_conditions_apart(call, call_json, many: blocking.Waypost) -> None:
    """Running, interrupted by a death, failed, paused, unfinished, not begun and completed are different things."""
    document = call_json("status")
    assert {one["id"]: one["condition"] for one in document["workflows"]} == {
        name: name for name in ("running", "interrupted", "failed", "paused", "unfinished", "idle", "completed")
    }
    assert document["counts"] == {
        **dict.fromkeys(("running", "interrupted", "failed", "paused", "unfinished", "idle", "completed"), 1),
        "damaged": 0,
    }
    by_id = {one["id"]: one for one in document["workflows"]}
    (running,) = by_id["running"]["running"]
    assert (running["id"], running["agent_id"], running["pid"]) == ("a", "me", os.getpid())
    assert running["liveness"] == "alive"
    (interrupted,) = by_id["interrupted"]["running"]
    assert interrupted["liveness"] == "dead" and interrupted["pid"] != os.getpid()
    assert by_id["failed"]["failed"] == ["a"] and by_id["failed"]["error"] == "out of luck"
    shown = call("status")
    assert f"a (process {os.getpid()} on " in shown.line("running") and ": alive)" in shown.line("running")
    assert ": dead)" in shown.line("interrupted")
    assert "a: out of luck" in shown.line("failed")
    assert shown.out.rstrip().splitlines()[-1] == "look at it  waypost show interrupted"
    assert "\nit goes on when its program is started again\n" in shown.out and "go on with" not in shown.out


def test_an_owner_that_cannot_be_seen_is_unknown(
    call_json, wp: blocking.Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of another machine is running by somebody of whom nothing is known, and not interrupted."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    other = clock.process_identity()._replace(host="elsewhere/1", boot="other", pid=4)
    with monkeypatch.context() as patched:
        patched.setattr(clock, "process_identity", lambda: other)
        wp.update_step_status("w", "a", "running").unwrap()
    (found,) = call_json("status")["workflows"]
    assert found["condition"] == "running" and found["running"][0]["liveness"] == "unknown"


def test_status_says_how_to_go_on(call, call_json, here: Path, wp: blocking.Waypost) -> None:
    """What a file was run for goes on with that file, in the store that was named; when all is done, nothing does."""
    assert call("status").out.splitlines()[-1] == "no workflows yet"
    (here / "my job.toml").write_text('[steps.a]\nrun = "test -e done"')
    assert call("run", "my job.toml").status == 1
    command = f"waypost run '{here}/my job.toml'"
    assert call_json("status")["go_on"] == command
    assert call("status", "--state", ".claude/state").out.splitlines()[-1].endswith(f"{command} --state .claude/state")
    assert call("show", "my").out.splitlines()[-1] == f"go on with  {command}"
    (here / "done").touch()
    assert call("run", "my job.toml").status == 0
    assert call_json("status")["go_on"] is None
    assert call("status").out.splitlines()[-1] == "nothing is unfinished"


def test_list_narrows_sorts_and_pages(call, call_json, many: blocking.Waypost) -> None:
    """--status, --limit, --offset, --sort and --reverse do what they say."""
    names = ["running", "interrupted", "failed", "paused", "unfinished", "idle", "completed"]

    def ids(*arguments: str) -> list[str]:
        return [one["id"] for one in call_json("list", *arguments)["workflows"]]

    assert sorted(ids()) == sorted(names)
    assert ids("--sort", "created", "--reverse") == names
    assert ids("--sort", "created", "--limit", "2", "--offset", "1") == ["idle", "unfinished"]
    assert sorted(ids("--status", "failed", "--status", "paused")) == ["failed", "paused"]
    sizes = [one["size_bytes"] for one in call_json("list", "--sort", "size")["workflows"]]
    assert sizes == sorted(sizes, reverse=True)
    conditions = {one["id"]: one["condition"] for one in call_json("list")["workflows"]}
    assert conditions == {name: name for name in names}
    assert "! interrupted" in call("list").line("interrupted")
    page = call_json("list", "--limit", "3")
    assert (page["total"], page["next_offset"]) == (7, 3)
    shown = call("list", "--limit", "3")
    assert shown.out.splitlines()[-1] == "… and 4 more: --offset 3"
    assert re.search(r"failed +✗ failed +0 % +0/2 +(just now|\d+ s ago)", call("list", "--status", "failed").out)


def test_show_has_the_whole_workflow(call, call_json, wp: blocking.Waypost) -> None:
    """Steps with agent, duration, retries, needs, errors; agents; context; metadata."""
    steps = [WorkflowStep("a", agent_id="one", max_retries=2), WorkflowStep("b", dependencies=["a"])]
    wp.create_workflow("w", "The work", "session-1", steps).unwrap()
    for status in ("running", "failed", "running", "completed"):
        wp.update_step_status("w", "a", status, error="bad luck" if status == "failed" else None).unwrap()
    wp.update_step_status("w", "b", "failed", error="worse luck").unwrap()
    wp.update_context("w", variables={"x": {"deep": [1]}}).unwrap()
    wp.update_agent_state("w", "one", {"status": "busy", "current_task": "a"}).unwrap()
    document = call_json("show", "w")
    assert (document["id"], document["name"], document["status"]) == ("w", "The work", "failed")
    a, b = document["steps"]
    assert (a["status"], a["agent_id"], a["retry_count"], a["max_retries"]) == ("completed", "one", 1, 2)
    assert a["duration_ms"] > 0 and b["dependencies"] == ["a"] and b["error"] == "worse luck"
    assert document["context"]["session_id"] == "session-1"
    assert document["context"]["variables"] == {"x": {"deep": [1]}}
    assert document["agents"]["one"]["current_task"] == "a"
    state = wp.load_workflow_state("w").unwrap()
    assert document["metadata"]["checksum"] == state.metadata.checksum
    assert document["metadata"]["version"] == state.metadata.version
    shown = call("show", "w")
    assert "1 retry" in shown.line("a") and "one" in shown.line("a")
    assert "worse luck" in shown.line("b") and re.search(r" a +worse", shown.line("b"))
    assert 'variable x  {"deep": [1]}' in shown.out and shown.line("session").endswith("session-1")


def test_large_outputs_are_not_loaded_unless_asked_for(
    call, call_json, wp: blocking.Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An output beyond 64 KiB is told by its size only; --all shows it."""
    wp.create_workflow("w", "W", steps=["small", "large"]).unwrap()
    wp.update_step_status("w", "small", "completed", {"x": 1}).unwrap()
    wp.update_step_status("w", "large", "completed", "y" * (describe.PREVIEWED_BYTES + 1)).unwrap()
    small, large = call_json("show", "w", "--outputs")["steps"]
    assert small["output"]["value"] == {"x": 1}
    assert "value" not in large["output"] and large["output"]["size_bytes"] > describe.PREVIEWED_BYTES
    assert "not loaded" in call("show", "w", "--outputs").line("large")
    assert "not loaded, since it is large: --all shows it" in call("show", "w", "--step", "large").out
    assert "y" * (describe.PREVIEWED_BYTES + 1) in call("show", "w", "--step", "large", "--all").out


def test_values_of_every_kind_are_shown_plain(call, call_json, wp: blocking.Waypost) -> None:
    """NaN, bytes, sets and times come out as JSON has them."""
    value = {
        "nan": float("nan"),
        "bytes": b"\x00\xff",
        "set": {2, 1},
        "path": Path("/x"),
        3: (1, 2),
        "when": clock.to_datetime(0),
    }
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.update_step_status("w", "a", "completed", value).unwrap()
    expected = {
        "nan": "nan",
        "bytes": "AP8=",
        "set": [1, 2],
        "path": "/x",
        "3": [1, 2],
        "when": "1970-01-01T00:00:00+00:00",
    }
    assert call_json("show", "w", "--step", "a")["output"]["value"] == expected
    assert call("show", "w", "--step", "a").status == 0


def test_many_steps_are_shortened_to_what_matters(call, wp: blocking.Waypost) -> None:
    """Of hundreds of steps, failed and running ones are always shown; --all shows every one."""
    wp.create_workflow("w", "W", steps=[f"s{n:03}" for n in range(300)]).unwrap()
    wp.update_step_status("w", "s250", "failed", error="here").unwrap()
    wp.update_step_status("w", "s277", "running").unwrap()
    shown = call("show", "w")
    assert "here" in shown.line("s250") and "running" in shown.line("s277")
    assert len(shown.out.splitlines()) < 40 and "\n… and 286 pending: --all shows them\n" in shown.out
    assert sum(line.startswith("s") for line in call("show", "w", "--all").out.splitlines()) == 301


# --- damage ---


def test_verify_tells_sound_from_damaged(call, call_json, here: Path, wp: blocking.Waypost) -> None:
    """A sound store ends with 0; one flipped byte ends with 6, and file and offset are named."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.update_step_status("w", "a", "completed").unwrap()
    wp.close()
    assert "✓ sound" in call("verify").out
    document = call_json("verify")
    assert document["sound"] is True and document["commits"] == 2 and document["findings"] == []
    file = here / ".claude/state/workflows/w.state"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    document = call_json("verify", status=6)
    (finding,) = document["findings"]
    assert finding["severity"] == "damage" and finding["file"] == str(file) and 0 <= finding["offset"] < len(data)
    shown = call("verify")
    assert shown.status == 6 and re.search(
        rf"^damage +workflows/w.state +{finding['offset']:,} ", shown.out, re.MULTILINE
    )


def test_verify_tells_a_torn_tail(call_json, here: Path, wp: blocking.Waypost) -> None:
    """Bytes behind the last whole frame end with 6 too."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.close()
    with (here / ".claude/state/workflows/w.state").open("ab") as file:
        file.write(b"half a frame")
    (finding,) = call_json("verify", status=6)["findings"]
    assert finding["severity"] == "torn tail"


def test_what_cannot_be_read_is_listed_as_such(call, call_json, here: Path, wp: blocking.Waypost) -> None:
    """A damaged workflow is not left out of status and list: it is named, and so is what is wrong."""
    for name in ("good", "broken"):
        wp.create_workflow(name, name, steps=["a"]).unwrap()
    wp.close()
    file = here / ".claude/state/workflows/broken.state"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    document = call_json("status")
    assert {one["id"]: one["condition"] for one in document["workflows"]} == {"broken": "damaged", "good": "idle"}
    assert document["go_on"] == "waypost verify"
    assert "damaged at byte" in call("status").line("broken")
    assert [one["id"] for one in call_json("list")["unreadable"]] == ["broken"]
    shown = call("list")
    assert "damaged at byte" in shown.line("broken") and shown.line("good") and shown.err == ""
    assert call("show", "broken").status == 6
    assert call("show", "good").status == 0


# --- doctor ---


def checks(document: dict[str, Any]) -> dict[str, Any]:
    return {check["name"]: check for check in document["checks"]}


def test_doctor_looks_and_tries(call, call_json, here: Path, wp: blocking.Waypost) -> None:
    """File system, locks, access, lease, space, sync call and codecs are told, each with a verdict."""
    wp.close()
    found = checks(call_json("store", "doctor"))
    assert set(found) == {
        *("file system", "filling", "locks", "sync", "access", "writing", "lease", "space", "spool"),
        *("codecs", "software"),
    }
    assert found["locks"]["facts"] == {"shared": True}
    assert found["access"]["facts"]["mode"] == "0700" and found["access"]["verdict"] == "good"
    assert found["space"]["facts"]["free_bytes"] > 0
    assert found["sync"]["facts"]["call"] in ("fdatasync", "F_FULLFSYNC")
    assert found["codecs"]["facts"]["zstd"]
    assert found["lease"]["facts"]["holder"] is None
    with blocking.open(".claude/state", config=make_config()):
        found = checks(call_json("store", "doctor"))
    assert found["lease"]["facts"]["in_use"] is True
    assert found["lease"]["facts"]["holder"]["boot"] == clock.boot_id()
    assert call("store", "doctor").out.splitlines()[-1].startswith("✓ all guarantees hold")


def test_x10_doctor_tells_who_else_may_write(call, call_json, here: Path, wp: blocking.Waypost) -> None:
    """A directory that others may read is warned about; one that others may write to breaks a guarantee."""
    store = here / ".claude/state"
    store.chmod(0o755)
    assert checks(call_json("store", "doctor"))["access"]["verdict"] == "warning"
    store.chmod(0o777)
    assert checks(call_json("store", "doctor", status=1))["access"]["verdict"] == "problem"
    assert call("store", "doctor").out.splitlines()[-1] == "✗ not all guarantees hold"
    store.chmod(0o700)


@pytest.mark.parametrize(
    ("kind", "verdict"), [("nfs4", "warning"), ("tmpfs", "problem"), ("btrfs", "good"), ("unknown", "info")]
)
def test_e09_doctor_judges_the_file_system(
    call, here: Path, wp: blocking.Waypost, monkeypatch: pytest.MonkeyPatch, kind: str, verdict: str
) -> None:
    """A network mount is warned about, memory is a problem, and copy-on-write means no filling ahead."""
    from waypost.cli import examination

    monkeypatch.setattr(examination, "mount_of", lambda path: (kind, "" if kind == "unknown" else "/mnt"))
    found = checks(strict_json(call("store", "doctor", "--json").out))
    assert found["file system"]["verdict"] == verdict
    assert found["filling"]["facts"]["fill_ahead"] is (kind != "btrfs")


@pytest.fixture
def leased_elsewhere(here: Path, wp: blocking.Waypost, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that another machine holds."""
    wp.create_workflow("w", "W").unwrap()
    wp.close()
    file = here / ".claude/state/lease"
    file.write_bytes(lease._text(lease.Holder("elsewhere/123", "another-boot", "2026-01-02T03:04:05+00:00")))
    return file


def test_a_lease_is_never_taken_without_being_told(call, call_json, leased_elsewhere: Path) -> None:
    """A foreign lease is warned about; taking it needs --yes, or a person at a terminal who agrees."""
    before = leased_elsewhere.read_bytes()
    found = checks(call_json("store", "doctor"))["lease"]
    assert found["verdict"] == "warning" and found["facts"]["holder"]["host"] == "elsewhere/123"
    shown = call("store", "doctor", "--take-lease")
    assert shown.status == 2 and "elsewhere/123" in shown.err and "--yes" in shown.err
    assert call_json("store", "doctor", "--take-lease", status=2)["error"]["code"] == "invalid_input"
    assert leased_elsewhere.read_bytes() == before


def test_a_lease_is_taken_when_asked_to(call, call_json, leased_elsewhere: Path) -> None:
    """With --yes the foreign lease goes, and this machine may write again."""
    (leased_elsewhere.parents[2] / "w.toml").write_text('[steps.a]\nrun = "true"')
    assert call("run", "w.toml").status == 5
    assert checks(call_json("store", "doctor", "--take-lease", "--yes"))["lease"]["facts"]["holder"] is None
    assert call("run", "w.toml").status == 0


def test_a_lease_is_not_taken_from_who_is_writing(call, leased_elsewhere: Path) -> None:
    """A lease that a living process holds is left alone, with --yes too."""
    before = leased_elsewhere.read_bytes()
    with leased_elsewhere.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        shown = call("store", "doctor", "--take-lease", "--yes")
    assert shown.status == 5 and "is being written to right now" in shown.err
    assert leased_elsewhere.read_bytes() == before


# --- config ---


def test_config_tells_where_a_value_comes_from(call, call_json, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each option is shown with its value and source, without a store, and without making one."""
    (here / "state").mkdir()
    (here / "state" / "waypost.toml").write_text("[compression]\nlevel = 9\n")
    monkeypatch.setenv("WAYPOST_RELIABILITY_ENABLE_WAL", "false")
    document = call_json("store", "config", "--state", "state")
    assert document["durability"] == "process"
    assert document["options"]["compression.level"] == {"value": 9, "source": "state/waypost.toml"}
    assert document["options"]["reliability.enable_wal"]["source"] == "WAYPOST_RELIABILITY_ENABLE_WAL"
    assert document["options"]["compression.algorithm"] == {"value": "zstd", "source": "preset production"}
    shown = call("store", "config", "--state", "state")
    assert re.search(r"^compression.level +9 +state/waypost.toml$", shown.out, re.MULTILINE)
    assert os.listdir(here / "state") == ["waypost.toml"]


# --- how things are said ---


@pytest.mark.parametrize(
    ("given", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KB"), (250 * 1024, "250 KB"), (5 << 20, "5.0 MB"), (3 << 40, "3.0 TB")],
)
def test_sizes_are_said_shortly(given: int, said: str) -> None:
    """A size has two or three digits and a unit."""
    assert text.size(given) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (0.5, "0.50 ms"),
        (12.3, "12 ms"),
        (1500, "1.5 s"),
        (61_000, "1 min 1 s"),
        (3_661_000, "1 h 1 min"),
        (3e8, "3 days"),
    ],
)
def test_durations_are_said_shortly(given: float, said: str) -> None:
    """A duration has its one or two largest units."""
    assert text.duration(given) == said


def test_moments_are_said_relative_to_now() -> None:
    """Seconds, minutes, hours and days ago, and then the date."""
    now = clock.to_datetime(1_800_000_000_000_000)

    def ago(seconds: float) -> str:
        return text.ago(clock.to_datetime(int((1_800_000_000 - seconds) * 1e6)), now)

    assert [ago(seconds) for seconds in (0, 30, 600, 7200, 86400 * 3)] == [
        "just now",
        "30 s ago",
        "10 min ago",
        "2 h ago",
        "3 days ago",
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", ago(86400 * 40))
    assert text.ago(None) == "never"


# --- repair, backup, restore ---


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_repair_says_what_it_would_do_and_asks(call, call_json, here: Path, wp: blocking.Waypost) -> None:
    """A dry run and a run without --yes change nothing and say what is amiss; with --yes it is mended and sound."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.update_step_status("w", "a", "running").unwrap()
    wp.update_step_status("w", "a", "completed").unwrap()
    wp.close()
    assert call("store", "repair").out.splitlines()[-1] == "✓ nothing to repair"
    flip_a_bit(here / ".claude/state/workflows/w.state")
    before = every_file(here)
    shown = call("store", "repair", "--dry-run")
    assert shown.status == 6 and "written anew" in shown.out and "nothing was changed" in shown.out
    assert call_json("store", "repair", "--dry-run", status=6)["repaired"][0]["id"] == "w"
    shown = call("store", "repair")
    assert shown.status == 2 and "1 file" in shown.err and "--yes" in shown.err
    assert call("verify").out.splitlines()[-1].startswith("✗ not sound: waypost store repair")
    assert "waypost store repair" in call("show", "w").err
    assert every_file(here) == before
    shown = call("store", "repair", "--yes")
    assert shown.status == 0 and "the original is damaged/w.state.1" in shown.out and "✓ repaired" in shown.out
    assert call("verify").status == 0
    assert call_json("store", "repair", "--yes")["repaired"] == []


def test_x21_repair_escapes_what_it_shows(call, here: Path, wp: blocking.Waypost) -> None:
    """Names of foreign files and keys reach the terminal written out."""
    wp.close()
    (here / ".claude/state/workflows" / "\x1b[2J\u202e").write_text("x")
    shown = call("store", "repair", "--yes")
    assert hostile(shown.out + shown.err) == [] and "\\x1b[2J" in shown.out
    assert call("verify").status == 0


def test_backup_and_restore(call, call_json, here: Path, wp: blocking.Waypost) -> None:
    """A backup is made while the store is open; restoring it says what it takes back, and needs --yes."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    assert "1 document" in call("store", "backup", "copy").out
    assert call_json("verify", "--state", "copy")["sound"] is True
    assert call("store", "backup", "copy").status == 2
    wp.update_step_status("w", "a", "completed").unwrap()
    assert "open for writing elsewhere" in call("store", "restore", "copy", "--yes").err
    wp.close()
    shown = call("store", "restore", "copy")
    assert shown.status == 2 and "1 workflow" in shown.err and "--yes" in shown.err
    assert call_json("show", "w")["steps"][0]["status"] == "completed"
    shown = call("store", "restore", "copy", "--yes")
    assert shown.status == 0 and "taken back to an older state: w" in shown.out
    assert call_json("show", "w")["steps"][0]["status"] == "pending"
    made = call_json("store", "restore", "copy", "--state", "new")
    assert made["documents"] == 1 and made["taken_back"] == []
    assert call("store", "restore", "nothing", "--state", "new", "--yes").status == 3
