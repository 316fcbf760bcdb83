"""A home-grown orchestrator that is killed in the middle of its work, and goes on where it was.

    python examples/orchestrator.py

It starts itself as a worker, which dies by SIGKILL with a step half done. Whoever comes next is told what was
finished, what was running and what never began, and finishes the rest. No finished step is done again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import waypost
from waypost import WorkflowStep

WORKFLOW = "inventory"
FOLDERS = ("json", "logging", "email", "http", "asyncio")
LIBRARY = Path(os.__file__).parent


def plan() -> list[WorkflowStep]:
    """Count each folder of the standard library, then add up."""
    counts = [WorkflowStep(id=f"count-{each}", name=f"Count {each}", max_retries=3) for each in FOLDERS]
    return [*counts, WorkflowStep(id="report", name="Report", dependencies=[step.id for step in counts])]


def work(wp: waypost.Waypost, step: WorkflowStep) -> object:
    """What a step does: the lines of a folder, or the sum of all that was counted."""
    if step.id == "report":
        return sum(wp.get_step_output(WORKFLOW, each).output for each in step.dependencies)
    return sum(len(file.read_bytes().splitlines()) for file in (LIBRARY / step.id[6:]).glob("*.py"))


def orchestrate(state: str, dies_in: str | None) -> None:
    """Do what is not finished yet, one step after the other."""
    with waypost.open(state) as wp:
        wp.create_workflow(WORKFLOW, "Inventory", steps=plan(), if_exists="open").unwrap()
        for step in wp.load_workflow_state(WORKFLOW).unwrap().workflow.steps:
            if step.is_finished:
                continue
            wp.update_step_status(WORKFLOW, step.id, "running").unwrap()
            output = work(wp, step)
            if step.id == dies_in:
                os.kill(os.getpid(), signal.SIGKILL)  # no handler runs, nothing is flushed
            wp.update_step_status(WORKFLOW, step.id, "completed", output).unwrap()
            print(f"  {step.id}: {output:,}", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = str(Path(folder) / "state")
        print("a worker that is killed in count-email:")
        killed = subprocess.run([sys.executable, __file__, state, "count-email"])
        assert killed.returncode == -signal.SIGKILL
        with waypost.open(state) as wp:
            steps = wp.load_workflow_state(WORKFLOW).unwrap().workflow.steps
            print("what it left:", ", ".join(f"{step.id} {step.status}" for step in steps))
        print("another worker:")
        subprocess.run([sys.executable, __file__, state], check=True)
        with waypost.open(state) as wp:
            commits = [commit.operation for commit in wp.history(WORKFLOW)]
            workflow = wp.load_workflow_state(WORKFLOW).unwrap().workflow
            print(f"{workflow.status} with {len(commits)} commits")


if __name__ == "__main__":
    orchestrate(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None) if len(sys.argv) > 1 else main()
