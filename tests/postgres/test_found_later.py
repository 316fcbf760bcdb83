"""What was found by reading the PostgreSQL store again, each with the smallest input that shows it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres.conftest import Opener, open_at
from tests.postgres.test_found import aged, put_anything
from tests.servers import Server
from tests.store.support import WF, change
from tests.store.test_checkpoints import name_of
from waypost.store.postgres import PostgresStore
from waypost.testing.checkpoints import foreign


@pytest.fixture
def longest(server: Server) -> Iterator[str]:
    """A schema with the longest name that there is."""
    name = "s" * 63
    yield name
    server.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


def test_commits_are_made_and_noticed_in_a_schema_whose_name_is_long(server: Server, longest: str) -> None:
    """While somebody listens, though the server takes no channel of that name."""
    with open_at(server, longest) as wp:
        store = wp.definitions.store
        listener = store.listen()
        assert not listener.wait(0.3)
        store.submit(change(WF, put_anything)).result()
        assert listener.wait(5)
        listener.close()


def test_a_listener_that_only_asks_notices_a_commit_beside_a_sweep(opened: Opener, server: Server, schema: str) -> None:
    """What it counts does not shrink by what is swept, and so come out as it was."""
    store = opened().definitions.store
    assert isinstance(store, PostgresStore)
    version = foreign()
    store.take_in(version, name_of(7))
    aged(server, schema)
    store._connections.is_pooled = True  # so that nobody tells it
    listener = store.listen()
    assert store.sweep()
    for _ in range(version.version):
        store.submit(change(WF, put_anything)).result()
    assert listener.wait(3)
    listener.close()
