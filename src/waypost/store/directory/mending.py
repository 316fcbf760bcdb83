"""What a repair did, and how it takes things out of the way: into `damaged/`, since nothing is deleted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeVar

from waypost.errors import StoreUnavailable
from waypost.store.directory.context import Context
from waypost.store.directory.files import Directory, File
from waypost.store.directory.layout import Layout, new_file, replace
from waypost.store.directory.log import Log
from waypost.store.directory.salvage import KeyRange, Span
from waypost.store.kinds import Kind

Action = Literal[
    "written anew", "cut", "renamed", "moved aside", "made", "closed to others", "taken out", "adopted", "left"
]
ASIDE = "damaged"
LEFT_BEHIND = "was being written by a process that died"
F = TypeVar("F")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """One file that was not as it should be: what was found, what became of it, and where its bytes are now.

    For a log: `kept_version` is the version that its document has afterwards; `newest_version` the newest that left
    a trace in the log, so that those behind the kept one are lost. With `is_exact` the kept version is one that was
    committed; else it is a new one that lacks `lost_parts` (keys whose values are gone) and whatever was in
    `lost_keys` (ranges: from, up to but without). `lost_changes` are the keys that lost commits changed, as far as
    those can still be read in the original. Versions before `history_from` cannot be looked at any more.
    `lost_bytes` are the stretches of the original file in which nothing is whole.
    """

    file: str
    found: str
    action: Action
    original: str | None = None
    kind: Kind | None = None
    id: str | None = None
    kept_version: int | None = None
    newest_version: int | None = None
    history_from: int | None = None
    is_exact: bool = True
    kept_parts: int = 0
    lost_parts: tuple[str, ...] = ()
    lost_keys: tuple[KeyRange, ...] = ()
    lost_changes: tuple[str, ...] = ()
    lost_bytes: tuple[Span, ...] = ()


@dataclass(slots=True)
class RepairReport:
    """What a repair did, or with `dry_run` would do, file by file; empty where there was nothing to mend."""

    location: str
    dry_run: bool
    repaired: list[Repaired] = field(default_factory=list[Repaired])

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left that this release cannot mend."""
        return all(each.action != "left" for each in self.repaired)


class Without(Directory):
    """A directory as it would be without some names. For reading only."""

    __slots__ = ("_hidden",)

    def __init__(self, whole: Directory, hidden: set[str]) -> None:
        super().__init__(whole.descriptor, whole.path)
        whole.descriptor = -1
        self._hidden = hidden

    def open(self, name: str, *, write: bool = False, create: bool = False, exclusive: bool = False) -> File | None:
        if name in self._hidden:
            return None
        return super().open(name, write=write, create=create, exclusive=exclusive)

    def names(self) -> list[str]:
        return [name for name in super().names() if name not in self._hidden]

    def _look(self, name: str, call: Callable[..., F]) -> F | None:
        return None if name in self._hidden else super()._look(name, call)


class Mender:
    """Mends files of one store, and keeps a report of it. A dry one only reports."""

    def __init__(self, layout: Layout, context: Context, report: RepairReport) -> None:
        self.layout = layout
        self.context = context
        self.report = report
        self.is_dry = report.dry_run

    def note(self, folder: Directory, name: str, found: str, action: Action, original: str | None = None) -> None:
        shown = f"{folder.path}/{name}".removeprefix(f"{self.layout.path}/")
        self.report.repaired.append(Repaired(file=shown, found=found, action=action, original=original))

    def aside(self) -> Directory:
        return self.layout.folder(ASIDE)

    def move_aside(self, folder: Directory, name: str, found: str) -> None:
        """Take an entry out of the way, whatever it is. A file loses its name once the other one is durable: a rename
        is two names, of which a power cut may keep neither. What can have only one is renamed.
        """
        original = None
        if not self.is_dry:
            aside, kept = self.aside(), None
            if folder.kind(name) == "file":
                with suppress(StoreUnavailable):  # it may be another user's
                    kept = self._second_name(folder, name)
            moved = kept or self._renamed(folder, name)
            aside.sync()
            if kept is not None:
                folder.remove(name)
            folder.sync()
            original = f"{ASIDE}/{moved}"
        self.note(folder, name, found, "moved aside", original)

    def _renamed(self, folder: Directory, name: str) -> str:
        aside, number = self.aside(), 1
        while aside.kind(f"{name}.{number}") is not None:
            number += 1
        folder.move(name, aside, f"{name}.{number}")
        return f"{name}.{number}"

    def keep(self, folder: Directory, name: str) -> str:
        """Give a file that is about to be replaced a second name in `damaged`; the name."""
        kept = self._second_name(folder, name)
        self.aside().sync()
        return kept

    def _second_name(self, folder: Directory, name: str) -> str:
        aside, number = self.aside(), 1
        here = folder.identity(name)
        while not folder.link(name, aside, f"{name}.{number}"):
            there = aside.identity(f"{name}.{number}")
            if there is not None and here is not None and there[:2] == here[:2]:
                break  # a repair that was cut off has kept it already
            number += 1
        return f"{name}.{number}"

    def put_in_place(self, log: Log, entry: Repaired, write: Callable[[File], None] | None, **more: list[str]) -> None:
        """Put what `write` writes in a log's place, durably, or nothing; the old one goes aside with its report, which
        says `more` to later repairs.
        """
        if self.is_dry:
            self.report.repaired.append(entry)
            return
        temp = self.layout.folder("temp")
        temporary, file = new_file(self.layout)
        try:
            if write is not None:
                write(file)
                file.sync_all()
            kept = self.keep(log.folder, log.name)
            entry = dataclasses.replace(entry, original=f"{ASIDE}/{kept}")
            told = json.dumps({**asdict(entry), **more}, indent=2, sort_keys=True)
            replace(self.layout, self.aside(), f"{kept}.json", told.encode() + b"\n")
            if write is not None:
                temp.move(temporary, log.folder, log.name)
            else:
                log.folder.remove(log.name)  # its other name is the one in `damaged`
            log.folder.sync()
        finally:
            temp.remove(temporary)
        self.report.repaired.append(entry)
