"""Payloads of a coding agent as its hooks get them, and ways to hand them over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from waypost import clock
from waypost.agents.taking import take
from waypost.blocking import Waypost
from waypost.hooks import spool
from waypost.hooks.entries import Entry

SESSION = "5f0c1a52-0f8e-4b6b-9d3e-1f6f7a1f0001"
WORKFLOW = f"claude-{SESSION}"
PROMPT = "8c1d7a90-3a34-4c5e-8f2e-0e4f9c0b0001"
T0_US = 1_760_000_000_000_000

Payload = dict[str, Any]


def payload(event: str, *, session: str = SESSION, prompt: str | None = PROMPT, **fields: Any) -> Payload:
    """An event as Claude Code 2.1.330 sends it."""
    turn = {} if prompt is None else {"prompt_id": prompt, "permission_mode": "default", "effort": {"level": "medium"}}
    return {
        "session_id": session,
        "transcript_path": f"/home/u/.claude/projects/-home-u-proj/{session}.jsonl",
        "cwd": "/home/u/proj",
        **turn,
        "hook_event_name": event,
        **fields,
    }


def started(source: str = "startup", **fields: Any) -> Payload:
    return payload("SessionStart", prompt=None, source=source, **fields)


def prompted(text: str = "Mend the parser", prompt_id: str = PROMPT, **fields: Any) -> Payload:
    return {**payload("UserPromptSubmit", prompt=prompt_id, **fields), "prompt": text}


def bash(number: int, command: str, event: str = "PreToolUse", **fields: Any) -> Payload:
    given = {"tool_name": "Bash", "tool_input": {"command": command}, "tool_use_id": f"toolu_{number}"}
    return payload(event, **given, **fields)


def bash_done(number: int, command: str, **fields: Any) -> Payload:
    response = {"stdout": "hi", "stderr": "", "interrupted": False, "isImage": False}
    return bash(number, command, "PostToolUse", tool_response=response, duration_ms=113, **fields)


def bash_failed(number: int, command: str, **fields: Any) -> Payload:
    more = {"error": "Exit code 3", "is_interrupt": False, "duration_ms": 38, **fields}
    return bash(number, command, "PostToolUseFailure", **more)


def batch(*numbers: int, response: str = "hi") -> Payload:
    calls = [
        {
            "tool_name": "Bash",
            "tool_input": {"command": f"echo {number}"},
            "tool_use_id": f"toolu_{number}",
            "tool_response": response,
        }
        for number in numbers
    ]
    return payload("PostToolBatch", tool_calls=calls)


def subagent_started(agent_id: str = "a6c2c6a02c662bfe8") -> Payload:
    return payload("SubagentStart", agent_id=agent_id, agent_type="general-purpose")


def subagent_stopped(agent_id: str = "a6c2c6a02c662bfe8", message: str = "subagent done: 42") -> Payload:
    return payload(
        "SubagentStop",
        agent_id=agent_id,
        agent_type="general-purpose",
        stop_hook_active=False,
        agent_transcript_path=f"/home/u/.claude/projects/-home-u-proj/{SESSION}/subagents/agent-{agent_id}.jsonl",
        last_assistant_message=message,
        background_tasks=[],
        session_crons=[],
    )


def stopped(message: str = "All done.", tasks: Iterable[Mapping[str, str]] = (), **fields: Any) -> Payload:
    more = {"stop_hook_active": False, "background_tasks": list(tasks), "session_crons": []}
    return payload("Stop", last_assistant_message=message, **{**more, **fields})


def ended(reason: str = "other") -> Payload:
    return payload("SessionEnd", reason=reason)


def one_real_run() -> list[Payload]:
    """The order of events in one real run, but for what never comes: nothing is left open."""
    agent = "a6c2c6a02c662bfe8"
    task = {"tool_name": "Agent", "tool_input": {"description": "compute"}, "tool_use_id": "toolu_3"}
    return [
        started(),
        prompted(),
        bash(1, "echo 1"),
        bash_done(1, "echo 1"),
        batch(1),
        bash(2, "exit 3"),
        bash_failed(2, "exit 3"),
        payload("PreToolUse", **task),
        subagent_started(agent),
        bash(4, "echo 4", agent_id=agent, agent_type="general-purpose"),
        bash_done(4, "echo 4", agent_id=agent, agent_type="general-purpose"),
        subagent_stopped(agent),
        payload("PostToolUse", **task, tool_response={"content": "42"}),
        batch(3),
        payload("TaskCreated", task_id="1", task_subject="Write the test"),
        payload("TaskCompleted", task_id="1", task_subject="Write the test"),
        payload("Notification", notification_type="idle_prompt", message="Claude is waiting"),
        stopped(),
        ended(),
    ]


# --- handing them over ---


def entry(
    given: Mapping[str, Any] | bytes,
    number: int,
    *,
    seconds: float | None = None,
    variables: Mapping[str, str] | None = None,
    dialect: str = "claude-code",
) -> Entry:
    """An event of the spool that came so many seconds after the first, by default as many as its number."""
    data = given if isinstance(given, bytes) else json.dumps(given).encode()
    after = number if seconds is None else seconds
    return Entry(f"event{number:05}", dialect, data, variables or {}, T0_US + int(after * 1_000_000))


class Feeder:
    """Hands events to the taker one after the other, one a second."""

    def __init__(self, wp: Waypost) -> None:
        self.wp = wp
        self.number = 0

    def __call__(
        self,
        *given: Mapping[str, Any] | bytes,
        seconds: float | None = None,
        variables: Mapping[str, str] | None = None,
        dialect: str = "claude-code",
    ) -> None:
        for each in given:
            self.number += 1
            take(
                self.wp.definitions,
                entry(each, self.number, seconds=seconds, variables=variables, dialect=dialect),
            )


def variables_of(pid: int, *, start: int | None = None) -> dict[str, str]:
    """What a hook notes of the agent's process."""
    here = clock.process_identity()
    ticks = clock.start_ticks(pid) if start is None else start
    return {
        "CLAUDE_PID": str(pid),
        "agent_start": str(ticks),
        "boot": here.boot,
        "host": here.host,
        "pid_namespace": here.namespace,
    }


@contextmanager
def agent() -> Iterator[subprocess.Popen[bytes]]:
    """A process that can be taken for an agent, until it is killed."""
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def hook(state: Path, given: Mapping[str, Any] | bytes, *, pid: int | None = None) -> subprocess.Popen[bytes]:
    """A hook process as an agent starts it, with its event on the way."""
    environment = {"PATH": os.environ["PATH"], "CLAUDE_CODE_MESSAGING_TOKEN": "secret-token"}
    if pid is not None:
        environment["CLAUDE_PID"] = str(pid)
    command = [sys.executable, "-I", "-S", spool.script_path(), "--dialect", "claude-code"]
    process = subprocess.Popen(
        [*command, "--spool", str(state / "spool")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdin is not None
    try:
        process.stdin.write(given if isinstance(given, bytes) else json.dumps(given).encode())
    except BrokenPipeError:
        pass
    return process


def finish(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """A hook's exit status, and what it printed."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err
