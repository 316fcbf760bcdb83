"""The real Claude Code program against a scripted model: what its hooks say becomes state, and a killed one is told of.

    CLAUDE_PROGRAM=/path/to/claude make test ARGS="tests/agents/test_end_to_end.py"

It needs no network. Without the variable these tests are left out: the program is not ours to hand on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import waypost
from tests.agents.model_api import Model, calls, says, serving
from waypost.hooks import spool

CLAUDE = os.environ.get("CLAUDE_PROGRAM", "")
SESSION = "0b9f1a52-0f8e-4b6b-9d3e-1f6f7a1f00e2"
WORKFLOW = f"claude-{SESSION}"
WAITS = "tail -f /dev/null"  # the program refuses to sleep

pytestmark = [
    pytest.mark.skipif(not CLAUDE, reason="CLAUDE_PROGRAM names no claude program"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose agent tells Waypost all that it does."""
    made = tmp_path / "project"
    made.mkdir()
    command = [sys.executable, "-m", "waypost", "agent", "install", "claude-code", "--detail", "--yes"]
    subprocess.run(command, cwd=made, check=True, capture_output=True, timeout=60)
    return made


def start(project: Path, address: str, prompt: str, *more: str) -> subprocess.Popen[bytes]:
    environment = {
        "HOME": str(project.parent),
        "PATH": os.environ["PATH"],
        "ANTHROPIC_API_KEY": "dummy",
        "ANTHROPIC_BASE_URL": address,
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    command = [CLAUDE, "-p", prompt, "--allowedTools", "Bash", "Agent", "Read", "--output-format", "json", *more]
    return subprocess.Popen(
        command,
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def run(project: Path, model: Model, prompt: str, *more: str) -> Model:
    """One run of the program, to its end; the model, with what it was asked."""
    with serving(model) as address:
        process = start(project, address, prompt, *more)
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0, (out, err)
    return model


def test_a_real_run_is_recorded(project: Path) -> None:
    """Calls that succeed, fail and run side by side, and a subagent, as the real program tells of them."""
    script = [
        calls(("toolu_1", "Bash", {"command": "echo hi", "description": "say hi"})),
        calls(("toolu_2", "Bash", {"command": "exit 3", "description": "fail"})),
        calls(*[(f"toolu_1{n}", "Bash", {"command": f"echo {n}", "description": "say"}) for n in range(4)]),
        calls(
            ("toolu_3", "Agent", {"description": "compute", "prompt": "Compute", "subagent_type": "general-purpose"})
        ),
        says("All done."),
    ]
    subagent_script = [
        calls(("toolu_4", "Bash", {"command": "echo 42", "description": "compute"})),
        says("It is 42."),
    ]
    run(project, Model(script, Compute=subagent_script), "Say hi", "--session-id", SESSION)
    with waypost.open(project / ".claude/state") as wp:
        state = wp.load_workflow_state(WORKFLOW).unwrap()
        steps = {step.id: (step.name, step.status) for step in state.workflow.steps}
        assert steps["toolu_1"] == ("Bash: echo hi", "completed")
        assert state.step("toolu_1").output["response"]["stdout"] == "hi"
        assert steps["toolu_2"] == ("Bash: exit 3", "failed")
        assert [steps[f"toolu_1{n}"][1] for n in range(4)] == ["completed"] * 4
        assert steps["toolu_3"] == ("Agent: compute", "completed")
        (subagent,) = state.agents.values()
        assert (subagent.name, subagent.status) == ("general-purpose", "idle")
        assert state.step("toolu_4").agent_id == subagent.id
        assert state.step(f"agent-{subagent.id}").output == {"message": "It is 42."}
        # the program runs the subagent beside the turn, and begins another turn when that is done
        turn = next(step for step in state.workflow.steps if step.id.startswith("turn-"))
        assert (turn.status, turn.output["prompt"]) == ("completed", "Say hi")
        assert state.workflow.name == "Say hi"
        assert wp.get_session(SESSION).status == "completed"
        assert ("turn",) in [one.tags for one in wp.list_checkpoints(WORKFLOW)]
    assert spool.refused(str(project / ".claude/state")) == []


def test_a_slash_command_is_recorded(project: Path) -> None:
    """A command of the project is a workflow of its own, with the steps of its prompt."""
    commands = project / ".claude/commands"
    commands.mkdir()
    (commands / "greet.md").write_text("---\ndescription: greet\n---\nGreet $ARGUMENTS\n")
    script = [calls(("toolu_5", "Bash", {"command": "echo hello", "description": "greet"})), says("Greeted.")]
    run(project, Model(script), "/greet the world", "--session-id", SESSION)
    with waypost.open(project / ".claude/state") as wp:
        (made,) = [one for one in wp.list_workflows() if one.id != WORKFLOW]
        assert (made.name, made.status) == ("/greet the world", "completed")
        state = wp.load_workflow_state(made.id).unwrap()
        assert state.step("toolu_5").status == "completed"
        assert len(state.workflow.steps) == 2


def test_a_killed_run_is_told_to_the_next(project: Path) -> None:
    """SIGKILL during a call: the session shows as crashed, and the brief reaches the next run's model."""
    model = Model([calls(("toolu_9", "Bash", {"command": WAITS, "description": "wait"}))])
    with serving(model) as address:
        process = start(project, address, "Wait long", "--session-id", SESSION)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not _has_begun(project, "toolu_9"):
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    with waypost.open(project / ".claude/state") as wp:
        session = wp.get_session(SESSION)
        assert (session.status, session.presence is not None) == ("crashed", True)
        assert wp.load_workflow_state(WORKFLOW).unwrap().step("toolu_9").status == "running"
    model = run(project, Model([says("I see.")]), "What was going on?", "--resume", SESSION)
    asked = json.dumps([each for each in model.asked if each.get("tools")])
    assert "its process died" in asked
    assert f"Bash: {WAITS}" in asked
    with waypost.open(project / ".claude/state") as wp:
        session = wp.get_session(SESSION)
        assert (session.status, session.crash_recovery_data is not None) == ("completed", True)
        assert wp.load_workflow_state(WORKFLOW).unwrap().step("toolu_9").status == "failed"


def _has_begun(project: Path, step_id: str) -> bool:
    with waypost.open(project / ".claude/state") as wp:
        found = wp.load_workflow_state(WORKFLOW)
        return found.success and any(step.id == step_id for step in found.unwrap().workflow.steps)
