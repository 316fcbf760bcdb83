"""Appending a commit to a document, in a transaction that holds its row."""

from __future__ import annotations

from waypost.store.postgres.connections import Connection
from waypost.store.postgres.context import Context
from waypost.store.postgres.documents import Head
from waypost.store.postgres.drafts import Draft


def append(context: Context, connection: Connection, doc: int, draft: Draft, commit_id: bytes | None = None) -> Head:
    """Append a commit to a document whose row is locked."""
    parameters = (commit_id, *draft.parameters(), context.limit_bytes, context.durable, doc)
    row = connection.execute(context.connections.statements["append"], parameters, binary=True).fetchone()
    assert row is not None
    return Head.of(row)
