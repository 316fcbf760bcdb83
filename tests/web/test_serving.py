"""The command itself, as a process: what it prints, where it listens, how it ends, and what nobody else can see."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import waypost.web
from tests.test_cli import Shown, call
from tests.web.asking import Page
from waypost.blocking import Waypost
from waypost.cli import serve as command

__all__ = ["call"]  # a fixture

WITHOUT = """
import sys
import waypost, waypost.cli, waypost.cli.commands, waypost.cli.overview, waypost.cli.serve
print([name for name in ("starlette", "uvicorn", "jinja2", "waypost.web", "asyncio.sslproto") if name in sys.modules])
"""


class Served:
    """A running `waypost serve`."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address
        parts = urlsplit(address)
        self.port = parts.port or 0
        self.token = parts.fragment.removeprefix("token=")

    def ask(self, path: str, token: str | None = "", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        """One request over a socket; without a token named, with the right one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.token}"
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read() if answer.headers["Content-Type"] != "text/event-stream; charset=utf-8" else b""
        connection.close()
        return answer.status, answer.headers, body

    def end(self) -> tuple[str, str]:
        """Interrupt it; the rest of what it printed."""
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=30)


@contextmanager
def served(place: Path, *arguments: str) -> Iterator[Served]:
    process = subprocess.Popen(
        [sys.executable, "-m", "waypost", "serve", "--state", str(place), "--port", "0", "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate(timeout=20)[1]
        yield Served(process, json.loads(line)["address"])
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def test_x16_x22_it_serves_this_machine_alone_and_keeps_its_token(wp: Waypost, here: Path) -> None:
    """It listens on loopback, its token is new and long, and is in no command line, header, answer or log; Ctrl-C ends
    it with status 0 and without a word, also while a stream is open.
    """
    wp.close()
    with served(here) as page:
        assert len(page.token) >= 43 and page.address.startswith("http://127.0.0.1:")
        for name in ("cmdline", "comm", "environ"):
            assert page.token.encode() not in Path(f"/proc/{page.process.pid}/{name}").read_bytes()
        said: list[Any] = [page.ask("/"), page.ask("/api/workflows"), page.ask("/api/store", None), page.ask("/nope")]
        assert [status for status, _, _ in said] == [200, 200, 401, 404]
        for _, headers, body in said:
            assert "server" not in headers and page.token not in str(headers) and page.token.encode() not in body
            assert headers["X-Content-Type-Options"] == "nosniff"
        assert page.ask("/api/store", "wrong")[0] == 401
        assert page.ask("/api/store", Host="evil.example")[0] == 421
        own = {each for each in _listening() if each[1] == page.port}
        assert own == {("0100007F", page.port)}
        streaming = http.client.HTTPConnection("127.0.0.1", page.port, timeout=20)
        streaming.request("GET", "/api/events", headers={"Authorization": f"Bearer {page.token}"})
        answer = streaming.getresponse()
        assert answer.readline() == b"event: hello\n"
        out, err = page.end()
        assert (page.process.returncode, out, err) == (0, "", "")
        assert b"data:" in answer.read()
        streaming.close()
    with served(here) as again:
        assert again.token != page.token


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_ends_in_the_same_way_when_it_is_told_to(wp: Waypost, here: Path, number: signal.Signals) -> None:
    """Whoever ends it, and be it the end of the terminal, nothing is left behind."""
    with served(here, "--read-only") as page:
        page.process.send_signal(number)
        assert page.process.communicate(timeout=30) == ("", "") and page.process.returncode == 0


def _listening() -> list[tuple[str, int]]:
    """Address and port of every socket of this machine that listens."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    found = [row[1].split(":") for row in rows if row[3] == "0A"]
    return [(address, int(port, 16)) for address, port in found]


def test_a_port_that_is_taken_is_told(call: Any, wp: Waypost, here: Path) -> None:
    """The message names the port and the option; nothing is served, and no token is printed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        shown: Shown = call("serve", "--state", str(here), "--port", str(port))
    assert shown.status == 2 and f"port {port}" in shown.err and "--port" in shown.err and shown.out == ""


def test_a_place_without_a_store_is_told(call: Any, tmp_path: Path) -> None:
    """Nothing is made; a store in memory, which is another process's, cannot be shown."""
    shown: Shown = call("serve", "--state", str(tmp_path / "none"), "--port", "0")
    assert shown.status == 3 and "there is no store" in shown.err and not (tmp_path / "none").exists()
    shown = call("serve", "--state", "memory:")
    assert shown.status == 2 and "memory" in shown.err


def test_what_is_missing_is_told_with_the_extra(call: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the packages of the extra the command says what to install."""
    for name in [each for each in sys.modules if each.startswith("waypost.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setattr(waypost, "web", waypost.web)  # and back again, since it is imported anew
    shown: Shown = call("serve", "--state", str(here))
    assert shown.status == 5 and "pip install 'waypost[web]'" in shown.err


def test_x28_nothing_of_the_page_is_loaded_without_it() -> None:
    """Importing waypost and the command line loads none of the packages that the page needs."""
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_x22_the_browser_is_not_given_the_token_on_its_command_line(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is led to a file that only this user can read, which leads to the address, and is gone afterwards."""
    import webbrowser

    opened: list[str] = []
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(webbrowser, "open", opened.append)
    before = os.umask(0)
    try:
        with command._opened("http://127.0.0.1:1/#token=secret"):
            (address,) = opened
            assert "secret" not in address and address.startswith(f"file://{tmp_path}/")
            file = Path(address.removeprefix("file://"))
            assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
            assert "url=http://127.0.0.1:1/#token=secret" in file.read_text()
    finally:
        os.umask(before)
    assert not file.parent.exists()
