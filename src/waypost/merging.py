"""Bringing together two histories of one document: where they part, and which parts each side has changed since.

The two are compared part by part from their last common commit. What one side left alone takes the other's change; what
both changed in the same way is the same; anything else is a conflict, and nothing is merged then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from waypost import records
from waypost.checkpoints import ERASURES
from waypost.erased import ERASED, covers, what_says_so
from waypost.records import ADOPTED, CHECKPOINT, OUTPUT, SEPARATOR, VALUE
from waypost.session_models import SessionImport
from waypost.store import Commit, Past, Transaction, View, Whole, parts

OPERATION = "import_session"
_MARK = "imported"

Digests = dict[str, bytes]
"""What a document holds: the digest of each part, by its key."""


def projection(incoming: Past, commit_id: bytes | None = None) -> list[object]:
    """What an import remembers of itself: up to where the history that it brought is known here from then on."""
    return [_MARK, incoming.version, (commit_id or id_at(incoming, incoming.version) or b"").hex()]


def known_by(commit: Commit) -> bytes | None:
    """The commit of another history that a commit says it has brought; None where it is no import."""
    match commit.projection:
        case [mark, int(), str() as commit_id, *_] if mark == _MARK and commit.operation == OPERATION:
            try:
                return bytes.fromhex(commit_id)
            except ValueError:
                return None
        case _:
            return None


def report_in(found: Any) -> SessionImport | None:
    """What an import has said, where that is remembered."""
    try:
        mark, _, _, told = found
        return msgspec.convert(told, SessionImport) if mark == _MARK else None
    except (TypeError, ValueError):
        return None


def known(past: Past) -> set[bytes]:
    """The ids of all commits that a document holds, or has taken in by a merge or an import."""
    found = {each for version in range(past.first) if (each := past.dropped_id(version + 1)) is not None}
    for commit in past.commits():
        found.add(commit.commit_id)
        if commit.merge is not None:
            found.update(*commit.merge)
        brought = known_by(commit)
        if brought is not None:
            found.add(brought)
    return found


def id_at(past: Past, version: int) -> bytes | None:
    """The commit id of a version; None where it is not known."""
    if version <= past.first:
        return past.dropped_id(version)
    return next((commit.commit_id for commit in past.commits(version + 1)), None)


def last_known(incoming: Past, ids: set[bytes]) -> int:
    """The newest version of a history whose commit is among those; 0 where there is none."""
    for commit in incoming.commits():
        if commit.commit_id in ids:
            return commit.version
    for version in range(incoming.first, 0, -1):
        if incoming.dropped_id(version) in ids:
            return version
    return 0


def may_lack(past: Past, common: int) -> bool:
    """Whether a history, as far as it is kept, begins behind the common version with one that a repair made: what is
    not there, and was not removed since, may be what that could not keep.
    """
    if common >= past.first:
        return False
    start = past.start()
    return start.commit_id == parts.repaired_id(past.dropped_id(past.first - 1) or parts.NO_COMMIT, start.checksum)


def erased_values(view: View, past: Past) -> frozenset[tuple[str, bytes]]:
    """The keys and digests of the values that a history, whose newest version is the view, still tells to be erased."""
    if next(view.keys(ERASED), None) is None:
        return frozenset()
    start = past.start()
    found = {(key, digest) for key in start.keys() if (digest := start.erased(key)) is not None}
    for commit in past.commits():
        if commit.erased is not None:
            found.update((key, digest) for key, (_, digest) in commit.erased[1].items())
    return frozenset(found)


class Sides(NamedTuple):
    """The common ancestor (None where it is not known any more) and the newest version of an incoming history, and the
    versions whose commits made the checkpoints in it; also which parts are known to be removed where a repair may have
    lost others.
    """

    base: Digests | None
    theirs: Digests
    made_at: dict[str, int]
    removed: set[str] | None

    def may_have_lost(self, key: str) -> bool:
        """Whether a part that is not there may not have been removed."""
        return self.removed is not None and key not in self.removed


def read(incoming: Whole, base: int) -> Sides:
    """Go once through a history, holding no more of it than digests."""
    past = incoming.past
    current = digests(past.start())
    at_base = dict(current) if base == past.first else None
    made_at: dict[str, int] = {}
    removed: set[str] = set()
    for commit in past.commits(oldest_first=True):
        if commit.cleared:
            removed.update(current)
            current.clear()
        removed.update(commit.removed)
        for key in commit.removed:
            current.pop(key, None)
        for key in commit.puts:
            gone = commit.erased[1].get(key) if commit.erased else None
            current[key] = gone[1] if gone else commit.digests.get(key) or digest_of(key, commit.read(key))
            if key.startswith(CHECKPOINT):
                made_at[key.removeprefix(CHECKPOINT)] = commit.version
        if commit.version == base:
            at_base = dict(current)
    return Sides(at_base if base else {}, current, made_at, removed if may_lack(past, base) else None)


def digests(view: View) -> Digests:
    return {key: digest_in(view, key) for key in view.keys()}


def digest_of(key: str, value: bytes) -> bytes:
    return parts.part_checksum(key.encode(), value).to_bytes(32, "big")


def digest_in(view: View, key: str) -> bytes:
    gone = view.erased(key)
    if gone is not None:
        return gone
    digest = parts.part_digest(key.encode())
    pieces = view.pieces(key)
    for number in range(len(pieces.starts) if pieces else 0):
        digest.update(pieces.read(number) if pieces else b"")
    return digest.digest()


def changed(
    base: Digests, ours: Digests, sides: Sides, erased: frozenset[tuple[str, bytes]]
) -> Iterator[tuple[str, bool]]:
    """The parts that an incoming history changed and that are not so here yet, each with whether that is a conflict:
    they were changed here in another way; they are gone there, and nobody can tell whether somebody has removed them;
    they were erased here, which nobody knew there. A value that was `erased` here does not come back.
    """
    for key in sorted({*base, *sides.theirs}):
        then, here, there = base.get(key), ours.get(key), sides.theirs.get(key)
        if there in (then, here) or (there is None and _stays(key, ours, sides)):
            continue
        said = [each for each in what_says_so(key) if each in ours and sides.theirs.get(each) != ours[each]]
        if there is not None and here is None and said and (key, there) in erased:
            continue
        is_lost = there is None and sides.may_have_lost(key)
        is_unknown = there is not None and here is None and any(each not in sides.theirs for each in said)
        yield key, here != then or is_lost or is_unknown


def _stays(key: str, ours: Digests, sides: Sides) -> bool:
    """Whether a part that is not there was not removed, but is the value of an output that a repair could not keep
    (each output of its step is as it is here, and whoever removes a value removes its output), or a checkpoint that was
    adopted by a merge, or that a repair may have lost.
    """
    if is_checkpoint(key):
        return ADOPTED + key.removeprefix(CHECKPOINT) in sides.theirs or sides.may_have_lost(key)
    step = key.removeprefix(VALUE).partition(SEPARATOR)[0]
    outputs = [each for each in ours if each.startswith(f"{OUTPUT}{step}{SEPARATOR}")]
    return key.startswith(VALUE) and bool(outputs) and all(sides.theirs.get(each) == ours[each] for each in outputs)


def not_known_to(incoming: Iterable[str], base: Digests, ours: Digests, theirs: Digests) -> list[str]:
    """The parts here that an erasure among those which come in covers, and that the other side has never seen."""
    erased = [key.removeprefix(ERASED) for key in incoming if key.startswith(ERASED)]
    return [key for key in ours if key not in base and key not in theirs and any(covers(each, key) for each in erased)]


def erased_here(data: bytes, key: str, part: Transaction) -> bytes:
    """What says of an erasure elsewhere, as it counts here: up to the commit that brings it, since times of versions
    here say nothing of what was erased there.
    """
    for each in part.keys():
        part.size_of(each)  # so that no commit comes between that changes anything
    return records.encode(replace(ERASURES.decode(key, data), until_us=part.time_us))


def is_checkpoint(key: str) -> bool:
    return key.startswith((CHECKPOINT, ADOPTED))
