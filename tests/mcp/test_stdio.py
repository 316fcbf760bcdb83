"""`waypost mcp` as a process: the protocol on its pipes, all else on standard error, and what stops it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, stdio_client

from tests.mcp.conftest import fill, handle
from waypost import cli
from waypost.mcp.stores import claim_name

PROGRAM = "import sys; from waypost import cli; sys.exit(cli.call(sys.argv[1:]))"
INITIALIZE = {
    "jsonrpc": "2.0", "id": 0, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}  # fmt: skip
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def command(place: str, *flags: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, "mcp", "--state", place, *flags]


def call(number: int, tool: str, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


class Process:
    """A server that is spoken to line by line."""

    def __init__(self, place: str, *flags: str) -> None:
        self.process = subprocess.Popen(
            command(place, *flags), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.ask(INITIALIZE)
        self.send(INITIALIZED)

    def send(self, message: Any) -> None:
        assert self.process.stdin is not None
        line = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def ask(self, message: Any) -> dict[str, Any]:
        assert self.process.stdout is not None
        self.send(message)
        return json.loads(self.process.stdout.readline())

    def end(self, number: int = 0) -> tuple[bytes, bytes, int]:
        """What it still says when its input ends, or it gets a signal, and its status."""
        if number:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return out, err, self.process.returncode


async def test_x17_x18_an_agent_starts_the_server_and_speaks_to_it(here: str) -> None:
    """The command that stands in an agent's configuration serves the store over its pipes."""
    server = StdioServerParameters(command=sys.executable, args=command(here, "--write")[1:])
    async with Client(stdio_client(server)) as client:
        assert len((await client.list_tools()).tools) == 12
        made = await client.call_tool("start_run", {"run_id": "w", "steps": [{"id": "a"}]})
        assert made.structured_content is not None and made.structured_content["run"]["run_id"] == "w"
        await client.call_tool("set_step", {"run_id": "w", "step_id": "a", "action": "start"})
        found = await client.read_resource("waypost://runs/w")
        assert '"status":"running"' in found.contents[0].text
    with closing(handle(here)) as wp:
        # it ended by itself when its input did, and left nobody waiting
        assert wp.get_session(claim_name("w")).status == "paused"


def test_standard_output_is_the_protocol_alone(here: str) -> None:
    """What is logged goes to standard error, and each line of standard output is a message."""
    with closing(handle(here)) as wp:
        fill(wp)
    server = Process(here)
    server.send(b"this is no JSON")
    server.send(b'{"jsonrpc": "2.0", "id": 1')
    server.send(b"\xff\xfe\x00")
    calls = (("get_run", {"run_id": "survey"}), ("no_such_tool", {}), ("get_run", {"run_id": 5}))
    answers = [server.ask(call(number, tool, **arguments)) for number, (tool, arguments) in enumerate(calls, 1)]
    assert [(each["jsonrpc"], each["id"]) for each in answers] == [("2.0", 1), ("2.0", 2), ("2.0", 3)]
    assert [each["result"].get("isError", False) for each in answers] == [False, True, True]
    out, err, status = server.end()
    assert (out, status, b"Traceback" in err) == (b"", 0, False), err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_server_that_is_stopped_frees_its_claims(here: str, number: int) -> None:
    """A server ends at a signal, and however it ends, the next one may go on with its runs at once."""
    server = Process(here, "--write")
    server.ask(call(1, "start_run", run_id="w", steps=[{"id": "a"}]))
    server.ask(call(2, "set_step", run_id="w", step_id="a", action="start"))
    *_, status = server.end(number)
    # whoever was started in the background ignores the one that a terminal sends, and ends with its input
    assert status != 0 or number == signal.SIGINT
    after = Process(here, "--write")
    answer = after.ask(call(1, "set_step", run_id="w", step_id="a", action="start"))["result"]
    assert answer["structuredContent"]["step"]["interruptions"] == 1
    assert after.end()[2] == 0


def test_two_servers_in_turn(here: str) -> None:
    """A run that one server holds is refused to another, until the first has ended."""
    first, second = Process(here, "--write"), Process(here, "--write")
    first.ask(call(1, "start_run", run_id="w", steps=[{"id": "a"}, {"id": "b"}]))
    busy = second.ask(call(1, "set_step", run_id="w", step_id="a", action="start"))["result"]
    assert busy["isError"] and "session_busy" in busy["content"][0]["text"]
    assert first.end()[2] == 0
    free = second.ask(call(2, "set_step", run_id="w", step_id="a", action="start"))["result"]
    assert not free.get("isError")
    second.end()


@pytest.mark.parametrize("flag", ["--allow-restore", "--allow-delete"])
def test_x18_what_takes_back_goes_with_write(here: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A flag that allows more than writing is refused without --write."""
    assert cli.call(["mcp", "--state", here, flag]) == 2
    assert "go with --write" in capsys.readouterr().err


def test_a_store_in_memory_is_served_to_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """What ends with its process is refused at once, with what to do."""
    assert cli.call(["mcp", "--state", "memory:"]) == 2
    assert "name a directory" in capsys.readouterr().err


def test_without_the_extra_the_command_says_what_is_missing(tmp_path: Path) -> None:
    """Who has not installed the extra is told how, and everything else works without it."""
    (tmp_path / "mcp").mkdir()
    (tmp_path / "mcp" / "__init__.py").write_text("raise ModuleNotFoundError('no module', name='mcp')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-c", PROGRAM, *words]
        return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60, check=False)

    missing = run("mcp", "--state", str(tmp_path / "store"))
    assert (missing.returncode, missing.stdout) == (5, "")
    assert "pip install 'waypost[mcp]'" in missing.stderr and "Traceback" not in missing.stderr
    assert "--allow-restore" in run("mcp", "--help").stdout
    import waypost

    assert run("--version").stdout.endswith(f"{waypost.__version__}\n")
