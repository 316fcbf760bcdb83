"""Whose session it is: the agent's process owns it, as far as its hooks have told (docs/agents.md, section 2).

Everything here may be cut short and done again: an event that is folded once more finds what it had done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from waypost import clock, session_records, session_states, sessions
from waypost.agents.dialects import DIALECTS
from waypost.agents.events import AgentEvent
from waypost.definitions import Definitions
from waypost.errors import SessionExists
from waypost.models import StepOwner
from waypost.session_records import ENVIRONMENT, SessionRecord
from waypost.store import DocumentId, View

COMPACT = "compact"


class Attempt(NamedTuple):
    """A session of a conversation: the first has its id, each after an end `.2`, `.3` … behind it."""

    session_id: str
    number: int
    record: SessionRecord | None


def newest(definitions: Definitions, conversation: str) -> Attempt:
    """The last session that a conversation has had."""
    found = Attempt(conversation, 1, _find(definitions, conversation))
    while found.record is not None and found.record.status == "completed":
        number = found.number + 1
        session_id = _name(conversation, number)
        record = _find(definitions, session_id)
        if record is None:
            return found
        found = Attempt(session_id, number, record)
    return found


def _name(conversation: str, number: int) -> str:
    return conversation if number == 1 else f"{conversation}.{number}"


def _view(definitions: Definitions, session_id: str) -> View:
    return definitions.store.view(session_records.document_of(session_id))


def _find(definitions: Definitions, session_id: str) -> SessionRecord | None:
    return session_records.find(_view(definitions, session_id))


def enter(definitions: Definitions, event: AgentEvent) -> str | None:
    """The session in whose name an event is taken in, begun where there is none; None where it comes too late for one.

    Raises InvalidId.
    """
    attempt = newest(definitions, event.session_id)
    record = attempt.record
    if record is None:
        return _start(definitions, event, event.session_id, None)
    if record.status == "completed":
        if not _begins(event):
            return None
        return _start(definitions, event, _name(event.session_id, attempt.number + 1), attempt.session_id)
    if record.status == "active" and (event.owner is None or record.owner == event.owner):
        return attempt.session_id
    if event.owner is not None and (_begins(event) or clock.liveness(event.owner.identity) == "alive"):
        definitions.sessions.resume_for(attempt.session_id, event.owner)
        record = _find(definitions, attempt.session_id)
    return attempt.session_id if record is not None and record.status == "active" else None


def _begins(event: AgentEvent) -> bool:
    """Whether an agent has begun, or gone on: compaction is neither."""
    return event.event == "SessionStart" and event.text("source") != COMPACT


def _start(definitions: Definitions, event: AgentEvent, session_id: str, predecessor: str | None) -> str:
    if predecessor is None and event.text("source") == "clear" and _begins(event):
        predecessor = _cleared(definitions, event)
    values = sessions.prepare_values(_environment(event, predecessor), None, definitions.redaction)
    try:
        definitions.sessions.start_for(session_id, event.owner, values, f"{event.operation_id}-start")
    except SessionExists:
        pass  # another process was faster, with another event of the same session
    return session_id


def _environment(event: AgentEvent, predecessor: str | None) -> Mapping[str, str]:
    found = {
        "agent": event.agent,
        "conversation": event.session_id,
        "cwd": event.text("cwd"),
        "transcript": event.text("transcript_path"),
        "process": process_text(event.owner),
        "predecessor": predecessor or "",
        "resume_command": DIALECTS[event.agent].RESUME.format(session_id=event.session_id),
    }
    return {name: value for name, value in found.items() if value}


def process_text(owner: StepOwner | None) -> str:
    """A process as one word."""
    return "" if owner is None else f"{owner.boot}/{owner.namespace}/{owner.pid}/{owner.start}"


def _cleared(definitions: Definitions, event: AgentEvent) -> str | None:
    """The session that the same process ended last."""
    if event.owner is None:
        return None
    process = process_text(event.owner)
    ended = [
        (record.ended_us, view.document.id)
        for view, record in session_states.views_of(definitions.store)
        if record.ended_us is not None and view.document.id != event.session_id and _process_of(view) == process
    ]
    return max(ended)[1] if ended else None


def _process_of(view: View) -> str:
    return environment_of(view).get("process", "")


def environment_of(view: View) -> dict[str, str]:
    """Those values of a session's environment that are texts."""
    found = session_states.values_of(view, ENVIRONMENT)
    return {name: value for name, value in found.items() if isinstance(value, str)}


def leave(definitions: Definitions, event: AgentEvent) -> None:
    """End the session of an event's process, unless it has ended, or is another's by now."""
    attempt = newest(definitions, event.session_id)
    record, operation_id = attempt.record, f"{event.operation_id}-end"
    if record is None or record.status == "completed":
        return
    for number in range(1, attempt.number):
        # the same process may have ended the conversation and gone on with it before the event came back
        if _view(definitions, _name(event.session_id, number)).operation(operation_id) is not None:
            return
    if record.owner is None or event.owner is None or record.owner == event.owner:
        definitions.sessions.end(
            attempt.session_id,
            final_checkpoint=True,
            operation_id=operation_id,
            repeatable=True,
            owner=record.owner,
        )


def document_of(workflow_id: str) -> DocumentId:
    return DocumentId("workflow", workflow_id)
