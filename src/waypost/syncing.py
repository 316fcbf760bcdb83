"""The operation that syncs two stores, as a request.

What it needs is loaded when it is run: programs that never sync do not pay for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol, get_args

from waypost.bundling import silent
from waypost.errors import InvalidInput, StoreNotFound, WaypostError
from waypost.operations import Observer, OperationResult, Request
from waypost.requests import Requests
from waypost.store import Counters, Progress, Store, open_store, place_of
from waypost.sync_models import OnConflict, Resolve, SyncReport


class Handle(Protocol):
    """An open Waypost of either face."""

    @property
    def definitions(self) -> Any: ...


class _Sync(Request[OperationResult[SyncReport]]):
    """A sync, reported like any write."""

    def __init__(self, store: Store, observer: Observer, sync: Callable[[], SyncReport]) -> None:
        super().__init__(store, "sync", None, observer)
        self._sync = sync

    def run(self) -> OperationResult[SyncReport]:
        try:
            return self._success(self._sync(), Counters(), False)
        except WaypostError as error:
            return self.failed(error)


class Syncing(Requests):
    """The operation that brings another store and this one to the same documents; see `definitions`."""

    def sync(
        self,
        other: str | os.PathLike[str] | Handle,
        *,
        on_conflict: OnConflict = "merge",
        resolve: Resolve | None = None,
        dry_run: bool = False,
        progress: Progress = silent,
    ) -> Request[OperationResult[SyncReport]]:
        """Bring this store and another to the same workflows and sessions, both ways: docs/sync.md. `other` is a
        location, where a store is made if there is none, or an open Waypost, which stays open.

        Only what is missing travels, found by commit ids. What both have changed is merged part by part; what both have
        changed in different ways is a conflict. `on_conflict` says what becomes of it: left alone on both sides and
        reported (`merge`), the later change (`last_writer_wins`), what it was before both (`rollback`), or what
        `resolve(conflict)` answers (`user_intervention`). It may be broken off anywhere and done again. With `dry_run`
        nothing is changed. `progress(done, of)` is told of documents.

        A document that cannot be synced is in the report, and the others go on. Fails with InvalidInput, and with what
        opening the other store fails with.
        """

        def sync() -> SyncReport:
            from waypost import synchronization
            from waypost.settling import Answers

            if on_conflict not in get_args(OnConflict):
                raise InvalidInput(f"on_conflict is {', '.join(get_args(OnConflict))}, not {on_conflict!r}")
            if resolve is not None and on_conflict != "user_intervention":
                raise InvalidInput("resolve is asked with on_conflict='user_intervention' alone")
            there, opened = self._other(other, create=not dry_run)
            try:
                answers = Answers(on_conflict, resolve, self.redaction)
                return synchronization.sync(self.store, there, answers, dry_run=dry_run, progress=progress)
            finally:
                if opened:
                    there.close()

        return _Sync(self.store, self.observer, sync)

    def _other(self, other: object, *, create: bool) -> tuple[Store, bool]:
        """The other store, and whether it was opened here. Raises InvalidInput where it is this one."""
        definitions = getattr(other, "definitions", None)
        if definitions is not None:
            there: Store = definitions.store
            if place_of(there) == place_of(self.store):
                raise self._is_this_one()
            return there, False
        if not isinstance(other, str | os.PathLike):
            raise InvalidInput(f"a store is synced with a location or an open Waypost, not {type(other).__name__}")
        place = self._place(os.fspath(other))
        try:
            opened = open_store(place, self.config, create=create, read_only=not create)
            if place_of(opened) == place_of(self.store):
                opened.close()
                raise self._is_this_one()
            return opened, True
        except StoreNotFound:
            if create:
                raise
            return open_store("memory:", self.config), True  # what would be made

    def _is_this_one(self) -> InvalidInput:
        return InvalidInput(f"{self.store.location} is this store itself: name another")

    def _place(self, location: Any) -> str:
        from waypost.config import find_location

        if not isinstance(location, str):
            raise InvalidInput(f"the location of a store is a text, not {type(location).__name__}")
        place = find_location(location)
        if place == "memory:":
            raise InvalidInput("a store in memory is known by its open handle alone")
        return place
