"""What takes too long, or stands in its own way: locks, deadlocks, statements, connections, attempts that come late,
and the child of a fork (T15, C12, C13).
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing
from urllib.parse import quote

import psycopg
import pytest

import waypost
from tests.postgres.conftest import Opener
from tests.postgres.proxy import Proxy, holding
from tests.postgres.test_cuts import documents_with
from tests.postgres.test_found import until
from tests.servers import Server
from tests.store.support import WF, change
from waypost import Waypost, WorkflowTransaction
from waypost.errors import LockTimeout, StoreUnavailable
from waypost.store.postgres import PostgresStore
from waypost.store.postgres.connections import Connections
from waypost.store.postgres.listening import Listening


def connections_of(wp: Waypost) -> Connections:
    store = wp.definitions.store
    assert isinstance(store, PostgresStore)
    return store._connections


def change_both(tx: WorkflowTransaction) -> None:
    for each in "wv":
        tx.update_context(each, variables={"n": 1})


@pytest.fixture
def wp(opened: Opener) -> Waypost:
    made = opened(postgres={"lock_timeout": 600, "statement_timeout": 900, "pool_size": 2})
    made.create_workflow("w", "w", steps=["a"]).unwrap()
    made.create_workflow("v", "v", steps=["a"]).unwrap()
    return made


def test_t15_c13_a_document_that_is_locked_for_too_long_is_a_lock_timeout(
    wp: Waypost, server: Server, schema: str
) -> None:
    """What another holds is waited for as long as
    `postgres.lock_timeout` says, and nothing happened then.
    """
    with server.connect() as other, other.transaction():
        other.execute(f"SELECT FROM {schema}.documents FOR UPDATE".encode())
        for failed in (
            wp.update_step_status("w", "a", "running"),
            wp.transact(change_both),
        ):
            assert (type(failed.error), failed.status) == (LockTimeout, "rolled_back"), failed.error
            assert failed.error is not None and failed.error.retryable
            assert "another writer held the document for too long" in failed.error.message
    wp.update_step_status("w", "a", "running").unwrap()


def test_t15_c13_a_statement_that_takes_too_long_is_cancelled(wp: Waypost) -> None:
    """A statement of any kind is bounded by
    `postgres.statement_timeout`, and the connection goes on.
    """
    connections = connections_of(wp)
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match="statement timeout"):
        connections.again(lambda connection: connection.execute("SELECT pg_sleep(60)"))
    assert time.monotonic() - started < 30
    wp.update_step_status("w", "a", "running").unwrap()


def test_t15_c13_a_transaction_in_which_nothing_happens_is_ended(wp: Waypost, server: Server, schema: str) -> None:
    """Who stops in the middle of a commit lets go of the document by himself."""
    with connections_of(wp).connection() as stopped:
        stopped.execute("BEGIN")
        stopped.execute(f"SELECT FROM {schema}.documents FOR UPDATE".encode())
        time.sleep(1.5)
        wp.update_step_status("w", "a", "running").unwrap()
        with pytest.raises(psycopg.Error):
            stopped.execute("SELECT 1")


def test_t15_c13_all_connections_in_use_are_told_of(wp: Waypost) -> None:
    """Who finds no connection free of the
    `postgres.pool_size` that there may be is told how many that are, and which options say so.
    """
    connections, taken, done = connections_of(wp), threading.Barrier(3), threading.Event()

    def hold() -> None:
        with connections.connection():
            taken.wait()
            done.wait()

    holders = [threading.Thread(target=hold) for _ in range(2)]
    for holder in holders:
        holder.start()
    taken.wait()
    failed = wp.update_step_status("w", "a", "running")
    done.set()
    for holder in holders:
        holder.join()
    assert (type(failed.error), failed.status) == (StoreUnavailable, "rolled_back")
    assert failed.error is not None
    assert "all 2 connections of this handle were busy for 600 ms (postgres.pool_size" in failed.error.message
    wp.update_step_status("w", "a", "running").unwrap()


@pytest.mark.parametrize("state", ["40001", "40P01"])
@pytest.mark.parametrize("times", [1, 2, 10_000])
def test_t15_c12_deadlocks_and_serialization_failures_are_tried_again(
    wp: Waypost, server: Server, schema: str, state: str, times: int
) -> None:
    """What the server rolled back for the sake of another is sent again, for so long and no longer."""
    server.execute(
        f"CREATE SEQUENCE {schema}.failures; GRANT USAGE ON SEQUENCE {schema}.failures TO PUBLIC;"
        f"CREATE FUNCTION {schema}.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF nextval('{schema}.failures') <= {times} THEN"
        f" RAISE EXCEPTION 'for another' USING ERRCODE = '{state}'; END IF;"
        f" RETURN NEW; END $$;"
        f"CREATE TRIGGER fail BEFORE INSERT ON {schema}.commits FOR EACH ROW EXECUTE FUNCTION {schema}.fail()"
    )
    one = wp.update_step_status("w", "a", "running", operation_id="one")
    if times > 2:
        assert (type(one.error), one.status) == (StoreUnavailable, "rolled_back")
        assert documents_with(server, schema, "one") == []
        assert wp.transact(lambda tx: tx.update_context("w", variables={"n": 1})).error is not None
    else:
        assert one.error is None, one.error
        server.execute(f"SELECT setval('{schema}.failures', 1, false)")
        wp.transact(change_both, operation_id="two").unwrap()
        assert documents_with(server, schema, "one") == [1]
        assert documents_with(server, schema, "two") == [1, 1]


@pytest.mark.usefixtures("wp")
def test_t15_c12_two_that_lock_in_another_order_both_get_through(opened: Opener, server: Server, schema: str) -> None:
    """A real deadlock with somebody who locks the other way round is resolved, and tried again."""
    wp = opened(postgres={"lock_timeout": 20_000})
    moved: list[object] = []

    def both() -> None:
        moved.append(wp.transact(change_both, operation_id="op"))

    work = threading.Thread(target=both)
    with server.connect() as other:
        other.execute("BEGIN")
        other.execute(f"SELECT FROM {schema}.documents WHERE id = 'w' FOR UPDATE".encode())
        work.start()
        until = time.monotonic() + 30
        while not server.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            assert time.monotonic() < until, moved
        try:
            other.execute(f"SELECT FROM {schema}.documents WHERE id = 'v' FOR UPDATE".encode())
        except psycopg.errors.DeadlockDetected:
            pass  # then it was the other one
        other.execute("ROLLBACK")
    work.join()
    assert getattr(moved[0], "error", 0) is None
    assert documents_with(server, schema, "op") == [1, 1]


# --- what the server is set to ---


def test_t15_c12_tables_are_made_once_where_all_is_repeatable_read(server: Server, schema: str) -> None:
    """Two that open first at once, and the one that waited sees what the other has made."""
    url = server.url(schema) + "&options=" + quote("-c default_transaction_isolation=repeatable\\ read")
    opened: list[Waypost] = []
    threads = [threading.Thread(target=lambda: opened.append(waypost.open(url))) for _ in range(2)]
    with server.connect() as other:
        other.execute(b"SELECT pg_advisory_lock(hashtextextended(%s, 0))", (f"waypost {schema}",))
        for thread in threads:
            thread.start()
        until(lambda: len(server.execute("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")) == 2)
    for thread in threads:
        thread.join()
    assert len(opened) == 2
    connections = connections_of(opened[0])
    with connections.connection() as connection, connections.transaction(connection):
        assert told_by(connection, "transaction_isolation") == ["read committed"]
    for each in opened:
        each.close()


LIMITS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "search_path")


def told_by(connection: psycopg.Connection[tuple[object, ...]], *names: str) -> list[object]:
    return [connection.execute("SELECT current_setting(%s)", (name,)).fetchall()[0][0] for name in names]


@pytest.mark.parametrize("is_pooled", [True, False])
def test_t15_c13_an_import_has_limits_wherever_they_are_set(wp: Waypost, is_pooled: bool) -> None:
    """What comes in is written in a transaction with the limits of every other."""
    connections = connections_of(wp)
    connections.after_fork()  # all connections are made anew
    connections.is_pooled = is_pooled
    store = wp.definitions.store
    assert isinstance(store, PostgresStore)
    with closing(store.receive()) as received:
        assert told_by(received._begun(), *LIMITS) == ["600ms", "900ms", "900ms", "pg_catalog,pg_temp"]


def test_t15_c13_a_connection_for_listening_has_limits(wp: Waypost) -> None:
    """And looks for names where all others do."""
    with closing(connections_of(wp).dedicated()) as connection:
        assert told_by(connection, *LIMITS) == ["600ms", "900ms", "900ms", "pg_catalog,pg_temp"]


# --- late ---


@pytest.mark.parametrize("repeatable", [True, False])
def test_t15_c12_a_first_attempt_that_comes_late_changes_nothing(
    opened: Opener, proxy: Proxy, server: Server, schema: str, repeatable: bool
) -> None:
    """The network holds the first attempt back, the second one is done, and then the first arrives: once in all."""
    opened().create_workflow("w", "w", steps=["a"]).unwrap()
    wp = opened(proxy.port)
    store = wp.definitions.store
    proxy.plan(holding("submit"))
    done = store.submit(change(WF, lambda tx: tx.put("k", b"1"), operation_id="op", repeatable=repeatable)).result()
    assert proxy.held.is_set() and done.version == 1
    proxy.release()
    assert proxy.delivered.wait(30)
    assert documents_with(server, schema, "op") == [1]
    assert store.view(WF).version == 1


def test_t15_c12_a_late_commit_of_several_is_done_once(
    opened: Opener, proxy: Proxy, server: Server, schema: str
) -> None:
    """While COMMIT is on its way the outcome is unknown; it is settled by asking, and repeating changes nothing."""
    direct = opened()
    for name in "wv":
        direct.create_workflow(name, name).unwrap()
    wp = opened(proxy.port, postgres={"lock_timeout": 500})

    def both() -> object:
        return wp.transact(change_both, operation_id="op")

    proxy.plan(holding("COMMIT"))
    failed = both()
    assert proxy.held.is_set()
    assert getattr(failed, "status", None) == "unknown", failed
    assert documents_with(server, schema, "op") == []
    proxy.release()
    assert proxy.delivered.wait(30)
    assert direct.get_outcome("op").repeated
    assert getattr(both(), "repeated", False)
    assert documents_with(server, schema, "op") == [1, 1]


# --- fork ---


def test_t15_c01_a_child_after_a_fork_uses_connections_of_its_own(opened: Opener, server: Server) -> None:
    """Parent and child go on over one store at once, and neither disturbs what the other says to the server."""
    wp = opened()
    for name in ("parent", "child"):
        wp.create_workflow(name, name).unwrap()
    wp.start_session("me", session_id="s")
    before = set(server.backends())
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for number in range(30):
                wp.update_context("child", variables={"n": number}).unwrap()
            with connections_of(wp).connection() as connection:
                status = 3 if connection.info.backend_pid in before else 0
            wp.close()
            os.write(write, b"done")
        finally:
            os._exit(status)
    for number in range(30):
        wp.update_context("parent", variables={"n": number}).unwrap()
    assert os.waitpid(pid, 0)[1] == 0
    assert os.read(read, 4) == b"done"
    for name in ("parent", "child"):
        assert wp.load_workflow_state(name).unwrap().context.variables["n"] == 29
    assert wp.definitions.sessions.held.held() == ["s"]
    wp.end_session("s").unwrap()


def test_t15_c01_a_child_that_closes_a_watch_leaves_the_parents_alone(wp: Waypost, server: Server) -> None:
    """The parent listens on by its own connection, and the child may listen for itself."""
    listening = wp.definitions.store.listen()
    assert isinstance(listening, Listening)
    assert not listening.wait(0.1)
    assert listening._connection is not None
    backend = listening._connection.info.backend_pid
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            listening.wait(0.1)
            own = listening._connection
            status = 0 if own is not None and own.info.backend_pid != backend else 2
            listening.close()
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    wp.update_context("w", variables={"n": 1}).unwrap()
    assert listening.wait(30)
    assert listening._connection.info.backend_pid == backend
    assert server.execute("SELECT pid FROM pg_stat_activity WHERE pid = %s", (backend,)) == [(backend,)]
    listening.close()


def test_t15_c01_a_fork_in_the_middle_of_commits_leaves_a_child_that_works(opened: Opener) -> None:
    """Whatever another thread of the parent has locked when it forks."""
    wp = opened()
    wp.create_workflow("w", "w").unwrap()
    stop = threading.Event()

    def work() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            wp.update_context("w", variables={"n": number}).unwrap()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for number in range(8):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if wp.update_context("w", variables={f"c{number}": 1}).error is None else 1)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        stop.set()
        worker.join()
    assert {f"c{number}" for number in range(8)} <= set(wp.load_workflow_state("w").unwrap().context.variables)
