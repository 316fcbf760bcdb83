"""Locks that are held together, however many they are, and none of which is left behind by an interrupt.

An `ExitStack` notes what it has entered once it is entered, and an interrupt in between leaves a lock that nobody gives
back. Here whatever is to be held is a generator, which is noted first, takes its locks once it is started, and gives
them back when it is closed: one that has taken none has nothing to give back.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

Got = TypeVar("Got")


def take(held: list[Generator[Any]], one: Generator[Got]) -> Got:
    """Note a generator, and have it take what it holds; what it gives once it has."""
    held.append(one)
    return next(one)


def give_back(held: list[Generator[Any]]) -> None:
    """Give back what is held, the last first: all of it, also where that fails for one of them.

    Should an interrupt come before anything is done here, it is given back with the list, as the last who has that lets
    go of it, or by calling this again.
    """
    try:
        while held:
            held.pop().close()
    finally:
        if held:
            give_back(held)


def locked(lock: AbstractContextManager[object]) -> Generator[None]:
    """One lock."""
    with lock:
        yield
