"""Bringing workflows to another schema version: by the registered steps, on plain data, all or nothing.

Steps are the user's code, so they run on a version of the document outside every lock. What they made is then checked,
the log as it was is kept in `backups/`, and all of it is one commit that is made only if the document is still at that
version: of two processes that migrate at once, one does, and the other finds it done.

Where nothing can be written (a store open for reading only, a full disk) the same steps give a view of the document
as it would be, and nothing changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

from msgspec import Struct

from waypost import clock, prepared, records, schema, validation
from waypost.errors import (
    DocumentTooLarge,
    InvalidInput,
    LockTimeout,
    MigrationFailed,
    SchemaOutdated,
    StorePoisoned,
    StoreReadOnly,
    StoreUnavailable,
    VersionConflict,
    WaypostError,
)
from waypost.migrating import Changes, MigratingDocument
from waypost.schema import Step, Versions
from waypost.store import Change, Counters, DocumentId, OperationRecord, Pieces, Store, Transaction, View, parts

logger = logging.getLogger("waypost")

Targets = Mapping[str | None, str]
"""Which version to reach: None stands for Waypost's own schema, a name for an application."""

_TRIES = 16
_CANNOT_WRITE = (StoreReadOnly, StoreUnavailable, LockTimeout, StorePoisoned, DocumentTooLarge)


# --- what a migration would do ---


class Plan(NamedTuple):
    """What brings one version of a document to the targets: the steps that were taken, and the parts they changed."""

    view: View
    steps: list[Step]
    changes: Changes
    targets: Targets


def plan(view: View, targets: Targets) -> Plan | None:
    """Run the steps on a version; None where there is no workflow, or none is needed. Nothing is stored.

    Raises UnsupportedFormat for a version that is malformed or newer than what is known here, and MigrationFailed.
    """
    data = view.get(records.WORKFLOW)
    if view.document.kind != "workflow" or data is None:
        return None
    named = f"workflow {view.document.id!r}"
    versions = records.versions_in(data)
    versions.refuse_unknown(named)
    steps = [(step, is_back) for each in targets for step, is_back in _way(named, versions, each, targets[each])]
    stamps = {name: version for name, version in targets.items() if versions.stored(name) != version}
    if not steps and not stamps:
        return None
    document = MigratingDocument(view)
    for step, is_back in steps:
        _take(named, document, step, is_back)
    _stamp(document, stamps)
    made = Plan(view, [step for step, _ in steps], document.changes(), targets)
    if targets.get(None, versions.schema) == schema.SCHEMA_VERSION:
        _check_sound(named, made)
    return made


def _way(named: str, versions: Versions, application: str | None, target: str) -> Iterator[tuple[Step, bool]]:
    version = str(versions.get(application))
    for step in schema.path(named, application, version, target):
        yield step, schema.parse(target) < schema.parse(version)  # type: ignore[operator]  # both were parsed before


def _take(named: str, document: MigratingDocument, step: Step, is_back: bool) -> None:
    """Take one step, and check what it made."""
    work, check, arrived = step.upgrade, step.validate, step.to_version
    if is_back:
        if step.downgrade is None:
            raise _failed(named, step, is_back, "it has no downgrade")
        work, arrived = step.downgrade, step.from_version
        check = schema.validator(step.application, arrived)
    try:
        work(document)
        _stamp(document, {step.application: arrived})
        document.changes()
        verdict = None if check is None else check(document)
    except Exception as error:
        raise _failed(named, step, is_back, f"{type(error).__name__}: {error}") from error
    if verdict is False:
        raise _failed(named, step, is_back, "what it made is not valid")


def _failed(named: str, step: Step, is_back: bool, reason: str) -> MigrationFailed:
    way = f"{step.to_version} back to {step.from_version}" if is_back else f"{step.from_version} to {step.to_version}"
    whose = "" if step.application is None else f" of {step.application!r}"
    return MigrationFailed(
        f"{named} was left as it is: the migration{whose} from {way} failed: {reason}",
        from_version=step.to_version if is_back else step.from_version,
        to_version=step.from_version if is_back else step.to_version,
        application=step.application,
        reason=reason,
    )


