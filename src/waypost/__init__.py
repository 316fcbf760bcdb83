"""Waypost keeps the state of workflows safe: atomic, durable steps that survive a crash and can be resumed.

Importing it makes no file, no thread and no timer, and loads next to nothing: each public name is loaded from its
module when it is first used.
"""

# type checkers take this for typing.TYPE_CHECKING, without the time that importing typing takes
TYPE_CHECKING = False

if TYPE_CHECKING:
    from msgspec import UNSET

    from waypost.alerts import Alert
    from waypost.api import AsyncRun, AsyncWaypost, open_async
    from waypost.attempts import WorkflowTransaction
    from waypost.blame import Blame
    from waypost.blocking import Waypost, open
    from waypost.cleaning import CleanupReport
    from waypost.codec.values import Unregistered, register_type, unregister_type
    from waypost.config import Config
    from waypost.delta import Difference, WorkflowDiff
    from waypost.erasures import Erasure
    from waypost.errors import (
        CheckpointNotFound,
        DependencyUnfinished,
        DocumentDamaged,
        DocumentTooLarge,
        IllegalTransition,
        ImportConflict,
        InvalidConfiguration,
        InvalidId,
        InvalidInput,
        InvalidValue,
        InvalidWorkflow,
        KeyMissing,
        LockTimeout,
        MigrationFailed,
        NotFound,
        OperationNotFound,
        OutputNotFound,
        PathNotFound,
        Refused,
        RetriesExhausted,
        SchemaOutdated,
        SealBroken,
        SecretsNotSealed,
        SessionBusy,
        SessionEnded,
        SessionExists,
        SessionFenced,
        SessionNotFound,
        SessionPaused,
        StepBusy,
        StepFailed,
        StepNotFound,
        StoreClosed,
        StoreError,
        StoreLeased,
        StoreNotFound,
        StorePoisoned,
        StoreReadOnly,
        StoreUnavailable,
        TransactionPending,
        UnsupportedFormat,
        UnsupportedPlatform,
        ValueErased,
        VersionConflict,
        VersionNotFound,
        WaypostError,
        WorkflowExists,
        WorkflowNotFound,
        WorkflowPaused,
    )
    from waypost.history import HistoryEntry
    from waypost.hooks.listeners import HookListener
    from waypost.hooks.payloads import HookEvent
    from waypost.integrator import (
        HookIntegrator,
        HookStatistics,
        create_state_hook_integrator,
        create_workflow_state_api,
        initialize_workflow_state,
    )
    from waypost.maintenance import RepairReport, repair
    from waypost.migrating import MigratingDocument
    from waypost.migrations import MigrationReport, WorkflowMigration
    from waypost.models import (
        AgentPerformance,
        AgentResources,
        AgentState,
        PerformanceMetrics,
        RecoverySuggestions,
        StateCheckpoint,
        StateMetadata,
        StepOutput,
        StepOwner,
        Tombstone,
        ValidationReport,
        Workflow,
        WorkflowContext,
        WorkflowState,
        WorkflowStep,
        WorkflowSummary,
    )
    from waypost.monitor import StatePerformanceMonitor
    from waypost.operations import (
        Failure,
        OperationPerformance,
        OperationResult,
        Success,
        UnhandledFailureWarning,
    )
    from waypost.performance import MetricsPoint, MetricsTotals, OperationMetrics, StoreMetrics
    from waypost.places import ErasedValue, LargeValue, SealedValue
    from waypost.prometheus import prometheus_text
    from waypost.queries import StateQuery, StateQueryResult, TimeRange
    from waypost.rotation import RotationReport, WorkflowRotation
    from waypost.runs import Run
    from waypost.schema import register_migration, unregister_migration
    from waypost.session_models import (
        CrashRecoveryData,
        Presence,
        SessionExport,
        SessionImport,
        SessionQuery,
        SessionRecoveryPlan,
        SessionState,
        SessionStatistics,
        WorkflowTriage,
    )
    from waypost.store import BackedUp, BackedUpFile, Backup, Restored
    from waypost.sync_models import (
        ConflictSide,
        Resolution,
        StateConflict,
        SyncedDocument,
        SyncFailure,
        SyncReport,
    )
    from waypost.watches import AsyncWatch
    from waypost.watching import CommitEvent, Watch

