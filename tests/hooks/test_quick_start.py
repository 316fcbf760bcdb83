"""The original's quick start, as it stands in ours: it works, and its process ends."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import waypost

QUICK_START = '''
from waypost import initialize_workflow_state, WorkflowStep

state_api, hook_integrator = await initialize_workflow_state("development")      # or "production", "high_throughput"
session = await state_api.start_session("user123")
await state_api.create_workflow("my_workflow", "My Workflow", session.session_id,
                                [WorkflowStep(id="step1", name="Initialize", agent_id="agent1", max_retries=3)])
await state_api.update_step_status("my_workflow", "step1", "completed", {"result": "success"})
await state_api.create_checkpoint("my_workflow", "Milestone reached", ["milestone"])
await state_api.end_session(session.session_id)
await state_api.close()
'''  # fmt: skip
"""Word for word as it is promised."""


def run(code: str, where: Path) -> str:
    """What a program prints in a process of its own, which must end by itself and complain of nothing."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WAYPOST_")}
    environment["PYTHONPATH"] = str(Path(waypost.__file__).parent.parent)
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def within_main(code: str) -> str:
    return f"import asyncio\nasync def main():\n{textwrap.indent(code, '    ')}\nasyncio.run(main())\n"


@pytest.mark.parametrize("environment", ["development", "production", "high_throughput"])
def test_trap_01_the_quick_start(tmp_path: Path, environment: str) -> None:
    """In an empty directory: each operation succeeds, every checkpoint that is listed restores, progress is 100, the
    session has ended, and the process ends by itself.
    """
    run(within_main(QUICK_START.replace('"development"', f'"{environment}"', 1)), tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == [".claude"]
    with waypost.open(tmp_path / ".claude" / "state") as wp:
        state = wp.load_workflow_state("my_workflow").unwrap()
        assert (state.workflow.progress, state.workflow.status) == (100, "completed")
        assert (state.step("step1").output, state.step("step1").agent_id) == ({"result": "success"}, "agent1")
        (session,) = wp.list_sessions().items
        assert (session.status, session.user_id, session.completed_workflows) == (
            "completed",
            "user123",
            ["my_workflow"],
        )
        listed = wp.list_checkpoints("my_workflow").items
        assert [each.tags for each in listed] == [("milestone",), (), ("initial",)]
        for checkpoint in reversed(listed):
            restored = wp.restore_from_checkpoint(checkpoint.id).unwrap()
            assert restored.workflow == checkpoint.state.workflow
        assert restored.workflow.progress == 100


def test_trap_01_events_of_the_original_in_a_fresh_process(tmp_path: Path) -> None:
    """The original's own events, emitted and listened to: they act, listeners hear of them, and a listener that hangs
    keeps no process from ending.
    """
    code = """
import threading, time
from waypost import create_state_hook_integrator, create_workflow_state_api

state_api = await create_workflow_state_api()
hook_integrator = create_state_hook_integrator(state_api, {
    "enable_auto_checkpoints": True, "checkpoint_frequency": 5,
    "enable_performance_tracking": True, "enable_crash_recovery": True,
}, listener_timeout_s=0.2)

async def listen(event):
    print(event.event, event.workflow_id, dict(event.fields))

hook_integrator.register_hook_listener("step_complete", listen)
hook_integrator.register_hook_listener("step_complete", lambda event: threading.Event().wait())
session = await state_api.start_session()
common = {"workflowId": "w", "sessionId": session.session_id, "timestamp": int(time.time() * 1000)}
for event, data in (
    ("workflow_start", {"workflowName": "My Workflow", "status": "started"}),
    ("step_complete", {"stepId": "step1", "status": "completed", "output": {"result": "success"}}),
):
    (await hook_integrator.emit_hook_event(event, {**common, "data": data})).unwrap()
await hook_integrator.shutdown()
await state_api.close()
"""
    # what hangs is logged, which goes to standard error where nothing else is set up
    quiet = "import logging\nlogging.getLogger('waypost').addHandler(logging.NullHandler())\n"
    printed = run(quiet + within_main(code), tmp_path)
    assert printed.split(" {")[0] == "step_complete w"
    with waypost.open(tmp_path / ".claude" / "state") as wp:
        state = wp.load_workflow_state("w").unwrap()
        assert (state.workflow.name, state.workflow.progress) == ("My Workflow", 100)


def test_trap_01_importing_all_names_makes_nothing(tmp_path: Path) -> None:
    """Neither `import waypost` nor loading its names makes a file, a thread or a timer."""
    code = """
import os, threading
import waypost
from waypost import *
print(threading.active_count(), os.listdir("."))
"""
    assert run(code, tmp_path).strip() == "1 []"
