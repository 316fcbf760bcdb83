"""What the terminal shows beside tables: drawings of time, of steps and of history, the pager, and live screens."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from tests import test_cli as shared
from tests.test_watch_cli import PROGRAM
from waypost import blocking, clock
from waypost.cli import graph, live, pager, timeline, tree
from waypost.cli.invocation import Invocation, reading
from waypost.cli.timeline import Attempt
from waypost.models import WorkflowStep

here, wp, call, call_json = shared.here, shared.wp, shared.call, shared.call_json

BEGIN = clock.to_datetime(1_800_000_000_000_000)


def attempt(start_s: float, end_s: float, result: str = "completed") -> Attempt:
    return Attempt(BEGIN + timedelta(seconds=start_s), BEGIN + timedelta(seconds=end_s), result)


# --- the drawing of a history ---


def drawn(*commits: tuple[int, int | None]) -> list[str]:
    return [each.graph for each in graph.draw(commits)]


def test_a_history_that_never_parts_is_one_line() -> None:
    """Each version goes on from the one before it; the last shown one may go on from one that is not."""
    assert drawn((3, 2), (2, 1), (1, None)) == ["*", "*", "*"]
    assert drawn((9, 8), (8, 7)) == ["*", "*"]
    assert drawn() == []


def test_columns_of_a_history_are_used_again() -> None:
    """A column whose line has ended is there for the next one; lines that cross are drawn."""
    assert drawn((6, 4), (5, 4), (4, 2), (3, 2), (2, 1), (1, None)) == ["*", "│ *", "├─╯", "*", "│ *", "├─╯", "*", "*"]
    assert drawn((5, 2), (4, 1), (3, 2), (2, 1), (1, None)) == ["*", "│ *", "│ │ *", "├─│─╯", "* │", "├─╯", "*"]


# --- the drawing of time ---


def test_bars_stand_where_work_was() -> None:
    """A bar reaches from the beginning of an attempt to its end, and shows how it ended, if not well."""
    attempts = {
        "a": [attempt(0, 50)],
        "b": [attempt(50, 60, "failed"), attempt(60, 100)],
        "c": [attempt(90, 90, "skipped")],
    }
    scale, bars = timeline.draw(attempts, ["a", "b", "c", "never"], 20)
    assert {name: bar.plain for name, bar in bars.items()} == {
        "a": "━" * 10 + " " * 10,
        "b": " " * 10 + "━✗" + "━" * 8,
        "c": " " * 18 + "↷ ",
    }
    assert scale.plain == "0 s   30 s  1 min"


def test_idle_time_takes_little_room() -> None:
    """A night without work is cut out and marked, and work before and after it stays apart."""
    _, bars = timeline.draw({"a": [attempt(0, 100)], "b": [attempt(50_000, 50_100, "running")]}, ["a", "b"], 60)
    assert bars["a"].plain.rstrip("┆ ").count("━") in (29, 30) and bars["b"].plain.endswith("━▶")
    assert bars["a"].plain.index("┆") == bars["b"].plain.index("┆")
    scale, _ = timeline.draw({"a": [attempt(0, 100)], "b": [attempt(50_000, 50_100)]}, ["a", "b"], 60)
    assert re.fullmatch(r"0 s +13 h 53 min", scale.plain)


@pytest.mark.parametrize("width", [1, 2, 7, 400])
def test_no_bar_leaves_the_axis(width: int) -> None:
    """Whatever the times, each attempt has a column, and none beyond the last."""
    theirs = [attempt(0, 0), attempt(1e-6, 1e-6, "failed"), attempt(3, 9e6), attempt(9e6, 9e6, "interrupted")]
    for chosen in (theirs, theirs[:1], theirs[1:3]):
        scale, bars = timeline.draw({"a": chosen}, ["a"], width)
        assert len(bars["a"].plain) == width and len(scale.plain) <= width and bars["a"].plain.strip()
    assert timeline.at_a_time([attempt(0, 10), attempt(0, 10), attempt(90, 90)]) == 2


def test_earlier_attempts_are_read_from_history(call, wp: blocking.Waypost) -> None:
    """Each attempt that failed, was interrupted or gone back from has a bar, in its order."""
    steps = [WorkflowStep("a", max_retries=3), WorkflowStep("b", dependencies=["a"], agent_id="scout")]
    wp.create_workflow("w", "W", steps=steps).unwrap()
    for status in ("running", "failed", "running", "failed", "running", "completed"):
        wp.update_step_status("w", "a", status, error="bad luck" if status == "failed" else None).unwrap()
    state = wp.load_workflow_state("w").unwrap()
    found = timeline.all_attempts(wp.definitions.store, state)
    assert [each.result for each in found["a"]] == ["failed", "failed", "completed"] and "b" not in found
    ends = [moment for each in found["a"] for moment in (each.start, each.end)]
    assert ends == sorted(ends)
    title, _, a, b = call("show", "w", "--timeline").out.splitlines()
    assert re.match(r"w  · unfinished  .*, 1\.0 steps at a time$", title)
    assert re.match(r"✓ a +[ ━✗┆]*✗.*━.*ms  3 attempts$", a) and re.match(r"· b +scout$", b)


def test_what_a_dead_process_was_at_ends_with_its_sign(call, wp: blocking.Waypost) -> None:
    """The attempt of a process that died is interrupted, now and once another has taken the step over."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    shared.in_another_process("wp.update_step_status('w', 'a', 'running').unwrap()")
    assert re.search(r"^! a +━*!$", call("show", "w", "--timeline").out, re.MULTILINE)
    wp.update_step_status("w", "a", "running").unwrap()
    state = wp.load_workflow_state("w").unwrap()
    assert [each.result for each in timeline.all_attempts(wp.definitions.store, state)["a"]] == [
        "interrupted",
        "running",
    ]


