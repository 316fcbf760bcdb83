"""The documents that a store has open, as many as are in use or were of late.

Each is there once, from when it is opened until it was let go of, and none is let go of while it is used: what is open
is what a fork, a restore and closing the store go through, and what remembers that a sync has failed.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager

from waypost.errors import StoreClosed, StoreUnavailable, WaypostError
from waypost.store.directory import upkeep
from waypost.store.directory.context import Context
from waypost.store.directory.document import Document
from waypost.store.directory.layout import Layout
from waypost.store.kinds import DocumentId

_LOG = logging.getLogger("waypost")
_MOST_OPEN, _CHECK_MEMORY_EVERY = 128, 64


class Holding:
    """That part of a directory store that opens documents, and lets go of them."""

    layout: Layout
    _context: Context
    _lock: threading.Lock
    _documents: OrderedDict[DocumentId, Document]
    _upkeep: upkeep.Upkeep
    _closed: bool
    _uses: int

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed(f"the store {self.layout.path} is closed", location=self.layout.path)

    @contextmanager
    def _while_open(self) -> Generator[None]:
        """What cannot be had since closing has let go of the folders in between fails for being closed."""
        self._check_open()
        try:
            yield
        except StoreUnavailable:
            self._check_open()
            raise

    @contextmanager
    def _opening(self, *, one_by_one: bool = False) -> Generator[Callable[[DocumentId], Document]]:
        """Opens documents, which are not let go of before its end; `one_by_one` each only until the next is opened."""
        used: list[Document] = []

        def open_(identifier: DocumentId) -> Document:
            if one_by_one:
                self._give_back(used)
            return self._document(identifier, used)

        try:
            yield open_
        finally:
            self._give_back(used)

    def _give_back(self, used: list[Document]) -> None:
        """Use documents no more, and let go of what is too many then."""
        with self._lock:
            while used:
                used.pop().users -= 1
            self._uses += 1
            is_due = self._uses % _CHECK_MEMORY_EVERY == 0 or len(self._documents) > _MOST_OPEN
            idle = self._too_many() if is_due else []
        for each in idle:
            self._let_go(each)

    def _document(self, identifier: DocumentId, used: list[Document] | None = None) -> Document:
        """Open a document; with `used` it is in use until it is given back."""
        with self._lock:
            self._check_open()
            document = self._documents.get(identifier)
            if document is None:
                document = self._documents[identifier] = self._new_document(identifier)
            else:
                self._documents.move_to_end(identifier)
            if used is not None:
                document.users += 1  # first: an interrupt behind it has the document kept, and not let go of too soon
                used.append(document)
        return document

    def _new_document(self, identifier: DocumentId) -> Document:
        return Document(self._context, identifier, self._upkeep.ask, self._compact)

    def _compact(self, document: Document) -> bool:
        return upkeep.compact(document, self._context)

    @staticmethod
    def _let_go(document: Document) -> None:
        """Release a document that is not in use; it is nobody's call that fails when that does."""
        try:
            document.release()
        except WaypostError as error:
            _LOG.warning("%s %r was not sealed: %s", document.id.kind, document.id.id, error)

    def _too_many(self) -> list[Document]:
        """Documents to let go of, the least recently used first, until descriptors and memory are within bounds."""
        room = self._context.memory_bytes - self._context.cache.bytes
        held = sum(document.memory_bytes() for document in self._documents.values())
        idle: list[Document] = []
        for identifier, document in list(self._documents.items())[:-1]:
            if len(self._documents) <= _MOST_OPEN and held <= room:
                break
            # what is poisoned must not be opened as if nothing had happened
            if not document.is_in_use and not document.is_poisoned:
                del self._documents[identifier]
                held -= document.memory_bytes()
                idle.append(document)
        return idle
