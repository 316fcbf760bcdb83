"""What is wrong with a location or a server is said in words, with an error of its kind, without a password (X22)."""

from __future__ import annotations

import logging
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

import waypost
from tests.postgres.conftest import OPTIONS, Opener
from tests.servers import ROLE, Server
from tests.store.support import change
from waypost.errors import (
    InvalidConfiguration,
    InvalidInput,
    StoreError,
    StoreNotFound,
    StoreReadOnly,
    StoreUnavailable,
    UnsupportedFormat,
    WaypostError,
)
from waypost.store import DocumentId
from waypost.store.postgres import PostgresStore

CANARY = "Canary-7f3a-secret"
QUICK = {"postgres": {"lock_timeout": 500}}


def everything_said(error: BaseException, log: str) -> str:
    """All that an error shows to anybody: itself, what led to it, and what was logged."""
    said, seen = [log], [error]
    for each in seen:
        said += [str(each), repr(each), repr(each.args), "".join(traceback.format_exception(each))]
        said += [repr(vars(each))]
        seen += [more for more in (each.__cause__, each.__context__) if more is not None and more not in seen]
    return "\n".join(said)


def refused(url: str, caplog: pytest.LogCaptureFixture) -> WaypostError:
    """What opening a location fails with; the canary stands nowhere in it."""
    with caplog.at_level(logging.DEBUG), pytest.raises(WaypostError) as caught:
        waypost.open(url, config=QUICK)
    assert CANARY not in everything_said(caught.value, caplog.text)
    assert CANARY not in Path("/proc/self/cmdline").read_text()
    return caught.value


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_x22_no_server(caplog: pytest.LogCaptureFixture) -> None:
    """Where nobody listens."""
    error = refused(f"postgresql://me:{CANARY}@127.0.0.1:{closed_port()}/db", caplog)
    assert type(error) is StoreUnavailable and error.retryable
    assert "Connection refused" in error.message and "postgresql://me@127.0.0.1" in error.message


