"""Workflows as a whole: making, pausing, describing, deleting and listing them, and their agents and context.

Everything here is a plain function of a transaction or a view. What checks and encodes what a caller gave is called
`prepare_…` and runs once, before the transaction; the function of the transaction may run several times.

Each write leaves a *projection*: a short list that says where its result stands in the document. By it `render`
rebuilds the first result of an operation from the version at which it happened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

from waypost import clock, graph, loading, migrations, records, saving
from waypost import steps as steps_
from waypost.codec import values
from waypost.errors import InvalidInput, StoreError, WorkflowExists, WorkflowNotFound
from waypost.folding import Fold, fold
from waypost.loading import Viewer
from waypost.models import (
    AgentState,
    StateQuery,
    StateQueryResult,
    StepOutput,
    Tombstone,
    WorkflowContext,
    WorkflowStep,
    WorkflowSummary,
)
from waypost.store import DocumentId, Store, Transaction, View

logger = logging.getLogger("waypost")

IfExists = Literal["error", "open"]


# --- making a workflow ---


class NewWorkflow(NamedTuple):
    """A workflow to be made, checked and encoded."""

    record: records.WorkflowRecord
    steps: list[WorkflowStep]
    puts: dict[str, bytes]
    if_exists: IfExists


def prepare_new(
    name: str,
    session_id: str | None,
    steps: Iterable[WorkflowStep | str],
    context: WorkflowContext | None,
    if_exists: IfExists,
) -> NewWorkflow:
    """Check and encode. Raises InvalidInput and its kinds, and SecretsNotSealed."""
    if if_exists not in ("error", "open"):
        raise InvalidInput(f'if_exists is "error" or "open", not {if_exists!r}')
    context = WorkflowContext() if context is None else context
    if not isinstance(context, WorkflowContext):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput(f"a context is a WorkflowContext, not {type(context).__name__}")
    saving.refuse_secrets(context.secrets)
    if session_id is not None:
        context = msgspec.structs.replace(context, session_id=session_id)
    puts = {records.CONTEXT: saving.context_bytes(context)}
    for prefix, path, group in saving.value_groups(context):
        puts.update(records.encode_values(group, prefix, path))
    name, _ = records.TEXTS.check(name, "the name of a workflow")
    new = steps_.prepare_new(steps)
    graph.check(new)
    return NewWorkflow(records.WorkflowRecord.new(name, clock.now_us()), new, puts, if_exists)


def create(tx: Transaction, new: NewWorkflow) -> None:
    """Make a workflow, also where one was deleted. Raises WorkflowExists."""
    tx.project(["state"])
    if records.find_workflow(tx) is not None:
        if new.if_exists == "open":
            return
        name = tx.document.id
        raise WorkflowExists(
            f'there is a workflow {name!r} already: if_exists="open" takes it as it is', workflow_id=name
        )
    tx.delete(records.TOMBSTONE)
    tx.put(records.WORKFLOW, records.encode(new.record))
    for step in new.steps:
        records.put_step(tx, step)
    records.put_order(tx, [step.id for step in new.steps])
    for key, data in new.puts.items():
        tx.put(key, data)


# --- changing it ---


def pause(tx: Transaction, paused: bool) -> None:
    """Pause or resume. What is so already stays so."""
    tx.project(["state"])
    record = records.workflow(tx)
    tx.put(records.WORKFLOW, records.encode(msgspec.structs.replace(record, paused=paused)))


def delete(tx: Transaction, time_us: int, session_id: str | None) -> Tombstone:
    """Take everything away and leave a tombstone. Raises WorkflowNotFound."""
    tx.project(["tombstone"])
    records.workflow(tx)
    made = Tombstone(tx.document.id, clock.to_datetime(time_us), session_id)
    tx.clear()
    tx.put(records.TOMBSTONE, records.encode(made))
    return made


AgentChange = AgentState | dict[str, Any]
"""A whole agent, or the fields of one that change."""


def prepare_agent(agent_id: str, given: AgentState | Mapping[str, Any]) -> AgentChange:
    """A checked copy of what a caller says about an agent. Raises InvalidInput."""
    records.validate_id(agent_id, "agent id")
    if isinstance(given, AgentState):
        agent, _ = records.AGENTS.check(given, f"agent {agent_id!r}")
        return _named(agent, agent_id)
    if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput(f"agent {agent_id!r} is an AgentState or a dictionary, not {type(given).__name__}")
    try:
        return msgspec.to_builtins(dict(given), builtin_types=(datetime,))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"agent {agent_id!r}: {error}") from error


def _named(agent: AgentState, agent_id: str) -> AgentState:
    if agent.id != agent_id:
        raise InvalidInput(f"agent {agent.id!r} cannot be put as agent {agent_id!r}")
    return agent


def update_agent(tx: Transaction, agent_id: str, change: AgentChange) -> AgentState:
    """Put an agent; a dictionary changes the fields that it names. Raises InvalidInput."""
    tx.project(["agent", agent_id])
    records.workflow(tx)
    key = records.AGENT + agent_id
    if isinstance(change, AgentState):
        agent = change
    else:
        agent = _named(_merged(records.AGENTS.get(tx, key) or AgentState(agent_id), change), agent_id)
    tx.put(key, records.encode(agent))
    return agent


def _merged(agent: AgentState, changes: dict[str, Any]) -> AgentState:
    fields = msgspec.to_builtins(agent, builtin_types=(datetime,))
    try:
        merged = msgspec.convert(_merge(fields, changes), AgentState)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"agent {agent.id!r}: {error}") from error
    return records.AGENTS.check(merged, f"agent {agent.id!r}")[0]


def _merge(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Both, the changes winning; what is a dictionary in both is merged in turn."""
    merged = {**fields, **changes}
    for name in fields.keys() & changes.keys():
        if isinstance(fields[name], dict) and isinstance(changes[name], dict):
            merged[name] = {**fields[name], **changes[name]}
    return merged