def _stamp(document: MigratingDocument, versions: Targets) -> None:
    """Write versions into the workflow's record. Raises InvalidInput where a step left none to write them into."""
    found: Any = document.get(records.WORKFLOW)
    row = cast("list[Any]", found) if isinstance(found, list) else []
    if len(row) < 3:
        raise InvalidInput("there is no record of the workflow left")
    for application, version in versions.items():
        if application is None:
            row[2] = version
        else:
            row += [False, {}][len(row) - 3 :]
            row[4] = dict(sorted({**row[4], application: version}.items()))


def _check_sound(named: str, made: Plan) -> None:
    report = validation.inspect(MigratedView(made))
    if not report.is_valid:
        taken = ", ".join(map(str, made.steps)) or "none"
        raise MigrationFailed(
            f"{named} was left as it is: its migration ({taken}) made something unsound: {report.errors[0]}",
            steps=[str(step) for step in made.steps],
            reason=report.errors[0],
        )


class MigratedView:
    """A version of a document as a plan would make it; fulfils `views.View`.

    Version, time and commit id are those of what is stored; size and checksum those of the parts that are seen.
    """

    def __init__(self, made: Plan) -> None:
        self._view = made.view
        self._puts, self._removed = made.changes
        checksum, self.size_bytes = 0, made.view.size_bytes
        for key in {*self._puts, *self._removed}:
            length = made.view.size_of(key)
            if length is not None:
                checksum -= _digest(made.view, key)
                self.size_bytes -= parts.part_size(key.encode(), length)
        for key, data in self._puts.items():
            checksum += parts.part_checksum(key.encode(), data)
            self.size_bytes += parts.part_size(key.encode(), len(data))
        self.checksum = parts.add_to_checksum(made.view.checksum, checksum)

    @property
    def document(self) -> DocumentId:
        return self._view.document

    @property
    def version(self) -> int:
        return self._view.version

    @property
    def time_us(self) -> int:
        return self._view.time_us

    @property
    def commit_id(self) -> bytes:
        return self._view.commit_id

    @property
    def compressed(self) -> bool:
        return self._view.compressed

    def pieces(self, key: str) -> Pieces | None:
        if key in self._puts or key in self._removed:
            value = self._puts.get(key)
            return None if value is None else Pieces.of(value)
        return self._view.pieces(key)

    def get(self, key: str) -> bytes | None:
        if key in self._puts or key in self._removed:
            return self._puts.get(key)
        return self._view.get(key)

    def size_of(self, key: str) -> int | None:
        if key in self._puts or key in self._removed:
            data = self._puts.get(key)
            return None if data is None else len(data)
        return self._view.size_of(key)

    def erased(self, key: str) -> bytes | None:
        return None if key in self._puts or key in self._removed else self._view.erased(key)

    def differing(self, other: View) -> set[str]:
        return {*self.keys(), *other.keys()}

    def keys(self, prefix: str = "") -> Iterator[str]:
        found = {key for key in self._view.keys(prefix) if key not in self._removed}
        found.update(key for key in self._puts if key.startswith(prefix))
        return iter(sorted(found))

    def operation(self, operation_id: str) -> OperationRecord | None:
        return self._view.operation(operation_id)


def _digest(view: View, key: str) -> int:
    """What a part that is there adds to the checksum of its document; one that was erased is counted there still."""
    gone = view.erased(key)
    return parts.part_checksum(key.encode(), view.get(key) or b"") if gone is None else int.from_bytes(gone, "big")


# --- on load ---


def current(view: View) -> View:
    """The version as this release reads it: itself, or migrated in memory.

    Raises UnsupportedFormat, MigrationFailed.
    """
    made = plan(view, schema.targets()) if _is_outdated(view) else None
    return view if made is None else MigratedView(made)


def _is_outdated(view: View) -> bool:
    try:
        records.find_workflow(view)
    except SchemaOutdated:
        return True
    return False


def load(store: Store, document: DocumentId, counters: Counters | None = None) -> View:
    """The newest version, migrated: in the store where that can be, else in memory.

    Raises what the store raises, UnsupportedFormat, MigrationFailed.
    """
    view = prepared.as_settled(store, store.view(document, counters=counters))
    if not _is_outdated(view):
        return view
    try:
        return bring_up_to_date(store, document)
    except _CANNOT_WRITE as error:
        if not isinstance(error, StoreReadOnly):
            logger.warning("%s %r was migrated in memory only: %s", document.kind, document.id, error)
        return current(view)


