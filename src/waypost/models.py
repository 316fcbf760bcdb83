"""What is kept: the workflow with its steps, agents, outputs and context, and what is said about them.

Times are aware UTC datetimes; names that end in `_ms` are durations in milliseconds, in `_bytes` sizes in bytes.
Structs that are stored encode as their fields in order, so a field keeps its place for ever and new ones come last.
What can be told from the steps (a workflow's status, its progress, its performance) is a property and never stored.

A state that came from a store decodes its parts when they are touched. What belongs to that (a loader, the view
behind it) lies in `__dict__`, apart from the fields: it takes no part in equality, repr or encoding.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from copy import deepcopy
from datetime import datetime
from typing import Annotated, Any, Literal, Self, TypeVar

from msgspec import Meta, Struct, field, structs

from waypost import clock
from waypost.errors import StepNotFound
from waypost.folding import FINISHED, Fold, StepStatus, WorkflowStatus, fold

T = TypeVar("T")

AgentStatus = Literal["idle", "active", "busy", "error"]
Environment = Literal["development", "production", "test"]

Moment = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0)]


class _Kept:
    """A struct whose copies keep what lies beside its fields; by itself a struct's copies drop it."""

    __slots__ = ()

    def __copy__(self) -> Self:
        made = type(self)(**_fields(self))
        vars(made).update(vars(self))
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = type(self)(**deepcopy(_fields(self), memo))
        memo[id(self)] = made
        vars(made).update(deepcopy(vars(self), memo))
        return made


def _fields(struct: Any) -> dict[str, Any]:
    return structs.asdict(struct)


def _unpickled(kind: type[T], fields: dict[str, Any], beside: dict[str, Any]) -> T:
    made = kind(**fields)
    vars(made).update(beside)
    return made


# --- steps ---


