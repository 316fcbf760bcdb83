"""What the tests share: new stores of each kind, handles over them, and processes that can be pretended to be.

What a handle needs is imported where one is asked for: tests of a store alone load no more than a store, and what the
night found of them counts until that changes (`tools/reach.py`).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import servers
from waypost import clock
from waypost import config as configuration
from waypost.store import Store, open_store

if TYPE_CHECKING:
    from waypost.api import AsyncWaypost
    from waypost.blocking import Waypost

pytest_plugins = ["tests.totals"]

KINDS = ["memory", "directory", "postgres"]
"""The kinds of store that every test which takes one runs over."""

StoreFactory = Callable[..., Store]


ON_REQUEST = {"initial": False, "post_step": False, "error": False, "pause": False}
"""For tests that look at single checkpoints: none is made that the test does not ask for."""


def make_config(config: Mapping[str, Mapping[str, object]] | None = None) -> configuration.Config:
    """A configuration that no file and no variable of the machine has a part in."""
    preset = configuration.PRESETS["production"]
    return configuration.load("production", config or {}, environment={}) if config else preset


def opened(path: Path, *, read_only: bool = False, **sections: Mapping[str, Any]) -> Waypost:
    """A blocking handle over the store in a directory."""
    config = make_config(sections)
    return _handle(open_store(str(path), config, read_only=read_only), config)


def _handle(store: Store, config: configuration.Config) -> Waypost:
    from waypost.blocking import Waypost
    from waypost.definitions import Definitions

    return Waypost(Definitions(store, config, verbose=False))


@pytest.fixture(autouse=True)
def seed_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seed that a run is repeated with is read when a module is imported; as an option of Waypost it is refused."""
    monkeypatch.delenv("WAYPOST_TEST_SEED", raising=False)


@pytest.fixture(params=KINDS)
def store_factory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreFactory]:
    """Makes new empty stores, which are closed when the test ends."""
    with ExitStack() as stack:
        made: list[Store] = []

        def make(config: configuration.Config | None = None) -> Store:
            location = "memory:" if request.param == "memory" else str(tmp_path / f"store{len(made)}")
            if request.param == "postgres":
                location = stack.enter_context(servers.postgres().lent())
            store = open_store(location, config or make_config())
            stack.callback(store.close)
            made.append(store)
            return store

        yield make


@pytest.fixture
def store(store_factory: StoreFactory) -> Store:
    """A new empty store."""
    return store_factory()


@pytest.fixture
def wp(store: Store) -> Waypost:
    """A blocking handle over a new empty store."""
    return _handle(store, make_config())


@pytest.fixture
def awp(store: Store) -> AsyncWaypost:
    """An asynchronous handle over the same store as `wp`."""
    from waypost.api import AsyncWaypost
    from waypost.definitions import Definitions

    return AsyncWaypost(Definitions(store, make_config(), verbose=False))


@pytest.fixture
def wp_with(store_factory: StoreFactory) -> Callable[..., Waypost]:
    """Makes handles over new stores with other options, such as `steps={"enforce_dependencies": False}`."""

    def make(**sections: Mapping[str, Any]) -> Waypost:
        config = make_config(sections)
        return _handle(store_factory(config), config)

    return make


@pytest.fixture
def registry() -> Iterator[None]:
    """What a test registers of migrations is forgotten when it ends."""
    from waypost import schema

    assert not schema._steps and not schema._newest
    yield
    schema._steps.clear()
    schema._newest.clear()


@contextmanager
def _pretending(identity: clock.ProcessIdentity) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "process_identity", lambda: identity)
        yield


Pretend = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def as_dead_process() -> Pretend:
    """What is done in its block is done, as far as anyone can see, by a process that is dead by now."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    return lambda: _pretending(clock.process_identity()._replace(pid=child.pid, start=1))


@pytest.fixture
def as_living_process() -> Iterator[Pretend]:
    """What is done in its block is done, as far as anyone can see, by another process that is alive."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        # 0: this system need not tell when a process was started
        yield lambda: _pretending(clock.process_identity()._replace(pid=child.pid, start=0))
    finally:
        child.communicate(b"\n")


@pytest.fixture
def as_unseen_process() -> Pretend:
    """What is done in its block is done by a process of another machine, which cannot be seen from here."""
    return lambda: _pretending(clock.process_identity()._replace(host="elsewhere/1", boot="another"))
