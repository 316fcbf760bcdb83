"""Importing the databases of LangGraph's own checkpointers: whole, read back, and refused where they are not known."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from psycopg.rows import dict_row

from tests import servers
from tests.adapters.support import checkpoint, config, ids
from tests.adapters.test_langgraph_graphs import asking_graph, delta_graph
from tests.test_cli import call, call_json
from waypost.adapters.langgraph import WaypostSaver
from waypost.errors import StoreNotFound, StoreUnavailable, UnsupportedFormat
from waypost.store import Store

__all__ = ["call", "call_json"]  # fixtures


KEY = "thread_id, checkpoint_ns, checkpoint_id"


class Database:
    """A database that one of LangGraph's own savers wrote to, and where it is."""

    def __init__(self, saver: Any, location: str) -> None:
        self.saver = saver
        self.location = location


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        place = str(tmp_path / "check?points%.sqlite")
        with SqliteSaver.from_conn_string(place) as saver:
            yield Database(saver, place)
        return
    server = servers.postgres()
    with server.connect() as made:
        made.execute("CREATE DATABASE langgraph")
    location = f"postgresql://{servers.SUPERUSER}@/langgraph?host={server.directory}&port={server.port}"
    try:
        with psycopg.connect(location, autocommit=True, row_factory=dict_row) as connection:
            saver = PostgresSaver(connection)
            saver.setup()
            yield Database(saver, location)
    finally:
        with server.connect() as made:
            made.execute("DROP DATABASE langgraph WITH (FORCE)")


def filled(saver: Any) -> None:
    """Threads of graphs with delta channels, interrupts in subgraphs, forks and ids of any kind."""
    graph = delta_graph(saver)
    for turn in range(12):
        graph.invoke({"turn": turn, "log": [f"asked {turn}"]}, config("deltas"))
    graph.invoke({"turn": 50, "log": ["fork"]}, list(graph.get_state_history(config("deltas")))[5].config)
    asking_graph(saver).invoke({"answer": ""}, config("../asked"))
    versions: Any = {"a": 1, "b": 1, "c": 1}
    made = checkpoint({"a": None, "b": [1], "c": True}, versions, 1)
    at = config("plain", "child:1")
    at = saver.put(at, made, {"source": "loop", "step": 0, "parents": {}, "run_id": "r1"}, versions)
    saver.put_writes(at, [("__interrupt__", "x"), ("b", 2)], "task", "path")


def told(saver: Any) -> list[Any]:
    found = [
        (each.config["configurable"], each.checkpoint, each.metadata, each.parent_config, each.pending_writes)
        for thread_id in ("deltas", "../asked", "plain")
        for each in saver.list({"configurable": {"thread_id": thread_id}})
    ]
    return sorted(found, key=lambda each: sorted(each[0].items()))


