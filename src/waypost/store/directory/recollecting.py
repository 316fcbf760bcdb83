"""Repairing checkpoints: files that are damaged go aside, and are written again where history has their versions.

What is neither in a file nor in history is lost, and its document is told so: a checkpoint that nobody can go back to
is no checkpoint. Its bytes are in `damaged/` like everything that a repair takes away.

The other way about, a file may be whole whose part in the document is lost with a damaged log: its document adopts it,
as it does with what is left when all else of it was lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

from waypost import clock
from waypost.codec.frame import Standing
from waypost.errors import DocumentDamaged, UnsupportedFormat, WaypostError
from waypost.store.contract import ADOPTED, CHECKPOINT, Change
from waypost.store.directory import beside, checkpoints, forgotten, keeping
from waypost.store.directory.checkpoints import Kept
from waypost.store.directory.context import Context
from waypost.store.directory.document import Document
from waypost.store.directory.files import Directory
from waypost.store.directory.forgotten import Told
from waypost.store.directory.layout import FOLDERS, SUFFIXES, Layout, file_name
from waypost.store.directory.log import Log
from waypost.store.directory.mending import LEFT_BEHIND, Mender, RepairReport, Without
from waypost.store.kinds import DocumentId
from waypost.store.views import Transaction


class CheckpointMender(Mender):
    """What a repair does about checkpoints, once it has mended logs."""

    def __init__(
        self, layout: Layout, context: Context, report: RepairReport, salvaged: dict[DocumentId, Told | None]
    ) -> None:
        """`salvaged` is what is told by what is kept of the logs that were not whole, where there is any."""
        super().__init__(layout, context, report)
        self._salvaged = salvaged
        self._whole: dict[DocumentId, dict[str, Standing]] = {}
        """The files that are whole in themselves."""
        self._parents: dict[str, str | None] = {}
        """What each of these stands on."""
        self._aside: set[str] = set()
        """The files that went aside, which a dry run does not see any more."""

    def mend(self) -> None:
        if self.layout.root.kind(checkpoints.FOLDER) not in (None, "directory"):
            self.move_aside(self.layout.root, checkpoints.FOLDER, "is no directory")
            if self.is_dry:
                return
        folder = self.layout.root.open_directory(checkpoints.FOLDER) if self.is_dry else None
        if folder is not None:
            self.layout.see(checkpoints.FOLDER, Without(folder, self._aside))
        self._mend_files()
        # first, since what is lost may stand on what history has, and what is written again from there
        for document in self._documents():
            self._mend_document(document)
        for identifier, names in self._whole.items():
            if self.is_dry and self._is_aside(identifier, FOLDERS[identifier.kind]):
                self._tell_gone(identifier, names)
            else:
                self._adopt_lost(identifier, names)

    def move_aside(self, folder: Directory, name: str, found: str) -> None:
        super().move_aside(folder, name, found)
        self._aside.add(name)

    def _mend_files(self) -> None:
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
                self._whole.setdefault(layer.document, {})[layer.name] = layer.standing
                self._parents[layer.name] = layer.parent
        except DocumentDamaged as error:
            self.move_aside(folder, name, str(error))
        except UnsupportedFormat as error:
            self.note(folder, name, str(error), "left")

    def _adopt_lost(self, identifier: DocumentId, names: dict[str, Standing]) -> None:
        """Have a document speak again of checkpoints that its log has lost. A dry run knows what will be left of it."""
        try:
            told = self._told(identifier, names)
        except (DocumentDamaged, UnsupportedFormat):
            return  # it is told of already
        except WaypostError as error:
            if not self.is_dry:  # else what is in the way of its log is told of already, and still there
                self.note(self.layout.root, _log_path(identifier), str(error), "left")
            return
        if told is None:
            if forgotten.is_gone(self.context, identifier):
                self._tell_gone(identifier, names)
            return
        found = [name for name, standing in names.items() if told.fate(name, standing) == "lost"]
        said: dict[str, bytes] = {}
        for name in sorted(found, reverse=True):
            kept = self._kept(name)
            if kept is not None:
                _note_said(kept, name, said)
        adopted = {name: said[name] for name in sorted(found) if name in said}
        folder = self.layout.folder(checkpoints.FOLDER)
        for name in adopted:
            text = (
                f"is of version {names[name].version:,} of {identifier.kind} {identifier.id!r}, whose log has lost it"
            )
            self.note(folder, checkpoints.file_name(name), text, "adopted")
        if adopted and not self.is_dry:
            self._scrub(identifier, adopted)
            self._submit(identifier, adopted)

    def _tell_gone(self, identifier: DocumentId, names: Iterable[str]) -> None:
        """Say what brings a document back whose log is gone: which of its checkpoints to go back to is not ours to say.
        Of a log that a repair has moved aside that was told. A checkpoint that lacks what it stands on goes aside.
        """
        names = [name for name in names if self._kept(name) is not None]
        if names and not self._is_aside(identifier) and not forgotten.is_aside(self.layout, identifier):
            self.note(self.layout.root, _log_path(identifier), forgotten.told_of_gone(identifier, names), "left")

    def _is_aside(self, identifier: DocumentId, *also: str) -> bool:
        """Whether this repair has moved a log out of the way, or in a dry run would have, or something `also`."""
        names = {_log_path(identifier), *also}
        return any(each.action == "moved aside" and each.file in names for each in self.report.repaired)

    def _told(self, identifier: DocumentId, names: Iterable[str]) -> Told | None:
        if identifier in self._salvaged and self.is_dry:
            return self._salvaged[identifier]
        if checkpoints.names_now(self.context, identifier).issuperset(names):
            return None  # so that not every log is gone through
        return forgotten.told_by_log(self.context, identifier)

    def _kept(self, name: str) -> Kept | None:
        """A checkpoint with all that it stands on; one that lacks some of that goes aside."""
        folder, file = self.layout.folder(checkpoints.FOLDER), checkpoints.file_name(name)
        try:
            return checkpoints.read(self.context, name)
        except DocumentDamaged as error:
            self.move_aside(folder, file, str(error))
        except WaypostError as error:  # such as one of a later format, which stays what it is
            self.note(folder, file, str(error), "left")
        return None

    def _scrub(self, identifier: DocumentId, names: Iterable[str]) -> None:
        """What is adopted counts as older than any erasure, like all that does not stand in the log's own history."""
        erasures = keeping.erasures_now(self.context, identifier)
        if erasures:
            files = set(map(checkpoints.file_name, names))
            beside.scrub_files(self.context, erasures, lambda _: False, lambda _, file: file in files)

    def _submit(self, identifier: DocumentId, said: dict[str, bytes]) -> None:
        def work(tx: Transaction) -> None:
            for name, data in said.items():
                tx.put(ADOPTED + name, data)

        document = Document(self.context, identifier, lambda _: None, lambda _: False)
        try:
            document.submit(Change(identifier, work, clock.new_id("op"), "repair"), None).result()
        finally:
            document.close()

    def _documents(self) -> list[DocumentId]:
        found: list[DocumentId] = []
        for kind, suffix in SUFFIXES.items():
            is_there = self.layout.root.kind(f"{kind}s") == "directory"
            folder = self.layout.root.open_directory(f"{kind}s") if is_there else None
            for name in sorted(folder.names()) if folder else []:
                is_log = folder is not None and name.endswith(suffix) and folder.kind(name) == "file"
                log = self.context.open_log(folder, name, write=False) if folder and is_log else None
                if log is not None and _is_begun(log) and log.body is not None:
                    found.append(DocumentId(kind, log.body.id))
        return found

    def _mend_document(self, identifier: DocumentId) -> None:
        if self.is_dry and identifier in self._salvaged:
            return  # what will be left of its log is not there to be asked
        document = Document(self.context, identifier, lambda _: None, lambda _: False)
        try:
            if document.view(durable=False).version and document.checkpoints():
                self._mend_checkpoints(document)
        except UnsupportedFormat:
            pass  # it is told of already
        except WaypostError as error:
            if not self.is_dry:
                folder = self.layout.documents(identifier.kind)
                self.note(folder, checkpoints.FOLDER, f"its checkpoints cannot be mended: {error}", "left")
        finally:
            document.close()

    def _mend_checkpoints(self, document: Document) -> None:
        """Write again what history has; what it has not, and no file, the document has to forget."""
        broken = {name: why for name in document.checkpoints() if (why := self._is_broken(name))}
        if not self.is_dry:
            document.keep_checkpoints(newest_only=False, dropping=0)
        lost = {name for name in document.checkpoints() if self._is_lost(document, name)}
        for name in sorted(broken.keys() - lost):
            self.note(self.layout.root, _path(name), broken[name], "written anew")
        if lost and not self.is_dry:
            _take_out(document, sorted(lost))

    def _is_broken(self, name: str) -> str | None:
        """Why a checkpoint cannot be read by its file, if it has one, and nothing told so far is why."""
        try:
            checkpoints.read(self.context.apart(keeping.CACHE_BYTES), name)
        except DocumentDamaged as error:
            below: str | None = name
            for _ in range(checkpoints.LONGEST_CHAIN):  # damaged ones may stand on each other
                below = self._parents.get(below or "")
                if below is not None and checkpoints.file_name(below) in self._aside:
                    return None
            return str(error)
        return None

    def _is_lost(self, document: Document, name: str) -> bool:
        try:
            return document.checkpoint(name) is None
        except UnsupportedFormat:
            return False  # it is told of already, and stays what it is
        except DocumentDamaged as error:
            folder, file = self.layout.existing(checkpoints.FOLDER), checkpoints.file_name(name)
            if folder is not None and folder.kind(file) is not None:
                self.move_aside(folder, file, str(error))
            else:
                self.note(self.layout.root, _path(name), str(error), "taken out")
            return True

    def clear_arrival(self, temp: Directory, name: str) -> None:
        """Move aside what a dead process took in and no document has adopted.

        What was adopted stays where it is read until it gets its place, which failed if it has none by now: there may
        be no other copy of it. So does what cannot be told to be one or the other.
        """
        with ExitStack() as held:
            try:
                if not self.is_dry:  # else somebody who imports could put his own under that name meanwhile
                    held.enter_context(keeping.alone(self.context))
                file = temp.open(name)
                # only with its lock is it sure that no commit will adopt it which has not done so
                found = self._why_unwanted(temp, name) if file is not None and file.try_lock() else None
            except WaypostError as error:
                self.note(temp, name, str(error), "left")
                return
            if found is not None:
                self.move_aside(temp, name, found)

    def _why_unwanted(self, temp: Directory, name: str) -> str | None:
        """Why a file that was taken in has to go; None for one that its document has adopted."""
        try:
            layer = checkpoints.read_file(self.context, temp, name)
        except DocumentDamaged as error:
            return str(error)  # where it stays, its document can never be told that this checkpoint is lost
        if layer is None:
            return None
        if checkpoints.arrival_name(layer.name) != name:
            return f"holds {layer.name!r}, whose file has another name"
        try:
            is_adopted = layer.name in checkpoints.names_now(self.context, layer.document)
        except DocumentDamaged:
            if self.is_dry:
                return None  # what will be left of its log is not there to be asked
            raise
        return None if is_adopted else LEFT_BEHIND


def _log_path(identifier: DocumentId) -> str:
    return f"{FOLDERS[identifier.kind]}/{file_name(identifier)}"


def _path(name: str) -> str:
    return f"{checkpoints.FOLDER}/{checkpoints.file_name(name)}"


def _note_said(kept: Kept, name: str, said: dict[str, bytes]) -> None:
    """Note what a version says of its checkpoint, and of those that were adopted before it: of these the newest."""
    for key in kept.keys(ADOPTED):
        data = kept.get(key)
        if data is not None:
            said.setdefault(key.removeprefix(ADOPTED), data)
    own = kept.get(CHECKPOINT + name)
    if own is not None:
        said.setdefault(name, own)


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
