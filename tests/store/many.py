"""Stores of very many workflows, made by copying the log of one and giving each copy an id and times of its own."""

from __future__ import annotations

import os
from pathlib import Path

from waypost.codec import bodies, frame
from waypost.codec.frame import Draft, FrameType, Place, Standing, new_file_id
from waypost.store.directory.files import open_path
from waypost.store.directory.layout import encode_id
from waypost.store.directory.log import NOTHING, Frame, Log


def read_frames(path: Path) -> list[Frame]:
    """All frames of a log; none when its making was cut short."""
    folder = open_path(str(path.parent))
    file = folder.open(path.name)
    assert file is not None
    log = Log(folder, path.name, file, limit=1 << 30, prewrite=False, keep=lambda *_: None)
    size = file.identity().size
    first = log.first(size)
    if first is None:
        return []
    return [first, *log.hop(first.end, first.header.checksum, size)]


def relabelled(frames: list[Frame], identifier: str, time_us: int) -> bytes:
    """The bytes of a closed log that holds the same commits under another id, the last of them made at `time_us`."""
    file_id, offset, link = new_file_id(), 0, 0
    out: list[bytes] = []
    for found in frames:
        header = found.header
        body = found.data[header.body_offset : header.blocks_offset]
        draft = Draft(
            FrameType(header.type), header.codec, body, header.raw, frame.touched_parts(header, found.data), ()
        )
        if header.type == FrameType.FILE:
            draft = bodies.file_draft(bodies.read_file(body)._replace(id=identifier))
        standing = NOTHING if header.type == FrameType.FILE else found.standing._replace(time_us=time_us)
        synced = offset if header.type == FrameType.SEAL else 0
        data, made = frame.assemble(draft, Place(offset, file_id, link, synced, 0), Standing(*standing))
        out.append(data)
        offset, link = offset + len(data), made.checksum
    return b"".join(out)


def copies(store: Path, template: str, names: list[str], first_us: int) -> None:
    """Put a closed workflow under many other names beside it; each is changed a millisecond after the one before it.

    The store is not open anywhere, and `template` was closed cleanly and never compacted.
    """
    folder = store / "workflows"
    frames = read_frames(folder / f"{encode_id(template)}.state")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number, name in enumerate(names):
            data = relabelled(frames, name, first_us + 1000 * number)
            made = os.open(f"{encode_id(name)}.state", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=descriptor)
            os.write(made, data)
            os.close(made)
    finally:
        os.close(descriptor)