def test_a_database_is_imported_whole_and_goes_on(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the other saver tells, this one tells; graphs go on, and done again nothing is imported."""
    monkeypatch.setattr("waypost.adapters.langgraph.importing.PAGE_BYTES", 8 * 1024)
    filled(database.saver)
    saver = WaypostSaver(store)
    seen: list[tuple[int, int]] = []
    report = saver.import_database(database.location, progress=lambda done, of: seen.append((done, of)))
    expected = told(database.saver)
    assert [(each.thread_id, each.outcome, each.error) for each in report.threads] == [
        (name, "imported", "") for name in ("../asked", "deltas", "plain")
    ]
    assert sum(each.checkpoints for each in report.threads) == len(expected) > 30
    assert seen[0] == (0, len(expected)) and seen[-1] == (len(expected), len(expected)) and sorted(seen) == seen
    assert told(saver) == expected
    assert len(saver._pages.look("langgraph/deltas")) > 2
    again = saver.import_database(database.location)
    assert {each.outcome for each in again.threads} == {"same"}
    for each in (saver, database.saver):
        delta_graph(each).invoke({"turn": 60, "log": ["on"]}, config("deltas"))
    values = [delta_graph(each).get_state(config("deltas")).values for each in (saver, database.saver)]
    assert values[0] == values[1] and values[0]["log"][-2:] == ["on", "step 60"]
    later = saver.import_database(database.location)
    assert [each.outcome for each in later.threads] == ["same", "failed", "same"]
    assert "is here, with other checkpoints" in later.threads[1].error
    assert delta_graph(saver).get_state(config("deltas")).values == values[0]


def test_the_command_imports_and_says_so(tmp_path: Path, call: Any, call_json: Any) -> None:
    """Into a store that it makes; what cannot be imported is told, and the rest is."""
    place, target = tmp_path / "checkpoints.sqlite", str(tmp_path / "store")
    with SqliteSaver.from_conn_string(str(place)) as saver:
        filled(saver)
        saver.conn.execute("UPDATE checkpoints SET type = 'pickle' WHERE thread_id = 'plain'")
        saver.conn.commit()
    shown = call("import", "langgraph", str(place), "--to", target)
    assert shown.status == 1 and "✗ thread 'plain': checkpoint '00000001'" in shown.out
    assert "✗ 1 left; 2 threads imported into" in shown.out
    found = call_json("import", "langgraph", str(place), "--state", target, status=1)
    assert [each["outcome"] for each in found["threads"]] == ["same", "same", "failed"]
    with WaypostSaver.open(target) as saver:
        assert ids(saver.list(config("plain"))) == []
    assert call("verify", "--state", target).status == 0
    assert call("import", "langgraph", str(tmp_path / "none"), "--to", str(tmp_path / "new")).status == 3
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("statements", "text"),
    [
        (["CREATE TABLE x (y)"], "the table checkpoints is not there"),
        (["CREATE TABLE checkpoints (thread_id, thread_ts, parent_ts, checkpoint)"], "has the columns .*parent_ts"),
        (
            [
                f"CREATE TABLE checkpoints ({KEY}, parent_checkpoint_id, type, checkpoint, metadata)",
                f"CREATE TABLE writes ({KEY}, task_id, idx, channel, type, value, more)",
            ],
            "the table writes has the columns .*more",
        ),
    ],
)
def test_a_database_of_another_version_is_refused(
    store: Store, tmp_path: Path, statements: list[str], text: str
) -> None:
    """Before anything of it is imported, and with what is amiss."""
    place = tmp_path / "other.sqlite"
    with sqlite3.connect(place) as connection:
        for each in statements:
            connection.execute(each)
    connection.close()
    with pytest.raises(UnsupportedFormat, match=text):
        WaypostSaver(store).import_database(str(place))
    assert list(store.documents("thread")) == []


def test_what_is_no_database_is_refused(store: Store, tmp_path: Path) -> None:
    """A file of something else, none at all, and a server that is not there."""
    saver = WaypostSaver(store)
    (tmp_path / "text").write_text("no database" * 1000)
    with pytest.raises(UnsupportedFormat, match="is no whole database of SQLite"):
        saver.import_database(str(tmp_path / "text"))
    with pytest.raises(StoreNotFound, match="there is no database"):
        saver.import_database(str(tmp_path / "missing"))
    with pytest.raises(StoreUnavailable, match="cannot be read") as caught:
        saver.import_database("postgresql://ann:sesame@127.0.0.1:1/x?connect_timeout=5")
    assert "sesame" not in str(caught.value)


def test_a_postgres_database_of_another_version_is_refused(store: Store, database: Database) -> None:
    """One with a change of its tables that is not known here, and one of another program."""
    if not isinstance(database.saver, PostgresSaver):
        return
    database.saver.conn.execute("INSERT INTO checkpoint_migrations (v) VALUES (10)")
    with pytest.raises(UnsupportedFormat, match="its tables are of version 10, and 9 is known"):
        WaypostSaver(store).import_database(database.location)
    database.saver.conn.execute("DROP TABLE checkpoint_migrations")
    with pytest.raises(UnsupportedFormat, match="it has no table checkpoint_migrations"):
        WaypostSaver(store).import_database(database.location)


def test_a_thread_is_imported_whole_or_not_at_all(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that cannot be read in the middle of a thread leaves nothing of it, and the next thread is imported."""
    monkeypatch.setattr("waypost.adapters.langgraph.importing.PAGE_BYTES", 2048)
    place = str(tmp_path / "checkpoints.sqlite")
    with SqliteSaver.from_conn_string(place) as saver:
        for thread_id in ("bad", "good"):
            at = config(thread_id)
            for number in range(40):
                made = checkpoint({"a": "x" * 200, "n": number}, {"a": 1, "n": number + 1}, number)
                at = saver.put(at, made, {"source": "loop", "step": number, "parents": {}}, {"a": 1, "n": number + 1})
        which = "thread_id = 'bad' AND checkpoint_id LIKE '%30'"
        saver.conn.execute(f"UPDATE checkpoints SET checkpoint = x'c1' WHERE {which}")
        saver.conn.commit()
    waypost = WaypostSaver(store)
    report = waypost.import_database(place)
    assert [(each.thread_id, each.outcome) for each in report.threads] == [("bad", "failed"), ("good", "imported")]
    assert "checkpoint '00000030' of thread 'bad', serialized as 'msgpack', cannot be read" in report.threads[0].error
    assert ids(waypost.list(config("bad"))) == [] and len(ids(waypost.list(config("good")))) == 40
    assert [each for each in store.verify().findings if each.severity != "note"] == []
