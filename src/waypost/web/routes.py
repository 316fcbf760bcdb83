"""The table of all routes: each with its methods, and whether it is exempt from the token.

A request is for the route whose path is exactly its own; nothing is matched by a beginning or an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from waypost.web import answers, pages, query
from waypost.web.answers import Denied
from waypost.web.live import Stream
from waypost.web.query import Asked, Cursor
from waypost.web.site import Site
from waypost.web.views import changes, export, outputs, sessions, store, workflow, workflows

T = TypeVar("T", bound=Struct)

Endpoint = Callable[[Request], Awaitable[Any]]
"""Gives what sends the answer: an ASGI application."""

MOST_BODY = 64 * 1024
BODY_S = 10.0


@dataclass(frozen=True, eq=False)
class Route:
    """One address. Exempt are pages and static files alone: objects that are marked so where they are made."""

    path: str
    methods: Mapping[str, Endpoint]
    is_exempt: bool = False
    is_page: bool = False


class Since(Asked, frozen=True, kw_only=True):
    """What a stream takes."""

    since: Cursor | None = None


def table(site: Site) -> list[Route]:
    """All routes there are."""
    return [
        *(
            Route(path, {"GET": _fixed(each)}, is_exempt=True, is_page=path in pages.PAGES)
            for path, each in _fixed_ones()
        ),
        Route("/api/store", {"GET": _view(site, store.about, Asked)}),
        Route("/api/workflows", {"GET": _view(site, workflows.listed, workflows.Wanted)}),
        Route("/api/workflow", {"GET": _view(site, workflow.one, workflow.One)}),
        Route("/api/steps", {"GET": _view(site, workflow.steps, workflow.Steps)}),
        Route("/api/outputs", {"GET": _view(site, outputs.versions, outputs.Versions)}),
        Route("/api/output", {"GET": _view(site, outputs.piece, outputs.Piece)}),
        Route("/api/checkpoints", {"GET": _view(site, workflow.checkpoints, workflow.Paged)}),
        Route("/api/history", {"GET": _view(site, workflow.history, workflow.Paged)}),
        Route("/api/diff", {"GET": _view(site, changes.diff, changes.Compared)}),
        Route(
            "/api/restore",
            {
                "GET": _view(site, changes.restore_preview, changes.OfCheckpoint),
                "POST": _change(site, changes.restore, changes.Restore),
            },
        ),
        Route(
            "/api/fork",
            {
                "GET": _view(site, changes.fork_preview, changes.Fork),
                "POST": _change(site, changes.fork, changes.Fork),
            },
        ),
        Route("/api/sessions", {"GET": _view(site, sessions.listed, sessions.Wanted)}),
        Route("/api/session", {"GET": _view(site, sessions.one, sessions.One)}),
        Route("/api/storage", {"GET": _view(site, store.storage, store.Storage)}),
        Route("/api/metrics", {"GET": _view(site, store.metrics, Asked)}),
        Route("/api/events", {"GET": _stream(site)}),
        Route("/api/export", {"GET": _view(site, export.export, export.Exported)}),
        Route("/metrics", {"GET": _view(site, store.prometheus, Asked)}),
    ]


def _fixed_ones() -> Iterator[tuple[str, pages.Fixed]]:
    shell = pages.shell()
    yield from ((path, shell) for path in pages.PAGES)
    yield from pages.static().items()


def _fixed(what: pages.Fixed) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        # what stands behind a page's question mark is for the page
        return what.answer(request.headers.get("if-none-match"))

    return endpoint


def _view(site: Site, answer: Callable[[Site, T], Any], takes: type[T]) -> Endpoint:
    """A route that looks: what it answers is a document, or a response."""

    async def endpoint(request: Request) -> Response:
        asked = query.parameters(request.scope["query_string"], takes)
        return _response(await site.work(answer, site, asked))

    return endpoint


def _change(site: Site, answer: Callable[[Site, T], Any], takes: type[T]) -> Endpoint:
    """A route that changes something: JSON in, JSON out."""

    async def endpoint(request: Request) -> Response:
        query.parameters(request.scope["query_string"], Asked)
        given = query.body(await _body(request), takes)
        return _response(await site.work(answer, site, given))

    return endpoint


def _stream(site: Site) -> Endpoint:
    async def endpoint(request: Request) -> Stream:
        return site.live.begin(query.parameters(request.scope["query_string"], Since).since)

    return endpoint


def _response(found: Any) -> Response:
    return found if isinstance(found, Response) else answers.document(found)


async def _body(request: Request) -> bytes:
    """The body of a change, of JSON and not long. Raises Denied."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Denied(415, "no_json", "a change is sent as JSON, with Content-Type: application/json")
    found = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for piece in request.stream():
                found += piece
                if len(found) > MOST_BODY:
                    raise Denied(413, "too_large", f"a change has at most {MOST_BODY:,} bytes")
    except (TimeoutError, ClientDisconnect):
        raise Denied(408, "too_slow", f"the body did not come within {BODY_S:.0f} s") from None
    return bytes(found)
