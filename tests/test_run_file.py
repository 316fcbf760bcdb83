"""`waypost run FILE.toml`: what it refuses, what it does, and that no kill makes it repeat a finished step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_config
from waypost import blocking, cli, clock
from waypost.cli import guard, plan, process
from waypost.models import StepOwner, WorkflowState, WorkflowStep

PYTHON = sys.executable

# A step that can be caught running twice at once: it holds a lock, and notes when it begins and ends.
STEP = """
import fcntl, os, sys, time
name, seconds = sys.argv[1], float(sys.argv[2])
def note(what):
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(log, f"{what} {name} {os.getpid()}\\n".encode())
    os.close(log)
lock = os.open(f"lock.{name}", os.O_RDWR | os.O_CREAT, 0o600)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    note("OVERLAP")
if "stubborn" in sys.argv:
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "telling" in sys.argv:
    import signal
    signal.signal(signal.SIGTERM, lambda *_: note("asked"))
note("begin")
time.sleep(seconds)
note("end")
"""

# A step that is at work until it is told to end.
HELD = """
[steps.long]
run = "touch held; until test -e go; do sleep 0.01; done"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without variables that say where a store is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WAYPOST_STATE", raising=False)
    (tmp_path / "step.py").write_text(STEP)
    return tmp_path


def write(text: str, name: str = "w.toml") -> None:
    Path(name).write_text(text)


def step_line(name: str, seconds: float, *more: str) -> str:
    return json.dumps([PYTHON, "-I", "-S", "step.py", name, str(seconds), *more])


def run(*arguments: str) -> int:
    return cli.call(["run", "w.toml", *arguments])


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    status = run("--json", *arguments)
    document = json.loads(capsys.readouterr().out)
    assert document.get("exit_status", status) == status
    return document


def start(*arguments: str, ignoring: signal.Signals | None = None) -> subprocess.Popen[bytes]:
    """A run in a process of its own, which can be killed, and ignores no other signal, though these tests may."""
    command = [PYTHON, "-m", "waypost", "run", "w.toml", *arguments]
    before = {
        number: signal.signal(number, signal.SIG_IGN if number == ignoring else signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGHUP)
    }
    try:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)


def state(workflow: str = "w") -> WorkflowState:
    with blocking.open(".claude/state", config=make_config()) as wp:
        loaded = wp.load_workflow_state(workflow).unwrap()
        for step in loaded.workflow.steps:
            _ = step.output
        return loaded


def statuses() -> dict[str, str]:
    return {step.id: step.status for step in state().workflow.steps}


def log() -> list[tuple[str, str]]:
    """(what, step) in the order in which the steps noted it."""
    path = Path("log")
    lines = path.read_text().splitlines() if path.exists() else []
    return [(what, name) for what, name, _ in map(str.split, lines)]


def pids(what: str) -> list[int]:
    return [int(line.split()[2]) for line in Path("log").read_text().splitlines() if line.startswith(what)]


def is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text() if os.path.isdir("/proc/self") else ""
    except OSError:
        return False
    if text:
        return text.rpartition(")")[2].split()[0] not in "ZX"
    return guard.signal_group(pid, 0)


# --- what is refused ---

