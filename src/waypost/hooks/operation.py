"""The operation `emit_hook_event` as the faces have it; what carries it out is loaded when an event is emitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waypost.definitions import Definitions
from waypost.operations import OperationResult, Request


def emit_hook_event(
    self: Definitions,
    event: str,
    payload: Mapping[str, Any],
    *,
    operation_id: str | None = None,
    session_id: str | None = None,
) -> Request[OperationResult[Any]]:
    """Have the effects of a hook event (docs/hooks.md), all in one commit, and give what has changed: a step, an agent,
    a checkpoint, a session, or the workflow. Unless one is given, the event's own `id` is the operation id.

    Fails with InvalidInput and its kinds for an event that cannot be used, and with what the operations fail with that
    do the same.
    """
    from waypost.hooks.emitting import requested
    from waypost.hooks.payloads import read_event

    return requested(self, lambda: read_event(event, payload), operation_id=operation_id, session_id=session_id)
