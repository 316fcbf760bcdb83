"""A step's output as text, piece by piece. One of bytes is read from the store as far as it is asked for."""

from __future__ import annotations

import base64
import codecs
from typing import BinaryIO

from waypost.blocking import Waypost
from waypost.codec import values
from waypost.errors import InvalidInput
from waypost.mcp import bounds
from waypost.mcp.results import OutputText
from waypost.models import StepOutput

MOST_DECODED = 16 * 1024 * 1024
"""Bytes of an output that is no bytes, and so has to be in memory as a whole to be shown."""

_MOST_BYTES = 30_000


def output_text(
    wp: Waypost, run_id: str, step_id: str, version: int | None, offset: int, limit: int, room: int = bounds.ROOM
) -> OutputText:
    """The piece of an output from `offset` on. Raises what reading it does, and InvalidInput where it is too large."""
    output = wp.get_step_output(run_id, step_id, version)
    try:
        file = wp.open_step_output(run_id, step_id, output.version)
    except InvalidInput:
        return _decoded(run_id, output, offset, limit, room)
    with file:
        return _bytes(run_id, output, file, offset, limit, room)


def _decoded(run_id: str, output: StepOutput, offset: int, limit: int, room: int) -> OutputText:
    if output.size_bytes > MOST_DECODED:
        raise InvalidInput(
            f"the output of step {output.step_id!r} is of {output.size_bytes:,} bytes, and at most {MOST_DECODED:,} "
            "are shown here: `waypost show RUN --step STEP --all` shows it whole",
            size_bytes=output.size_bytes,
        )
    plain = values.plain(output.output)
    is_text = isinstance(plain, str)
    text = plain if is_text else bounds.as_json(plain)
    piece, taken = bounds.fitting(text[offset : offset + limit], room)
    made = _result(run_id, output, offset, taken, len(text))
    return made.model_copy(update={"encoding": "text" if is_text else "json", "text": piece})


def _bytes(run_id: str, output: StepOutput, file: BinaryIO, offset: int, limit: int, room: int) -> OutputText:
    total = file.seek(0, 2)
    file.seek(min(offset, total))
    data = file.read(min(limit, _MOST_BYTES))
    text = _decode(data)
    if text is None:
        made = _result(run_id, output, offset, len(data), total)
        return made.model_copy(update={"unit": "bytes", "text": base64.b64encode(data).decode(), "encoding": "base64"})
    piece, taken = bounds.fitting(text, room)
    made = _result(run_id, output, offset, len(text[:taken].encode()), total)
    return made.model_copy(update={"unit": "bytes", "text": piece, "encoding": "text"})


def _decode(data: bytes) -> str | None:
    """Bytes that are text, but for a character that is cut off at the end; None for what is no text."""
    try:
        text, taken = codecs.utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        return None
    return text if "\0" not in text and (taken or not data) else None


def _result(run_id: str, output: StepOutput, offset: int, taken: int, total: int) -> OutputText:
    end = offset + taken
    return OutputText(
        run_id=run_id,
        step_id=output.step_id,
        version=output.version,
        agent_id=output.agent_id,
        created_at=output.timestamp,
        size_bytes=output.size_bytes,
        sha256=output.checksum,
        encoding="text",
        text="",
        unit="characters",
        offset=offset,
        next_offset=end if taken and end < total else None,
        total=total,
    )
