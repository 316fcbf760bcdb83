"""Appending a commit to a document, in a transaction that holds its row."""

from __future__ import annotations

from waypost.store.contract import ADOPTED
from waypost.store.kinds import DocumentId
from waypost.store.postgres.connections import Connection
from waypost.store.postgres.context import Context
from waypost.store.postgres.documents import Head
from waypost.store.postgres.drafts import Draft
from waypost.store.values import ContentLost


def append(context: Context, connection: Connection, doc: int, draft: Draft, commit_id: bytes | None = None) -> Head:
    """Append a commit to a document whose row is locked."""
    parameters = (commit_id, *draft.parameters(), context.limit_bytes, context.durable, doc)
    row = connection.execute(context.connections.statements["append"], parameters, binary=True).fetchone()
    assert row is not None
    return Head.of(row)


def adopted_by(draft: Draft) -> set[str]:
    """The checkpoints whose versions were taken in for a commit."""
    return {key.removeprefix(ADOPTED) for key in draft.puts if key.startswith(ADOPTED)}


def hold_adopted(context: Context, connection: Connection, document: DocumentId, draft: Draft) -> None:
    """Keep what was taken in for a commit until its transaction ends: nobody sweeps it. Raises ContentLost."""
    names = adopted_by(draft)
    if not names:
        return
    rows = connection.execute(context.connections.statements["hold_adopted"], (*document, list(names))).fetchall()
    lost = names.difference(name for (name,) in rows)
    if lost:
        raise ContentLost(f"the version that was taken in as checkpoint {min(lost)} was given up")
