"""What a handle has counted as text for Prometheus: the exposition format 0.0.4.

No label is taken from what is stored, and there are at most so many series (docs/monitoring.md, section 6).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from waypost import clock, metrics
from waypost.definitions import Definitions
from waypost.folding import WORKFLOW_STATUSES
from waypost.hooks import spool
from waypost.hooks.payloads import EVENTS
from waypost.instruments import Instruments, Tally, end_of
from waypost.metrics import Metric
from waypost.syncing import Handle

_BOUNDS_NS = tuple(1 << power for power in range(14, 36, 2))
"""Upper ends of the buckets of a histogram. Each is one of a tally's buckets as well, so that counts are exact."""
_OF_HOOKS = frozenset({*EVENTS, metrics.NOTE})


def prometheus_text(handle: Handle, *, with_store: bool = True) -> str:
    """What an open handle has counted since it was opened, and, unless `with_store` is false, how many workflows of
    each status there are and how many events wait. To be served as `text/plain; version=0.0.4; charset=utf-8`.

    Raises what listing workflows raises.
    """
    definitions: Definitions = handle.definitions
    lines = list(gauge(metrics.RESIDENT, {"": clock.resident_bytes()}))
    if definitions.observer.instruments is not None:
        lines += _counted(definitions.observer.instruments)
    if with_store:
        found = Counter(entry.status for entry in definitions.catalogue.entries())
        lines += gauge(metrics.RUNS, {status: found[status] for status in WORKFLOW_STATUSES})
        if definitions.spool is not None:
            lines += gauge(metrics.SPOOL, {"": spool.waiting_in(definitions.spool)})
            lines += gauge(metrics.SPOOL_LAG, {"": spool.oldest_s(definitions.spool)})
    return "\n".join(lines) + "\n"


def _counted(instruments: Instruments) -> Iterator[str]:
    tallies = dict(sorted(instruments.totals().items()))
    whole = Tally()
    for tally in tallies.values():
        whole.merge(tally)
    loads = tallies.get(metrics.LOAD, Tally())
    yield from _histogram(
        metrics.OPERATION_DURATION, {kind: tally for kind, tally in tallies.items() if kind not in _OF_HOOKS}
    )
    yield from _histogram(metrics.HOOK_DURATION, {kind: each for kind, each in tallies.items() if kind in _OF_HOOKS})
    yield from _histogram(metrics.STEP_DURATION, dict(sorted(instruments.steps().items())))
    yield from gauge(metrics.FAILURES, {kind: tally.failures for kind, tally in tallies.items()})
    yield from gauge(metrics.ERRORS, dict(sorted(instruments.errors().items())))
    for metric, value in (
        (metrics.READ, whole.bytes_read),
        (metrics.WRITTEN, whole.bytes_written),
        (metrics.IO_OPERATIONS, whole.io_operations),
        (metrics.SYNCS, whole.syncs),
        (metrics.LOADS, loads.count - loads.failures),
        (metrics.CACHE_HITS, loads.hits),
    ):
        yield from gauge(metric, {"": value})


def _head(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.prometheus_name} {metric.help}"
    yield f"# TYPE {metric.prometheus_name} {metric.kind}"


def gauge(metric: Metric, values: Mapping[str, float]) -> Iterator[str]:
    """The lines of a gauge or a counter: a value for each label."""
    if values:
        yield from _head(metric)
    for label, value in values.items():
        yield f"{metric.prometheus_name}{_labels(metric, label)} {value}"


def _histogram(metric: Metric, tallies: Mapping[str, Tally]) -> Iterator[str]:
    if tallies:
        yield from _head(metric)
    name = metric.prometheus_name
    for label, tally in tallies.items():
        for bound in _BOUNDS_NS:
            within = sum(count for bucket, count in tally.buckets.items() if end_of(bucket) <= bound)
            yield f"{name}_bucket{_labels(metric, label, repr(bound / 1e9))} {within}"
        yield f"{name}_bucket{_labels(metric, label, '+Inf')} {tally.count}"
        yield f"{name}_sum{_labels(metric, label)} {tally.taken_ns / 1e9!r}"
        yield f"{name}_count{_labels(metric, label)} {tally.count}"


def _labels(metric: Metric, label: str, bound: str = "") -> str:
    pairs = {metric.prometheus_label: label} if metric.attribute else {}
    if bound:
        pairs["le"] = bound
    shown = ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs.items())
    return f"{{{shown}}}" if shown else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
