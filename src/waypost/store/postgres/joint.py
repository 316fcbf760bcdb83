"""Committing to several documents: their rows are locked in the order of their names, what was read is compared, and
all that was staged is appended, in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from waypost import clock
from waypost.codec.bodies import JointMark, Participant
from waypost.store.contract import Counters, JointChange, Receipt
from waypost.store.kinds import DocumentId
from waypost.store.postgres import drafts
from waypost.store.postgres.appending import append, hold_adopted
from waypost.store.postgres.committing import is_as_read
from waypost.store.postgres.connections import Connection
from waypost.store.postgres.context import Context
from waypost.store.postgres.documents import DocumentView, Head
from waypost.store.postgres.drafts import Draft
from waypost.store.postgres.receiving import Received
from waypost.store.staging import StagedTransaction

Opened = Mapping[DocumentId, StagedTransaction]


def commit(context: Context, opened: Opened, change: JointChange, received: Received | None) -> Receipt | None:
    """See `contract.Store.commit`."""
    written = [document for document, each in opened.items() if each.staged.changes_anything or change.repeatable]
    if not written and received is None:
        return Receipt(0, changed=False) if _is_so_still(context, opened) else None

    appended: set[bytes] = set()

    def act(connection: Connection) -> Receipt | None:
        receipt: Receipt | None = None
        with context.connections.transaction(connection):
            receipt = commit_with(context, connection, opened, written, change, received, appended)
            if receipt is None:
                raise psycopg.Rollback
        return receipt

    is_import = received is not None and bool(received.documents)  # else nothing but the operation's id tells of it
    receipt = received.arrive(act) if received and is_import else context.in_transaction(change.operation_id, act)
    if receipt is not None:
        for document in opened:
            context.forget(document)
        for document in written:
            context.committed(document)
    return receipt


def _is_so_still(context: Context, opened: Opened) -> bool:
    """Whether all that was read was so at one moment: that of one statement."""
    kinds, ids = [document.kind for document in opened], [document.id for document in opened]
    rows = context.connections.read("versions_of", {"kinds": kinds, "ids": ids})
    now = {DocumentId(kind, name): (version, bytes(commit_id)) for kind, name, version, commit_id in rows if version}
    return all(
        each.view.version == version and (not version or each.view.commit_id == commit_id)
        for each, (version, commit_id) in ((each, now.get(document, (0, b""))) for document, each in opened.items())
    )


def commit_with(
    context: Context,
    connection: Connection,
    opened: Opened,
    written: list[DocumentId],
    change: JointChange,
    received: Received | None,
    appended: set[bytes],
) -> Receipt | None:
    """The same in a transaction that is open; None when the work has to run again. `appended` are the commit ids of
    earlier attempts, to which those of this one are added.
    """
    arriving: set[DocumentId] = set() if received is None else set(received.documents)
    heads: dict[DocumentId, Head] = {}
    for document in sorted({*opened, *arriving}):
        heads[document] = context.look_with(connection, document).head
    if any(heads[document].version for document in arriving):
        return None
    for document in written:  # of all first: what was only read may have changed since it was done
        seen = _seen(context, connection, heads[document], change)
        if seen is not None:
            is_own = not change.repeatable or seen in appended
            return Receipt(0, changed=True, counters=Counters(attempts=1)) if is_own else None
    if not all(_is_still(context, connection, each, heads[document]) for document, each in opened.items()):
        return None
    drafted = _drafted(context, opened, written, change, heads)
    for document, draft in drafted.items():
        hold_adopted(context, connection, document, draft)
        appended.add(append(context, connection, heads[document].doc, draft).commit_id)
    if received is not None:
        received.rename(connection)
    for document, head in heads.items():
        if not head.version and document not in drafted:
            connection.execute(context.connections.statements["drop_unwritten"], document)
    counters = Counters(
        raw_bytes=sum(draft.raw_bytes for draft in drafted.values()),
        bytes_written=sum(part.length for draft in drafted.values() for part in draft.puts.values()),
        writes=len(drafted),
        syncs=int(context.durable),
        attempts=1,
    )
    return Receipt(0, changed=bool(drafted or arriving), counters=counters)


def _seen(context: Context, connection: Connection, head: Head, change: JointChange) -> bytes | None:
    """The id of a commit that was made before: by the caller, or by this one when its connection was lost."""
    if not head.version:
        return None
    statements = context.connections.statements
    asked = {"doc": head.doc, "operation_id": change.operation_id, "version": head.version}
    found = connection.execute(statements["operation"], asked).fetchone()
    if found is None:
        return None
    row = connection.execute(statements["commit_id_at"], {"doc": head.doc, "version": found[1]}).fetchone()
    assert row is not None
    return bytes(row[0])


def _is_still(context: Context, connection: Connection, transaction: StagedTransaction, head: Head) -> bool:
    known = transaction.view
    return isinstance(known, DocumentView) and is_as_read(context, connection, transaction, known, head)


def _drafted(
    context: Context,
    opened: Opened,
    written: list[DocumentId],
    change: JointChange,
    heads: Mapping[DocumentId, Head],
) -> dict[DocumentId, Draft]:
    mark = None
    if len(written) > 1:
        participants = [Participant(*document, heads[document].version + 1) for document in sorted(written)]
        mark = JointMark(clock.new_id("tx"), participants)
    now_us = drafts.now_us()
    return {
        document: drafts.draft(change, opened[document].staged, context.chunk_bytes, now_us, mark)
        for document in written
    }
