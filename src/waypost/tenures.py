"""The sessions that a handle is in: under which numbers it writes, and which of them it holds.

A handle *holds* a session that it started or resumed, for as long as its process lives, and is *in* one that it only
writes for: a worker of the owner. Either way it writes under the number that it found then, and under no other until
it enters the session again: one that was given up for dead does not go on unnoticed (docs/sessions.md, section 4).
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from functools import partial

from waypost import clock, migrations, prepared, records, session_records
from waypost.errors import DocumentDamaged, MigrationFailed, UnsupportedFormat, WaypostError
from waypost.loading import every_step
from waypost.models import StepOwner
from waypost.session_records import TOUCHED
from waypost.store import Change, DocumentId, Store, Transaction
from waypost.store.claims import Claim

logger = logging.getLogger("waypost")

_PRESENT = b"\xc0"
MOST_KNOWN = 4096
"""From so many on a handle looks which of the sessions that it wrote for have ended, and forgets what it announced."""


class Tenures:
    """Shared by all handles that are bound to one open store. Safe to use from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._numbers: dict[str, int] = {}
        self._most_numbers = MOST_KNOWN
        self._announced: set[tuple[str, str]] = set()
        self._claims: dict[str, tuple[int, Claim]] = {}
        """With each the process that made it: the child of a fork holds nothing."""
        self._lock = threading.Lock()
        _EVERY.add(self)

    def after_fork(self) -> None:
        """In the child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    def enter(self, store: Store, session_id: str, workflow_id: str) -> int | None:
        """Make sure that a workflow may be written to in a session's name; under which number, None for a label that
        is no session. `store` is where the session is looked at: the handle's, or what stands in for it.

        Raises SessionEnded, SessionPaused, SessionFenced.
        """
        number = self._number(store, session_id)
        if number is None or (session_id, workflow_id) in self._announced:
            return number
        work = partial(_announce, workflow_id=workflow_id, number=number)
        document = session_records.document_of(session_id)
        prepared.submit(store, Change(document, work, clock.new_id("op"), "announce", session=session_id))
        if store is self._store:
            with self._lock:  # whoever lets go goes through them
                if len(self._announced) >= MOST_KNOWN:
                    self._announced.clear()  # to announce it again changes nothing
                self._announced.add((session_id, workflow_id))
        return number

    def has_entered(self, session_id: str, workflow_id: str) -> bool:
        """Whether `enter` has nothing to look up."""
        return (session_id, workflow_id) in self._announced

    def _number(self, store: Store, session_id: str) -> int | None:
        number = self._numbers.get(session_id)
        if number is None:
            record = session_records.find(store.view(session_records.document_of(session_id)))
            if record is None:
                return None
            session_records.check_writable(record, session_id)
            if len(self._numbers) >= self._most_numbers:
                self._forget_ended()
            number = self._numbers.setdefault(session_id, record.number)
        return number

    def _forget_ended(self) -> None:
        """Forget the sessions that have ended: nobody writes for them any more, and whoever tries is told so. Of others
        the number stays, since to find another one would hide that somebody was shut out.
        """
        for session_id in self._numbers.copy():
            try:
                record = session_records.find(self._store.peek(session_records.document_of(session_id)))
            except WaypostError:
                continue
            if record is not None and record.status == "completed":
                self.forget(session_id)
        self._most_numbers = max(MOST_KNOWN, 2 * len(self._numbers))

    def held(self) -> list[str]:
        """The sessions that this handle holds."""
        with self._lock:
            return [session_id for session_id, (pid, _) in self._claims.items() if pid == os.getpid()]

    def number_of(self, session_id: str) -> int | None:
        """Under which number this handle writes for a session; None while it has not."""
        return self._numbers.get(session_id)

    def hold(self, session_id: str, number: int, claim: Claim) -> None:
        """From here on the handle holds a session, under a number of its own. Where that fails, for want of memory, it
        does not, and the claim is let go of.
        """
        try:
            with self._lock:
                earlier = self._claims.get(session_id)
                claims = {**self._claims, session_id: (os.getpid(), claim)}
                announced = {each for each in self._announced if each[0] != session_id}
                self._numbers[session_id] = number  # the last that can fail
                self._claims, self._announced = claims, announced
        except BaseException:
            let_go(session_id, claim)
            raise
        if earlier is not None:
            let_go(session_id, earlier[1])

    def forget(self, session_id: str) -> None:
        """Write under no number for a session until it is entered again, and let go of it if it is held."""
        with self._lock:
            self._announced = {each for each in self._announced if each[0] != session_id}  # first, since it can fail
            held = self._claims.pop(session_id, None)
            self._numbers.pop(session_id, None)
        if held is not None:
            let_go(session_id, held[1])

    def forget_all(self) -> None:
        """Forget every session: the store is another than the one that they were entered in."""
        numbers: dict[str, int] = {}
        announced: set[tuple[str, str]] = set()
        claims: dict[str, tuple[int, Claim]] = {}
        with self._lock:  # here nothing can fail any more
            held, self._claims = self._claims, claims
            self._numbers, self._announced = numbers, announced
        for session_id, (_, claim) in held.items():
            let_go(session_id, claim)

    def enter_anew(self, session_id: str) -> None:
        """Let a session that is not held be entered under the number that it has by now."""
        if session_id not in self.held():
            self.forget(session_id)


_EVERY: weakref.WeakSet[Tenures] = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_EVERY):
        each.after_fork()


os.register_at_fork(after_in_child=_after_fork)


def let_go(session_id: str, claim: Claim) -> None:
    """Let go of a session. What that fails with must not take the place of what became of the session: the lock is free
    all the same, and the file that is left is cleared away when the store is opened next.
    """
    try:
        claim.release()
    except WaypostError as error:
        logger.warning("session %r was not let go of cleanly: %s", session_id, error)


def _announce(tx: Transaction, workflow_id: str, number: int) -> None:
    """Say in a session's document that it is going to write to a workflow."""
    session_records.check_writable(session_records.expect(tx), tx.document.id, number)
    if tx.size_of(TOUCHED + workflow_id) is None:
        tx.put(TOUCHED + workflow_id, _PRESENT)


