"""What verifying a store came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Severity = Literal["damage", "torn tail", "unreadable", "leftover", "note"]


class Finding(NamedTuple):
    """Something that is not as in a store that was closed cleanly.

    `damage`: bytes that were acknowledged are not what they were. `torn tail`: bytes that no sync is on record for.
    `unreadable`: a file that this process may not or cannot read, or this release cannot. `leftover`: a file of a
    process that died, or one that nothing speaks of. `note`: nothing wrong (a log that is open, bytes moved aside).
    `file` names what it is about: a file, or a document where a store has none.
    """

    severity: Severity
    file: str
    offset: int | None
    text: str


@dataclass(slots=True)
class Verification:
    """What was read, and what was found. `sound` when all was read, and no byte that was acknowledged is amiss."""

    location: str
    documents: int = 0
    frames: int = 0
    commits: int = 0
    snapshots: int = 0
    size_bytes: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])

    @property
    def sound(self) -> bool:
        return not any(found.severity in ("damage", "torn tail", "unreadable") for found in self.findings)
