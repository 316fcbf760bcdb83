"""What is seen of a store by its files, whatever of it is open."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from waypost.errors import WaypostError
from waypost.store.claims import Sight
from waypost.store.directory import checkpoints, index
from waypost.store.directory.checkpoints import FOLDER
from waypost.store.directory.claims import Claims
from waypost.store.directory.context import Context
from waypost.store.directory.layout import SUFFIXES, Layout, decode_id, file_name
from waypost.store.directory.listening import Listener
from waypost.store.kinds import DocumentId, Kind

_LOG = logging.getLogger("waypost")


class Looking:
    """That part of a directory store that needs no document to be open."""

    layout: Layout
    _context: Context
    _claims: Claims
    _closed: bool

    @property
    def place(self) -> object:
        """The same for all that have this directory open, by whatever path; a closed store has only its path left."""
        return self.layout.path if self._closed else self.layout.root.place()

    def listen(self, document: DocumentId | None = None) -> Listener:
        return Listener(self._context, document, lambda: self._closed)

    def decided(self, kind: Kind) -> set[str]:
        """The documents of a kind of which pending decisions say something; they may have no file yet."""
        pending = self._context.decisions.pending().values()
        return {each.id for body in pending for each in body.participants if each.kind == kind}

    def log_bytes(self, document: DocumentId) -> int:
        folder = self.layout.existing_documents(document.kind)
        return (folder and folder.allocated(file_name(document))) or 0

    def checkpoint_bytes(self, names: Iterable[str]) -> dict[str, int]:
        folder = self.layout.existing(FOLDER)
        found = {name: None if folder is None else folder.allocated(checkpoints.file_name(name)) for name in names}
        return {name: taken for name, taken in found.items() if taken is not None}

    def holder(self, document: DocumentId) -> Sight | None:
        return self._claims.sight(document)

    def claimed(self, kind: Kind) -> Iterator[str]:
        return self._claims.documents(kind)

    def recall(self, name: str) -> bytes | None:
        return index.recall(self.layout, name)

    def keep(self, name: str, data: bytes) -> None:
        index.keep(self.layout, name, data)

    def id_of(self, kind: Kind, name: str) -> str | None:
        """The id that a file's name stands for, or that the file itself tells where its name was cut."""
        identifier = decode_id(name)
        if identifier is not None:
            return identifier
        try:
            log = self._context.open_log(self.layout.documents(kind), name + SUFFIXES[kind], write=False)
            if log is None or log.first(log.file.identity().size) is None or log.body is None:
                return None
        except WaypostError as error:
            _LOG.warning("the id of %s %s cannot be read: %s", kind, name, error)
            return None
        return log.body.id
