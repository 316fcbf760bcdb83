"""A coding agent that is killed in the middle of a command: the next one is told what was done, and what was not.

    python examples/claude_code.py

`waypost agent install` puts hooks into the settings of a project. Claude Code itself is not needed here: a program
stands in for it, reads those settings, and runs their hooks as Claude Code does, with an event on standard input.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SESSION = "0b6f7c1e-5d1a-4a6e-9f5e-2f2f6a3f9d10"
SETTINGS = Path(".claude", "settings.local.json")


def run_hooks(project: Path, event: str, **fields: object) -> str:
    """What the hooks of an event say to the agent."""
    settings = json.loads((project / SETTINGS).read_text())
    payload = {"hook_event_name": event, "session_id": SESSION, "cwd": str(project), **fields}
    environment = {**os.environ, "CLAUDE_PROJECT_DIR": str(project), "CLAUDE_PID": str(os.getpid())}
    said = ""
    for hook in [hook for group in settings["hooks"][event] for hook in group["hooks"]]:
        command = [hook["command"], *hook["args"]]
        done = subprocess.run(
            command,
            input=json.dumps(payload),
            text=True,
            stdout=subprocess.PIPE,
            cwd=project,
            env=environment,
            check=True,
        )
        if done.stdout:
            said += json.loads(done.stdout)["hookSpecificOutput"]["additionalContext"]
    return said


def be_the_agent(project: Path) -> None:
    """Two commands of one turn; the process dies in the second."""
    turn = {"prompt_id": "prompt-1"}
    run_hooks(project, "SessionStart", source="startup")
    run_hooks(project, "UserPromptSubmit", prompt="Build it and run the tests", **turn)
    for number, command in enumerate(["make build", "make test"]):
        call = {"tool_name": "Bash", "tool_input": {"command": command}, "tool_use_id": f"toolu_{number}", **turn}
        run_hooks(project, "PreToolUse", **call)
        if command == "make test":
            os.kill(os.getpid(), signal.SIGKILL)
        run_hooks(project, "PostToolUse", tool_response="built", **call)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        waypost = [sys.executable, "-m", "waypost"]
        subprocess.run([*waypost, "agent", "install", "claude-code", "--detail", "--yes"], cwd=project, check=True)
        killed = subprocess.run([sys.executable, __file__, str(project)])
        assert killed.returncode == -signal.SIGKILL
        print("\nwhat the next agent is told at its start:\n")
        print(run_hooks(project, "SessionStart", source="startup", session_id="another"))
        print("\nwhat a person is told:\n", flush=True)
        subprocess.run([*waypost, "resume"], cwd=project, check=True)


if __name__ == "__main__":
    be_the_agent(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
