"""What the adapters share: the store that they stand on, and waiting for it in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, cast

from waypost.api import AsyncWaypost
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import InvalidInput
from waypost.store import Store

T = TypeVar("T")

Base = Waypost | AsyncWaypost | Store
"""What an adapter is made of: an open Waypost of either face, or an open store."""


def store_of(base: Base) -> Store:
    """The store below an open Waypost, or the store itself. Raises InvalidInput for anything else."""
    definitions = getattr(base, "definitions", None)
    if isinstance(definitions, Definitions):
        return definitions.store
    if callable(getattr(base, "submit", None)) and callable(getattr(base, "view", None)):
        return cast("Store", base)
    raise InvalidInput(f"an adapter stands on an open Waypost (waypost.open), not on {type(base).__name__}")


async def outcome(work: Callable[[], T]) -> T:
    """What work in a thread comes to.

    Whoever awaits it and is cancelled is told so once that is known: the work goes on to its end, and nothing that he
    does next overtakes it.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
    if cancelled is not None:
        task.exception()  # it is told to nobody any more
        raise cancelled
    return task.result()
