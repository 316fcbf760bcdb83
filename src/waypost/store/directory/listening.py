"""Noticing commits of all processes: the ends of logs are looked at again and again.

Nothing else is told of a commit everywhere: other machines that share the directory are heard of in no other way. Its
one fear is a commit that changes nothing that can be seen: logs are filled ahead, so their size may stay, and two
commits within one tick of the file system's clock leave the same time. So after each change it says twice more that
there may have been one: at the next look, and when the coarsest clock has gone on.

Where the package `watchfiles` is there, the system ends the pause between two looks. It is never relied on: file
systems of a network tell nothing of what other machines do.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

from waypost.errors import StoreClosed, WaypostError
from waypost.store.directory.context import Context
from waypost.store.directory.index import SETTLED_NS
from waypost.store.directory.layout import SUFFIXES, file_name
from waypost.store.kinds import KINDS, DocumentId

_LOG = logging.getLogger("waypost")
LEAST_S, MOST_S = 0.05, 1.0
"""Between two looks: the pause doubles while nothing happens."""
_WORK = 10
"""A look at very many logs is followed by a pause that is so many times as long."""

_STEP_MS, _SLICE_MS = 25, 50
"""How often the system is asked, and for how long at once."""

Ends = tuple[int, tuple[str, ...]]


class Listener:
    """Notices commits of one document, or of all; fulfils `contract.Listener`."""

    def __init__(self, context: Context, document: DocumentId | None, is_closed: Callable[[], bool]) -> None:
        self._context = context
        self._suffixes = SUFFIXES if document is None else {document.kind: file_name(document)}
        self._is_closed = is_closed
        self._ended = False
        self._woken = threading.Event()
        self._pause_s = LEAST_S
        self._seen: Ends = (0, ())
        self._next_s = 0.0
        self._doubts: list[float] = []
        """When to say once more that something may have happened."""
        self._hints: Iterator[object] | None = None
        self._may_hint = True
        self._look()
        context.listeners.add(self)

    def wait(self, timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        while not self._ended:
            now = time.monotonic()
            if now >= self._next_s or self._is_closed():
                if self._look():
                    return True
            elif now >= until:
                return False
            else:
                self._sleep(min(self._next_s, until))
        self._hints = None
        return False

    def close(self) -> None:
        self._ended = True
        self.wake()

    def _sleep(self, until: float) -> None:
        """Pause, or less where the system tells of a change or what waits is to end.

        Not so in the main thread: there the package turns whatever a handler of a signal raises into KeyboardInterrupt.
        """
        if self._pause_s > LEAST_S and self._may_hint and threading.current_thread() is not threading.main_thread():
            try:
                self._hints = self._hints or _hints(self._context, self._woken)
                while time.monotonic() < until and not self._woken.is_set():
                    if next(self._hints):
                        self._next_s = 0.0
                        return
                return
            except (ImportError, StopIteration):
                self._may_hint = False
            # as where the system watches as much as it may already, or the store is just being closed
            except (OSError, RuntimeError, WaypostError) as error:
                _LOG.info("%s: changes are looked for, and not told of: %s", self._context.layout.path, error)
                self._may_hint = False
        self._woken.wait(max(0.0, until - time.monotonic()))

    def wake(self) -> None:
        """Have what waits look whether it is to go on."""
        self._woken.set()

    def _look(self) -> bool:
        began = time.monotonic()
        try:
            ends = self._ends()
        except (WaypostError, OSError) as error:
            if self._is_closed():
                raise StoreClosed(f"the store {self._context.layout.path} is closed") from error
            raise
        if self._is_closed():
            raise StoreClosed(f"the store {self._context.layout.path} is closed")
        now = time.monotonic()
        changed = ends != self._seen
        doubtful = any(began >= due for due in self._doubts)
        if changed:
            self._seen = ends
            self._pause_s = LEAST_S
            self._doubts = [now, now + SETTLED_NS / 1e9]
        elif doubtful:
            self._doubts = [due for due in self._doubts if began < due]
        else:
            self._pause_s = min(MOST_S, self._pause_s * 2)
        self._next_s = now + max(self._pause_s, _WORK * (now - began))
        return changed or doubtful

    def _ends(self) -> Ends:
        """What is seen of the ends of logs, and of commits that are decided and may stand in none of them yet."""
        layout, found = self._context.layout, 0
        for kind in KINDS:
            if kind in self._suffixes:
                folder = layout.existing_documents(kind)
                for name, each in folder.states(self._suffixes[kind]) if folder else ():
                    found ^= hash((kind, name, each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns))
        return found, tuple(self._context.decisions.pending())


def _hints(context: Context, end: threading.Event) -> Iterator[object]:
    """What the system tells of changes, nothing for each slice of time without any.

    Raises ImportError, OSError, StoreUnavailable.
    """
    from watchfiles import watch

    layout = context.layout
    folders = [folder.path for kind in KINDS if (folder := layout.existing_documents(kind)) is not None]
    return watch(
        *folders,
        watch_filter=None,
        debounce=_SLICE_MS,
        step=_STEP_MS,
        stop_event=end,
        rust_timeout=_SLICE_MS,
        yield_on_timeout=True,
        recursive=False,
    )
