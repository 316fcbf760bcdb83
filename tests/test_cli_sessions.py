"""The commands that tell who works in the store, who has died at it, and how to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.owners import Owner, owner
from tests.test_cli import NASTY, Shown, call, call_json, here, wp
from waypost.blocking import Waypost

__all__ = ["call", "call_json", "here", "wp"]  # fixtures

Call = Callable[..., Shown]
CallJson = Callable[..., Any]


@pytest.fixture
def dead(here: Path) -> Iterator[tuple[Owner, str]]:
    """A process that died with a session, and the id of that."""
    with owner(here / ".claude" / "state") as process:
        session_id = process.start_session("survey")
        process.kill()
        yield process, session_id


def flip_a_bit(log: Path) -> None:
    """Damage a log in a commit that was synced."""
    data = bytearray(log.read_bytes())
    data[200] ^= 1
    log.write_bytes(data)


def test_sessions_are_listed_with_what_is_seen(
    dead: tuple[Owner, str], wp: Waypost, call: Call, call_json: CallJson
) -> None:
    """Each session with status, user, workflows, and the evidence about its owner; narrowed and paged."""
    process, crashed = dead
    mine = wp.start_session("ann").session_id
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    shown = call("session", "list")
    assert shown.status == 0
    assert ("active" in shown.line(mine), "ann" in shown.line(mine), "0/1" in shown.line(mine)) == (True, True, True)
    assert "crashed" in shown.line(crashed)
    assert f"process {process.process.pid} " in shown.line(crashed)
    listed = call_json("session", "list", "--status", "crashed")
    assert [each["session_id"] for each in listed["sessions"]] == [crashed]
    assert listed["sessions"][0]["presence"]["state"] == "crashed"
    assert call_json("session", "list", "--user", "ann")["total"] == 1
    assert "… and 1 more: --offset 1" in call("session", "list", "--limit", "1").out
    assert call("session", "list", "--user", "nobody").out.strip() == "no sessions"
    wp.end_session(mine).unwrap()
    assert "completed" in call("session", "list").line(mine)


def test_resume_says_what_was_running_and_how_to_go_on(
    dead: tuple[Owner, str], wp: Waypost, call: Call, call_json: CallJson
) -> None:
    """What is unfinished, which steps were running, which checkpoint is good, and one command; it changes nothing."""
    _, session_id = dead
    before = wp.get_session(session_id).metadata.version
    shown = call("resume")
    assert (shown.status, shown.err) == (0, "")
    assert "1 done, 2 never started, was running: b" in shown.line("survey")
    good = wp.get_recovery_suggestions("survey").recommended_recovery_point
    assert good is not None and good.id in shown.line("good checkpoint")
    assert f"go on with  waypost session recover {session_id}" in shown.out
    assert wp.get_session(session_id).metadata.version == before
    found = call_json("resume", session_id[:12])
    assert found["unfinished"][0]["workflows"][0]["ambiguous"] == ["b"]
    assert found["unfinished"][0]["workflows"][0]["good_checkpoint"] == good.id
    wp.detect_and_recover_crashed_sessions()
    assert f"go on with  wp.resume_session('{session_id}') in your program" in call("resume").out


def test_resume_shows_the_command_that_the_session_names(wp: Waypost, call: Call, call_json: CallJson) -> None:
    """A session may say how it is gone on with; what is held by somebody needs no command."""
    session_id = wp.start_session(environment={"resume_command": "python nightly.py"}).session_id
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    assert call_json("resume")["go_on"] is None
    wp.pause_session(session_id).unwrap()
    for command in ("resume", "status"):
        assert "go on with  python nightly.py" in call(command).out
        assert call_json(command)["go_on"] == "python nightly.py"
    wp.update_step_status("w", "a", "completed").unwrap()
    assert "nothing is unfinished in it" in call("resume").out
    wp.end_session(session_id).unwrap()
    assert call("resume").out.strip() == "nothing is unfinished"


def test_resume_knows_workflows_of_no_session(wp: Waypost, call: Call, call_json: CallJson) -> None:
    """What `waypost run` was doing is gone on with by the same command, whether there is a session or not."""
    wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
    wp.update_context("w", configuration={"run_file": "nightly.toml"}).unwrap()
    wp.update_step_status("w", "a", "completed").unwrap()
    assert "in no session" in call("resume").out
    assert call_json("resume")["go_on"] == "waypost run nightly.toml"


def test_recover_shows_the_plan_and_asks(dead: tuple[Owner, str], wp: Waypost, call: Call, call_json: CallJson) -> None:
    """Nothing is recorded before --yes; then the plan is carried out, for the session that is named or for all."""
    _, session_id = dead
    refused = call("session", "recover")
    assert (refused.status, "Say --yes" in refused.err) == (2, True)
    assert wp.get_session(session_id).crash_recovery_data is None
    assert call("session", "recover", "nowhere", "--yes").status == 3
    shown = call("session", "recover", session_id[:12], "--yes")
    assert shown.status == 0
    assert "full recovery, estimated loss 0 %" in shown.out
    assert "is recovered, and may be resumed" in shown.out
    assert wp.get_session(session_id).crash_recovery_data is not None
    again = call_json("session", "recover", "--yes")["recovered"]
    assert (again[0]["session_id"], again[0]["is_carried_out"]) == (session_id, True)
    wp.resume_session(session_id)
    assert "no session was left by a dead owner" in call("session", "recover").out


def test_recover_tells_commands_that_can_be_pasted(
    dead: tuple[Owner, str], wp: Waypost, call: Call, here: Path
) -> None:
    """What is left to do after a recovery stands one to a line: a command with the store that it is for, or a word on
    the next one.
    """
    state = here / ".claude" / "state"
    kept = wp.create_checkpoint("survey").unwrap()
    wp.close()
    flip_a_bit(state / "workflows" / "survey.state")
    shown = call("session", "recover", "--yes", "--state", str(state))
    told = [line.strip() for line in shown.out.partition("is recorded as crashed")[2].splitlines()[1:]]
    assert told[:3] == [
        f"waypost store repair --state {state}",
        "where the repair keeps less of workflow 'survey' than its newest whole checkpoint has:",
        f"waypost restore {kept.id} --state {state}",
    ]


@pytest.mark.parametrize(("is_gone", "status"), [(True, 0), (False, 1)])
def test_recover_says_by_its_status_whether_all_was_brought_back(
    dead: tuple[Owner, str], wp: Waypost, call: Call, here: Path, is_gone: bool, status: int
) -> None:
    """With --accept-loss what is gone is brought back; what is damaged stays as it is, and the command ends with 1."""
    log = here / ".claude" / "state" / "workflows" / "survey.state"
    wp.create_checkpoint("survey").unwrap()
    wp.close()
    if is_gone:
        log.unlink()
    else:
        flip_a_bit(log)
    damaged = None if is_gone else log.read_bytes()
    shown = call("session", "recover", "--yes")
    assert (shown.status, "waits for you" in shown.out) == (1, True)
    shown = call("session", "recover", "--accept-loss", "--yes")
    assert (shown.status, "is recovered" in shown.out) == (status, is_gone)
    assert call("show", "survey").status == (0 if is_gone else 6)
    assert is_gone or log.read_bytes() == damaged


def test_recover_takes_over_by_hand_alone(here: Path, wp: Waypost, call: Call) -> None:
    """A session whose owner is alive is left alone, unless it is named and taken over; then he can write no more."""
    with owner(here / ".claude" / "state") as process:
        session_id = process.start_session("survey")
        assert "no session was left" in call("session", "recover", session_id, "--yes").out
        assert call("session", "recover", "--take-over").status == 2
        refused = call("session", "recover", session_id, "--take-over")
        assert (refused.status, "holds the session's lock" in refused.err) == (2, True)
        taken = call("session", "recover", session_id, "--take-over", "--yes")
        assert (taken.status, "its old owner can write no more" in taken.out) == (0, True)
        assert process.ask("wp.update_step_status('survey', 'b', 'completed').error.code") == "'session_fenced'"
        assert wp.resume_session(session_id).active_workflows == ["survey"]


def test_x21_what_sessions_hold_cannot_reach_the_terminal(wp: Waypost, call: Call) -> None:
    """Control characters in users, environments and names of steps are written out."""
    wp.start_session("user", {"resume_command": NASTY})
    wp.create_workflow("w", NASTY, steps=["a"]).unwrap()
    wp.update_step_status("w", "a", "failed", error=NASTY).unwrap()
    wp.pause_session(wp.session_id or "").unwrap()
    for command in (("resume",), ("session", "list")):
        shown = call(*command)
        assert shown.status == 0
        assert "\x1b" not in shown.out and "\x07" not in shown.out
