"""From an entry of the spool to an event of an agent, by the dialect that its hook was started with.

What is no JSON, names no session, or comes in no known shape is refused with a reason; unknown events, unknown fields
and fields of another type than expected are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from types import ModuleType
from typing import Any, NoReturn, cast

import msgspec

from waypost import records
from waypost.agents import claude_code, codex
from waypost.agents.events import LATEST_US, AgentEvent, text_of
from waypost.errors import InvalidInput
from waypost.hooks.entries import Entry
from waypost.models import StepOwner

AUTO = "auto"
DIALECTS: Mapping[str, ModuleType] = {each.NAME: each for each in (codex, claude_code)}
"""The first whose field names fit is meant by `auto`."""

_LONGEST_NUMBER = 18


def read(entry: Entry) -> AgentEvent:
    """The event of an entry. Raises InvalidInput, InvalidId."""
    if entry.cut is not None:
        raise InvalidInput(
            f"an agent's event of {entry.cut.length:,} bytes is more than is kept of one: {len(entry.payload):,} are, "
            f"and the SHA-256 of all of them, {entry.cut.sha256}"
        )
    if entry.time_us > LATEST_US:
        raise InvalidInput(f"an agent's event from {entry.time_us} us after 1970")
    payload = decode(entry.payload)
    dialect = _dialect(entry.dialect, payload)
    return AgentEvent(
        agent=dialect.NAME,
        prefix=dialect.PREFIX,
        event=_id(payload, "hook_event_name"),
        session_id=_id(payload, "session_id"),
        turn_id=_optional_id(payload, dialect.TURN),
        agent_id=_optional_id(payload, "agent_id"),
        agent_type=text_of(payload, "agent_type") or None,
        time_us=entry.time_us,
        owner=owner_of(entry.variables),
        digest=sha256(entry.payload).hexdigest(),
        name=entry.name,
        fields=payload,
    )


def _dialect(name: str, payload: Mapping[str, Any]) -> ModuleType:
    if name != AUTO:
        found = DIALECTS.get(name)
        if found is None:
            raise InvalidInput(f"{name!a:.80} is no agent's dialect: there are {', '.join([*DIALECTS, AUTO])}")
        return found
    for each in DIALECTS.values():
        if each.is_meant(payload):
            return each
    raise InvalidInput("no agent is known whose events have these fields: " + ", ".join(sorted(payload))[:200])


def _id(payload: Mapping[str, Any], field: str) -> str:
    if field not in payload:
        raise InvalidInput(f"an agent's event without {field}")
    return records.validate_id(payload[field], field)


def _optional_id(payload: Mapping[str, Any], field: str) -> str | None:
    given = payload.get(field)
    return None if given is None else records.validate_id(given, field)


# --- bytes ---


def decode(payload: bytes) -> dict[str, Any]:
    """A payload as it is meant. Raises InvalidInput."""
    try:
        found = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _decode_leniently(payload)
    if not isinstance(found, dict):
        raise InvalidInput(f"an agent's event is a JSON object, and this one is of the type {type(found).__name__}")
    return cast("dict[str, Any]", found)


def _decode_leniently(payload: bytes) -> Any:
    """JSON with halves of UTF-16 pairs in it, which JavaScript writes when it cuts a text: they become U+FFFD."""
    try:
        return _mended(json.loads(payload.decode("utf-8", "replace"), parse_constant=_refuse))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"an agent's event is no JSON: {error}") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no value of JSON")


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_mended(each) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {_mended(name): _mended(each) for name, each in cast("dict[str, Any]", value).items()}
    return value


# --- who ---


def owner_of(variables: Mapping[str, str]) -> StepOwner | None:
    """The agent's process, as its hook has noted it; None where too little of it is known to tell it from others."""
    pid, start, boot = (variables.get(name, "") for name in ("CLAUDE_PID", "agent_start", "boot"))
    if not (_is_number(pid) and _is_number(start) and boot and int(pid)):
        return None
    host, namespace = variables.get("host", ""), variables.get("pid_namespace", "")
    try:
        f"{host}{boot}{namespace}".encode()
    except UnicodeEncodeError:
        return None
    return StepOwner(host, boot, namespace, int(pid), int(start))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER
