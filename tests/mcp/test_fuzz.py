"""Hostile bodies for the server, as bytes on the pipe of a process (T9): answers or documented errors, no crash."""

from __future__ import annotations

import json
import random
import threading
from contextlib import closing
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from tests.crash.fuzzing import Reader, damaged
from tests.mcp.conftest import fill, handle
from tests.mcp.test_stdio import INITIALIZE, INITIALIZED, call, command
from tests.seeds import SEED
from waypost.errors import WaypostError

INPUTS = 800
AT_ONCE = 20

_TEXTS = ("../../etc/passwd", "/", "", "\x00", "\x1b[2J", "\u202e", "x" * 600, "survey@1", "'; DROP TABLE x; --")
_WORDS = (b"null", b"true", b"-1", b"1e400", b"NaN", b"9" * 400, b"[]", b"{}", b'{"a":' * 300, b"\\ud800", b"\xc3\x28")
WORDS = (*(json.dumps(text).encode() for text in _TEXTS), *_WORDS)


def bodies(kept: str) -> list[bytes]:
    """One valid body for each thing that can be asked."""
    run = {"run_id": "survey"}
    step = {**run, "step_id": "parse"}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("status", {}),
        ("list_runs", {"status": ["failed"], "since": "2026-01-01T00:00:00Z", "limit": 5, "cursor": ""}),
        ("get_run", {**run, "depth": "full"}),
        ("list_steps", {**run, "status": ["pending"], "cursor": "WyJzdGVwcyIsIDFd"}),
        ("get_output", {**run, "step_id": "fetch", "offset": 0, "limit": 10}),
        ("list_checkpoints", {**run, "cursor": "WyIyMDI2LTAxLTAxVDAwOjAwOjAwKzAwOjAwIiwgMV0"}),
        ("diff", {"a": "survey@1", "b": kept, "cursor": "WyJkaWZmIiwgMV0"}),
        ("resume_plan", run),
        ("start_run", {"run_id": "new", "steps": [{"id": "a"}, {"id": "b", "depends_on": ["a"], "max_retries": 1}]}),
        ("set_step", {**step, "action": "start", "operation_id": "op", "agent_id": "me"}),
        ("set_step", {**step, "action": "fail", "error": "no", "output": {"a": [1, None, 2.5]}}),
        ("save_checkpoint", {**run, "description": "d", "tags": ["t"], "notes": {"k": [1]}}),
        ("claim_run", {**run, "action": "take_over"}),
        ("restore_checkpoint", {"checkpoint_id": kept, "confirm": kept}),
        ("delete_run", {"run_id": "new", "confirm": "new"}),
    ]
    messages: list[dict[str, Any]] = [call(1, tool, **arguments) for tool, arguments in calls]
    for method, params in (
        ("resources/read", {"uri": "waypost://runs/survey/outputs/fetch"}),
        ("prompts/get", {"name": "resume", "arguments": run}),
        ("tools/list", {"cursor": "x"}),
        ("notifications/cancelled", {"requestId": 1, "reason": "r"}),
    ):
        messages.append({"jsonrpc": "2.0", "id": 2, "method": method, "params": params})
    return [json.dumps(message).encode() for message in messages]


class Fuzzed:
    """A server that is sent anything, and asked now and then whether it is there."""

    def __init__(self, place: str, log: Path) -> None:
        with log.open("wb") as err:
            flags = ("--write", "--allow-restore", "--allow-delete")
            self.process = Popen(command(place, *flags), stdin=PIPE, stdout=PIPE, stderr=err)
        self.answers: list[dict[str, Any]] = []
        self._writing: threading.Thread | None = None
        self.send(json.dumps(INITIALIZE).encode(), json.dumps(INITIALIZED).encode())
        self.is_there(0)

    def send(self, *lines: bytes) -> None:
        # in a thread of its own, since both pipes may be full, and behind what was sent before
        self._writing = threading.Thread(
            target=self._write, args=(self._writing, b"".join(b"%b\n" % each for each in lines))
        )
        self._writing.start()

    def _write(self, before: threading.Thread | None, data: bytes) -> None:
        if before is not None:
            before.join()
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def is_there(self, number: int) -> None:
        """Read what it says until it has answered a call that is sent now."""
        self.send(json.dumps({**call(0, "status"), "id": f"there-{number}"}).encode())
        assert self.process.stdout is not None
        while True:
            line = self.process.stdout.readline()
            assert line, f"the server is gone; WAYPOST_TEST_SEED={SEED}"
            self.answers.append(json.loads(line))
            if self.answers[-1].get("id") == f"there-{number}":
                assert not self.answers[-1]["result"].get("isError"), self.answers[-1]
                return


def codes() -> set[str]:
    """The codes of all errors that are documented."""
    found, waiting = set[str](), [WaypostError]
    while waiting:
        kind = waiting.pop()
        found.add(kind.code)
        waiting += kind.__subclasses__()
    return found


def complaint(answer: dict[str, Any]) -> str | None:
    """What is wrong with an answer: an error that is neither the protocol's nor documented."""
    if "error" in answer:
        code, said = answer["error"]["code"], answer["error"]["message"]
        is_ours = said.startswith("{") and json.loads(said)["error"]["code"] in codes()
        is_ours = is_ours or said.startswith("Unknown prompt")  # to which the package gives the code 0
        return None if is_ours or code in (-32700, -32600, -32601, -32602) else f"error {code}: {said}"
    if not answer.get("result", {}).get("isError"):
        return None
    said = answer["result"]["content"][0]["text"]
    if said.startswith("Unknown tool"):
        return None
    return None if said.startswith("{") and json.loads(said)["error"]["code"] in codes() else said


@pytest.mark.timeout(600)
def test_t09_hostile_bodies_end_in_documented_errors(here: str, tmp_path: Path) -> None:
    """Whatever is on the pipe, the server answers or refuses as it is documented, goes on, and the store is whole."""
    with closing(handle(here)) as wp:
        kept = fill(wp)
    print(f"WAYPOST_TEST_SEED={SEED} make test ARGS=tests/mcp/test_fuzz.py")
    reader = Reader("mcp", lambda data: None, bodies(kept), words=WORDS)
    rng = random.Random(f"{SEED}mcp")
    server = Fuzzed(here, tmp_path / "log")
    server.send(*reader.valid)
    server.is_there(1)
    for number in range(INPUTS // AT_ONCE):
        server.send(*[damaged(rng, reader) for _ in range(AT_ONCE)])
        server.is_there(number + 2)
    server.process.communicate(timeout=60)
    told = (tmp_path / "log").read_text(errors="replace")
    wrong = [said for answer in server.answers if (said := complaint(answer)) is not None]
    assert not wrong, f"{wrong[:5]}; WAYPOST_TEST_SEED={SEED}\n{told[-4000:]}"
    assert "unexpected exception" not in told, f"WAYPOST_TEST_SEED={SEED}\n{told[-4000:]}"
    with closing(handle(here)) as wp:
        assert wp.validate_workflow_state("survey").is_valid
