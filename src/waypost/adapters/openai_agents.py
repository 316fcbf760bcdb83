"""The OpenAI Agents SDK's `Session` on a Waypost store: the items of a conversation.

    session = WaypostSession("conversation-7", wp)
    await Runner.run(agent, "Hello", session=session)

`wp` is an open Waypost, of whatever store (docs/adapters.md, section 2). Nothing here needs the SDK itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from waypost import records
from waypost.adapters import items as lines
from waypost.adapters.access import Base, outcome, store_of
from waypost.adapters.pages import SEPARATOR, Item, Row, commit
from waypost.errors import InvalidInput
from waypost.store import DocumentId

_MINE = "openai-agents"


class WaypostSession:
    """Keeps the items of one conversation in a store. Fulfils the SDK's `Session`.

    Each call that changes it is one commit, and so one sync: all of it is there or nothing. That goes on also when the
    call is cancelled; whoever cancelled it goes on once it is done. Items come back equal to what they were, or are
    refused as InvalidValue.
    """

    def __init__(self, session_id: str, base: Base, *, session_settings: Any = None) -> None:
        """Keep a conversation in an open store, which stays open. `session_settings` is the SDK's `SessionSettings`.

        Raises InvalidId, InvalidInput.
        """
        self.session_id = records.validate_id(session_id, "session id")
        self.session_settings = session_settings
        if session_settings is not None and not hasattr(session_settings, "limit"):
            raise InvalidInput(f"session settings have a limit, and a {type(session_settings).__name__} has none")
        self._store = store_of(base)
        self._row = Row(self._store, DocumentId("thread", SEPARATOR.join((_MINE, self.session_id))), "")

    async def get_items(self, limit: int | None = None) -> list[Any]:
        """The newest `limit` items, oldest first; all where neither that nor the settings say how many.

        Raises InvalidInput, DocumentDamaged, StoreError.
        """
        if limit is None:
            limit = getattr(self.session_settings, "limit", None)
        if limit is not None and (type(limit) is not int or limit < 0):
            raise InvalidInput(f"the limit of items is a number from 0 on, not {limit!r}")
        return await outcome(partial(self._read, limit))

    async def add_items(self, items: Sequence[Any]) -> None:
        """Append items, all of them or none. Raises InvalidValue, DocumentTooLarge, StoreError."""
        batch = [Item(lines.encode(each, "item", at)) for at, each in enumerate(items)]
        if batch:
            await outcome(partial(self._row.append, batch))

    async def pop_item(self) -> Any:
        """Take the newest item away: the item, or None where there is none. Raises DocumentDamaged, StoreError."""
        found = await outcome(self._row.pop)
        return None if found is None else lines.decode(found, "item")

    async def clear_session(self) -> None:
        """Take all items away. Raises StoreError."""
        await outcome(partial(commit, self._store, self._row.clear, "clear"))

    def _read(self, limit: int | None) -> list[Any]:
        return [lines.decode(each, "item") for each in self._row.read(limit) or []]

    def __repr__(self) -> str:
        return f"<WaypostSession {self.session_id!r} at {self._store.location}>"
