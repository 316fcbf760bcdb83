"""Sessions on their way in: which of their documents are new here, which are known, and which have to be merged.

All of it is one commit over all documents, or nothing is changed. What is here already and holds what comes in stays as
it is, so that to import twice is to import once. What comes in is checked before: its bytes by the bundle, its ids and
sums by the store that takes it in, and whether its newest version is sound here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from typing import Any, get_args

import msgspec
from msgspec.structs import astuple, replace

from waypost import (
    carrying,
    checkpoint_ids,
    checkpoints,
    clock,
    lineage,
    merging,
    migrations,
    prepared,
    records,
    secrecy,
    session_records,
    validation,
)
from waypost.checkpoint_ids import MARK
from waypost.erased import ERASED
from waypost.errors import DocumentDamaged, ImportConflict, InvalidInput, VersionConflict, WaypostError
from waypost.merging import OPERATION
from waypost.records import ADOPTED, CHECKPOINT, SESSION, AdoptedRecord
from waypost.session_models import OnClash, SessionImport
from waypost.session_records import ENVIRONMENT, PREFERENCE, RECOVERY, SESSION_RECORD, TOUCHED
from waypost.store import (
    Bundle,
    Change,
    Content,
    ContentLost,
    DocumentId,
    JointChange,
    JointPart,
    JointTransaction,
    Past,
    Reception,
    Store,
    Transaction,
    View,
    Whole,
)
from waypost.store.erasures import Erasures

logger = logging.getLogger("waypost")
_TRIES = 16
_MOST_NAMES = 1000
_MOST_TENURES = 1 << 62
_NIL = b"\xc0"
_OWN = (SESSION_RECORD, RECOVERY)
"""Parts of a session that are not merged: who is in it, and what became of it, is known better here."""


def import_bundle(
    store: Store,
    bundle: Bundle,
    new_id: str | None,
    on_clash: str,
    operation_id: str,
    large_bytes: int,
    *,
    repeatable: bool,
) -> tuple[SessionImport, bool]:
    """Take in a session and its workflows; and whether that was done before, under this operation id, if it is
    `repeatable`. Raises as `read_bundle` and taking in do, ImportConflict, InvalidInput.
    """
    if on_clash not in get_args(OnClash):
        raise InvalidInput(f"on_clash is {', '.join(get_args(OnClash))}, not {on_clash!r}")
    for each in bundle.documents:
        records.validate_id(each.document.id, f"{each.document.kind} id")
    if new_id is not None:
        records.validate_id(new_id, "session id")
    session = session_records.document_of(new_id or bundle.session_id)
    if repeatable:
        records.validate_id(operation_id, "operation id")
    for _ in range(_TRIES):
        found = store.view(session).operation(operation_id) if repeatable else None
        if found is not None and (report := merging.report_in(found.projection)) is not None:
            return report, True
        received = store.receive()
        try:
            one = _Import(store, bundle, new_id, on_clash, operation_id, large_bytes, received, repeatable=repeatable)
            done = one.run()
        except ContentLost:
            continue  # another file took the place of a log, or the store was restored
        finally:
            received.close()
        if done is not None:
            return done, False
    raise VersionConflict(f"others were faster {_TRIES} times", tries=_TRIES)


class _Import:
    """One try to take in a bundle."""

    def __init__(
        self,
        store: Store,
        bundle: Bundle,
        new_id: str | None,
        on_clash: str,
        operation_id: str,
        large_bytes: int,
        received: Reception,
        *,
        repeatable: bool,
    ) -> None:
        self._repeatable = repeatable
        self._store = store
        self._bundle = bundle
        self._new_id = new_id
        self._on_clash = on_clash
        self._operation_id = operation_id
        self._large_bytes = large_bytes
        self._received = received
        self._joint: JointTransaction = store.begin()
        self._checks: list[Callable[[], None]] = []
        self._clashes: list[DocumentId] = []
        self._erased: set[DocumentId] = set()
        self._changed: list[tuple[JointPart, list[object]]] = []
        self.session_id = ""
        self.made: list[str] = []
        self.merged: list[str] = []
        self.unchanged: list[str] = []
        self.renamed: dict[str, str] = {}

    def run(self) -> SessionImport | None:
        """None where others changed meanwhile what is here."""
        session, *workflows = self._bundle.documents
        wanted = session.document._replace(id=self._new_id or session.document.id)
        targets = [(each, *self._target(each, each.document)) for each in workflows]
        there, is_here = self._target(session, wanted)
        if self._clashes:
            raise self._clash()
        self.session_id = there.id
        for whole, target, state in targets:
            self._workflow(whole, target, state)
        self._session(session, there, is_here)
        for check in self._checks:
            check()
        for part, projection in self._changed:
            part.project([*projection, msgspec.to_builtins(self._report())])
        change = JointChange(self._operation_id, OPERATION, repeatable=self._repeatable)
        receipt = self._store.commit(self._joint, change, self._received)
        if receipt is None:
            return None
        for document in sorted(self._erased):
            self._carry_out(document)
        return self._report()

    def _carry_out(self, document: DocumentId) -> None:
        """Take out what the other side erased; where that fails, it is due for whoever closes the workflow."""
        try:
            self._store.erase(document)
        except WaypostError as error:
            logger.warning("workflow %r: what was erased elsewhere is not gone yet: %s", document.id, error)

    def _report(self) -> SessionImport:
        return SessionImport(
            session_id=self.session_id,
            made=sorted(self.made),
            merged=sorted(self.merged),
            unchanged=sorted(self.unchanged),
            renamed=self.renamed,
        )

    # --- what is here ---

    def _target(self, whole: Whole, wanted: DocumentId) -> tuple[DocumentId, str]:
        """The document that one becomes here, and whether that is `new`, holds all of it (`same`), or neither."""
        state = self._state(whole, wanted)
        if state != "other" or self._on_clash == "merge":
            return wanted, state
        if self._on_clash == "refuse":
            self._clashes.append(wanted)
            return wanted, state
        for number in range(2, _MOST_NAMES):
            other = wanted._replace(id=records.validate_id(f"{wanted.id}-{number}", "id"))
            state = self._state(whole, other)
            if state != "other" and other not in [each.document for each in self._bundle.documents]:
                if wanted.kind == "workflow":
                    self.renamed[wanted.id] = other.id
                return other, state
        raise ImportConflict(f"there is no free id for {wanted.kind} {wanted.id!r}", workflows=[wanted.id])

    def _state(self, whole: Whole, document: DocumentId) -> str:
        prepared.settle(self._store, document)
        past = self._store.past(document)
        if not past.version:
            return "new"
        return "same" if self._holds(past, whole.past) else "other"

    def _holds(self, here: Past, incoming: Past) -> bool:
        """Whether a document holds all of a history, or has taken it in by a merge."""
        return merging.id_at(incoming, incoming.version) in merging.known(here)

    def _clash(self) -> ImportConflict:
        named = ", ".join(f"{each.kind} {each.id!r}" for each in self._clashes[:5])
        more = ", …" if len(self._clashes) > 5 else ""
        return ImportConflict(
            f"{named}{more}: here already, with another history than in the export; nothing was changed. "
            "on_clash='rename' (--on-clash rename) imports under other ids, 'merge' brings both together",
            workflows=[each.id for each in self._clashes if each.kind == "workflow"],
            sessions=[each.id for each in self._clashes if each.kind == "session"],
        )

    # --- workflows ---

    def _workflow(self, whole: Whole, target: DocumentId, state: str) -> None:
        if state == "new":
            self._take(whole, target, partial(self._arrange, whole, target))
            self.made.append(target.id)
            return
        if state == "same":
            self.unchanged.append(target.id)
            if _is_linked(self._store.view(target), self.session_id):
                return
        part = self._opened(whole, target)
        if state != "same":
            self._merge(whole, target, part)
            self.merged.append(target.id)
        if not _is_linked(part, self.session_id):
            session_records.link(part, self.session_id, None)

    def _opened(self, whole: Whole, target: DocumentId) -> JointPart:
        """A document that is here, to be changed; what is remembered of that is told once all is known."""
        part = self._joint.document(target)
        self._changed.append((part, merging.projection(whole.past)))
        return part

    def _take(self, whole: Whole, target: DocumentId, work: Callable[[Transaction], Any]) -> None:
        if target.id == whole.document.id:
            self._keep(whole, target)
        # it is found by the session, where all is known that is told of it
        is_found = target.kind == "session"
        name = self._operation_id if is_found else clock.new_id("op")
        change = Change(target, work, name, OPERATION, repeatable=self._repeatable and is_found)
        view = self._received.take(target, whole.past, change)
        if target.kind == "session":
            _check_session(view)
        else:
            _check_workflow(view)

    def _arrange(self, whole: Whole, target: DocumentId, tx: Transaction) -> None:
        """What is changed of a workflow that is new here, in a commit behind its own."""
        tx.project(merging.projection(whole.past, tx.commit_id))
        if target.id != whole.document.id:
            self._rename_checkpoints(whole, target, tx)
            carrying.free_steps(tx, all_of_them=True)
        for name in records.names(tx, SESSION):
            self._number(tx, name, session_records.number_in(tx, name))
        if records.find_workflow(migrations.current(tx)) is None or self.session_id == self._bundle.session_id:
            return
        session_records.link(tx, self.session_id, None)
        context = records.CONTEXTS.get(tx, records.CONTEXT)
        if context is not None and context.session_id == self._bundle.session_id:
            tx.put(records.CONTEXT, records.encode(replace(context, session_id=self.session_id)))

    def _number(self, tx: Transaction, session_id: str, number: int) -> None:
        """Put the number below which nobody writes in a session's name: none that it has only elsewhere, for then its
        owner here would be shut out.
        """
        record = session_records.find(self._store.view(session_records.document_of(session_id)))
        number = number if record is None else min(number, record.number)
        tx.put(SESSION + session_id, records.encode(number) if number else _NIL)

    def _rename_checkpoints(self, whole: Whole, target: DocumentId, tx: Transaction) -> None:
        """Have the checkpoints of a workflow under its new id: theirs say whose they are."""
        names = {name: _renamed(name, whole.document, target) for name in _checkpoints_in(tx)}
        made_at = {
            key.removeprefix(CHECKPOINT): commit.version
            for commit in whole.past.commits(oldest_first=True)
            for key in commit.puts
            if key.startswith(CHECKPOINT)
        }
        # before any is taken out: which comes behind which is told by those that are there
        adopted = {name: self._adopted(tx, name, names) for name in names}
        for name, other in names.items():
            version = _version_of(whole, name, made_at)
            self._checks.append(self._store.take_in(_as(version, target), other))
            for prefix in (CHECKPOINT, ADOPTED):
                tx.delete(prefix + name)
            tx.put(ADOPTED + other, adopted[name])

    @staticmethod
    def _adopted(view: View, name: str, names: Mapping[str, str]) -> bytes:
        record = records.ADOPTIONS.get(view, ADOPTED + name) or records.CHECKPOINTS.get(view, CHECKPOINT + name)
        assert record is not None
        parent = lineage.parent_in(view, name)
        parent = names.get(parent, parent) if parent is not None else None
        first = astuple(record)[: len(records.CheckpointRecord.__struct_fields__)]
        return records.encode(AdoptedRecord(*first, imported=True, parent_id=parent))

    def _keep(self, whole: Whole, target: DocumentId) -> None:
        """Have the versions of checkpoints taken in that the past does not reach back to."""
        for name, version in whole.kept.items():
            found = version()
            if found.document != target or not checkpoint_ids.is_of(target.id, name):
                raise DocumentDamaged(f"checkpoint {name!a:.80} in the export is not of {target.id!a:.80}")
            self._checks.append(self._store.take_in(found, name))

    # --- merging ---

    def _merge(self, whole: Whole, target: DocumentId, part: JointPart) -> None:
        """Bring what came in together with what is here, as one commit. Raises ImportConflict."""
        here, past = self._store.view(target), self._store.past(target)
        base = merging.last_known(whole.past, merging.known(past))
        sides = merging.read(whole, base)
        before = sides.base if sides.base is not None else self._base_here(whole, target, base)
        conflicts: list[str] = []
        wanted: list[str] = []
        gone = merging.erased_values(here, past)
        for key, is_conflict in merging.changed(before, merging.digests(here), sides, gone):
            if target.kind == "session" and key in _OWN:
                continue
            if is_conflict and (key.startswith(ERASED) or self._is_same_secret(whole, here, key)):
                continue  # both sides erased it, or gave it the same value
            if is_conflict and not key.startswith(SESSION):
                conflicts.append(key)
            else:
                wanted.append(key)
        conflicts += merging.not_known_to(wanted, before, merging.digests(here), sides.theirs)
        if conflicts:
            raise _cannot_merge(target, sorted({*conflicts}))
        theirs = whole.version_at(whole.past.version) if wanted else None
        for key in wanted:
            if theirs is not None:
                self._take_part(whole, theirs, part, key, sides.made_at)
        _check_merged(part)

    def _is_same_secret(self, whole: Whole, here: View, key: str) -> bool:
        there = whole.version_at(whole.past.version) if key.startswith(records.SECRET) else None
        return there is not None and secrecy.is_same(key, here, there, self._store.keys)

    def _base_here(self, whole: Whole, target: DocumentId, base: int) -> merging.Digests:
        """The common ancestor by what is kept of it here, where the export has only its id."""
        view = self._store.view_at(target, base)
        if view is None or view.commit_id != whole.past.dropped_id(base):
            raise ImportConflict(
                f"{target.kind} {target.id!r} was changed here and in the export, and neither history reaches back to "
                "where they part; nothing was changed",
                workflows=[target.id],
            )
        return merging.digests(view)

    def _take_part(self, whole: Whole, theirs: View, part: JointPart, key: str, made_at: Mapping[str, int]) -> None:
        length = theirs.size_of(key)
        if key.startswith(SESSION):
            name = key.removeprefix(SESSION)
            number = max(session_records.number_in(view, name) for view in (part, theirs))
            self._number(part, name, number)
        elif key.startswith(ERASED):
            part.put(key, merging.erased_here(theirs.get(key) or b"", key, part))
            self._erased.add(part.document)
        elif length is None:
            part.delete(key)
        elif merging.is_checkpoint(key):
            name = key.removeprefix(CHECKPOINT).removeprefix(ADOPTED)
            if not any(part.size_of(prefix + name) is not None for prefix in (CHECKPOINT, ADOPTED)):
                Erasures.of(part)  # it is taken in without what is erased, so that must be so still when this commits
                self._checks.append(self._store.take_in(_version_of(whole, name, made_at), name))
                part.put(ADOPTED + name, self._adopted(theirs, name, {}))
        elif self._large_bytes and length > self._large_bytes:
            pieces = checkpoints.pieces_of(theirs, key)
            content: Content = self._store.stage(part.document, key, length, pieces)
            part.put(key, content)
        else:
            part.put(key, theirs.get(key) or b"")

    # --- the session ---

    def _session(self, whole: Whole, target: DocumentId, state: str) -> None:
        if state == "new":
            self._take(whole, target, partial(self._settle, whole))
            return
        part = self._opened(whole, target)
        if state != "same":
            self._merge(whole, target, part)
        self._touch(part)

    def _settle(self, whole: Whole, tx: Transaction) -> None:
        """Nobody is in a session that has just come in."""
        tx.project([*merging.projection(whole.past, tx.commit_id), msgspec.to_builtins(self._report())])
        record = session_records.expect(tx)
        status = record.status if record.status == "completed" else "paused"
        if (settled := replace(record, status=status, owner=None, unseen_left=status == "paused")) != record:
            tx.put(SESSION_RECORD, records.encode(settled))
        self._touch(tx)

    def _touch(self, tx: Transaction) -> None:
        """Say of workflows that they are the session's, so that they are found."""
        for name in (*self.made, *self.merged, *self.unchanged):
            if tx.size_of(TOUCHED + name) is None:
                tx.put(TOUCHED + name, _NIL)