def test_of_many_steps_the_timeline_has_the_telling_ones(call, wp: blocking.Waypost) -> None:
    """Without --all failed and running steps come first, and what is left out is counted."""
    wp.create_workflow("w", "W", steps=[f"s{n:03}" for n in range(100)]).unwrap()

    def work(tx: Any) -> None:
        for number in range(60):
            tx.update_step_status("w", f"s{number:03}", "completed")

    wp.transact(work).unwrap()
    wp.update_step_status("w", "s070", "failed", error="x").unwrap()
    lines = call("show", "w", "--timeline").out.splitlines()
    assert len(lines) == 43 and any(line.startswith("✗ s070") for line in lines)
    assert lines[-1] == "… and 21 completed, 39 pending: --all shows them"
    assert len(call("show", "w", "--timeline", "--all").out.splitlines()) == 102


def test_a_workflow_is_shown_as_it_was(call, call_json, wp: blocking.Waypost) -> None:
    """A version and a checkpoint show what was there then, with nothing that came later, and no command to go on."""
    wp.create_workflow("paper", "Paper", steps=[WorkflowStep("draft", max_retries=2)]).unwrap()
    kept = wp.create_checkpoint("paper").unwrap()
    for status in ("running", "failed", "running", "completed"):
        wp.update_step_status("paper", "draft", status, error="x" if status == "failed" else None).unwrap()
    assert call_json("show", "paper@4")["steps"][0]["status"] == "failed"
    assert call_json("show", "pap@3")["steps"][0] | {"owner": None} == call_json("show", "paper@3")["steps"][0]
    assert call_json("show", "paper@3")["steps"][0]["duration_ms"] < 60_000
    assert call_json("show", kept.id[:-2])["steps"][0]["status"] == "pending"
    assert call_json("show", "paper")["steps"][0]["status"] == "completed"
    shown = call("show", "paper@4").out
    assert shown.splitlines()[0] == "paper  Paper  as it was at version 4 of 6" and "look at it" not in shown
    assert "attempts" not in call("show", "paper@4", "--timeline").out
    assert "2 attempts" in call("show", "paper@5", "--timeline").out
    assert call("show", "paper@9").status == 3 and call("show", "pepper@1").status == 3


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_the_ends_of_the_calendar_are_shown(
    call, wp: blocking.Waypost, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    """Times that are stored and have no day in a time zone end no command."""
    wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
    state = wp.load_workflow_state("w").unwrap()
    a, b = state.workflow.steps
    a.start_time, a.end_time = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    b.start_time = a.end_time
    a.status, b.status = "completed", "running"
    wp.save_workflow_state(state).unwrap()
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for more in ([], ["--timeline"], ["--tree"], ["--step", "a"], ["--step", "b"]):
            assert call("show", "w", *more).status == 0
        assert "━━━" in call("show", "w", "--timeline").out and call("status").status == call("list").status == 0
    finally:
        monkeypatch.undo()
        time.tzset()


# --- the drawing of steps ---


def branches(steps: list[WorkflowStep], *, everything: bool = False) -> list[str]:
    return [
        f"{each.prefix}{each.step.id if each.step else dict(each.left_out)} {','.join(each.also_needs)}".rstrip()
        for each in tree.branches(steps, everything=everything)
    ]


def test_each_step_stands_once_below_what_it_waits_for_longest() -> None:
    """Of several that a step needs it stands below the one that comes last; the others are named."""
    needs = {"a": [], "b": ["a"], "c": ["a"], "d": ["c"], "e": ["b", "d"], "z": []}
    steps = [WorkflowStep(name, dependencies=theirs) for name, theirs in needs.items()]
    assert branches(steps) == ["a", "├─ b", "└─ c", "   └─ d", "      └─ e b", "z"]


def test_trees_of_any_shape_are_drawn() -> None:
    """A chain of thousands, a broad fan, and what no writer would make."""
    chain = [WorkflowStep(str(n), dependencies=[str(n - 1)] if n else []) for n in range(5000)]
    lines = branches(chain)
    assert len(lines) == 5000 and max(map(len, lines)) < 80
    fan = [WorkflowStep("top"), *[WorkflowStep(f"s{n}", dependencies=["top"]) for n in range(100)]]
    fan[50].status = "failed"
    assert branches(fan)[1:] == ["├─ s0", "├─ s1", "├─ s2", "├─ s49", "└─ {'pending': 96}"]
    assert len(branches(fan, everything=True)) == 101
    circle = [WorkflowStep("a", dependencies=["b"]), WorkflowStep("b", dependencies=["a", "gone"])]
    assert branches(circle) == ["a b", "b a,gone"]
    assert branches([]) == []


def test_show_draws_the_tree(call, wp: blocking.Waypost) -> None:
    """Steps have their signs, agents and what else they need; beginnings of ids will do."""
    steps = [WorkflowStep("a"), WorkflowStep("b"), WorkflowStep("c", dependencies=["a", "b"], agent_id="scout")]
    wp.create_workflow("work", "W", steps=steps).unwrap()
    assert call("show", "wo", "--tree").out.splitlines() == [
        "work  3 steps", "· a", "· b", "└─ · c  scout, also needs a",
    ]  # fmt: skip


# --- the terminal ---


@pytest.fixture
def crowd(wp: blocking.Waypost) -> blocking.Waypost:
    """Two workflows with long names, one at work and one that failed, and a session whose owner has died."""
    for name in ("quarterly-report-of-the-north", "survey"):
        wp.create_workflow(name, "A name that says a lot about it", steps=["collect", "write"]).unwrap()
    wp.update_step_status("quarterly-report-of-the-north", "collect", "running", agent_id="scout").unwrap()
    wp.update_step_status("survey", "collect", "failed", error="the network is down, and " * 4).unwrap()
    shared.in_another_process("wp.start_session('ann')")
    return wp


def uncoloured(printed: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", printed).replace("\r", "").splitlines()


def test_status_begins_with_what_needs_somebody(call, crowd: blocking.Waypost) -> None:
    """Sessions whose owners died come first, then failures, then what is at work and for how long."""
    lines = call("status").out.splitlines()
    titles = [line for line in lines[1:] if line and not line.startswith(" ")]
    assert titles[:3] == ["sessions that crashed", "failed", "at work"]
    assert re.match(r"  ! session_\w{10}  ann  .* process \d+ on .*: there is no such process any more", lines[3])
    assert any(re.search(r"collect \(process \d+ on .*: alive\) for \d", line) for line in lines)


def test_what_is_narrow_loses_words_and_no_numbers(crowd: blocking.Waypost) -> None:
    """In 60 columns ids, numbers and statuses are whole; bars and the end of the words go."""
    lines = uncoloured(shared.on_terminal("status", columns=60))
    assert max(map(len, lines)) <= 60
    assert any(re.match(r"  ▶ quarterly-report-of-the-north +0 % +0/2 ", line) for line in lines)
    wide = uncoloured(shared.on_terminal("status", columns=100))
    assert any(re.match(r"  ✗ survey +─{10} +0 % +0/2 .*the network.*…$", line) for line in wide)


def test_show_tells_errors_in_full_and_what_to_type(call, crowd: blocking.Waypost) -> None:
    """An error is not cut, and the command that looks closer is there to be copied; a terminal has bars beside."""
    out = call("show", "sur").out
    assert f"collect: {'the network is down, and ' * 4}".strip() in out
    assert out.splitlines()[-1] == "look at it  waypost show survey --step collect"
    shared.in_another_process(
        "wp.create_workflow('dead', 'D', wp.start_session('eve', session_id='s-1').session_id, ['a']).unwrap()\n"
        "wp.update_step_status('dead', 'a', 'running').unwrap()"
    )
    command = "waypost resume s-1"
    assert call("show", "dead").out.splitlines()[-1] == f"go on with  {command}"
    assert "was running: a" in call(*command.split()[1:]).out
    printed = shared.on_terminal("show", "quarterly", columns=120)
    assert any(re.match(r"collect +▶ running +scout .* ━+▶ ", line) for line in uncoloured(printed))
    plain = shared.on_terminal("show", "quarterly", columns=120, NO_COLOR="1")
    assert uncoloured(plain)[0] == uncoloured(printed)[0] and not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain)


def test_only_what_is_too_long_is_paged(wp: blocking.Waypost, here: Path) -> None:
    """The pager is given what does not fit on the screen, coloured; what it cannot be run for is printed."""
    wp.create_workflow("w", "W", steps=[f"s{n:03}" for n in range(60)]).unwrap()
    keep = f"{sys.executable} -c \"import sys; open('paged', 'w').write(sys.stdin.read()); print('left')\""
    assert shared.on_terminal("show", "w", "--all", PAGER=keep) == "left\r\n"
    paged = (here / "paged").read_text()
    assert "\x1b[" in paged and sum(line.startswith("s0") for line in paged.splitlines()) == 60
    assert "left" not in shared.on_terminal("show", "w", PAGER=keep)
    assert "s059" in shared.on_terminal("show", "w", "--all", PAGER="no-such-pager --x")


@pytest.mark.parametrize("asked", ["", " ", "cat", "no-such-pager --x", "a 'quote", "/bin/sh -c 'exit 127'"])
def test_what_no_pager_takes_is_printed(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    """Where there is to be no pager, or it cannot be run, whoever asked is told to print himself."""
    monkeypatch.setenv("PAGER", asked)
    assert pager.page("x\n") is False
    monkeypatch.setenv("PAGER", "/bin/sh -c 'exit 1'")
    assert pager.page("x" * 1_000_000) is True


def test_the_shell_completes_ids(here: Path, wp: blocking.Waypost) -> None:
    """What is typed of an id is completed; an id that a shell or a terminal would act on is not offered."""
    for name in ("build", "builder", "deploy", "b$(id)", "b;id", "b id", "b`id`", "b\u200bx", "b'", "b*"):
        wp.create_workflow(name, "W").unwrap()
    environment = {
        **os.environ,
        "_WAYPOST_COMPLETE": "bash_complete",
        "COMP_WORDS": "waypost show b",
        "COMP_CWORD": "2",
    }
    program = [sys.executable, "-c", "from waypost.cli import main; main()"]
    done = subprocess.run(program, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.splitlines() == ["plain,build", "plain,builder"] and done.stderr == ""


def test_a_list_is_narrowed_by_session_and_time(call, call_json, wp: blocking.Waypost) -> None:
    """--session takes the beginning of an id, --since an age or a date; a time that is none is refused."""
    now_us = clock.now_us()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clock, "now_us", lambda: now_us - 3 * 3600 * 1_000_000)
        wp.create_workflow("old", "Old").unwrap()
    wp.create_workflow("new", "New", "session-1").unwrap()

    def ids(*arguments: str) -> list[str]:
        return [one["id"] for one in call_json("list", *arguments)["workflows"]]

    assert ids("--since", "2h") == ["new"] and ids("--since", "200min") == ids("--since", "2020-01-01") == [
        "new",
        "old",
    ]
    assert ids("--since", "2999-01-01T00:00+00:00") == []
    wp.start_session("ann", session_id="session-1")
    assert ids("--session", "session") == ["new"] and call("list", "--session", "nobody").status == 3
    for junk in ("yesterday", "999999999d", "1999-13-01", shared.NASTY):
        shown = call("list", "--since", junk)
        assert shown.status == 2 and "no time" in shown.err and shared.hostile(shown.err) == []


# --- waiting ---


def finish(wp: blocking.Waypost, status: Any, error: str | None = None) -> None:
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.update_step_status("w", "a", "running").unwrap()
    wp.update_step_status("w", "a", status, error=error).unwrap()


@pytest.mark.parametrize(
    ("until", "status"), [("completed", 1), ("failed", 0), ("ended", 0), ("interrupted", 1), ("paused", 1)]
)
def test_waiting_ends_with_what_it_came_to(call, wp: blocking.Waypost, until: str, status: int) -> None:
    """0 where a workflow is as it was waited for, 1 where it came to another end; and people are told which."""
    finish(wp, "failed", "x")
    shown = call("watch", "w", "--until", until)
    assert (shown.status, shown.out) == (status, "")
    assert shown.err == ("" if status == 0 else "w is failed: waypost show w\n")
    assert (call("watch", "w", "--until", until, "--json").status, shown.out) == (status, "")


def test_the_command_that_shows_what_failed_holds_the_id_as_one_word(call, wp: blocking.Waypost) -> None:
    """Whoever copies it into a shell names the workflow, and starts nothing else, whatever its id is."""
    name = "w; touch pwned $(id)"
    wp.create_workflow(name, "W", steps=["a"]).unwrap()
    wp.update_step_status(name, "a", "running").unwrap()
    wp.update_step_status(name, "a", "failed", error="no").unwrap()
    shown = call("watch", name, "--until", "completed")
    assert shown.err == f"{name} is failed: waypost show '{name}'\n"


def test_nobody_waits_for_the_dead(call, wp: blocking.Waypost) -> None:
    """When the process that was at work has died, the wait ends, though no commit says so."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    shared.in_another_process("wp.update_step_status('w', 'a', 'running').unwrap()")
    assert call("watch", "w", "--until", "completed").status == 1
    assert call("watch", "w", "--until", "interrupted").status == 0
    assert call("watch", "--until", "completed").status == 2


def test_waiting_sees_the_end(call, wp: blocking.Waypost) -> None:
    """It tells of commits as they are made, and ends soon after the last."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.update_step_status("w", "a", "running").unwrap()
    worker = threading.Timer(0.3, lambda: wp.update_step_status("w", "a", "completed").unwrap())
    worker.start()
    shown = call("watch", "w", "--until", "completed", "--from", "start")
    worker.join()
    assert shown.status == 0 and [line.split("  ")[2] for line in shown.out.splitlines()] == [
        "create_workflow", "a: running", "a: completed",
    ]  # fmt: skip


def test_a_wait_that_is_interrupted_has_not_come_to_its_end(wp: blocking.Waypost) -> None:
    """Ctrl-C ends a wait with 130, so that nothing which stands behind it is done."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    command = [sys.executable, "-c", PROGRAM, "watch", "w", "--until", "completed", "--from", "start"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "create_workflow" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "go on behind the last one" in err


def test_small_outputs_are_shown_beside_their_steps(call, wp: blocking.Waypost) -> None:
    """Where nothing else is to be noted stands the beginning of the output, or the size of a large one."""
    wp.create_workflow("w", "W", steps=["a", "b", "c"]).unwrap()
    wp.update_step_status("w", "a", "completed", {"rows": 3}).unwrap()
    wp.update_step_status("w", "b", "completed", "x" * 5000).unwrap()
    wp.update_step_status("w", "c", "completed", ["y" * 200]).unwrap()
    lines = [call("show", "w").line(name) for name in "abc"]
    assert lines[0].endswith('  {"rows": 3}') and lines[1].endswith("  4.9 KB") and lines[2].endswith("yyy…")


def test_many_steps_of_one_commit_are_one_line(call, wp: blocking.Waypost) -> None:
    """A commit that wrote hundreds of steps is told in a few words."""
    wp.create_workflow("w", "W", steps=[f"s{n}" for n in range(300)]).unwrap()

    def work(tx: Any) -> None:
        for number in range(200):
            tx.update_step_status("w", f"s{number}", "completed" if number % 2 else "running")

    wp.transact(work).unwrap()
    made, moved = call("watch", "--from", "start", "--count", "2").out.splitlines()
    assert made.endswith("  w@1  create_workflow  300 steps")
    assert re.search(r"  w@2  \w+  s0, s2, s4 and 97 more: running, s1, s3, s5 and 97 more: completed$", moved)


def test_x21_a_live_screen_shows_what_is_at_work(wp: blocking.Waypost) -> None:
    """In a terminal commits stand above, and what is at work below; of sequences only its own reach the terminal."""
    steps = [WorkflowStep("a", name=shared.NASTY, agent_id="[red]scout[/red]"), WorkflowStep("b")]
    wp.create_workflow("[bold]w", shared.NASTY, steps=steps).unwrap()
    wp.update_agent_state("[bold]w", "x", {"current_task": shared.NASTY}).unwrap()
    wp.update_step_status("[bold]w", "a", "running", session_id="[link]s").unwrap()

    def finish_once_shown(data: bytes) -> None:
        if b"0/2" in data and wp.load_workflow_state("[bold]w").unwrap().step("a").status == "running":
            for name in ("a", "b"):
                wp.update_step_status("[bold]w", name, "completed").unwrap()

    live_ = shared.on_terminal("watch", "[bold]w", "--until", "completed", seen=finish_once_shown)
    told = shared.on_terminal("watch", "--from", "start", "--count", "5")
    for printed in (live_, told):
        rest = re.sub(r"\x1b\[(\?25[hl]|[0-9;]*m|2K|1A)", "", printed).replace("\r", "")
        assert shared.hostile(rest) == [] and re.search(r"\[bold\]w@\d+  b: completed", rest)
        if printed is live_:
            assert re.search(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] a  \[red\]scout\[/red\]  \d", rest)
            assert re.search(r"\[bold\]w  ▶ running  ─{20}   0 %  0/2  \d", rest)
            assert rest.splitlines()[-1].split() == ["[bold]w", "✓", "completed", "━" * 20, "100", "%", "2/2"]


def test_what_has_ended_leaves_the_live_screen(here: Path, wp: blocking.Waypost) -> None:
    """Of a whole store that is shown where something is at work: from the beginning, and when it is told of."""
    for name in ("idle", "old", "new"):
        wp.create_workflow(name, name, steps=["a"]).unwrap()
    wp.update_step_status("old", "a", "running").unwrap()
    with reading(Invocation()) as store:
        below = live.Below(store, None)

        def shown() -> list[str]:
            below.look()
            return [now.id for now in below._now]

        assert shown() == ["old"]
        wp.update_step_status("new", "a", "running").unwrap()
        below.say("new", Text("new@2"))
        below.say("idle", Text("idle@2"))
        assert shown() == ["new", "old"]
        wp.update_step_status("old", "a", "completed").unwrap()
        assert shown() == ["new"]
