"""What the tests of the PostgreSQL store share: a server, a schema for each test, and a proxy before the server."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

import waypost
from tests import servers
from tests.postgres.proxy import Proxy
from tests.servers import Server
from waypost import Waypost

OPTIONS = {"postgres": {"lock_timeout": 3000, "pool_size": 3}, "compression": {"chunk_size": 4096}}
Opener = Callable[..., Waypost]


@pytest.fixture
def server() -> Server:
    """The server that the tests of one process share: nobody stops it."""
    return servers.postgres()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that a test may stop, kill and put back."""
    made = Server(servers.carried())
    yield made
    made.close()


@pytest.fixture
def schema(server: Server) -> Iterator[str]:
    """A name that no other test uses, dropped after it."""
    name = f"t{uuid.uuid4().hex}"
    yield name
    server.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    made = Proxy(server.port)
    yield made
    made.close()


@pytest.fixture
def opened(server: Server, schema: str) -> Iterator[Opener]:
    """Opens handles over the test's schema, which are closed after it."""
    made: list[Waypost] = []

    def open_(port: int | None = None, **sections: dict[str, object]) -> Waypost:
        made.append(open_at(server, schema, port, **sections))
        return made[-1]

    yield open_
    for each in made:
        each.close()


def open_at(server: Server, schema: str, port: int | None = None, **sections: dict[str, object]) -> Waypost:
    """A handle, which tells a proxy at that port where messages end."""
    options = {name: {**OPTIONS.get(name, {}), **sections.get(name, {})} for name in {*OPTIONS, *sections}}
    return waypost.open(server.url(schema, loopback=True, port=port, sslmode="disable"), config=options)
