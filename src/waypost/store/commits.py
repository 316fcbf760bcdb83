"""Commits as they are told, and as they are written: the content by whose hash a commit has its id.

Every store encodes a commit in the same way, so that a past can be handed from one to another and keeps its ids.
"""

from __future__ import annotations

from waypost.codec import bodies
from waypost.codec.bodies import CommitBody, ErasedParts, JointMark, MergeMark, Participant
from waypost.errors import DocumentDamaged
from waypost.store import parts
from waypost.store.pasts import Commit


def body_of(commit: Commit) -> CommitBody:
    """What stands in the frame of a commit; values that its content names by their digests are not read."""
    joint = commit.joint
    mark = None
    if joint is not None:
        mark = JointMark(
            joint.transaction_id, [Participant(*document, version) for document, version in joint.participants]
        )
    return CommitBody(
        commit.operation_id,
        commit.operation,
        commit.session,
        commit.agent,
        commit.projection,
        commit.cleared,
        {
            key: (length, commit.digests[key]) if key in commit.digests else commit.read(key)
            for key, length in commit.puts.items()
            if commit.erased is None or key not in commit.erased[1]
        },
        list(commit.removed),
        mark,
        None if commit.erased is None else ErasedParts(commit.erased[0], dict(commit.erased[1])),
        None if commit.merge is None else MergeMark(*map(list, commit.merge)),
    )


def id_of(parent: bytes, body: CommitBody) -> bytes:
    """The id of a commit that follows `parent`. Raises DocumentDamaged where it may not."""
    return id_behind(parent, body, bodies.content_hash(body, bodies.content_of(body)))


def id_behind(parent: bytes, body: CommitBody, content_hash: bytes) -> bytes:
    """The same, where the hash of its content is known. A merge has its id from both of its parents, whichever of the
    commits that it may follow stands before it.
    """
    if body.merge is not None:
        parent = _parents(parent, body.merge)
    return parts.commit_id(parent, body.operation_id, content_hash)


def _parents(parent: bytes, merge: MergeMark) -> bytes:
    first, second = [*merge.parents, b"", b""][:2]
    if len(merge.parents) != 2 or not first < second:
        raise DocumentDamaged("a merge does not have two parents in order")
    if not merge.may_follow(parent):
        raise DocumentDamaged("a merge stands behind a commit that it does not join")
    return first + second
