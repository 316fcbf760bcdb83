"""Carrying checkpoints from store to store: what one is exported as, and what an import makes of that.

An export is a version as bytes that stand alone (docs/format.md, section 7). It may come from anywhere, so that all of
it is checked before anything is done: its bytes, its ids, and whether what it holds is a sound workflow.

What an import adds is the version itself, as it was: it keeps its id, its version and commit id, and its own past.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from msgspec.structs import astuple

from waypost import checkpoint_ids, checkpoints, clock, lineage, migrations, records, validation
from waypost.checkpoints import NewCheckpoint, Wanted
from waypost.config import Config
from waypost.erased import carry_out, without
from waypost.errors import DocumentDamaged, InvalidId, InvalidInput, UnsupportedFormat
from waypost.loading import every_step
from waypost.records import ADOPTED, CHECKPOINT, AdoptedRecord, CheckpointRecord
from waypost.retention import Retention
from waypost.store import (
    ContentLost,
    DocumentId,
    Store,
    Transaction,
    View,
    export_version,
    owner_of_export,
    read_export,
)
from waypost.store.erasures import Erasures

_MEGABYTE = 1 << 20
_NAMED = (
    (records.STEP, "step id"),
    (records.AGENT, "agent id"),
    (records.VARIABLE, "name of a variable"),
    (records.CONFIGURATION, "name in a configuration"),
    (records.FEATURE, "name of a feature"),
    (records.SECRET, "name of a secret"),
)
"""Parts that are named by what a caller gave, and what that was."""


def export(store: Store, checkpoint_id: str, config: Config) -> bytes:
    """A checkpoint as bytes that stand alone. Raises CheckpointNotFound, InvalidInput, DocumentDamaged."""
    document, name = checkpoints.find(store, checkpoint_id)
    try:
        carry_out(store, document)  # nothing leaves the store that a crash could take back
    except (DocumentDamaged, UnsupportedFormat):
        pass  # then the checkpoint was found without its workflow
    version = store.checkpoint(document, name)
    if version is None:
        raise checkpoints.unknown(checkpoint_id)
    return export_version(version, name, config.compression)


# --- reading an export ---


class Arrived(NamedTuple):
    """What an export holds, checked."""

    name: str
    version: View
    record: CheckpointRecord
    parent_id: str | None

    @property
    def current(self) -> View:
        """The version as this release reads it."""
        return migrations.current(self.version)

    @property
    def as_adopted(self) -> bytes:
        return records.encode(AdoptedRecord(*astuple(self.record), imported=True, parent_id=self.parent_id))


def workflow_in(data: bytes) -> str:
    """The id of the workflow that an export is of, unchecked; one that is as good where that cannot be told, since who
    reads the rest is told why.
    """
    try:
        return owner_of_export(_bytes(data))[0].id
    except (InvalidInput, DocumentDamaged, UnsupportedFormat):
        return "an export"


def _bytes(data: object) -> bytes:
    if not isinstance(data, (bytes, bytearray)):
        raise InvalidInput(f"an export is bytes, not {type(data).__name__}")
    return bytes(data)


def read(data: bytes, config: Config) -> Arrived:
    """What an export holds. Raises InvalidInput, InvalidId, UnsupportedFormat, DocumentTooLarge, DocumentDamaged,
    MigrationFailed.
    """
    data = _bytes(data)
    document, name = owner_of_export(data)
    records.validate_id(document.id, "workflow id")
    if not checkpoint_ids.is_of(document.id, name):
        raise InvalidId(f"{name!a:.80} is not the id of a checkpoint of workflow {document.id!a:.80}")
    version = read_export(data, config.performance.max_file_size * _MEGABYTE)
    record = records.CHECKPOINTS.get(version, CHECKPOINT + name)
    if record is None:
        raise InvalidInput(f"the export holds another version than that of checkpoint {name!r}")
    checkpoints.prepare_new(record.type, record.description, record.tags, record.session_id)
    if record.session_id is not None:
        records.validate_id(record.session_id, "session id")
    for time_us in (record.created_us, version.time_us):
        records.moment(time_us)
    arrived = Arrived(name, version, record, lineage.parent_in(version, name))
    check_is_sound(arrived.current)
    return arrived


def check_is_sound(version: View, *, with_values: bool = True) -> None:
    """Whether a version that came from elsewhere is a sound workflow. Values that are parts of their own may be too
    large to be decoded. Raises InvalidInput, InvalidId, WorkflowNotFound, DocumentDamaged.
    """
    records.workflow(version)
    report = validation.inspect(version, with_values=with_values)
    if not report.is_valid:
        raise InvalidInput(f"the export holds a workflow that is not sound: {report.errors[0]}")
    for prefix, what in _NAMED:
        for name in records.names(version, prefix):
            records.validate_id(name, what)


# --- importing it ---


Work = Callable[[Transaction], str]
"""The work of an import; it gives the id of the checkpoint."""


def prepare(
    store: Store, data: bytes, new_workflow_id: str | None, config: Config, old: Retention, large_bytes: int
) -> Work:
    """Check an export, take in what is to be kept of it, and give the work. Raises as `read` and staging do."""
    arrived = read(data, config)
    if new_workflow_id is not None:
        target = DocumentId("workflow", new_workflow_id)
        wanted = checkpoints.prepare_version(store, arrived.name, arrived.current, target, large_bytes)
        return partial(_make_another, wanted=wanted, arrived=arrived, old=old)
    document = arrived.version.document
    erased = Erasures.of(store.view(document)).until
    is_kept = _is_kept(store, arrived)
    check = None if is_kept else store.take_in(arrived.version, arrived.name)
    now = store.view(document)
    wanted = None
    if now.size_of(records.WORKFLOW) is None:
        left = without(arrived.current, now, 0)
        wanted = checkpoints.prepare_version(store, arrived.name, left, document, large_bytes)
        wanted = wanted._replace(others=checkpoints.all_that_is_left(store, now))
    return partial(_adopt, arrived=arrived, check=check, wanted=wanted, erased=erased)


def _is_kept(store: Store, arrived: Arrived) -> bool:
    """Whether the checkpoint is there already. Raises InvalidInput where another is, under its id."""
    document, name = arrived.version.document, arrived.name
    there = store.checkpoint(document, name) if name in store.checkpoints(document) else None
    if there is not None and _what_it_is(there) != _what_it_is(arrived.version):
        raise InvalidInput(f"there is a checkpoint {name!r} already, which holds something else", checkpoint_id=name)
    return there is not None


def _what_it_is(version: View) -> tuple[int, bytes, bytes]:
    return version.version, version.checksum, version.commit_id


def _adopt(
    tx: Transaction,
    arrived: Arrived,
    check: Callable[[], None] | None,
    wanted: Wanted | None,
    erased: Mapping[str, int],
) -> str:
    """Have the checkpoint among those of its workflow, which is made again where there is none. `erased` is what it was
    taken in without.
    """
    name = arrived.name
    tx.project(["checkpoint", name])
    has_workflow = tx.size_of(records.WORKFLOW) is not None
    is_there = any(tx.size_of(prefix + name) is not None for prefix in (CHECKPOINT, ADOPTED))
    if has_workflow == (wanted is not None) or (check is None and has_workflow != is_there):
        raise ContentLost(f"checkpoint {name!r} or its workflow came or went meanwhile")
    if Erasures.of(tx).until != erased:
        raise ContentLost(f"something was erased after checkpoint {name!r} was taken in")
    if is_there:
        return name
    if check is not None:
        check()
    if wanted is not None:
        checkpoints.restore(tx, wanted)
        free_steps(tx, all_of_them=False)
        tx.project(["checkpoint", name])
    if wanted is None or name not in wanted.others:
        tx.put(ADOPTED + name, arrived.as_adopted)
    return name


def free_steps(tx: Transaction, *, all_of_them: bool) -> None:
    """Have nobody at the steps of another workflow than the one that he was at. Of a workflow that is to be the same
    only whoever could never be shown here to be dead is at none: on his machine he is at another store's.
    """
    if migrations.current(tx) is not tx:
        return  # an earlier release has laid it out
    for step in every_step(tx):
        if step.owner is not None and (all_of_them or clock.liveness(step.owner.identity) == "unknown"):
            step.owner = None
            records.put_step(tx, step)


def _make_another(tx: Transaction, wanted: Wanted, arrived: Arrived, old: Retention) -> str:
    """Make another workflow of the version, and keep it there under an id of its own. Raises WorkflowExists."""
    record = arrived.record
    name = checkpoints.put(tx, NewCheckpoint(record.type, record.description, record.tags, None), old)
    checkpoints.fork(tx, wanted, name[:-1])  # which sorts before it, so that the checkpoint comes after
    tx.project(["checkpoint", name])
    return name