def put_numbers(
    store: Store, session_id: str, number: int, is_gone: Callable[[StepOwner], bool] | None = None
) -> dict[str, DocumentDamaged]:
    """Let nobody write in a session's name under a lower number, in all workflows that it has announced. Gives those
    that cannot be read, and so not be written to by anyone.

    Steps that were running in the hands of somebody who is gone are in nobody's from then on.
    """
    document = session_records.document_of(session_id)
    damaged: dict[str, DocumentDamaged] = {}
    for workflow_id in records.names(store.view(document), TOUCHED):
        workflow = DocumentId("workflow", workflow_id)
        try:
            if is_lost(store, workflow):
                continue
            seen = is_gone if is_gone is not None and _is_readable(store, workflow) else None
            work = partial(_fence, session_id=session_id, number=number, is_gone=seen)
            change = Change(workflow, work, clock.new_id("op"), "take_over_session", session=session_id)
            prepared.submit(store, change)
        except DocumentDamaged as error:
            damaged[workflow_id] = error
    return damaged


UNREADABLE = (DocumentDamaged, UnsupportedFormat, MigrationFailed)
"""What keeps a workflow from being looked into, and no other from being so."""


def _is_readable(store: Store, workflow: DocumentId) -> bool:
    try:
        migrations.load(store, workflow)
    except UNREADABLE:
        return False
    return True


def _fence(tx: Transaction, session_id: str, number: int, is_gone: Callable[[StepOwner], bool] | None) -> None:
    session_records.link(tx, session_id, number)
    if is_gone is None or records.find_workflow(tx) is None:
        return
    for step in every_step(tx):
        if step.owner is not None and is_gone(step.owner):
            step.owner = None
            records.put_step(tx, step)


def is_lost(store: Store, document: DocumentId) -> bool:
    """Whether nothing is left of a workflow but checkpoints: by those it comes back, while there is no other log."""
    return not store.peek(document).version and bool(store.checkpoints(document))
