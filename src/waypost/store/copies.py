"""What is said of copies of a store: what a backup holds, and what restoring one has replaced."""

from __future__ import annotations

from dataclasses import dataclass

from waypost.store.kinds import Kind


@dataclass(slots=True, frozen=True)
class BackedUp:
    """One document in a backup: its version, and the file that holds it.

    `commit_id` and `sha256` are in hex; `generation` counts how often the file was written anew.
    """

    kind: Kind
    id: str
    version: int
    commit_id: str
    generation: int
    file: str
    size_bytes: int
    sha256: str


@dataclass(slots=True, frozen=True)
class BackedUpFile:
    """A file in a backup beside the logs; `sha256` is in hex."""

    file: str
    size_bytes: int
    sha256: str


@dataclass(slots=True, frozen=True)
class Backup:
    """A backup: where it is, when it was made (UTC, ISO text), and what it holds."""

    location: str
    made: str
    documents: tuple[BackedUp, ...]
    checkpoints: tuple[BackedUpFile, ...] = ()


@dataclass(slots=True, frozen=True)
class Restored:
    """A backup that was restored: how many documents it held, and where what they replaced is kept in the store.

    `taken_back` names the documents of which the store held something that the backup does not.
    """

    location: str
    source: str
    documents: int
    replaced: str
    taken_back: tuple[str, ...]
