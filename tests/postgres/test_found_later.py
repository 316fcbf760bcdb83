"""What was found by reading the PostgreSQL store again, each with the smallest input that shows it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pytest

import waypost
from tests.postgres.conftest import OPTIONS, Opener, open_at
from tests.postgres.test_found import aged, put_anything, until, waits_for_a_lock
from tests.postgres.test_rights import APP, as_role, documented, everything
from tests.servers import Server
from tests.store.support import WF, change
from tests.store.test_checkpoints import name_of
from waypost import Waypost
from waypost.errors import DocumentTooLarge, UnsupportedFormat, WaypostError
from waypost.store import Ticket
from waypost.store.postgres import PostgresStore, drafts, installing
from waypost.store.postgres.connections import Connection, Connections
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


def test_a_listener_that_is_closed_while_it_connects_leaves_nothing(
    opened: Opener, server: Server, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a connection nor a word to the server that somebody listens."""
    store = opened().definitions.store
    connecting, closed, made = threading.Event(), threading.Event(), list[Connection]()
    dedicated = Connections.dedicated

    def slowly(connections: Connections) -> Connection:
        connecting.set()
        closed.wait()
        made.append(dedicated(connections))
        return made[-1]

    monkeypatch.setattr(Connections, "dedicated", slowly)
    listener = store.listen()
    heard: list[bool] = []
    waiting = threading.Thread(target=lambda: heard.append(listener.wait(30)))
    waiting.start()
    connecting.wait()
    listener.close()
    closed.set()
    waiting.join()
    assert heard == [False]
    assert [connection.closed for connection in made] == [True]
    assert server.execute(f"SELECT count(*) FROM {schema}.listeners") == [(0,)]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_x25_texts_are_kept_whatever_encoding_a_location_asks_for(server: Server, schema: str, encoding: str) -> None:
    """As the environment may too (`PGCLIENTENCODING`): what is said to the server is UTF-8."""
    url = server.url(schema, loopback=True, sslmode="disable", client_encoding=encoding)
    with waypost.open(url, config=OPTIONS) as wp:
        wp.create_workflow("ж", "Ж", operation_id="ъ").unwrap()
        assert names(wp) == ["ж"]
    with open_at(server, schema) as other:
        assert names(other) == ["ж"]


def names(wp: Waypost) -> list[str]:
    return list(wp.definitions.store.documents("workflow"))


def test_c10_what_a_callback_raises_is_no_concern_of_others(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    """Whose changes were committed together with the one that it is told of."""
    store = opened().definitions.store
    assert isinstance(store, PostgresStore)

    def failing(tickets: Sequence[Ticket]) -> None:
        raise RuntimeError("of the callback")

    first = store._queues.add(change(WF, put_anything), failing)
    assert store.submit(change(WF, put_anything)).result().version == 2
    assert first.result().version == 1
    assert "of the callback" in caplog.text


def while_another_makes(server: Server, schema: str, version: int, open_: Callable[[], Waypost]) -> object:
    """What opening older tables comes to while somebody else brings them to a version."""
    server.execute(f"UPDATE {schema}.about SET version = 1")
    outcomes: list[object] = []

    def open_too() -> None:
        try:
            open_().close()
            outcomes.append("opened")
        except WaypostError as error:
            outcomes.append(error.code)

    opening = threading.Thread(target=open_too)
    with server.connect() as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"waypost {schema}",))
        opening.start()
        until(lambda: waits_for_a_lock(server))
        connection.execute(f"UPDATE {schema}.about SET version = {version}".encode())
    opening.join()
    return outcomes[0]


def test_x22_tables_that_a_newer_release_made_meanwhile_are_left_alone(
    server: Server, schema: str, opened: Opener
) -> None:
    """Two releases find older tables at once: the older one, which waited, does not say that they are its own."""
    opened().close()
    assert while_another_makes(server, schema, 99, opened) == UnsupportedFormat.code
    assert server.execute(f"SELECT version FROM {schema}.about") == [(99,)]


def test_x25_who_may_not_make_tables_finds_those_that_were_made_meanwhile(
    server: Server, schema: str, opened: Opener
) -> None:
    """Who waits for the owner to bring them up to date needs no right to do so himself."""
    opened().close()
    with as_role(server, schema, APP, *documented(APP)) as wp:
        wp.close()
        again = partial(waypost.open, server.url(schema, user=APP), config=OPTIONS)
        newest = len(installing.migrations(schema))
        assert while_another_makes(server, schema, newest, again) == "opened"


def test_c12_a_commit_that_fits_into_no_message_is_refused(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is sent: the server would end one connection after the other, and the outcome be said to be unknown."""
    store = opened().definitions.store
    monkeypatch.setattr(drafts, "MOST_COMMIT_BYTES", 1000, raising=False)
    for _ in range(2):  # by itself, and with another, which is committed
        large = store.submit(change(WF, lambda tx: [tx.put(key, bytes(600)) for key in "ab"].clear()))
        with pytest.raises(DocumentTooLarge):
            large.result()
        store.submit(change(WF, put_anything))
    store.submit(change(WF, put_anything)).result()
    assert store.view(WF).get("a") is None


@pytest.mark.parametrize("setting", ["standard_conforming_strings", "array_nulls"])
def test_x25_all_is_read_as_it_was_put_whatever_a_server_is_set_to(server: Server, schema: str, setting: str) -> None:
    """By what changes how the driver writes bytes and lists, or the server reads them."""
    url = server.url(schema, loopback=True, sslmode="disable")
    with waypost.open(f"{url}&options=-c%20{setting}%3Doff", config=OPTIONS) as wp:
        everything(wp)
