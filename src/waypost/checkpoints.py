"""Checkpoints of workflows: making, finding, checking, going back to them and forking from them.

A checkpoint is a part of its workflow, so that it rides in a commit and the store keeps the version which that commit
makes. It says nothing of the version itself.

What tells of the workflow's own past does not come back with a version: checkpoints, what was gone back to, sessions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, cast, get_args

from msgspec.structs import replace

from waypost import checkpoint_ids, erased, lineage, loading, migrations, places, records, retention, validation
from waypost.checkpoint_ids import MARK
from waypost.erased import ErasureRecord
from waypost.errors import (
    CheckpointNotFound,
    DocumentDamaged,
    InvalidInput,
    StoreError,
    UnsupportedFormat,
    VersionConflict,
    WaypostError,
    WorkflowExists,
)
from waypost.models import CheckpointType, RecoverySuggestions, StateCheckpoint, ValidationReport
from waypost.queries import StateQuery, StateQueryResult
from waypost.records import ADOPTED, CHECKPOINT, RESTORED, CheckpointRecord
from waypost.retention import Retention
from waypost.store import Content, DocumentId, Store, Transaction, View
from waypost.store.contract import PREPARED, SETTLED

_LOG = logging.getLogger("waypost")
MOST_TAGS, LONGEST_TAG, LONGEST_DESCRIPTION = 64, 128, 4096
_NOT_RESTORED = (CHECKPOINT, ADOPTED, RESTORED, records.SESSION, erased.ERASED, PREPARED, SETTLED)
_TYPES = get_args(CheckpointType)
ERASURES = records.Record(ErasureRecord)


# --- making them ---


class NewCheckpoint(NamedTuple):
    """A checkpoint to be made, checked."""

    type: CheckpointType
    description: str
    tags: tuple[str, ...]
    session_id: str | None


def prepare_new(type: str, description: str, tags: Iterable[str], session_id: str | None) -> NewCheckpoint:
    """Check what a caller says of a new checkpoint. Raises InvalidInput."""
    if type not in _TYPES:
        raise InvalidInput(f"a checkpoint is of the type {', '.join(_TYPES)}, not {type!r}")
    description, _ = records.TEXTS.check(description, "the description of a checkpoint")
    if len(description) > LONGEST_DESCRIPTION:
        raise InvalidInput(f"the description of a checkpoint has at most {LONGEST_DESCRIPTION} characters")
    if isinstance(tags, str):
        raise InvalidInput(f"tags are a list of texts, not the text {tags!r}")
    checked = tuple(dict.fromkeys(records.validate_id(tag, "tag") for tag in tags))
    if len(checked) > MOST_TAGS or any(len(tag) > LONGEST_TAG for tag in checked):
        raise InvalidInput(f"a checkpoint has at most {MOST_TAGS} tags of {LONGEST_TAG} characters")
    return NewCheckpoint(cast("CheckpointType", type), description, checked, session_id)


def make(tx: Transaction, new: NewCheckpoint, old: Retention) -> str:
    """Make a checkpoint of the version that is being committed; its id. Raises WorkflowNotFound."""
    records.workflow(tx)
    checkpoint_id = put(tx, new, old)
    tx.project(["checkpoint", checkpoint_id])
    return checkpoint_id


def put(tx: Transaction, new: NewCheckpoint, old: Retention) -> str:
    """Have what else a commit does ride with a checkpoint, for which an old one may go; its id."""
    passing = retention.is_passing(new.type, new.tags)
    checkpoint_id, created_us = checkpoint_ids.new(tx, passing=passing)
    record = CheckpointRecord(new.type, new.description, new.tags, created_us, new.session_id)
    tx.put(CHECKPOINT + checkpoint_id, records.encode(record))
    if passing:
        old.make_room(tx, checkpoint_id)
    return checkpoint_id


# --- looking at them ---


def workflow_of(checkpoint_id: str) -> DocumentId:
    """The workflow that a checkpoint's id leads to. Raises InvalidInput, CheckpointNotFound."""
    if not isinstance(checkpoint_id, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput(f"a checkpoint id is a text, not {type(checkpoint_id).__name__}")
    workflow_id, mark, _ = checkpoint_id.rpartition(MARK)
    if not mark or not workflow_id:
        raise unknown(checkpoint_id)
    return DocumentId("workflow", records.validate_id(workflow_id, "workflow id"))


def find(store: Store, checkpoint_id: str) -> tuple[DocumentId, str]:
    """The workflow and the whole id of a checkpoint, which may be given by as much of its id as tells it from others.

    Raises CheckpointNotFound, and InvalidInput where several begin so.
    """
    document = workflow_of(checkpoint_id)
    if checkpoint_ids.is_of(document.id, checkpoint_id):  # a whole one is told without looking at all others
        now = _readable(store, document, durable=False)
        if now is not None and lineage.is_there(now, checkpoint_id):
            return document, checkpoint_id
    names = store.checkpoints(document)
    if checkpoint_id in names:
        return document, checkpoint_id
    found = [name for name in names if name.startswith(checkpoint_id)]
    if not found:
        raise unknown(checkpoint_id)
    if len(found) > 1:
        raise InvalidInput(f"{len(found)} checkpoints begin with {checkpoint_id!r}: {', '.join(found[:5])}")
    return document, found[0]


def unknown(checkpoint_id: str) -> CheckpointNotFound:
    """There is no checkpoint of that id."""
    return CheckpointNotFound(f"there is no checkpoint {checkpoint_id!r}", checkpoint_id=checkpoint_id)


def version_of(store: Store, document: DocumentId, name: str) -> View:
    """The version of a checkpoint, as this release reads it. Raises CheckpointNotFound, DocumentDamaged."""
    view = store.checkpoint(document, name)
    if view is None:
        raise unknown(name)
    now = _readable(store, document, durable=False)
    return migrations.current(view if now is None else _what_is_left(view, now, name))


def _what_is_left(version: View, now: View, name: str) -> View:
    """The version of a checkpoint without what is erased by now: times of one that was adopted say nothing here."""
    return erased.without(version, now, 0 if now.size_of(ADOPTED + name) is not None else version.time_us)


def get(store: Store, checkpoint_id: str) -> StateCheckpoint:
    """A checkpoint by its id, or by what tells it from others. Raises CheckpointNotFound, InvalidInput."""
    document, name = find(store, checkpoint_id)
    view = _readable(store, document, durable=True)
    return _described(store, document, view, name)


def made(store: Store, view: View, name: str) -> StateCheckpoint:
    """The checkpoint that a version made."""
    return _described(store, view.document, view, name)


def _readable(store: Store, document: DocumentId, *, durable: bool) -> View | None:
    """The workflow as it is; None where it cannot be read, as if all that is left of it were its checkpoints."""
    try:
        return store.view(document, durable=durable)
    except (DocumentDamaged, UnsupportedFormat):
        return None


def _described(
    store: Store, document: DocumentId, view: View | None, name: str, way: lineage.Way | None = None
) -> StateCheckpoint:
    record = None if view is None else _record(view, name)
    if view is None or record is None:  # all that is left of the workflow are its checkpoints
        way = lineage.way(view, store.checkpoints(document)) if way is None else way
        view = version_of(store, document, name)
        record = _record(view, name)
        way = way._replace(restored=lineage.turns(view))
    if record is None:
        raise unknown(name)
    found = StateCheckpoint(
        id=name,
        workflow_id=document.id,
        type=record.type,
        description=record.description,
        tags=record.tags,
        created_at=records.moment(record.created_us),
        session_id=record.session_id,
        parent_id=lineage.parent_of(view, name, way),
    )
    vars(found)["_load"] = lambda: loading.load(version_of(store, document, name), keys=store.keys)
    return found


def _record(view: View, name: str) -> CheckpointRecord | None:
    """What a version holds of a checkpoint, be it the one that made it or one that it has adopted."""
    return records.CHECKPOINTS.get(view, CHECKPOINT + name) or records.ADOPTIONS.get(view, ADOPTED + name)


def every(store: Store, document: DocumentId, names: Sequence[str] | None = None) -> Iterator[StateCheckpoint]:
    """All checkpoints of a workflow, or those of some names, newest first. One that cannot be read is left out, and so
    is one that went meanwhile.
    """
    names = store.checkpoints(document) if names is None else names
    view = _readable(store, document, durable=False)
    way = lineage.way(view, names)
    for name in reversed(names):
        try:
            yield _described(store, document, view, name, way)
        except (CheckpointNotFound, DocumentDamaged):
            continue


def listed(store: Store, workflow_id: str | None, query: StateQuery) -> StateQueryResult[StateCheckpoint]:
    """The checkpoints that a query asks for, one page of them. Raises InvalidInput."""
    query, _ = _QUERIES.check(query, "a query")
    wanted = [each for each in (workflow_id, query.workflow_id) if each is not None]
    found: list[StateCheckpoint] = []
    if len(wanted) < 2 or wanted[0] == wanted[1]:
        for document, names in _asked_for(store, wanted):
            found += (one for one in every(store, document, names) if _is_asked_for(one, query))
    key = _SORT_KEYS[query.sort_by]
    found.sort(key=lambda one: (key(one), one.id), reverse=query.sort_order == "desc")
    end = query.offset + query.limit
    has_more = end < len(found)
    return StateQueryResult(
        items=found[query.offset : end], total=len(found), has_more=has_more, next_offset=end if has_more else None
    )


def _asked_for(store: Store, wanted: Sequence[str]) -> Iterator[tuple[DocumentId, list[str] | None]]:
    """The workflows whose checkpoints are asked for, with their names where they are known already: one, or all, also
    those of which nothing else is left.
    """
    if wanted:
        yield DocumentId("workflow", records.validate_id(wanted[0], "workflow id")), None
        return
    for each in store.documents("workflow"):
        yield DocumentId("workflow", each), None
    for each, names in store.left("workflow").items():
        yield DocumentId("workflow", each), names


_QUERIES = records.Record(StateQuery)

_SORT_KEYS: dict[str, Callable[[StateCheckpoint], float]] = {
    "created": lambda one: one.created_at.timestamp(),
    "updated": lambda one: one.created_at.timestamp(),
    "size": lambda one: one.state.metadata.size_bytes,
}


def _is_asked_for(one: StateCheckpoint, query: StateQuery) -> bool:
    times = query.time_range
    if times is not None and times.start is not None and one.created_at < times.start:
        return False
    if times is not None and times.end is not None and one.created_at > times.end:
        return False
    if query.session_id is not None and one.session_id != query.session_id:
        return False
    return set(query.tags) <= set(one.tags) and (not query.status or one.state.workflow.status in query.status)


# --- checking them ---


def validate(store: Store, checkpoint_id: str) -> ValidationReport:
    """Decode and check every part of a checkpoint, and the files that it is kept in. Raises CheckpointNotFound."""
    document, name = find(store, checkpoint_id)
    try:
        store.verify_checkpoint(document, name)
        return validation.inspect(version_of(store, document, name))
    except (DocumentDamaged, StoreError) as error:
        return ValidationReport(is_valid=False, errors=[str(error)], warnings=[])


def suggestions(store: Store, workflow_id: str) -> RecoverySuggestions:
    """Which checkpoint of a workflow is best gone back to: the newest one that is whole. Raises WorkflowNotFound."""
    document = DocumentId("workflow", records.validate_id(workflow_id, "workflow id"))
    names = store.checkpoints(document)
    if not names:
        records.workflow(store.view(document))
    available: list[StateCheckpoint] = []
    warnings: list[str] = [] if names else ["the workflow has no checkpoints"]
    recommended: StateCheckpoint | None = None
    for name in reversed(names):
        try:
            one = get(store, name)
        except WaypostError as error:
            warnings.append(f"checkpoint {name} cannot be read: {error}")
            continue
        available.append(one)
        if recommended is None:
            report = validate(store, name)
            recommended = one if report.is_valid else None
            warnings += [f"checkpoint {name} is damaged: {error}" for error in report.errors]
    if names and recommended is None:
        warnings.append("no checkpoint of the workflow is whole")
    is_latest = recommended is not None and recommended.id == names[-1]
    strategy = "manual_selection" if recommended is None else "latest" if is_latest else "stable"
    return RecoverySuggestions(
        available_checkpoints=available,
        recommended_recovery_point=recommended,
        recovery_strategy=strategy,
        warnings=warnings,
    )


# --- going back to them ---


class Wanted(NamedTuple):
    """A version that another workflow, or a later version, is to be made of; large values are taken in already."""

    checkpoint_id: str
    version: View
    staged: dict[str, Content]
    others: dict[str, bytes]
    """Checkpoints that the workflow had before all else of it was lost."""


def prepare_return(store: Store, checkpoint_id: str, to: DocumentId | None, large_bytes: int) -> Wanted:
    """What it takes to make a checkpoint's version of a workflow again, or of another. Raises CheckpointNotFound,
    InvalidInput, DocumentDamaged, and what staging raises. With `large_bytes` 0 no value is taken in ahead.
    """
    document, name = find(store, checkpoint_id)
    wanted = prepare_version(
        store, name, version_of(store, document, name), document if to is None else to, large_bytes
    )
    return wanted if to is not None else wanted._replace(others=all_that_is_left(store, store.view(document)))


def prepare_version(store: Store, name: str, version: View, target: DocumentId, large_bytes: int) -> Wanted:
    """The same of a version, which the store need not hold."""
    now = store.view(target)
    staged: dict[str, Content] = {}
    for key in _restored(now.differing(version)):
        length = version.size_of(key) or 0 if version.erased(key) is None else 0
        if large_bytes and length > large_bytes and not _is_same_value(now, version, key):
            staged[key] = store.stage(target, key, length, pieces_of(version, key))
    return Wanted(name, version, staged, {})


def all_that_is_left(store: Store, now: View) -> dict[str, bytes]:
    """The checkpoints of a workflow that is lost. A damaged one keeps no other from coming back, and stays."""
    found: dict[str, bytes] = {}
    for name in store.checkpoints(now.document) if not now.version else ():
        try:
            data = version_of(store, now.document, name).get(CHECKPOINT + name)
        except DocumentDamaged as error:
            _LOG.warning("checkpoint %s is not taken along: %s", name, error)
            continue
        if data is not None:
            found[name] = data
    return found


def _restored(keys: Iterable[str]) -> Iterator[str]:
    return (key for key in sorted(keys) if not key.startswith(_NOT_RESTORED))


def _is_same_value(now: View, then: View, key: str) -> bool:
    """Whether a large value is there already: its size is the same, and its output says the same of it."""
    if now.size_of(key) != then.size_of(key) or any(view.erased(key) is not None for view in (now, then)):
        return False
    if not key.startswith(records.VALUE):
        return now.get(key) == then.get(key)  # it was given whole, and so is not too large for memory
    output = records.OUTPUT + key.removeprefix(records.VALUE)
    said = then.get(output)
    # a value that was given as a stream has a name that no other ever gets
    return said == now.get(output) if said is not None else True


def pieces_of(view: View, key: str) -> Callable[[int], Iterator[bytes]]:
    """The value of a part from its start, in pieces of a size that is asked for."""

    def pieces(size: int) -> Iterator[bytes]:
        found = view.pieces(key)
        held = bytearray()
        for number in range(len(found.starts) if found else 0):
            held += found.read(number) if found else b""
            while len(held) >= size:
                yield bytes(held[:size])
                del held[:size]
        if held:
            yield bytes(held)

    return pieces


def restore(tx: Transaction, wanted: Wanted, expected_version: int | None = None) -> None:
    """Make the workflow what it was, as a new version. Nothing that came after the checkpoint is taken from history.

    Raises VersionConflict where it is to be at another version than it is. All parts are read, so this runs again
    where others commit meanwhile.
    """
    if expected_version not in (None, tx.version):
        raise VersionConflict(
            f"workflow {tx.document.id!r} is at version {tx.version:,}, and not {expected_version:,} any more",
            workflow_id=tx.document.id,
            version=tx.version,
            expected_version=expected_version,
        )
    tx.project(["state"])
    _put_all(tx, wanted)
    for name, data in wanted.others.items():
        tx.put(ADOPTED + name, data)


def fork(tx: Transaction, wanted: Wanted, restored_id: str | None = None) -> None:
    """Make another workflow of a checkpoint's version; the id says when, if not now. Whoever was at one of its steps is
    at none of the other's. Raises WorkflowExists.
    """
    tx.project(["state"])
    if records.find_workflow(tx) is not None:
        name = tx.document.id
        raise WorkflowExists(f"there is a workflow {name!r} already: choose another id", workflow_id=name)
    _put_all(tx, wanted, restored_id)


def _put_all(tx: Transaction, wanted: Wanted, restored_id: str | None = None) -> None:
    if wanted.version.document == tx.document:  # more may be erased since it was looked up
        wanted = wanted._replace(version=_what_is_left(wanted.version, tx, wanted.checkpoint_id))
    differing = list(_restored(tx.differing(wanted.version)))
    # told before anything is put: what an output says of its value would else be what the version says of it
    same = {key for key in differing if key.startswith(records.VALUE) and _is_same_value(tx, wanted.version, key)}
    for key in differing:
        staged = wanted.staged.get(key)
        if wanted.version.erased(key) is not None:
            _leave_out(tx, wanted, key)
        elif staged is not None:
            tx.put(key, staged)
        elif wanted.version.size_of(key) is None:
            tx.delete(key)
        elif key not in same:
            data = wanted.version.get(key)
            assert data is not None
            tx.put(key, _left_alone(tx, wanted, key, data) if key.startswith(records.STEP) else data)
    for key in wanted.version.keys(erased.ERASED):
        if tx.size_of(key) is None:
            tx.put(key, _said_again(tx, wanted.version, key))
    tx.put(RESTORED + (restored_id or checkpoint_ids.new(tx)[0]), records.encode(wanted.checkpoint_id))


def _left_alone(tx: Transaction, wanted: Wanted, key: str, data: bytes) -> bytes:
    """A step without who was at it then, where he is not now: nobody else could do it for as long as he lives. Of what
    comes back after it was lost he may be at it still; at what is another workflow he never was.
    """
    step, now = records.STEPS.decode(key, data), records.STEPS.get(tx, key)
    may_be_at_it = tx.document == wanted.version.document if now is None else now.owner == step.owner
    if step.owner is None or may_be_at_it:
        return data
    step.owner = None
    return records.encode(step)


def _said_again(tx: Transaction, version: View, key: str) -> bytes:
    """What a version says was erased before it, which is why it is not there. In another workflow it never was."""
    data = version.get(key) or b""
    if version.document == tx.document:
        return data
    return records.encode(replace(ERASURES.decode(key, data), until_us=0))


def _leave_out(tx: Transaction, wanted: Wanted, key: str) -> None:
    """What was erased from a version does not come back with it, and that is said."""
    _LOG.warning("%r comes without %s, which was erased", tx.document.id, records.shown(key))
    tx.delete(key)
    if not erased.is_gone(tx, key):
        path = places.path_of(places.root_of(key))
        tx.put(erased.ERASED + key, records.encode(ErasureRecord(0, 0, path)))
