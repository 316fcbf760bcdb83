"""What the kernel is really asked to do for a step, counted by strace; and what a process weighs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

UPDATES = 600
STEP_UPDATES = """
import os, sys
import waypost
count = int(sys.argv[2])
with waypost.open(sys.argv[1], config={"checkpoints": {"post_step": sys.argv[4] == "kept", "initial": False}}) as wp:
    steps = [waypost.WorkflowStep(id=f"step{n}", name="a step", agent_id="agent") for n in range(count)]
    wp.create_workflow("wf", "A workflow", None, steps).unwrap()
    wp.update_step_status("wf", "step0", "running").unwrap()
    os.write(1, b"BEGIN")
    for n in range(int(sys.argv[3])):
        name = f"step{n % count}"
        if n < count:
            wp.update_step_status("wf", name, "completed", {"rows": n, "text": "output " * 20}).unwrap()
        else:
            wp.add_step_output("wf", name, {"rows": n, "text": "output " * 20}).unwrap()
    os.write(1, b"END")
"""
WORKING_SET = """
import sys
import waypost
with waypost.open(sys.argv[1]) as wp:
    steps = [waypost.WorkflowStep(id=f"step{n}", name="a step of some length", agent_id="agent") for n in range(1000)]
    wp.create_workflow("wf", "A workflow", None, steps).unwrap()
    for n in range(1000):
        wp.update_step_status("wf", f"step{n}", "running").unwrap()
        wp.update_step_status("wf", f"step{n}", "completed", {"rows": n, "text": "output %d " % n * 120}).unwrap()
    state = wp.load_workflow_state("wf").unwrap()
    assert state.workflow.status == "completed"
    assert len([output.output for output in state.outputs.values()]) == 1000
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(line.split()[1])
"""


def environment():
    return {**os.environ, "PYTHONPATH": "src"}


WRITING = "pwrite64,pwritev,pwritev2,fdatasync,fsync,sync_file_range,ftruncate,rename,renameat,unlinkat"


def traced(tmp_path, steps, kept, calls=WRITING):
    """What was asked of the kernel between the marks: (call, file), for each."""
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-qq", "-o", str(trace), "-e", f"trace={calls},write"]
    interpreter = subprocess.check_output(
        [sys.executable, "-c", "import sys; print(sys.executable)"], text=True
    ).strip()
    subprocess.run(
        [*command, interpreter, "-c", STEP_UPDATES, str(tmp_path / "store"), str(steps), str(UPDATES), kept],
        env=environment(),
        check=True,
        stdout=subprocess.PIPE,
    )
    text = trace.read_text()
    between = text[text.index('"BEGIN"') : text.index('"END"')]
    return re.findall(r"^\d+ +(\w+)\(\d+<([^>]*)>", between, re.MULTILINE)


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize("steps", [10, 1000, 10_000])
def test_t21_a_step_update_is_one_positioned_write_and_one_sync(tmp_path, steps):
    """At 10 and at 10,000 steps an update is one pwrite and one fdatasync; upkeep adds at most one write in 50."""
    calls = [name for name, _ in traced(tmp_path, steps, "apart")]
    counted = {name: calls.count(name) for name in set(calls) - {"write"}}
    print(steps, counted)
    assert counted.pop("fdatasync") == UPDATES
    assert UPDATES <= counted.pop("pwrite64") <= UPDATES + UPDATES // 50
    assert counted == {}


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_t21_an_update_with_a_checkpoint_is_one_write_and_one_sync_of_its_log(tmp_path):
    """The checkpoint rides in the commit. What writes it out touches other files, and the log only to sync it."""
    calls = [(name, file) for name, file in traced(tmp_path, 1000, "kept") if file.endswith("wf.state")]
    counted = {name: [each for each, _ in calls].count(name) for name in {each for each, _ in calls}}
    print(counted)
    assert UPDATES <= counted.pop("fdatasync") <= UPDATES + UPDATES // 50
    assert UPDATES <= counted.pop("pwrite64") <= UPDATES + UPDATES // 50
    assert counted == {}


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_t21_an_update_does_not_ask_when_its_log_was_changed(tmp_path):
    """Who asks for the times of a file makes its next sync slower (`statx`): an update asks for the log's name once,
    without them.
    """
    asked = [(name, file) for name, file in traced(tmp_path, 1000, "apart", "stat,fstat,newfstatat,statx")]
    assert UPDATES <= [name for name, _ in asked].count("statx") <= UPDATES + UPDATES // 50
    assert not [file for name, file in asked if name != "statx" and (file.endswith("wf.state") or "workflows" in file)]


def test_a_process_that_works_on_a_thousand_steps_stays_under_fifty_mb(tmp_path):
    """The most memory that such a process ever held resident is below 50 MB."""
    command = [sys.executable, "-c", WORKING_SET, str(tmp_path / "store")]
    peak_kb = int(subprocess.check_output(command, env=environment(), text=True))
    print(f"{peak_kb / 1024:.1f} MB")
    assert peak_kb < 50 * 1024
