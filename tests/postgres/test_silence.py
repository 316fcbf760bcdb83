"""A network that swallows what is said, as if it had arrived: nobody waits for ever, and a lease is kept, or told to be
lost (T15, C13).
"""

from __future__ import annotations

from contextlib import ExitStack
from threading import Thread
from uuid import uuid4

import pytest

import waypost
from tests.postgres.conftest import OPTIONS, Opener
from tests.postgres.proxy import Action, Message, Proxy, passing, silent_but_for_new_ones
from tests.postgres.test_found import SESSION, until
from tests.postgres.test_limits import connections_of
from tests.servers import Server
from tests.store.support import WF, change
from waypost import Waypost
from waypost.errors import StoreUnavailable
from waypost.store.postgres import PostgresStore
from waypost.store.postgres.leases import Leases

SOON: dict[str, object] = {"lock_timeout": 300, "statement_timeout": 300}
OFTEN: dict[str, object] = {"sync_frequency": 100}


def swallowing(_: Message) -> Action:
    return "swallow"


def leases_of(wp: Waypost) -> Leases:
    store = wp.definitions.store
    assert isinstance(store, PostgresStore)
    return store._leases


def test_t15_c13_a_server_that_says_nothing_more_is_given_up(opened: Opener, proxy: Proxy) -> None:
    """Who waits for an answer is told that none comes, and the handle goes on when the network does."""
    wp = opened(proxy.port, postgres=SOON)
    wp.create_workflow("w", "w").unwrap()
    proxy.plan(swallowing)
    failed = wp.update_context("w", variables={"n": 1})
    assert (type(failed.error), failed.status) == (StoreUnavailable, "unknown")
    proxy.plan(passing)
    wp.update_context("w", variables={"n": 2}).unwrap()


def test_t15_c12_a_commit_that_is_swallowed_is_made_by_another_connection(opened: Opener, proxy: Proxy) -> None:
    """However long the first one was silent, there is time to try again after that."""
    store = opened(proxy.port, postgres=SOON).definitions.store
    proxy.plan(silent_but_for_new_ones("submit"))
    assert store.submit(change(WF, lambda tx: tx.put("k", b"1"), operation_id="op")).result().version == 1
    assert store.view(WF).version == 1


def test_t15_c13_connections_that_lie_idle_are_not_waited_for_one_after_the_other(opened: Opener, proxy: Proxy) -> None:
    """They go the same way as the one that fell silent, so a new one is made."""
    wp = opened(proxy.port, postgres={**SOON, "pool_size": 3})
    connections, asked = connections_of(wp), list[str]()
    hold_all(wp, 3)
    plan = silent_but_for_new_ones()

    def counting(message: Message) -> Action:
        action = plan(message)
        if action == "swallow" and message.kind in "PQ":
            asked.append(message.text)
        return action

    proxy.plan(counting)
    connections.read("documents", ("workflow",))
    assert len(asked) == 1


def hold_all(wp: Waypost, size: int) -> None:
    """As many threads use a connection at once."""
    connections = connections_of(wp)
    with ExitStack() as stack:
        for _ in range(size):
            stack.enter_context(connections.connection())


def test_t15_c13_a_lease_outlives_a_connection_that_is_swallowed(opened: Opener, proxy: Proxy) -> None:
    """A heartbeat that is not answered is followed by one on another connection."""
    wp, other = opened(proxy.port, reliability=OFTEN), opened()
    assert wp.definitions.store.claim(SESSION) is not None
    hold_all(wp, 3)
    proxy.plan(silent_but_for_new_ones())
    beats = number_of_beats(other)
    until(lambda: number_of_beats(other) > beats + 1)


def number_of_beats(wp: Waypost) -> int:
    sight = wp.definitions.store.holder(SESSION)
    assert sight is not None and sight.beat is not None
    return sight.beat.number


def test_t15_c13_a_heartbeat_waits_for_no_connection_that_others_use(opened: Opener) -> None:
    """However many calls keep all connections of the handle."""
    wp = opened(postgres={"pool_size": 1}, reliability=OFTEN)
    other = opened()
    assert wp.definitions.store.claim(SESSION) is not None
    with connections_of(wp).connection():
        beats = number_of_beats(other)
        until(lambda: number_of_beats(other) > beats + 1)


def test_c13_leases_that_ran_out_are_told_of(opened: Opener, proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    """While the server cannot be asked the holder says that others may have taken over."""
    wp = opened(proxy.port, postgres=SOON, reliability=OFTEN)
    assert wp.definitions.store.claim(SESSION) is not None
    proxy.plan(swallowing)
    until(lambda: "leases have run out" in caplog.text)
    proxy.plan(passing)


def test_c13_a_lease_that_another_has_by_now_is_told_to_be_lost(
    opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    """And is renewed no more."""
    wp, other = opened(reliability=OFTEN), opened()
    assert wp.definitions.store.claim(SESSION) is not None
    assert other.definitions.store.claim(SESSION, by_force=True) is not None
    until(lambda: "a lease is lost" in caplog.text)
    assert not leases_of(wp)._held
    assert other.definitions.store.holder(SESSION) is not None


def test_t15_c13_tables_are_made_however_long_that_takes(server: Server, schema: str) -> None:
    """Who waits while another makes them hears nothing meanwhile."""
    held = "SELECT pg_advisory_lock(hashtextextended(%s, 0))"
    with server.connect() as other:
        other.execute(held.encode(), (f"waypost {schema}",))

        def let_go() -> None:
            until(lambda: server.execute("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") != [])
            other.execute("SELECT pg_sleep(0.5), pg_advisory_unlock_all()")

        ending = Thread(target=let_go)
        ending.start()
        soon = {"lock_timeout": 100, "statement_timeout": 100}
        url = server.url(schema, loopback=True, sslmode="disable")
        waypost.open(url, config={**OPTIONS, "postgres": soon}).close()
        ending.join()


def test_t15_c13_tcp_is_told_how_long_to_wait_unless_the_location_says_so(server: Server) -> None:
    """Where nothing is acknowledged the system finds it out, in the time that the user wants."""
    for given, told in (("", "60000"), ("&tcp_user_timeout=5000", "5000")):
        url = server.url(f"x{uuid4().hex}", loopback=True, sslmode="disable") + given
        with waypost.open(url) as wp, connections_of(wp).connection() as connection:
            found = connection.info.get_parameters()
            assert (found["tcp_user_timeout"], found["keepalives_idle"]) == (told, "30")
        schema = connections_of(wp).location.schema
        server.execute(f"DROP SCHEMA {schema} CASCADE")