def prepare_context(
    variables: Mapping[str, Any] | None,
    configuration: Mapping[str, Any] | None,
    features: Mapping[str, Any] | None,
    secrets: Mapping[str, Any] | None,
) -> dict[str, bytes]:
    """The parts that merging these would put. Raises InvalidInput and its kinds, and SecretsNotSealed."""
    saving.refuse_secrets(secrets)
    return {
        **records.encode_values(variables or {}, records.VARIABLE, "context.variables"),
        **records.encode_values(configuration or {}, records.CONFIGURATION, "context.configuration"),
        **records.encode_values(features or {}, records.FEATURE, "context.features"),
    }


def update_context(tx: Transaction, puts: Mapping[str, bytes]) -> None:
    """Merge into the context by key: keys that are not named keep their values."""
    tx.project(["context"])
    records.workflow(tx)
    for key, data in puts.items():
        tx.put(key, data)


# --- results ---


def render(view: View, projection: Sequence[Any], viewer: Viewer, store: object) -> Any:
    """The result of an operation as a version holds it. Raises NotFound where it is gone from there."""
    match projection:
        case ["state"]:
            return loading.load(view, store)
        case ["context"]:
            records.workflow(view)
            return loading.load_context(view)
        case ["step", step_id]:
            return loading.with_outputs(records.step(view, step_id), viewer)
        case ["steps", step_ids]:
            return [loading.with_outputs(records.step(view, step_id), viewer) for step_id in step_ids]
        case ["agent", agent_id]:
            return records.AGENTS.get(view, records.AGENT + agent_id)
        case ["output", step_id, version]:
            return loading.with_value(records.output(view, step_id, version), viewer)
        case ["tombstone"]:
            return records.TOMBSTONES.get(view, records.TOMBSTONE)
        case ["transaction", result]:
            return None if result is None else values.decode(result)
        case _:
            raise StoreError(f"an operation left a result of an unknown kind: {projection!r}")


def read_output(view: View, step_id: str, version: int | None) -> StepOutput:
    """One version of a step's output, the newest by default. Raises StepNotFound, OutputNotFound."""
    records.workflow(view)
    newest = records.step(view, step_id).output_version
    return loading.with_value(records.output(view, step_id, newest if version is None else version), lambda: view)


# --- looking for workflows ---


def list_workflows(store: Store, query: StateQuery) -> StateQueryResult[WorkflowSummary]:
    """The workflows that a query asks for. One that cannot be read is logged and left out."""
    query, _ = _QUERIES.check(query, "a query")
    found = list(_find(store, query))
    found.sort(key=_SORT_KEYS[query.sort_by], reverse=query.sort_order == "desc")
    end = query.offset + query.limit
    has_more = end < len(found)
    return StateQueryResult(
        items=list(_summaries(found[query.offset : end])),
        total=len(found),
        has_more=has_more,
        next_offset=end if has_more else None,
    )


_QUERIES = records.Record(StateQuery)


class _Found(NamedTuple):
    view: View
    record: records.WorkflowRecord
    fold: Fold | None
    """There where the query needed it."""


_SORT_KEYS: dict[str, Callable[[_Found], tuple[int, str]]] = {
    "created": lambda one: (one.record.created_us, one.view.document.id),
    "updated": lambda one: (one.view.time_us, one.view.document.id),
    "size": lambda one: (one.view.size_bytes, one.view.document.id),
}


def _find(store: Store, query: StateQuery) -> Iterator[_Found]:
    ids = store.documents("workflow") if query.workflow_id is None else [query.workflow_id]
    for workflow_id in ids:
        try:
            # a list is a look at things: it need not wait for what it shows to be safe from a crash
            view = migrations.current(store.view(DocumentId("workflow", workflow_id), durable=False))
            found = _match(view, records.workflow(view), query)
        except WorkflowNotFound:
            continue
        except StoreError as error:
            _leave_out(workflow_id, error)
            continue
        if found is not None:
            yield found


def _match(view: View, record: records.WorkflowRecord, query: StateQuery) -> _Found | None:
    if query.session_id is not None and view.size_of(records.SESSION + query.session_id) is None:
        return None
    if query.time_range is not None:
        moment = clock.to_datetime(view.time_us)
        start, end = query.time_range.start, query.time_range.end
        if (start is not None and moment < start) or (end is not None and moment > end):
            return None
    folded = _fold(view, record) if query.status else None
    return None if folded is not None and folded.status not in query.status else _Found(view, record, folded)


def _fold(view: View, record: records.WorkflowRecord) -> Fold:
    return fold(loading.every_step(view), record.paused)


def _summaries(found: Iterable[_Found]) -> Iterator[WorkflowSummary]:
    for one in found:
        try:
            yield _summary(one)
        except StoreError as error:
            _leave_out(one.view.document.id, error)


def _leave_out(workflow_id: str, error: StoreError) -> None:
    logger.warning("workflow %r is left out of a list: %s", workflow_id, error)


def _summary(found: _Found) -> WorkflowSummary:
    view, record = found.view, found.record
    folded = found.fold or _fold(view, record)
    return WorkflowSummary(
        id=view.document.id,
        name=record.name,
        status=folded.status,
        progress=folded.progress,
        current_step=folded.current_step,
        error=folded.error,
        step_counts=folded.step_counts,
        version=view.version,
        created_at=clock.to_datetime(record.created_us),
        updated_at=clock.to_datetime(view.time_us),
        start_time=folded.start_time,
        end_time=folded.end_time,
        size_bytes=view.size_bytes,
        session_ids=records.names(view, records.SESSION),
    )