# --- what comes in ---


def _check_workflow(view: View) -> None:
    """Whether the newest version is sound, if it was not deleted. Raises InvalidInput, DocumentDamaged."""
    records.moment(view.time_us)
    if view.size_of(records.TOMBSTONE) is not None:
        return
    try:
        carrying.check_is_sound(migrations.current(view), with_values=False)
        for name in records.names(view, SESSION):
            session_records.number_in(view, records.validate_id(name, "session id"))
    except InvalidInput:
        raise
    except WaypostError as error:
        raise InvalidInput(f"the export holds a workflow that cannot be taken: {error}") from error


def _check_session(view: View) -> None:
    """Whether it is a session that can be read here. Raises InvalidInput, UnsupportedFormat, DocumentDamaged."""
    record, recovery = session_records.expect(view), session_records.recovery(view)
    if not 0 < record.number < _MOST_TENURES:
        raise InvalidInput(f"the export holds a session that was entered {record.number:,} times")
    for time_us in (view.time_us, record.started_us, record.ended_us or 0, recovery.time_us if recovery else 0):
        records.moment(time_us)
    for key in view.keys():
        kind, separator, name = key.partition(records.SEPARATOR)
        if separator and kind + separator == TOUCHED:
            records.validate_id(name, "workflow id")
        elif key not in _OWN and not (separator and kind + separator in (ENVIRONMENT, PREFERENCE)):
            raise InvalidInput(f"the export holds a session with the part {records.shown(key)}, which none has")


