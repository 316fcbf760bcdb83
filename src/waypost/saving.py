"""Saving a whole state: the parts in which it differs from the version it was loaded from, and no others.

Preparing compares bytes: what was touched is encoded again and held against what the version has, so a change made
in place is never missed, and what nobody touched costs nothing. The work then puts only what differs.

Invariants:

* A part is written only if the store still has of it what the state's version had; else it is a VersionConflict.
* A state made by hand stands for the whole workflow. It is taken where there is no workflow of that id, or where its
  `metadata.version` is the current one; then parts it does not have are removed.
* What lands in the store is a graph of steps, whatever others changed meanwhile: it is checked in the transaction.
* Metadata is never taken from a state. An output that changed becomes a new version; the earlier ones stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from waypost import clock, erased, graph, records, secrecy
from waypost.errors import InvalidInput, InvalidWorkflow, VersionConflict
from waypost.loading import LazyMapping, LazySteps, base_of, every_step
from waypost.models import StepOutput, WorkflowContext, WorkflowState, WorkflowStep, as_step
from waypost.records import Value
from waypost.redaction import Redaction
from waypost.secrecy import FindKeys, NewSecret
from waypost.store import Store, Transaction, View

_GROUPS = (records.AGENT, records.CONFIGURATION, records.VARIABLE, records.FEATURE, records.SECRET)


@dataclass(slots=True)
class Plan:
    """What a state says, encoded. With a `base` only what differs from it, without one everything."""

    base: View | None
    redaction: Redaction
    name: str
    paused: bool
    version: int
    checksum: str
    time_us: int
    ids: list[str] | None = None
    """The order of the steps, or None where it is the base's."""
    structural: bool = False
    """Whether the steps have to be checked as a graph."""
    puts: dict[str, bytes] = field(default_factory=dict[str, bytes])
    secrets: dict[str, NewSecret] = field(default_factory=dict[str, NewSecret])
    """By the keys of their parts."""
    removed: set[str] = field(default_factory=set[str])
    steps: dict[str, WorkflowStep] = field(default_factory=dict[str, WorkflowStep])
    outputs: dict[str, tuple[Value, str | None]] = field(default_factory=dict[str, tuple[Value, str | None]])
    dropped: set[str] = field(default_factory=set[str])
    """Ids of steps whose outputs were taken out."""


# --- preparing ---


def prepare(state: WorkflowState, store: Store, redaction: Redaction) -> Plan:
    """Encode what a state holds or changed. Raises InvalidInput and its kinds, and SecretsNotSealed."""
    records.validate_id(state.workflow.id, "workflow id")
    context = state.context
    base = base_of(state, store)
    workflow, metadata = state.workflow, state.metadata
    plan = Plan(
        base=base,
        redaction=redaction,
        name=_text(workflow.name, "the name of a workflow"),
        paused=bool(workflow.paused),
        version=metadata.version,
        checksum=metadata.checksum,
        time_us=clock.now_us(),
    )
    _plan_part(plan, records.CONTEXT, context_bytes(context))
    _plan_group(plan, state.agents, records.AGENT, lambda name, agent: _agent_bytes(name, agent, redaction))
    for prefix, group, values in value_groups(context):
        _plan_group(
            plan, values, prefix, lambda name, value, group=group: redaction.encode(value, "context", group, name)
        )
    _plan_secrets(plan, context.secrets, store.keys)
    _plan_outputs(plan, state.outputs)
    _plan_steps(plan, state)
    return plan


def value_groups(context: WorkflowContext) -> list[tuple[str, str, MutableMapping[str, Any]]]:
    """The dictionaries of a context: prefix of their parts, their name, and what they hold."""
    return [
        (records.CONFIGURATION, "configuration", context.configuration),
        (records.VARIABLE, "variables", context.variables),
        (records.FEATURE, "features", context.features),
    ]


def context_bytes(context: WorkflowContext) -> bytes:
    if context.session_id is not None:
        records.validate_id(context.session_id, "session id")
    record = records.ContextRecord(context.session_id, context.user_id, context.environment)
    return records.CONTEXTS.check(record, "context")[1]


def _text(given: object, what: str) -> str:
    return records.TEXTS.check(given, what)[0]


def _agent_bytes(name: str, agent: object, redaction: Redaction) -> bytes:
    checked, _ = records.AGENTS.check(agent, f"agent {name!r}")
    if checked.id != name:
        raise InvalidInput(f"agent {checked.id!r} stands under another id, {name!r}")
    return records.encode(redaction.agent(checked))


def _plan_part(plan: Plan, key: str, data: bytes) -> None:
    if plan.base is None or plan.base.get(key) != data:
        plan.puts[key] = data


