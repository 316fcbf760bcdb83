"""What there is to configure, by section. Values come from `config`, which knows limits, presets and sources."""

from __future__ import annotations

from typing import Literal

import msgspec

Algorithm = Literal["zstd", "gzip", "lz4", "brotli", "none"]


class CompressionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How stored bytes are made smaller. Each frame says what it was compressed with, so a store may mix them.

    `threshold` and `chunk_size` are bytes: shorter payloads stay plain, longer values are written in chunks.
    What `level` means, and which there are, depends on the algorithm; `none` ignores it.
    """

    enabled: bool
    algorithm: Algorithm
    level: int
    threshold: int
    chunk_size: int


class PerformanceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What may be used. MB are 2**20 bytes.

    `max_memory_usage` (MB) bounds caches and buffers, `max_file_size` (MB) the file of one workflow, `batch_size`
    the commits that share one sync, `parallel_operations` the threads for compressing, verifying and loading.
    """

    max_memory_usage: int
    max_file_size: int
    batch_size: int
    parallel_operations: int


class ReliabilityConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What is promised.

    With `enable_wal` a commit is acknowledged once it is synced, without it once the operating system has it.
    `sync_frequency` is a period in ms, `backup_retention` the number of earlier files kept of one that was replaced;
    without `checksum_validation` the checksums of payloads (never of headers) are left unchecked on reading.
    """

    enable_wal: bool
    sync_frequency: int
    backup_retention: int
    checksum_validation: bool


class AlertThresholds(msgspec.Struct, frozen=True, kw_only=True):
    """Above which value an alert fires: the mean time of a save and of a load (ms), failed / all operations (0 to 1),
    and what the process has resident (MB of 2**20 bytes).
    """

    save_time: int
    load_time: int
    error_rate: float
    memory_usage: int


class MonitoringConfig(msgspec.Struct, frozen=True, kw_only=True):
    """With `enable_metrics` operations are counted. `metrics_interval` is how often a monitor looks, in ms, unless it
    is told otherwise (docs/monitoring.md).
    """

    enable_metrics: bool
    metrics_interval: int
    alert_thresholds: AlertThresholds


class StepsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """With `enforce_dependencies` a step cannot start before those it depends on are finished."""

    enforce_dependencies: bool


class CheckpointsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which checkpoints are made without being asked for, each in the commit that it stands for: of a workflow as it
    is made (`initial`), before a step starts (`pre_step`), once one is completed or skipped (`post_step`), has failed
    (`error`), and of a workflow that is paused (`pause`).
    """

    initial: bool
    pre_step: bool
    post_step: bool
    error: bool
    pause: bool


class HooksConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What hook events do beside what they say (docs/hooks.md).

    With `enable_auto_checkpoints` events make checkpoints that nobody asked for: at the end of a workflow and of a
    session, and of every `checkpoint_frequency`-th completed step. With `enable_performance_tracking` times and use of
    memory are taken from what events tell. With `enable_crash_recovery` a step that fails is kept as a checkpoint.
    """

    enable_auto_checkpoints: bool
    checkpoint_frequency: int
    enable_performance_tracking: bool
    enable_crash_recovery: bool


class RetentionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How many checkpoints stay of those that may go: not those of the type `manual`, nor those with the tag milestone,
    release, backup or stable.

    A workflow keeps at most `max_checkpoints` of them, none older than `max_age_days`, and the newest
    `min_checkpoints` whatever else is said. `max_workflow_size` and `max_store_size` (MB) bound the files of all
    checkpoints of a workflow, and of the store.
    """

    max_checkpoints: int
    min_checkpoints: int
    max_age_days: int
    max_workflow_size: int
    max_store_size: int


class HistoryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Commits older than `max_age_days` may go when a log is compacted; versions of checkpoints never do."""

    max_age_days: int


class SecurityConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where keys come from beside `$WAYPOST_KEY`, and which values are never written.

    `key_file` is the path of a file with keys, absolute or from `~` on, that only its owner may read; `keyring` the
    service under which the system's keyring has them; each is empty where there is none. What stands at a path that
    one of the patterns in `redact` matches is written as the text "[redacted]".
    """

    key_file: str
    keyring: str
    redact: tuple[str, ...]


class PostgresConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a server is used: at most `pool_size` connections by one handle. In ms, `lock_timeout` is how long a document
    that others write, or a connection, is waited for, and `statement_timeout` bounds a statement of any kind.
    """

    pool_size: int
    lock_timeout: int
    statement_timeout: int


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All options, each with a value. Made by `load`; `PRESETS` has three."""

    compression: CompressionConfig
    performance: PerformanceConfig
    reliability: ReliabilityConfig
    monitoring: MonitoringConfig
    steps: StepsConfig
    checkpoints: CheckpointsConfig
    hooks: HooksConfig
    retention: RetentionConfig
    history: HistoryConfig
    security: SecurityConfig
    postgres: PostgresConfig

    @property
    def durability(self) -> Literal["power", "process"]:
        """What an acknowledged commit survives: the loss of power, or only the end of the process."""
        return "power" if self.reliability.enable_wal else "process"
