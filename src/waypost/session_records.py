"""A session as parts of its document, and what workflows hold of it (docs/sessions.md, sections 1 and 4).

Invariants:

* The number of a session only grows, and a tenure has one that no other has.
* The number in a workflow's part of a session only grows: nobody writes there in the session's name with a lower one.
"""

from __future__ import annotations

from typing import NoReturn

from msgspec import Struct
from msgspec.msgpack import Decoder

from waypost import records, schema
from waypost.errors import (
    SessionEnded,
    SessionFenced,
    SessionNotFound,
    SessionPaused,
    UnsupportedFormat,
)
from waypost.models import StepOwner
from waypost.records import SEPARATOR, SESSION, Record
from waypost.session_models import CrashRecoveryData, SessionStatus
from waypost.store import DocumentId, Transaction, View
from waypost.store.erasures import Parts

SESSION_RECORD = "session"
ENVIRONMENT = f"environment{SEPARATOR}"
PREFERENCE = f"preference{SEPARATOR}"
TOUCHED = f"touched{SEPARATOR}"
RECOVERY = "recovery"

SESSION_SCHEMA = "1.0.0"
"""How this release lays a session out."""

_NIL = b"\xc0"
_decode_number = Decoder(int | None).decode


class SessionRecord(Struct, array_like=True, frozen=True):
    """What is kept of a session beside its values. In every schema there ever is, the third field is its version."""

    user_id: str | None
    started_us: int
    schema_version: str
    status: SessionStatus
    number: int
    owner: StepOwner | None = None
    ended_us: int | None = None
    unseen_left: bool = False
    """Whoever enters it next frees the steps of all who cannot be seen from here: it was carried here by a file, or
    taken over by hand, and nobody came to the end of that.
    """


class RecoveryRecord(Struct, array_like=True, frozen=True):
    """A recovery that began with the session's number `number`, from the death of `owner`, and why; without `found` it
    was cut short.
    """

    number: int
    time_us: int
    evidence: str
    owner: StepOwner | None
    found: CrashRecoveryData | None = None


_SESSIONS = Record(SessionRecord)
_RECOVERIES = Record(RecoveryRecord)


def document_of(session_id: str) -> DocumentId:
    """Raises InvalidId."""
    return DocumentId("session", records.validate_id(session_id, "session id"))


def find(view: View) -> SessionRecord | None:
    """The record of a session; None where there is none. Raises UnsupportedFormat, DocumentDamaged."""
    found = _SESSIONS.get(view, SESSION_RECORD)
    if found is not None:
        version, known = schema.parse(found.schema_version), schema.parse(SESSION_SCHEMA)
        if version is None or known is None or version > known:
            raise UnsupportedFormat(
                f"session {view.document.id!r} has the schema version {found.schema_version!r}, and this release of "
                f"waypost knows {SESSION_SCHEMA}",
                session_id=view.document.id,
            )
    return found


def expect(view: View) -> SessionRecord:
    """The record of a session. Raises SessionNotFound, UnsupportedFormat, DocumentDamaged."""
    found = find(view)
    if found is None:
        name = view.document.id
        raise SessionNotFound(f"there is no session {name!r}", session_id=name)
    return found


def recovery(view: View) -> RecoveryRecord | None:
    return _RECOVERIES.get(view, RECOVERY)


def check_writable(record: SessionRecord, session_id: str, number: int | None = None) -> None:
    """Refuse to write in the name of a session that nobody is in, or that went on under another number than this.

    Raises SessionEnded, SessionPaused, SessionFenced.
    """
    if record.status == "completed":
        raise ended(session_id)
    if number is not None and record.number > number:
        raise_fenced(session_id, number, record.number)
    if record.status != "active":
        raise SessionPaused(
            f"session {session_id!r} is {record.status}: resume_session goes on with it",
            session_id=session_id,
            status=record.status,
        )


def ended(session_id: str) -> SessionEnded:
    return SessionEnded(f"session {session_id!r} has ended: start_session starts another", session_id=session_id)


def raise_fenced(session_id: str, number: int, newer: int) -> NoReturn:
    raise SessionFenced(
        f"session {session_id!r} was taken over: what is written under its number {number} is refused since {newer}; "
        "resume_session enters it again",
        session_id=session_id,
        number=number,
        newer=newer,
    )


# --- what a workflow holds of its sessions ---


def number_in(view: Parts, session_id: str) -> int:
    """The number below which nobody writes to a workflow in the name of a session; 0 where there is none."""
    key = SESSION + session_id
    data = view.get(key)
    if data is None:
        return 0
    try:
        return _decode_number(data) or 0
    except ValueError as error:
        raise records.undecodable(key, error) from error


def check_number(tx: View, session_id: str, number: int | None) -> None:
    """Refuse what an owner writes who was given up for dead. Raises SessionFenced."""
    newest = number_in(tx, session_id)
    if number is not None and newest > number:
        raise_fenced(session_id, number, newest)


def link(tx: Transaction, session_id: str, number: int | None) -> bool:
    """Remember that a session has written to a workflow, and under which number; whether that was news.

    What is no session of ours has no number.
    """
    key = SESSION + session_id
    if tx.size_of(key) is None:
        tx.put(key, records.encode(number) if number else _NIL)
        return True
    if number is not None and number_in(tx, session_id) < number:
        tx.put(key, records.encode(number))
        return True
    return False
