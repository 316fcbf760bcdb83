"""Claude Code's payloads. They are the shape that all others are brought to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAME = "claude-code"
PREFIX = "claude"
RESUME = "claude --resume {session_id}"
TURN = "prompt_id"


def is_meant(payload: Mapping[str, Any]) -> bool:
    """Whether the names of the fields are those of Claude Code."""
    return "hook_event_name" in payload and "session_id" in payload