class StepOwner(Struct, array_like=True, frozen=True):
    """The process that is working on a step, named so that it can be told dead from alive.

    `start` is in clock ticks since boot, 0 where unknown.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    start: int

    @classmethod
    def this_process(cls) -> StepOwner:
        return cls(*clock.process_identity())

    @property
    def identity(self) -> clock.ProcessIdentity:
        return clock.ProcessIdentity(self.host, self.boot, self.namespace, self.pid, self.start)


class WorkflowStep(_Kept, Struct, array_like=True, dict=True):
    """One step of a workflow. A plain string stands for a step with that id and name.

    `dependencies` are ids of steps that must be finished first. `parallel` says that a run may do the step beside
    others. `max_retries` is how often it may be started again after failing. `interruptions` counts takeovers
    from an owner that died. `error` says why the step failed, or why the output of a completed one could not be
    recorded. `owner` is who works on it while it is running. `output_version` is the newest output's, 0 without one.
    """

    id: str
    name: str = ""
    agent_id: str | None = None
    status: StepStatus = "pending"
    start_time: Moment | None = None
    end_time: Moment | None = None
    dependencies: list[str] = []
    parallel: bool = True
    retry_count: Count = 0
    max_retries: Count = 0
    error: str | None = None
    interruptions: Count = 0
    owner: StepOwner | None = None
    output_version: Count = 0

    def __post_init__(self) -> None:
        if not self.name:
            self.name = self.id

    @property
    def is_finished(self) -> bool:
        """Whether steps that depend on this one may start."""
        return self.status in FINISHED

    @property
    def output(self) -> Any:
        """The newest output, decoded when it is first asked for; None where there is none."""
        outputs = vars(self).get("_outputs")
        if outputs is None:
            return vars(self).get("_output")
        return outputs.value_of(self.id)

    @output.setter
    def output(self, value: Any) -> None:
        """Give the step another output: saving the state adds it as a new version."""
        outputs = vars(self).get("_outputs")
        if outputs is None:
            vars(self)["_output"] = value
        else:
            outputs[self.id] = StepOutput.of(self.id, value, self.agent_id)

    def __reduce__(self) -> tuple[Any, ...]:
        has_output = self.output_version or "_output" in vars(self)
        beside = {"_output": self.output} if has_output else {}
        return _unpickled, (type(self), _fields(self), beside)


class StepOutput(_Kept, Struct, array_like=True, dict=True, frozen=True):
    """One version of a step's output.

    `size_bytes` and `checksum` (SHA-256, hex) are those of the value's stored bytes.
    """

    step_id: str
    agent_id: str | None
    timestamp: Moment
    size_bytes: int
    checksum: str
    version: int

    @classmethod
    def of(cls, step_id: str, value: Any, agent_id: str | None = None) -> StepOutput:
        """An output that is not stored yet; saving the state gives it its version, size, time and checksum."""
        made = cls(step_id, agent_id, _NOT_YET, 0, "", 0)
        vars(made)["_value"] = value
        return made

    @property
    def output(self) -> Any:
        """The value, decoded when it is first asked for."""
        held = vars(self)
        if "_value" not in held:
            load = held.get("_load")
            held["_value"] = None if load is None else load()
        return held["_value"]

    @property
    def compressed(self) -> bool:
        """Whether the version of the workflow that this was read from is stored compressed."""
        return vars(self).get("_compressed", False)

    def __reduce__(self) -> tuple[Any, ...]:
        beside = {"_value": self.output, "_compressed": self.compressed}
        return _unpickled, (type(self), _fields(self), beside)


_NOT_YET = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class Steps(MutableSequence[WorkflowStep]):
    """The steps of a loaded workflow: a list that decodes a step when it is touched."""

    __slots__ = ()

    @abstractmethod
    def find(self, step_id: str) -> WorkflowStep | None:
        """The step of that id, at the same cost in a long list as in a short one."""

    @abstractmethod
    def fold(self, paused: bool) -> Fold: ...


# --- agents ---


class AgentPerformance(Struct, forbid_unknown_fields=True):
    """How an agent has done so far. `error_rate` is failed tasks / all tasks, the average of the completed ones."""

    tasks_completed: Count = 0
    average_execution_time_ms: float = 0.0
    error_rate: float = 0.0
    last_activity: Moment | None = None
    tasks_failed: Count = 0


class AgentResources(Struct, forbid_unknown_fields=True):
    """What an agent uses, as it reports it. `cpu_usage` is in percent of one processor."""

    memory_usage_bytes: int = 0
    cpu_usage: float = 0.0
    io_operations: int = 0
    network_requests: int = 0
    cache_hit_rate: float | None = None


class AgentState(Struct, forbid_unknown_fields=True):
    """One agent that works on the workflow."""

    id: str
    name: str = ""
    status: AgentStatus = "idle"
    current_task: str | None = None
    task_queue: list[str] = []
    performance: AgentPerformance = field(default_factory=AgentPerformance)
    resources: AgentResources = field(default_factory=AgentResources)

    def __post_init__(self) -> None:
        if not self.name:
            self.name = self.id


# --- a whole state ---


class StateMetadata(Struct, frozen=True, kw_only=True):
    """True of exactly the version that it stands in. `checksum` is 64 hex digits, additive over the stored parts.

    `schema_version` is how Waypost has laid the workflow out, `application_versions` what its applications made of it.
    """

    id: str = ""
    version: int = 0
    schema_version: str = ""
    application_versions: Mapping[str, str] = {}
    created_at: datetime | None = None
    updated_at: datetime | None = None
    checksum: str = ""
    size_bytes: int = 0
    compressed: bool = False


class WorkflowContext(Struct, kw_only=True):
    """What the steps share. Secrets are stored sealed, and opened one by one when they are asked for."""

    session_id: str | None = None
    user_id: str | None = None
    environment: Environment = "development"
    configuration: MutableMapping[str, Any] = {}
    variables: MutableMapping[str, Any] = {}
    features: MutableMapping[str, Any] = {}
    secrets: MutableMapping[str, Any] = {}

    def __repr__(self) -> str:
        return f"WorkflowContext({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # secrets stay out of every text that may end in a log
        names = ("session_id", "user_id", "environment", "configuration", "variables", "features")
        return [(name, getattr(self, name)) for name in names]


class PerformanceMetrics(Struct, frozen=True, kw_only=True):
    """How the workflow has done: times from its steps, the rest from what its agents report.

    `memory_peak_usage_bytes` is the largest of the agents', `cache_hit_rate` the mean of those that tell one,
    `error_count` the number of failed attempts at steps.
    """

    total_execution_time_ms: float
    step_execution_times_ms: Mapping[str, float]
    agent_performance: Mapping[str, AgentPerformance]
    memory_peak_usage_bytes: int
    io_operations: int
    network_requests: int
    cache_hit_rate: float | None
    error_count: int


class Workflow(Struct):
    """A workflow and its steps, in their order."""

    id: str
    name: str = ""
    steps: MutableSequence[WorkflowStep] = []
    paused: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            self.name = self.id
        if not isinstance(self.steps, Steps):
            self.steps = [as_step(step) for step in self.steps]

    def fold(self) -> Fold:
        """All that the steps say about the workflow, at once."""
        steps = self.steps
        return steps.fold(self.paused) if isinstance(steps, Steps) else fold(steps, self.paused)

    @property
    def status(self) -> WorkflowStatus:
        return self.fold().status

    @property
    def progress(self) -> float:
        """Finished steps of all steps, 0 to 100."""
        return self.fold().progress

    @property
    def current_step(self) -> str | None:
        """The id of the running step that started last."""
        return self.fold().current_step

    @property
    def start_time(self) -> datetime | None:
        return self.fold().start_time

    @property
    def end_time(self) -> datetime | None:
        return self.fold().end_time

    @property
    def error(self) -> str | None:
        """Why the workflow failed: the error of the first step that has no retries left."""
        return self.fold().error


class WorkflowState(_Kept, Struct, kw_only=True, dict=True):
    """Everything about one workflow at one version."""

    metadata: StateMetadata = field(default_factory=StateMetadata)
    workflow: Workflow
    agents: MutableMapping[str, AgentState] = {}
    outputs: MutableMapping[str, StepOutput] = {}
    context: WorkflowContext = field(default_factory=WorkflowContext)

    @property
    def performance(self) -> PerformanceMetrics:
        folded = self.workflow.fold()
        agents = dict(self.agents)
        resources = [agent.resources for agent in agents.values()]
        rates = [one.cache_hit_rate for one in resources if one.cache_hit_rate is not None]
        return PerformanceMetrics(
            total_execution_time_ms=folded.total_execution_time_ms,
            step_execution_times_ms=folded.step_execution_times_ms,
            agent_performance={name: agent.performance for name, agent in agents.items()},
            memory_peak_usage_bytes=max((one.memory_usage_bytes for one in resources), default=0),
            io_operations=sum(one.io_operations for one in resources),
            network_requests=sum(one.network_requests for one in resources),
            cache_hit_rate=sum(rates) / len(rates) if rates else None,
            error_count=folded.error_count,
        )

    def step(self, step_id: str) -> WorkflowStep:
        """The step of that id. Raises StepNotFound."""
        steps = self.workflow.steps
        if isinstance(steps, Steps):
            found = steps.find(step_id)
        else:
            found = next((step for step in steps if step.id == step_id), None)
        if found is None:
            raise no_such_step(self.workflow.id, step_id)
        return found


def as_step(given: WorkflowStep | str) -> WorkflowStep:
    """A step as it may be given: itself, or a string that is both its id and its name."""
    return WorkflowStep(given) if isinstance(given, str) else given


def no_such_step(workflow_id: str, step_id: str) -> StepNotFound:
    return StepNotFound(f"workflow {workflow_id!r} has no step {step_id!r}", workflow_id=workflow_id, step_id=step_id)


# --- looking for workflows ---


class WorkflowSummary(Struct, frozen=True, kw_only=True):
    """One workflow in a list. `step_counts` has an entry for each step status."""

    id: str
    name: str
    status: WorkflowStatus
    progress: float
    current_step: str | None
    error: str | None
    step_counts: Mapping[StepStatus, int]
    version: int
    created_at: datetime
    updated_at: datetime
    start_time: datetime | None
    end_time: datetime | None
    size_bytes: int
    session_ids: Sequence[str]


CheckpointType = Literal["manual", "automatic", "pre_step", "post_step", "error"]


class StateCheckpoint(_Kept, Struct, frozen=True, kw_only=True, dict=True):
    """A version of a workflow that is kept.

    `parent_id` is the checkpoint that it was made after, or that the workflow had gone back to; None for the first one.
    """

    id: str
    workflow_id: str
    type: CheckpointType
    description: str
    tags: tuple[str, ...]
    created_at: datetime
    session_id: str | None = None
    parent_id: str | None = None

    @property
    def state(self) -> WorkflowState:
        """The workflow as it was, read when it is first asked for. Raises DocumentDamaged."""
        held = vars(self)
        if "_state" not in held:
            held["_state"] = held["_load"]()
        return held["_state"]

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self), _fields(self), {"_state": self.state})


class RecoverySuggestions(Struct, frozen=True, kw_only=True):
    """The checkpoints of a workflow, newest first, and the one that is best gone back to: `latest` where that is the
    newest one, `stable` an older one, since the newer are damaged, `manual_selection` where none is whole.
    """

    available_checkpoints: Sequence[StateCheckpoint]
    recommended_recovery_point: StateCheckpoint | None
    recovery_strategy: Literal["latest", "stable", "manual_selection"]
    warnings: Sequence[str]


class ValidationReport(Struct, frozen=True, kw_only=True):
    """What a check of a stored workflow found, one sentence each. Errors make it invalid, warnings do not."""

    is_valid: bool
    errors: Sequence[str]
    warnings: Sequence[str]


class Tombstone(Struct, array_like=True, frozen=True):
    """What is left of a deleted workflow."""

    workflow_id: str
    deleted_at: Moment
    session_id: str | None = None
