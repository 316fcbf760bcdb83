"""The names of what is measured, as OpenTelemetry writes them, and what follows from them for Prometheus.

A name has its parts set apart by dots and its unit beside it (UCUM: `s`, `By`, `1`). Prometheus has underscores, the
unit written out behind the name, and `_total` behind a counter.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

_UNITS = {"s": "_seconds", "By": "_bytes", "1": ""}


class Metric(NamedTuple):
    """One thing that is measured: its name, what sort of figure it is, its unit, and a sentence for people."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: Literal["s", "By", "1"]
    help: str
    attribute: str = ""
    """What tells its series apart; empty where there is one."""

    @property
    def prometheus_name(self) -> str:
        base = self.name.replace(".", "_") + _UNITS[self.unit]
        return base + "_total" if self.kind == "counter" else base

    @property
    def prometheus_label(self) -> str:
        """The last part of the attribute."""
        return self.attribute.rpartition(".")[2]


OPERATION = "waypost.operation"
EVENT = "waypost.event"
CODE = "waypost.code"
STATUS = "waypost.status"

OPERATION_DURATION = Metric(
    "waypost.operation.duration", "histogram", "s", "Time of operations, from call to end.", OPERATION
)
HOOK_DURATION = Metric(
    "waypost.hook.duration", "histogram", "s", "Time of hook events, until they are committed.", EVENT
)
STEP_DURATION = Metric(
    "waypost.step.duration", "histogram", "s", "Time of steps that this handle finished, from start to end.", STATUS
)
FAILURES = Metric("waypost.operation.failures", "counter", "1", "Operations and events that failed.", OPERATION)
ERRORS = Metric("waypost.store.errors", "counter", "1", "Errors that operations failed with.", CODE)
READ = Metric("waypost.store.read", "counter", "By", "Bytes that operations read, as stored.")
WRITTEN = Metric("waypost.store.written", "counter", "By", "Bytes that operations wrote, as stored.")
IO_OPERATIONS = Metric("waypost.store.io_operations", "counter", "1", "Reads and writes of operations.")
SYNCS = Metric("waypost.store.syncs", "counter", "1", "Syncs that operations waited for.")
LOADS = Metric("waypost.loads", "counter", "1", "Workflows that were loaded.")
CACHE_HITS = Metric("waypost.cache.hits", "counter", "1", "Loads of what was held in memory.")
RUNS = Metric("waypost.runs", "gauge", "1", "Workflows of the store.", STATUS)
SPOOL = Metric("waypost.spool.events", "gauge", "1", "Events that wait in the spool.")
SPOOL_LAG = Metric("waypost.spool.lag", "gauge", "s", "For how long the event has waited that came first.")
RESIDENT = Metric("waypost.process.resident", "gauge", "By", "Memory that the process has resident.")
SEEN_COMMITS = Metric("waypost.seen.commits", "counter", "1", "Commits of every process that the page's server saw.")
SEEN_COMPLETED = Metric("waypost.seen.steps_completed", "counter", "1", "Steps that were completed in them.")
SEEN_FAILED = Metric("waypost.seen.steps_failed", "counter", "1", "Steps that failed in them.")
STREAMS = Metric("waypost.page.streams", "gauge", "1", "Pages that are told of commits as they are made.")

LOAD = "load_workflow_state"
"""The operation by which a load is timed, and caches are judged."""
NOTE = "hook_note"
"""As what a hook event counts that changes no step: its own name is anybody's."""
OTHER = "other"
"""As what counts that is of one kind too many."""
