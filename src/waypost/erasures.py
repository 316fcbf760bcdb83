"""Erasing: what a path stands for in all of a workflow's past, the decision, and what is told of it afterwards.

What can be erased is what a caller put as a value of its own: an output, all versions of it or one; a variable, a
configuration value, a feature, a secret; an agent. Each is one part, or a few that belong together, and goes whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct

from waypost import clock, places, prepared, records
from waypost.checkpoints import ERASURES
from waypost.erased import ERASED, ErasureRecord, covers
from waypost.errors import InvalidInput, PathNotFound, ValueErased
from waypost.history import HistoryEntry, entry, past_of
from waypost.places import Root
from waypost.store import DocumentId, Store, Transaction, View


class Erasure(Struct, frozen=True, kw_only=True):
    """That a value was erased: `path` as it was given, when, and by which session.

    `commits` are those that had put it, the newest first, as far as history tells; they say when, in which session and
    by which agent. `checkpoints` held it. `removed_files` are copies in the store that went with it, by their paths.
    """

    workflow_id: str
    path: str
    erased_at: datetime
    session_id: str | None
    commits: Sequence[HistoryEntry]
    checkpoints: Sequence[str]
    removed_files: Sequence[str] = ()


class Wanted(NamedTuple):
    """What is to be erased: the path, and the keys of the parts, or beginnings of keys, that it stands for."""

    path: str
    keys: tuple[str, ...]


# --- what a path stands for ---


def wanted(store: Store, workflow_id: str, path: str) -> Wanted:
    """What a path stands for, now or at any time. Raises InvalidId, InvalidInput, WorkflowNotFound, PathNotFound."""
    document = DocumentId("workflow", records.validate_id(workflow_id, "workflow id"))
    root, inner = places.place(path)[:2]
    if not _can_be_erased(root):
        raise InvalidInput(
            f"{path!a:.200} cannot be erased: an output, a variable, a configuration value, a feature, a secret or an "
            "agent can, each by its own path",
            path=path,
        )
    if inner:
        part = places.path_of(root)
        raise InvalidInput(
            f"{path!a:.200} is a piece of a value: only all of {part} can be erased", path=path, part=part
        )
    found = _Found(store, document)
    keys = _keys_of_outputs(found, root[1]) if root[0] == "outputs" else [places.key_of(root)]
    keys += [prepared.CHANGE + key for key in keys]  # where a transaction over two stores had put it aside
    there = [key for key in keys if found.has(key)]
    if not there:
        raise PathNotFound(
            f"workflow {workflow_id!r} never had anything at {path}, as far as its history tells",
            workflow_id=workflow_id,
            path=path,
        )
    return Wanted(path, tuple(there))


def _can_be_erased(root: Root) -> bool:
    return (root[0] in ("outputs", "agents") and len(root) == 2) or (root[0] == "context" and len(root) == 3)


def _keys_of_outputs(found: _Found, name: str) -> list[str]:
    """Of all versions of a step's output or, as in `fetch@2`, of one; an id that there is counts as a whole."""
    step_id, mark, number = name.rpartition("@")
    is_known = found.has(f"{records.OUTPUT}{name}{records.SEPARATOR}") or found.has(records.STEP + name)
    if is_known or not mark or not step_id or not (number.isascii() and number.isdecimal() and len(number) < 9):
        return [f"{prefix}{name}{records.SEPARATOR}" for prefix in (records.OUTPUT, records.VALUE)]
    key = records.output_key(step_id, int(number))
    return [
        key,
        *sorted({records.value_key(step_id, int(number), each) for each in [None, *_names_of_values(found, key)]}),
    ]


def _names_of_values(found: _Found, key: str) -> Iterator[str]:
    """The names that values of an output were given which came as streams."""
    for read in found.readers(key):
        try:
            data = read(key)
        except ValueErased:
            continue
        name = None if data is None else records.OUTPUT_RECORDS.decode(key, data).name
        if name is not None:
            yield name


