"""Outputs of steps: which versions there are, and their values as text, piece by piece.

An output of bytes is read from the store as far as it is asked for; any other has to be in memory as a whole, and the
text of the last one is kept, since it is mostly asked for again, one piece further.
"""

from __future__ import annotations

import codecs
import json
import threading
from io import StringIO
from typing import Annotated, Any, BinaryIO, NamedTuple

from msgspec import Meta

from waypost import loading, records, workflows
from waypost.cli import describe
from waypost.codec import values
from waypost.errors import InvalidInput
from waypost.models import StepOutput
from waypost.store import View
from waypost.web.query import Asked, CheckpointId, Form, Id, Offset, Version
from waypost.web.site import Site
from waypost.web.views import versions as versions_

MOST_DECODED = 16 * 1024 * 1024
"""Bytes of an output that is no bytes, and so has to be in memory as a whole to be shown."""

MOST_INDENTED = 64 * 1024 * 1024
"""Characters of such an output over several lines: one that would take more is shown on one."""

MOST_AT_ONCE = 64 * 1024
_MOST_VERSIONS = 1_000
_HEX_ROW = 16


class Versions(Asked, frozen=True, kw_only=True):
    """The outputs of a step, now or at a checkpoint."""

    workflow: Id
    step: Id
    at: CheckpointId | None = None


class Piece(Asked, frozen=True, kw_only=True):
    """A piece of one output, the newest by default."""

    workflow: Id
    step: Id
    version: Version | None = None
    at: CheckpointId | None = None
    form: Form = "pretty"
    offset: Offset = 0
    limit: Annotated[int, Meta(ge=1, le=MOST_AT_ONCE)] = MOST_AT_ONCE


def versions(site: Site, asked: Versions) -> dict[str, Any]:
    """All versions of a step's output, the newest first, without values."""
    with site.source.reading() as store:
        view = versions_.view_of(store, asked.workflow, asked.at)
        newest = records.step(view, records.validate_id(asked.step, "step id")).output_version
        found = (
            records.OUTPUTS.get(view, records.output_key(asked.step, number))
            for number in range(newest, max(0, newest - _MOST_VERSIONS), -1)
        )
        rows = [describe.output(each, load=False) for each in found if each is not None]
    return {"items": rows, "newest": newest}


def piece(site: Site, asked: Piece) -> dict[str, Any]:
    """The piece of an output from `offset` on."""
    with site.source.reading() as store:
        view = versions_.view_of(store, asked.workflow, asked.at)
        step = records.validate_id(asked.step, "step id")
        output = read(view, step, asked.version)
        try:
            file = workflows.open_output(view, step, output.version)
        except InvalidInput:
            return _of_text(_text(view, output, asked.form), output, asked)
        with file:
            return _of_bytes(file, output, asked)


def read(view: View, step_id: str, version: int | None = None) -> StepOutput:
    """One version of an output, the newest by default, whose value holds no object of an application."""
    return loading.with_value(workflows.read_output(view, step_id, version), lambda: view, inert=True)


def beginning(view: View, output: StepOutput, most: int, largest: int) -> str:
    """The first characters of an output, of bytes that are no text in hexadecimal. Raises InvalidInput for a value that
    is no bytes and larger than so many of them, and what reading does.
    """
    try:
        file = workflows.open_output(view, output.step_id, output.version)
    except InvalidInput:
        plain = _plain(output, largest)
        return plain[:most] if isinstance(plain, str) else _indented(plain, most)[:most]
    with file:
        data = file.read(most)
    decoded = _decoded(data)
    return _hex(data[: most // 4], 0, "pretty") if decoded is None else decoded[0]


# --- text and JSON ---


class _Text(NamedTuple):
    media: str
    text: str


_LAST_LOCK = threading.Lock()
_last: tuple[tuple[str, str, int, str, str], _Text] | None = None


def _text(view: View, output: StepOutput, form: Form) -> _Text:
    """The whole value as text. The last one that was asked for is at hand, and only one at a time is made."""
    global _last
    key = (view.document.id, output.step_id, output.version, output.checksum, form)
    with _LAST_LOCK:
        if _last is None or _last[0] != key:
            _last = (key, _made(output, form))
        return _last[1]


def _made(output: StepOutput, form: Form) -> _Text:
    plain = _plain(output, MOST_DECODED)
    if isinstance(plain, str):
        return _Text("text", plain)
    text = _indented(plain, MOST_INDENTED) if form == "pretty" else ""
    if not text or len(text) > MOST_INDENTED:
        text = json.dumps(plain, ensure_ascii=False)
    return _Text("json", text)


def _plain(output: StepOutput, largest: int) -> Any:
    if output.size_bytes > largest:
        raise InvalidInput(
            f"the output of step {output.step_id!r} is of {output.size_bytes:,} bytes, and at most {largest:,} "
            "are shown here: `waypost show WORKFLOW --step STEP --all` shows it whole",
            size_bytes=output.size_bytes,
        )
    return values.plain(output.output)


def _indented(plain: Any, most: int) -> str:
    """JSON over several lines; of what is longer than that only a beginning, which is longer, too. An item that lies
    deep takes some hundred blanks, so it is not made as a whole to be measured.
    """
    made = StringIO()
    for piece in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(plain):
        most -= made.write(piece)
        if most < 0:
            break
    return made.getvalue()


def _of_text(found: _Text, output: StepOutput, asked: Piece) -> dict[str, Any]:
    shown = found.text[asked.offset : asked.offset + asked.limit]
    return _answer(output, asked.offset, len(shown), len(found.text), media=found.media, text=shown, unit="characters")


# --- bytes ---


def _of_bytes(file: BinaryIO, output: StepOutput, asked: Piece) -> dict[str, Any]:
    """Bytes that are UTF-8 as text, and else in hexadecimal; counted in bytes."""
    total = file.seek(0, 2)
    offset = min(asked.offset, total)
    file.seek(offset)
    data = file.read(min(asked.limit, MOST_AT_ONCE // 4))
    decoded = _decoded(data)
    text, taken = (_hex(data, offset, asked.form), len(data)) if decoded is None else decoded
    encoding = "hex" if decoded is None else "utf-8"
    return _answer(output, offset, taken, total, media="bytes", text=text, unit="bytes", encoding=encoding)


def _decoded(data: bytes) -> tuple[str, int] | None:
    """Bytes that are text, but for a character that is cut off at the end; None for what is no text."""
    try:
        text, taken = codecs.utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        return None
    return (text, taken) if "\0" not in text and (taken or not data) else None


def _hex(data: bytes, offset: int, form: Form) -> str:
    if form == "raw":
        return data.hex()
    rows = (data[at : at + _HEX_ROW] for at in range(0, len(data), _HEX_ROW))
    return "\n".join(
        f"{offset + number * _HEX_ROW:08x}  {row.hex(' '):<47}  {_printable(row)}" for number, row in enumerate(rows)
    )


def _printable(row: bytes) -> str:
    return "".join(chr(each) if 0x20 <= each < 0x7F else "." for each in row)


def _answer(output: StepOutput, offset: int, taken: int, total: int, **more: Any) -> dict[str, Any]:
    end = offset + taken
    return {
        **describe.output(output, load=False),
        "step": output.step_id,
        "offset": offset,
        "next_offset": end if taken and end < total else None,
        "total_chars": total,
        **more,
    }
