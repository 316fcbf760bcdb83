"""`waypost serve` as its user starts it, and the browser that looks at its page."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Request

NAMES = ("chromium", "chromium-browser", "google-chrome")
ADDRESS = re.compile(r"(http://127\.0\.0\.1:(\d+))/#token=([\w-]{43})\n")
ENDING_S = 30

# what a browser says of an answer that is an error, also of one that a test asks for
_OF_ANSWERS = "Failed to load resource"


def chromium() -> str:
    """The browser's program. Without one the test is skipped by name; in CI, which installs it, it fails."""
    program = os.environ.get("CHROMIUM_PROGRAM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed, and CHROMIUM_PROGRAM names none")
    return program


# --- the server ---


@dataclass
class Served:
    """A server that runs, and the address that it has printed: its origin, port and token."""

    process: subprocess.Popen[str]
    origin: str
    port: int
    token: str

    def address(self, path: str = "/", **query: str | list[str]) -> str:
        """That of a view, with the token, as nobody types it: a printed address with more behind its origin."""
        asked = f"?{urlencode(query, doseq=True)}" if query else ""
        return f"{self.origin}{path}{asked}#token={self.token}"

    def end(self) -> str:
        """Stop it as Ctrl-C does. Gives what it has said to its user's terminal since."""
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=ENDING_S)
        assert self.process.returncode == 0, said
        return said


@contextmanager
def served(store: Path, *options: str, is_quiet: bool = True) -> Iterator[Served]:
    """A server over a store. One that is still there at the end is ended, and has logged nothing if it `is_quiet`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WAYPOST_")}
    command = [sys.executable, "-m", "waypost", "serve", "--state", str(store), "--port", "0", "--no-browser", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=store.parent
    )
    try:
        assert process.stdout is not None
        said = ""
        while (found := ADDRESS.search(said)) is None:
            line = process.stdout.readline()
            assert line, f"it has ended: {said}{process.communicate()[1]}"
            said += line
        one = Served(process, found[1], int(found[2]), found[3])
        yield one
        if process.returncode is None:
            logged = one.end()
            assert not (is_quiet and logged), logged
    finally:
        if process.returncode is None:
            process.kill()
            process.communicate()


# --- the browser ---


class Witness:
    """What never may happen in a browser: dialogs, errors of scripts, breaches of the policy, requests to elsewhere."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.found: list[str] = []
        self._origin = origin
        context.on("request", self._asked)
        context.on("console", self._told)
        context.on("weberror", lambda error: self.found.append(f"error: {error.error}"))
        context.on("dialog", lambda dialog: (self.found.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((f"{self._origin}/", f"blob:{self._origin}/", "data:image/")):
            self.found.append(f"request: {request.url}")

    def _told(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_OF_ANSWERS):
            self.found.append(f"console: {message.text}")
