"""Events of the spool in Waypost's own dialect: a payload is JSON, with the event's name and its fields.

Both shapes of the original are taken: `{"event": …, "payload": {…}}`, as its prototype writes it, and one dictionary
whose `type` is the name, as its hooks do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from waypost.definitions import Definitions
from waypost.errors import InvalidInput
from waypost.hooks.emitting import perform
from waypost.hooks.entries import Entry
from waypost.hooks.payloads import HookEvent, read_event

_NAMES = ("event", "type", "hook_event_name")


def take(definitions: Definitions, entry: Entry) -> None:
    """Have the effects of an event of the spool, once: its id, or its file's name, is the operation id. Raises
    WaypostError.

    Whoever handed it over is not known: neither steps nor sessions that it begins have an owner.
    """
    event = read_entry(entry)
    perform(definitions, event, operation_id=event.id or f"spool-{entry.name}", owner=None).unwrap()


def read_entry(entry: Entry) -> HookEvent:
    """The event that an entry of this dialect is. Raises InvalidInput."""
    try:
        found: Any = msgspec.json.decode(entry.payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"the event is no JSON: {error}") from error
    if not isinstance(found, Mapping):
        raise InvalidInput(f"the event is no JSON object, but {type(found).__name__}")
    envelope = dict(cast("Mapping[str, Any]", found))
    name = next((envelope.pop(each) for each in _NAMES if isinstance(envelope.get(each), str)), None)
    if name is None:
        raise InvalidInput(f"the event has no name: it stands in {', '.join(_NAMES)}")
    within = envelope.pop("payload", None)
    payload = {**envelope, **cast("Mapping[str, Any]", within)} if isinstance(within, Mapping) else envelope
    read = read_event(name, payload)
    # what was not told happened when it came
    return read if read.time_us is not None else msgspec.structs.replace(read, time_us=entry.time_us)
