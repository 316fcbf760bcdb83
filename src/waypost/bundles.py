"""Sessions on their way out: which documents belong to one, as they were at one moment, and where they are written to.

What is written is durable and whole before it has its name, or it is not there. Nothing leaves the store that a crash
could take back.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from typing import Any, BinaryIO, NamedTuple, cast

from waypost import erased, prepared, records, session_records
from waypost.config import Config
from waypost.errors import InvalidInput, StoreUnavailable, VersionConflict
from waypost.records import ADOPTED, CHECKPOINT, SESSION
from waypost.sealed_bundles import Sealer, is_sealed, open_into
from waypost.session_models import SessionExport
from waypost.session_records import TOUCHED
from waypost.store import (
    Commit,
    DocumentId,
    OperationRecord,
    Past,
    Progress,
    Scratch,
    Store,
    View,
    Whole,
    Written,
    read_bundle,
    write_bundle,
)

_TRIES = 64
_MODE = 0o600
PIECE_BYTES = 1 << 20


# --- what is exported ---


class _Moment(NamedTuple):
    """A version of a document, and how it came about."""

    view: View
    past: Past


def gather(store: Store, session_id: str, *, with_history: bool) -> list[Whole]:
    """A session and the workflows that it has written to, all as they were at one moment.

    Raises SessionNotFound, DocumentDamaged, VersionConflict where others kept changing them.
    """
    session = session_records.document_of(session_id)
    session_records.expect(store.view(session))
    seen: dict[DocumentId, _Moment] = {}
    for _ in range(_TRIES):
        # what had not changed when the last of them was read stood side by side with it
        changed = [each for each, moment in seen.items() if store.view(each).version != moment.view.version]
        if seen and not changed:
            return [_whole(store, each, moment, with_history) for each, moment in seen.items() if moment.view.version]
        for each in changed or [session]:
            seen[each] = _moment(store, each)
        told = [session, *_workflows_of(seen[session].view)]
        seen = {each: seen[each] if each in seen else _moment(store, each) for each in told}
        seen = {each: moment for each, moment in seen.items() if each == session or _is_of(moment.view, session_id)}
    raise VersionConflict(f"others changed session {session_id!r} and its workflows {_TRIES} times", tries=_TRIES)


def _workflows_of(view: View) -> Iterator[DocumentId]:
    return (DocumentId("workflow", name) for name in records.names(view, TOUCHED))


def _is_of(view: View, session_id: str) -> bool:
    """Whether a session has written to a workflow, and not only announced it; also to one that was deleted."""
    return view.size_of(SESSION + session_id) is not None or not view.version


def _moment(store: Store, document: DocumentId) -> _Moment:
    erased.carry_out(store, document)
    for _ in range(_TRIES):
        prepared.settle(store, document)  # what is not settled does not travel
        past = store.past(document)
        view = store.view(document)
        if view.version == past.version and prepared.find(view) is None:
            return _Moment(view, past)
    raise VersionConflict(f"others changed {document.kind} {document.id!r} {_TRIES} times", tries=_TRIES)


def _whole(store: Store, document: DocumentId, moment: _Moment, with_history: bool) -> Whole:
    view, past = moment
    if not with_history:
        past = _Newest(view, past)
    kept = {name: partial(_checkpoint, store, document, name) for name in lacking(view, past)}
    return Whole(document, past, kept, partial(store.view_at, document))


def lacking(view: View, past: Past) -> list[str]:
    """The checkpoints of a version whose own versions its past does not reach back to, sorted."""
    names = set(records.names(view, CHECKPOINT))
    if names:
        for commit in past.commits():
            names.difference_update(key.removeprefix(CHECKPOINT) for key in commit.puts)
    return sorted(names.union(records.names(view, ADOPTED)))


def _checkpoint(store: Store, document: DocumentId, name: str) -> View:
    version = store.checkpoint(document, name)
    if version is None:
        raise VersionConflict(f"checkpoint {name!r} was removed while it was exported", checkpoint_id=name)
    return version


class _Newest:
    """A past of which no commit is told; fulfils `pasts.Past`."""

    def __init__(self, view: View, past: Past) -> None:
        self.version = self.first = view.version
        self._view = view
        ids = [past.dropped_id(version + 1) for version in range(past.first)]
        self._operations: list[OperationRecord] = list(past.remembered())
        for each in past.commits(oldest_first=True):
            ids.append(each.commit_id)
            self._operations.append(
                OperationRecord(each.operation_id, each.version, each.time_us, each.operation, each.projection)
            )
        self._ids = ids

    def commits(self, before: int | None = None, *, oldest_first: bool = False) -> Iterator[Commit]:
        del before, oldest_first
        return iter(())

    def dropped_id(self, version: int) -> bytes | None:
        return self._ids[version - 1] if 0 < version <= len(self._ids) else None

    def start(self) -> View:
        return self._view

    def remembered(self) -> Iterator[OperationRecord]:
        return iter(self._operations)


# --- where it goes ---


def export(
    store: Store,
    session_id: str,
    to: str | os.PathLike[str] | BinaryIO | None,
    config: Config,
    *,
    with_history: bool,
    overwrite: bool,
    sealed: bool,
    progress: Progress,
) -> bytes | SessionExport:
    """Write a session to a file, or give it as bytes; `sealed` with the current key."""
    documents = gather(store, session_id, with_history=with_history)
    total = sum(store.log_bytes(each.document) for each in documents)

    def write(put: Callable[[bytes], object]) -> Written:
        done, digest = 0, sha256()

        def counted(data: bytes) -> None:
            nonlocal done
            put(data)
            digest.update(data)
            done += len(data)
            progress(min(done, total), total)

        sealer = Sealer(counted, store.keys()) if sealed else None
        write_bundle(sealer.write if sealer else counted, session_id, iter(documents), config.compression)
        if sealer:
            sealer.finish()
        return Written(done, digest.hexdigest())

    if to is None:
        held: list[bytes] = []
        write(held.append)
        return b"".join(held)
    if isinstance(to, (str, os.PathLike)):
        with _new_file(os.fspath(to), overwrite=overwrite) as file:
            written = write(file.write)
    else:
        written = write(_putting(to))
    workflows = [each.document.id for each in documents[1:]]
    return SessionExport(session_id, workflows, written.size_bytes, written.sha256)


def _putting(file: Any) -> Callable[[bytes], object]:
    """What writes all of some bytes to a file that was given. Raises InvalidInput, StoreUnavailable."""
    if not callable(getattr(file, "write", None)):
        raise InvalidInput(f"an export goes to a path or a binary file, not to {type(file).__name__}")

    def put(data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                taken: object = file.write(left)
            except TypeError as error:
                raise InvalidInput(f"the file that was given takes no bytes: {error}") from error
            except (OSError, ValueError) as error:
                raise StoreUnavailable(f"cannot write the export: {error}") from error
            left = left[taken:] if isinstance(taken, int) and 0 < taken <= len(left) else left[:0]

    return put


@contextmanager
def _new_file(path: str, *, overwrite: bool) -> Generator[BinaryIO]:
    """A file that has its name once all of it is on disk, and not before."""
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".waypost-", dir=os.path.dirname(path) or ".")
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)  # which never takes another's place
        _sync_directory(os.path.dirname(path) or ".")
    except FileExistsError as error:
        raise InvalidInput(
            f"{path} is there already: say overwrite=True (--yes) to write over it", file=path
        ) from error
    except OSError as error:
        raise StoreUnavailable(f"cannot write {path}: {error.strerror}", file=path) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- where it comes from ---


class Incoming(NamedTuple):
    """A bundle that is to be read: `read(length, offset)` gives its bytes."""

    read: Callable[[int, int], bytes]
    length: int


@contextmanager
def incoming(data: object, store: Store) -> Generator[Incoming]:
    """What was given to be imported: bytes, the path of a file, or a binary file, which is copied first. What is sealed
    is opened first, too.

    Raises InvalidInput, StoreUnavailable, KeyMissing, SealBroken, UnsupportedFormat.
    """
    with _given(data, store.scratch) as given:
        if is_sealed(given.read):
            room = store.scratch()
            given = Incoming(room.read, open_into(room, given.read, given.length, store.keys()))
        yield given


def look(path: str, limit_bytes: int) -> None:
    """Have a file be a whole export, before a store is made for it. What is sealed is only looked at where it begins.

    Raises InvalidInput, UnsupportedFormat, DocumentDamaged, DocumentTooLarge.
    """
    with _from_path(path) as given:
        if not is_sealed(given.read):
            read_bundle(given.read, given.length, lambda done, of: None, limit_bytes)


@contextmanager
def _given(data: object, scratch: Callable[[], Scratch]) -> Generator[Incoming]:
    if isinstance(data, (bytes, bytearray, memoryview)):
        held = bytes(cast("bytes", data))
        yield Incoming(partial(_slice, held), len(held))
    elif isinstance(data, (str, os.PathLike)):
        with _from_path(os.fspath(cast("str | os.PathLike[str]", data))) as given:
            yield given
    elif callable(getattr(data, "read", None)):
        room = scratch()
        yield Incoming(room.read, _copy(data, room))
    else:
        raise InvalidInput(f"an export is bytes, a path or a binary file, not {type(data).__name__}")


@contextmanager
def _from_path(path: str) -> Generator[Incoming]:
    with _opened(path) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise InvalidInput(f"{path} is no regular file", file=path)
        yield Incoming(partial(_read_at, file.fileno(), path), found.st_size)


def _slice(held: bytes, length: int, offset: int) -> bytes:
    return held[offset : offset + length]


def _opened(path: str) -> BinaryIO:
    try:
        # a pipe that nobody writes to must not be waited for
        return open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(f"cannot read {path}: {why}", file=path) from error


def _read_at(descriptor: int, path: str, length: int, offset: int) -> bytes:
    try:
        data = os.pread(descriptor, length, offset)
        while data and len(data) < length:
            more = os.pread(descriptor, length - len(data), offset + len(data))
            if not more:
                break
            data += more
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}", file=path) from error
    return data


def _copy(file: Any, room: Scratch) -> int:
    """Copy what a file gives into scratch room, since it is read more than once; how long it is."""
    length = 0
    while True:
        try:
            data: object = file.read(PIECE_BYTES)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"the export cannot be read: {error}") from error
        if not isinstance(data, bytes):
            raise InvalidInput(f"an export is bytes, and the file gives {type(data).__name__}")
        if not data:
            return length
        room.write_all(data, length)
        length += len(data)
