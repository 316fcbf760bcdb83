"""What a store is: documents made of opaque parts, changed by work that is a function of a transaction.

A store knows nothing of workflows. It keeps *documents*, each a set of *parts* (a short text
key and bytes), and promises five things:

* `submit` runs a piece of work against one version of a document and commits what it changed, all
  or nothing, as the next version. Work may run several times, in any thread, and must be quick,
  free of side effects and free of user code; what it read and wrote is what conflicts are judged by.
* A ticket is done only when the commit has the store's durability.
* A view is one version of a document and never changes.
* A version that a checkpoint stands for is kept, whatever becomes of the rest of history.
* An operation id that a document has seen before changes nothing and leads to the first outcome.

Keys sort by code point. A document that was never written has version 0 and no parts. A commit over several documents
takes two calls, `begin` and `commit`, with the work in between: it may be user code, so no store runs it, and none
holds a lock meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct, field

from waypost.keys import Keys
from waypost.store.claims import Claim, Sight
from waypost.store.copies import Backup, Restored
from waypost.store.kinds import DocumentId, Kind
from waypost.store.pasts import Commit, Past
from waypost.store.reports import Verification
from waypost.store.values import Content, Scratch
from waypost.store.views import JointTransaction, OperationRecord, Transaction, View

Durability = Literal["none", "process", "power"]
"""`none`: memory only. `process`: safe once the operating system has it. `power`: safe once synced."""

CHECKPOINT = "checkpoint\x1f"
"""A part under a key that begins so is a *checkpoint*; its name is the rest of the key. The version whose commit put it
is kept for as long as the part is there. It is put once, with a name that is the only one of its kind in the store and
sorts behind the names that were given in that document before.
"""
ADOPTED = "adopted\x1f"
"""A part under a key that begins so says that the document has a checkpoint which was put before all else of it was
lost. What is kept of that checkpoint stays so for as long as the part is there.
"""
PREPARED = "prepared"
"""A document with a part of this key is changed only by work that removes that part first (docs/two-stores.md)."""
PAGE = "page"
"""A document with a part of this key is one thing, and each change of it puts that part anew: where two stores have
changed it, one of the two stands whole.
"""
SETTLED = "settled\x1f"
"""A part under a key that begins so stays when a transaction clears its document."""


class Change(Struct, frozen=True):
    """A write: which document, what to do, and what to remember about it.

    `repeatable` says that the operation id was given by the caller, so that it may have been
    seen before and has to be looked up; ids made up for one call are new by construction.
    """

    document: DocumentId
    work: Callable[[Transaction], Any]
    operation_id: str
    operation: str
    repeatable: bool = False
    session: str | None = None
    agent: str | None = None
    told: Commit | None = None
    """Set by a store that follows another: the commit is to become what it was there."""


class JointChange(Struct, frozen=True):
    """A write over several documents: what to remember about it in each. Fields as in `Change`."""

    operation_id: str
    operation: str
    repeatable: bool = False
    session: str | None = None
    agent: str | None = None


class Reception(Protocol):
    """Documents that were taken in with their past, and that nobody sees before a commit has them arrive. It stays open
    until it is closed; what has not arrived by then is given up.
    """

    @property
    def documents(self) -> Sequence[DocumentId]: ...
    def take(self, document: DocumentId, past: Past, change: Change | None) -> View:
        """Take in a document with all that is known of its past, under an id that may be another than the one it had:
        versions, commit ids, times, sums, operations and what is remembered of them stay what they were, and all of
        them are checked. The work of `change` runs once over the newest version; what it stages is one commit more,
        also nothing if it is repeatable.
        Gives the newest version as it will be.

        Raises DocumentDamaged where the past is not what its ids and sums say, DocumentTooLarge, StoreUnavailable.
        """
        ...

    def close(self) -> None: ...


class Counters(Struct):
    """What one operation cost the store. Bytes are as stored; a sync shared by a batch counts once for each.

    `raw_bytes` are those written as they were before compression; `streamed_bytes` of them were never held as a whole.
    `hits` are the documents looked at that were held in memory already, if only at an older version.
    """

    bytes_read: int = 0
    bytes_written: int = 0
    reads: int = 0
    writes: int = 0
    syncs: int = 0
    raw_bytes: int = 0
    streamed_bytes: int = 0
    attempts: int = 0
    queue_wait_us: int = 0
    hits: int = 0


class Receipt(Struct):
    """The outcome of a change: `data` is what the work returned.

    `version` is the version that holds the change. `changed` is false when the work staged
    nothing (then no commit was made). With `repeated` nothing was done now, also where the work has run: `repeated` is
    what is remembered of the first time, and `data` is None.
    """

    version: int
    changed: bool
    data: Any = None
    repeated: OperationRecord | None = None
    counters: Counters = field(default_factory=Counters)


class Ticket(Protocol):
    """A change that was handed in. Each is equal to itself alone, and can be the key of a dictionary."""

    def result(self) -> Receipt:
        """Wait until the change is done; raise what it failed with."""
        ...


OnDone = Callable[[Sequence[Ticket]], None]
"""Told of tickets that are done. It is quick, and called from any thread."""


class Listener(Protocol):
    """Notices commits, of all processes. It only says when to look: what was committed is in the pasts of documents."""

    def wait(self, timeout_s: float) -> bool:
        """True as soon as something may have been committed since the last time this said so, or since the listener was
        made, in whatever process; False after that time, or once the listener is closed. For one thread at a time.

        Raises StoreClosed once the store is closed.
        """
        ...

    def close(self) -> None:
        """End it, and what waits in another thread. May be called twice."""
        ...


class Store(Protocol):
    """The contract that every store fulfils; the conformance tests run over all of them."""

    @property
    def location(self) -> str: ...
    @property
    def durability(self) -> Durability: ...

    def keys(self) -> Keys:
        """The keys for whoever seals parts and opens them: the store itself looks into none."""
        ...

    def submit(self, change: Change, on_done: OnDone | None = None) -> Ticket:
        """Hand in a change.

        Without `on_done` the caller is expected to call `result()`, and the work may run in that
        call. With it the store drives the change itself and tells `on_done` of the ticket from one of its
        threads, exactly once, after which `result()` does not block. Tickets that are done together and have the same
        `on_done` may be told in one call, and should be: whoever is told of each by itself wakes for each.
        """
        ...

    def begin(self) -> JointTransaction:
        """Start work over several documents. There is nothing to undo when it is not committed."""
        ...

    def commit(self, joint: JointTransaction, change: JointChange, received: Reception | None = None) -> Receipt | None:
        """Commit what was staged in all documents of a transaction, or nothing. What was taken in arrives with it.

        None when another commit touched what was read, one of the documents remembers the operation id, if that is
        repeatable, or one that is to arrive is there: then the work has to run again. With nothing staged this says
        whether everything that was read was so at one moment.
        """
        ...

    def receive(self) -> Reception:
        """Start to take in documents with their past."""
        ...

    def stage(self, document: DocumentId, key: str, length: int, pieces: Callable[[int], Iterable[bytes]]) -> Content:
        """Take in a value of that length ahead of the change whose work puts it under that key.

        `pieces(size)` gives the value from its start in pieces of that size, and is called again when the store has to
        start over. Nobody sees the value before it is put; what is never put is cleared away by and by. A change
        that comes too late fails with ContentLost. Raises DocumentTooLarge before anything is written, and what
        `pieces` raises.
        """
        ...

    def scratch(self) -> Scratch:
        """Room for what has to be kept until it can be staged."""
        ...

    def view(self, document: DocumentId, *, durable: bool = True, counters: Counters | None = None) -> View:
        """The newest version. With `durable` nothing is returned that a crash could take back."""
        ...

    def view_at(self, document: DocumentId, version: int) -> View | None:
        """An earlier version, or None where it is no longer kept."""
        ...

    def checkpoint(self, document: DocumentId, name: str) -> View | None:
        """The version whose commit put the checkpoint of that name, also when all else of the document is lost; None
        where there is none. Raises DocumentDamaged where it can no longer be read.
        """
        ...

    def checkpoints(self, document: DocumentId) -> list[str]:
        """The names of the checkpoints that the document has, also when all else of it is lost, sorted."""
        ...

    def verify_checkpoint(self, document: DocumentId, name: str) -> None:
        """Read all that is kept of a checkpoint, and of those that it stands on. Raises DocumentDamaged."""
        ...

    def log_bytes(self, document: DocumentId) -> int:
        """How many bytes of the medium a document takes, but for its checkpoints; 0 in a store that has no medium."""
        ...

    def checkpoint_bytes(self, names: Iterable[str]) -> dict[str, int]:
        """How many bytes of the medium checkpoints take, by name: of those that take any of their own."""
        ...

    def reclaim(self, document: DocumentId) -> None:
        """Give back what the document needs no more of the medium, as far as that pays."""
        ...

    def sweep(self) -> int:
        """Remove what no document has any more; how many bytes of the medium that took."""
        ...

    def take_in(self, version: View, name: str) -> Callable[[], None]:
        """Keep a version, be it of another history, for the change whose work puts `ADOPTED` and that name. The work
        calls what is given here, which raises ContentLost where the version was given up. Nobody sees it until then.
        """
        ...

    def left(self, kind: Kind) -> dict[str, list[str]]:
        """The documents of a kind of which nothing is left but checkpoints, with the names of those, sorted."""
        ...

    def erase(self, document: DocumentId) -> list[str]:
        """Take what a document says is erased (`erasures.ERASED`) out of all of its versions, wherever the store keeps
        them: when this returns it is gone. The files that went with it. Views from before stay as they are.

        Raises StoreReadOnly where something is still to be done in a store that is open for reading only.
        """
        ...

    def follow(
        self, document: DocumentId, head: bytes, commits: Iterable[Commit], checks: Sequence[Callable[[], None]] = ()
    ) -> int:
        """Append commits of another store behind the newest one here, whose id has to be `head`. Ids, times, operation
        ids and sums stay what they were, and each commit is checked by them before any of it is written; each makes
        the next version here, whatever it made elsewhere. `checks` are of what was taken in for them (`take_in`).
        Gives the newest version.

        What is durable when this is cut off, or raises, is a beginning of them. Raises VersionConflict where the newest
        commit is another one, also because of a commit in between, DocumentDamaged, DocumentTooLarge, ContentLost.
        """
        ...

    def past(self, document: DocumentId) -> Past:
        """How the document came to its newest version. Nothing is shown that a crash could take back."""
        ...

    def keep_generation(self, document: DocumentId, version: int) -> bool:
        """Keep the document as it is at its newest version, apart from whatever becomes of its history.

        False, and nothing is kept, when the newest version is another one by now. A store whose history is never
        shortened has nothing to do.
        """
        ...

    def claim(self, document: DocumentId, *, by_force: bool = False, instead_of: Sight | None = None) -> Claim | None:
        """Hold a document, be it there or not, for as long as this process lives; None while another claim of it is
        held, unless `by_force`: then that one holds nothing any more, and is not told. Commits are not hindered by it.

        `instead_of` is the claim of one who is known to be dead: where claims are leases, it is not waited for.
        """
        ...

    def holder(self, document: DocumentId) -> Sight | None:
        """What is seen of who claimed a document; None where he has let go of it, or nobody did."""
        ...

    def claimed(self, kind: Kind) -> Iterator[str]:
        """The ids of the documents of a kind that somebody claimed and has not let go of, by now dead or not."""
        ...

    def documents(self, kind: Kind) -> Iterator[str]:
        """The ids of all documents of a kind, in no particular order; deleted ones included."""
        ...

    def listen(self, document: DocumentId | None = None) -> Listener:
        """Notice commits of a document, or of any; it may be told of others, too. What waits ends with the store."""
        ...

    def verify(self) -> Verification:
        """Read all that there is, and compare it with its checksums. Changes nothing."""
        ...

    def backup(self, path: str) -> Backup:
        """Copy all documents to a new place, each at one of its commits. Raises InvalidInput where none is made."""
        ...

    def restore_backup(self, path: str, *, allow_older: bool = False) -> Restored:
        """Let the documents of a backup take the place of all that is here, all or nothing.

        Raises Refused when that takes a document back and `allow_older` does not say so.
        """
        ...

    def glance(self, kind: Kind) -> Iterator[tuple[str, bytes]]:
        """As `documents`, each with a stamp. While that is the same, so is the document; an empty one says nothing."""
        ...

    def peek(self, document: DocumentId) -> View:
        """As `view`, neither durable nor kept at hand: for looking at very many documents once."""
        ...

    def recall(self, name: str) -> bytes | None:
        """What `keep` was given last under that name, or None: it may be forgotten at any time."""
        ...

    def keep(self, name: str, data: bytes) -> None:
        """Keep data that can be derived again. Does nothing where it cannot be kept."""
        ...

    def close(self) -> None:
        """Finish what is under way and let go of files, locks and threads. May be called twice."""
        ...
