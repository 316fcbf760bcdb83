"""What a bundle holds: documents with their past, in terms that every store knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from waypost.store.kinds import DocumentId
from waypost.store.pasts import Past
from waypost.store.views import View

Progress = Callable[[int, int], object]
"""Told how much of how much is done, in bytes."""


class Whole(NamedTuple):
    """A document with all that is known of it.

    `kept` gives the versions of checkpoints whose commits are not in the past any more, by name; `version_at(version)`
    one of those that the past reaches back to.
    """

    document: DocumentId
    past: Past
    kept: Mapping[str, Callable[[], View]]
    version_at: Callable[[int], View | None]


class Bundle(NamedTuple):
    """A session as it travels: its own document first, then its workflows."""

    session_id: str
    documents: list[Whole]


class Written(NamedTuple):
    """What was written as a bundle."""

    size_bytes: int
    sha256: str
