"""Writing a snapshot: built from a view without any lock, then appended like any other frame.

While it is built others go on committing; the snapshot says from where on to replay, so that their frames count
although they stand before it. It needs no sync of its own: until the next commit's sync covers it, a reader after a
crash checks it whole, and goes without it when it is not.
"""

from __future__ import annotations

from collections.abc import Callable

from waypost import clock
from waypost.codec.bodies import Extent, Part, Remembered, SnapshotBuilder
from waypost.codec.compression import PLAIN, Compressor
from waypost.store.contract import OperationRecord
from waypost.store.directory.state import DocumentView, Snapshot

KEPT_OPERATIONS = 10_000
KEPT_OPERATIONS_US = 7 * 24 * 3600 * 1_000_000


def remembered(base: Snapshot, coming: int) -> list[Remembered]:
    """The runs of remembered operations that a snapshot after `base` keeps, where `coming` more follow.

    A run goes when none of its operations is among the last 10,000, or all are older than 7 days.
    """
    runs = list(base.body.operations)
    for offset, block in base.operation_blocks:
        rows = base.read_operations(offset, block)
        if rows:
            runs.append(Remembered(offset, block, len(rows), rows[-1].time_us))
    oldest_us = clock.now_us() - KEPT_OPERATIONS_US
    kept: list[Remembered] = []
    for run in reversed(runs):
        if coming >= KEPT_OPERATIONS or run.newest_us < oldest_us:
            break
        kept.append(run)
        coming += run.operations
    return kept[::-1]


def build(
    view: DocumentView,
    operations: list[OperationRecord],
    compressor: Compressor,
    placed: Callable[[Part], Part] = lambda part: part,
) -> tuple[SnapshotBuilder, bool]:
    """The blocks of a snapshot of a view, and whether parts that it only refers to are compressed.

    `placed` says where a part stands in the file that the snapshot goes to.
    """
    builder = SnapshotBuilder(compressor)
    compressed = False
    for key in view.keys():
        part = view.part(key)
        if part is None:
            continue
        if isinstance(part, Extent):
            compressed |= any(block.codec != PLAIN for block in part.table)
        builder.add(key, placed(part))
    builder.finish(operations)
    return builder, compressed
