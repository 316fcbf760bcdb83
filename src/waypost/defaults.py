"""The table of options: what each takes, and what it is in each of the three presets. `config` reads it."""

from __future__ import annotations

import json
import re
from typing import NamedTuple, cast

from waypost import patterns


class Flag:
    def __str__(self) -> str:
        return "true or false"

    def allows(self, value: object) -> bool:
        return type(value) is bool

    def parse(self, text: str) -> object:
        """The value that a variable's text stands for, or the text where it stands for none."""
        lowered = text.strip().lower()
        return True if lowered in _YES else False if lowered in _NO else text


class Choice(NamedTuple):
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "one of " + ", ".join(self.names)

    def allows(self, value: object) -> bool:
        return type(value) is str and value in self.names

    def parse(self, text: str) -> object:
        return text.strip()


class Range(NamedTuple):
    low: int
    high: int = 10**12  # for what has no bound of its own: far beyond use, and no clock or codec overflows

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def allows(self, value: object) -> bool:
        # a boolean is an int to Python and never what is meant here
        return type(value) is int and self.low <= value <= self.high

    def parse(self, text: str) -> object:
        return int(text) if _NUMBER.fullmatch(text.strip()) else text


class Share:
    def __str__(self) -> str:
        return "a number from 0 to 1"

    def allows(self, value: object) -> bool:
        return type(value) in (int, float) and 0 <= cast("float", value) <= 1

    def parse(self, text: str) -> object:
        return float(text) if _DECIMAL.fullmatch(text.strip()) else text


class Text:
    def __str__(self) -> str:
        return "a text of at most 200 printable characters"

    def allows(self, value: object) -> bool:
        return type(value) is str and (value == "" or (value.isprintable() and len(value) <= 200))

    def parse(self, text: str) -> object:
        return text


class Path:
    def __str__(self) -> str:
        return "the path of a file, absolute or beginning with ~/"

    def allows(self, value: object) -> bool:
        # one from the working directory would lead elsewhere for each that opens the store
        return type(value) is str and (value == "" or (value.startswith(("/", "~/")) and "\0" not in value))

    def parse(self, text: str) -> object:
        return text


class Patterns:
    def __str__(self) -> str:
        return patterns.TAKEN

    def allows(self, value: object) -> bool:
        if not isinstance(value, (list, tuple)):
            return False
        return all(type(each) is str and patterns.parse(each) is not None for each in cast("list[object]", value))

    def parse(self, text: str) -> object:
        """Patterns parted by commas, which stand in no name; in brackets an array of JSON, in which they may."""
        if not text.lstrip().startswith("["):
            return tuple(each.strip() for each in text.split(","))
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text


_YES = frozenset({"true", "1", "yes", "on"})
_NO = frozenset({"false", "0", "no", "off"})
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)

LEVELS: dict[str, Range] = {
    "zstd": Range(-7, 22),
    "gzip": Range(0, 9),
    "lz4": Range(0, 16),
    "brotli": Range(0, 11),
    "none": Range(-7, 22),
}


Value = bool | int | float | str | tuple[str, ...]
"""What an option may be."""


class Option(NamedTuple):
    """What an option takes, and what it is in each preset."""

    taken: Flag | Choice | Range | Share | Text | Path | Patterns
    development: Value
    production: Value
    high_throughput: Value


OPTIONS: dict[str, Option] = {
    "compression.enabled": Option(Flag(), False, True, True),
    "compression.algorithm": Option(Choice(tuple(LEVELS)), "zstd", "zstd", "zstd"),
    "compression.level": Option(LEVELS["none"], 1, 6, 1),
    "compression.threshold": Option(Range(0), 10_240, 1024, 512),
    "compression.chunk_size": Option(Range(4 << 10, 16 << 20), 32 << 10, 64 << 10, 128 << 10),
    "performance.max_memory_usage": Option(Range(1), 128, 512, 1024),
    "performance.max_file_size": Option(Range(1, 4095), 50, 200, 500),
    "performance.batch_size": Option(Range(1, 10_000), 25, 100, 200),
    "performance.parallel_operations": Option(Range(1, 256), 2, 8, 16),
    "reliability.enable_wal": Option(Flag(), False, True, True),
    "reliability.sync_frequency": Option(Range(1), 60_000, 10_000, 5_000),
    "reliability.backup_retention": Option(Range(0), 3, 20, 10),
    "reliability.checksum_validation": Option(Flag(), False, True, False),
    "monitoring.enable_metrics": Option(Flag(), True, True, True),
    "monitoring.metrics_interval": Option(Range(10, 3_600_000), 30_000, 15_000, 5_000),
    "monitoring.alert_thresholds.save_time": Option(Range(1), 2000, 500, 100),
    "monitoring.alert_thresholds.load_time": Option(Range(1), 1000, 200, 50),
    "monitoring.alert_thresholds.error_rate": Option(Share(), 0.1, 0.02, 0.01),
    "monitoring.alert_thresholds.memory_usage": Option(Range(1), 100, 400, 800),
    "steps.enforce_dependencies": Option(Flag(), True, True, True),
    "checkpoints.initial": Option(Flag(), True, True, True),
    "checkpoints.pre_step": Option(Flag(), False, False, False),
    "checkpoints.post_step": Option(Flag(), True, True, True),
    "checkpoints.error": Option(Flag(), True, True, True),
    "checkpoints.pause": Option(Flag(), True, True, True),
    "hooks.enable_auto_checkpoints": Option(Flag(), True, True, True),
    "hooks.checkpoint_frequency": Option(Range(1, 100_000), 10, 5, 5),
    "hooks.enable_performance_tracking": Option(Flag(), True, True, True),
    "hooks.enable_crash_recovery": Option(Flag(), False, True, True),
    "retention.max_checkpoints": Option(Range(1, 100_000), 50, 50, 50),
    "retention.min_checkpoints": Option(Range(0, 100_000), 5, 5, 5),
    "retention.max_age_days": Option(Range(1, 36_500), 30, 30, 30),
    "retention.max_workflow_size": Option(Range(1), 1024, 1024, 1024),
    "retention.max_store_size": Option(Range(1), 10_240, 10_240, 10_240),
    "history.max_age_days": Option(Range(1, 36_500), 30, 30, 30),
    "security.key_file": Option(Path(), "", "", ""),
    "security.keyring": Option(Text(), "", "", ""),
    "security.redact": Option(Patterns(), (), (), ()),
    "postgres.pool_size": Option(Range(1, 1000), 4, 10, 20),
    "postgres.lock_timeout": Option(Range(1, 3_600_000), 10_000, 10_000, 10_000),
    "postgres.statement_timeout": Option(Range(1, 3_600_000), 60_000, 60_000, 60_000),
}
