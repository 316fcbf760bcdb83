"""Which checkpoint comes behind which: looked up alone as among all, and without going through all."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.seeds import SEED
from waypost import lineage, records
from waypost.checkpoint_ids import _digits  # pyright: ignore[reportPrivateUsage]
from waypost.records import ADOPTED, CHECKPOINT, RESTORED, AdoptedRecord, CheckpointRecord
from waypost.store import DocumentId
from waypost.store.versions import Version

RECORD = CheckpointRecord("manual", "", (), 1)


class Counting(Version):
    """A version that counts the keys which were asked for."""

    seen = 0

    def keys(self, prefix: str = "") -> Iterator[str]:
        for key in super().keys(prefix):
            self.seen += 1
            yield key


def name_of(at_us: int, workflow: str = "w", process: str = "abc") -> str:
    return f"{workflow}@c{_digits(at_us, 11)}{process}m"


def version_of(parts: dict[str, object]) -> Counting:
    version = Counting(DocumentId("workflow", "w"))
    version.parts = {key: records.encode(part) for key, part in parts.items()}
    return version


def any_history(rng: random.Random) -> dict[str, object]:
    """Checkpoints made close together and far apart, some adopted or imported, and turns back to some, also lost."""
    parts: dict[str, object] = {}
    names: list[str] = []
    at_us = 1_700_000_000_000_000
    for _ in range(rng.randrange(1, 60)):
        at_us += rng.choice([1, 40, 900, 30_000, 2_000_000, 10**9, 10**12, 10**14])
        workflow = rng.choice(["w", "w", "w", "v", "x", "a name"])
        name = name_of(at_us, workflow, rng.choice(["abc", "zzz"])) if rng.random() < 0.9 else f"{rng.random()}"
        kind = rng.choice([CHECKPOINT, CHECKPOINT, CHECKPOINT, ADOPTED, RESTORED, "both", "lost"])
        if kind in (CHECKPOINT, "both"):
            parts[CHECKPOINT + name] = RECORD
        elif kind == ADOPTED:
            imported = rng.random() < 0.5
            parent = rng.choice([None, *names])
            parts[ADOPTED + name] = AdoptedRecord("manual", "", (), 1, None, imported, parent)
        if kind in (RESTORED, "both"):
            parts[RESTORED + name] = rng.choice(names) if names else "w@cunknown"
        names.append(name)
    return parts


def test_one_looked_up_alone_has_the_parent_that_it_has_among_all() -> None:
    """Whatever was made, adopted, imported, lost and gone back to in between."""
    rng = random.Random(SEED)
    compared = 0
    for _ in range(400):
        version = version_of(any_history(rng))
        way = lineage.way(version, lineage.names_in(version))
        for name in lineage.names_in(version):
            assert lineage.parent_of(version, name) == lineage.parent_of(version, name, way), (SEED, name)
            compared += 1
    assert compared > 4_000


def test_looking_one_up_does_not_go_through_all() -> None:
    """Of 5,000 checkpoints, be they a hundredth of a second or an hour apart, some hundred are looked at on average."""
    for apart_us in (10_000, 1_000_000, 3_600_000_000):
        names = [name_of(1_700_000_000_000_000 + number * apart_us) for number in range(5_000)]
        version = version_of({CHECKPOINT + name: RECORD for name in names})
        asked = range(1, len(names), 97)
        for number in asked:
            assert lineage.parent_of(version, names[number]) == names[number - 1]
        assert version.seen / len(asked) < 500, apart_us
