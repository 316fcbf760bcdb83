"""Documents that are held for as long as a process lives: a locked file in `owners/` for each.

The kernel frees the lock when its holder ends, in whatever way, and keeps it while he is stopped. The file also tells
when he was last seen alive, for those whom the lock tells nothing. None of it is synced: it says nothing to a kernel
that was started later.
"""

from __future__ import annotations

import _thread
import json
import logging
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from zlib import crc32

from waypost import clock
from waypost.errors import LockTimeout, StoreUnavailable, WaypostError
from waypost.store.claims import Beat, Sight
from waypost.store.directory.files import Directory, File, locked_too_long
from waypost.store.directory.layout import SUFFIXES, Layout, decode_id, file_name
from waypost.store.directory.log import LOCK_TIMEOUT_S
from waypost.store.kinds import DocumentId, Kind

_LOG = logging.getLogger("waypost")
FOLDER = "owners"
_LENGTH = 512
_LOCK = "FORMAT"
"""A file that is there always: one of its own would have to go again each time."""
_PATIENCE_S = 0.25
_RETRY_S = 0.005
_NO_NUMBER = 1 << 63


class Held:
    """A document that this process holds; fulfils `claims.Claim`."""

    def __init__(self, claims: Claims, folder: Directory, name: str, file: File) -> None:
        self._claims = claims
        self._folder = folder
        self._name = name
        self._file = file
        self._beats = 0

    def beat(self, period_ms: int) -> None:
        """Leave a sign of life. Nobody may let go of it meanwhile: the descriptor may be another file's then."""
        self._beats += 1
        sign = Beat(self._beats, clock.boot_id(), clock.time_namespace(), clock.steady_ns(), period_ms)
        self._file.write_all(_text(sign), 0)

    def release(self) -> None:
        with self._claims.forgetting(self):
            if self._file.descriptor < 0:
                return
            try:
                with self._claims.alone():
                    if _is_named(self._folder, self._name, self._file):
                        self._folder.remove(self._name)
            finally:
                self._file.close()

    def let_go(self) -> None:
        """Hold it no more, and leave the file there, as one who dies does."""
        with self._claims.forgetting(self):
            self._file.close()

    def disown(self) -> None:
        """In the child of a fork: leave it to the parent."""
        self._file.disown()


