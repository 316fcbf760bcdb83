"""Cleaning a store: checkpoints beyond the bounds of retention go in all workflows, and space is given back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct

from waypost import checkpoint_ids, clock, prepared, retention
from waypost.errors import WaypostError
from waypost.lineage import is_imported
from waypost.options import RetentionConfig
from waypost.records import ADOPTED, CHECKPOINT
from waypost.store import Change, DocumentId, Store, Transaction

_MEGABYTE = 1 << 20
_MOST_ROUNDS = 8


class CleanupReport(Struct, frozen=True, kw_only=True):
    """What a cleanup removed, or with `dry_run` would remove.

    `freed_bytes` is by how much the files of the store became smaller, or about how much that would be. `checkpoints`
    and `checkpoint_bytes` tell what is left: how many, and what their files take. `problems` says, a sentence each,
    which bounds could not be kept, and which workflows could not be read.
    """

    dry_run: bool
    deleted_checkpoints: Sequence[str]
    freed_bytes: int
    checkpoints: int
    checkpoint_bytes: int
    problems: Sequence[str]


class _Workflow(NamedTuple):
    """The checkpoints of a workflow: all, those that may go, and what each of them takes."""

    document: DocumentId
    names: list[str]
    passing: list[str]
    sizes: dict[str, int]

    @property
    def taken(self) -> int:
        return sum(self.sizes.values())


def cleanup(store: Store, limits: RetentionConfig, *, dry_run: bool) -> CleanupReport:
    """Bring all workflows within the bounds of retention, and give back what is no longer needed."""
    return _Cleanup(store, limits, dry_run).run()


class _Cleanup:
    """One cleanup."""

    def __init__(self, store: Store, limits: RetentionConfig, dry_run: bool) -> None:
        self._store = store
        self._limits = limits
        self._dry_run = dry_run
        self._now_us = clock.now_us()
        self._deleted: dict[str, int] = {}
        """What goes, and how many bytes the file of each takes."""
        self._problems: list[str] = []
        self._freed = 0

    def run(self) -> CleanupReport:
        for each in self._store.documents("workflow"):
            self._clean(DocumentId("workflow", each))
        self._keep_budget()
        if not self._dry_run:
            self._freed += self._store.sweep()
        left = list(self._workflows())
        budget = self._limits.max_store_size * _MEGABYTE
        taken = sum(each.taken for each in left)
        if taken > budget:
            self._problems.append(f"checkpoints take {taken:,} bytes, more than the {budget:,} that the store may take")
        return CleanupReport(
            dry_run=self._dry_run,
            deleted_checkpoints=sorted(self._deleted),
            freed_bytes=sum(self._deleted.values()) if self._dry_run else self._freed,
            checkpoints=sum(len(each.names) for each in left),
            checkpoint_bytes=taken,
            problems=self._problems,
        )

    def _workflows(self) -> Iterator[_Workflow]:
        for each in self._store.documents("workflow"):
            found = self._look(DocumentId("workflow", each))
            if found is not None:
                yield found

    def _look(self, document: DocumentId) -> _Workflow | None:
        """The checkpoints of a workflow. Where nothing but these is left of it, or it cannot be read, none may go."""
        try:
            view = self._store.peek(document)
            if not view.version:
                return None
            names = [name for name in self._store.checkpoints(document) if name not in self._deleted]
            # whoever imported one wanted it
            passing = [name for name in names if checkpoint_ids.is_passing(name) and not is_imported(view, name)]
        except WaypostError as error:
            self._note(document, error)
            return None
        return _Workflow(document, names, passing, self._store.checkpoint_bytes(names))

    def _note(self, document: DocumentId, error: WaypostError) -> None:
        problem = f"workflow {document.id!r} was left as it is: {error}"
        if problem not in self._problems:
            self._problems.append(problem)

    def _clean(self, document: DocumentId) -> None:
        """What a workflow may keep for itself."""
        found = self._look(document)
        if found is not None:
            self._remove(found, retention.excess(found.passing, self._limits, self._now_us))
            self._keep_size(document)

    def _keep_size(self, document: DocumentId) -> None:
        """By bytes. What stands on a checkpoint that goes may become larger, so it is looked at again."""
        most_bytes = self._limits.max_workflow_size * _MEGABYTE
        for _ in range(_MOST_ROUNDS):
            found = self._look(document)
            if found is None or found.taken <= most_bytes:
                return
            may_go = found.passing[: max(0, len(found.passing) - self._limits.min_checkpoints)]
            number = retention.number_too_large(found.names, may_go, found.sizes, most_bytes)
            if not number:
                self._problems.append(
                    f"the checkpoints of workflow {document.id!r} take {found.taken:,} bytes, more than the "
                    f"{most_bytes:,} of a workflow, and none of them may go"
                )
                return
            self._remove(found, may_go[:number])

    def _keep_budget(self) -> None:
        """By what the store may take: the oldest of all workflows go."""
        budget = self._limits.max_store_size * _MEGABYTE
        for _ in range(_MOST_ROUNDS):
            workflows = list(self._workflows())
            over = sum(each.taken for each in workflows) - budget
            may_go = {
                name: each
                for each in workflows
                for name in each.passing[: max(0, len(each.passing) - self._limits.min_checkpoints)]
                if name in each.sizes
            }
            if over <= 0 or not may_go:
                return
            going: dict[DocumentId, list[str]] = {}
            for name in sorted(may_go, key=checkpoint_ids.time_us):
                if over <= 0:
                    break
                over -= may_go[name].sizes[name]
                going.setdefault(may_go[name].document, []).append(name)
            for each in workflows:
                if each.document in going:
                    self._remove(each, going[each.document])

    def _remove(self, found: _Workflow, names: list[str]) -> None:
        """Take checkpoints from a workflow."""
        document = found.document

        def work(tx: Transaction) -> None:
            for name in names:
                tx.delete(CHECKPOINT + name)
                tx.delete(ADOPTED + name)

        if names and not self._dry_run:
            before = self._store.log_bytes(document) + found.taken
            try:
                prepared.submit(self._store, Change(document, work, clock.new_id("op"), "cleanup"))
                self._store.reclaim(document)
            except WaypostError as error:
                self._note(document, error)
                return
            after = self._store.log_bytes(document) + sum(self._store.checkpoint_bytes(found.names).values())
            self._freed += max(0, before - after)
        self._deleted.update((name, found.sizes.get(name, 0)) for name in names)
