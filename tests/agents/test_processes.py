"""The whole way: an agent starts hook processes, whoever opens the store takes them in, the next one is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.agents.support import (
    SESSION,
    WORKFLOW,
    agent,
    bash,
    bash_done,
    finish,
    hook,
    kill,
    one_real_run,
    payload,
    prompted,
    started,
    stopped,
)
from waypost.agents import installing
from waypost.hooks import spool


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A store in a project's place for one."""
    made = tmp_path / ".claude" / "state"
    waypost.open(made, config={"checkpoints": {"initial": False}}).close()
    return made


def brief(state: Path, event: Mapping[str, Any]) -> str:
    """What the hook at the start of a session prints."""
    command = [sys.executable, *installing.command_of("brief", "--hook")]
    environment = {"PATH": os.environ["PATH"], "HOME": str(state.parent.parent)}
    done = subprocess.run(
        command,
        input=json.dumps(event).encode(),
        capture_output=True,
        check=False,
        cwd=state.parent.parent,
        env=environment,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def test_hooks_print_nothing_and_their_events_are_taken_in(state: Path) -> None:
    """Every event of a run through a process of its own: exit 0, no output; and the run is there, in order."""
    with agent() as process:
        for each in one_real_run():
            assert finish(hook(state, each, pid=process.pid)) == (0, b"", b"")
        assert spool.waiting(str(state)) == len(one_real_run())
        with waypost.open(state) as wp:
            found = wp.load_workflow_state(WORKFLOW).unwrap()
            assert [step.status for step in found.workflow.steps].count("completed") == 6
            assert wp.get_session(SESSION).status == "completed"
            assert wp.get_session(SESSION).environment["process"].split("/")[-2] == str(process.pid)
    assert spool.waiting(str(state)) == 0


def test_parallel_hooks_of_parallel_calls(state: Path) -> None:
    """Twenty calls whose hooks overlap: each is there, with its own output, once."""
    with agent() as process:
        hooks = [hook(state, prompted(), pid=process.pid)]
        for number in range(20):
            hooks.append(hook(state, bash(number, f"echo {number}"), pid=process.pid))
            hooks.append(hook(state, bash_done(number, f"echo {number}"), pid=process.pid))
            if number % 5 == 4:
                assert [finish(each) for each in hooks] == [(0, b"", b"")] * len(hooks)
                hooks.clear()
        with waypost.open(state) as wp:
            found = wp.load_workflow_state(WORKFLOW).unwrap()
            calls = [step for step in found.workflow.steps if step.id.startswith("toolu_")]
            assert sorted(step.name for step in calls) == sorted(f"Bash: echo {number}" for number in range(20))
            assert {step.status for step in calls} == {"completed"}
            assert {step.output_version for step in calls} == {2}


def test_x22_nothing_of_the_environment_is_stored(state: Path) -> None:
    """The token in a hook's environment is in no file of the store, before or after it was taken in."""
    finish(hook(state, prompted()))
    for _ in range(2):
        held = [each.read_bytes() for each in state.rglob("*") if each.is_file()]
        assert not any(b"secret-token" in each or b"MESSAGING" in each for each in held)
        waypost.open(state).close()


def test_a_killed_agent_is_told_to_the_next(state: Path) -> None:
    """SIGKILL of an agent during a call: its session shows as crashed with evidence, the next agent's brief tells what
    to resume, and once it is resumed what was cut short is closed.
    """
    with agent() as first:
        finish(hook(state, started(), pid=first.pid))
        finish(hook(state, prompted(), pid=first.pid))
        finish(hook(state, bash(1, "npm test"), pid=first.pid))
        first.send_signal(signal.SIGKILL)
        first.wait()
    told = json.loads(brief(state, started() | {"session_id": "another"}))
    text = told["hookSpecificOutput"]["additionalContext"]
    assert f"its process died (process {first.pid} on " in text
    assert 'may have had effects: "Bash: npm test"' in text
    assert f"claude --resume {SESSION}" in text
    with waypost.open(state) as wp:
        assert wp.get_session(SESSION).status == "crashed"
    with agent() as second:
        finish(hook(state, started("resume"), pid=second.pid))
        own = json.loads(brief(state, started("resume")))["hookSpecificOutput"]["additionalContext"]
        assert 'may have had effects: "Bash: npm test"' in own
        with waypost.open(state) as wp:
            session = wp.get_session(SESSION)
            assert (session.status, session.crash_recovery_data is not None) == ("active", True)
            assert wp.load_workflow_state(WORKFLOW).unwrap().step("toolu_1").status == "failed"
        kill(second)


def test_the_brief_is_silent_where_there_is_nothing(state: Path) -> None:
    """No store, an empty store, an event that is none, a store that cannot be opened: nothing is printed, exit 0."""
    assert brief(state, started()) == ""
    assert brief(state, {"x": 1}) == ""
    (state / "FORMAT").rename(state / "KEPT")
    assert brief(state, started()) == ""
    (state / "KEPT").rename(state / "FORMAT")
    (state / "FORMAT").write_bytes(b"waypost 999\n")
    assert brief(state, started()) == ""


def test_bad_input_is_kept_and_hooks_still_end_well(state: Path) -> None:
    """Payloads that are no events: exit 0, nothing printed, the bytes set aside; those around them are taken."""
    with agent() as process:
        for data in (b"no json", json.dumps(prompted()).encode()[:-9], b"", b"\x00" * 1000):
            assert finish(hook(state, data, pid=process.pid)) == (0, b"", b"")
        finish(hook(state, payload("FromTheFuture", shape={"new": [1]}), pid=process.pid))
        finish(hook(state, stopped(), pid=process.pid))
        with waypost.open(state) as wp:
            assert wp.load_workflow_state(WORKFLOW).unwrap().context.variables["notes"][0][1] == "FromTheFuture"
    refused = spool.refused(str(state))
    assert len(refused) == 4
    assert spool.waiting(str(state)) == 0


def test_an_oversize_payload_is_set_aside_with_its_hash(state: Path) -> None:
    """An event of 9 MB is cut by the hook, and refused with its length and SHA-256."""
    import hashlib

    whole = json.dumps(bash_done(1, "x") | {"tool_response": "y" * 9_000_000}).encode()
    assert finish(hook(state, whole)) == (0, b"", b"")
    waypost.open(state).close()
    (refused,) = spool.refused(str(state))
    assert hashlib.sha256(whole).hexdigest() in repr(refused)


def test_fold_takes_in_what_waits(state: Path) -> None:
    """The command that runs beside an agent takes in what waits, and says nothing."""
    finish(hook(state, prompted()))
    command = [sys.executable, *installing.command_of("fold", "--quiet", state=str(state))]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert spool.waiting(str(state)) == 0


def test_checkpoint_keeps_the_conversation_it_is_called_in(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`waypost agent checkpoint` is for the conversation that the agent's environment names, else for the newest."""
    finish(hook(state, prompted()))
    command = [
        sys.executable,
        "-P",
        "-m",
        "waypost",
        "agent",
        "checkpoint",
        "before it",
        "--state",
        str(state),
        "--json",
    ]
    for environment in ({}, {"CLAUDE_CODE_SESSION_ID": SESSION}):
        done = subprocess.run(
            command, capture_output=True, check=True, env={"PATH": os.environ["PATH"], **environment}, timeout=60
        )
        assert json.loads(done.stdout)["workflow"] == WORKFLOW
    with waypost.open(state) as wp:
        assert [one.description for one in wp.list_checkpoints(WORKFLOW) if one.description == "before it"] == [
            "before it",
            "before it",
        ]
