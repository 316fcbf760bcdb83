"""Connections: so many at once that they take no harm, and whoever only holds one makes room for the next.

Everybody on the machine can connect, without the token. Connections that wait for a request that does not come, or
for a reader who does not read, must not keep others out, so the one that has waited longest is given up.
"""

from __future__ import annotations

import asyncio
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from waypost.web import answers
from waypost.web.answers import Denied
from waypost.web.guard import with_headers

MOST = 200


class Connection(H11Protocol):
    """One connection. What is no HTTP is answered as any other error is."""

    _since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        others = cast("list[Connection]", list(self.connections))
        super().connection_made(transport)
        self._since = self.loop.time()
        if len(others) >= MOST:
            waiting = [each for each in others if each.only_waits()]
            min(waiting, key=lambda each: each._since, default=self).give_up()

    def only_waits(self) -> bool:
        """Whether no answer is being made: there is no request, or there is an answer that is not read."""
        is_idle = not self.cycle or self.cycle.response_complete
        return is_idle or self.transport.get_write_buffer_size() > 0

    def give_up(self) -> None:
        """Close it now, whatever was not read."""
        if self.cycle:
            self.cycle.disconnected = True  # what still answers it tells nobody
        self.transport.abort()
        self.connections.discard(self)

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP, unless an answer has begun."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.give_up()
            return
        response = answers.denial(Denied(400, "no_http", "this is no HTTP request"))
        headers = [*with_headers(response.raw_headers), (b"connection", b"close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        if self.cycle:
            self.cycle.disconnected = True  # it has its answer
        self.transport.close()
