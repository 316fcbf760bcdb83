"""Conversations of the OpenAI Agents SDK: what its `Session` promises, without the SDK, and with it where it is."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import waypost
from waypost.adapters import pages
from waypost.adapters.openai_agents import WaypostSession
from waypost.errors import InvalidId, InvalidInput, InvalidValue
from waypost.store import Store


def say(number: int) -> dict[str, Any]:
    return {"role": "user", "content": f"item {number}"}


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few items fill a page."""
    monkeypatch.setattr(pages, "MOST_BATCHES", 3)


async def test_items_are_given_in_order_or_the_newest_of_them(store: Store) -> None:
    """`limit` counts from the end, and what it gives is in the order of the conversation."""
    session = WaypostSession("c", store)
    assert await session.get_items() == []
    for first in range(0, 14, 2):
        await session.add_items([say(first), say(first + 1)])
    await session.add_items([])
    everything = [say(number) for number in range(14)]
    assert await session.get_items() == everything
    for limit in (0, 1, 3, 13, 14, 15):
        assert await session.get_items(limit) == everything[14 - min(limit, 14) :]
    assert await WaypostSession("c", store).get_items(1) == [say(13)]
    assert await WaypostSession("C", store).get_items() == []


async def test_the_settings_say_how_many_where_the_call_does_not(store: Store) -> None:
    """A limit in the call is stronger."""
    session = WaypostSession("c", store, session_settings=SimpleNamespace(limit=2))
    await session.add_items([say(number) for number in range(5)])
    assert await session.get_items() == [say(3), say(4)]
    assert await session.get_items(limit=4) == [say(number) for number in range(1, 5)]
    session.session_settings = SimpleNamespace(limit=None)
    assert len(await session.get_items()) == 5
    with pytest.raises(InvalidInput, match="limit"):
        WaypostSession("c", store, session_settings={"limit": 2})
    for limit in (-1, True, "2", 1.5):
        with pytest.raises(InvalidInput, match="limit"):
            await session.get_items(limit)  # type: ignore[arg-type]


async def test_items_are_popped_from_the_end_and_cleared(store: Store) -> None:
    """A conversation that is empty gives None, and goes on when something is added."""
    session = WaypostSession("c", store)
    assert await session.pop_item() is None
    await session.clear_session()
    for number in range(9):
        await session.add_items([say(number)])
    assert [await session.pop_item() for _ in range(7)] == [say(number) for number in range(8, 1, -1)]
    await session.add_items([say(20)])
    assert await session.get_items() == [say(0), say(1), say(20)]
    await WaypostSession("c", store).clear_session()
    assert await session.get_items() == [] and await session.pop_item() is None
    await session.add_items([say(30)])
    assert await session.get_items() == [say(30)]


async def test_the_same_item_may_come_twice(store: Store) -> None:
    """Items have no identity: an id in one is not looked at."""
    session = WaypostSession("c", store)
    await session.add_items([{"id": "1", "uuid": "1"}] * 2)
    await session.add_items([{"id": "1", "uuid": "1"}])
    assert len(await session.get_items()) == 3


async def test_a_call_that_is_cancelled_adds_all_or_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told of its cancellation once the commit is made, so that nothing done after it comes before."""
    session = WaypostSession("c", store)
    await session.add_items([say(0)])
    begun, go_on = threading.Event(), threading.Event()
    append = pages.Row.append

    def slow(self: pages.Row, *args: Any) -> None:
        begun.set()
        go_on.wait(10)
        append(self, *args)

    monkeypatch.setattr(pages.Row, "append", slow)
    adding = asyncio.create_task(session.add_items([say(1), say(2)]))
    await asyncio.to_thread(begun.wait, 10)
    adding.cancel()
    await asyncio.sleep(0)
    adding.cancel()
    await asyncio.sleep(0)
    assert not adding.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert await session.get_items() == [say(0), say(1), say(2)]


async def test_of_a_batch_that_cannot_be_kept_nothing_is(store: Store) -> None:
    """The error says which item it was."""
    session = WaypostSession("c", store)
    for bad in (float("nan"), {1}, b"", (1,), {2: 3}):
        with pytest.raises(InvalidValue, match="item 1"):
            await session.add_items([say(0), {"content": bad}])
    assert await session.get_items() == [] and list(store.documents("thread")) == []


@pytest.mark.parametrize("name", ["", "a\nb", "\ud800", "x" * 513, 7, None])
def test_x09_a_name_that_no_store_can_keep_is_refused(store: Store, name: object) -> None:
    """When the session is made, not at its first item."""
    with pytest.raises(InvalidId):
        WaypostSession(name, store)  # type: ignore[arg-type]


async def test_two_who_add_at_once_lose_nothing(store: Store) -> None:
    """Each batch is whole, and stands where its commit came."""
    one, other = WaypostSession("c", store), WaypostSession("c", store)
    batches = [[say(10 * number), say(10 * number + 1)] for number in range(8)]
    await asyncio.gather(*((one, other)[at % 2].add_items(batch) for at, batch in enumerate(batches)))
    found = await one.get_items()
    assert sorted(found[::2], key=str) == sorted((batch[0] for batch in batches), key=str)
    assert all([found[at], found[at + 1]] in batches for at in range(0, 16, 2))


async def test_a_conversation_goes_on_in_the_next_process(tmp_path: Path) -> None:
    """It stands on an open Waypost of either face."""
    with waypost.open(tmp_path / "s") as wp:
        await WaypostSession("c", wp).add_items([say(0)])
    async with waypost.open_async(tmp_path / "s") as awp:
        session = WaypostSession("c", awp)
        assert await session.get_items() == [say(0)]
        assert repr(session) == f"<WaypostSession 'c' at {awp.location}>"


async def test_the_sdk_takes_it_for_a_session_and_runs_with_it(tmp_path: Path) -> None:
    """A real run with a model of our own: two turns, the second in another process's place, with limited history."""
    agents = pytest.importorskip("agents", reason="openai-agents is not installed: make adapters")
    from agents.memory import Session

    from tests.adapters.speaking import Parrot

    agents.set_tracing_disabled(True)
    with waypost.open(tmp_path / "s") as wp:
        session = WaypostSession("c", wp)
        assert isinstance(session, Session)
        parrot = Parrot()
        agent = agents.Agent(name="parrot", model=parrot)
        assert (await agents.Runner.run(agent, "one", session=session)).final_output == "1: one"
    with waypost.open(tmp_path / "s") as wp:
        session = WaypostSession("c", wp, session_settings=agents.SessionSettings(limit=1))
        assert (await agents.Runner.run(agent, "two", session=session)).final_output == "2: 1: one / two"
        assert len(await session.get_items(limit=10)) == 4
