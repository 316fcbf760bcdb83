"""`checkpoint-index.json`: what stands in `checkpoints/`, for people and tools (docs/format.md, section 7).

It is derived from the files alone, and no answer of ours depends on it: it is written without a sync, may be removed at
any time, and what is torn or foreign is as good as not there. It is written with the folder locked, so that whoever is
last to change the folder is not overtaken by an older look at it; who finds it locked leaves it to whoever holds it.
What it costs grows with the store, so where there are very many files it is only written beside the work.
"""

from __future__ import annotations

import json
import logging
import re
import time
from contextlib import suppress
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from waypost import clock
from waypost.errors import StoreError, UnsupportedFormat, WaypostError
from waypost.store.contract import CHECKPOINT
from waypost.store.directory import checkpoints, keeping
from waypost.store.directory.checkpoints import FOLDER, SUFFIX, Layer
from waypost.store.directory.context import Context
from waypost.store.directory.files import Directory
from waypost.store.directory.layout import Layout, new_file

NAME = "checkpoint-index.json"
_LOG = logging.getLogger("waypost")
_FORMAT = 1
_MOST_BYTES, _MOST_FILES = 1 << 28, 500_000
_MOST_AT_CLOSE_BYTES, _MOST_AT_CLOSE = 1 << 20, 2_500
"""Of more than so many files closing does not tell: that grows with the store, and who closes it waits."""
_HEAD_BYTES = 64
_APART_S = 5.0
_SHARE = 50
_FEW = 32
"""So many files are read with the folder locked; before more are, all are read without it, so that others may go on."""
_WRITTEN = re.compile(rb'\{"format": 1, "folder_ns": (\d{1,20}), "checkpoints": \[\n(.*)\n\]', re.DOTALL)
_BETWEEN = b",\n"


class Row(NamedTuple):
    """What is told of one file, as it stands in the index, with the stamp of the file that it was read from."""

    stamp: tuple[int, int, int]
    line: bytes


class _Told(msgspec.Struct):
    """What of a row is looked at again: the rest of the line is only passed on."""

    file: str
    stamp: tuple[int, int, int]


_decode_told = msgspec.json.Decoder(_Told).decode


class Index(NamedTuple):
    """When the folder was last changed as the index was written, and its rows by the names of files."""

    folder_ns: int
    rows: dict[str, Row]


