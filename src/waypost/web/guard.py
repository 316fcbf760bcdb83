"""Who is let in: one layer around every route, which also says what browsers may do with each answer.

Loopback is no border. Other users of the machine reach it, so each request needs the token of this start; and pages of
others in the browser reach it, so Host, Origin and Sec-Fetch-Site have to be the page's own.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping, Sequence
from typing import NoReturn

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from waypost.cli.text import escape
from waypost.errors import WaypostError
from waypost.web import answers
from waypost.web.answers import Denied
from waypost.web.routes import Route

logger = logging.getLogger("waypost")

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Of every answer, errors too."""

_NAMES = ("127.0.0.1", "localhost", "[::1]")
_HTTP_PORT = 80


class Guard:
    """The application: lets a request through to its route, or says why not."""

    def __init__(self, routes: Sequence[Route], token: str, port: int) -> None:
        self._routes: Mapping[str, Route] = {route.path: route for route in routes}
        self._token = token.encode()
        self._hosts = {f"{name}:{port}" for name in _NAMES} | (set(_NAMES) if port == _HTTP_PORT else set[str]())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # there are none here
            return
        began = False

        async def send_with_headers(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                message["headers"] = with_headers(message.get("headers", []))
            await send(message)

        request = Request(scope, receive)
        try:
            response = await self._respond(request)
            await response(scope, receive, send_with_headers)
        except Exception:
            logger.exception("a request for %s failed", escape(scope["path"]))
            if not began:
                await answers.breakdown()(scope, receive, send_with_headers)

    async def _respond(self, request: Request) -> Response:
        try:
            route = self._routes.get(request.scope["path"])
            self._check_host(request)
            _check_origin(request, route)
            if route is None or not route.is_exempt:
                self._check_token(request)
            if route is None:
                raise Denied(404, "no_such_address", "there is nothing at this address")
            endpoint = route.methods.get(request.method)
            if endpoint is None:
                allowed = ", ".join(sorted(route.methods))
                raise Denied(405, "method_not_allowed", f"this address takes {allowed}", allow=allowed)
            return await endpoint(request)
        except Denied as denied:
            return answers.denial(denied)
        except WaypostError as error:
            return answers.failure(error)

    def _check_host(self, request: Request) -> None:
        if _only(request, "host") not in self._hosts:
            raise Denied(421, "foreign_host", "this server is asked by its own name only: 127.0.0.1 or localhost")

    def _check_token(self, request: Request) -> None:
        scheme, _, given = (_only(request, "authorization") or "").partition(" ")
        # compare_digest takes as long wherever the two differ
        is_right = hmac.compare_digest(given.strip().encode(), self._token)
        if scheme.lower() != "bearer" or not is_right:
            said = "the token is missing or wrong: it stands in the address that was printed at the start"
            raise Denied(401, "no_token", said, www_authenticate="Bearer")


def _check_origin(request: Request, route: Route | None) -> None:
    origin, site = (request.headers.getlist(name) for name in ("origin", "sec-fetch-site"))
    if origin and origin != [f"http://{_only(request, 'host')}"]:
        _refuse_page()
    if site and site not in (["same-origin"], ["none"]) and not _is_followed(request, route):
        _refuse_page()


def _is_followed(request: Request, route: Route | None) -> bool:
    """Whether a link elsewhere led to the page itself, which holds nothing, and can be put into no frame."""
    told = [request.headers.getlist(name) for name in ("sec-fetch-mode", "sec-fetch-dest")]
    return route is not None and route.is_page and request.method == "GET" and told == [["navigate"], ["document"]]


def _refuse_page() -> NoReturn:
    raise Denied(403, "foreign_page", "this was asked by a page from elsewhere")


def _only(request: Request, name: str) -> str | None:
    """A header that is there once."""
    found = request.headers.getlist(name)
    return found[0] if len(found) == 1 else None


def with_headers(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer, with those that every answer has."""
    names = {name.lower() for name, _ in headers}
    added = {**HEADERS, "cache-control": "no-store"}
    return [*headers, *((name.encode(), value.encode()) for name, value in added.items() if name.encode() not in names)]
