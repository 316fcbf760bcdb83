"""Plain text for people: stored text made harmless to a terminal, and times, sizes and durations as they are said.

Invariant: nothing that came from a store, a file or another program reaches a terminal but through `escape`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

# Controls (an escape sequence begins with one), separators of lines and paragraphs, marks that change the direction
# of text or cannot be seen, tags, and lone surrogates. The joiners of scripts and emoji stay.
_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
_JSON_HARMFUL = re.compile(
    "[\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str) -> str:
    """The text on one line, with what a terminal would act on written out (`\\x1b`)."""
    return _HARMFUL.sub(_written_out, text)


def escape_lines(text: str) -> str:
    """As `escape`, but line ends stay, and tabs become blanks."""
    return "\n".join(escape(line.expandtabs(4)) for line in text.split("\n"))


def _written_out(found: re.Match[str]) -> str:
    character = found[0]
    if character in _NAMED:
        return _NAMED[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def cut(text: str, most: int) -> str:
    """The text, at most that many characters of it."""
    return text if len(text) <= most else text[: most - 1] + "…"


def listing(names: Iterable[str], most: int = 5) -> str:
    """`a, b, c and 4 more`, escaped."""
    names = list(names)
    shown = ", ".join(escape(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def count(number: int, noun: str) -> str:
    """`1 step`, `2,000 steps`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# such an id begins with its time: this much of it tells apart what began a quarter of a second later
_SHORT_SESSION = re.compile("session_[0-9a-f]{32}")
_SHORT_SESSION_LENGTH = 18


def short_session(session_id: str) -> str:
    """A session's id as a terminal shows it: its beginning, if it is one that Waypost gave."""
    is_given = _SHORT_SESSION.fullmatch(session_id) is not None
    return session_id[:_SHORT_SESSION_LENGTH] if is_given else session_id


# --- JSON ---


def as_json(document: Any, *, ascii_only: bool = False, indent: int | None = 2) -> str:
    """One readable JSON document: sorted keys, no NaN, harmless to a terminal. On one line without an indent."""
    return json_escape(json.dumps(document, indent=indent, sort_keys=True, ensure_ascii=ascii_only, allow_nan=False))


def json_escape(text: str) -> str:
    """JSON that says the same, with what a terminal would act on, or nobody can see, written as `\\u001b`."""
    # the structure itself is ASCII, so what is found stands inside a text
    return _JSON_HARMFUL.sub(lambda found: json.dumps(found[0])[1:-1], text)


# --- quantities ---

_UNITS = ("KB", "MB", "GB", "TB")


def size(number: float) -> str:
    """Bytes as people say them; a KB is 1,024 bytes."""
    if number < 1024:
        return f"{number:.0f} B"
    unit = -1
    while number >= 1024 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.{0 if number >= 100 else 1}f} {_UNITS[unit]}"


def duration(milliseconds: float) -> str:
    """A span of time in its two largest units."""
    if milliseconds < 1000:
        return f"{milliseconds:.{2 if milliseconds < 10 else 0}f} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days"


_AGES = ((90, 1, "s"), (90 * 60, 60, "min"), (48 * 3600, 3600, "h"), (14 * 86400, 86400, "days"))


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago a moment was: relative while that says something, else the date."""
    if moment is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if abs(seconds) < 2:
        return "just now"
    for bound, unit, name in _AGES:
        if 0 < seconds < bound:
            return f"{seconds // unit:.0f} {name} ago"
    return local(moment, "%Y-%m-%d %H:%M")


def local(moment: datetime, form: str) -> str:
    """A moment in the time zone of this machine, in UTC where the calendar has no such day there."""
    try:
        moment = moment.astimezone()
    except (OverflowError, ValueError, OSError):
        pass
    return moment.strftime(form)
