"""Four agents, each a process of its own, share the steps of one workflow.

    python examples/parallel_agents.py

Nobody hands the steps out: whoever moves a step to "running" has it, and the others are told that it is taken.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from hashlib import pbkdf2_hmac
from pathlib import Path

import waypost

WORKFLOW, STEPS = "keys", [f"key-{number:02}" for number in range(24)]
AGENTS = ("ann", "bob", "cy", "dee")


def agent(state: str, name: str) -> None:
    """Take whatever step is free, until none is left."""
    with waypost.open(state) as wp:
        wp.update_agent_state(WORKFLOW, name, {"status": "active"}).unwrap()
        for step_id in STEPS:
            try:
                wp.update_step_status(WORKFLOW, step_id, "running", agent_id=name).unwrap()
            except (waypost.StepBusy, waypost.IllegalTransition):  # another agent has it, or has finished it
                continue
            key = pbkdf2_hmac("sha256", step_id.encode(), b"waypost", 20_000).hex()
            wp.update_step_status(WORKFLOW, step_id, "completed", {"by": name, "key": key}, agent_id=name).unwrap()
        wp.update_agent_state(WORKFLOW, name, {"status": "idle"}).unwrap()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = str(Path(folder) / "state")
        with waypost.open(state) as wp:
            wp.create_workflow(WORKFLOW, "Keys", steps=STEPS).unwrap()
            agents = [subprocess.Popen([sys.executable, __file__, state, name]) for name in AGENTS]
            assert [each.wait() for each in agents] == [0] * len(AGENTS)
            done = Counter(wp.get_step_output(WORKFLOW, step_id).output["by"] for step_id in STEPS)
            print(", ".join(f"{name} did {done[name]}" for name in AGENTS))
            assert sum(done.values()) == len(STEPS)


if __name__ == "__main__":
    agent(*sys.argv[1:]) if len(sys.argv) > 1 else main()
