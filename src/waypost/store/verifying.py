"""Verifying a store by nothing but its contract: commits against their ids and sums, parts against their digests.

For stores whose medium has nothing of its own to check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from waypost.errors import DocumentDamaged, WaypostError
from waypost.store import commits, parts
from waypost.store.contract import Store
from waypost.store.kinds import KINDS, DocumentId
from waypost.store.pasts import Commit
from waypost.store.reports import Finding, Verification
from waypost.store.values import Pieces
from waypost.store.views import View

Sums = dict[str, tuple[int, int]]
"""Of each part its digest, as a number, and how much it adds to the size of its document."""


def verify(store: Store) -> Verification:
    """Read all that a store keeps. Changes nothing."""
    report = Verification(store.location)
    for kind in KINDS:
        for identifier in store.documents(kind):
            document = DocumentId(kind, identifier)
            report.documents += 1
            try:
                _verify(store, document, report)
            except WaypostError as error:
                report.findings.append(Finding("damage", f"{kind} {identifier}", None, str(error)))
    return report


def _verify(store: Store, document: DocumentId, report: Verification) -> None:
    view = store.view(document)
    report.size_bytes += view.size_bytes
    check_version(view)
    past = store.past(document)
    start = past.start()
    sums, before = check_version(start), start.commit_id
    for commit in past.commits(oldest_first=True):
        if commit.version > view.version:
            break  # made since
        _check_commit(document, commit, before, sums)
        before = commit.commit_id
        report.commits += 1
    if past.version == view.version and before != view.commit_id:
        raise DocumentDamaged(f"the history of {document.kind} {document.id!r} does not lead to its newest version")
    for name in store.checkpoints(document):
        store.verify_checkpoint(document, name)


def check_version(view: View) -> Sums:
    """Read a version as a whole. Raises DocumentDamaged."""
    sums = {key: _sum(key, view.erased(key), view.size_of(key) or 0, view.pieces) for key in view.keys()}
    _compare(view.document, view.version, sums, view.size_bytes, view.checksum)
    return sums


def _check_commit(document: DocumentId, commit: Commit, before: bytes, sums: Sums) -> None:
    if commit.cleared:
        sums.clear()
    for key in commit.removed:
        sums.pop(key, None)
    lost: Mapping[str, tuple[int, bytes]] = {} if commit.erased is None else commit.erased[1]
    for key, length in commit.puts.items():
        sums[key] = _sum(key, lost[key][1] if key in lost else None, length, commit.pieces)
    if commits.id_of(before, commits.body_of(commit)) != commit.commit_id:
        raise DocumentDamaged(f"version {commit.version} of {document.kind} {document.id!r} is not what its id says")
    _compare(document, commit.version, sums, commit.size_bytes, commit.checksum)


def _sum(key: str, gone: bytes | None, length: int, pieces_of: Callable[[str], Pieces | None]) -> tuple[int, int]:
    size = parts.part_size(key.encode(), length)
    if gone is not None:
        return int.from_bytes(gone, "big"), size
    pieces = pieces_of(key)
    digest = parts.part_digest(key.encode())
    for number in range(0 if pieces is None else len(pieces.starts)):
        digest.update(b"" if pieces is None else pieces.read(number))
    return int.from_bytes(digest.digest(), "big"), size


def _compare(document: DocumentId, version: int, sums: Sums, size_bytes: int, checksum: bytes) -> None:
    total = parts.add_to_checksum(bytes(32), sum(digest for digest, _ in sums.values()))
    if (sum(size for _, size in sums.values()), total) != (size_bytes, checksum):
        raise DocumentDamaged(f"version {version} of {document.kind} {document.id!r} is not what its sums say")
