"""Commits of another store, appended behind the newest one here as they were made there, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from waypost.errors import VersionConflict, WaypostError
from waypost.store.kinds import DocumentId
from waypost.store.pasts import Commit
from waypost.store.postgres.connections import Connection
from waypost.store.postgres.context import Context
from waypost.store.postgres.receiving import append_told

_BATCH = 64


class _Refused(Exception):
    """One commit of a batch that cannot be appended: which, and why."""

    def __init__(self, number: int, error: WaypostError) -> None:
        super().__init__(number)
        self.number = number
        self.error = error


def follow(
    context: Context,
    document: DocumentId,
    head: bytes,
    commits: Iterable[Commit],
    checks: Sequence[Callable[[], None]],
) -> int:
    """See `contract.Store.follow`."""
    rest = iter(commits)
    version = context.look(document).version
    try:
        while batch := list(islice(rest, _BATCH)):
            try:
                version, head = _append(context, document, head, batch, checks)
            except _Refused as refused:  # those before it are whole
                if refused.number:
                    _append(context, document, head, batch[: refused.number], checks)
                raise refused.error from None
    finally:
        context.forget(document)
    return version


def _append(
    context: Context, document: DocumentId, head: bytes, batch: Sequence[Commit], checks: Sequence[Callable[[], None]]
) -> tuple[int, bytes]:
    def act(connection: Connection) -> tuple[int, bytes]:
        with context.connections.transaction(connection):
            found = context.look_with(connection, document).head
            if found.commit_id == batch[-1].commit_id:  # an earlier attempt, whose connection was lost
                return found.version, found.commit_id
            if found.commit_id != head:
                raise VersionConflict(f"{document.kind} {document.id!r} was changed meanwhile")
            for check in checks:
                check()
            for number, commit in enumerate(batch):
                try:
                    found = append_told(context, connection, document, found, commit)
                except WaypostError as error:
                    raise _Refused(number, error) from error
            return found.version, found.commit_id

    return context.in_transaction(f"a batch of {len(batch)} commits", act)
