"""Looking at how a handle fares every so often, and telling when that is bad (docs/monitoring.md, section 4).

Invariants: nobody waits for a monitor, neither operations nor the end of the process; what a callback or the store does
to an alert ends no monitor; once it is stopped, no callback begins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

from waypost.alerts import Alert, RuleName, Rules
from waypost.definitions import Definitions
from waypost.errors import InvalidInput, Refused
from waypost.hooks.operation import emit_hook_event
from waypost.operations import OperationResult
from waypost.performance import LONGEST_WINDOW_S
from waypost.syncing import Handle

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Future

    from waypost.integrator import HookIntegrator

logger = logging.getLogger("waypost")

EVENT = "performance.threshold"
"""The hook event that an alert is."""
_SHORTEST_MS, _LONGEST_MS = 10, 3_600_000
_WINDOW_S = 60


class StatePerformanceMonitor:
    """Looks at the metrics of an open handle, of either face, and tells of alerts: to the log, to `on_alert` (a plain
    function, called in the monitor's thread), and as the hook event `performance.threshold` where it is said to whom:
    that workflow, or with an integrator also the handle's session, and the integrator's listeners.
    """

    def __init__(
        self,
        state_api: Handle,
        on_alert: Callable[[Alert], object] | None = None,
        *,
        hook_integrator: HookIntegrator | None = None,
        workflow_id: str | None = None,
    ) -> None:
        self._definitions: Definitions = state_api.definitions
        self._on_alert = on_alert
        self._integrator = hook_integrator
        self._workflow_id = workflow_id
        self._lock = Lock()
        self._stop = Event()
        self._stop.set()
        self._loop: AbstractEventLoop | None = None
        self._rules = Rules(self._definitions.config.monitoring.alert_thresholds)

    @property
    def is_monitoring(self) -> bool:
        """Whether it was started, and neither stopped nor its handle closed since."""
        return not self._stop.is_set()

    @property
    def firing(self) -> Mapping[RuleName, Alert]:
        """The alerts that have fired and not cleared, by their rules, as of the last look."""
        return self._rules.firing

    def start_monitoring(self, interval_ms: int | None = None) -> None:
        """Look every so many ms, from 10 to 3,600,000; by default as `monitoring.metrics_interval` says. One that was
        started already goes on with the new interval. With an integrator it is called in the event loop of that.

        Raises InvalidInput, StoreClosed, and Refused where `monitoring.enable_metrics` is false.
        """
        monitoring = self._definitions.config.monitoring
        interval = monitoring.metrics_interval if interval_ms is None else interval_ms
        if type(interval) is not int or not _SHORTEST_MS <= interval <= _LONGEST_MS:
            allowed = f"a whole number of ms from {_SHORTEST_MS} to {_LONGEST_MS}"
            raise InvalidInput(f"the interval of a monitor is {interval!r:.80}, and takes {allowed}")
        if self._definitions.observer.instruments is None:
            raise Refused("monitoring.enable_metrics is false for this store, so there is nothing to monitor")
        if self._integrator is not None:
            from asyncio import get_running_loop

            self._loop = get_running_loop()
        self._definitions.ending.tell(self.stop_monitoring)
        with self._lock:
            self._stop.set()
            self._stop = stop = Event()
        Thread(target=self._watch, args=(stop, interval / 1000), name="waypost-monitor", daemon=True).start()

    def stop_monitoring(self) -> None:
        """Look no more. Returns at once: a callback that is running ends by itself. May be called twice."""
        with self._lock:
            self._stop.set()
        self._definitions.ending.forget(self.stop_monitoring)

    # --- in the monitor's thread ---

    def _watch(self, stop: Event, seconds: float) -> None:
        while not stop.wait(seconds):
            try:
                self._look(stop, seconds)
            except Exception:
                logger.exception("the monitor could not look at the metrics")

    def _look(self, stop: Event, seconds: float) -> None:
        window_s = min(max(seconds, _WINDOW_S), LONGEST_WINDOW_S)
        metrics = self._definitions.observer.metrics(window_s, with_series=False)
        logger.info(
            "%.1f operations/s, error rate %.4f, saves %.2f ms, loads %.2f ms, memory %.0f MB",
            metrics.operations_per_second,
            metrics.error_rate,
            metrics.average_save_time_ms,
            metrics.average_load_time_ms,
            metrics.memory_usage_bytes / (1 << 20),
        )
        for alert in self._rules.judge(metrics):
            if stop.is_set():
                return
            logger.log(logging.WARNING if alert.state == "fired" else logging.INFO, "%s", alert.message)
            self._call_back(alert)
            if self._integrator is not None or self._workflow_id is not None:
                self._emit(alert)

    def _call_back(self, alert: Alert) -> None:
        if self._on_alert is None:
            return
        try:
            self._on_alert(alert)
        except BaseException:  # an exit that it raises is not that of the monitor
            logger.exception("the callback of the monitor failed over: %s", alert.message)

    def _emit(self, alert: Alert) -> None:
        payload: dict[str, Any] = {
            "workflow_id": self._workflow_id,
            "session_id": self._definitions.session_id,
            "timestamp": alert.at,
            "data": {
                "rule": alert.rule,
                "state": alert.state,
                "value": alert.value,
                "threshold": alert.threshold,
                "unit": alert.unit,
            },
        }
        if self._integrator is None:
            _look_at(emit_hook_event(self._definitions, EVENT, payload).run())
        elif self._loop is not None:
            from asyncio import run_coroutine_threadsafe

            emitting = self._integrator.emit_hook_event(EVENT, payload)
            try:
                run_coroutine_threadsafe(emitting, self._loop).add_done_callback(_look_at_emitted)
            except RuntimeError:  # the loop is closed, and with it who would listen
                emitting.close()


def _look_at_emitted(emitted: Future[OperationResult[Any]]) -> None:
    if not emitted.cancelled():
        _look_at(emitted.result())


def _look_at(result: OperationResult[Any]) -> None:
    if not result:
        logger.warning("an alert was not recorded as an event: %s", result.error)
