"""What a transaction over two stores leaves in a document until it is settled, and settling it (docs/two-stores.md).

Invariants:

* A transaction is committed exactly where its coordinator's document says so. Whoever decides has read that it does not
  say that the transaction was given up, and who gives it up, that it does not say that it was committed.
* What was prepared is carried out, or taken away, in all documents of its store by one commit.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from waypost import clock, records
from waypost.config import load_with_sources
from waypost.errors import (
    DocumentTooLarge,
    StoreClosed,
    StoreNotFound,
    StoreReadOnly,
    TransactionPending,
    VersionConflict,
    WaypostError,
)
from waypost.models import StepOwner
from waypost.records import Record
from waypost.store import Change, DocumentId, JointChange, JointPart, Receipt, Store, Transaction, View, open_store
from waypost.store.contract import PREPARED, SETTLED
from waypost.store.kinds import KINDS, Kind
from waypost.store.staging import Staged, bytes_of

logger = logging.getLogger("waypost")

CHANGE = f"{PREPARED}{records.SEPARATOR}"
PATIENCE_S = 10.0
"""How long somebody who may be alive is waited for. Then he is given up: who goes on later has to do it again."""
_SHARE, _SLACK_BYTES = 50, 64 * 1024
"""What a file may take beside what its document holds: a 50th, and so many bytes."""
_TRIES = 16
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.05

Outcome = Literal["committed", "abandoned"]


class PreparedRecord(Struct, array_like=True, frozen=True):
    """What a document of the participant is prepared for: who decides it, in which document there, and whose it is.

    `documents` are all that are prepared with it, `identity` is the coordinator's (see `identity_of`). `cleared` and
    `removed` are the changes that need no bytes; the other fields are what the commit that carries it out says of
    itself.
    """

    transaction: str
    coordinator: str
    decided_in: DocumentId
    documents: list[DocumentId]
    owner: StepOwner
    cleared: bool
    removed: list[str]
    operation_id: str
    repeatable: bool
    session: str | None
    projection: Any
    identity: bytes = b""


class SettledRecord(Struct, array_like=True, frozen=True):
    """What a document of the coordinator says of a transaction, until the participant is known to have followed."""

    outcome: Outcome
    participant: str
    documents: list[DocumentId]
    owner: StepOwner


PREPARATIONS = Record(PreparedRecord)
SETTLEMENTS = Record(SettledRecord)


def find(view: View) -> PreparedRecord | None:
    """What a document is prepared for. Raises DocumentDamaged."""
    return None if view.size_of(PREPARED) is None else PREPARATIONS.get(view, PREPARED)


# --- what each step changes ---


def prepare(tx: JointPart, record: PreparedRecord, limit_bytes: int) -> None:
    """Put what was staged aside, for when it is decided. Raises DocumentTooLarge where it could not be carried out
    within the limit, as it must be once it is decided: then the file holds it twice.
    """
    staged = tx.savepoint()
    assert isinstance(staged, Staged), "a transaction of a store with staging of its own"
    length = tx.size_bytes + 2 * staged.raw_bytes
    length += length // _SHARE + _SLACK_BYTES
    if staged.puts and length > limit_bytes:
        kind, name = tx.document
        raise DocumentTooLarge(
            f"{kind} {name!r}: what a transaction over two stores puts is held twice for a while, and {length:,} bytes "
            f"are more than performance.max_file_size allows ({limit_bytes:,})",
            limit_bytes=limit_bytes,
        )
    tx.roll_back(None)
    tx.put(PREPARED, records.encode(replace(record, cleared=staged.cleared, removed=sorted(staged.removed))))
    for key, value in staged.puts.items():
        tx.put(CHANGE + key, bytes_of(value))


def _take_away(tx: Transaction) -> dict[str, bytes]:
    """Take away what was prepared; the parts that it was to put."""
    keys = list(tx.keys(CHANGE))
    puts = {key.removeprefix(CHANGE): tx.get(key) or b"" for key in keys}
    for key in (PREPARED, *keys):  # the first lets the others be changed
        tx.delete(key)
    return puts


def _carry_out(tx: Transaction, record: PreparedRecord) -> None:
    puts = _take_away(tx)
    if record.cleared:
        tx.clear()
    for key in record.removed:
        tx.delete(key)
    for key, value in puts.items():
        tx.put(key, value)
    tx.project(record.projection)


def finish(store: Store, record: PreparedRecord, outcome: Outcome) -> None:
    """Do in all documents of the participant what was decided, unless somebody else has."""
    for _ in range(_TRIES):
        left = [each for each in record.documents if _is_of(store.view(each), record)]
        if not left:
            return
        joint = store.begin()
        for each in left:
            part = joint.document(each)
            found = find(part)
            if found is None or found.transaction != record.transaction:
                break
            if outcome == "committed":
                _carry_out(part, found)
            else:
                _take_away(part)
        else:
            change = _change(record, outcome, [joint.document(each) for each in left])
            if store.commit(joint, change) is not None:
                return
    raise VersionConflict(f"others were faster {_TRIES} times", tries=_TRIES)


def _is_of(view: View, record: PreparedRecord) -> bool:
    found = find(view)
    return found is not None and found.transaction == record.transaction


def _change(record: PreparedRecord, outcome: Outcome, left: Sequence[View]) -> JointChange:
    if outcome == "abandoned":
        return JointChange(clock.new_id("op"), "abandon", session=record.session)
    if any(each.operation(record.operation_id) is not None for each in left):
        # what is still prepared has it from another commit: it would be taken for this one, or refused as repeated
        return JointChange(clock.new_id("op"), "transact", session=record.session)
    return JointChange(record.operation_id, "transact", record.repeatable, record.session)


# --- settling ---


def settle(store: Store, document: DocumentId, coordinator: Store | None = None) -> Outcome | None:
    """Carry out what a document is prepared for, or undo it; None where it is not prepared.

    `coordinator` is the store that is asked, if it is not to be looked for. Raises TransactionPending where that cannot
    be asked, or has not decided and may do so any moment, and what either store raises.
    """
    record = find(store.view(document))
    if record is None:
        return None
    outcome = _outcome(record, coordinator, lambda: _is_of(store.view(document), record))
    if outcome is not None:
        finish(store, record, outcome)
    return outcome


class Settled(Struct, frozen=True, kw_only=True):
    """What became of a document that was prepared: `outcome`, or the `error` that leaves it so."""

    kind: str
    id: str
    outcome: Outcome | None = None
    error: str = ""


def settle_all(store: Store, coordinator: Store | None = None) -> list[Settled]:
    """Settle all documents of a store that are prepared. Raises what the store raises of itself."""
    found: list[Settled] = []
    for kind in KINDS:
        for name in sorted(store.documents(kind)):
            try:
                outcome = settle(store, DocumentId(kind, name), coordinator)
            except (StoreReadOnly, StoreClosed):
                raise
            except WaypostError as error:
                found.append(Settled(kind=kind, id=name, error=str(error)))
            else:
                found += [Settled(kind=kind, id=name, outcome=outcome)] if outcome is not None else []
    return found


def out_of_the_way(store: Store, pending: TransactionPending) -> None:
    """Settle what kept a document from being changed. Raises as `settle`."""
    given, name = pending.details.get("kind"), str(pending.details.get("id"))
    kinds: list[Kind] = [each for each in KINDS if each == given]
    kind = kinds[0] if kinds else "workflow"
    outcome = settle(store, DocumentId(kind, name))
    if outcome is not None:
        logger.info("%s %r: a transaction over two stores was left open, and is %s", kind, name, outcome)


def submit(store: Store, change: Change) -> Receipt:
    """Commit a change, after what its document is prepared for. Raises what the work, the store and `settle` raise."""
    for _ in range(_TRIES - 1):
        try:
            return store.submit(change).result()
        except TransactionPending as pending:
            out_of_the_way(store, pending)
    return store.submit(change).result()


def as_settled(store: Store, view: View) -> View:
    """A version that is to be looked at: a newer one, if it was prepared for what is decided by now.

    What is not decided is not waited for, and where it cannot be settled the version before is shown.
    """
    if view.size_of(PREPARED) is None:
        return view
    try:
        record = PREPARATIONS.get(view, PREPARED)
        if record is None or (not _is_over(record.transaction, record.owner) and _decided(record) is None):
            return view
        settle(store, view.document)
    except WaypostError as error:
        logger.warning("%s %r is shown as it was before a transaction over two stores: %s", *view.document, error)
        return view
    return store.view(view.document)


def _decided(record: PreparedRecord) -> Outcome | None:
    with _reached(record, None) as store:
        return None if store is None else _said(store, record)


def _outcome(record: PreparedRecord, coordinator: Store | None, is_open: Callable[[], bool]) -> Outcome | None:
    """What became of a transaction; where nobody can decide it any more it is given up. None where meanwhile it was
    settled, and what was said of it forgotten.
    """
    deadline, pause_s = time.monotonic() + PATIENCE_S, _FIRST_PAUSE_S
    with _reached(record, coordinator) as store:
        while True:
            is_over = _is_over(record.transaction, record.owner)  # first: who is over says nothing after it
            outcome = None if store is None else _said(store, record)
            if outcome is not None:
                return outcome
            if is_over or time.monotonic() >= deadline:
                if not is_over and coordinator is None and not _is_certain(store, record):
                    raise _pending(record, f"who is not known to be dead: {_BY_HAND}")
                if not is_open():
                    return None
                return "abandoned" if store is None else _give_up(store, record)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _is_certain(store: Store | None, record: PreparedRecord) -> bool:
    """Whether a store is the one that decides, and not another machine's of the same name."""
    return store is not None and bool(record.identity) and record.identity == identity_of(store)


