"""A clock that tests move, and handles over memory whose operations are counted by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.conftest import make_config
from waypost import clock
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.store import open_store

SECOND = 1_000_000_000


class Clock:
    """What `clock.monotonic_ns` tells while a test runs."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * SECOND

    def pass_by(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock; it stands still unless the test moves it."""
    made = Clock()
    monkeypatch.setattr(clock, "monotonic_ns", lambda: made.now_ns)
    return made


Opened = Callable[..., Waypost]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens stores in memory with options of the section `monitoring`, and closes them."""
    made: list[Waypost] = []

    def opened(**monitoring: Any) -> Waypost:
        sections: Mapping[str, Mapping[str, Any]] = {"monitoring": monitoring}
        config = make_config(sections)
        handle = Waypost(Definitions(open_store("memory:", config), config, verbose=False))
        made.append(handle)
        return handle

    yield opened
    for handle in made:
        handle.close()