def test_x22_wrong_credentials(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A password that is not right, and a role that is not there."""
    for user in (ROLE, "nobody_of_that_name"):
        error = refused(server.url("s", user=user, password=CANARY, loopback=True), caplog)
        assert type(error) is StoreError
        assert "the server does not let this user in" in error.message and user in error.message


def test_x22_no_such_database(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A database that is not there."""
    error = refused(server.url("s", loopback=True).replace("/postgres?", "/none?"), caplog)
    assert type(error) is StoreNotFound
    assert 'database "none" does not exist' in error.message


MALFORMED = [
    "postgresql://me:{canary}@host:port/db",
    "postgresql://me:{canary}@host:99999999/db",
    "postgresql://me:{canary}@[::1/db",
    "postgresql://me:{canary}/x@host/db?schema=a%20b",
    "postgresql://me:{canary}%zz@host/db",
    "postgresql://host/db?password={canary}&nonsense=1",
    "postgresql://host/db?nonsense={canary}",
    "postgresql://host/db?schema={canary}!",
    "postgresql://host/db?{canary}",
    "postgres://{canary}:@:@host/db?=&",
    "postgresql://me:{canary}@host/db?sslmode=sometimes",
    "postgresql://me:{canary}@127.0.0.1:1/db?options=-c%20nonsense",
]


@pytest.mark.parametrize("url", MALFORMED)
def test_x22_a_malformed_location_is_not_repeated(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a password in a location was taken for, it is not shown."""
    error = refused(url.replace("{canary}", CANARY), caplog)
    assert isinstance(error, InvalidConfiguration | StoreUnavailable), error


def test_x22_a_password_is_shown_by_nothing(server: Server, schema: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not by a handle, a result, a failure, what is logged, or what the server knows of the program."""
    server.execute(f"CREATE ROLE canary LOGIN PASSWORD '{CANARY}'; GRANT CREATE ON DATABASE postgres TO canary")
    try:
        with caplog.at_level(logging.DEBUG):
            url = server.url(schema, user="canary", password=CANARY, loopback=True)
            with waypost.open(url, config=QUICK) as wp:
                wp.create_workflow("w", "w", steps=["a"]).unwrap()
                said = [wp.location, repr(wp), str(wp.definitions), repr(wp.load_workflow_state("w"))]
                server.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM canary")
                failed = wp.update_step_status("w", "a", "running")
                assert failed.error is not None
                said += [repr(failed), everything_said(failed.error, caplog.text)]
                said += [str(row) for row in server.execute("SELECT application_name, query FROM pg_stat_activity")]
        assert CANARY not in "\n".join(said)
        assert wp.location.startswith("postgresql://canary@127.0.0.1")
    finally:
        server.execute("DROP OWNED BY canary; DROP ROLE canary")


@contextmanager
def older_server() -> Iterator[int]:
    """What greets like PostgreSQL 13."""

    def say(letter: bytes, body: bytes) -> bytes:
        return letter + (len(body) + 4).to_bytes(4, "big") + body

    def greet(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            told = say(b"R", bytes(4)) + say(b"S", b"server_version\x0013.9\0") + say(b"S", b"client_encoding\0UTF8\0")
            connection.sendall(told + say(b"K", bytes(8)) + say(b"Z", b"I"))
            while connection.recv(65536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=greet, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]


def test_x22_an_older_server(caplog: pytest.LogCaptureFixture) -> None:
    """A server that is too old says which version it is, and which is needed."""
    with older_server() as port:
        error = refused(f"postgresql://me:{CANARY}@127.0.0.1:{port}/db?sslmode=disable&gssencmode=disable", caplog)
    assert type(error) is StoreError
    assert "is PostgreSQL 13.9: Waypost needs 14 or later" in error.message


def test_x22_tables_of_a_newer_release(server: Server, schema: str, opened: Opener) -> None:
    """They are left alone."""
    opened()
    server.execute(f"UPDATE {schema}.about SET version = version + 1")
    with pytest.raises(UnsupportedFormat, match="this release of Waypost knows them to"):
        opened()


def test_x22_a_role_that_may_make_nothing(server: Server, schema: str) -> None:
    """Who may not make a schema is told so, and finds none."""
    server.execute("CREATE ROLE poor LOGIN")
    try:
        with pytest.raises(StoreError, match="this user has no right to do that"):
            waypost.open(server.url(schema, user="poor"), config=OPTIONS)
    finally:
        server.execute("DROP ROLE poor")


def test_x22_a_server_that_takes_no_writes(server: Server, schema: str) -> None:
    """Where there are no tables yet, and none can be made."""
    with pytest.raises((StoreReadOnly, StoreNotFound)):
        waypost.open(f"{server.url(schema)}&options=-c%20default_transaction_read_only=on", config=OPTIONS)


def test_x25_options_pass_through_as_libpq_reads_them(server: Server, schema: str) -> None:
    """What stands in a location reaches the server as libpq would send it: %20 is a space, and + is a +."""
    more = "&options=-c%20work_mem=77MB%20-c%20DateStyle=German&application_name=a+b"
    with waypost.open(server.url(schema) + more, config=OPTIONS) as wp:
        store = wp.definitions.store
        assert isinstance(store, PostgresStore)
        with store._connections.connection() as connection:
            asked = "SELECT current_setting('work_mem'), current_setting('application_name')"
            assert connection.execute(asked).fetchone() == ("77MB", "a+b")


LONG = "".join(sha256(b"%d" % number).hexdigest() for number in range(100))
BAD = ["a\0b", LONG, "\ud800"]


@pytest.mark.parametrize("text", BAD, ids=["NUL", "long", "surrogate"])
def test_x22_ids_that_cannot_be_kept_are_bad_input(opened: Opener, text: str) -> None:
    """In ids, operation ids, session labels and agent ids alike; nothing is done then, and the handle goes on."""
    wp = opened()
    wp.create_workflow("w", "w", steps=["a"]).unwrap()
    version = wp.definitions.store.view(DocumentId("workflow", "w")).version
    for act in (
        lambda: wp.create_workflow(text, "x"),
        lambda: wp.update_step_status("w", "a", "running", operation_id=text),
        lambda: wp.update_step_status("w", "a", "running", agent_id=text),
        lambda: wp.update_step_status("w", "a", "running", session_id=text),
        lambda: wp.transact(lambda tx: [tx.create_workflow("n", "n")].clear(), operation_id=text),
    ):
        result = act()
        assert result.error is None or isinstance(result.error, InvalidInput), result.error
        assert result.error is not None, "taken as it is"
        assert getattr(result, "status", None) == "rolled_back"
    for read in (lambda: wp.load_workflow_state(text).unwrap(), lambda: wp.get_outcome(text)):
        with pytest.raises(WaypostError):
            read()
    assert wp.definitions.store.view(DocumentId("workflow", "w")).version == version
    wp.update_step_status("w", "a", "running").unwrap()


@pytest.mark.parametrize("text", BAD[:2], ids=["NUL", "long"])
def test_x22_the_store_itself_refuses_what_it_cannot_keep(opened: Opener, text: str) -> None:
    """Below the checks of operations, too."""
    store = opened().definitions.store
    document = DocumentId("workflow", text)
    for act in (
        lambda: store.submit(change(document, lambda tx: tx.put("k", b"1"))).result(),
        lambda: (
            store.submit(change(DocumentId("workflow", "w"), lambda tx: tx.put(text, b"1"))).result()
            if "\0" not in text
            else store.claim(document)
        ),
    ):
        with pytest.raises(InvalidInput):
            act()
    assert store.view(document).version == 0
