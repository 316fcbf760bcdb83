"""Versions that are kept for checkpoints: where they stand, and copies of those that belong to another history."""

from __future__ import annotations

from collections.abc import Callable

from waypost.store.contract import ADOPTED, CHECKPOINT
from waypost.store.erasures import Erasures, Masked
from waypost.store.kinds import DocumentId
from waypost.store.postgres import history
from waypost.store.postgres.connections import Connection
from waypost.store.postgres.context import Context
from waypost.store.postgres.documents import Head
from waypost.store.postgres.receiving import put_version
from waypost.store.values import ContentLost
from waypost.store.views import View


def checkpoint(context: Context, document: DocumentId, name: str) -> View | None:
    """See `contract.Store.checkpoint`."""
    asked = {**document._asdict(), "keys": [(ADOPTED + name).encode(), (CHECKPOINT + name).encode()]}
    rows = [] if "\0" in document.id else context.connections.read("checkpoint_at", asked)
    if not rows:
        return None
    since, arrived, is_adopted = rows[0]
    # one that came with the oldest version of a history from elsewhere was made in a version before that
    return _adopted(context, document, name) if is_adopted or since <= arrived else history.at(context, document, since)


def _adopted(context: Context, document: DocumentId, name: str) -> View | None:
    rows = context.connections.read("adopted", {**document._asdict(), "name": name})
    return context.view(context.connections, document, Head.of(rows[0])) if rows else None


def take_in(context: Context, version: View, name: str) -> Callable[[], None]:
    """See `contract.Store.take_in`."""

    def put(connection: Connection) -> int:
        statements = context.connections.statements
        with context.connections.transaction(connection):
            # with its row locked, so that an erasure comes before this copy, or finds it
            found = Erasures.of(context.look_with(connection, version.document))
            head = put_version(context, connection, Masked(version, found, 0) if found else version)
            connection.execute(statements["adopt"], (head.doc, *version.document, name))
            connection.execute(statements["drop_unwritten"], version.document)
        return head.doc

    doc = context.connections.again(put)

    def check() -> None:  # it stays for a day from now; who commits holds it until then
        if not context.connections.write("renew_adopted", (doc,)):
            raise ContentLost(f"the version that was taken in as checkpoint {name} was given up")

    return check


def keep_version(context: Context, document: DocumentId, version: int, most: int) -> bool:
    """See `contract.Store.keep_generation`."""

    def put(connection: Connection) -> bool:
        statements, asked = context.connections.statements, {**document._asdict(), "version": version, "most": most}
        with context.connections.transaction(connection):
            if context.look_with(connection, document).version != version:
                return False
            connection.execute(statements["keep_version"], asked)
            connection.execute(statements["forget_versions"], asked)
        return True

    return context.connections.again(put)
