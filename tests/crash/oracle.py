"""What must hold of a store after any crash.

All that was promised is there. What is there is what was attempted, in its order, with no hole and nothing invented.
Reading changes nothing; opening for writing shows the same; a write afterwards works and stays; and `verify` finds no
damage, and after a clean close nothing at all to clear away.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

from tests.crash.simulated import BASE, Machine, Tree, running_on
from tests.store.support import TestedStore, change
from waypost import clock, config
from waypost.errors import StoreNotFound, WaypostError
from waypost.store import Change, DocumentId, Transaction, View
from waypost.store.contract import ADOPTED, CHECKPOINT
from waypost.store.directory import checkpoints
from waypost.store.memory import MemoryStore
from waypost.store.reports import Finding

MADE = 0
"""The number of the promise that there is a store."""
NEW = DocumentId("workflow", "new")

Parts = dict[str, bytes | None]
Changes = dict[DocumentId, Parts]
"""For each document its parts; None removes one."""


_boots = count(1)


class Wrong(AssertionError):
    """A state of the disk on which the store breaks a promise."""


class Standing(NamedTuple):
    """What had been attempted by some moment, given up, and promised."""

    tried: frozenset[int]
    failed: frozenset[int]
    promised: frozenset[int]


@lru_cache
def configuration(options: tuple[tuple[str, Any], ...]) -> config.Config:
    sections: dict[str, dict[str, Any]] = {}
    for name, value in options:
        section, _, option = name.partition(".")
        sections.setdefault(section, {})[option] = value
    return config.load("production", sections, environment={})


def open_store(path: str, options: dict[str, Any], *, create: bool = True, read_only: bool = False) -> TestedStore:
    """Open a store; options by their full name."""
    loaded = configuration(tuple(options.items()))
    store = TestedStore.open(path, loaded, create=create and not read_only, read_only=read_only)
    assert isinstance(store, TestedStore)
    return store


def key_of(number: int) -> str:
    """The part that tells that an attempt is there."""
    return f"attempt{number}"


def parts_of(view: View) -> dict[str, bytes | None]:
    return {key: view.get(key) for key in view.keys()}


class Story:
    """What a workload attempts, by number, in the order of the log."""

    def __init__(self) -> None:
        self.attempts: dict[int, Changes] = {}

    def up_to(self, standing: Standing) -> Story:
        """The story as far as it went."""
        story = Story()
        story.attempts = {number: changes for number, changes in self.attempts.items() if number in standing.tried}
        return story

    def documents(self, standing: Standing) -> list[DocumentId]:
        return sorted({document for number in standing.tried for document in self.attempts.get(number, {})})

    def present(self, document: DocumentId, view: View) -> set[int]:
        """The attempts on a document that are there."""
        return {
            number
            for number, changes in self.attempts.items()
            if document in changes and view.get(key_of(number)) is not None
        }

    def judge(self, views: dict[DocumentId, View], standing: Standing) -> None:
        """Raise Wrong unless the views are what a crash at that standing may leave."""
        found = {document: self.present(document, view) for document, view in views.items()}
        for document, view in views.items():
            self._judge_one(document, view, found[document], standing)
        for number in standing.tried:
            there = {document: number in found[document] for document in self.attempts.get(number, {})}
            if len(set(there.values())) > 1:
                raise Wrong(f"attempt {number} is there in part: {there}")

    def _judge_one(self, document: DocumentId, view: View, present: set[int], standing: Standing) -> None:
        mine = [number for number in self.attempts if document in self.attempts[number]]
        for number in mine:
            if number in standing.promised and number not in present:
                raise Wrong(f"attempt {number} on {document.id} was promised and is lost")
            if number not in present and number not in standing.failed and any(each > number for each in present):
                raise Wrong(f"attempt {number} on {document.id} is missing between others: {sorted(present)}")
            if number in present and number not in standing.tried:
                raise Wrong(f"attempt {number} on {document.id} was not made yet")
        if parts_of(view) != self._parts(document, present):
            raise Wrong(f"{document.id} does not hold what was put into it")
        if view.version != len(present):
            raise Wrong(f"{document.id} has version {view.version} of {len(present)} commits")

    def _parts(self, document: DocumentId, present: Iterable[int]) -> dict[str, bytes | None]:
        """What a document holds when these attempts on it are there."""
        expected: dict[str, bytes | None] = {}
        for number in sorted(present):
            expected.update(self.attempts[number][document])
        return {key: value for key, value in expected.items() if value is not None}

    def judge_checkpoints(self, store: TestedStore, documents: Iterable[DocumentId]) -> None:
        """Raise Wrong unless each document has the checkpoints that it speaks of, and each is what it was when made."""
        for document in documents:
            view = store.view(document)
            present = self.present(document, view)
            for key in view.keys(CHECKPOINT):
                name = key.removeprefix(CHECKPOINT)
                kept = store.checkpoint(document, name)
                made = [number for number in present if number <= int(name)]
                if kept is None or parts_of(kept) != self._parts(document, made) or kept.version != len(made):
                    raise Wrong(f"checkpoint {name} of {document.id} is not what it was")

            for key in view.keys(ADOPTED):
                name = key.removeprefix(ADOPTED)
                kept, version = store.checkpoint(document, name), imported(document, name)
                if kept is None or (parts_of(kept), kept.commit_id) != (parts_of(version), version.commit_id):
                    raise Wrong(f"checkpoint {name} of {document.id} is not what was imported")


@lru_cache
def imported(document: DocumentId, name: str) -> View:
    """What another store has kept as the checkpoint of that name."""
    store = MemoryStore()

    def work(tx: Transaction) -> None:
        tx.put("from elsewhere", name.encode())
        tx.put("large", random.Random(name).randbytes(6000))

    store.submit(Change(document, work, name, "elsewhere")).result()
    return store.view(document)


@contextmanager
def after_reboot() -> Iterator[None]:
    """The kernel is another one, so a lease of before is nobody's."""
    before, boot = clock.boot_id, f"boot {next(_boots)}"
    clock.boot_id = lambda: boot
    try:
        yield
    finally:
        clock.boot_id = before


