"""How much one answer holds, and what stored text goes through before it is part of one.

A token is reckoned as three characters of ASCII, or one of any other: on the safe side for prose, JSON and most
scripts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from waypost.cli.text import cut, escape

T = TypeVar("T", bound=BaseModel)

MOST_TOKENS = 25_000
"""What an answer may take of its reader's attention, the frame around it included."""

ROOM = MOST_TOKENS - 4_000
"""What of that is for what is listed in it, or for one text; the rest for the fields around."""

LONGEST_WORD = 200
"""Characters of a name, and of any other short text."""

LONGEST_TEXT = 2_000
"""Characters of an error, a description, or a value that is shown among others."""

MOST_NAMES = 50
"""Ids in a list within a row."""

_KEPT = re.compile("[\n\t]")


def tokens(text: str) -> int:
    """About how many tokens a text takes."""
    others = len(text) if not text.isascii() else 0
    if others:
        others = sum(character > "\x7f" for character in text)
    return (len(text) - others + 2) // 3 + others


def harmless(text: str) -> str:
    """A text with what cannot be seen, or acts on a terminal, written out. Line ends and tabs stay."""
    pieces = _KEPT.split(text)
    kept = [*_KEPT.findall(text), ""]
    return "".join(escape(piece) + end for piece, end in zip(pieces, kept, strict=True))


def word(given: object) -> object:
    """A short stored text on one line."""
    return _on_a_line(given, LONGEST_WORD)


def line(given: object) -> object:
    """A sentence on one line."""
    return _on_a_line(given, LONGEST_TEXT)


def _on_a_line(given: object, most: int) -> object:
    # cut first: a text that is much longer is not gone through whole
    return cut(escape(given[: most + 1]), most) if isinstance(given, str) else given


def fitting(text: str, room: int) -> tuple[str, int]:
    """As much of the beginning of a text as fits once it is harmless, and how many characters of the text that is."""
    # no character takes less than a third of a token
    length = min(len(text), 3 * room)
    while True:
        shown = harmless(text[:length])
        if tokens(json.dumps(shown, ensure_ascii=False)) <= room or length <= 1:
            return shown, length
        length = length * 3 // 4


def filled(rows: Iterable[T], room: int = ROOM) -> list[T]:
    """The first rows that fit together, one at least."""
    found: list[T] = []
    for row in rows:
        room -= tokens(row.model_dump_json()) + 1
        if room < 0 and found:
            break
        found.append(row)
    return found


def names(given: Sequence[str], most: int = MOST_NAMES, room: int = ROOM // 8) -> list[str]:
    """The first ids that fit, as they are."""
    found: list[str] = []
    for name in given[:most]:
        room -= tokens(as_json(name)) + 2
        if room < 0:
            break
        found.append(name)
    return found


def as_json(value: Any) -> str:
    """A plain value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, default=str)
