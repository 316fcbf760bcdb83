"""Writing a snapshot: built from a view without any lock, then appended like any other frame.

While it is built others go on committing; the snapshot says from where on to replay, so that their frames count
although they stand before it. It needs no sync of its own: until the next commit's sync covers it, a reader after a
crash checks it whole, and goes without it when it is not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from waypost.codec.bodies import ENTRY_BLOCK_BYTES, Extent, Part, Remembered, SnapshotBuilder
from waypost.codec.compression import PLAIN, Compressor
from waypost.store.directory.state import DocumentView, Snapshot, Source
from waypost.store.views import OperationRecord

KEPT_OPERATIONS = 10_000
KEPT_OPERATIONS_US = 7 * 24 * 3600 * 1_000_000
SURE_OPERATIONS = 1000
"""So many of the last operations are remembered whatever their age: a clock that jumps ahead makes all of them old."""


def remembered(base: Snapshot, coming: int, newest_us: int) -> list[Remembered]:
    """The runs of remembered operations that a snapshot after `base` keeps, where `coming` more follow.

    A run goes when none of its operations is among the last 10,000, or all are more than 7 days older than the newest
    commit and none is among the last 1,000.
    """
    runs = list(base.body.operations)
    for block in base.operation_blocks:
        rows = base.read_operations(block)
        if rows:
            runs.append(Remembered(block, len(rows), rows[-1].time_us))
    oldest_us = newest_us - KEPT_OPERATIONS_US
    kept: list[Remembered] = []
    for run in reversed(runs):
        if coming >= KEPT_OPERATIONS or (coming >= SURE_OPERATIONS and run.newest_us < oldest_us):
            break
        kept.append(run)
        coming += run.operations
    return kept[::-1]


def build_anew(
    view: Source, operations: list[OperationRecord], compressor: Compressor, placed: Callable[[Part], Part]
) -> tuple[SnapshotBuilder, bool]:
    """The blocks of a snapshot of a view, and whether parts that it only refers to are compressed.

    `placed` says where a part stands in the file that the snapshot goes to.
    """
    builder = SnapshotBuilder(compressor)
    compressed = False
    for key in view.keys():
        part = view.located(key)[0]
        if part is not None:
            compressed |= _is_compressed(part)
            builder.add(key, placed(part))
    builder.finish(operations)
    return builder, compressed


def build_on(
    base: Snapshot, view: DocumentView, operations: list[OperationRecord], compressor: Compressor
) -> tuple[SnapshotBuilder, bool]:
    """As `build_anew`, for the file that `base` stands in: blocks in which nothing changed are copied as they are."""
    builder = SnapshotBuilder(compressor)
    compressed = base.body.compressed
    changed = sorted(view.overlay)
    first_keys = base.body.keys or [""]
    for row, first_key in enumerate(first_keys):
        start = bisect_left(changed, first_key) if row else 0
        end = bisect_left(changed, first_keys[row + 1]) if row + 1 < len(first_keys) else len(changed)
        block = base.block(row)
        if block is not None and start == end and block.raw >= ENTRY_BLOCK_BYTES // 2:
            builder.copy(first_key, block, base.stored(row))
            continue
        parts = dict(base.entries(row)) if block is not None else {}
        parts.update((key, part) for key in changed[start:end] if (part := view.overlay[key]) is not None)
        for key in changed[start:end]:
            if view.overlay[key] is None:
                parts.pop(key, None)
        for key in sorted(parts):
            compressed |= _is_compressed(parts[key])
            builder.add(key, parts[key])
    builder.finish(operations)
    return builder, compressed


def _is_compressed(part: Part) -> bool:
    return isinstance(part, Extent) and any(block.codec != PLAIN for block in part.table)
