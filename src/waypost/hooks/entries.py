"""One event of the spool: its bytes, believed only once they are summed (docs/format.md, section 7).

Events come from other processes, in whatever state these left them, and anyone who can write the store can put
one there. So reading raises one of two errors and nothing else, whatever the bytes are.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import NamedTuple

from waypost.hooks import script

HEADER_MOST = 64 << 10
MOST_BYTES = HEADER_MOST + script.PAYLOAD_MOST
_MAGIC = re.compile(rb"waypost-event ([0-9]{1,9}) ([0-9a-f]{8}) ")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_ESCAPE = re.compile(r"%([0-9a-f]{2})")
_NUMBER = re.compile(r"[0-9]{1,18}")
_LONGEST_MAGIC = 40
_OWN = frozenset({"name", "dialect", "time_us", "length", "sha256"})


class NotWhole(Exception):
    """What is there is no whole event: it is being written, or was never acknowledged."""


class Unusable(Exception):
    """A whole event that cannot be used; the text says why."""


class Cut(NamedTuple):
    """A payload that was longer than an event may be: what it was as a whole."""

    length: int
    sha256: str


class Entry(NamedTuple):
    """One event of the spool.

    `name` is unique, and what operation ids are made of. `payload` is what the program gave, as it came. `variables`
    are those of its environment that are kept, and `boot`; where it told the agent's process (`CLAUDE_PID`)
    also `agent_start` (clock ticks since boot), `pid_namespace` and `host`, as in `clock.ProcessIdentity`. `time_us`
    is the wall time of its arrival. `cut` is there where the payload is only the beginning.
    """

    name: str
    dialect: str
    payload: bytes
    variables: Mapping[str, str]
    time_us: int
    cut: Cut | None = None


def read(name: str, data: bytes) -> Entry:
    """The event that a file of that name holds. Raises NotWhole, Unusable."""
    found = _MAGIC.match(data, 0, _LONGEST_MAGIC)
    if found is None:
        raise NotWhole
    if found[1] != b"1":
        raise Unusable(f"is of format {int(found[1])}, and this release reads format 1")
    rest = data[found.end() :]
    if binascii.crc32(rest, binascii.crc32(script.MAGIC)) != int(found[2], 16):
        raise NotWhole
    end = rest.find(b"\n", 0, HEADER_MOST)
    if end < 0:
        raise Unusable("has a header without an end")
    fields = _fields(rest[:end])
    if fields.get("name") != name:
        raise Unusable(f"is the event {fields.get('name', '')[:80]!r} under another name")
    return _entry(fields, rest[end + 1 :])


def _fields(header: bytes) -> dict[str, str]:
    try:
        pairs = [part.partition("=") for part in header.decode("ascii").split(" ")]
    except UnicodeDecodeError:
        raise Unusable("has a header that is no text") from None
    fields = {key: _unescaped(value) for key, _, value in pairs}
    if len(fields) < len(pairs) or not all(_FIELD.fullmatch(key) for key in fields):
        raise Unusable("has a header that cannot be read")
    return fields


def _unescaped(value: str) -> str:
    if "%" not in value:
        return value
    data = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), value).encode("latin-1")
    return data.decode("utf-8", "surrogateescape")


def _entry(fields: dict[str, str], payload: bytes) -> Entry:
    length, time_us = _number(fields, "length"), _number(fields, "time_us")
    is_cut = "sha256" in fields
    if length < len(payload) or (length > len(payload)) != is_cut:
        raise Unusable(f"has {len(payload):,} bytes, and says that it has {length:,}")
    return Entry(
        fields["name"],
        fields.get("dialect", ""),
        payload,
        {name: value for name, value in fields.items() if name not in _OWN},
        time_us,
        Cut(length, fields["sha256"]) if is_cut else None,
    )


def _number(fields: dict[str, str], name: str) -> int:
    value = fields.get(name, "")
    if not _NUMBER.fullmatch(value):
        raise Unusable(f"says no {name}")
    return int(value)
