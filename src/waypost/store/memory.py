"""The memory store: a dictionary with the contract of a store, and the oracle that the others are compared with.

It is written to be obviously right rather than fast: one lock, one change at a time, each commit kept
as what it put and removed, and any version rebuilt by playing those again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from waypost import clock
from waypost.errors import DocumentDamaged, InvalidInput, StoreClosed, VersionConflict, WaypostError
from waypost.keys import KeyFinder
from waypost.options import Config
from waypost.store import verifying
from waypost.store.claims import Sight
from waypost.store.contract import (
    ADOPTED,
    CHECKPOINT,
    Change,
    Counters,
    Durability,
    JointChange,
    OnDone,
    Receipt,
    Reception,
    Ticket,
)
from waypost.store.copies import Backup, Restored
from waypost.store.erasures import Erasures, Masked
from waypost.store.kinds import DocumentId, Kind
from waypost.store.pasts import Commit, JointCommit, Past
from waypost.store.reports import Verification
from waypost.store.staging import JointStaging, StagedTransaction
from waypost.store.values import HeldScratch
from waypost.store.versions import Version, Versions, without
from waypost.store.views import JointTransaction, Transaction, View

_PIECE_BYTES = 1 << 20


class _Listener:
    """Notices that a number grew; fulfils `contract.Listener`."""

    def __init__(self, news: threading.Condition, count: Callable[[], int], is_closed: Callable[[], bool]) -> None:
        self._news = news
        self._count = count
        self._is_closed = is_closed
        self._seen = count()
        self._ended = False

    def wait(self, timeout_s: float) -> bool:
        with self._news:
            self._news.wait_for(lambda: self._ended or self._is_closed() or self._count() != self._seen, timeout_s)
            if self._ended:
                return False
            if self._is_closed():
                raise StoreClosed("the memory store is closed")
            seen, self._seen = self._seen, self._count()
            return self._seen != seen

    def close(self) -> None:
        with self._news:
            self._ended = True
            self._news.notify_all()


class _Reception:
    """Documents that are taken in with their past; fulfils `contract.Reception`."""

    def __init__(self) -> None:
        self.taken: dict[DocumentId, tuple[list[Version], list[bytes | None]]] = {}

    @property
    def documents(self) -> list[DocumentId]:
        return list(self.taken)

    def take(self, document: DocumentId, past: Past, change: Change | None) -> View:
        versions = [_beginning(document, past)]
        for commit in past.commits(oldest_first=True):
            if commit.version != versions[-1].version + 1:
                raise DocumentDamaged(f"version {versions[-1].version + 1} of {document.id!r} is missing")
            versions.append(versions[-1].followed_by(commit))
        if change is not None:
            transaction = StagedTransaction(versions[-1])
            change.work(transaction)
            if transaction.staged.changes_anything or change.repeatable:
                versions.append(versions[-1].after(change, transaction.staged, clock.now_us()))
        self.taken[document] = versions, [past.dropped_id(version + 1) for version in range(past.first)]
        return versions[-1]

    def close(self) -> None:
        """Nothing is kept."""


def _beginning(document: DocumentId, past: Past) -> Version:
    """The oldest version that is known of a document."""
    made, start = Version(document), past.start()
    made.version, made.time_us, made.commit_id = start.version, start.time_us, start.commit_id
    for key in start.keys():
        digest = start.erased(key)
        if digest is not None:
            made.gone[key] = start.size_of(key) or 0, digest
        else:
            made.parts[key] = start.get(key) or b""
    made.sum_up()
    made.operations = {record.operation_id: record for record in past.remembered()}
    if (made.version, made.size_bytes, made.checksum) != (past.first, start.size_bytes, start.checksum):
        raise DocumentDamaged(f"version {past.first} of {document.id!r} is not what its sums say")
    return made


class _Held:
    """Content in memory; fulfils `contract.Content`."""

    __slots__ = ("_value", "key", "length")

    def __init__(self, key: str, value: bytes) -> None:
        self.key = key
        self.length = len(value)
        self._value = value

    def read(self) -> bytes:
        return self._value


class _Done:
    """A ticket that was done before anyone could wait for it."""

    __slots__ = ("_outcome",)

    def __init__(self, outcome: Receipt | BaseException) -> None:
        self._outcome = outcome

    def result(self) -> Receipt:
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome


class _Claim:
    """A document that is held until it is let go of; fulfils `claims.Claim`."""

    def __init__(self, held: dict[DocumentId, _Claim], document: DocumentId) -> None:
        self._held = held
        self._document = document

    def release(self) -> None:
        if self._held.get(self._document) is self:
            del self._held[self._document]


class MemoryStore:
    """Documents in a dictionary. Nothing outlives the object."""

    location = "memory:"
    durability: Durability = "none"

    def __init__(self, config: Config | None = None) -> None:
        self.keys = KeyFinder(config)
        self._lock = threading.RLock()
        self._history: dict[DocumentId, list[Version]] = {}
        self._dropped: dict[DocumentId, list[bytes | None]] = {}
        self._taken_in: dict[tuple[DocumentId, str], View] = {}
        self._claims: dict[DocumentId, _Claim] = {}
        self._closed = False
        self._news = threading.Condition(self._lock)
        self._commits = 0
        """How often something was committed."""

    def submit(self, change: Change, on_done: OnDone | None = None) -> Ticket:
        try:
            with self._lock:
                ticket = _Done(self._commit(change))
        except WaypostError as error:
            ticket = _Done(error)
        if on_done is not None:
            on_done((ticket,))
        return ticket

    def _commit(self, change: Change) -> Receipt:
        self._check_open()
        versions = self._history.get(change.document, [Version(change.document)])
        current = versions[-1]
        if change.repeatable and (seen := current.operation(change.operation_id)) is not None:
            return Receipt(seen.version, changed=False, repeated=seen)
        transaction = StagedTransaction(current)
        work: Callable[[Transaction], Any] = change.work
        data = work(transaction)
        staged = transaction.staged
        if not staged.changes_anything and not change.repeatable:
            return Receipt(current.version, changed=False, data=data)
        following = current.after(change, staged, clock.now_us())
        self._history[change.document] = [*versions, following]
        self._tell()
        counters = Counters(raw_bytes=staged.raw_bytes, attempts=1)
        return Receipt(following.version, changed=True, data=data, counters=counters)

    def _tell(self) -> None:
        self._commits += 1
        self._news.notify_all()

    def listen(self, document: DocumentId | None = None) -> _Listener:
        del document  # it is as quick to look as to tell which one it was
        self._check_open()
        return _Listener(self._news, lambda: self._commits, lambda: self._closed)

    def begin(self) -> JointStaging:
        self._check_open()
        return JointStaging(self.view)

    def receive(self) -> _Reception:
        self._check_open()
        return _Reception()

    def commit(self, joint: JointTransaction, change: JointChange, received: Reception | None = None) -> Receipt | None:
        assert isinstance(joint, JointStaging), "a transaction of another store"
        assert received is None or isinstance(received, _Reception), "taken in by another store"
        taken = {} if received is None else received.taken
        with self._lock:
            self._check_open()
            touched = joint.opened
            current = {document: self.view(document) for document in touched}
            if any(not _is_as_read(each, current[document], change) for document, each in touched.items()):
                return None
            if any(self.view(document).version for document in taken):
                return None
            written = {
                document: each.staged
                for document, each in touched.items()
                if each.staged.changes_anything or change.repeatable
            }
            mark = None
            if len(written) > 1:
                versions = [(document, current[document].version + 1) for document in sorted(written)]
                mark = JointCommit(clock.new_id("tx"), versions)
            for document, staged in written.items():
                before = self._history.get(document, [Version(document)])
                self._history[document] = [*before, before[-1].after(change, staged, clock.now_us(), mark)]
            for document, (versions, dropped) in taken.items():
                self._history[document], self._dropped[document] = versions, dropped
            if written or taken:
                self._tell()
        counters = Counters(raw_bytes=sum(staged.raw_bytes for staged in written.values()), attempts=1)
        return Receipt(0, changed=bool(written or taken), counters=counters)

    def stage(self, document: DocumentId, key: str, length: int, pieces: Callable[[int], Iterable[bytes]]) -> _Held:
        del document
        self._check_open()
        value = b"".join(pieces(_PIECE_BYTES))
        assert len(value) == length
        return _Held(key, value)

    def scratch(self) -> HeldScratch:
        return HeldScratch()

    def view(self, document: DocumentId, *, durable: bool = True, counters: Counters | None = None) -> View:
        del durable  # there is nothing to wait for
        if counters is not None:
            counters.hits += 1
        with self._lock:
            self._check_open()
            return self._history.get(document, [Version(document)])[-1]

    def view_at(self, document: DocumentId, version: int) -> View | None:
        with self._lock:
            self._check_open()
            versions = self._history.get(document, [Version(document)])
            if version == 0:
                return Version(document)
            return next((each for each in versions if each.version == version), None)

    def checkpoint(self, document: DocumentId, name: str) -> View | None:
        key = CHECKPOINT + name
        with self._lock:
            self._check_open()
            versions = self._history.get(document, [Version(document)])
            if ADOPTED + name in versions[-1].parts:
                return self._taken_in.get((document, name))
            if key not in versions[-1].parts:
                return None
            lacking = max((index for index, each in enumerate(versions) if key not in each.parts), default=None)
            # one that history does not reach back to was taken in
            return self._taken_in.get((document, name)) if lacking is None else versions[lacking + 1]

    def checkpoints(self, document: DocumentId) -> list[str]:
        view = self.view(document)
        return sorted(key.removeprefix(prefix) for prefix in (CHECKPOINT, ADOPTED) for key in view.keys(prefix))

    def take_in(self, version: View, name: str) -> Callable[[], None]:
        with self._lock:
            self._check_open()
            found = Erasures.of(self.view(version.document))
            self._taken_in[version.document, name] = Masked(version, found, 0) if found else version
        return lambda: None  # nothing is ever given up

    def left(self, kind: Kind) -> dict[str, list[str]]:
        del kind  # nothing is ever lost
        return {}

    def verify_checkpoint(self, document: DocumentId, name: str) -> None:
        """There is nothing that could be damaged."""

    def erase(self, document: DocumentId) -> list[str]:
        with self._lock:
            found = Erasures.of(self.view(document))
            versions = self._history.get(document)
            if found and versions is not None:
                self._history[document] = [without(each, found) for each in versions]
                for (owner, name), version in list(self._taken_in.items()):
                    if owner == document:
                        self._taken_in[owner, name] = Masked(version, found, 0)
        return []

    def log_bytes(self, document: DocumentId) -> int:
        del document
        return 0

    def checkpoint_bytes(self, names: Iterable[str]) -> dict[str, int]:
        del names
        return {}

    def reclaim(self, document: DocumentId) -> None:
        """There is no medium."""

    def sweep(self) -> int:
        return 0

    def follow(
        self, document: DocumentId, head: bytes, commits: Iterable[Commit], checks: Sequence[Callable[[], None]] = ()
    ) -> int:
        del checks  # nothing is ever given up
        for commit in commits:  # not all at once: others may commit in between, and it may be cut off
            with self._lock:
                self._check_open()
                versions = self._history.get(document, [Version(document)])
                if versions[-1].commit_id != head:
                    raise VersionConflict(f"{document.kind} {document.id!r} was changed meanwhile")
                following = versions[-1].followed_by(commit)
                self._history[document] = [*versions, following]
                head = following.commit_id
        return self.view(document).version

    def past(self, document: DocumentId) -> Past:
        with self._lock:
            self._check_open()
            versions = self._history.get(document, [Version(document)])
            return Versions(versions, self._dropped.get(document, []))

    def keep_generation(self, document: DocumentId, version: int) -> bool:
        """Every version is kept anyway."""
        return self.view(document).version == version

    def claim(self, document: DocumentId, *, by_force: bool = False, instead_of: Sight | None = None) -> _Claim | None:
        del instead_of  # whoever held it is this process
        self._check_open()
        with self._lock:
            if document in self._claims and not by_force:
                return None
            claim = self._claims[document] = _Claim(self._claims, document)
            return claim

    def holder(self, document: DocumentId) -> Sight | None:
        return Sight(is_held=True, beat=None) if document in self._claims else None

    def claimed(self, kind: Kind) -> Iterator[str]:
        return (each.id for each in list(self._claims) if each.kind == kind)

    def documents(self, kind: Kind) -> Iterator[str]:
        with self._lock:
            self._check_open()
            return iter([document.id for document in self._history if document.kind == kind])

    def verify(self) -> Verification:
        return verifying.verify(self)

    def backup(self, path: str) -> Backup:
        del path
        raise InvalidInput("a store in memory has no files to back up: open a directory")

    def restore_backup(self, path: str, *, allow_older: bool = False) -> Restored:
        del path, allow_older
        raise InvalidInput("a store in memory cannot take a backup: open a directory")

    def glance(self, kind: Kind) -> Iterator[tuple[str, bytes]]:
        return ((identifier, b"") for identifier in self.documents(kind))

    def peek(self, document: DocumentId) -> View:
        return self.view(document)

    def recall(self, name: str) -> bytes | None:
        del name  # there is nothing here that would have to be read again

    def keep(self, name: str, data: bytes) -> None:
        pass

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._news.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed("the memory store is closed")


def _is_as_read(transaction: StagedTransaction, now: View, change: JointChange) -> bool:
    if change.repeatable and now.operation(change.operation_id) is not None:
        return False
    then = transaction.view
    return all(then.get(key) == now.get(key) for key in transaction.read) and all(
        list(then.keys(prefix)) == list(now.keys(prefix)) for prefix in transaction.read_prefixes
    )
