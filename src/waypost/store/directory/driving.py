"""Threads that carry out what is queued for documents, where whoever handed it in does not wait for it himself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from waypost.errors import StoreClosed, StoreUnavailable
from waypost.store.directory.document import Document

if TYPE_CHECKING:
    from concurrent.futures import Executor

_LOG = logging.getLogger("waypost")
_AGAIN_S = 0.01


class Drivers:
    """At most one thread at a time for a document, of a pool that is made when it is first needed."""

    def __init__(self, new_pool: Callable[[str], Executor]) -> None:
        self._new_pool = new_pool
        self._lock = threading.Lock()
        self._pool: Executor | None = None
        self._closed = False

    def see_to(self, document: Document) -> None:
        """Have what is queued for a document carried out.

        Raises StoreClosed, and StoreUnavailable where no thread can be had.
        """
        with self._lock:
            self._have_driven(document)

    def _have_driven(self, document: Document) -> None:
        if self._closed:
            raise StoreClosed(f"the store of {document.id.kind} {document.id.id!r} is closed")
        if document.driver_is_due:
            return
        document.driver_is_due = True
        try:
            if self._pool is None:
                self._pool = self._new_pool("waypost")
            self._pool.submit(self._drive, document)
        except BaseException as error:
            document.driver_is_due = False
            if not isinstance(error, RuntimeError):
                raise
            raise StoreUnavailable(f"no thread could be had to carry out a change: {error}") from error

    def _drive(self, document: Document) -> None:
        while self._is_driven_on(document):
            try:
                document.drive()
            except BaseException:  # all who wait were told of what came of theirs, and what is queued goes on
                with suppress(Exception):
                    _LOG.exception("%s %r: a thread was disturbed", document.id.kind, document.id.id)
                time.sleep(_AGAIN_S)  # memory may be had by then

    def _is_driven_on(self, document: Document) -> bool:
        """Whether there is more to do. What comes in later finds no driver due; a pool that closes takes no new one."""
        with self._lock:
            document.driver_is_due = document.has_work
            return document.driver_is_due

    def close(self) -> None:
        """Take nothing more, and wait for what is under way."""
        with self._lock:
            self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=True)