class Claims:
    """What an open store holds, with a thread that leaves signs of life while it holds anything."""

    def __init__(self, layout: Layout, period_ms: int) -> None:
        self._layout = layout
        self._period_ms = period_ms
        self._held: set[Held] = set()
        self._lock = threading.Lock()
        self._done = threading.Event()
        """Set while there is no thread."""
        self._done.set()

    def claim(self, document: DocumentId, *, by_force: bool) -> Held | None:
        """See `contract.Store.claim`."""
        folder, name = self._layout.folder(FOLDER), file_name(document)
        while True:
            if by_force:
                with self.alone():
                    folder.remove(name)  # whoever has it locked holds a file that nobody finds any more
            file = folder.open(name, write=True, create=True)
            assert file is not None
            try:
                if not _locked(file):
                    file.close()
                    if by_force:  # somebody was faster with the new file
                        continue
                    return None
                if _is_named(folder, name, file):
                    break
            except BaseException:
                file.close()  # whoever looks at the error would hold it
                raise
            file.close()
        held = Held(self, folder, name, file)
        try:
            if not by_force:  # else whom it is taken from may live: see `ownership.presence`
                held.beat(self._period_ms)
            self._remember(held)
        except BaseException:
            held.release()
            raise
        return held

    def sight(self, document: DocumentId) -> Sight | None:
        """See `contract.Store.holder`. Changes nothing, but that the lock is tried for a moment."""
        folder = self._layout.existing(FOLDER)
        file = None if folder is None else folder.open(file_name(document))
        if file is None:
            return None
        try:
            is_held = not file.try_lock(shared=True)
            return Sight(is_held, parse(file.read(_LENGTH, 0)))
        finally:
            file.close()

    def documents(self, kind: Kind) -> Iterator[str]:
        """The ids of the documents of a kind that somebody claimed and did not let go of."""
        folder, suffix = self._layout.existing(FOLDER), SUFFIXES[kind]
        for name in folder.names() if folder else []:
            identifier = decode_id(name.removesuffix(suffix)) if name.endswith(suffix) else None
            if identifier is not None:
                yield identifier

    def sweep(self) -> None:
        """Remove the files of those who died before they had made what they claimed. Nobody has to wait for that: what
        cannot be removed stays.
        """
        folder = self._layout.existing(FOLDER)
        if folder is None:
            return
        for kind, suffix in SUFFIXES.items():
            logs = self._layout.existing_documents(kind)
            for name in folder.names() if logs else []:
                if logs and name.endswith(suffix) and logs.identity(name) is None:
                    try:
                        _sweep(folder, name, logs, self.alone())
                    except (LockTimeout, StoreUnavailable) as error:
                        _LOG.warning("what is left of an owner stays: %s", error)

    @contextmanager
    def alone(self) -> Generator[None]:
        """Nobody else takes a name away meanwhile: by force that goes without the lock of its file, and between the
        look at whose it is and its removal it would become another's.
        """
        file = self._layout.root.open(_LOCK, write=True)
        if file is None:
            raise StoreUnavailable(f"{self._layout.path} has no file {_LOCK}", location=self._layout.path)
        try:
            file.lock(LOCK_TIMEOUT_S, partial(locked_too_long, file, LOCK_TIMEOUT_S))
            yield
        finally:
            file.close()

    @contextmanager
    def forgetting(self, held: Held) -> Generator[None]:
        """No sign of life is left for it meanwhile, nor later."""
        with self._lock:
            self._held.discard(held)
            if not self._held:
                self._done.set()
            yield

    def _remember(self, held: Held) -> None:
        with self._lock:
            self._held.add(held)
            if self._done.is_set():
                done = threading.Event()
                try:
                    # `Thread.start` waits for the thread, for ever if that finds no memory
                    _thread.start_new_thread(self._beat, (done,))
                except RuntimeError as error:
                    _LOG.warning("no sign of life can be left: %s", error)
                    return
                self._done = done

    def _beat(self, done: threading.Event) -> None:
        while not done.wait(self._period_ms / 1000):
            with self._lock:
                for each in self._held:
                    try:
                        each.beat(self._period_ms)
                    except WaypostError as error:
                        _LOG.warning("no sign of life could be left: %s", error)

    def close(self) -> None:
        """Let go of everything."""
        try:
            for held in list(self._held):
                try:
                    held.release()
                except WaypostError as error:
                    _LOG.warning("a document was not let go of cleanly: %s", error)
        finally:
            for held in list(self._held):  # behind an interrupt
                held.let_go()

    def after_fork(self) -> None:
        """In the child: what is held is the parent's."""
        for held in self._held:
            held.disown()
        self.__init__(self._layout, self._period_ms)


def _sweep(folder: Directory, name: str, logs: Directory, alone: AbstractContextManager[None]) -> None:
    file = folder.open(name)
    if file is None:
        return
    try:
        # who held it until now may have made what he claimed, and died
        if file.try_lock() and logs.identity(name) is None:
            with alone:
                if _is_named(folder, name, file):
                    folder.remove(name)
    finally:
        file.close()


def _locked(file: File) -> bool:
    """Whether the lock was free. Whoever only looks has it for a moment."""
    deadline = time.monotonic() + _PATIENCE_S
    while not file.try_lock():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_RETRY_S)
    return True


def _is_named(folder: Directory, name: str, file: File) -> bool:
    """Whether the file that is locked is the one that others find."""
    named = folder.identity(name)
    return named is not None and named[:2] == file.identity()[:2]


def _text(beat: Beat) -> bytes:
    body = json.dumps(beat._asdict())[:-1]
    return f'{body}, "checksum": "{crc32(body.encode()):08x}"}}\n'.rjust(_LENGTH).encode()


def parse(data: bytes) -> Beat | None:
    """The sign of life that a file holds; None when its bytes are not what was written."""
    try:
        fields = json.loads(data)
        beat = Beat(*(fields[name] for name in Beat._fields))
        return beat if _text(beat) == data and _is_sound(beat) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_sound(beat: Beat) -> bool:
    """Whether its fields are of their kinds: a checksum is no proof of who wrote it."""
    numbers, words = (beat.number, beat.steady_ns, beat.period_ms), (beat.boot, beat.clocks)
    return all(type(each) is int and 0 <= each < _NO_NUMBER for each in numbers) and all(
        type(each) is str for each in words
    )
