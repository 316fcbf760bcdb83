"""A server and a client of it in one process, and what the client is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp import Client

from waypost.cli.invocation import Invocation
from waypost.mcp.server import Allowed, build
from waypost.mcp.stores import Stores

ALL: tuple[Allowed, ...] = ("write", "restore", "delete")


class Served:
    """A client whose answers are looked at."""

    def __init__(self, client: Client, stores: Stores) -> None:
        self.client = client
        self.stores = stores

    async def ok(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """What a tool gives, which says the same as text and as data, and fits what it promises to be."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content[0].text
        assert result.structured_content == json.loads(result.content[0].text)
        return result.structured_content

    async def refused(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The error that a call ends in, which says what to do next."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result.content[0].text
        error = json.loads(result.content[0].text)["error"]
        assert set(error) == {"code", "message", "retryable", "next"} and error["next"].endswith(".")
        return error

    async def resource(self, address: str) -> dict[str, Any]:
        """What a resource holds."""
        found = await self.client.read_resource(address)
        assert found.contents[0].mime_type == "application/json"
        return json.loads(found.contents[0].text)

    async def prompt(self, name: str, **arguments: str) -> tuple[str, dict[str, Any]]:
        """What a prompt asks for, and the data in it."""
        found = await self.client.get_prompt(name, arguments)
        assert [message.role for message in found.messages] == ["user"]
        request, _, data = found.messages[0].content.text.partition("\n\nData, one line of JSON:\n")
        assert "\n" not in data
        return request, json.loads(data)


@asynccontextmanager
async def served(place: Path | str, *allowed: Allowed) -> AsyncIterator[Served]:
    """A server over the store at a place that may do what is allowed, with a client."""
    stores = Stores(Invocation(str(place)))
    try:
        async with Client(build(stores, allowed)) as client:
            yield Served(client, stores)
    finally:
        stores.close()