def _pending(record: PreparedRecord, why: str) -> TransactionPending:
    documents = ", ".join(f"{each.kind} {each.id!r}" for each in record.documents)
    host = record.owner.host.partition("/")[0]
    return TransactionPending(
        f"{documents}: prepared for a transaction that {record.coordinator} decides, by process {record.owner.pid} on "
        f"{host}, {why}",
        transaction=record.transaction,
        coordinator=record.coordinator,
    )


def _is_over(transaction: str, owner: StepOwner) -> bool:
    """Whether the one who was to decide is dead, or has left it."""
    if owner == StepOwner.this_process():
        return transaction not in _under_way
    return clock.liveness(owner.identity) == "dead"


def _said(store: Store, record: PreparedRecord) -> Outcome | None:
    found = SETTLEMENTS.get(store.view(record.decided_in), SETTLED + record.transaction)
    return None if found is None else found.outcome


def is_committed(coordinator: Store, record: PreparedRecord) -> bool:
    return _said(coordinator, record) == "committed"


def _give_up(store: Store, record: PreparedRecord) -> Outcome:
    """Have the coordinator say that a transaction is not committed, unless it says by now that it is."""
    key = SETTLED + record.transaction
    given_up = SettledRecord("abandoned", "", record.documents, record.owner)

    def work(tx: Transaction) -> Outcome:
        found = SETTLEMENTS.get(tx, key)
        if found is not None:
            return found.outcome
        tx.put(key, records.encode(given_up))
        return "abandoned"

    return submit(store, Change(record.decided_in, work, clock.new_id("op"), "abandon")).data


