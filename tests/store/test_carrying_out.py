"""Decisions that several processes carry out at once: nothing of them is lost, and none comes back.

Two stores of one process on one directory stand for two processes; where one of them is stopped, the other goes on.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.store.test_receiving import opened, source, take
from waypost.store.directory import files
from waypost.store.memory import MemoryStore

__all__ = ["source"]


def test_c01_a_child_keeps_no_directory_locked_that_its_parent_imports_into(
    tmp_path: Path, source: MemoryStore
) -> None:
    """What its parent was taking in when it died is a leftover, however long the child lives."""
    store = opened(tmp_path)
    received: Any = take(store, source)
    is_up, may_end = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(may_end[1])
        os.write(is_up[1], b"!")
        os.read(may_end[0], 1)
        os._exit(0)
    os.close(may_end[0])
    os.read(is_up[0], 1)
    os.close(received._folder.descriptor)  # as the kernel does for one that is killed
    received._folder.descriptor = -1
    left = files.open_path(str(tmp_path / "store" / "temp" / received.name))
    assert left.try_lock()
    os.close(may_end[1])
    os.waitpid(child, 0)
    left.close()
    store.close()
