"""Doing steps without blocking the event loop: a change is handed to the store, and what reads runs in a thread.

Cancelling who awaits a change does not undo it: the commit goes on, as on the asynchronous face.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from waypost.adapters.langgraph.pages import Steps
from waypost.store import Change, Receipt, Store, Ticket

T = TypeVar("T")


async def run_async(store: Store, steps: Steps[T]) -> T:
    """Do steps one after the other, and await each."""
    try:
        effect = next(steps)
        while True:
            try:
                outcome: Any
                if isinstance(effect, Change):
                    outcome = await _submitted(store, effect)
                elif store.durability == "none":
                    outcome = effect()
                else:
                    outcome = await asyncio.to_thread(effect)
            except Exception as error:
                effect = steps.throw(error)
            else:
                effect = steps.send(outcome)
    except StopIteration as stop:
        return stop.value


async def _submitted(store: Store, change: Change) -> Receipt:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Ticket] = loop.create_future()

    def deliver(ticket: Ticket) -> None:
        if not done.done():
            done.set_result(ticket)

    def tell(tickets: Sequence[Ticket]) -> None:
        """Called in a thread of the store."""
        try:
            loop.call_soon_threadsafe(deliver, tickets[0])
        except RuntimeError:
            pass  # the loop is closed, and nobody waits any more; the commit is made all the same

    store.submit(change, on_done=tell)
    return (await done).result()
