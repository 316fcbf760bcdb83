"""Documents that arrive with their past: whole logs, made beside the store's life, that one decision lets appear.

A log is written, synced and verified in a directory of its own in `temp`, which whoever receives has locked, under the
name that it will have. Nobody looks there before a decision over several documents names that directory (docs/
durability.md, section 4); without one it is removed, by its maker or by whoever next opens the store for writing.
"""

from __future__ import annotations

import logging
import os
from typing import NamedTuple

from waypost.codec.bodies import SnapshotBody
from waypost.codec.compression import Compressor
from waypost.codec.frame import new_file_id
from waypost.errors import DocumentDamaged, InvalidInput, StoreUnavailable, WaypostError
from waypost.store.contract import Change
from waypost.store.directory import compaction, loading, snapshots
from waypost.store.directory.batch import Prepared, Tentative
from waypost.store.directory.compaction import Origin, Rewriter
from waypost.store.directory.context import Context
from waypost.store.directory.decisions import IMPORT
from waypost.store.directory.files import Directory
from waypost.store.directory.layout import file_name
from waypost.store.directory.log import Log
from waypost.store.directory.log_check import check_log
from waypost.store.directory.state import DocumentState
from waypost.store.directory.submission import Submission
from waypost.store.directory.transcript import Transcript
from waypost.store.kinds import DocumentId
from waypost.store.pasts import Past
from waypost.store.staging import StagedTransaction
from waypost.store.values import ContentLost
from waypost.store.views import View

_LOG = logging.getLogger("waypost")
_CACHE_BYTES = 1 << 20
_TRIES = 8


class Arriving(NamedTuple):
    """A log that is to arrive: how long it is, and which file it will be."""

    length: int
    file_id: int


class Received:
    """Fulfils `contract.Reception`. Not for use by several threads."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._folder: Directory | None = None
        self.name = ""
        """The directory in `temp` that holds the logs."""
        self.logs: dict[DocumentId, Arriving] = {}
        self.restores = context.restores

    @property
    def documents(self) -> list[DocumentId]:
        return list(self.logs)

    def take(self, document: DocumentId, past: Past, change: Change | None) -> View:
        folder, name = self._opened(), file_name(document)
        file = folder.open(name, write=True, create=True, exclusive=True)
        assert file is not None
        compressor = self._context.take_compressor()
        out = Rewriter(file, new_file_id(), self._context.limit_bytes, compressor)
        transcript = Transcript(out, compressor, self._context.chunk_bytes)
        transcript.write(document, past)
        log, state = self._look(folder, document)
        if change is not None and self._append(out, state, change):
            log, state = self._look(folder, document)
        transcript.standing = state.standing
        _put_snapshot(out, log, state, compressor)
        transcript.seal()
        self._context.give_back(compressor)
        file.sync_all()
        self._verify(folder, document)
        self.logs[document] = Arriving(out.end, out.file_id)
        return self._look(folder, document)[1].view()

    def _opened(self) -> Directory:
        """The directory of what is taken in, locked so that nobody takes it for a leftover."""
        temp = self._context.layout.folder("temp")
        for _ in range(_TRIES):
            if self._folder is not None:
                return self._folder
            self.name = f"{os.urandom(8).hex()}{IMPORT}"
            made = temp.open_directory(self.name) if temp.make_directory(self.name) else None
            if made is not None and made.try_lock() and temp.kind(self.name) is not None:
                self._folder = made
        raise StoreUnavailable(f"{temp.path}: new directories cannot be locked", file=temp.path)

    def _look(self, folder: Directory, document: DocumentId) -> tuple[Log, DocumentState]:
        context = self._context.apart(_CACHE_BYTES)
        log = context.open_log(folder, file_name(document), write=False)
        assert log is not None
        return log, loading.read(log, context, document)

    def _append(self, out: Rewriter, state: DocumentState, change: Change) -> bool:
        """Run the work of a change over what was taken in, and append what it staged, if anything."""
        transaction = StagedTransaction(state.view())
        work = change.work
        work(transaction)
        if not transaction.staged.changes_anything and not change.repeatable:
            return False
        submission = Submission(_not_driven, change, None)
        prepared = Prepared(submission, transaction, Tentative(state), self._context, None)
        out.put(prepared.draft, prepared.standing_after(state.standing))
        return True

    def _verify(self, folder: Directory, document: DocumentId) -> None:
        """Read the log back, and compare every commit with its id and its sums."""
        report = check_log(folder, file_name(document), document.kind, self._context.apart(_CACHE_BYTES))
        if report.refused:
            raise report.refused[0]
        amiss = [found.text for found in report.findings if found.severity != "note"]
        if amiss:
            raise DocumentDamaged(f"{document.kind} {document.id!r} cannot be taken in: {amiss[0]}", file=document.id)

    def sync(self) -> None:
        """Make the names of the logs durable, before anything is decided about them. Raises ContentLost."""
        if self.restores != self._context.restores:
            raise ContentLost(f"the store was restored after {self.name} was taken in")
        if self._folder is not None:
            self._folder.sync()
            self._context.layout.folder("temp").sync()

    def close(self) -> None:
        """Give up what has not arrived."""
        folder, self._folder = self._folder, None
        if folder is None:
            return
        try:
            if self.name not in self._context.decisions.folders():
                self._context.decisions.remove_arrived(self.name)
        except WaypostError as error:
            _LOG.warning("%s/%s is left: %s", folder.path, self.name, error)
        finally:
            folder.close()


def _not_driven() -> None:
    """The change is not in a queue."""


def _put_snapshot(out: Rewriter, log: Log, state: DocumentState, compressor: Compressor) -> None:
    """So that whoever opens the log need not go through all of it."""
    view = state.view()
    if not view.version:
        raise InvalidInput(f"{view.document.kind} {view.document.id!r} has no version that could be taken in")
    origin = Origin(log, view, out.end, out.link, state.base, state.operations_since_base, state.mark())
    builder, compressed = snapshots.build_anew(view, compaction.remembered(origin), compressor, lambda part: part)
    body = SnapshotBody(out.end, out.link, 0, compressed, [], [])
    out.put(builder.draft(body), view.standing)


def sweep(context: Context) -> None:
    """Remove what dead processes were taking in. What fails is left as it is."""
    temp = context.layout.folder("temp")
    for name in temp.names():
        if not name.endswith(IMPORT):
            continue
        try:
            folder = temp.open_directory(name)
            # only once its maker is known to be gone is it sure that no decision will name it which does not yet
            if folder is not None and folder.try_lock() and name not in context.decisions.folders():
                context.decisions.remove_arrived(name)
                _LOG.info("%s: removed temp/%s, which a dead process was importing", context.layout.path, name)
        except WaypostError as error:
            _LOG.warning("%s", error)
