"""Watching on the asynchronous face: nothing blocks the loop, nothing is lost to a cancellation, no thread is left."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest

from waypost.api import AsyncWaypost
from waypost.blocking import Waypost
from waypost.errors import InvalidInput, StoreClosed
from waypost.watches import AsyncWatch
from waypost.watching import CommitEvent, Watch


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("waypost-watch")]


async def told(watch: AsyncWatch, count: int) -> list[str]:
    """The next so many events, and no more."""
    found = [await watch.get(60) for _ in range(count)]
    assert await watch.get(0.3) is None
    return [f"{event.workflow_id}@{event.version}" for event in found if event]


async def test_it_tells_what_the_blocking_face_tells(wp: Waypost, awp: AsyncWaypost) -> None:
    """Both faces tell the same events of the same commits, and take each other's cursors."""
    blocking = wp.watch()
    async with awp.watch() as watch:
        await awp.create_workflow("w", "w", steps=["s"])
        await awp.update_step_status("w", "s", "running")
        found = [await watch.get(60), await watch.get(60)]
        assert found == [blocking.get(60), blocking.get(60)]
        assert watch.cursor == blocking.cursor
    async with awp.watch("w", cursor=found[0].cursor if found[0] else None) as again:
        assert await told(again, 1) == ["w@2"]


async def test_it_begins_when_it_is_entered(awp: AsyncWaypost) -> None:
    """What was committed before is not told, what is committed after is."""
    await awp.create_workflow("before", "before")
    watch = awp.watch()
    assert watch.cursor is None
    async with watch:
        await awp.create_workflow("after", "after")
        assert await told(watch, 1) == ["after@1"]
    assert not threads()


async def test_waiting_never_blocks_the_loop(awp: AsyncWaypost) -> None:
    """While one task waits for an event, others run."""
    async with awp.watch() as watch:
        waiting = asyncio.ensure_future(anext(watch))
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert not waiting.done()
        await awp.create_workflow("w", "w")
        assert (await waiting).workflow_id == "w"


async def test_an_event_is_not_lost_to_a_cancellation(awp: AsyncWaypost) -> None:
    """Whoever stops waiting, be it by a timeout, is given the event the next time; each comes once."""
    found: list[CommitEvent] = []
    async with awp.watch() as watch:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(watch), 0.05)
        for number in range(10):
            await (awp.update_context("w", variables={"n": number}) if number else awp.create_workflow("w", "w"))
            while len(found) <= number:
                waiting = asyncio.ensure_future(anext(watch))
                await asyncio.sleep(0.001 * number)
                waiting.cancel()
                try:
                    found.append(await waiting)
                except asyncio.CancelledError:
                    await asyncio.sleep(0.01)
    assert [event.version for event in found] == list(range(1, 11))
    assert not threads()


async def test_several_tasks_are_given_each_event_once(awp: AsyncWaypost) -> None:
    """Tasks that share a watch are given different events, and what one of them gives up is the next one's."""
    found: list[int] = []

    async with awp.watch() as watch:

        async def take() -> None:
            while (event := await watch.get(3)) is not None:
                found.append(event.version)

        takers = [asyncio.ensure_future(take()) for _ in range(3)]
        await asyncio.sleep(0.05)
        takers[0].cancel()
        await awp.create_workflow("w", "w")
        for number in range(9):
            await awp.update_context("w", variables={"n": number})
        outcomes = await asyncio.gather(*takers, return_exceptions=True)
    assert [type(each) for each in outcomes] == [asyncio.CancelledError, type(None), type(None)]
    assert found == list(range(1, 11))
    assert not threads()


async def test_a_task_waits_for_its_turn_no_longer_than_it_says(awp: AsyncWaypost) -> None:
    """While another task waits for an event, one with a time limit ends at that."""
    async with awp.watch() as watch:
        waiting = asyncio.ensure_future(watch.get())
        await asyncio.sleep(0.05)
        assert await asyncio.wait_for(watch.get(0.05), 0.9) is None
        await awp.create_workflow("w", "w")
        event = await waiting
        assert event is not None and event.version == 1


async def test_closing_ends_what_waits(awp: AsyncWaypost) -> None:
    """A task that waits ends when the watch is closed in another, and so does the thread."""
    watch = awp.watch()

    async def listen() -> list[CommitEvent]:
        return [event async for event in watch]

    task = asyncio.ensure_future(listen())
    await asyncio.sleep(0.05)
    await watch.close()
    assert await asyncio.wait_for(task, 60) == []
    assert not threads()
    await watch.close()
    assert await watch.get() is None


async def test_closing_the_handle_ends_it(awp: AsyncWaypost) -> None:
    """A watch ends with its handle, without an error, and its thread too."""
    watch = awp.watch()
    await awp.create_workflow("w", "w")
    async with watch:
        waiting = asyncio.ensure_future(watch.get())
        await asyncio.sleep(0.05)
        await awp.close()
        assert await asyncio.wait_for(waiting, 60) is None
    with pytest.raises(StopAsyncIteration):
        await anext(watch)
    assert not threads()


async def test_what_is_refused_is_raised_where_it_is_awaited(awp: AsyncWaypost) -> None:
    """A text that is no cursor, and a closed handle, are told of on entering; no thread stays."""
    with pytest.raises(InvalidInput):
        async with awp.watch(cursor="nonsense"):
            pass
    await awp.close()
    with pytest.raises(StoreClosed):
        async with awp.watch():
            pass
    await ended()


async def test_a_watch_that_is_let_go_of_leaves_no_thread(awp: AsyncWaypost) -> None:
    """Without `async with` and without `close`, also when its task was cancelled while it waited."""

    async def listen() -> None:
        async for _ in awp.watch():
            pass

    task = asyncio.ensure_future(listen())
    await asyncio.sleep(0.05)
    assert threads()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    gc.collect()
    await ended()


async def test_cancelling_while_it_begins_leaves_nothing(awp: AsyncWaypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch whose beginning is given up closes what was begun."""
    begins, may_go_on = threading.Event(), threading.Event()
    made: list[Watch] = []
    begin = Watch.__init__

    def slow(self: Watch, *args: object) -> None:
        begins.set()
        assert may_go_on.wait(60)
        begin(self, *args)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(Watch, "__init__", slow)

    async def enter() -> None:
        async with awp.watch():
            pass

    task = asyncio.ensure_future(enter())
    await asyncio.to_thread(begins.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_go_on.set()
    await ended()
    assert all(watch.has_ended for watch in made)


async def ended() -> None:
    """Wait for the threads of watches to end."""
    until = time.monotonic() + 60
    while threads():
        assert time.monotonic() < until, "a thread is left"
        await asyncio.sleep(0.01)