def bring_up_to_date(store: Store, document: DocumentId) -> View:
    """Migrate a document in its store, unless somebody else has; the version that it is at then.

    Raises what the store raises, UnsupportedFormat, MigrationFailed, VersionConflict.
    """
    carry_out(store, document, schema.targets())
    return store.view(document)


def carry_out(store: Store, document: DocumentId, targets: Targets) -> Plan | None:
    """Plan and commit; what was committed, None where nothing was needed.

    Raises what the store raises, UnsupportedFormat, MigrationFailed, and VersionConflict (retryable) when others kept
    changing the document.
    """
    for _ in range(_TRIES):
        made = plan(store.view(document), targets)
        if made is None:
            return None
        if not store.keep_generation(document, made.view.version):
            continue
        change = Change(document, partial(_commit, made), clock.new_id("op"), "migrate")
        if prepared.submit(store, change).data:
            logger.info("workflow %r was migrated: %s", document.id, ", ".join(map(str, made.steps)) or "as it is")
            return made
    raise VersionConflict(f"workflow {document.id!r} kept changing while it was migrated", workflow_id=document.id)


def _commit(made: Plan, tx: Transaction) -> bool:
    """Put what a plan holds, if the document is still as it was planned for; whether it was put."""
    tx.keys()  # the steps may have looked at anything, so any commit that comes in between has this run again
    if tx.commit_id != made.view.commit_id:
        return False
    tx.project(["state"])
    for key in made.changes.removed:
        tx.delete(key)
    for key, data in made.changes.puts.items():
        tx.put(key, data)
    return True


# --- all of a store ---


class WorkflowMigration(Struct, frozen=True, kw_only=True):
    """What a migration did, or would do, to one workflow. `error` says why it could not; then nothing was changed."""

    workflow_id: str
    steps: list[str]
    parts_added: int = 0
    parts_removed: int = 0
    parts_changed: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    error: str | None = None


class MigrationReport(Struct, frozen=True, kw_only=True):
    """What a migration did, or would do, to the workflows of a store. `current` ones needed nothing."""

    dry_run: bool
    targets: dict[str, str]
    workflows: list[WorkflowMigration]
    current: int

    @property
    def failed(self) -> list[WorkflowMigration]:
        return [one for one in self.workflows if one.error is not None]


OWN = "waypost"
"""How a report names Waypost's own schema among applications."""


def choose_targets(to: str | None, application: str | None) -> Targets:
    """The targets that a caller names: everything's newest version, one application's, or a version of either.

    Raises InvalidConfiguration for an application without steps, and for a version that is none or not known.
    """
    if to is None:
        to = schema.newest(application)
        if application is None:
            return schema.targets()
    schema.check_target(application, to)
    # an application's steps are written for workflows as this release lays them out
    return {application: to} if application is None else {None: schema.SCHEMA_VERSION, application: to}


def migrate_store(
    store: Store,
    targets: Targets,
    *,
    dry_run: bool = False,
    on_done: Callable[[WorkflowMigration | None], object] | None = None,
) -> MigrationReport:
    """Migrate every workflow, each in a commit of its own; with `dry_run` take and check every step, and store nothing.

    One that cannot be migrated is reported, and the others go on. `on_done` is called after each.
    """
    found: list[WorkflowMigration] = []
    current = 0
    for workflow_id in sorted(store.documents("workflow")):
        one = _migrate(store, DocumentId("workflow", workflow_id), targets, dry_run)
        if one is None:
            current += 1
        else:
            found.append(one)
        if on_done is not None:
            on_done(one)
    named = {application or OWN: version for application, version in targets.items()}
    return MigrationReport(dry_run=dry_run, targets=named, workflows=found, current=current)


def _migrate(store: Store, document: DocumentId, targets: Targets, dry_run: bool) -> WorkflowMigration | None:
    try:
        made = plan(store.view(document), targets) if dry_run else carry_out(store, document, targets)
    except WaypostError as error:
        return WorkflowMigration(workflow_id=document.id, steps=[], error=str(error))
    return None if made is None else _described(made)


def _described(made: Plan) -> WorkflowMigration:
    puts, removed = made.changes
    added = sum(made.view.size_of(key) is None for key in puts)
    return WorkflowMigration(
        workflow_id=made.view.document.id,
        steps=[str(step) for step in made.steps],
        parts_added=added,
        parts_removed=len(removed),
        parts_changed=len(puts) - added,
        bytes_before=made.view.size_bytes,
        bytes_after=MigratedView(made).size_bytes,
    )
