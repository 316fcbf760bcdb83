"""The page about the server says what the server is."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.mcp.serving import ALL, served
from tests.mcp.test_stdio import command
from waypost.cli.mcp import mcp
from waypost.mcp import bounds, outputs, resources

PAGE = (Path(__file__).parents[2] / "docs" / "mcp.md").read_text(encoding="utf-8")


async def test_the_page_names_each_tool_resource_and_prompt(here: str) -> None:
    """Every tool stands in the table behind the flags that it needs, and nothing else does."""
    rows = re.findall(r"^\| (?:`(\w+)`|with (`.*`)) \|", PAGE, re.MULTILINE)
    named: dict[str, list[str]] = {}
    flags = ""
    for tool, behind in rows:
        flags = behind or flags
        if tool:
            named.setdefault(flags, []).append(tool)
    async with served(here) as reads, served(here, *ALL) as all_:
        reading = [tool.name for tool in (await reads.client.list_tools()).tools]
        assert named[""] == reading
        assert [tool for tools in named.values() for tool in tools] == [
            tool.name for tool in (await all_.client.list_tools()).tools
        ]
        for prompt in (await all_.client.list_prompts()).prompts:
            assert f"`{prompt.name}`" in PAGE
    for address in (resources.RUN, resources.CHECKPOINT, resources.OUTPUT):
        assert f"`{address}`" in PAGE
    assert set(re.findall(r"--[a-z-]+", " ".join(named))) == {
        option for each in mcp.params for option in each.opts if option not in ("--state", "--json")
    }


def test_the_page_says_the_bounds_as_they_are() -> None:
    """Figures on the page are those of the source."""
    assert f"about {bounds.MOST_TOKENS:,} tokens" in PAGE
    assert f"larger than {outputs.MOST_DECODED >> 20} MiB" in PAGE


def test_the_configuration_for_an_agent_calls_the_command(here: str) -> None:
    """What is to be put into `.mcp.json` is JSON, and names the command that the other tests start."""
    found = re.search(r"```json\n(.*?)\n```", PAGE, re.DOTALL)
    assert found is not None
    server = json.loads(found[1])["mcpServers"]["waypost"]
    assert [server["command"], *server["args"]] == ["waypost", "mcp"]
    assert command(here)[3] == "mcp"
