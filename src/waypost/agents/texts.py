"""Texts of agents, made short enough to be names and lines, and harmless enough to be shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LONGEST_NAME = 60
LONGEST_STEP_NAME = 80
LONGEST_NOTE = 500
LONGEST_ERROR = 4000

_TELLING = ("command", "file_path", "path", "notebook_path", "pattern", "url", "query", "description", "prompt")
"""Fields of a tool's input, the most telling first."""


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def line(text: str, most: int) -> str:
    """A text as one line, without what a terminal or a reader may take for more than text."""
    shown = "".join(each if each.isprintable() else " " for each in text[: 4 * most])
    return cut(" ".join(shown.split()), most)


def of_tool(name: str, given: object) -> str:
    """A call of a tool in a few words."""
    if isinstance(given, Mapping):
        for field in _TELLING:
            value: Any = given.get(field)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if isinstance(value, str) and value.strip():
                return line(f"{name}: {value}", LONGEST_STEP_NAME)
    return line(name, LONGEST_STEP_NAME) or "tool"
