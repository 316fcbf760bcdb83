"""What was decided of two lines as a commit that is the same on both sides (docs/sync.md, section 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from waypost import clock
from waypost.errors import DocumentDamaged
from waypost.lines import Line, Touch, projection
from waypost.merging import digest_in
from waypost.store import Commit, Pieces, View, commits, parts
from waypost.store.pasts import Merge
from waypost.uniting import Decided, Sides, Union

_INLINE_BYTES = 64 * 1024
"""The content of a merge names values that are longer by their digests."""


def differing(one: View, other: View) -> set[str]:
    """The keys of all parts in which two versions differ."""
    keys = {*one.keys(), *other.keys()}
    return {key for key in keys if one.size_of(key) != other.size_of(key) or _digest(one, key) != _digest(other, key)}


def _digest(view: View, key: str) -> bytes | None:
    return None if view.size_of(key) is None else digest_in(view, key)


class Merged:
    """A document as it will be; fulfils `erasures.Parts`."""

    def __init__(self, sides: Sides, union: Union) -> None:
        self._view = sides.ours
        self._decided = union.decided

    def get(self, key: str) -> bytes | None:
        return self._decided[key].get(key) if key in self._decided else self._view.get(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        kept = {key for key in self._view.keys(prefix) if key not in self._decided}
        kept.update(
            key for key, each in self._decided.items() if key.startswith(prefix) and each.length(key) is not None
        )
        return iter(sorted(kept))


def commit_of(sides: Sides, union: Union, operation: str, *, is_whole: bool) -> Commit:
    """The merge of two lines. Where they are whole it may follow every commit of them, and all of their parts have to
    be decided; else the two newest.
    """
    decided = dict(sorted(union.decided.items()))
    puts = {key: length for key, each in decided.items() if (length := each.length(key)) is not None}
    digests: dict[str, bytes] = {}
    for key, length in puts.items():
        if length > _INLINE_BYTES:
            digest = decided[key].digest(key)
            assert digest is not None
            digests[key] = digest
    commit = Commit(
        version=0,
        commit_id=b"",
        time_us=max(clock.now_us(), sides.ours.time_us + 1, sides.theirs.time_us + 1),
        operation_id=clock.new_id("op"),
        operation=operation,
        session=None,
        agent=None,
        cleared=False,
        puts=puts,
        removed=[key for key in decided if key not in puts],
        joint=None,
        read=_reader(decided),
        pieces=_by_pieces(decided),
        digests=digests,
        projection=projection(_origins(sides, decided)),
        size_bytes=_size(sides.ours, decided),
        checksum=_checksum(sides.ours, decided),
        merge=_merge(sides, is_whole=is_whole),
    )
    return commit._replace(commit_id=commits.id_of(sides.ours.commit_id, commits.body_of(commit)))


def _origins(sides: Sides, decided: dict[str, Decided]) -> dict[str, Touch]:
    """Whose change each part is that is as one of the sides has it; of the others the merge is the last change."""
    found: dict[str, Touch] = {}
    for key, each in decided.items():
        if each.view is None or (each.view is not sides.ours and each.view is not sides.theirs):
            continue
        touches = [sides.line_of(each.view).touched.get(key)]
        if touches[0] is None:  # it is the same on both
            touches = [line.touched.get(key) for line in (sides.our_line, sides.their_line)]
        told = [touch for touch in touches if touch is not None]
        if told:
            found[key] = max(told)
    return found


def _merge(sides: Sides, *, is_whole: bool) -> Merge:
    parents = sorted((sides.ours.commit_id, sides.theirs.commit_id))
    lines: tuple[Line, Line] = (sides.our_line, sides.their_line)
    known = {each for line in lines for each in line.ids}
    behind = known | {line.common_id for line in lines if line.common_id is not None} if is_whole else set[bytes]()
    behind -= {*parents, parts.NO_COMMIT, b""}
    contains = known.union(*(line.contains for line in lines)) - behind - {*parents, parts.NO_COMMIT, b""}
    return Merge(parents, sorted(behind), sorted(contains))


def _reader(decided: dict[str, Decided]) -> Callable[[str], bytes]:
    def get(key: str) -> bytes:
        data = decided[key].get(key)
        if data is None:
            raise DocumentDamaged(f"the part {key!r} is not there any more", part=key)
        return data

    return get


def _by_pieces(decided: dict[str, Decided]) -> Callable[[str], Pieces]:
    def pieces(key: str) -> Pieces:
        each = decided[key]
        found = each.view.pieces(key) if each.data is None and each.view is not None else None
        return found if found is not None else Pieces.of(_reader(decided)(key))

    return pieces


def _size(view: View, decided: dict[str, Decided]) -> int:
    size = view.size_bytes
    for key, each in decided.items():
        for sign, length in ((-1, view.size_of(key)), (1, each.length(key))):
            size += 0 if length is None else sign * parts.part_size(key.encode(), length)
    return size


def _checksum(view: View, decided: dict[str, Decided]) -> bytes:
    total = 0
    for key, each in decided.items():
        total -= int.from_bytes(_digest(view, key) or b"", "big")
        total += int.from_bytes(each.digest(key) or b"", "big")
    return parts.add_to_checksum(view.checksum, total)
