"""Repairing checkpoints: files that are damaged go aside, and are written again where history has their versions.

What is neither in a file nor in history is lost, and its document is told so: a checkpoint that nobody can go back to
is no checkpoint. Its bytes are in `damaged/` like everything that a repair takes away.
"""

from __future__ import annotations

from waypost import clock
from waypost.errors import DocumentDamaged, UnsupportedFormat, WaypostError
from waypost.store.contract import ADOPTED, CHECKPOINT, Change
from waypost.store.directory import checkpoints
from waypost.store.directory.document import Document
from waypost.store.directory.files import Directory
from waypost.store.directory.layout import SUFFIXES
from waypost.store.directory.log import Log
from waypost.store.directory.mending import Mender
from waypost.store.kinds import DocumentId
from waypost.store.views import Transaction


class CheckpointMender(Mender):
    """What a repair does about checkpoints, once it has mended logs."""

    def mend(self) -> None:
        self._mend_files()
        if not self.is_dry and (self.report.repaired or self.context.layout.existing(checkpoints.FOLDER) is not None):
            for document in self._documents():
                self._mend_document(document)

    def _mend_files(self) -> None:
        if self.layout.root.kind(checkpoints.FOLDER) not in (None, "directory"):
            self.move_aside(self.layout.root, checkpoints.FOLDER, "is no directory")
            if self.is_dry:
                return
        folder = self.layout.root.open_directory(checkpoints.FOLDER)
        for name in sorted(folder.names()) if folder else []:
            if folder is not None and name != checkpoints.LOCK:
                self._mend_file(folder, name)

    def _mend_file(self, folder: Directory, name: str) -> None:
        if not name.endswith(checkpoints.SUFFIX) or folder.kind(name) != "file":
            self.move_aside(folder, name, "is no file of a store")
            return
        try:
            layer = checkpoints.read_file(self.context, folder, name)
            if layer is not None and checkpoints.file_name(layer.name) != name:
                self.move_aside(folder, name, f"holds {layer.name!r}, whose file has another name")
            elif layer is not None:
                checkpoints.check_layer(layer)
        except DocumentDamaged as error:
            self.move_aside(folder, name, str(error))
        except UnsupportedFormat as error:
            self.note(folder, name, str(error), "left")

    def _documents(self) -> list[DocumentId]:
        found: list[DocumentId] = []
        for kind, suffix in SUFFIXES.items():
            is_there = self.layout.root.kind(f"{kind}s") == "directory"
            folder = self.layout.root.open_directory(f"{kind}s") if is_there else None
            names = [name for name in sorted(folder.names()) if name.endswith(suffix)] if folder else []
            for name in names:
                log = self.context.open_log(folder, name, write=False) if folder else None
                if log is not None and _is_begun(log) and log.body is not None:
                    found.append(DocumentId(kind, log.body.id))
        return found

    def _mend_document(self, identifier: DocumentId) -> None:
        document = Document(self.context, identifier, lambda _: None, lambda _: False)
        try:
            if document.view(durable=False).version and document.checkpoints():
                document.keep_checkpoints(newest_only=False, dropping=0)
                lost = [name for name in document.checkpoints() if self._is_lost(document, name)]
                if lost:
                    _take_out(document, lost)
        except WaypostError as error:
            folder = self.layout.documents(identifier.kind)
            self.note(folder, checkpoints.FOLDER, f"its checkpoints cannot be mended: {error}", "left")
        finally:
            document.close()

    def _is_lost(self, document: Document, name: str) -> bool:
        try:
            return document.checkpoint(name) is None
        except DocumentDamaged as error:
            folder, file = self.layout.folder(checkpoints.FOLDER), checkpoints.file_name(name)
            if folder.kind(file) is not None:
                self.move_aside(folder, file, str(error))
            else:
                self.note(folder, file, str(error), "taken out")
            return True


def _is_begun(log: Log) -> bool:
    try:
        return log.first(log.file.identity().size) is not None
    except (DocumentDamaged, UnsupportedFormat):
        return False  # of a later format, and told of already


def _take_out(document: Document, names: list[str]) -> None:
    def work(tx: Transaction) -> None:
        for name in names:
            tx.delete(CHECKPOINT + name)
            tx.delete(ADOPTED + name)

    document.submit(Change(document.id, work, clock.new_id("op"), "repair"), None).result()
