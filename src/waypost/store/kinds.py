"""What documents there are."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["workflow", "session"]
KINDS: tuple[Kind, ...] = ("workflow", "session")


class DocumentId(NamedTuple):
    """Names a document: what kind it is of, and its id as the user gave it."""

    kind: Kind
    id: str