def examine(tree: Tree, path: str, story: Story, standing: Standing, options: dict[str, Any]) -> None:
    """Open, read, write and verify the store that a crash left in a tree. Raises Wrong."""
    machine = Machine(tree.copy())
    with running_on(machine), after_reboot():
        try:
            _examine(machine, BASE + path, story, standing, options)
        except WaypostError as error:
            raise Wrong(f"{type(error).__name__}: {error}") from error


def _examine(machine: Machine, path: str, story: Story, standing: Standing, options: dict[str, Any]) -> None:
    documents = story.documents(standing)
    before = machine.tree.fingerprint()
    seen = _look(path, story, standing, options, documents)
    if machine.tree.fingerprint() != before:
        raise Wrong("reading changed something")
    store = open_store(path, options)
    if not set(store.claimed("session")) <= set(store.documents("session")):
        raise Wrong("a claim is left of what was never made")
    views = {document: store.view(document) for document in documents}
    if seen is not None and seen != {document: view.commit_id for document, view in views.items()}:
        raise Wrong("opened for writing it shows something else")
    story.judge(views, standing)
    story.judge_checkpoints(store, documents)
    written = documents or [NEW]
    for document in written:
        store.submit(change(document, lambda tx: tx.put("more", b"more"))).result()
    store.close()
    again = open_store(path, options, read_only=True)
    for document in written:
        expected = {**(parts_of(views[document]) if document in views else {}), "more": b"more"}
        if parts_of(again.view(document)) != expected:
            raise Wrong("opened again it shows something else")
    findings = [found for found in again.verify().findings if found.severity != "note" and not _may_stay(found)]
    again.close()
    if findings:
        raise Wrong(f"after recovery: {findings}")


def _may_stay(found: Finding) -> bool:
    """Whether it is a file of a checkpoint that is gone: whoever removed it died, and the next compaction clears up."""
    return found.severity == "leftover" and found.file.endswith(checkpoints.SUFFIX)


def _look(
    path: str, story: Story, standing: Standing, options: dict[str, Any], documents: list[DocumentId]
) -> dict[DocumentId, bytes] | None:
    """Read only; the commit ids, or None when there is no store and nothing was promised."""
    try:
        store = open_store(path, options, read_only=True)
    except StoreNotFound:
        if standing.promised:
            raise
        return None
    views = {document: store.view(document) for document in documents}
    story.judge(views, standing)
    story.judge_checkpoints(store, documents)
    damage = [found for found in store.verify().findings if found.severity == "damage"]
    ids = {document: view.commit_id for document, view in views.items()}
    store.close()
    if damage:
        raise Wrong(f"{damage}")
    return ids
