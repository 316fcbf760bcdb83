"""Commits as they are told, and as they are written: the content by whose hash a commit has its id.

Every store encodes a commit in the same way, so that a past can be handed from one to another and keeps its ids.
"""

from __future__ import annotations

from waypost.codec import bodies
from waypost.codec.bodies import CommitBody, ErasedParts, JointMark, Participant
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
    )


def id_of(parent: bytes, body: CommitBody) -> bytes:
    """The id of a commit that follows `parent`."""
    return parts.commit_id(parent, body.operation_id, bodies.content_hash(body, bodies.content_of(body)))
