"""Bringing two stores to the same documents, both ways (docs/sync.md).

Invariants:

* A document that was synced has one newest commit on both sides.
* What is appended on a side is a beginning of what the other side has, or a merge that both get.
* A document with a conflict that stays is changed on neither side.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from waypost import clock, erased, merging, prepared, records, session_records, settling, thread_pages, unions
from waypost.checkpoint_ids import MARK
from waypost.erased import ERASED, carry_out
from waypost.errors import DocumentDamaged, SchemaOutdated, SessionBusy, VersionConflict, WaypostError
from waypost.lines import Side, commits_behind, common_version, line_of
from waypost.records import ADOPTED, CHECKPOINT, SESSION
from waypost.settling import Answers
from waypost.store import Commit, ContentLost, DocumentId, JointChange, Progress, Store, View
from waypost.store.erasures import Parts
from waypost.store.kinds import Kind
from waypost.sync_models import StateConflict, SyncedDocument, SyncFailure, SyncReport
from waypost.uniting import Sides

logger = logging.getLogger("waypost")

OPERATION = "sync"
_TRIES = 8
_KINDS: tuple[Kind, ...] = ("session", "workflow", "thread")
"""Sessions first: whether a workflow may be written to in the name of one is told by its session."""


class Outcome(NamedTuple):
    """What became of a document: nothing where it was the same."""

    synced: SyncedDocument | None = None
    conflicts: tuple[StateConflict, ...] = ()


def sync(here: Store, there: Store, answers: Answers, *, dry_run: bool, progress: Progress) -> SyncReport:
    """Sync all documents of two stores. What keeps one from being synced is in the report."""
    documents = [
        DocumentId(kind, each)
        for kind in _KINDS
        for each in sorted({*here.documents(kind), *there.documents(kind)}, reverse=kind == "thread")
    ]  # of a thread the pages first, and then what tells of them
    synced: list[SyncedDocument] = []
    conflicts: list[StateConflict] = []
    failures: list[SyncFailure] = []
    unchanged = 0
    progress(0, len(documents))
    for number, document in enumerate(documents, 1):
        try:
            outcome = _sync(document, here, there, answers, dry_run=dry_run)
        except WaypostError as error:
            logger.warning("%s %r was not synced: %s", document.kind, document.id, error)
            failures.append(SyncFailure(kind=document.kind, id=document.id, code=error.code, error=error.message))
        else:
            conflicts += outcome.conflicts
            synced += [outcome.synced] if outcome.synced is not None else []
            unchanged += outcome.synced is None and not outcome.conflicts
        progress(number, len(documents))
    return SyncReport(
        location=here.location,
        other=there.location,
        dry_run=dry_run,
        looked_at=len(documents),
        unchanged=unchanged,
        documents=synced,
        conflicts=conflicts,
        failures=failures,
    )


def _sync(document: DocumentId, here: Store, there: Store, answers: Answers, *, dry_run: bool) -> Outcome:
    if here.view(document).commit_id == there.view(document).commit_id:
        return Outcome()
    for _ in range(_TRIES):
        try:
            return _OneDocument(document, here, there, answers, dry_run=dry_run).run()
        except (VersionConflict, ContentLost) as error:
            logger.info("%s %r is looked at again: %s", document.kind, document.id, error)
    raise VersionConflict(f"{document.kind} {document.id!r}: others were faster {_TRIES} times", tries=_TRIES)


class _OneDocument:
    """One try to sync a document."""

    def __init__(self, document: DocumentId, here: Store, there: Store, answers: Answers, *, dry_run: bool) -> None:
        self._document = document
        self._answers = answers
        self._dry_run = dry_run
        if not dry_run:
            for store in (here, there):
                prepared.settle(store, document)  # what is not settled does not travel
                carry_out(store, document)  # nor what was erased
        self._ours, self._theirs = Side.of(here, document), Side.of(there, document)
        for side in (self._ours, self._theirs):
            is_prepared = not dry_run and prepared.find(side.view) is not None
            if is_prepared or side.past.version != side.view.version:
                raise VersionConflict(f"{document.kind} {document.id!r} was changed meanwhile")

    def run(self) -> Outcome:
        ours, theirs = self._ours, self._theirs
        if ours.head == theirs.head:
            return Outcome()
        if not ours.view.version:
            return self._synced("taken", self._take(ours.store, theirs), is_new=True)
        if not theirs.view.version:
            return self._synced("sent", self._take(theirs.store, ours), is_new=True)
        ways = ("taken", ours, theirs), ("sent", theirs, ours)
        # the one that was changed later is likely to have all of the other, and then only its end is read
        for action, target, source in sorted(ways, key=lambda way: -way[2].view.time_us):
            commits = commits_behind(source.past, target.head)
            if commits is not None:
                return self._synced(action, self._follow(target, source, commits))
        return self._merge()

    def _synced(self, action: str, commits: int, *, is_new: bool = False) -> Outcome:
        assert action == "taken" or action == "sent" or action == "merged"
        kind, name = self._document
        return Outcome(SyncedDocument(kind=kind, id=name, action=action, is_new=is_new, commits=commits))

    # --- one side has all of it ---

    def _take(self, store: Store, source: Side) -> int:
        """Have the document in a store that knows nothing of it."""
        past = source.past
        if self._dry_run:
            return past.version
        made = {key.removeprefix(CHECKPOINT) for commit in past.commits() for key in commit.puts}
        received = store.receive()
        try:
            received.take(self._document, past, None)
            names = [name for name in _names(source.view) if name not in made or _is_adopted(source.view, name)]
            checks = self._take_in(store, source, names)
            for check in checks:
                check()
            if store.commit(store.begin(), JointChange(clock.new_id("op"), OPERATION), received) is None:
                raise VersionConflict(f"{self._document.kind} {self._document.id!r} was made meanwhile")
        finally:
            received.close()
        return past.version

    def _follow(self, target: Side, source: Side, commits: list[Commit]) -> int:
        """Append commits that a side lacks; how many."""
        self._check_owners(target, source.view)
        if self._dry_run:
            return len(commits)
        put = {key.removeprefix(CHECKPOINT) for commit in commits for key in commit.puts if key.startswith(CHECKPOINT)}
        there = _names(target.view)
        names = [
            name
            for name in _names(source.view)
            if (_is_adopted(source.view, name) and not _is_adopted(target.view, name))
            or (name not in there and name not in put)
        ]
        checks = self._take_in(target.store, source, names)
        target.store.follow(self._document, target.head, commits, checks)
        self._erase(target.store)
        return len(commits)

    def _take_in(self, store: Store, source: Side, names: list[str]) -> list[Callable[[], None]]:
        """Have the versions of checkpoints kept in a store whose history does not hold the commits that put them."""
        checks: list[Callable[[], None]] = []
        for name in names:
            version = source.store.checkpoint(self._document, name)
            if version is None or not name.startswith(self._document.id + MARK):
                raise DocumentDamaged(f"the version of checkpoint {name!a:.80} is not there")
            checks.append(store.take_in(version, name))
        return checks

    def _erase(self, store: Store) -> None:
        """Take out what the other side erased; where that fails, it is due for whoever closes the document."""
        if next(store.view(self._document).keys(ERASED), None) is not None:
            try:
                store.erase(self._document)
            except WaypostError as error:
                logger.warning("%s: what was erased elsewhere is not gone yet: %s", self._document.id, error)

    # --- each has something that the other has not ---

    def _merge(self) -> Outcome:
        ours, theirs = self._ours, self._theirs
        self._check_schemas()
        known_here, known_there = merging.known(ours.past), merging.known(theirs.past)
        our_line, their_line = line_of(ours, known_there), line_of(theirs, known_here)
        base = common_version((ours, our_line), (theirs, their_line))
        for side in (ours, theirs):
            base = None if base is None else erased.without(base, side.view, base.time_us)
        sides = Sides(base, ours.view, theirs.view, our_line, their_line, known_here, known_there, ours.store.keys)
        is_whole = our_line.is_whole and their_line.is_whole
        touched = {*our_line.touched, *their_line.touched} if is_whole else set[str]()
        keys = touched | unions.differing(ours.view, theirs.view)
        settled = settling.settle(sides, keys, self._answers)
        if settled.union is None:
            return Outcome(None, settled.conflicts)
        commit = unions.commit_of(sides, settled.union, OPERATION, is_whole=is_whole)
        merged = unions.Merged(sides, settled.union)
        for side in (ours, theirs):
            self._check_owners(side, merged)
        if not self._dry_run:
            thread_pages.tell_reach(self._document, (ours.view, theirs.view), (ours.store, theirs.store))
            adopting = [self._adopt(side, settled.union.adopted) for side in (ours, theirs)]
            for side, checks in zip((theirs, ours), reversed(adopting), strict=True):
                side.store.follow(self._document, side.head, [commit], checks)
            for side in (ours, theirs):
                self._erase(side.store)
        return self._synced("merged", 1)._replace(conflicts=settled.conflicts)

    def _adopt(self, side: Side, adopted: dict[str, View]) -> list[Callable[[], None]]:
        """Have the versions of checkpoints kept that a merge adopts on both sides."""
        checks: list[Callable[[], None]] = []
        for name, view in adopted.items():
            source = self._ours if view.commit_id == self._ours.head else self._theirs
            if not (source is side and _is_adopted(side.view, name)):
                checks += self._take_in(side.store, source, [name])
        return checks

    def _check_schemas(self) -> None:
        """Parts are laid out alike on both sides. Raises SchemaOutdated, which says what to do."""
        found = [view.get(records.WORKFLOW) for view in (self._ours.view, self._theirs.view)]
        versions = [records.versions_in(data) for data in found if data is not None]
        if self._document.kind == "workflow" and len(versions) == 2 and versions[0] != versions[1]:
            raise SchemaOutdated(
                f"workflow {self._document.id!r} was changed on both sides, and is of another schema version on one: "
                "open both with the same release, migrate them (`waypost store migrate`), and sync again",
                workflow_id=self._document.id,
            )

    # --- owners ---

    def _check_owners(self, side: Side, coming: Parts) -> None:
        """Nobody who is alive is shut out by what comes. Raises SessionBusy."""
        if self._document.kind == "session":
            record, other = session_records.find(side.view), coming.get(session_records.SESSION_RECORD)
            if side.view.get(session_records.SESSION_RECORD) != other and record is not None and self._is_held(side):
                raise _busy(self._document.id)
            return
        for name in {*records.names(side.view, SESSION)}:
            before, after = session_records.number_in(side.view, name), session_records.number_in(coming, name)
            if after > before:
                session = DocumentId("session", name)
                record = session_records.find(side.store.view(session))
                if record is not None and after > record.number and self._is_held(side, session):
                    raise _busy(name)

    def _is_held(self, side: Side, document: DocumentId | None = None) -> bool:
        sight = side.store.holder(document or self._document)
        return sight is not None and sight.is_held


def _busy(name: str) -> SessionBusy:
    return SessionBusy(
        f"session {name!r} is held by an owner that is alive, and the other store knows it otherwise: sync again when "
        "it has ended or was paused",
        session_id=name,
    )


def _names(view: View) -> list[str]:
    """The names of the checkpoints of a version."""
    return [*records.names(view, CHECKPOINT), *records.names(view, ADOPTED)]


def _is_adopted(view: View, name: str) -> bool:
    return view.size_of(ADOPTED + name) is not None
