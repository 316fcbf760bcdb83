"""Which checkpoints go when there are too many: the oldest of those that were made in passing, never another.

In passing are those of which nobody said that they matter: not of the type `manual`, and without a tag that protects.
Their ids say so. The commit that makes one takes away the oldest, by number and age; what it knows of the others is
remembered from commit to commit, and may be behind by a moment: then there are some too many for that long.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice, takewhile

from waypost import checkpoint_ids, clock
from waypost.options import RetentionConfig
from waypost.records import ADOPTED, ADOPTIONS, CHECKPOINT
from waypost.store import DocumentId, Transaction

PROTECTING_TAGS = frozenset({"milestone", "release", "backup", "stable"})
_MEGABYTE = 1 << 20
_DAY_US = 24 * 3600 * 1_000_000
_KNOWN_FOR_S, _SHARE = 1.0, 50
"""For so long what is known counts, and so many times as long as it took to look: a look goes through all of them."""
_KNOWN_AT_MOST_S = 5.0
"""A look may have taken long for a medium that stalled once, and until the next one what others make is not counted."""
_OTHERS_US = 2_000_000
"""For so long a checkpoint is left to its own process: several that clear up the same would get in each other's way."""
_MOST_WORKFLOWS = 64
_MOST_TAKEN = 256
"""So many are remembered; of what a larger batch took the next look tells."""


def is_passing(type: str, tags: Iterable[str]) -> bool:
    """Whether a checkpoint may go when there are too many."""
    return type != "manual" and PROTECTING_TAGS.isdisjoint(tags)


def excess(passing: Sequence[str], limits: RetentionConfig, now_us: int) -> list[str]:
    """Those of the passing checkpoints of a workflow, sorted, that are too many or too old, the oldest first."""
    may_go = passing[: max(0, len(passing) - limits.min_checkpoints)]
    too_many = max(0, len(passing) - limits.max_checkpoints)
    return list(may_go[: max(too_many, _number_too_old(may_go, limits, now_us))])


def _number_too_old(may_go: Iterable[str], limits: RetentionConfig, now_us: int) -> int:
    oldest_us = now_us - limits.max_age_days * _DAY_US
    return sum(1 for _ in takewhile(lambda name: checkpoint_ids.time_us(name) < oldest_us, may_go))


def number_too_large(names: Iterable[str], passing: Sequence[str], sizes: Mapping[str, int], most_bytes: int) -> int:
    """How many of the passing checkpoints, the oldest first, have to go for all to take no more than so many bytes."""
    taken = sum(sizes.get(name, 0) for name in names)
    number = 0
    while taken > most_bytes and number < len(passing):
        taken -= sizes.get(passing[number], 0)
        number += 1
    return number


class _Known:
    """The checkpoints of a workflow that may go, as far as they are known, and until when that counts."""

    __slots__ = ("adopted", "names", "none_too_old_before_us", "seen_version", "taken", "to_go", "until")

    def __init__(self, names: Sequence[str], adopted: set[str], too_large: int, max_age_us: int, began: float) -> None:
        self.names = deque(names)
        oldest_us = checkpoint_ids.time_us(names[0]) if names else clock.now_us()
        self.none_too_old_before_us = oldest_us + max_age_us
        """Names leave at the front and come at the end, so that the first is the oldest for as long as this counts."""
        self.adopted = adopted
        """Those of them that no commit of this history made: they came with a merge."""
        self.to_go = too_large
        """How many of them have to go for what checkpoints may take on the medium, or as their turn had come before."""
        self.taken: deque[str] = deque(maxlen=_MOST_TAKEN)
        """What was taken away, the newest last: it may turn out that the commit which did so came to nothing."""
        self.seen_version = 0
        """That of the transaction that looked last."""
        now = time.monotonic()
        self.until = now + min(max(_KNOWN_FOR_S, _SHARE * (now - began)), _KNOWN_AT_MOST_S)

    def put_back_what_stayed(self, tx: Transaction) -> None:
        """Take those in again that are there still, since the commit that took them away came to nothing."""
        came_to_nothing = bool(self.taken) and (
            tx.version <= self.seen_version or tx.size_of(self.key(self.taken[-1])) is not None
        )
        self.seen_version = tx.version
        if came_to_nothing:  # of all that was tried together, since others of a batch may have taken some before
            stayed = [name for name in self.taken if tx.size_of(self.key(name)) is not None]
            self.names = deque(sorted([*stayed, *self.names]))
            self.to_go += len(stayed)
            self.taken = deque((name for name in self.taken if name not in stayed), _MOST_TAKEN)

    def key(self, name: str) -> str:
        return (ADOPTED if name in self.adopted else CHECKPOINT) + name