# --- reaching the coordinator ---

_under_way: set[str] = set()
"""The transactions that calls of this process are still to decide."""
_open: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_names: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_identities: weakref.WeakKeyDictionary[Any, bytes] = weakref.WeakKeyDictionary()
_MEMORY = "memory:"
_IDENTITY = "identity"
_BY_HAND = "`waypost store settle --also LOCATION`, where that store is the one which decides, ends it"


@contextmanager
def under_way(transaction: str) -> Generator[None]:
    """While this call may still decide a transaction, others leave it to it."""
    _under_way.add(transaction)
    try:
        yield
    finally:
        _under_way.discard(transaction)


def name_of(store: Store) -> str:
    """By what name a store is known to another: its location, which shows no password; what is in memory has one that
    means nothing to other processes.
    """
    if store.durability != "none":
        return store.location
    return _names.setdefault(store, clock.new_id(_MEMORY))


def identity_of(store: Store) -> bytes:
    """What tells a store from others of the same location, as it may have on each machine and in each container. It is
    derived data, and lost when that is: the same is a proof, another proves nothing.
    """
    if store.durability == "none":
        return name_of(store).encode()
    found = _identities.get(store)
    if found is None:
        found = store.recall(_IDENTITY)
        if found is None:
            store.keep(_IDENTITY, clock.new_id("store").encode())
            found = store.recall(_IDENTITY) or b""  # where others were faster, theirs
        _identities[store] = found
    return found


