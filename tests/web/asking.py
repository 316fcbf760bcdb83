"""The application and whoever asks it, in one process: every header is as the test says, and no socket is needed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode

from waypost.cli.invocation import Invocation
from waypost.web.guard import Guard
from waypost.web.lately import Lately
from waypost.web.routes import Route, table
from waypost.web.site import Site
from waypost.web.source import Source

TOKEN = "token-of-these-tests-4ab1"
PORT = 8123
OWN = {"host": f"127.0.0.1:{PORT}", "authorization": f"Bearer {TOKEN}", "sec-fetch-site": "same-origin"}


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        found = [value for each, value in self.headers if each == name]
        assert len(found) < 2, f"{name} is there twice"
        return found[0] if found else None

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        assert self.header("content-type") == "application/json", self.text
        return json.loads(self.body)

    def error(self, status: int) -> dict[str, Any]:
        """The error that it is, with that status."""
        assert self.status == status, (self.status, self.text)
        error = self.json()["error"]
        assert set(error) == {"code", "message", "details", "retryable"}
        return error


class Page:
    """Somebody who asks."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.routes: Sequence[Route] = table(site)
        self.app = Guard(self.routes, TOKEN, PORT)

    async def ask(
        self,
        path: str,
        query: str = "",
        *,
        method: str = "GET",
        headers: Mapping[str, str | None] | Sequence[tuple[str, str]] = {},
        body: Sequence[bytes] = (b"",),
    ) -> Answer:
        """One request. Headers change those of the page's own; None leaves one out, a list stands for all of them."""
        sent: list[Any] = []
        pieces = list(body)

        async def receive() -> Any:
            if not pieces:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope_of(path, query, method, headers), receive, send)
        return Answer(
            sent[0]["status"],
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in sent[0]["headers"]],
            b"".join(each.get("body", b"") for each in sent[1:]),
        )

    async def get(self, path: str, **parameters: Any) -> Answer:
        return await self.ask(path, urlencode(parameters, doseq=True))

    async def ok(self, path: str, **parameters: Any) -> Any:
        answer = await self.get(path, **parameters)
        assert answer.status == 200, answer.text
        return answer.json()

    async def post(self, path: str, document: Any) -> Answer:
        headers = {"content-type": "application/json", "origin": f"http://127.0.0.1:{PORT}"}
        return await self.ask(path, method="POST", headers=headers, body=[json.dumps(document).encode()])


def scope_of(
    path: str, query: str, method: str, headers: Mapping[str, str | None] | Sequence[tuple[str, str]]
) -> dict[str, Any]:
    if isinstance(headers, Mapping):
        merged = {**OWN, **headers}
        headers = [(name, value) for name, value in merged.items() if value is not None]
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
    }


@contextmanager
def page_of(place: object, *, read_only: bool = False) -> Iterator[Page]:
    """The application over the store at a place; nothing is told live."""
    site = Site(Source(Invocation(str(place)), read_only=read_only))
    site._entries = Lately(0.0)  # however slow the machine is, a list is of now
    try:
        yield Page(site)
    finally:
        site.close()


async def becomes(condition: Callable[[], bool]) -> None:
    """Wait until it is so; what makes it so is another thread, or something that tells nobody."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Reader:
    """Who reads a stream."""

    def __init__(self) -> None:
        self.data = b""
        self.leave = asyncio.Event()
        self.came = asyncio.Event()
        self.status: int | None = None
        self.takes = asyncio.Event()
        self.takes.set()

    async def receive(self) -> Any:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.takes.wait()
        self.status = message.get("status", self.status)
        self.data += message.get("body", b"")
        self.came.set()

    def events(self) -> list[dict[str, Any]]:
        """The whole events so far: kind, id and data."""
        found: list[dict[str, Any]] = []
        for block in self.data.decode().split("\n\n")[:-1]:
            if not block.startswith(":"):
                fields = dict(line.split(": ", 1) for line in block.split("\n"))
                found.append({**fields, "data": json.loads(fields["data"])})
        return found

    def commits(self) -> list[dict[str, Any]]:
        return [each for each in self.events() if each["event"] == "commit"]

    async def until(self, count: int) -> list[dict[str, Any]]:
        """The first so many events, as soon as they are there."""
        async with asyncio.timeout(20):
            while len(self.events()) < count:
                self.came.clear()
                await self.came.wait()
        return self.events()


@asynccontextmanager
async def stream(page: Page, since: str | None = None) -> AsyncIterator[Reader]:
    """A stream that is read, until the reader leaves."""
    reader = Reader()
    scope = scope_of("/api/events", "" if since is None else urlencode({"since": since}), "GET", {})
    task = asyncio.ensure_future(page.app(scope, reader.receive, reader.send))
    try:
        yield reader
    finally:
        reader.leave.set()
        reader.takes.set()
        await asyncio.wait_for(task, 20)
