"""LangGraph's PostgresSaver as its documentation opens it: `peer` with another saver."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver

from benchmarks import peer


class Engine(peer.Engine):
    """One connection, and the newest checkpoint of one thread."""

    def open(self, path: str) -> str:
        """Connect, make the tables, and say how durable the server is."""
        self._path = path
        connection = self._open().conn
        return ", ".join(
            f"{name}={next(iter(connection.execute(f'SHOW {name}').fetchone().values()))}"
            for name in ("fsync", "synchronous_commit")
        )

    def _open(self) -> Any:
        if self._saver is None:
            self._saver = self._stack.enter_context(PostgresSaver.from_conn_string(self._path))
            self._saver.setup()
        return self._saver
