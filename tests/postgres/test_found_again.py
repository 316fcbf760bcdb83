"""What a third reading of the PostgreSQL store has found, each with the smallest input that shows it."""

from __future__ import annotations

import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import waypost
from tests.postgres.conftest import OPTIONS, Opener, open_at
from tests.postgres.proxy import CLIENT, Action, Message, Proxy, holding
from tests.postgres.test_found import put_anything
from tests.servers import Server
from tests.store.support import WF, change
from waypost import WorkflowContext
from waypost.store import Ticket, Transaction
from waypost.store.contract import JointChange
from waypost.store.memory import MemoryStore
from waypost.store.postgres import PostgresStore


def test_c12_a_first_attempt_that_comes_late_behind_a_conflict_is_not_done_again(opened: Opener, proxy: Proxy) -> None:
    """It was lost with its connection, and conflicted when it was sent again; then what stood against it was taken back
    by another, and the server carried the first attempt out before the work ran again.
    """
    other, store = opened().definitions.store, opened(proxy.port).definitions.store
    other.submit(change(WF, put_anything)).result()
    store.view(WF)
    runs: list[str] = []

    def work(tx: Transaction) -> str:
        list(tx.keys("other"))
        runs.append(f"mine {len(runs)}")
        tx.put(runs[-1], b"value")
        return runs[-1]

    plan, sent = holding("submit"), list[str]()

    def between(message: Message) -> Action:
        action = plan(message)
        if action == "hold":
            other.submit(change(WF, lambda tx: tx.put("other", b"value"))).result()
            sent.append("held")
        elif message.sender == CLIENT and message.kind == "P" and "submit" in message.text:
            sent.append("again")
        elif message.sender == CLIENT and message.kind in "PQ" and sent[-1:] == ["again"]:
            sent.append("late")
            other.submit(change(WF, lambda tx: tx.delete("other"))).result()
            proxy.release()
            assert proxy.delivered.wait(30)
        return action

    proxy.plan(between)
    receipt = store.submit(change(WF, work)).result()
    assert sent[:3] == ["held", "again", "late"]
    assert list(other.view(WF).keys("mine")) == [receipt.data]
    assert receipt.changed and receipt.version == 4


@pytest.fixture
def unsynced(own_server: Server) -> Server:
    """A server that syncs no commit by itself, and none in the background for as long as it may."""
    for setting in ("synchronous_commit = off", "wal_writer_delay = '10s'"):
        own_server.execute(f"ALTER SYSTEM SET {setting}")
    own_server.stop("fast")
    own_server.start()
    return own_server


def test_t15_what_was_erased_stays_so_on_a_server_that_syncs_nothing(unsynced: Server) -> None:
    """An erasure that was acknowledged survives a crash, as a commit does."""
    with open_at(unsynced, "s") as wp:
        wp.create_workflow("w", "w", context=WorkflowContext(variables={"key": "precious"})).unwrap()
        wp.erase("w", "context.variables.key").unwrap()
        unsynced.stop("immediate")
    unsynced.start()
    assert unsynced.execute("SELECT count(*) FROM s.parts WHERE position('precious'::bytea IN value) > 0") == [(0,)]


def test_t15_what_arrived_with_no_commit_stays_on_a_server_that_syncs_nothing(unsynced: Server) -> None:
    """All that is known of its past is one version, so nothing is appended that would be synced."""
    elsewhere = MemoryStore()
    elsewhere.submit(change(WF, put_anything)).result()
    past: Any = Mock(first=1)
    past.start.return_value = elsewhere.view(WF)
    past.commits.return_value = past.remembered.return_value = ()
    past.dropped_id.return_value = elsewhere.view(WF).commit_id
    with open_at(unsynced, "s") as wp:
        store = wp.definitions.store
        with closing(store.receive()) as received:
            received.take(WF, past, None)
            assert store.commit(store.begin(), JointChange("op", "test"), received)
        unsynced.stop("immediate")
    unsynced.start()
    assert unsynced.execute("SELECT version FROM s.documents") == [(1,)]


@pytest.mark.parametrize("given", ["environment", "service", "service in the environment", "location"])
def test_options_are_kept_wherever_they_are_given(
    server: Server, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """What the store sets at connecting comes with them, and not in their place."""
    options, more = "-csynchronous_commit=local", dict[str, Any]()
    (tmp_path / "services").write_text(f"[mine]\noptions={options}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    match given:
        case "environment":
            monkeypatch.setenv("PGOPTIONS", options)
        case "service in the environment":
            monkeypatch.setenv("PGSERVICE", "mine")
        case "service":
            more["service"] = "mine"
        case _:
            more["options"] = options
    with waypost.open(server.url(schema, loopback=True, sslmode="disable", **more), config=OPTIONS) as wp:
        store = wp.definitions.store
        assert isinstance(store, PostgresStore)
        with store._connections.connection() as connection:
            shown = [
                connection.execute(f"SHOW {name}".encode()).fetchone()
                for name in ("synchronous_commit", "lock_timeout")
            ]
        assert shown == [("local",), ("3s",)]
        assert not store._connections.is_pooled


def test_c10_a_change_is_committed_and_told_where_no_thread_can_be_had(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is told that it was not handed in does not find it committed by the next one."""
    store = opened().definitions.store

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    told: list[Ticket] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with suppress(RuntimeError):
            told.append(store.submit(change(WF, put_anything), told.extend))
    versions = [ticket.result().version for ticket in told]
    assert store.submit(change(WF, put_anything)).result().version == 1 + max(versions, default=0)
    assert versions == [1, 1]


def test_a_version_that_was_the_newest_just_now_is_read_beside_a_trim(opened: Opener) -> None:
    """However much was written since, which history has no room for."""
    sizes = {"performance": {"max_file_size": 1}}
    store, reader = (opened(**sizes).definitions.store for _ in range(2))
    for key in "ab":
        store.submit(change(WF, lambda tx, key=key: tx.put(key, key.encode() * 100_000))).result()
    view = reader.view(WF)
    for number in range(10):
        store.submit(change(WF, lambda tx, number=number: tx.put("c", bytes([number]) * 100_000))).result()
    store.reclaim(WF)
    assert view.get("a") == b"a" * 100_000
    assert list(view.keys()) == ["a", "b"]
    assert [commit.version for commit in store.past(WF).commits()] == list(range(12, 0, -1))


def test_history_that_is_too_large_goes_after_a_minute(opened: Opener, server: Server, schema: str) -> None:
    """As far as it was superseded by then, and not by what was written since."""
    store = opened(performance={"max_file_size": 1}).definitions.store
    assert isinstance(store, PostgresStore)
    for number in range(10):
        store.submit(change(WF, lambda tx, number=number: tx.put("c", bytes([number]) * 100_000))).result()
    server.execute(f"UPDATE {schema}.commits SET time_us = time_us - 61 * 1000000 WHERE version <= 3")
    store._context.history_bytes *= 2
    store.reclaim(WF)
    assert store.past(WF).first == 0, "there is room for all of it"
    store._context.history_bytes //= 2
    store.reclaim(WF)
    assert store.past(WF).first == 3
    server.execute(f"UPDATE {schema}.commits SET time_us = time_us - 61 * 1000000")
    store.reclaim(WF)
    assert store.past(WF).first == 5
