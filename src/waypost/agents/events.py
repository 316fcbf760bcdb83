"""What a coding agent says of itself through a hook, in one shape whichever agent it is.

Names of events and fields are those of Claude Code. Each dialect is a function from a decoded payload to these.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple, cast

from waypost import records
from waypost.errors import InvalidInput
from waypost.models import StepOwner

KEYED: Mapping[str, tuple[str, ...]] = {
    "UserPromptSubmit": ("turn_id",),
    "UserPromptExpansion": ("turn_id", "command_name"),
    "PreToolUse": ("tool_use_id",),
    "PostToolUse": ("tool_use_id",),
    "PostToolUseFailure": ("tool_use_id",),
    "PermissionDenied": ("tool_use_id",),
    "TaskCreated": ("task_id",),
    "TaskCompleted": ("task_id",),
}
"""What each of these events is about: there is one of them in a session."""

WHOLE = frozenset({"PostToolBatch", "Stop", "StopFailure", "Interrupt"})
"""Events that are the same if their payloads are: those say to which turn they belong."""


LATEST_US = 250_000_000_000_000_000
"""The year 9892: beyond that there are no dates."""


class AgentEvent(NamedTuple):
    """One event. `digest` is the SHA-256 of the payload in hex, `name` that of its spool file, `owner` the agent's
    process where it is known; `turn_id` names the prompt that it belongs to.
    """

    agent: str
    prefix: str
    event: str
    session_id: str
    turn_id: str | None
    agent_id: str | None
    agent_type: str | None
    time_us: int
    owner: StepOwner | None
    digest: str
    name: str
    fields: Mapping[str, Any]

    @property
    def workflow_id(self) -> str:
        return f"{self.prefix}-{self.session_id}"

    def text(self, field: str) -> str:
        """A field that is a text; empty where it is missing, or anything else."""
        return text_of(self.fields, field)

    def identity(self, field: str) -> str:
        """A field without which the event says nothing. Raises InvalidInput."""
        given = self.text(field)
        if not given:
            raise InvalidInput(f"{self.event} of {self.agent} without {field}")
        return given

    @property
    def is_named(self) -> bool:
        """Whether the event says what it is about, so that it is known again whenever it comes."""
        names = KEYED.get(self.event)
        if names is None:
            return self.event in WHOLE and self.turn_id is not None
        return all(self._key(name) for name in names)

    def _key(self, name: str) -> str:
        return (self.turn_id or "") if name == "turn_id" else self.text(name)

    @property
    def operation_id(self) -> str:
        """Under which the event is committed: the same for the same event, delivered twice."""
        about = [self.agent, self.session_id, self.event]
        if not self.is_named:
            about += [self.digest, self.name]
        elif self.event in WHOLE:
            about += [self.turn_id or "", self.digest]
        else:
            about += [self._key(name) for name in KEYED[self.event]]
        # no part holds the separator: ids are checked, and digests and names are plain
        return f"agent_{sha256(records.SEPARATOR.join(about).encode()).hexdigest()[:32]}"


def text_of(fields: Mapping[str, Any], name: str) -> str:
    given = fields.get(name)
    return given if isinstance(given, str) else ""


def list_of(fields: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """A field that is a list of objects; what is none in it is left out."""
    given = fields.get(name)
    if not isinstance(given, list):
        return []
    return [cast("Mapping[str, Any]", each) for each in cast("list[Any]", given) if isinstance(each, dict)]
