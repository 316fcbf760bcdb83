"""The wire between a browser and a server, which a test can cut: a proxy that passes bytes on (SOCKS 5, RFC 1928)."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

_NO_METHOD, _CONNECTED = b"\x05\x00", b"\x05\x00\x00\x01" + bytes(6)
_NAME = 3
_BLOCK = 64 * 1024


class Wire:
    """A wire that is whole until it is cut. To be used in a `with` block."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_cut = False
        self.address = f"socks5://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._listener.close()

    def cut(self) -> None:
        """Break all connections, and let none through until it is mended."""
        with self._lock:
            self._is_cut = True
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        with self._lock:
            self._is_cut = False

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                one, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(one,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, suppress(OSError):
            far = self._connect(near)
            if far is None:
                return
            with far:
                back = threading.Thread(target=_pass, args=(far, near), daemon=True)
                back.start()
                _pass(near, far)
                back.join()
            with self._lock:
                self._open -= {near, far}

    def _connect(self, near: socket.socket) -> socket.socket | None:
        """Whoever is asked for, after the greeting; None where the wire is cut."""
        near.recv(257)
        near.sendall(_NO_METHOD)
        asked = near.recv(262)
        assert asked[3] == _NAME, "browsers leave it to the proxy to understand an address"
        where = asked[5:-2].decode("ascii"), int.from_bytes(asked[-2:], "big")
        with self._lock:
            if self._is_cut:
                return None
            far = socket.create_connection(where)
            self._open |= {near, far}
        near.sendall(_CONNECTED)
        return far


def _pass(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while block := one.recv(_BLOCK):
            other.sendall(block)
    for each in (one, other):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
