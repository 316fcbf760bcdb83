"""Hook events of several processes, from the script or from handles of their own: all are kept, each once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.hooks.spooled import hook, is_acknowledged
from tests.hooks.support import NOW_MS, notes, tags
from waypost.hooks import spool

CONFIG = {"hooks": {"checkpoint_frequency": 5}}


def completed(number: int) -> dict[str, Any]:
    """Every other one as the README of the original writes it, the others as its hooks do."""
    if number % 2:
        data = {"stepId": f"s{number}", "status": "completed", "output": {"number": number}}
        payload = {"workflowId": "w", "sessionId": "nightly", "timestamp": NOW_MS + number, "data": data}
        return {"event": "step_complete", "payload": payload}
    data = {"step_id": f"s{number}", "output": {"number": number}}
    return {"id": f"e{number}", "type": "step.completed", "timestamp": NOW_MS / 1000, "workflow_id": "w", "data": data}


def test_trap_33_events_of_other_processes_are_folded_once(tmp_path: Path) -> None:
    """Twenty hook processes at once tell of twenty steps, some of them twice: whoever opens the store has all of them,
    each once, and one that cannot be used is set aside and told.
    """
    path = tmp_path / "state"
    with waypost.open(path, config=CONFIG) as wp:
        wp.create_workflow("w", "W", steps=[f"s{number}" for number in range(20)]).unwrap()
    events = [json.dumps(completed(number)).encode() for number in range(20)]
    events += [events[number] for number in (0, 2, 4)]  # these have an id
    events += [b'{"type": "tool.used", "workflow_id": "w", "data": {"tool_name": "Edit"}}', b"no JSON", b"{}"]
    with ThreadPoolExecutor(20) as pool:
        environment = {"WAYPOST_STATE": str(path)}
        assert all(is_acknowledged(done) for done in pool.map(lambda each: hook(each, environment=environment), events))
    assert spool.waiting(str(path)) == len(events)
    for _ in range(2):  # the second time nothing waits
        with waypost.open(path, config=CONFIG) as wp:
            state = wp.load_workflow_state("w").unwrap()
            assert [each.output for each in state.workflow.steps] == [{"number": number} for number in range(20)]
            assert (state.workflow.status, state.metadata.version) == ("completed", 1 + 20 + 1)
            assert tags(wp) == [("auto", "step_milestone")] * 4
            assert [each["event"] for each in notes(wp)] == ["tool.used"]
    assert spool.waiting(str(path)) == 0
    reasons = [each.reason for each in spool.refused(str(path))]
    assert len(reasons) == 2
    assert any("no JSON" in each for each in reasons)
    assert any("no name" in each for each in reasons)


EMITTING = """
import asyncio, sys
from waypost import initialize_workflow_state

async def main(location, first):
    state_api, hooks = await initialize_workflow_state("production", location)
    events = [
        hooks.emit_hook_event("step_complete", {"workflowId": "w", "data": {"stepId": f"s{number}", "output": number}})
        for number in range(first, first + 10)
    ]
    for result in await asyncio.gather(*events):
        result.unwrap()
    await state_api.close()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.timeout(300)
def test_trap_33_four_processes_that_emit_lose_nothing(tmp_path: Path) -> None:
    """Forty completions by four processes at once: all are kept, and so is each fifth of them, whoever made it."""
    path = tmp_path / "state"
    root = str(Path(waypost.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    with waypost.open(path) as wp:
        running = [
            subprocess.Popen([sys.executable, "-c", EMITTING, str(path), str(first)], env=environment)
            for first in range(0, 40, 10)
        ]
        assert [each.wait(240) for each in running] == [0] * 4
        state = wp.load_workflow_state("w").unwrap()
        assert {each.id: each.output for each in state.workflow.steps} == {f"s{number}": number for number in range(40)}
        assert tags(wp) == [("auto", "step_milestone")] * 8
        assert wp.validate_workflow_state("w").is_valid
