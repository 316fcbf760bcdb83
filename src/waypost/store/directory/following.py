"""Commits of another store behind the newest one here (docs/sync.md, section 1).

Each is a change as any other, so that queue, batches, locks and syncs are those of all commits; what it puts is not
computed but told, and held against the id and the sums that are told with it before anything of its batch is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

from waypost.errors import VersionConflict
from waypost.store.contract import Change, OnDone, Ticket
from waypost.store.directory.content import Written
from waypost.store.kinds import DocumentId
from waypost.store.pasts import Commit
from waypost.store.staging import StagedTransaction
from waypost.store.values import Content, Pieces
from waypost.store.views import Transaction, View

_MOST_AT_A_TIME = 64
_BYTES_AT_A_TIME = 4 * 1024 * 1024


class Writer(Protocol):
    """As much of a store as is needed."""

    def submit(self, change: Change, on_done: OnDone | None = None) -> Ticket: ...
    def stage(
        self, document: DocumentId, key: str, length: int, pieces: Callable[[int], Iterable[bytes]]
    ) -> Written: ...
    def view(self, document: DocumentId) -> View: ...


class Following:
    """The part of a store that follows another."""

    def follow(
        self: Writer,
        document: DocumentId,
        head: bytes,
        commits: Iterable[Commit],
        checks: Sequence[Callable[[], None]] = (),
    ) -> int:
        under_way: list[Ticket] = []
        held = 0
        try:
            for commit in commits:
                large = {
                    key: self.stage(document, key, commit.puts[key], partial(cut, commit.pieces(key)))
                    for key in commit.digests
                }
                under_way.append(self.submit(_change(document, commit, _work(head, commit, large, checks))))
                head = commit.commit_id
                held += sum(commit.puts.values())
                if len(under_way) >= _MOST_AT_A_TIME or held >= _BYTES_AT_A_TIME:
                    under_way, held = _wait_for(under_way), 0
        finally:
            _wait_for(under_way)
        return self.view(document).version


def _change(document: DocumentId, commit: Commit, work: Callable[[Transaction], None]) -> Change:
    return Change(
        document,
        work,
        commit.operation_id,
        commit.operation,
        session=commit.session,
        agent=commit.agent,
        told=commit,
    )


def _wait_for(tickets: Sequence[Ticket]) -> list[Ticket]:
    """Wait for all, so that none is left under way; none is then. Raises what the first that failed came to."""
    first: Exception | None = None
    for each in tickets:
        try:
            each.result()
        except Exception as error:
            first = first or error
    if first is not None:
        raise first
    return []


def _work(
    head: bytes, commit: Commit, large: Mapping[str, Content], checks: Sequence[Callable[[], None]]
) -> Callable[[Transaction], None]:
    lost = [] if commit.erased is None else list(commit.erased[1])
    puts = {key: large[key] if key in large else commit.read(key) for key in commit.puts if key not in lost}

    def work(tx: Transaction) -> None:
        assert isinstance(tx, StagedTransaction)
        tx.read_prefixes.add("")  # whatever others commit comes in between
        if tx.commit_id != head:
            raise VersionConflict(f"{tx.document.kind} {tx.document.id!r} was changed meanwhile")
        for check in checks:
            check()
        tx.staged.puts = dict(puts)
        tx.staged.removed = set(commit.removed)
        tx.staged.cleared = commit.cleared
        tx.staged.projection = commit.projection

    return work


def cut(pieces: Pieces, size: int) -> Iterator[bytes]:
    """A value in pieces of one size, however it was cut before."""
    held = b""
    for number in range(len(pieces.starts)):
        piece = pieces.read(number)
        held = held + piece if held else piece
        start = 0
        while len(held) - start >= size:
            yield held[start : start + size]
            start += size
        held = held[start:]
    if held:
        yield held