FAULTS = {
    "not TOML": ("[steps", "w.toml: is not valid TOML: "),
    "unknown key": (
        'nam = "x"\n[steps.a]\nrun = "true"',
        "w.toml: nam: is no key that is known here: did you mean name?",
    ),
    "unknown key of a step": (
        '[steps.a]\nrun = "true"\nretry = 3',
        "w.toml: [steps.a] retry: is no key that is known here: did you mean retries?",
    ),
    "no steps": ('name = "x"', "w.toml: steps: there are none"),
    "empty steps": ("[steps]", "w.toml: steps: there are none"),
    "a step that is no table": ("[steps]\na = 1", "w.toml: [steps.a] step: is no table"),
    "no command": ("[steps.a]\nneeds = []", "w.toml: [steps.a] run: is missing"),
    "a command of another kind": ("[steps.a]\nrun = 3", "w.toml: [steps.a] run: takes a text for the shell"),
    "words of another kind": ('[steps.a]\nrun = ["a", 3]', "w.toml: [steps.a] run: takes a text for the shell"),
    "an empty command": ('[steps.a]\nrun = " "', "w.toml: [steps.a] run: takes a text for the shell"),
    "no words": ("[steps.a]\nrun = []", "w.toml: [steps.a] run: is empty"),
    "NUL": ('[steps.a]\nrun = "a\\u0000b"', "w.toml: [steps.a] run: holds the character NUL"),
    "needs of another kind": ('[steps.a]\nrun = "x"\nneeds = "b"', "w.toml: [steps.a] needs: takes a list of step ids"),
    "unknown needs": (
        '[steps.build]\nrun = "x"\n[steps.b]\nrun = "x"\nneeds = ["biuld"]',
        "w.toml: [steps.b] needs: there is no step 'biuld': did you mean 'build'?",
    ),
    "needs twice": (
        '[steps.a]\nrun = "x"\n[steps.b]\nrun = "x"\nneeds = ["a", "a"]',
        "w.toml: [steps.b] needs: names a step twice",
    ),
    "itself": (
        '[steps.a]\nrun = "x"\nneeds = ["a"]',
        "w.toml: [steps.a] needs: steps need each other in a circle: a → a",
    ),
    "a circle": (
        '[steps.a]\nrun = "x"\nneeds = ["c"]\n[steps.b]\nrun = "x"\nneeds = ["a"]\n[steps.c]\nrun = "x"\nneeds = ["b"]',
        "needs: steps need each other in a circle: ",
    ),
    "retries below zero": ('[steps.a]\nrun = "x"\nretries = -1', "w.toml: [steps.a] retries: takes a whole number"),
    "retries of another kind": (
        '[steps.a]\nrun = "x"\nretries = true',
        "w.toml: [steps.a] retries: takes a whole number",
    ),
    "no time": ('[steps.a]\nrun = "x"\ntimeout = 0', "w.toml: [steps.a] timeout: takes a number of seconds"),
    "endless time": ('[steps.a]\nrun = "x"\ntimeout = inf', "w.toml: [steps.a] timeout: takes a number of seconds"),
    "time of another kind": (
        '[steps.a]\nrun = "x"\ntimeout = "1"',
        "w.toml: [steps.a] timeout: takes a number of seconds",
    ),
    "environment of another kind": (
        '[steps.a]\nrun = "x"\nenv = ["A=1"]',
        "w.toml: [steps.a] env: takes a table of texts",
    ),
    "a variable of another kind": ('[steps.a]\nrun = "x"\nenv = {A = 1}', "w.toml: [steps.a] env.A: takes a text"),
    "no name of a variable": ('[steps.a]\nrun = "x"\nenv = {"A=B" = "1"}', "w.toml: [steps.a] env: 'A=B' is no name"),
    "directory of another kind": (
        '[steps.a]\nrun = "x"\ncwd = 1',
        "w.toml: [steps.a] cwd: takes a text that is not empty",
    ),
    "no agent": ('[steps.a]\nrun = "x"\nagent = ""', "w.toml: [steps.a] agent: takes a text that is not empty"),
    "no id": ('[steps.""]\nrun = "x"', "w.toml: [steps.] id: a step id is not empty"),
    "an id with a control character": ('[steps."a\\u001bb"]\nrun = "x"', "] id: a step id holds no control character"),
    "no workflow id": ('workflow = ""\n[steps.a]\nrun = "x"', "w.toml: workflow: takes a text that is not empty"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_refused_before_anything_runs(
    here: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    """A fault is told with file, table and key, the exit status is 2, and no store is made."""
    text, expected = FAULTS[fault]
    write(text)
    assert run() == 2
    assert capsys.readouterr().err.startswith("error: w.toml: ")
    assert run("--json") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert expected in error["message"]
    assert error["code"] == "invalid_workflow"
    assert not (here / ".claude").exists()


def test_a_file_that_is_not_there_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a file there is an error that names it, and no store is made."""
    assert run() == 2
    assert capsys.readouterr().err == "error: w.toml: cannot be read: No such file or directory\n"
    assert not (here / ".claude").exists()


# --- what is done ---


def test_steps_run_after_what_they_need_and_beside_the_others(here: Path) -> None:
    """Two steps that wait for each other both end, since they run at once, and the step that needs them runs last."""
    meet = "touch {0}; while [ ! -e {1} ]; do sleep 0.02; done; " + f"{PYTHON} -I -S step.py {{0}} 0"
    write(
        f"""
        [steps.last]
        run = {step_line("last", 0)}
        needs = ["a", "b"]
        [steps.a]
        run = "{meet.format("a", "b")}"
        [steps.b]
        run = "{meet.format("b", "a")}"
        """
    )
    assert run("--jobs", "2") == 0
    assert [name for what, name in log() if what == "begin"][-1] == "last"
    assert statuses() == {"a": "completed", "b": "completed", "last": "completed"}


def test_no_more_steps_run_at_once_than_jobs_allow(here: Path) -> None:
    """With --jobs 2, no third step begins before one of two has ended."""
    write("".join(f"[steps.s{n}]\nrun = {step_line(f's{n}', 0.05)}\n" for n in range(8)))
    assert run("--jobs", "2") == 0
    at_once = most = 0
    for what, _ in log():
        at_once += 1 if what == "begin" else -1
        most = max(most, at_once)
    assert most <= 2 and at_once == 0


def test_the_output_of_a_step_is_kept_bounded(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A step's output is its exit code, the end of both streams (64 KiB each), and its duration."""
    write(
        """
        [steps.small]
        run = "echo out; echo err >&2"
        [steps.large]
        run = "head -c 200000 /dev/zero | tr '\\\\0' 'x'; echo END; printf '\\\\377' >&2"
        """
    )
    assert run() == 0
    steps = {step.id: step.output for step in state().workflow.steps}
    assert steps["small"].keys() == {"exit_code", "stdout", "stderr", "duration_ms"}
    assert (steps["small"]["exit_code"], steps["small"]["stdout"], steps["small"]["stderr"]) == (0, "out\n", "err\n")
    assert steps["small"]["duration_ms"] > 0
    assert len(steps["large"]["stdout"]) == 64 * 1024 and steps["large"]["stdout"].endswith("xEND\n")
    assert steps["large"]["stderr"] == "\N{REPLACEMENT CHARACTER}"


def test_words_environment_directory_and_agent_reach_the_command(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of words is no shell; env is added; cwd is relative to the file, from wherever the run is started."""
    (here / "project" / "sub").mkdir(parents=True)
    write(
        """
        workflow = "other"
        name = "Its name"
        [steps.words]
        run = ["printf", "%s|", "$HOME", "a b", "*"]
        [steps.env]
        run = 'echo "$GREETING $WAYPOST_STATE"; pwd; cat'
        env = { GREETING = "hello" }
        cwd = "sub"
        agent = "tester"
        """,
        "project/w.toml",
    )
    assert cli.call(["--state", "store", "run", "project/w.toml"]) == 0
    with blocking.open("store", config=make_config()) as wp:
        found = wp.load_workflow_state("other").unwrap()
        assert found.workflow.name == "Its name"
        assert found.step("words").output["stdout"] == "$HOME|a b|*|"
        sub = (here / "project" / "sub").resolve()
        assert found.step("env").output["stdout"] == f"hello {here.resolve()}/store\n{sub}\n"
        assert found.step("env").agent_id == "tester"


@pytest.mark.parametrize("names", [["plain"], ["plain", "build.number", "with-dash", "go", "IFS", "OPTIND"]])
def test_every_variable_reaches_the_command_as_it_is(here: Path, names: list[str]) -> None:
    """Also one whose name no shell has, or that a shell sets for itself; and standard input is empty."""
    given = ", ".join(f"{json.dumps(name)} = {json.dumps(f'value of {name}')}" for name in names)
    printed = f"import os, sys; print([os.environ.get(name) for name in {names}], sys.stdin.read())"
    write(f"""
    [steps.a]
    run = {json.dumps([PYTHON, "-I", "-S", "-c", printed])}
    env = {{ {given} }}
    [steps.ignored]
    run = ["grep", "SigIgn", "/proc/self/status"]
    env = {{ {given} }}
    """)
    assert run() == (0 if os.path.isdir("/proc/self") else 1)
    assert state().step("a").output["stdout"] == f"{[f'value of {name}' for name in names]} \n"
    if os.path.isdir("/proc/self"):
        assert int(state().step("ignored").output["stdout"].split()[1], 16) & 1 << signal.SIGPIPE - 1 == 0


@pytest.mark.parametrize("variable", ["plain", "build.number"])
def test_a_command_that_is_not_there_tells_so(here: Path, variable: str) -> None:
    """By the exit status of a shell, whoever has started it."""
    write(f'[steps.a]\nrun = ["no-such-command"]\nenv = {{ "{variable}" = "" }}')
    assert run() == 1
    output = state().step("a").output
    assert (output["exit_code"], output["stdout"]) == (127, "") and "no-such-command" in output["stderr"]


def test_a_failing_step_is_retried_then_fails_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A step is tried again as often as its retries allow; its dependents do not start, all others do, the end is 1."""
    write(
        """
        [steps.third_time]
        run = "echo x >> tries; test $(wc -l < tries) -ge 3"
        retries = 2
        [steps.never]
        run = "echo why >&2; exit 7"
        retries = 1
        [steps.after_never]
        run = "true"
        needs = ["never"]
        [steps.after_third]
        run = "true"
        needs = ["third_time"]
        [steps.absent]
        run = ["no-such-program"]
        [steps.nowhere]
        run = "true"
        cwd = "no/such/directory"
        """
    )
    document = run_json(capsys)
    assert document["exit_status"] == 1
    steps = document["steps"]
    assert {name: step["status"] for name, step in steps.items()} == {
        "third_time": "completed",
        "never": "failed",
        "after_never": "pending",
        "after_third": "completed",
        "absent": "failed",
        "nowhere": "failed",
    }
    assert (steps["third_time"]["attempts"], steps["never"]["attempts"]) == (3, 2)
    assert (steps["never"]["exit_code"], steps["never"]["error"]) == (7, "exit status 7")
    assert steps["absent"]["exit_code"] == 127
    assert steps["nowhere"]["error"].startswith("could not be started: No such file or directory: ")
    never = state().step("never")
    assert (never.retry_count, never.error, never.output["stderr"]) == (1, "exit status 7", "why\n")


def test_what_failed_is_tried_again_by_the_next_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Started again, a run tries what failed once more, and repeats nothing that was finished."""
    write(
        f"""
        [steps.good]
        run = {step_line("good", 0)}
        [steps.bad]
        run = "test -e repaired"
        [steps.after]
        run = {step_line("after", 0)}
        needs = ["bad", "good"]
        """
    )
    assert run() == 1
    Path("repaired").touch()
    document = run_json(capsys)
    assert document["exit_status"] == 0
    assert document["tried_again"] == ["bad"] and document["finished_before"] == ["good"]
    assert log() == [("begin", "good"), ("end", "good"), ("begin", "after"), ("end", "after")]
    assert run() == 0 and len(log()) == 4


def test_a_step_that_takes_too_long_is_ended_with_all_its_processes(here: Path) -> None:
    """A timeout fails the step and says so; the command is asked to end and may clean up, and what does not end with it
    is killed.
    """
    stubborn = f"{PYTHON} -I -S step.py child 60 stubborn"
    write(
        f"""
        [steps.slow]
        run = "trap 'echo cleaned; exit 3' TERM; {stubborn} & while :; do sleep 0.05; done"
        timeout = 2
        """
    )
    assert run() == 1
    slow = state().step("slow")
    assert (slow.status, slow.error, slow.output["stdout"]) == ("failed", "timed out after 2 s", "cleaned\n")
    (child,) = pids("begin")
    wait_until(lambda: not is_alive(child), "the child of the command is dead")
    assert ("end", "child") not in log()


def test_a_changed_file_adds_steps_and_keeps_missing_ones(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """New steps are added, steps that are gone from the file are kept and named, new needs and retries hold."""
    write('[steps.gone]\nrun = "true"\n[steps.idle]\nrun = "exit 1"\n[steps.stays]\nrun = "true"\nneeds = ["idle"]')
    assert run() == 1
    write('[steps.stays]\nrun = "true"\nneeds = ["new"]\nretries = 3\nagent = "other"\n[steps.new]\nrun = "true"\n')
    document = run_json(capsys)
    assert document["exit_status"] == 0
    assert (document["added"], document["missing"], document["changed"]) == (["new"], ["gone", "idle"], ["stays"])
    assert statuses() == {"gone": "completed", "idle": "failed", "stays": "completed", "new": "completed"}
    stays = state().step("stays")
    assert (stays.dependencies, stays.max_retries, stays.agent_id) == (["new"], 3, "other")


def test_a_paused_workflow_starts_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of a paused workflow is refused with status 4."""
    write(f"[steps.a]\nrun = {step_line('a', 0)}")
    with blocking.open(".claude/state", config=make_config()) as wp:
        wp.create_workflow("w", "W", steps=["a"]).unwrap()
        wp.pause_workflow("w").unwrap()
    assert run() == 4
    assert "error: workflow 'w' is paused" in capsys.readouterr().err
    assert log() == []


def test_what_is_at_work_finishes_when_the_workflow_is_paused(here: Path) -> None:
    """Pausing starts nothing more, and ends nothing: the run stops when its commands have ended by themselves."""
    write(
        f"{HELD}[steps.short]\nrun = 'touch short; until test -e paused; do sleep 0.01; done'\n"
        f"[steps.next]\nneeds = ['short']\nrun = {step_line('next', 0)}"
    )
    runner = start("--jobs", "2")
    wait_until(lambda: Path("held").exists() and Path("short").exists(), "both are at work")
    with blocking.open(".claude/state", config=make_config()) as wp:
        wp.pause_workflow("w").unwrap()
    Path("paused").touch()
    wait_until(lambda: statuses()["short"] == "completed", "one of them has ended")
    time.sleep(0.3)  # the run comes to the next step, and is refused
    Path("go").touch()
    said = runner.communicate(timeout=60)[1]
    assert runner.returncode == 4 and b"is paused" in said
    assert statuses() == {"long": "completed", "short": "completed", "next": "pending"}


# --- interruption ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_ends_its_commands_and_can_go_on(here: Path, number: signal.Signals) -> None:
    """A signal to the runner ends the commands under way, leaves their steps pending, and the next run does them."""
    write(
        f"""
        [steps.first]
        run = {step_line("first", 0)}
        [steps.under_way]
        run = {step_line("under_way", 60)}
        needs = ["first"]
        [steps.after]
        run = {step_line("after", 0)}
        needs = ["under_way"]
        """
    )
    runner = start()
    wait_until(lambda: ("begin", "under_way") in log(), "the second step is under way")
    runner.send_signal(number)
    assert runner.wait(timeout=60) == 128 + number
    assert runner.stderr is not None
    runner.stderr.close()
    assert statuses() == {"first": "completed", "under_way": "pending", "after": "pending"}
    assert not any(map(is_alive, pids("begin")))
    write(Path("w.toml").read_text().replace('"60"', '"0"'))
    assert run() == 0
    assert Counter(log())["begin", "first"] == 1 and "OVERLAP" not in dict(log())


def test_what_had_ended_when_the_run_was_stopped_counts(here: Path) -> None:
    """A command that was done is not done again, though what it left behind holds its output open for a moment."""
    command = plan.Command("a", ("/bin/sh", "-c", "echo done; sleep 60 & exit 0"), str(here))
    made = process.Process(command, os.environ)
    try:
        made.go()
        os.waitid(os.P_PID, made.pid, os.WEXITED | os.WNOWAIT)
        made.interrupt(signal.SIGTERM)
        ended = made.wait(None)
    finally:
        guard.signal_group(made.pid, signal.SIGKILL)
    assert ended.succeeded and ended.stdout == "done\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_run_ignores_what_it_was_started_to_ignore(here: Path, number: signal.Signals) -> None:
    """nohup, and the & of a shell, have a signal ignored: closing the terminal does not end such a run."""
    write(f"[steps.a]\nrun = {step_line('a', 0.5)}")
    runner = start(ignoring=number)
    wait_until(lambda: ("begin", "a") in log(), "the step is under way")
    runner.send_signal(number)
    assert runner.communicate(timeout=60) and runner.returncode == 0
    assert statuses() == {"a": "completed"}


def test_a_second_signal_kills_what_does_not_end(here: Path) -> None:
    """A command that ignores being asked is killed by the second Ctrl-C."""
    write(f"[steps.a]\nrun = {step_line('a', 60, 'telling')}")
    runner = start()
    wait_until(lambda: ("begin", "a") in log(), "the step is under way")
    runner.send_signal(signal.SIGINT)
    wait_until(lambda: ("asked", "a") in log(), "the step is asked to end")  # two signals that meet are one
    assert runner.poll() is None
    runner.send_signal(signal.SIGINT)
    assert runner.wait(timeout=60) == 130
    assert runner.stderr is not None
    runner.stderr.close()
    assert statuses() == {"a": "pending"} and not is_alive(pids("begin")[0])


def finished_now() -> set[str]:
    return {name for name, status in statuses().items() if status == "completed"}


@pytest.mark.timeout(300)
def test_a_runner_killed_at_any_moment_repeats_no_finished_step(here: Path) -> None:
    """Killed again and again with SIGKILL while commands run, and started again, a run ends with each step done;
    none that was finished runs again, and none runs twice at once.
    """
    count = 10
    steps = [f"[steps.s{n}]\nrun = {step_line(f's{n}', 0.03)}" for n in range(count)]
    for n in range(2, count):
        steps[n] += f'\nneeds = ["s{n - 2}"]'
    write("\n".join(steps))
    finished: dict[str, int] = {}
    kills = 0
    for number in range(1, 60):
        runner = start("--jobs", "3")
        goal = len(log()) + 2 + number % 3
        while runner.poll() is None and len(log()) < goal:
            time.sleep(0.002)
        time.sleep(0.01 * (number % 4))
        runner.kill()
        kills += runner.wait() == -signal.SIGKILL
        assert runner.stderr is not None
        runner.stderr.close()
        if Path(".claude/state/FORMAT").exists() and Path(".claude/state/workflows/w.state").exists():
            begun = Counter(name for what, name in log() if what == "begin")
            for name in finished_now():
                finished.setdefault(name, begun[name])
        if len(finished) == count:
            break
    assert kills >= 4, "too little was killed to show anything"
    assert run() == 0
    begun = Counter(name for what, name in log() if what == "begin")
    assert {name: begun[name] for name in finished} == finished
    assert finished_now() == {f"s{n}" for n in range(count)}
    assert "OVERLAP" not in {what for what, _ in log()}


def test_a_command_that_outlives_its_runner_is_waited_for(here: Path) -> None:
    """A command that ignores being asked to end does not meet itself: the next run waits until it was killed."""
    write(f"[steps.a]\nrun = {step_line('a', 60, 'stubborn')}")
    runner = start()
    wait_until(lambda: ("begin", "a") in log(), "the step is under way")
    runner.kill()
    runner.wait()
    assert runner.stderr is not None
    runner.stderr.close()
    write(f"[steps.a]\nrun = {step_line('a', 0)}")
    assert run() == 0
    assert log() == [("begin", "a"), ("begin", "a"), ("end", "a")]
    assert state().step("a").interruptions == 1


def test_two_runs_of_one_file_share_the_work(here: Path) -> None:
    """Two runs at once do each step once, and both end well."""
    write("".join(f"[steps.s{n}]\nrun = {step_line(f's{n}', 0.03)}\n" for n in range(10)))
    runners = [start("--jobs", "2"), start("--jobs", "2")]
    assert [runner.wait(timeout=60) for runner in runners] == [0, 0]
    for runner in runners:
        assert runner.stderr is not None
        runner.stderr.close()
    assert sorted(name for what, name in log() if what == "begin") == sorted(f"s{n}" for n in range(10))


def test_what_another_run_left_behind_meanwhile_is_waited_for(here: Path) -> None:
    """A run that has a step in hand for long does not begin it beside the command of another run that was killed."""
    write(f"{HELD}[steps.a]\nrun = {step_line('a', 60, 'stubborn')}")
    runner = start("--jobs", "1")
    wait_until(Path("held").exists, "it has its hands full")
    other = start("--jobs", "1")
    wait_until(lambda: ("begin", "a") in log(), "another has begun the step")
    other.kill()
    other.communicate()
    Path("go").touch()
    wait_until(lambda: log().count(("begin", "a")) == 2, "it has begun the step itself")
    runner.kill()
    runner.communicate()
    assert ("OVERLAP", "a") not in log()


def test_what_another_run_had_fail_meanwhile_is_no_error_of_the_run(here: Path) -> None:
    """A step that another run was faster with, and that has no retries left, leaves what else is at work alone."""
    write(f"{HELD}[steps.a]\nrun = 'exit 1'\n[steps.b]\nneeds = ['long']\nrun = {step_line('b', 0)}")
    runner = start("--jobs", "1")
    wait_until(Path("held").exists, "it has its hands full")
    other = start("--jobs", "1")
    wait_until(lambda: statuses()["a"] == "failed", "another has had the step fail")
    Path("go").touch()
    said = [each.communicate(timeout=60)[1] for each in (runner, other)]
    assert [runner.returncode, other.returncode] == [1, 1], said
    assert statuses() == {"long": "completed", "a": "failed", "b": "completed"}


# --- what a dead runner left behind ---


@pytest.fixture
def orphan() -> Iterator[subprocess.Popen[bytes]]:
    """A process group whose runner is gone, and nobody guards it."""
    made = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield made
    made.kill()
    made.wait()


def left_running(group: int, start_ticks: int) -> WorkflowStep:
    """A step as a runner leaves it that is killed together with its guard."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    here = StepOwner.this_process()
    owner = StepOwner(here.host, here.boot, here.namespace, gone.pid, 1)
    step = WorkflowStep("a", status="running", owner=owner)
    step.output = {"process_group": group, "start_ticks": start_ticks}
    return step


def test_an_unguarded_command_is_killed_if_it_is_provably_the_one(
    orphan: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the guard be killed too, the next run ends the group that is on record."""
    monkeypatch.setattr(process, "_PATIENCE_S", 0.1)
    ticks = clock.start_ticks(orphan.pid)
    if not ticks:
        pytest.skip("this system does not tell when a process was started")
    process.await_end_of_earlier(left_running(orphan.pid, ticks))
    assert orphan.wait(timeout=60) == -signal.SIGKILL


def test_a_process_that_may_be_somebody_elses_is_left_alone(
    orphan: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group whose first process is another one than that on record is never killed, and the step is not started."""
    from waypost.errors import StepBusy

    monkeypatch.setattr(process, "_PATIENCE_S", 0.1)
    with pytest.raises(StepBusy, match=f"group {orphan.pid}"):
        process.await_end_of_earlier(left_running(orphan.pid, 1))
    assert orphan.poll() is None


def test_a_process_whose_start_is_not_told_is_left_alone(
    orphan: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group whose first process cannot be seen to be the one on record is never killed."""
    from waypost.errors import StepBusy

    monkeypatch.setattr(process, "_PATIENCE_S", 0.1)
    starts = clock.start_ticks
    monkeypatch.setattr(clock, "start_ticks", lambda pid: 0 if pid == orphan.pid else starts(pid))
    with pytest.raises(StepBusy, match=f"group {orphan.pid}"):
        process.await_end_of_earlier(left_running(orphan.pid, 77))
    assert orphan.poll() is None


@pytest.mark.parametrize(
    ("output", "waits"),
    [
        ("[redacted]", True),
        ({"process_group": "[redacted]", "start_ticks": "[redacted]"}, True),
        (None, False),
        ({"exit_code": 1}, False),
    ],
)
def test_a_process_whose_record_is_redacted_is_given_time(
    output: Any, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell its group then; its guard ends it, and takes no longer than that."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    step = left_running(2, 1)
    step.output = output
    process.await_end_of_earlier(step)
    assert slept == ([process._PATIENCE_S] if waits else [])


def test_the_guard_forgets_what_has_ended(orphan: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """When the runner ends, its guard ends what is still at work, and nothing else."""
    monkeypatch.setattr(process, "GRACE_S", 0.1)  # the dead wait for this process, not for the grace
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    watching = process.Guard()
    watching.watch(orphan.pid)
    watching.watch(other.pid)
    watching.forget(orphan.pid)
    watching.close()
    assert other.wait(timeout=60) == -signal.SIGTERM
    assert orphan.poll() is None


def test_a_guard_that_was_killed_is_replaced(orphan: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A new guard is told of all commands that are at work."""
    monkeypatch.setattr(process, "GRACE_S", 0.1)
    watching = process.Guard()
    watching.watch(orphan.pid)
    watching._popen.kill()
    watching._popen.wait()
    watching.watch(2**22 + 1)
    watching.close()
    assert orphan.wait(timeout=60) == -signal.SIGTERM
