"""Taking in what an agent's hook has put into the spool: each event is one commit over the workflows that it changes.

The session is entered before that commit, and left after it; both find what they had done where a fold was cut short.
"""

from __future__ import annotations

from waypost import migrations, prepared, records, session_records, workflows
from waypost.agents import conversations, dialects, effects, owners
from waypost.agents.conversations import Conversation, Means
from waypost.agents.events import AgentEvent
from waypost.automatic import Automatic
from waypost.definitions import Definitions
from waypost.errors import (
    SchemaOutdated,
    SessionEnded,
    SessionFenced,
    SessionPaused,
    TransactionPending,
    VersionConflict,
)
from waypost.hooks.entries import Entry
from waypost.store import DocumentId, JointChange, JointTransaction, Transaction

OPERATION = "agent_event"
_TRIES = 16


def take(definitions: Definitions, entry: Entry) -> None:
    """Take in an event, unless it was before.

    Raises InvalidInput and its kinds where it cannot be used, and what the store raises.
    """
    event = dialects.read(entry)
    records.validate_id(event.workflow_id, "workflow id")
    # of others the commit finds that out; a start that came before would begin another attempt by then
    if not (event.event == "SessionStart" and _is_known(definitions, event)):
        _take_in(definitions, event)
    if event.event == "SessionEnd":
        owners.leave(definitions, event)


def _is_known(definitions: Definitions, event: AgentEvent) -> bool:
    view = definitions.store.view(owners.document_of(event.workflow_id))
    return view.operation(event.operation_id) is not None


def _take_in(definitions: Definitions, event: AgentEvent) -> None:
    for _ in range(_TRIES):
        session_id = owners.enter(definitions, event)
        try:
            if _write(definitions, event, session_id):
                return
        except (SessionFenced, SessionPaused, SessionEnded):
            # somebody took it over, or ended it, in between: look again
            if session_id is not None:
                definitions.sessions.held.enter_anew(session_id)
        except TransactionPending as pending:
            prepared.out_of_the_way(definitions.store, pending)
        except SchemaOutdated:
            _bring_up_to_date(definitions, event)
    raise VersionConflict(f"others were faster {_TRIES} times", tries=_TRIES)


def _bring_up_to_date(definitions: Definitions, event: AgentEvent) -> None:
    main = migrations.bring_up_to_date(definitions.store, owners.document_of(event.workflow_id))
    for name in conversations.commands_in(main):
        migrations.bring_up_to_date(definitions.store, owners.document_of(name))


def _write(definitions: Definitions, event: AgentEvent, session_id: str | None) -> bool:
    """Whether the commit was made, or was before."""
    joint = definitions.store.begin()
    parts = _Parts(definitions, joint, event, session_id)
    if parts.main_part.operation(event.operation_id) is not None:
        return True
    effects.apply(event, parts)
    for part in parts.opened.values():
        part.project(["transaction", None])
    change = JointChange(event.operation_id, OPERATION, True, session_id, event.agent_id)
    receipt = definitions.store.commit(joint, change)
    for document in parts.opened:
        definitions.retention.forget(document)
    return receipt is not None


class _Parts:
    """The workflows of one event; fulfils `effects.Workflows`."""

    def __init__(
        self, definitions: Definitions, joint: JointTransaction, event: AgentEvent, session_id: str | None
    ) -> None:
        self._definitions = definitions
        self._joint = joint
        self._event = event
        self._session_id = session_id
        self._conversations: dict[DocumentId, Conversation] = {}
        self.opened: dict[DocumentId, Transaction] = {}
        self.main_part = joint.document(owners.document_of(event.workflow_id))

    @property
    def main(self) -> Conversation:
        event = self._event
        return self.made(event.workflow_id, f"{event.agent} {event.session_id[:8]}")

    @property
    def turn(self) -> Conversation:
        turn_id = self._event.turn_id
        command = None if turn_id is None else self.main.command(turn_id)
        return self.main if command is None else self.made(command, command)

    def others(self) -> list[Conversation]:
        return [self.made(name, name) for name in self.main.commands() if self._is_there(name)]

    def _is_there(self, workflow_id: str) -> bool:
        """Whether a command's workflow was not deleted: what tells nothing of it does not make it anew."""
        return records.find_workflow(self._joint.document(owners.document_of(workflow_id))) is not None

    def made(self, workflow_id: str, name: str) -> Conversation:
        document = owners.document_of(records.validate_id(workflow_id, "workflow id"))
        found = self._conversations.get(document)
        if found is None:
            found = self._conversations[document] = self._open(document, name)
        return found

    def _open(self, document: DocumentId, name: str) -> Conversation:
        definitions, event = self._definitions, self._event
        tx = self.opened[document] = self._joint.document(document)
        if records.find_workflow(tx) is None:
            new = workflows.prepare_new(
                name, self._session_id, (), None, "open", definitions.redaction, definitions.store.keys
            )
            automatic = Automatic(definitions.config.checkpoints, definitions.retention, self._session_id)
            workflows.create(tx, new, automatic.workflow_made)
        if self._session_id is not None:
            number = definitions.sessions.held.enter(definitions.store, self._session_id, document.id)
            session_records.check_number(tx, self._session_id, number)
            session_records.link(tx, self._session_id, number)
        means = Means(
            definitions.redaction,
            definitions.retention,
            definitions.config.compression.chunk_size,
            self._session_id,
            event.time_us,
            event.owner,
            event.agent_id,
        )
        return Conversation(tx, means)
