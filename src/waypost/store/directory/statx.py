"""Which file a name stands for and how long it is, asked without asking when it was changed.

On Linux 6.13 and later, whoever asks for a file's times makes the next write to it note a new one ("multigrain
timestamps", Documentation/filesystems/multigrain-ts.rst), and the sync of a commit then takes longer: 127 in place of
91 us by `tools/times_asked.py`, more than all other system calls of a commit together. Python's own `stat` asks for
everything before 3.15; the call below it, statx(2), is told what to look for. A process that writes to no log does
without, since loading what calls it takes 2 ms.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

_NOT_FOLLOWED = 0x100  # AT_SYMLINK_NOFOLLOW
_ASKED = 0x101 | 0x200  # STATX_TYPE and STATX_INO, STATX_SIZE
_ROOM = 256
_MASK = struct.Struct("=I")
_FOUND = struct.Struct("=32xQQ88xII")
"""Of `struct statx`: stx_ino and stx_size, stx_dev_major and stx_dev_minor."""


Call = Callable[[int, bytes, bytearray], bool]
_AT_HAND: list[Call] = []
"""The call, once it was loaded."""


class Found(NamedTuple):
    """What `os.stat` says as well."""

    st_dev: int
    st_ino: int
    st_size: int


def stat(name: str, *, dir_fd: int, follow_symlinks: bool) -> Found | os.stat_result:
    """As `os.stat`, for whoever needs no more than number and length. Raises OSError."""
    if _AT_HAND and not follow_symlinks:
        room = bytearray(_ROOM)
        if _AT_HAND[0](dir_fd, os.fsencode(name), room) and _MASK.unpack_from(room)[0] & _ASKED == _ASKED:
            inode, size, major, minor = _FOUND.unpack_from(room)
            return Found(os.makedev(major, minor), inode, size)
    # what was refused is asked for once more, since there are sandboxes that know of `stat` alone
    return os.stat(name, dir_fd=dir_fd, follow_symlinks=follow_symlinks)


@cache
def load() -> None:
    """Ask by statx(2) from now on, where the system has it: to be called before a log is written to."""
    call = _found()
    if call is not None:
        _AT_HAND[:] = [call]


def _found() -> Call | None:
    """The call of the system's library, which tells whether it was answered; None where there is none."""
    try:
        import ctypes

        statx = ctypes.CDLL(None).statx
    except (ImportError, OSError, AttributeError):
        return None
    statx.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
    room_of, not_passed = (ctypes.c_char * _ROOM).from_buffer, ctypes.ArgumentError

    def call(folder: int, name: bytes, room: bytearray) -> bool:
        try:
            return statx(folder, name, _NOT_FOLLOWED, _ASKED, room_of(room)) == 0
        except not_passed:
            return False  # memory ran out as arguments were handed over, which `stat` tells as what it is

    return call