def _check_merged(part: JointPart) -> None:
    if part.document.kind == "session" or part.size_of(records.WORKFLOW) is None:
        return
    report = validation.inspect(migrations.current(part.as_it_is()), with_values=False)
    if not report.is_valid:
        raise ImportConflict(
            f"workflow {part.document.id!r} would not be sound, were both sides brought together: {report.errors[0]}; "
            "nothing was changed",
            workflows=[part.document.id],
        )


def _cannot_merge(target: DocumentId, keys: list[str]) -> ImportConflict:
    shown = ", ".join(map(records.shown, keys[:5])) + (", …" if len(keys) > 5 else "")
    return ImportConflict(
        f"{target.kind} {target.id!r} was changed here and in the export, in different ways, in {shown}; nothing was "
        "changed",
        workflows=[target.id],
        parts=[records.shown(key) for key in keys],
    )


def _is_linked(view: View, session_id: str) -> bool:
    """Whether a session is among those of a workflow, or it was deleted, and has none that could go on."""
    return view.size_of(records.WORKFLOW) is None or view.size_of(SESSION + session_id) is not None


def _checkpoints_in(view: View) -> list[str]:
    return [*records.names(view, CHECKPOINT), *records.names(view, ADOPTED)]


def _renamed(name: str, document: DocumentId, target: DocumentId) -> str:
    own = name.removeprefix(document.id + MARK)
    if own == name:
        raise InvalidInput(f"{name!a:.80} is not the id of a checkpoint of workflow {document.id!a:.80}")
    return f"{target.id}{MARK}{own}"


def _version_of(whole: Whole, name: str, made_at: Mapping[str, int]) -> View:
    """The version of a checkpoint, by its own file or by the past."""
    kept = whole.kept.get(name)
    version = whole.version_at(made_at[name]) if kept is None and name in made_at else None
    found = kept() if kept is not None else version
    if found is None:
        raise DocumentDamaged(f"the export does not hold the version of checkpoint {name!a:.80}")
    return found


def _as(version: View, document: DocumentId) -> View:
    """The same version, as one of another document."""
    other: Any = copy(version)
    other.document = document
    return other
