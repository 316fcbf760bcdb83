"""Repairing transactions: decisions that cannot be read or carried out, and commits whose counterparts are gone.

There is no undo, so a commit that is there stays. What its transaction named and is not there cannot be had back; the
log is written anew without the history that still speaks of it, and as it was it is kept in `damaged/`.
"""

from __future__ import annotations

from waypost.codec import frame
from waypost.errors import DocumentDamaged, WaypostError
from waypost.store.directory import check, compaction, decisions, loading
from waypost.store.directory.compaction import History, Origin, commits
from waypost.store.directory.decisions import Overlaid
from waypost.store.directory.document import Document
from waypost.store.directory.files import Directory, File
from waypost.store.directory.layout import document_id
from waypost.store.directory.log import Log
from waypost.store.directory.mending import Mender, Repaired
from waypost.store.directory.salvage import find_frames
from waypost.store.kinds import DocumentId
from waypost.store.parts import NO_COMMIT


class TransactionMender(Mender):
    """What a repair does about transactions, before and after it mends logs."""

    def _folder(self) -> Directory | None:
        return self.layout.root.open_directory(decisions.FOLDER)

    def move_unreadable_aside(self) -> None:
        """Take away what stands where decisions do and is none. What it decided, and is not in its logs, is lost."""
        folder = self._folder()
        for name in sorted(folder.names()) if folder else []:
            if folder is None:
                return
            if not decisions.is_name(name) or folder.kind(name) != "file":
                self.move_aside(folder, name, "is no file of a store")
                continue
            try:
                decisions.read(folder, name)
            except DocumentDamaged as error:
                self.move_aside(folder, name, str(error))

    def with_decided(self, log: Log, document: DocumentId) -> Log:
        """A damaged log with what was decided for it laid over: the same log, where there is nothing."""
        find_frames(log, log.file.identity().size)  # which tells what file it is, also without its first frame
        pieces = [piece for piece in self._pieces_for(document) if piece.file_id == log.file_id]
        if not pieces:
            return log
        over = Overlaid(log.file, log.file.name, pieces, ends_there=False)
        return Log(
            log.folder, log.name, over, limit=self.context.limit_bytes, prewrite=False, keep=self.context.set_aside
        )

    def _pieces_for(self, document: DocumentId) -> list[decisions.Piece]:
        try:
            return self.context.decisions.pieces_for(document)
        except DocumentDamaged:  # in a dry run it is still there
            return []

    def carry_out(self) -> list[DocumentId]:
        """Carry out every decision as far as its logs allow; what cannot be is moved aside. The documents whose logs
        have arrived with it, be it that one is damaged where it could not be mended before.
        """
        arrived: list[DocumentId] = []
        folder = self._folder()
        if self.is_dry or folder is None:
            return arrived
        for transaction_id, body in list(self.context.decisions.pending().items()):
            refused: list[str] = []
            for each in body.participants:
                document = Document(self.context, document_id(each.kind, each.id), _nothing, _no_room)
                try:
                    document.settle()
                except DocumentDamaged as error:
                    refused.append(str(error))
                finally:
                    document.close()
            if refused:
                self.move_aside(folder, transaction_id, f"cannot be carried out: {'; '.join(refused)}")
            else:
                self.context.decisions.remove(transaction_id, body.folder)
            arrived += [document_id(each.kind, each.id) for each in body.participants if each.arriving]
        return arrived

    def mend_torn(self) -> None:
        """Write logs anew that hold a commit whose counterparts are gone, without the history up to it."""
        try:
            torn = check.verify(self.layout, self.context).torn
        except WaypostError:  # what is in the way is reported already, and was left
            return
        cuts: dict[DocumentId, int] = {}
        for each in torn:
            for document, version in each.there:
                cuts[document] = max(version, cuts.get(document, 0))
        for document, cut in sorted(cuts.items()):
            self._drop_history(document, cut)

    def _drop_history(self, document: DocumentId, cut: int) -> None:
        log, state = loading.load(self.context, document)
        past = loading.load_at(self.context, document, cut)
        assert log is not None and log.body is not None and past is not None  # it was verified just now
        entry = Repaired(
            file=log.file.name.removeprefix(f"{self.layout.path}/"),
            found=f"version {cut} was committed together with others that are not there",
            action="written anew",
            kind=document.kind,
            id=document.id,
            kept_version=state.standing.version,
            newest_version=state.standing.version,
            history_from=cut,
            kept_parts=sum(1 for _ in state.view().keys()),
        )
        history = _behind(log, cut)
        origin = Origin(
            log, state.view(), log.end, log.link, state.base, list(state.operations_since_base), state.mark()
        )

        def write(file: File) -> None:
            out = compaction.rewrite(origin, self.context, file, past, history)
            out.put(frame.seal_draft(), state.standing)

        self.put_in_place(log, entry, write)


def _behind(log: Log, cut: int) -> History:
    """The commits behind a version, and the ids of those up to it."""
    assert log.body is not None
    known = len(log.body.dropped) // len(NO_COMMIT)
    ids = b"".join(each.header.commit_id for each in commits(log, log.end) if known < each.header.version <= cut)
    return History(cut, log.body.dropped + ids, (each for each in commits(log, log.end) if each.header.version > cut))


def _nothing(_: Document) -> None:
    """No upkeep: the repair is over soon."""


def _no_room(_: Document) -> bool:
    return False
