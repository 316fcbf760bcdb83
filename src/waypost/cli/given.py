"""Reading the files that are named on the command line.

Invariants: a pipe that nobody writes to is not waited for, and what has no end is not read.
"""

from __future__ import annotations

import io
import os
import stat
from errno import EINVAL


def read(path: str, most: int = -1) -> bytes:
    """What a file holds, or somebody writes into a pipe, up to `most` bytes. Raises OSError and ValueError."""
    with open(path, "rb", buffering=0, opener=_at_once) as raw, io.BufferedReader(raw) as file:
        first = b"" if stat.S_ISREG(os.fstat(raw.fileno()).st_mode) else _first_of_other(raw, path)
        return first + file.read(most)


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _first_of_other(file: io.FileIO, path: str) -> bytes:
    """Have what is no regular file be waited for, if it is a pipe with a writer; what was read to see that."""
    if not stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
        raise OSError(EINVAL, "it is no regular file", path)
    first = file.read(1)
    if first == b"":
        raise OSError(EINVAL, "it is a pipe that nobody writes to", path)
    os.set_blocking(file.fileno(), True)
    return first or b""