class _Found:
    """All parts that a workflow ever had, as far as that is known."""

    def __init__(self, store: Store, document: DocumentId) -> None:
        past = past_of(store, document)
        self._commits = [(frozenset(commit.puts), commit.read) for commit in past.commits()]
        kept = (store.checkpoint(document, name) for name in store.checkpoints(document))
        self._views: list[View] = [store.view(document), past.start(), *(view for view in kept if view is not None)]

    def has(self, key: str) -> bool:
        if any(covers(key, each) for puts, _ in self._commits for each in puts):
            return True
        if not key.endswith(records.SEPARATOR):
            return any(view.size_of(key) is not None for view in self._views)
        return any(next(view.keys(key), None) is not None for view in self._views)

    def readers(self, key: str) -> Iterator[Callable[[str], bytes | None]]:
        """Ways to read each of the values that a part had."""
        yield from (read for puts, read in self._commits if key in puts)
        yield from (view.get for view in self._views)


# --- the decision ---


def prepare(store: Store, workflow_id: str, path: str, session_id: str | None) -> Callable[[Transaction], None]:
    """The work that says what is erased. Raises as `wanted`."""
    found, erased_us = wanted(store, workflow_id, path), clock.now_us()

    def work(tx: Transaction) -> None:
        tx.project(["erasure", path])
        there = list(tx.keys())  # all of them, so that no commit comes between the time that counts and this one
        record = records.encode(ErasureRecord(tx.time_us, erased_us, path, session_id))
        for key in found.keys:
            for each in there:
                if covers(key, each):
                    tx.delete(each)
            tx.put(ERASED + key, record)

    return work


def kept_by(tx: Transaction) -> dict[str, bytes]:
    """What says of erasures, and stays whatever becomes of the rest."""
    return {key: data for key in tx.keys(ERASED) if (data := tx.get(key)) is not None}


# --- what is told of it ---


def finish(store: Store, view: View, path: str) -> Erasure:
    """Carry out what a version decided, and tell of it."""
    removed = store.erase(view.document)
    records_of = {
        key.removeprefix(ERASED): ERASURES.decode(key, data)
        for key in view.keys(ERASED)
        if (data := view.get(key)) is not None
    }
    decided = {key: record for key, record in records_of.items() if record.path == path}
    newest = max(decided.values(), key=lambda each: each.until_us, default=None)
    if newest is None:
        raise ValueErased(f"what was said of erasing {path} is gone", path=path)
    return Erasure(
        workflow_id=view.document.id,
        path=path,
        erased_at=records.moment(newest.erased_us),
        session_id=newest.session_id,
        commits=list(_commits(store, view.document, decided)),
        checkpoints=[name for name in store.checkpoints(view.document) if _held(store, view.document, name, decided)],
        removed_files=removed,
    )


def _commits(store: Store, document: DocumentId, decided: dict[str, ErasureRecord]) -> Iterator[HistoryEntry]:
    for commit in past_of(store, document).commits():
        for key, record in decided.items():
            if commit.time_us <= record.until_us and any(covers(key, each) for each in commit.puts):
                yield entry(document, commit)
                break


def _held(store: Store, document: DocumentId, name: str, decided: dict[str, ErasureRecord]) -> bool:
    view = store.checkpoint(document, name)
    return view is not None and any(view.erased(each) is not None for key in decided for each in view.keys(key))


def holders(store: Store, workflow_id: str, path: str) -> tuple[list[HistoryEntry], list[str]]:
    """Which commits and checkpoints hold what is at a path, before it is erased. Raises as `wanted`."""
    keys = wanted(store, workflow_id, path).keys
    document = DocumentId("workflow", workflow_id)
    commits = [
        entry(document, commit)
        for commit in past_of(store, document).commits()
        if any(covers(key, each) for key in keys for each in commit.puts)
    ]
    views = {name: store.checkpoint(document, name) for name in store.checkpoints(document)}
    return commits, [
        name
        for name, view in views.items()
        if view and any(covers(key, each) for key in keys for each in view.keys(key))
    ]
