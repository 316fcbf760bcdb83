"""What documents there are."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["workflow", "session", "thread"]
"""A *thread* is what an adapter keeps of a conversation of another framework (docs/adapters.md)."""
KINDS: tuple[Kind, ...] = ("workflow", "session", "thread")


class DocumentId(NamedTuple):
    """Names a document: what kind it is of, and its id as the user gave it."""

    kind: Kind
    id: str