class Retention:
    """Takes old checkpoints away in the commits that make new ones. Several threads may be in here, each for a workflow
    of its own, and there is no lock, since a fork would copy it as it is held.
    """

    def __init__(self, limits: RetentionConfig, sizes: Callable[[Iterable[str]], Mapping[str, int]]) -> None:
        self._limits = limits
        self._sizes = sizes
        self._known: dict[DocumentId, _Known] = {}

    def forget(self, document: DocumentId) -> None:
        """Look again at what checkpoints a workflow has."""
        self._known.pop(document, None)

    def make_room(self, tx: Transaction, made: str) -> None:
        """Take those away that are too many now that one more was made, which is staged already."""
        known = self._look(tx)
        known.put_back_what_stayed(tx)
        names = known.names
        # what was tried and not committed, or belongs to a run of this work that came to nothing, does not count
        while names and names[-1] != made and tx.size_of(known.key(names[-1])) is None:
            names.pop()
        if not names or names[-1] < made:
            names.append(made)
        now_us = clock.now_us()
        may_go = max(0, len(names) - self._limits.min_checkpoints)
        number = max(len(names) - self._limits.max_checkpoints, known.to_go)
        if now_us >= known.none_too_old_before_us:
            number = max(number, _number_too_old(islice(names, may_go), self._limits, now_us))
        left: list[str] = []
        for _ in range(min(number, may_go)):
            name = names.popleft()
            # one from a time to come was made before the clock was put back, maybe long ago
            is_fresh = abs(now_us - checkpoint_ids.time_us(name)) <= _OTHERS_US
            if checkpoint_ids.is_of_this_process(name) or not is_fresh:
                tx.delete(known.key(name))
                known.taken.append(name)
                known.to_go = max(0, known.to_go - 1)
            else:
                left.append(name)
        names.extendleft(reversed(left))

    def _look(self, tx: Transaction) -> _Known:
        known, began = self._known.get(tx.document), time.monotonic()
        if known is not None and began < known.until:
            return known
        adopted = {name for name in _named(tx, ADOPTED) if checkpoint_ids.is_passing(name) and _is_own(tx, name)}
        names = sorted([*_named(tx, CHECKPOINT), *adopted])
        passing = [name for name in names if checkpoint_ids.is_passing(name)]
        most_bytes = self._limits.max_workflow_size * _MEGABYTE
        too_large = number_too_large(names, passing, self._sizes(names), most_bytes)
        known = _Known(passing, adopted, too_large, self._limits.max_age_days * _DAY_US, began)
        if len(self._known) >= _MOST_WORKFLOWS:
            self._known = {}
        self._known[tx.document] = known
        return known


def _named(tx: Transaction, prefix: str) -> list[str]:
    return [key.removeprefix(prefix) for key in tx.unwatched_keys(prefix)]


def _is_own(tx: Transaction, name: str) -> bool:
    """Whether a checkpoint that the workflow has adopted was not imported: whoever imported one wanted it."""
    record = ADOPTIONS.get(tx, ADOPTED + name)
    return record is not None and not record.imported