_MODULES = {
    "msgspec": "UNSET",
    "waypost.alerts": "Alert",
    "waypost.api": "AsyncRun AsyncWaypost open_async",
    "waypost.blame": "Blame",
    "waypost.blocking": "Waypost open",
    "waypost.cleaning": "CleanupReport",
    "waypost.codec.values": "Unregistered register_type unregister_type",
    "waypost.config": "Config",
    "waypost.delta": "Difference WorkflowDiff",
    "waypost.erasures": "Erasure",
    "waypost.errors": (
        "CheckpointNotFound DependencyUnfinished DocumentDamaged DocumentTooLarge IllegalTransition "
        "ImportConflict InvalidConfiguration InvalidId InvalidInput InvalidValue InvalidWorkflow KeyMissing "
        "LockTimeout MigrationFailed NotFound OperationNotFound OutputNotFound PathNotFound Refused RetriesExhausted "
        "SchemaOutdated SealBroken SecretsNotSealed SessionBusy SessionEnded SessionExists SessionFenced "
        "SessionNotFound SessionPaused StepBusy StepFailed StepNotFound StoreClosed StoreError StoreLeased "
        "StoreNotFound StorePoisoned StoreReadOnly StoreUnavailable TransactionPending UnsupportedFormat "
        "UnsupportedPlatform ValueErased VersionConflict VersionNotFound WaypostError WorkflowExists WorkflowNotFound "
        "WorkflowPaused"
    ),
    "waypost.history": "HistoryEntry",
    "waypost.hooks.listeners": "HookListener",
    "waypost.hooks.payloads": "HookEvent",
    "waypost.integrator": (
        "HookIntegrator HookStatistics create_state_hook_integrator create_workflow_state_api initialize_workflow_state"
    ),
    "waypost.migrating": "MigratingDocument",
    "waypost.migrations": "MigrationReport WorkflowMigration",
    "waypost.maintenance": "RepairReport repair",
    "waypost.models": (
        "AgentPerformance AgentResources AgentState PerformanceMetrics RecoverySuggestions StateCheckpoint "
        "StateMetadata StepOutput StepOwner Tombstone ValidationReport Workflow "
        "WorkflowContext WorkflowState WorkflowStep WorkflowSummary"
    ),
    "waypost.monitor": "StatePerformanceMonitor",
    "waypost.operations": "Failure OperationPerformance OperationResult Success UnhandledFailureWarning",
    "waypost.performance": "MetricsPoint MetricsTotals OperationMetrics StoreMetrics",
    "waypost.places": "ErasedValue LargeValue SealedValue",
    "waypost.prometheus": "prometheus_text",
    "waypost.queries": "StateQuery StateQueryResult TimeRange",
    "waypost.rotation": "RotationReport WorkflowRotation",
    "waypost.runs": "Run",
    "waypost.attempts": "WorkflowTransaction",
    "waypost.watches": "AsyncWatch",
    "waypost.watching": "CommitEvent Watch",
    "waypost.schema": "register_migration unregister_migration",
    "waypost.session_models": (
        "CrashRecoveryData Presence SessionExport SessionImport SessionQuery SessionRecoveryPlan SessionState "
        "SessionStatistics WorkflowTriage"
    ),
    "waypost.sync_models": "ConflictSide Resolution StateConflict SyncFailure SyncReport SyncedDocument",
    "waypost.store": "BackedUp BackedUpFile Backup Restored",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "UNSET",
    "AgentPerformance",
    "AgentResources",
    "AgentState",
    "Alert",
    "AsyncRun",
    "AsyncWatch",
    "AsyncWaypost",
    "BackedUp",
    "BackedUpFile",
    "Backup",
    "Blame",
    "CheckpointNotFound",
    "CleanupReport",
    "CommitEvent",
    "Config",
    "ConflictSide",
    "CrashRecoveryData",
    "DependencyUnfinished",
    "Difference",
    "DocumentDamaged",
    "DocumentTooLarge",
    "ErasedValue",
    "Erasure",
    "Failure",
    "HistoryEntry",
    "HookEvent",
    "HookIntegrator",
    "HookListener",
    "HookStatistics",
    "IllegalTransition",
    "ImportConflict",
    "InvalidConfiguration",
    "InvalidId",
    "InvalidInput",
    "InvalidValue",
    "InvalidWorkflow",
    "KeyMissing",
    "LargeValue",
    "LockTimeout",
    "MetricsPoint",
    "MetricsTotals",
    "MigratingDocument",
    "MigrationFailed",
    "MigrationReport",
    "NotFound",
    "OperationMetrics",
    "OperationNotFound",
    "OperationPerformance",
    "OperationResult",
    "OutputNotFound",
    "PathNotFound",
    "PerformanceMetrics",
    "Presence",
    "RecoverySuggestions",
    "Refused",
    "RepairReport",
    "Resolution",
    "Restored",
    "RetriesExhausted",
    "RotationReport",
    "Run",
    "SchemaOutdated",
    "SealBroken",
    "SealedValue",
    "SecretsNotSealed",
    "SessionBusy",
    "SessionEnded",
    "SessionExists",
    "SessionExport",
    "SessionFenced",
    "SessionImport",
    "SessionNotFound",
    "SessionPaused",
    "SessionQuery",
    "SessionRecoveryPlan",
    "SessionState",
    "SessionStatistics",
    "StateCheckpoint",
    "StateConflict",
    "StateMetadata",
    "StatePerformanceMonitor",
    "StateQuery",
    "StateQueryResult",
    "StepBusy",
    "StepFailed",
    "StepNotFound",
    "StepOutput",
    "StepOwner",
    "StoreClosed",
    "StoreError",
    "StoreLeased",
    "StoreMetrics",
    "StoreNotFound",
    "StorePoisoned",
    "StoreReadOnly",
    "StoreUnavailable",
    "Success",
    "SyncFailure",
    "SyncReport",
    "SyncedDocument",
    "TimeRange",
    "Tombstone",
    "TransactionPending",
    "UnhandledFailureWarning",
    "Unregistered",
    "UnsupportedFormat",
    "UnsupportedPlatform",
    "ValidationReport",
    "ValueErased",
    "VersionConflict",
    "VersionNotFound",
    "Watch",
    "Waypost",
    "WaypostError",
    "Workflow",
    "WorkflowContext",
    "WorkflowDiff",
    "WorkflowExists",
    "WorkflowMigration",
    "WorkflowNotFound",
    "WorkflowPaused",
    "WorkflowRotation",
    "WorkflowState",
    "WorkflowStep",
    "WorkflowSummary",
    "WorkflowTransaction",
    "WorkflowTriage",
    "create_state_hook_integrator",
    "create_workflow_state_api",
    "initialize_workflow_state",
    "open",
    "open_async",
    "prometheus_text",
    "register_migration",
    "register_type",
    "repair",
    "unregister_migration",
    "unregister_type",
]


def __getattr__(name: str) -> object:
    """Load a public name from its module."""
    if name == "__version__":
        from importlib.metadata import version

        return version("waypost")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
