"""What the tests of the PostgreSQL store share: one server for each process of a run, and a schema for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

import waypost
from tests.postgres.cluster import Cluster
from tests.postgres.proxy import Proxy
from waypost import Waypost

_numbers = itertools.count(1)

OPTIONS = {"postgres": {"lock_timeout": 3000, "pool_size": 3}, "compression": {"chunk_size": 4096}}
Opener = Callable[..., Waypost]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.close()


@pytest.fixture
def schema(cluster: Cluster) -> Iterator[str]:
    """A name that no other test uses, dropped after it."""
    name = f"t{next(_numbers)}"
    yield name
    cluster.sql(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[Proxy]:
    made = Proxy(cluster.port)
    yield made
    made.close()


@pytest.fixture
def opened(cluster: Cluster, schema: str) -> Iterator[Opener]:
    """Opens handles over the test's schema, which are closed after it."""
    made: list[Waypost] = []

    def open_(port: int | None = None, **sections: dict[str, object]) -> Waypost:
        options = {name: {**OPTIONS.get(name, {}), **sections.get(name, {})} for name in {*OPTIONS, *sections}}
        made.append(waypost.open(cluster.url(schema, port=port), config=options))
        return made[-1]

    yield open_
    for each in made:
        each.close()
