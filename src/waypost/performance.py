"""How a handle fares: what its instruments have counted, as values (docs/monitoring.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from waypost import clock
from waypost.errors import InvalidInput
from waypost.instruments import SLICE_NS, SLICES, Instruments, Seen, Tally
from waypost.metrics import LOAD

LONGEST_WINDOW_S = SLICES * SLICE_NS // 1_000_000_000
_NS_OF_MS = 1_000_000


class OperationMetrics(Struct, frozen=True, kw_only=True):
    """Operations of one kind in a window. Percentiles are at most 1/16 above the true ones, and never below."""

    count: int
    failures: int
    error_rate: float
    operations_per_second: float
    average_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    longest_ms: float


class MetricsTotals(Struct, frozen=True, kw_only=True):
    """What happened since the handle was opened, `age_s` seconds ago. Bytes as stored."""

    age_s: float
    count: int
    failures: int
    bytes_read: int
    bytes_written: int
    io_operations: int
    syncs: int


class MetricsPoint(Struct, frozen=True, kw_only=True):
    """What happened in one slice of time: from `start` on, for so many seconds."""

    start: datetime
    seconds: float
    count: int
    failures: int
    operations_per_second: float
    p95_ms: float
    syncs: int
    bytes_written: int


class StoreMetrics(Struct, frozen=True, kw_only=True):
    """How a handle fared in the last `window_s` seconds; see docs/monitoring.md for each value.

    Rates and means are 0.0 where nothing was counted. Without `enabled` nothing is.
    """

    enabled: bool
    window_s: float
    count: int
    failures: int
    operations_per_second: float
    error_rate: float
    average_save_time_ms: float
    average_load_time_ms: float
    memory_usage_bytes: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    bytes_read: int
    bytes_written: int
    io_operations: int
    syncs: int
    compression_ratio: float | None
    cache_hit_rate: float | None
    operations: Mapping[str, OperationMetrics]
    totals: MetricsTotals
    series: Sequence[MetricsPoint]


def metrics_of(instruments: Instruments | None, window_s: float = 60, *, with_series: bool = True) -> StoreMetrics:
    """How a handle fared in the last so many seconds, from 1 to 600. Raises InvalidInput.

    Without its series, which takes most of the time, that is empty.
    """
    if type(window_s) not in (int, float) or not 1 <= window_s <= LONGEST_WINDOW_S:
        raise InvalidInput(f"window_s is {window_s!r:.80}, and takes a number from 1 to {LONGEST_WINDOW_S}")
    if instruments is None:
        return _metrics(Seen(0, 0, {}), _totals(0, Tally()), [], enabled=False)
    age_ns = clock.monotonic_ns() - instruments.began_ns
    totals = _totals(age_ns, _whole(instruments.totals().values()))
    series = instruments.series() if with_series else []
    now_us, now_ns = clock.now_us(), clock.monotonic_ns()
    points = [_point(seen, now_us - (now_ns - seen.since_ns) // 1000) for seen in series]
    return _metrics(instruments.window(int(window_s * 1_000_000_000)), totals, points, enabled=True)


def _metrics(seen: Seen, totals: MetricsTotals, points: list[MetricsPoint], *, enabled: bool) -> StoreMetrics:
    whole = _whole(seen.tallies.values())
    loads = seen.tallies.get(LOAD, Tally())
    loaded = loads.count - loads.failures
    seconds = _seconds(seen)
    all_of_it = _operation(whole, seconds)
    return StoreMetrics(
        enabled=enabled,
        window_s=seconds,
        count=whole.count,
        failures=whole.failures,
        operations_per_second=all_of_it.operations_per_second,
        error_rate=all_of_it.error_rate,
        average_save_time_ms=_average_ms(_whole(each for each in seen.tallies.values() if each.is_save)),
        average_load_time_ms=_average_ms(loads),
        memory_usage_bytes=clock.resident_bytes(),
        p50_ms=all_of_it.p50_ms,
        p95_ms=all_of_it.p95_ms,
        p99_ms=all_of_it.p99_ms,
        bytes_read=whole.bytes_read,
        bytes_written=whole.bytes_written,
        io_operations=whole.io_operations,
        syncs=whole.syncs,
        compression_ratio=whole.raw_bytes / whole.bytes_written if whole.bytes_written else None,
        cache_hit_rate=loads.hits / loaded if loaded else None,
        operations={kind: _operation(tally, seconds) for kind, tally in sorted(seen.tallies.items())},
        totals=totals,
        series=points,
    )


def _operation(tally: Tally, seconds: float) -> OperationMetrics:
    p50, p95, p99 = (tally.percentile_ns(share) / _NS_OF_MS for share in (0.5, 0.95, 0.99))
    return OperationMetrics(
        count=tally.count,
        failures=tally.failures,
        error_rate=tally.failures / tally.count if tally.count else 0.0,
        operations_per_second=_rate(tally.count, seconds),
        average_ms=_average_ms(tally),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        longest_ms=tally.longest_ns / _NS_OF_MS,
    )


def _totals(age_ns: int, whole: Tally) -> MetricsTotals:
    return MetricsTotals(
        age_s=age_ns / 1_000_000_000,
        count=whole.count,
        failures=whole.failures,
        bytes_read=whole.bytes_read,
        bytes_written=whole.bytes_written,
        io_operations=whole.io_operations,
        syncs=whole.syncs,
    )


def _point(seen: Seen, start_us: int) -> MetricsPoint:
    whole = _whole(seen.tallies.values())
    seconds = _seconds(seen)
    return MetricsPoint(
        start=clock.to_datetime(start_us),
        seconds=seconds,
        count=whole.count,
        failures=whole.failures,
        operations_per_second=_rate(whole.count, seconds),
        p95_ms=whole.percentile_ns(0.95) / _NS_OF_MS,
        syncs=whole.syncs,
        bytes_written=whole.bytes_written,
    )


def _whole(tallies: Iterable[Tally]) -> Tally:
    whole = Tally()
    for tally in tallies:
        whole.merge(tally)
    return whole


def _seconds(seen: Seen) -> float:
    return (seen.until_ns - seen.since_ns) / 1_000_000_000


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds else 0.0


def _average_ms(tally: Tally) -> float:
    return tally.taken_ns / tally.count / _NS_OF_MS if tally.count else 0.0