def introduce(store: Store) -> None:
    """Let transactions be settled with a store that is open here."""
    _open[name_of(store)] = store


@contextmanager
def _reached(record: PreparedRecord, given: Store | None) -> Generator[Store | None]:
    """The store that decides, open for writing if it can be; None for one in memory whose process is gone.

    Raises TransactionPending where it cannot be reached.
    """
    here = _open.get(record.coordinator) if given is None else given
    if here is not None and _can_be_asked(here, record):
        yield here
        return
    if record.coordinator.startswith(_MEMORY):
        if not _is_over(record.transaction, record.owner):
            raise _pending(record, "in whose memory it stands")
        yield None
        return
    try:
        config = load_with_sources(None, None, record.coordinator if "://" not in record.coordinator else None).config
        opened = open_store(record.coordinator, config, create=False)
    except StoreNotFound as error:
        raise _pending(record, f"and there is no store: {error}") from error
    except WaypostError as error:
        raise _pending(record, f"and that cannot be asked: {error}") from error
    try:
        yield opened
    finally:
        opened.close()


def _can_be_asked(store: Store, record: PreparedRecord) -> bool:
    """Whether a store that is open here can also be written to."""
    try:
        store.view(record.decided_in)
        submit(store, Change(record.decided_in, lambda tx: None, clock.new_id("op"), "look"))
    except (StoreClosed, StoreReadOnly):
        return False
    return True


# --- what is left with the coordinator ---


def forget(coordinator: Store, document: DocumentId, transaction: str) -> None:
    """Let go of what was decided, once it was carried out."""
    key = SETTLED + transaction
    submit(coordinator, Change(document, lambda tx: tx.delete(key), clock.new_id("op"), "settle"))


def still_prepared(coordinator: Store, document: DocumentId, participant: str) -> list[DocumentId]:
    """The documents of the participant that may still be to follow what a document says is committed."""
    view = coordinator.view(document)
    found = [SETTLEMENTS.get(view, key) for key in view.keys(SETTLED)]
    return [name for each in found if each and each.participant == participant for name in each.documents]


def complete(coordinator: Store, document: DocumentId, participant: Store) -> None:
    """Carry out what callers that died have decided in a document, and let go of what is of no use any more."""
    view = coordinator.view(document)
    for transaction in records.names(view, SETTLED):
        found = SETTLEMENTS.get(view, SETTLED + transaction)
        if found is None or not _is_over(transaction, found.owner):
            continue
        if found.outcome == "committed" and found.participant == name_of(participant):
            for each in found.documents:
                record = find(participant.view(each))
                if record is not None and record.transaction == transaction:
                    finish(participant, record, "committed")
            forget(coordinator, document, transaction)
        elif found.outcome == "abandoned":
            forget(coordinator, document, transaction)
