"""What spares a list of very many documents the reading of their logs: stamps, and a file of derived data.

A stamp is what the file system says about a log. It differs once the log has changed, except where that happened within
one tick of the file system's clock; so a log that was written to a moment ago has none, and is read.

The derived data lies in `index/`, and no answer depends on it: it holds for this boot only, since after a power cut a
log may have a time that its content did not reach; what is torn, foreign or of another boot is as good as not there.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from zlib import crc32

from waypost import clock
from waypost.errors import StoreError
from waypost.store.directory.layout import SUFFIXES, Layout, replace
from waypost.store.kinds import Kind

SETTLED_NS = 2_000_000_000
"""For how long after a change two more may have the same times: some file systems count in steps of two seconds."""

_STAMP = struct.Struct("<QQQQ")
_HEAD = struct.Struct("<16s64sI")
_MAGIC = b"waypost index 1\n"
_MOST_BYTES = 1 << 28
_CLOCK_EVERY = 1024


def stamps(layout: Layout, kind: Kind) -> Iterator[tuple[str, bytes]]:
    """(name without its suffix, stamp) of each log of a kind; the stamp is empty where it could not be relied on."""
    suffix = SUFFIXES[kind]
    settled_ns = 0
    folder = layout.existing_documents(kind)
    for number, (name, found) in enumerate(folder.states(suffix) if folder else ()):
        if number % _CLOCK_EVERY == 0:  # an older time is as good
            settled_ns = time.time_ns() - SETTLED_NS
        written_ns, changed_ns = found.st_mtime_ns, found.st_ctime_ns
        relied_on = 0 <= written_ns < settled_ns and 0 <= changed_ns < settled_ns
        stamp = _STAMP.pack(found.st_ino, found.st_size, written_ns, changed_ns) if relied_on else b""
        yield name.removesuffix(suffix), stamp


def recall(layout: Layout, name: str) -> bytes | None:
    """What was kept under a name in this boot, if it is whole."""
    try:
        folder = layout.root.open_directory("index")
        file = None if folder is None else folder.open(name)
        if file is None or (size := file.identity().size) > _MOST_BYTES:
            return None
        data = file.read(size, 0)
    except StoreError:
        return None
    if len(data) < _HEAD.size:
        return None
    content = memoryview(data)[_HEAD.size :]
    return bytes(content) if data.startswith(_head(content)) else None


def keep(layout: Layout, name: str, content: bytes) -> None:
    """Keep derived data, if that is possible."""
    if not layout.read_only:
        with suppress(StoreError):
            replace(layout, layout.folder("index"), name, _head(content) + content)


def _head(content: bytes | memoryview) -> bytes:
    return _HEAD.pack(_MAGIC, clock.boot_id().encode()[:64], crc32(content))
