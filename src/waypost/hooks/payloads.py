"""A hook event in any of the forms in which there are any, read as one form (docs/hooks.md, section 1).

Only the names of fields are read: values are taken as they are, whatever keys there are in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from msgspec import Struct

from waypost import clock, records
from waypost.errors import InvalidInput

EVENTS = (
    *("workflow_start", "workflow_complete", "workflow_error"),
    *("step_start", "step_complete", "step_error"),
    *("agent_start", "agent_complete", "agent_error"),
    *("checkpoint_request", "session_start", "session_end"),
)
"""The events that change state. What has another name is a note."""

_ENDINGS = {"started": "start", "completed": "complete", "failed": "error", "ended": "end", "requested": "request"}
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[.\-\s]+")
_SECONDS_BELOW = 100_000_000_000
"""A number below it counts seconds (until the year 5138), one from it on milliseconds (since 1973)."""
_LAST_US = clock.to_us(datetime.fromisoformat("9999-12-31T00:00:00+00:00"))


class HookEvent(Struct, frozen=True, kw_only=True):
    """What happened, and to what. `event` is one of `EVENTS`, or the name of a note.

    `fields` has what else was said, by names in snake_case; durations are `duration_ms`. `id` names the event itself:
    delivered twice, it acts once.
    """

    event: str
    id: str | None = None
    workflow_id: str | None = None
    session_id: str | None = None
    time_us: int | None = None
    fields: Mapping[str, Any] = {}


def read_event(event: str, payload: Mapping[str, Any]) -> HookEvent:
    """The event of a name and a payload: fields at its top or in `data`, the top first. Raises InvalidInput."""
    name = event_name(event)
    if not isinstance(payload, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput(f"the payload of a hook event is a dictionary, not {type(payload).__name__}")
    top = _named(payload)
    fields = _flattened(top)
    _measure(fields, in_seconds="." in event)
    return HookEvent(
        event=name,
        # the data of an event may be about something that has an id of its own
        id=_id(top, "id", "event id") or _id(fields, "event_id", "event id"),
        workflow_id=_id(fields, "workflow_id", "workflow id"),
        session_id=_id(fields, "session_id", "session id"),
        time_us=_time_us(fields.get("timestamp")),
        fields={key: value for key, value in fields.items() if key not in _TAKEN_UP},
    )


_TAKEN_UP = frozenset({"id", "event_id", "workflow_id", "session_id", "timestamp"})


def event_name(given: str) -> str:
    """The name of one of `EVENTS` in any of its forms; any other as it was given. Raises InvalidId."""
    given = records.validate_id(given, "name of a hook event")
    name = snake_case(given)
    start, _, ending = name.rpartition("_")
    name = f"{start}_{_ENDINGS.get(ending, ending)}"
    return name if name in EVENTS else given


def snake_case(name: str) -> str:
    """`workflowId`, `workflow-id` and `workflow.id` as `workflow_id`."""
    return _WORDS.sub("_", name).lower()


def mapping_in(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A field that is a dictionary, by names in snake_case; empty where there is none."""
    found = fields.get(name)
    return _named(cast("Mapping[Any, Any]", found)) if isinstance(found, Mapping) else {}


def _named(given: Mapping[Any, Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for key, value in given.items():
        if not isinstance(key, str):
            raise InvalidInput(f"the fields of a hook event have names, and {key!r:.80} is none")
        name = snake_case(key)
        if key == name or name not in named:  # of two namings of one field the one that is ours
            named[name] = value
    return named


def _flattened(top: Mapping[str, Any]) -> dict[str, Any]:
    fields = mapping_in(top, "data")
    for name, value in top.items():
        if name == "data" and isinstance(value, Mapping):
            continue
        if value is not None or name not in fields:  # an envelope has fields that it leaves empty
            fields[name] = value
    return fields


def _measure(fields: dict[str, Any], *, in_seconds: bool) -> None:
    """Tell a duration in milliseconds, and use of memory in bytes, wherever and however they stand.

    Events with dotted names come from a system that counts in seconds.
    """
    factor = 1000 if in_seconds else 1
    sources = (fields.copy(), mapping_in(fields, "performance"))
    for name in ("duration_ms", "memory_usage_bytes"):
        fields.pop(name, None)  # it may be no number
    for source in sources:
        for name in ("duration", "execution_time"):
            told = _amount(source.get(name))
            exact = _amount(source.get(f"{name}_ms"), None if told is None else told * factor)
            if exact is not None:
                fields.setdefault("duration_ms", float(exact))
        used = _amount(source.get("memory_usage_bytes"), _amount(source.get("memory_usage")))
        if used is not None:
            fields.setdefault("memory_usage_bytes", int(used))


def _amount(given: object, otherwise: float | None = None) -> float | None:
    """A number that may be a time, a duration or a size; else what there is otherwise."""
    return given if isinstance(given, (int, float)) and not isinstance(given, bool) and 0 <= given < 1e15 else otherwise


def _id(fields: Mapping[str, Any], name: str, what: str) -> str | None:
    found = fields.get(name)
    return None if found is None else records.validate_id(found, what)


def _time_us(given: object) -> int | None:
    """A time as milliseconds, seconds, or ISO text; text without a zone is local time. Raises InvalidInput."""
    if given is None:
        return None
    time_us: int | None = None
    try:
        if isinstance(given, str):
            time_us = clock.to_us(datetime.fromisoformat(given).astimezone())
        elif isinstance(given, datetime):
            time_us = clock.to_us(given.astimezone())
        elif (number := _amount(given)) is not None:
            time_us = round(number * (1_000_000 if number < _SECONDS_BELOW else 1000))
    except (ValueError, OverflowError):
        pass
    if time_us is None or not 0 < time_us <= _LAST_US:
        shown = f"{given!a:.80}" if isinstance(given, (str, float)) else type(given).__name__
        raise InvalidInput(f"a timestamp is milliseconds, seconds, or ISO text, not {shown}")
    return time_us