class Register:
    """Keeps the index of one open store true, off every commit's path, and no oftener than it is worth."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._next_at = time.monotonic() + _APART_S  # a store that is open for a moment has it written as it closes

    def look_after(self) -> None:
        """After upkeep: write it if files came or went and the last time is long enough ago."""
        if self._context.checkpoints_changed and time.monotonic() >= self._next_at:
            began = time.monotonic()
            self._refresh()
            self._next_at = began + max(_APART_S, _SHARE * (time.monotonic() - began))

    def close(self) -> None:
        """When the store is closed: write it if it is not true any more, whoever changed that, and is soon written."""
        layout = self._context.layout
        with suppress(StoreError):
            if layout.read_only or not (self._context.checkpoints_changed or _is_stale(layout)):
                return
            if _is_short(layout):
                self._refresh()

    def _refresh(self) -> None:
        self._context.checkpoints_changed = False
        try:
            if not refresh(self._context):
                self._context.checkpoints_changed = True
        except WaypostError as error:
            _LOG.info("%s was not written: %s", NAME, error)


def refresh(context: Context) -> bool:
    """Write the index anew from the files, if they are not too many for one; only those are read that it does not know.
    False where another process has the folder locked, which sees to it.
    """
    folder = context.layout.existing(FOLDER)
    if folder is None:
        return True
    if len(folder.names()) > _MOST_FILES:
        return True
    index = recall(context.layout)
    rows = {} if index is None else index.rows
    for are_read in (False, True):
        with keeping.alone_if_free(context) as is_alone:
            if not is_alone:
                return False
            changed_ns, there = folder.changed_ns(), stamps(folder)
            # by their stamps, since in a copy of a store each may have another than the index says
            if are_read or sum(not _is_known(rows, *each) for each in there.items()) <= _FEW:
                _put(context.layout, changed_ns, _rows_of(context, folder, there, rows))
                break
        rows = _rows_of(context, folder, there, rows)
    return True


def _is_stale(layout: Layout) -> bool:
    """Whether the folder was changed since the index was written, by one look at the beginning of it."""
    folder = layout.existing(FOLDER)
    if folder is None:
        return False
    file = layout.root.open(NAME)
    return file is None or not file.read(_HEAD_BYTES, 0).startswith(_head(folder.changed_ns()))


def _is_short(layout: Layout) -> bool:
    """Whether there are few files, as the length of the index tells, or that of the folder where the file system keeps
    one, and where these are short their number.
    """
    if any(found.size > _MOST_AT_CLOSE_BYTES for name in (NAME, FOLDER) if (found := layout.root.identity(name))):
        return False
    folder = layout.existing(FOLDER)  # it may hold many that a short index does not know: a crash may have left them
    return folder is None or len(folder.names()) <= _MOST_AT_CLOSE


def _head(changed_ns: int) -> bytes:
    return f'{{"format": {_FORMAT}, "folder_ns": {changed_ns}, '.encode()


def stamps(folder: Directory) -> dict[str, tuple[int, int, int]]:
    """What the file system says of each file of a checkpoint: inode, size, time of writing. One whose name is not UTF-8
    is none of ours, and the index, which is, cannot name it.
    """
    found = folder.states(SUFFIX)
    return {name: (each.st_ino, each.st_size, each.st_mtime_ns) for name, each in found if _is_text(name)}


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_known(rows: dict[str, Row], name: str, stamp: tuple[int, int, int]) -> bool:
    row = rows.get(name)
    return row is not None and row.stamp == stamp


def _rows_of(
    context: Context, folder: Directory, there: dict[str, tuple[int, int, int]], known: dict[str, Row]
) -> dict[str, Row]:
    return {
        name: known[name] if _is_known(known, name, stamp) else _row(context, folder, name, stamp)
        for name, stamp in sorted(there.items())
    }


def _row(context: Context, folder: Directory, name: str, stamp: tuple[int, int, int]) -> Row:
    told = {**_read(context, folder, name), "file": name, "size_bytes": stamp[1], "stamp": stamp}
    return Row(stamp, json.dumps(told, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def _read(context: Context, folder: Directory, name: str) -> dict[str, Any]:
    try:
        layer = checkpoints.read_file(context, folder, name)
        return {} if layer is None else {"id": layer.name, **_told(layer)}
    except (WaypostError, UnsupportedFormat) as error:
        return {"problem": str(error)}


def _told(layer: Layer) -> dict[str, Any]:
    key = CHECKPOINT + layer.name
    part = layer.puts.get(key) if layer.base is None else layer.base.get(key)
    return {
        layer.document.kind: layer.document.id,
        **_said(part if isinstance(part, bytes) else b""),
        "version": layer.standing.version,
        "stands_on": layer.parent,
    }


def _said(data: bytes) -> dict[str, Any]:
    """What the layer above keeps of a checkpoint, as far as it is what docs/format.md says."""
    try:
        kind, description, tags, created_us = msgspec.msgpack.decode(data, type=list[Any])[:4]
        created = clock.to_datetime(msgspec.convert(created_us, int)).isoformat()
        told = msgspec.convert([kind, description, tags], tuple[str, str, list[str]])
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return {}
    return {"type": told[0], "tags": told[2], "description": told[1], "created": created}


def _put(layout: Layout, changed_ns: int, rows: dict[str, Row]) -> None:
    """Put it in its place, whole or not at all as long as the system stands; it needs no sync."""
    lines = _BETWEEN.join(b"  " + row.line for row in rows.values())
    text = _head(changed_ns) + b'"checkpoints": [\n' + lines + b"\n]"
    temp = layout.folder("temp")
    name, file = new_file(layout)
    try:
        file.write_all(text + f', "checksum": "{crc32(text):08x}"}}\n'.encode(), 0)
        temp.move(name, layout.root, NAME)
    finally:
        file.close()
        temp.remove(name)


def recall(layout: Layout) -> Index | None:
    """The index, if there is one and it is whole."""
    try:
        file = layout.root.open(NAME)
        if file is None or (size := file.identity().size) > _MOST_BYTES:
            return None
        return parse(file.read(size, 0))
    except StoreError:
        return None


def parse(data: bytes) -> Index | None:
    """The index as its bytes tell it; None where they are not those of one."""
    text, mark, checksum = data.rpartition(b', "checksum": "')
    if not mark or checksum != f'{crc32(text):08x}"}}\n'.encode():
        return None
    written = _WRITTEN.fullmatch(text)
    if written is None:
        return None
    try:
        lines = [line.removeprefix(b"  ") for line in written[2].split(_BETWEEN)] if written[2] else []
        rows = {told.file: Row(told.stamp, line) for line in lines for told in [_decode_told(line)]}
        return Index(int(written[1]), rows)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def finding(layout: Layout) -> str | None:
    """What is amiss with the index of a store; None where nothing is, or there is nothing to tell of."""
    folder = layout.existing(FOLDER)
    there = {} if folder is None else stamps(folder)
    if layout.root.kind(NAME) is None:
        return "is missing" if there else None
    index = recall(layout)
    if index is None:
        return "is damaged"
    told = {name: row.stamp for name, row in index.rows.items()}
    return None if told == there else "tells of other files than there are"
