"""What was found by reading the PostgreSQL store again, each with the smallest input that shows it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres.conftest import open_at
from tests.postgres.test_found import put_anything
from tests.servers import Server
from tests.store.support import WF, change


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
