"""What differs between two versions: of one workflow, or of two.

Parts are compared by their bytes, and only those that differ are decoded; then values are gone into, by key and by
index. A dictionary counts as the same whatever the order of its keys, and types count: 1, 1.0 and True differ. What
tells of the workflow's own past (sessions, checkpoints) is none, so that a version that was gone back to has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

from msgspec import UNSET, Struct, UnsetType

from waypost import places, records
from waypost.codec import paths, values
from waypost.places import ABSENT, ErasedValue, LargeValue, Root, SealedValue
from waypost.store import View, parts


class Difference(Struct, frozen=True):
    """What is at one path in one version and otherwise, or not, in the other.

    `before` is UNSET for what was added, `after` for what was removed. Objects of registered types are `Unregistered`,
    a `LargeValue` stands for an output that is read in chunks, a `SealedValue` for a secret, which is never opened
    here, and an `ErasedValue` for what was erased.
    """

    kind: Literal["added", "removed", "changed"]
    path: str
    before: Any | UnsetType = UNSET
    after: Any | UnsetType = UNSET


class WorkflowDiff(Struct, frozen=True, kw_only=True):
    """What leads from one version to another: `before` and `after` are `workflow@version`.

    What was added or removed whole is one change. Of the order of the steps there is a change if steps that both have
    stand otherwise, or others not behind them.
    """

    before: str
    after: str
    changes: Sequence[Difference]

    def __iter__(self) -> Iterator[Difference]:
        return iter(self.changes)

    def __len__(self) -> int:
        return len(self.changes)


def compare(a: View, b: View) -> list[Difference]:
    """What leads from one version to another, in the order of the places. Raises DocumentDamaged."""
    found: list[Difference] = []
    if a.checksum == b.checksum:
        return found
    for root in sorted(_differing(a, b), key=places.position):
        before, after = places.value(a.get, root), places.value(b.get, root)
        if root != places.ORDER or _is_reordered(before, after):
            _collect(paths.of_keys(*root), before, after, found, whole=root == places.ORDER)
    return found


def differences(before: Any, after: Any) -> list[Difference]:
    """What differs between two values."""
    found: list[Difference] = []
    _collect([], before, after, found)
    return found


def _differing(a: View, b: View) -> set[Root]:
    """The roots of all parts that are not the same."""
    found: set[Root] = set()
    outputs: set[Root] = set()
    for key in a.differing(b):
        if key.startswith(records.VALUE):
            continue  # its record has the checksum of what stands in it
        if a.size_of(key) == b.size_of(key) and _is_same_part(a, b, key):
            continue
        root = places.root_of(key)
        if root[0] in places.BOOKKEEPING:
            continue
        if root[0] == "steps":
            outputs.add(places.output_root(root[1]))
        if root[0] == "outputs":
            outputs.add(root)
        else:
            found.add(root)
    found.update(root for root in outputs if places.output_stamp(a.get, root) != places.output_stamp(b.get, root))
    return found


def _is_same_part(a: View, b: View, key: str) -> bool:
    if a.erased(key) is None and b.erased(key) is None:
        return a.get(key) == b.get(key)
    return _digest(a, key) == _digest(b, key)


def _digest(view: View, key: str) -> bytes:
    found = view.erased(key)
    if found is None:
        found = parts.part_checksum(key.encode(), view.get(key) or b"").to_bytes(32, "big")
    return found


def _is_reordered(before: Any, after: Any) -> bool:
    """Whether two orders differ by more than that steps were added at the end, or taken away."""
    if before is ABSENT or after is ABSENT:
        return True
    here, there = set(before), set(after)
    left = [each for each in before if each in there]
    right = [each for each in after if each in here]
    return left != right or before[: len(left)] != left or after[: len(right)] != right


def _collect(steps: list[str], before: Any, after: Any, found: list[Difference], *, whole: bool = False) -> None:
    if before is ABSENT:
        if after is not ABSENT:
            found.append(Difference("added", paths.written(steps), after=after))
        return
    if after is ABSENT:
        found.append(Difference("removed", paths.written(steps), before=before))
        return
    left = None if whole or type(before) is not type(after) else paths.children(before)
    right = None if left is None else paths.children(after)
    if left is None or right is None:
        if not _is_same(before, after):
            found.append(Difference("changed", paths.written(steps), before, after))
        return
    for step, item in left.items():
        _collect([*steps, step], item, right.get(step, ABSENT), found)
    for step, item in right.items():
        if step not in left:
            _collect([*steps, step], ABSENT, item, found)


_PLAIN = frozenset({type(None), bool, int, str, bytes, LargeValue, SealedValue, ErasedValue})


def _is_same(before: Any, after: Any) -> bool:
    if type(before) is not type(after):
        return False
    if type(before) is dict:  # one with a key that no step leads to
        left, right = _by_encoded_keys(cast("dict[object, Any]", before)), _by_encoded_keys(after)
        return left.keys() == right.keys() and not any(differences(item, right[key]) for key, item in left.items())
    # the rest has bytes that tell what == does not: of NaN, of zeros, of moments
    return before == after if type(before) in _PLAIN else values.encode(before) == values.encode(after)


def _by_encoded_keys(given: dict[object, Any]) -> dict[bytes, Any]:
    """The items of a dictionary, by what tells 1, 1.0 and True apart."""
    return {values.encode(key): item for key, item in given.items()}
