"""The commands over a store that holds conversations, and no workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.test_cli import call, call_json, here, hostile
from waypost.adapters.openai_agents import WaypostSession

__all__ = ["call", "call_json", "here"]  # fixtures


@pytest.fixture
async def conversation(here: Path) -> list[dict[str, str]]:
    """What was said in the conversation `ann`, in the store that the commands find."""
    said = [{"role": "user", "content": f"item {number} \x1b[2J"} for number in range(3)]
    async with waypost.open_async(".claude/state") as wp:
        await WaypostSession("ann", wp).add_items(said)
    return said


async def in_store(location: str) -> list[Any]:
    async with waypost.open_async(location) as wp:
        return await WaypostSession("ann", wp).get_items()


async def test_a_conversation_is_verified_weighed_and_saved(
    conversation: list[dict[str, str]], call: Any, call_json: Any
) -> None:
    """`verify` reads it, `store du` counts it, and a backup that is restored, or a store that was synced, has it."""
    assert call("verify").status == 0 and call_json("list")["total"] == 0
    usage = call_json("store", "du")
    sizes = [file.stat().st_blocks * 512 for file in Path(".claude/state/threads").iterdir()]
    assert (usage["threads"], usage["thread_bytes"]) == (len(sizes), sum(sizes))
    assert "2 threads of adapters" in call("store", "du").out
    assert call("store", "backup", "saved").status == 0
    assert call("store", "sync", "copy").status == 0
    assert await in_store("copy") == conversation
    async with waypost.open_async(".claude/state") as wp:
        await WaypostSession("ann", wp).clear_session()
    refused = call("store", "restore", "saved")
    assert refused.status != 0 and "0 workflows, 2 threads" in refused.err and await in_store(".claude/state") == []
    assert call("store", "restore", "saved", "--yes").status == 0
    assert await in_store(".claude/state") == conversation


async def test_x21_no_command_shows_what_would_steer_a_terminal(conversation: list[dict[str, str]], call: Any) -> None:
    """Also not the names of threads, which hold a control character."""
    with waypost.open("other") as wp:
        wp.sync(".claude/state").unwrap()
    async with waypost.open_async("other") as one, waypost.open_async(".claude/state") as two:
        await WaypostSession("ann", one).pop_item()
        await WaypostSession("ann", two).add_items([{"content": "\x1b[2J"}])
    shown = call("store", "sync", "other")
    assert "changed on both sides" in shown.out and "ann" in shown.out
    assert hostile(shown.out) == hostile(shown.err) == []
