"""What hook events say beside what changes a workflow: the newest hundred are kept among its variables.

Each is a variable of its own, so that notes of several processes and stores never conflict.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from waypost import clock, records
from waypost.redaction import Redaction
from waypost.store import Transaction

MOST_NOTES = 100
MOST_BYTES = 4096
_LONGEST_TEXT = 500
PREFIX = "hook_note."
"""With what the names of such variables begin; then come the time, and what tells it from others of that time."""


def prepare(
    event: str, fields: Mapping[str, Any], time_us: int, operation_id: str, redaction: Redaction
) -> tuple[str, bytes]:
    """The name and the bytes of a note. Raises InvalidValue."""
    name = f"{PREFIX}{time_us:017}.{sha256(operation_id.encode()).hexdigest()[:12]}"
    head = {"event": event, "at": clock.to_datetime(time_us)}

    def encode(said: Mapping[str, Any]) -> bytes:
        return redaction.encode({**head, **said}, "context", "variables", name)

    data = encode({"fields": dict(fields)})
    if len(data) > MOST_BYTES:
        cut = {key: value[:_LONGEST_TEXT] for key, value in fields.items() if isinstance(value, str)}
        told = {"size_bytes": len(data), "sha256": sha256(data).hexdigest()}
        short = encode({"fields": cut, **told})
        data = short if len(short) <= MOST_BYTES else encode(told)
    return name, data


def put(tx: Transaction, name: str, data: bytes) -> None:
    """Put a note, in the place of the oldest where there are many."""
    tx.put(records.VARIABLE + name, data)
    there = records.names(tx, records.VARIABLE + PREFIX)
    for old in there[: max(0, len(there) - MOST_NOTES)]:
        tx.delete(records.VARIABLE + PREFIX + old)
