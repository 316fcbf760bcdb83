"""Hostile events of the spool: bytes that anyone may have put there, under the name of an event."""

from __future__ import annotations

import binascii
from contextlib import suppress

from waypost.hooks import entries, script

NAME = script.new_name("b4f7ec7e-74e2", 7)[:25] + "-" + "5" * 16


def valid() -> list[bytes]:
    fields = {"name": NAME, "dialect": "claude-code", "time_us": "1700000000000000", "boot": "b4f7ec7e", "length": "9"}
    named = {**fields, "CLAUDE_PID": "77", "agent_start": "123", "CLAUDE_PROJECT_DIR": "/home/ü %x"}
    cut = {**fields, "length": "1000", "sha256": "ab" * 32}
    return [script.encode(each, b'{"a": 1}\n') for each in (fields, named, cut)]


def mended(data: bytes) -> bytes:
    """With a sum that is right."""
    start = len(script.MAGIC)
    rest = data[start + 9 :]
    return data[:start] + b"%08x " % binascii.crc32(rest, binascii.crc32(script.MAGIC)) + rest


def read(data: bytes) -> None:
    """Read an event; what is read is what was written, and no larger."""
    with suppress(entries.NotWhole, entries.Unusable):
        entry = entries.read(NAME, data)
        assert entry.name == NAME
        assert data.endswith(b"\n" + entry.payload)
        assert sum(map(len, entry.variables.values())) <= len(data)
        assert entry.cut is None or entry.cut.length > len(entry.payload)
