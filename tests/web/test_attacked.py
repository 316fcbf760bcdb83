"""Attacks that once succeeded: by whoever is on the machine, without the token, and by what is stored."""

from __future__ import annotations

import base64
import json
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from tests.web.asking import Page, becomes, page_of
from tests.web.test_serving import Served, served
from waypost import blocking
from waypost.blocking import Waypost
from waypost.cli import resume
from waypost.cli.invocation import Invocation
from waypost.web import connections, server
from waypost.web.activity import Activity
from waypost.web.guard import HEADERS


@pytest.fixture
def attacked(wp: Waypost, here: Path) -> Iterator[Served]:
    """A running server, which has printed nothing by its end."""
    wp.close()
    with served(here) as page:
        yield page
        assert page.end() == ("", "")


def _connected(page: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", page.port), timeout=20)


def _said(connection: socket.socket, *pieces: bytes) -> bytes:
    """All that comes back until the server closes."""
    found = b""
    with connection:
        for piece in pieces:
            connection.sendall(piece)
        while data := connection.recv(65_536):
            found += data
    return found


def test_x27_who_only_holds_connections_keeps_nobody_out(attacked: Served) -> None:
    """Connections without a request, with half of one, or whose answer is not read, make room for the next ones."""
    asks = f"GET /static/app.js HTTP/1.1\r\nHost: 127.0.0.1:{attacked.port}\r\n\r\n".encode()
    with ExitStack() as held:
        for number in range(connections.MOST + 10):
            one = held.enter_context(_connected(attacked))
            one.sendall((b"", b"GET / HT", asks)[number % 3])
        assert attacked.ask("/api/store")[0] == 200
        assert attacked.ask("/")[0] == 200
        folder = Path(f"/proc/{attacked.process.pid}/fd")
        assert len(list(folder.iterdir())) < connections.MOST + 60


def test_x20_what_is_no_http_is_answered_as_any_error_and_logged_nowhere(attacked: Served) -> None:
    """The headers are on it and it is JSON; also where an answer has begun, or is about to, there is no traceback."""
    head = f"POST /api/fork HTTP/1.1\r\nHost: 127.0.0.1:{attacked.port}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    for given in (
        b"\x16\x03\x01\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        head + b"z\r\n",
    ):
        answer, _, body = _said(_connected(attacked), given).partition(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ") and json.loads(body)["error"]["code"] == "no_http"
        for name, value in HEADERS.items():
            assert f"{name}: {value}".encode() in answer
    begun = _connected(attacked)
    begun.sendall(head)
    assert begun.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 401"
    with suppress(ConnectionResetError):  # that is an end, too
        assert b"HTTP/1.1" not in _said(begun, b"z\r\n")
    assert attacked.ask("/api/store")[0] == 200


HOSTILE_ID = "x'; touch pwned #$(id)`id`"
KILLED = """
import os, sys
from waypost import blocking
from waypost.store import DocumentId
wp = blocking.open(sys.argv[1])
wp.start_session("ann", session_id=sys.argv[2])
for name in ("gone", "whole"):
    wp.create_workflow(name + sys.argv[2], "W", steps=["a", "b"]).unwrap()
    wp.update_step_status(name + sys.argv[2], "a", "running").unwrap()
    wp.create_checkpoint(name + sys.argv[2], "kept").unwrap()
    wp.definitions.store.reclaim(DocumentId("workflow", name + sys.argv[2]))  # its checkpoint has its file now
os.kill(os.getpid(), 9)
"""


async def test_x20_an_id_stays_one_word_of_each_command_that_is_told(here: Path) -> None:
    """Whoever pastes a command into a shell runs that, and nothing that stands in an id."""
    subprocess.run([sys.executable, "-c", KILLED, str(here), HOSTILE_ID], timeout=60, check=False)
    for log in here.rglob("*.state"):
        if log.name.startswith("gone"):
            log.unlink()
    with page_of(here) as page:
        told = await page.ok("/api/session", id=HOSTILE_ID)
        assert told["status"] == "crashed"
        words = shlex.split(told["command"], comments=True)
        assert words[:4] == ["waypost", "session", "recover", HOSTILE_ID]
        (step,) = [each for each in told["plan"]["recovery_steps"] if each.startswith("waypost restore")]
        assert shlex.split(step, comments=True)[2] == told["plan"]["suggested_checkpoints"][0]
        with page.site.source.reading() as store:
            left = resume.look_at(store, HOSTILE_ID, f"gone{HOSTILE_ID}")
    assert left is not None
    command = resume.command_of([resume.Unfinished(None, [left])], Invocation())
    assert command is not None and shlex.split(command, comments=True)[2] == left.checkpoint_id


async def test_one_file_that_cannot_be_read_takes_the_store_from_nobody(page: Page, wp: Waypost, here: Path) -> None:
    """Asking for it again and again fails, and the store stays open for everybody else, and its stream with it."""
    wp.create_workflow("other", "O").unwrap()
    wp.close()
    (log,) = here.glob("workflows/other*.state")
    with page.site.source.reading() as store:
        log.unlink()
        log.mkdir()
        assert (await page.get("/api/workflow", id="other")).error(503)["code"] == "store_unavailable"
        assert page.site.source.is_current(store)
        room = await page.ok("/api/storage")
        assert [each["id"] for each in room["unreadable"]] == ["other"] and room["total"] == 2
        assert [each["id"] for each in room["items"]] == ["survey"] and room["total_bytes"] > 0
        assert (await page.get("/api/workflow", id="survey")).status == 200


async def test_a_store_of_another_format_is_not_shown_any_more(page: Page, wp: Waypost, here: Path) -> None:
    """Also where its mark was written over in place."""
    wp.close()
    assert (await page.get("/api/workflows")).status == 200
    mark = here / "FORMAT"
    before = mark.read_bytes()
    mark.write_bytes(b"waypost 99\n")
    assert (await page.get("/api/workflows")).error(422)["code"] == "unsupported_format"
    mark.write_bytes(before)
    assert (await page.get("/api/workflows")).status == 200


async def test_no_session_is_lost_or_repeated_while_others_end_and_begin(page: Page, wp: Waypost) -> None:
    """The next page goes on behind the last row, wherever that stands by now."""
    names = [wp.start_session("ann", session_id=f"s{number}").session_id for number in range(6)]
    first = await page.ok("/api/sessions", status="active", limit=3)
    assert [each["session_id"] for each in first["items"]] == names[:2:-1]
    wp.end_session(names[5])
    rest = await page.ok("/api/sessions", status="active", limit=3, cursor=first["next_cursor"])
    assert [each["session_id"] for each in rest["items"]] == names[2::-1] and rest["next_cursor"] is None
    for number in range(3):
        wp.start_session("ann", session_id=f"t{number}")
    again = await page.ok("/api/sessions", status="active", limit=3, cursor=first["next_cursor"])
    assert again == rest
    for cursor in ("x", "3", "W10", first["next_cursor"][:-2] + "!!"):
        assert (await page.get("/api/sessions", cursor=cursor)).error(400)["code"] == "invalid_input"


async def test_x27_a_cursor_that_was_never_given_out_is_refused(page: Page, wp: Waypost) -> None:
    """One that is deep is no error of the server, and one of another workflow's checkpoints begins no list anew."""
    wp.create_workflow("other", "O").unwrap()
    other = wp.create_checkpoint("other", "kept").unwrap().id
    deep = base64.urlsafe_b64encode(b"[" * 5_000).decode().rstrip("=")
    for path, parameters in (
        ("/api/workflows", {"cursor": deep}),
        ("/api/sessions", {"cursor": deep}),
        ("/api/checkpoints", {"workflow": "survey", "cursor": other}),
        ("/api/checkpoints", {"workflow": "survey", "cursor": "zzz"}),
    ):
        assert (await page.get(path, **parameters)).error(400)["code"] == "invalid_input"


async def test_what_another_store_did_is_not_charted_for_this_one(page: Page, wp: Waypost, here: Path) -> None:
    """When the store is replaced, its charts are those of the new one."""
    page.site.live.start()
    activity = page.site.live.activity
    await becomes(lambda: _charted(activity) > 1)
    wp.close()
    shutil.rmtree(here)
    with closing(blocking.open(here)) as other:
        other.create_workflow("new", "N").unwrap()
    await becomes(lambda: _charted(activity) == 1)


def _charted(activity: Activity) -> int:
    return sum(each["commits"] for each in activity.series())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_as_ever_when_it_is_ended_before_it_has_begun(wp: Waypost, here: Path, number: signal.Signals) -> None:
    """At the moment that the address is printed: there is no traceback, and no warning."""
    wp.close()
    told: list[str] = []

    def ready(address: str) -> None:
        told.append(address)
        signal.raise_signal(number)

    before = signal.getsignal(number)
    server.serve(Invocation(str(here)), 0, read_only=True, ready=ready)
    assert len(told) == 1 and signal.getsignal(number) is before