def _plan_group(plan: Plan, group: Mapping[str, Any], prefix: str, encode: Callable[[str, Any], bytes]) -> None:
    """The items of a dictionary: those touched of a loaded one, else all of them."""
    if not isinstance(group, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput(f"{prefix.rstrip(records.SEPARATOR)}s are a dictionary, not {type(group).__name__}")
    names, removed = _differing(plan, group, prefix)
    plan.removed.update(prefix + name for name in removed)
    for name in names:
        records.validate_id(name, f"{prefix.rstrip(records.SEPARATOR)} name")
        _plan_part(plan, prefix + name, encode(name, group[name]))


def _plan_secrets(plan: Plan, secrets: Mapping[str, Any], keys: FindKeys) -> None:
    """As `_plan_group`; those that nobody touched need no key."""
    if not isinstance(secrets, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput(f"context.secrets is a dictionary, not {type(secrets).__name__}")
    names, removed = _differing(plan, secrets, records.SECRET)
    plan.removed.update(records.SECRET + name for name in removed)
    for name in names:
        new = secrecy.prepare_one(name, secrets[name], keys)
        if plan.base is None or not new.is_in(plan.base):
            plan.secrets[records.SECRET + name] = new


def _differing(plan: Plan, group: Mapping[str, Any], prefix: str) -> tuple[Iterable[str], set[str]]:
    """Names of items to look at, and of items that are gone."""
    base = plan.base
    if base is None:
        return list(group), set()
    if isinstance(group, LazyMapping) and group.is_of(base, prefix):
        return list(group.touched), group.removed
    stored = (name.partition(records.SEPARATOR)[0] for name in records.names(base, prefix))
    return list(group), set(stored).difference(group)


def _plan_outputs(plan: Plan, outputs: Mapping[str, StepOutput]) -> None:
    names, removed = _differing(plan, outputs, records.OUTPUT)
    # an output that was erased is not among those of a state, and was not taken out of it
    plan.dropped |= {name for name in removed if plan.base is None or not _is_erased(plan.base, name)}
    for name in names:
        output = outputs[name]
        if not isinstance(output, StepOutput):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"outputs[{name!r}] is a StepOutput, not {type(output).__name__}")
        is_read = isinstance(outputs, LazyMapping) and name not in outputs.given and plan.base is not None
        if not is_read or "_value" in vars(output):
            _plan_output(plan, name, output.output, output.agent_id)


def _plan_output(plan: Plan, step_id: str, value: Any, agent_id: str | None) -> None:
    encoded = Value.of(plan.redaction.encode(value, "outputs", step_id))
    if plan.base is None or _newest_checksum(plan.base, step_id) != encoded.checksum:
        plan.outputs[step_id] = (encoded, agent_id)


def _newest_checksum(view: View, step_id: str) -> str | None:
    step = records.STEPS.get(view, records.STEP + step_id)
    if step is None or not step.output_version:
        return None
    if _is_erased(view, step_id):
        return None
    return records.output(view, step_id, step.output_version).checksum


def _is_erased(view: View, step_id: str) -> bool:
    """Whether the newest output of a step was erased."""
    step = records.STEPS.get(view, records.STEP + step_id)
    return step is not None and erased.is_gone(view, records.output_key(step_id, step.output_version))


def _plan_steps(plan: Plan, state: WorkflowState) -> None:
    steps = state.workflow.steps
    if plan.base is not None and isinstance(steps, LazySteps) and steps.is_of(plan.base):
        held, is_own = steps.held(), steps.is_own
        plan.ids = steps.ids() if steps.is_reordered else None
    else:
        held, is_own = [as_step(step) for step in steps], _never
        plan.ids = [step.id for step in held]
    plan.structural = plan.ids is not None
    for step in held:
        _plan_step(plan, step, is_own(step))


def _never(_: WorkflowStep) -> bool:
    return False


def _plan_step(plan: Plan, step: WorkflowStep, is_own: bool) -> None:
    if is_own and _is_as_stored(plan, step):
        return
    checked = plan.redaction.step(records.check_step(step))
    if checked.id in plan.steps:
        raise InvalidWorkflow(f"step {checked.id!r} is given twice", step_id=checked.id)
    if "_output" in vars(step):
        _plan_output(plan, step.id, vars(step)["_output"], step.agent_id)
    elif not is_own and step.id not in plan.outputs and "_outputs" in vars(step) and step.output_version:
        # the step of another state brings its output along
        _plan_output(plan, step.id, step.output, step.agent_id)
    before = None if plan.base is None else records.STEPS.get(plan.base, records.STEP + checked.id)
    if is_own and before is None:
        # its outputs would have to be renamed with it, all versions of them
        raise InvalidWorkflow(f"the id of a stored step cannot be changed to {step.id!r}: add a new step")
    # which outputs there are is told by the store, not by the step
    checked.output_version = 0 if before is None else before.output_version
    if checked != before:
        plan.steps[checked.id] = checked
        plan.structural = plan.structural or before is None or before.dependencies != checked.dependencies


def _is_as_stored(plan: Plan, step: WorkflowStep) -> bool:
    """Whether a step that was only looked at has the bytes it came from; what cannot be encoded has others."""
    try:
        return plan.base is not None and plan.base.get(f"{records.STEP}{step.id}") == records.encode(step)
    except (TypeError, ValueError, OverflowError):
        return False


# --- the work ---


def save(tx: Transaction, plan: Plan, chunk_size: int) -> None:
    """Put what a plan holds. Raises VersionConflict, WorkflowNotFound, InvalidWorkflow."""
    tx.project(["state"])
    _Saving(tx, plan, chunk_size).run()


class _Saving:
    """One run of the work; it may run several times, and leaves the plan as it is."""

    __slots__ = ("_chunk_size", "_plan", "_tx", "_unchanged")

    def __init__(self, tx: Transaction, plan: Plan, chunk_size: int) -> None:
        self._tx = tx
        self._plan = plan
        self._chunk_size = chunk_size
        self._unchanged = plan.base is None or plan.base.commit_id == tx.commit_id

    def run(self) -> None:
        self._save_workflow()
        plan = self._plan
        for key in sorted(plan.removed | self._missing_items()):
            self._guard(key)
            self._tx.delete(key)
        for key, data in plan.puts.items():
            self._guard(key)
            self._tx.put(key, data)
        for key, secret in plan.secrets.items():
            self._guard(key)
            secret.put(self._tx)
        if plan.ids is not None:
            self._save_order(plan.ids)
        for step_id in {**plan.steps, **plan.outputs, **dict.fromkeys(plan.dropped)}:
            self._save_step(step_id)
        if plan.structural:
            graph.check(list(every_step(self._tx)))

    def _guard(self, key: str) -> None:
        base = self._plan.base
        if not self._unchanged and base is not None and self._tx.get(key) != base.get(key):
            raise self._conflict(base.version, f"another commit has changed {records.shown(key)} since")

    def _conflict(self, version: int, why: str) -> VersionConflict:
        name, current = self._tx.document.id, self._tx.version
        return VersionConflict(
            f"workflow {name!r} is at version {current}, the state is of version {version}, and {why}: "
            f"load it again and repeat the change",
            workflow_id=name,
            version=version,
            current_version=current,
        )

    def _save_workflow(self) -> None:
        tx, plan = self._tx, self._plan
        found = records.find_workflow(tx)
        if plan.base is not None:
            if found is None:
                raise records.no_such_workflow(tx)
            before = records.workflow(plan.base)
            if (before.name, before.paused) == (plan.name, plan.paused):
                return
            self._guard(records.WORKFLOW)
        elif found is None:
            tx.delete(records.TOMBSTONE)
        elif plan.version != tx.version or plan.checksum not in ("", tx.checksum.hex()):
            raise self._conflict(plan.version, "it was not loaded from there")
        if found is None:
            record = records.WorkflowRecord.new(plan.name, plan.time_us, paused=plan.paused)
        else:
            record = replace(found, name=plan.name, paused=plan.paused)
        tx.put(records.WORKFLOW, records.encode(record))

    def _missing_items(self) -> set[str]:
        """Items that the store has and a state made by hand has not."""
        if self._plan.base is not None:
            return set()
        return {key for prefix in _GROUPS for key in self._tx.keys(prefix)}.difference(
            self._plan.puts, self._plan.secrets
        )

    def _save_order(self, ids: list[str]) -> None:
        tx, base = self._tx, self._plan.base
        before = records.order(tx)
        if base is not None and not self._unchanged and before != records.order(base):
            raise self._conflict(base.version, "another commit has added or removed steps since")
        for step_id in set(before).difference(ids):
            self._guard(records.STEP + step_id)
            tx.delete(records.STEP + step_id)
            _remove_outputs(tx, step_id)
        records.put_order(tx, ids)

    def _save_step(self, step_id: str) -> None:
        tx, plan = self._tx, self._plan
        key = records.STEP + step_id
        before = records.STEPS.get(tx, key)
        given = plan.steps.get(step_id, before)
        if given is None:
            if step_id in plan.outputs:
                raise InvalidWorkflow(f"there is an output of {step_id!r}, which is no step", step_id=step_id)
            return
        self._guard(key)
        step = copy(given)  # the work may run again, with the step as it was given
        step.output_version = 0 if before is None else before.output_version
        self._save_outputs(step)
        records.put_step(tx, step)

    def _save_outputs(self, step: WorkflowStep) -> None:
        tx, plan = self._tx, self._plan
        changed = plan.outputs.get(step.id)
        if step.output_version and (step.id in plan.dropped or (plan.base is None and changed is None)):
            _remove_outputs(tx, step.id)
            step.output_version = 0
        if changed is not None:
            value, agent_id = changed
            if not step.output_version or _newest_checksum(tx, step.id) != value.checksum:
                records.add_output(tx, step, value, agent_id, plan.time_us, self._chunk_size)


def _remove_outputs(tx: Transaction, step_id: str) -> None:
    """Remove every version of a step's output. The step is left for the caller to write."""
    for prefix in (f"{records.OUTPUT}{step_id}{records.SEPARATOR}", f"{records.VALUE}{step_id}{records.SEPARATOR}"):
        for key in list(tx.keys(prefix)):
            tx.delete(key)
