"""Rules that say when a handle fares badly: each fires once when its threshold is crossed, and clears once."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from waypost import clock
from waypost.options import AlertThresholds
from waypost.performance import StoreMetrics

RuleName = Literal["save_time", "load_time", "error_rate", "memory_usage"]
_MB = 1 << 20


class Alert(Struct, frozen=True, kw_only=True):
    """A rule that has fired, or cleared. `unit` is that of `value` and `threshold`: ms, MB (2**20 bytes), or none."""

    rule: RuleName
    state: Literal["fired", "cleared"]
    value: float
    threshold: float
    unit: str
    at: datetime

    @property
    def message(self) -> str:
        """A sentence for people."""
        unit = f" {self.unit}" if self.unit else ""
        side = "above" if self.state == "fired" else "no longer above"
        return f"{self.rule} is {self.value:.4g}{unit}, {side} {self.threshold:g}{unit}"


class Rules:
    """The rules of one monitor, and which of them have fired and not cleared. For one thread at a time."""

    def __init__(self, thresholds: AlertThresholds) -> None:
        self._thresholds = thresholds
        self.firing: dict[RuleName, Alert] = {}

    def judge(self, metrics: StoreMetrics) -> list[Alert]:
        """The alerts of the rules whose state has changed."""
        limits = self._thresholds
        judged = (
            self._judge("save_time", metrics.average_save_time_ms, limits.save_time, "ms"),
            self._judge("load_time", metrics.average_load_time_ms, limits.load_time, "ms"),
            self._judge("error_rate", metrics.error_rate, limits.error_rate, ""),
            self._judge("memory_usage", metrics.memory_usage_bytes / _MB, limits.memory_usage, "MB"),
        )
        return [alert for alert in judged if alert is not None]

    def _judge(self, rule: RuleName, value: float, threshold: float, unit: str) -> Alert | None:
        is_above = value > threshold
        if is_above == (rule in self.firing):
            return None
        at = clock.to_datetime(clock.now_us())
        state = "fired" if is_above else "cleared"
        alert = Alert(rule=rule, state=state, value=value, threshold=threshold, unit=unit, at=at)
        # another mapping, so that whoever looks at the one that was there sees no change
        firing = self.firing.copy()
        firing.pop(rule, None)
        self.firing = {**firing, rule: alert} if is_above else firing
        return alert
