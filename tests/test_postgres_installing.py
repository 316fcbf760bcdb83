"""Making the tables of a store on a server, by several at once."""

from __future__ import annotations

import threading
import time

from tests import servers
from tests.conftest import make_config
from waypost.store import open_store
from waypost.store.postgres import installing, locations
from waypost.store.postgres.connections import Connections


def test_who_waited_for_the_tables_finds_them_made() -> None:
    """One who looked before the schema was there, and then waited for whoever made it, opens the store."""
    server = servers.postgres()
    url = server.url()
    config = make_config()
    first = Connections(locations.parse(url), config.postgres)
    opened: list[str] = []

    def open_as_second() -> None:
        store = open_store(url, config)
        opened.append(store.durability)
        store.close()

    waiting = threading.Thread(target=open_as_second)
    with first.connection() as connection, connection.transaction():
        installing._carry_out(first, connection)
        waiting.start()
        deadline = time.monotonic() + 30
        while not server.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            assert time.monotonic() < deadline, "nobody waits for the tables"
            time.sleep(0.01)
    waiting.join(30)
    first.close()
    assert opened == ["power"]
