"""The store behind the server: open for reading all the time, and found again when it is not what it was.

A directory may be moved, removed, or put back from elsewhere while it is looked at. Each look compares the place with
what was opened; where they differ, the old handle is let go of with its last user, and the place is opened anew.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from waypost.cli.invocation import Invocation, Place, Reading, place_of, reading, shown, writing
from waypost.config import is_directory
from waypost.errors import StoreClosed, StoreNotFound, StoreReadOnly, StoreUnavailable


@dataclass
class _Held:
    """An open store: how it is closed, what its place was, and how many look at it now."""

    closing: ExitStack
    reading: Reading
    place: Place | None
    users: int = 0
    is_let_go: bool = False

    def close_if_unused(self) -> None:
        if self.is_let_go and not self.users:
            self.closing.close()


class Source:
    """Where the store is, and this server's hold on it. Safe to use from any thread."""

    def __init__(self, invocation: Invocation, *, read_only: bool) -> None:
        self.invocation = invocation
        self.read_only = read_only
        self._location = invocation.location()
        self._found = Invocation(self._location)
        self._held: _Held | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    @property
    def location(self) -> str:
        """Where the store is, as anyone may see it."""
        return shown(self._location)

    @property
    def is_directory(self) -> bool:
        return is_directory(self._location)

    @property
    def directory(self) -> str | None:
        """The path of the store, None where it is on a server."""
        return self._location if self.is_directory else None

    @contextmanager
    def reading(self) -> Generator[Reading]:
        """The store, which cannot be written to. Raises StoreNotFound, and what opening does, where it is away."""
        held = self._take()
        try:
            yield held.reading
        except (StoreClosed, StoreNotFound, StoreUnavailable) as error:
            # one file that cannot be read takes the store from nobody: a directory tells by itself when it is another
            if not (self.is_directory and isinstance(error, StoreUnavailable)):
                self._let_go(held)
            raise
        finally:
            with self._lock:
                held.users -= 1
                held.close_if_unused()

    @contextmanager
    def writing(self) -> Generator[Reading]:
        """The store, open for one change. Raises StoreReadOnly where nothing may be changed, and what opening does."""
        if self.read_only:
            raise StoreReadOnly("this server only shows: it was started with --read-only")
        with writing(self._found) as store:
            yield store

    def which(self, store: Reading) -> Place | None:
        """What tells it from another one in the same place; None where nothing does."""
        with self._lock:
            held = self._held
        return held.place if held is not None and held.reading is store else ()

    def is_current(self, store: Reading) -> bool:
        """Whether the store is still what is open."""
        with self._lock:
            held = self._held
        return held is not None and held.reading is store and held.place == place_of(self._location)

    def close(self) -> None:
        """Close the store, also before whoever still looks at it, who is told so; it is not opened again."""
        with self._lock:
            held, self._held, self._is_closed = self._held, None, True
        if held is not None:
            held.closing.close()

    def _take(self) -> _Held:
        with self._lock:
            if self._is_closed:
                raise StoreClosed("the server ends")
            place = place_of(self._location)
            held = self._held
            if held is not None and held.place != place:
                self._drop(held)
                held = None
            if held is None:
                closing = ExitStack()
                held = self._held = _Held(closing, closing.enter_context(reading(self._found)), place)
            held.users += 1
            return held

    def _let_go(self, held: _Held) -> None:
        with self._lock:
            self._drop(held)

    def _drop(self, held: _Held) -> None:
        if self._held is held:
            self._held = None
        held.is_let_go = True
        held.close_if_unused()
