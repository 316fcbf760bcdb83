"""Serving the page: the socket of this machine alone, the token of this start, and the end of it."""

from __future__ import annotations

import secrets
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from waypost.cli.invocation import Invocation
from waypost.errors import InvalidInput
from waypost.web.connections import Connection
from waypost.web.guard import Guard
from waypost.web.routes import table
from waypost.web.site import Site
from waypost.web.source import Source

HOST = "127.0.0.1"
_TOKEN_BYTES = 32
_ENDING_S = 3
_LONGEST_HEAD = 32 * 1024


def application(site: Site, token: str, port: int) -> Guard:
    """All that is answered, behind its guard."""
    return Guard(table(site), token, port)


def serve(invocation: Invocation, port: int, *, read_only: bool, ready: Callable[[str], None]) -> None:
    """Serve a store until the process is told to end. `ready` is given the address, with its token, once.

    Raises StoreNotFound and what opening the store does, and InvalidInput where the port is not free.
    """
    site = Site(Source(invocation, read_only=read_only))
    try:
        with site.source.reading():
            pass  # tells now, and not at the first look, of a place where there is no store
        with _listening(port) as listener:
            port = listener.getsockname()[1]
            token = secrets.token_urlsafe(_TOKEN_BYTES)
            server = _Server(_configuration(application(site, token, port)), site)
            site.live.start()
            with _ended_by(server, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                ready(f"http://{HOST}:{port}/#token={token}")
                server.run([listener])
    finally:
        site.close()


@contextmanager
def _ended_by(server: _Server, *signals: signal.Signals) -> Generator[None]:
    """Have these end a server, also before it has begun, so that nothing is left; it repeats those that it knows."""
    before = {each: signal.signal(each, server.handle_exit) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port), backlog=128)
    except OSError as error:
        raise InvalidInput(
            f"port {port} of {HOST} cannot be had ({error.strerror}): name another with --port"
        ) from error


def _configuration(app: Guard) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_LONGEST_HEAD,
        timeout_graceful_shutdown=_ENDING_S,
    )


class _Server(uvicorn.Server):
    """A server whose streams end when it is told to."""

    def __init__(self, config: uvicorn.Config, site: Site) -> None:
        super().__init__(config)
        self._site = site

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._site.live.end_streams()
        super().handle_exit(sig, frame)
