"""Codex's payloads: Claude Code's, with another name for the turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAME = "codex"
PREFIX = "codex"
RESUME = "codex resume {session_id}"
TURN = "turn_id"


def is_meant(payload: Mapping[str, Any]) -> bool:
    """Whether the names of the fields are those of Codex."""
    return TURN in payload and "hook_event_name" in payload and "session_id" in payload
