"""A server that reads leaves the store as it was, byte for byte, whatever it is asked for."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.mcp.conftest import fill, handle
from tests.mcp.serving import served
from tests.mcp.test_reads import READS


def contents(folder: str) -> dict[str, tuple[bytes | None, int, int]]:
    """Every file and folder, with what is in it, its mode, and when it was last changed."""
    found: dict[str, tuple[bytes | None, int, int]] = {}
    for path in sorted(Path(folder).rglob("*")):
        facts = path.lstat()
        found[str(path)] = (path.read_bytes() if path.is_file() else None, facts.st_mode, facts.st_mtime_ns)
    return found


def calls(kept: str) -> list[tuple[str, dict[str, Any]]]:
    """Each tool that reads, as it is meant and as it is not."""
    run = {"run_id": "survey"}
    return [
        ("status", {}),
        ("list_runs", {}),
        ("list_runs", {"status": ["failed"], "since": "2001-01-01T00:00:00Z", "limit": 1}),
        ("get_run", {**run, "depth": "full"}),
        ("get_run", {"run_id": "none"}),
        ("list_steps", run),
        ("get_output", {**run, "step_id": "fetch"}),
        ("get_output", {**run, "step_id": "count"}),
        ("list_checkpoints", run),
        ("diff", {"a": kept, "b": "survey"}),
        ("resume_plan", run),
        ("resume_plan", {"run_id": "none"}),
    ]


async def test_d15_x18_tools_that_read_change_no_byte(here: str) -> None:
    """No tool, resource or prompt makes, changes or touches a file, also where the server might write."""
    with closing(handle(here)) as wp:
        kept = fill(wp)
    before = contents(here)
    assert before and {tool for tool, _ in calls(kept)} == set(READS)
    for allowed in ((), ("write", "restore", "delete")):
        async with served(here, *allowed) as agent:
            for tool, arguments in calls(kept):
                await agent.client.call_tool(tool, arguments)
                assert contents(here) == before, tool
            await agent.resource("waypost://runs/survey")
            await agent.resource("waypost://runs/survey/outputs/fetch")
            await agent.prompt("resume")
        assert contents(here) == before


async def test_d15_a_store_that_may_not_be_written_is_read(here: str) -> None:
    """Reading needs no right to write, and makes no store where there is none."""
    async with served(here) as agent:
        await agent.ok("status")
        assert not os.path.exists(here)
        with closing(handle(here)) as wp:
            fill(wp)
        seen = contents(here)
        await agent.ok("resume_plan", run_id="survey")
        assert contents(here) == seen
