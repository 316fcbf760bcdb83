"""The directory store: one append-only log for each document, shared by processes without a server.

`files` touches the disk, `layout` knows where things are, `lease` keeps other machines out, `log` finds and checks
frames and appends them, `loading` makes a state of them, `state` and `snapshots` hold a document, `batch` and
`document` commit to it, `content` writes large values ahead of commits, `joint` commits to several by `decisions`,
`upkeep` and `compaction` keep it small, `check` verifies all of it, `salvage` and `repair` mend it, `backup` and
`restoring` copy it and put a copy back, `past` goes back through it, `erasing` takes out of it, `index` is derived.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from waypost.errors import (
    DocumentDamaged,
    LockTimeout,
    StoreError,
    StorePoisoned,
    StoreReadOnly,
    StoreUnavailable,
    WaypostError,
)
from waypost.keys import KeyFinder
from waypost.store.claims import Sight
from waypost.store.contract import Change, Counters, Durability, JointChange, OnDone, Receipt, Reception, Ticket
from waypost.store.copies import Backup, Restored
from waypost.store.directory import (
    arriving,
    backup,
    check,
    checkpoints,
    claims,
    content,
    erasing,
    forks,
    index,
    keeping,
    lease,
    loading,
    past,
    receiving,
    register,
    restoring,
    space,
    upkeep,
)
from waypost.store.directory.context import Context
from waypost.store.directory.document import Document
from waypost.store.directory.driving import Drivers
from waypost.store.directory.files import File
from waypost.store.directory.following import Following
from waypost.store.directory.held import give_back, locked, take
from waypost.store.directory.holding import Holding
from waypost.store.directory.joint import commit as commit_over
from waypost.store.directory.joint import settle
from waypost.store.directory.layout import SUFFIXES, Layout, open_layout, scratch, sweep
from waypost.store.directory.log_check import Report
from waypost.store.directory.looking import Looking
from waypost.store.kinds import DocumentId, Kind
from waypost.store.staging import JointStaging
from waypost.store.views import JointTransaction, View

if TYPE_CHECKING:
    from waypost.config import Config

_LOG = logging.getLogger("waypost")


class DirectoryStore(Following, Holding, Looking):
    """Documents as logs in a directory; fulfils `contract.Store`. Safe to use from any thread, and after a fork."""

    def __init__(self, layout: Layout, config: Config, *, made: bool) -> None:
        self.layout = layout
        self.made = made
        self._config = config
        self.keys = KeyFinder(config)
        self._context = Context(layout, config)
        self._lock = threading.Lock()
        self._documents: OrderedDict[DocumentId, Document] = OrderedDict()
        self._lease: lease.Lease | None = None
        self._drivers = Drivers(self._context.new_pool)
        self._closed = False
        self._uses = 0
        period_s = None if self._context.durable else config.reliability.sync_frequency / 1000
        self._upkeep = upkeep.Upkeep(self._context, self._sync_all, self._settle, period_s)
        self._claims = claims.Claims(layout, config.reliability.sync_frequency)
        if not layout.read_only:
            self._context.decisions.when_pending = self._upkeep.ask_to_settle

    @classmethod
    def open(cls, path: str, config: Config, *, create: bool, read_only: bool) -> DirectoryStore:
        """Open or make the store at a path. See `waypost.store.open_store`."""
        layout, made = open_layout(os.path.abspath(path), create=create, read_only=read_only)
        store = cls(layout, config, made=made)
        if read_only and restoring.is_pending(layout):
            why = f"{layout.path}: a restore was cut off; whoever opens it for writing next carries it out"
            raise StoreUnavailable(why, location=layout.path)
        if not read_only:
            try:
                store._share_lease()
                if restoring.finish(layout):
                    _LOG.warning("%s: a restore that was cut off is carried out now", layout.path)
                restoring.give_up(layout)  # what one left that was killed before: none is under way while others write
                for name in sweep(layout):
                    _LOG.info("%s: removed temp/%s, which a dead process was writing", layout.path, name)
                arriving.settle(store._context)
                receiving.sweep(store._context)
                store._claims.sweep()
                store._context.decisions.pending()  # of a process that died: they are carried out soon
            except BaseException:
                store._give_up()
                raise
        forks.opened(store)
        return store

    def _give_up(self) -> None:
        """Close a store that could not be opened, or restored; the caller is told of the first error."""
        try:
            self.close()
        except WaypostError as error:
            _LOG.warning("%s was not closed cleanly: %s", self.location, error)

    @property
    def location(self) -> str:
        return self.layout.path

    @property
    def durability(self) -> Durability:
        return self._config.durability

    # --- the contract -------------------------------------------------------------------------

    def submit(self, change: Change, on_done: OnDone | None = None) -> Ticket:
        self._check_writable()
        used: list[Document] = []
        try:  # as `_opening`, with fewer calls: each update comes by here and by `view_at`, and each look by `view`
            document = self._document(change.document, used)
            if not self._context.durable:
                self._upkeep.start_ticking()
            submission = document.submit(change, on_done)
            if on_done is not None:
                try:
                    self._drivers.see_to(document)
                except BaseException as error:
                    # without a call, since memory may be out; what a thread has taken by now is told of by that one
                    was_taken, submission.taken = submission.taken, True
                    if not was_taken or not isinstance(error, Exception):
                        raise
            return submission
        finally:
            self._give_back(used)

    def begin(self) -> JointStaging:
        self._check_open()
        return JointStaging(self.view)

    def receive(self) -> receiving.Received:
        self._check_writable()
        return receiving.Received(self._context)

    def commit(self, joint: JointTransaction, change: JointChange, received: Reception | None = None) -> Receipt | None:
        self._check_writable()
        with self._opening() as open_:
            receipt = commit_over(joint, received, change, self._context, open_)
        if not self._context.durable:
            self._upkeep.start_ticking()
        return receipt

    def stage(
        self, document: DocumentId, key: str, length: int, pieces: Callable[[int], Iterable[bytes]]
    ) -> content.Written:
        self._check_writable()
        with self._opening() as open_:
            return content.write(self._context, key, length, pieces, open_(document).append_ahead)

    def scratch(self) -> File:
        self._check_writable()
        return scratch(self.layout)

    def view(self, document: DocumentId, *, durable: bool = True, counters: Counters | None = None) -> View:
        used: list[Document] = []
        try:
            return self._document(document, used).view(durable=durable, counters=counters)
        finally:
            self._give_back(used)

    def view_at(self, document: DocumentId, version: int) -> View | None:
        used: list[Document] = []
        try:
            return self._document(document, used).view_at(version)
        finally:
            self._give_back(used)

    def checkpoint(self, document: DocumentId, name: str) -> View | None:
        with self._opening() as open_:
            return open_(document).checkpoint(name)

    def checkpoints(self, document: DocumentId) -> list[str]:
        with self._opening() as open_:
            return open_(document).checkpoints()

    def verify_checkpoint(self, document: DocumentId, name: str) -> None:
        if not checkpoints.verify(self._context, name) and self.checkpoint(document, name) is None:
            raise DocumentDamaged(f"there is no checkpoint {name!r}")

    def reclaim(self, document: DocumentId) -> None:
        self._check_writable()
        with self._opening() as open_:
            space.reclaim(self._context, open_(document))

    def sweep(self) -> int:
        self._check_writable()
        with self._opening(one_by_one=True) as open_:
            return space.sweep(self._context, open_)

    def take_in(self, version: View, name: str) -> arriving.Taken:
        self._check_writable()
        return arriving.take_in(self._context, version, name)

    def erase(self, document: DocumentId) -> list[str]:
        (self._check_open if self.layout.read_only else self._check_writable)()
        with self._opening() as open_:
            return erasing.carry_out(self._context, open_(document), self._settle)

    def left(self, kind: Kind) -> dict[str, list[str]]:
        return checkpoints.left(self._context, kind, set(self.documents(kind)))

    def past(self, document: DocumentId) -> past.LogPast:
        with self._while_open():
            return past.read(self._context, document, self.view)

    def keep_generation(self, document: DocumentId, version: int) -> bool:
        if self.layout.read_only:
            raise StoreReadOnly(f"{self.location} is open for reading only", location=self.location)
        self._check_open()
        return upkeep.back_up(document, self._context, version)

    def claim(
        self, document: DocumentId, *, by_force: bool = False, instead_of: Sight | None = None
    ) -> claims.Held | None:
        del instead_of  # the kernel has freed what a dead process held
        self._check_writable()
        return self._claims.claim(document, by_force=by_force)

    def documents(self, kind: Kind) -> Iterator[str]:
        suffix = SUFFIXES[kind]
        with self._while_open():
            decided = self.decided(kind)
            folder = self.layout.existing_documents(kind)
            for name in folder.names() if folder else []:
                if name.endswith(suffix) and (identifier := self.id_of(kind, name.removesuffix(suffix))) is not None:
                    decided.discard(identifier)
                    yield identifier
        yield from decided

    def glance(self, kind: Kind) -> Iterator[tuple[str, bytes]]:
        self._check_open()
        with self._lock:
            # what is poisoned shows an earlier version than its file may hold
            unlike = {each.id.id for each in self._documents.values() if each.id.kind == kind and each.is_poisoned}
        with self._while_open():
            decided = self.decided(kind)
            for name, stamp in index.stamps(self.layout, kind):
                identifier = self.id_of(kind, name)
                if identifier is not None:
                    yield identifier, b"" if identifier in unlike or identifier in decided else stamp
                    decided.discard(identifier)
        for identifier in decided:
            yield identifier, b""

    def peek(self, document: DocumentId) -> View:
        with self._lock:
            self._check_open()
            opened = self._documents.get(document)
        with self._while_open():
            if opened is not None:
                return opened.view(durable=False)
            if self._context.decisions.pieces_for(document):
                return self.view(document, durable=False)
            return loading.load(self._context.apart(), document)[1].view()

    def close(self) -> None:
        documents: OrderedDict[DocumentId, Document] | None = None
        try:
            with self._lock:
                if not self._closed:
                    none: OrderedDict[DocumentId, Document] = OrderedDict()
                    self._closed, documents, self._documents = True, self._documents, none
        finally:  # also where an interrupt comes here: it is not begun a second time
            if documents is not None:
                self._end(documents)

    def verify(self) -> Report:
        """Check every byte; see `check`. Changes nothing."""
        return check.verify(self.layout, self._context)

    def backup(self, path: str) -> Backup:
        self._check_open()
        self._sync_all(newest_only=False)
        return backup.make(self.layout, self._context, path, lambda: erasing.carry_out_all(self))

    def restore_backup(self, path: str, *, allow_older: bool = False) -> Restored:
        """See the contract. No other process may have the store open for writing meanwhile.

        Raises InvalidInput and DocumentDamaged for what is no whole backup, Refused, LockTimeout, StoreReadOnly,
        StorePoisoned, StoreUnavailable.
        """
        if self.layout.read_only:
            raise StoreReadOnly(f"{self.location} is open for reading only", location=self.location)
        self._check_open()
        path = os.path.abspath(path)
        deciding = False
        try:
            with self._alone():
                self._settle()  # what is only decided goes aside, and logs that are to arrive would not go with it
                source, found = restoring.read(path, self._context)
                restoring.stage(self.layout, self._context, source, found)
                with self._at_rest():
                    restoring.check_staged(self.layout, found)
                    newer = restoring.taken_back(self.layout, self._context, found)
                    if not allow_older:
                        restoring.check_may_take_back(newer, found, path)
                    restored = restoring.plan(self.layout, found, path, newer)
                    deciding = True
                    restoring.decide(self.layout)
                    return restored
        except StoreError as error:
            if deciding:
                error.details.setdefault("outcome", "unknown")
            raise
        finally:
            restoring.give_up(self.layout)
            if deciding and restoring.may_be_pending(self.layout):
                self._give_up()  # whoever next opens it carries it out, and what is written until then would go

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Nobody else has the store open for writing, or opens it."""
        self._share_lease()
        share = self._lease
        assert share is not None
        is_alone = share.try_alone()
        try:
            if not is_alone:
                raise LockTimeout(f"{self.location} is open for writing elsewhere: close it there", file=self.location)
            yield
        finally:
            if is_alone:
                share.share_again()
            if not share.is_current():
                self._lease = None
                share.release()

    @contextmanager
    def _at_rest(self) -> Generator[None]:
        """Nothing is being committed in this process, and no log is open."""
        held: list[Generator[None]] = []
        with self._lock:
            try:
                self._lock_all(held)
                # before the folder is looked for, which others make before they look at this
                self._context.restores += 1
                has_checkpoints = self.layout.existing(checkpoints.FOLDER) is not None
                with keeping.alone(self._context) if has_checkpoints else nullcontext():
                    yield
            finally:
                give_back(held)

    def _lock_all(self, held: list[Generator[None]]) -> None:
        """Have all documents locked, and then no log open."""
        documents = [document for _, document in sorted(self._documents.items())]  # as transactions take them
        for document in documents:
            take(held, locked(document.lock))
        for document in documents:
            if document.is_poisoned:
                raise StorePoisoned(f"a sync of {document.id.kind} {document.id.id!r} failed: open the store again")
            document.release()

    def _check_writable(self) -> None:
        if self.layout.read_only:
            raise StoreReadOnly(f"{self.location} is open for reading only", location=self.location)
        self._share_lease()

    def _share_lease(self) -> None:
        if self._lease is None:
            with self._lock:
                self._check_open()
                if self._lease is None:
                    self._lease = lease.take(self.layout)

    # --- upkeep and closing --------------------------------------------------------------------

    def _settle(self) -> frozenset[str]:
        """Carry out decisions over several documents to the end, and forget them; those that are left."""
        with self._opening(one_by_one=True) as open_:
            return settle(self._context, open_)

    def _sync_all(self, *, newest_only: bool = True) -> None:
        """Sync what was acknowledged before its sync, and write out checkpoints."""
        with self._lock:
            documents = list(self._documents.values())
        for document in documents:
            try:
                document.sync()
                if document.keeping_is_due:
                    document.keep_checkpoints(newest_only=newest_only)
            except WaypostError as error:
                _LOG.warning("%s %r: %s", document.id.kind, document.id.id, error)

    def _end(self, documents: OrderedDict[DocumentId, Document]) -> None:
        """Close all that is open. Where something interrupts that, the rest is let go of as it is, as if the process
        had died; the caller is told of what came first.
        """
        try:
            self._end_threads()
            if not self.layout.read_only:
                settle(self._context, lambda each: documents.setdefault(each, self._new_document(each)))
            for document in documents.values():
                self._close_document(document)
            register.Register(self._context).close()
        except BaseException:
            try:
                self._let_go_of_all(documents)
            except WaypostError as error:
                _LOG.warning("%s was not closed cleanly: %s", self.location, error)
            raise
        self._let_go_of_all(documents)

    def _end_threads(self) -> None:
        try:
            for listener in list(self._context.listeners):
                listener.wake()
            self._drivers.close()
        finally:
            try:
                self._claims.close()
            finally:
                self._upkeep.close()

    def _let_go_of_all(self, documents: OrderedDict[DocumentId, Document]) -> None:
        try:
            for document in documents.values():
                document.let_go()
        finally:
            try:
                if self._lease is not None:
                    self._lease.release()
            finally:
                try:
                    self.layout.close()
                finally:
                    forks.closed(self)

    def _close_document(self, document: Document) -> None:
        try:
            upkeep.come_to_rest(document, self._context)
        except (WaypostError, MemoryError) as error:  # nothing rests on it, and the log is to be sealed all the same
            _LOG.warning("%s %r was not put in order: %s", document.id.kind, document.id.id, error)
        try:
            document.close()
        except WaypostError as error:
            _LOG.warning("%s %r was not closed cleanly: %s", document.id.kind, document.id.id, error)

    def locks_for_fork(self) -> Iterator[forks.Lock]:
        """What is held while a process forks, so that no lock of a file is held by two: it waits for appends under way.

        Each is to be taken before the next is asked for.
        """
        yield self._lock
        for _, document in sorted(self._documents.items()):  # in the order of commits over several documents
            yield document.lock

    def after_fork_in_child(self) -> None:
        """Keep nothing that the parent has open."""
        self._lock = threading.Lock()
        self._drivers = Drivers(self._context.new_pool)
        if self._lease is not None:
            self._lease.abandon()
            self._lease = None
        self._context.cache.after_fork()
        self._context.decisions.after_fork()
        for document in self._documents.values():
            document.after_fork()
        self._claims.after_fork()
        self._upkeep.after_fork()
