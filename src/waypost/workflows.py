"""Workflows as a whole: making, pausing, describing, deleting and listing them, and their agents and context.

Everything here is a plain function of a transaction or a view. What checks and encodes what a caller gave is called
`prepare_…` and runs once, before the transaction; the function of the transaction may run several times.

Each write leaves a *projection*: a short list that says where its result stands in the document. By it `render`
rebuilds the first result of an operation from the version at which it happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from heapq import nlargest, nsmallest
from typing import Any, BinaryIO, Literal, NamedTuple

import msgspec

from waypost import (
    checkpoints,
    clock,
    erasures,
    graph,
    loading,
    merging,
    records,
    saving,
    secrecy,
    session_records,
    streams,
)
from waypost import steps as steps_
from waypost.catalogue import Catalogue, Entry, leave_out
from waypost.codec import values
from waypost.errors import InvalidInput, StoreError, ValueErased, WorkflowExists
from waypost.loading import Viewer
from waypost.models import AgentState, StepOutput, Tombstone, WorkflowContext, WorkflowStep, WorkflowSummary
from waypost.ownership import Watch
from waypost.queries import StateQuery, StateQueryResult, TimeRange
from waypost.redaction import Redaction
from waypost.secrecy import FindKeys, NewSecret
from waypost.session_states import Looker, state_of
from waypost.store import DocumentId, Store, Transaction, View

IfExists = Literal["error", "open"]


# --- making a workflow ---


class NewWorkflow(NamedTuple):
    """A workflow to be made, checked and encoded."""

    record: records.WorkflowRecord
    steps: list[WorkflowStep]
    puts: dict[str, bytes]
    secrets: list[NewSecret]
    if_exists: IfExists


def prepare_new(
    name: str,
    session_id: str | None,
    steps: Iterable[WorkflowStep | str],
    context: WorkflowContext | None,
    if_exists: IfExists,
    redaction: Redaction,
    keys: FindKeys,
) -> NewWorkflow:
    """Check and encode. Raises InvalidInput and its kinds, and SecretsNotSealed."""
    if if_exists not in ("error", "open"):
        raise InvalidInput(f'if_exists is "error" or "open", not {if_exists!r}')
    context = WorkflowContext() if context is None else context
    if not isinstance(context, WorkflowContext):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput(f"a context is a WorkflowContext, not {type(context).__name__}")
    if session_id is not None:
        context = msgspec.structs.replace(context, session_id=session_id)
    puts = {records.CONTEXT: saving.context_bytes(context)}
    for prefix, name_of_group, group in saving.value_groups(context):
        puts.update(redaction.encode_group(group, prefix, "context", name_of_group))
    secrets = secrecy.prepare(context.secrets, keys)
    name, _ = records.TEXTS.check(name, "the name of a workflow")
    new = steps_.prepare_new(steps, redaction)
    graph.check(new)
    return NewWorkflow(records.WorkflowRecord.new(name, clock.now_us()), new, puts, secrets, if_exists)


def create(tx: Transaction, new: NewWorkflow, made: Callable[[Transaction], object]) -> None:
    """Make a workflow, also where one was deleted; `made` is told of it. Raises WorkflowExists."""
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
    for secret in new.secrets:
        secret.put(tx)
    made(tx)


# --- changing it ---


def pause(tx: Transaction, made: Callable[[Transaction], object]) -> None:
    """Let no step start; `made` is told of it. What is paused already stays so."""
    if _set_paused(tx, True):
        made(tx)


def resume(tx: Transaction) -> None:
    """Let steps start again."""
    _set_paused(tx, False)


def _set_paused(tx: Transaction, paused: bool) -> bool:
    """Whether that changed anything."""
    tx.project(["state"])
    record = records.workflow(tx)
    tx.put(records.WORKFLOW, records.encode(msgspec.structs.replace(record, paused=paused)))
    return record.paused != paused


def delete(tx: Transaction, time_us: int, session_id: str | None) -> Tombstone:
    """Take everything away and leave a tombstone. Raises WorkflowNotFound."""
    tx.project(["tombstone"])
    records.workflow(tx)
    made = Tombstone(tx.document.id, clock.to_datetime(time_us), session_id)
    said = erasures.kept_by(tx)
    numbers = {name: session_records.number_in(tx, name) for name in records.names(tx, records.SESSION)}
    tx.clear()
    for name, number in numbers.items():
        if number:  # whoever was fenced off stays so
            session_records.link(tx, name, number)
    for key, data in said.items():
        tx.put(key, data)
    tx.put(records.TOMBSTONE, records.encode(made))
    return made


AgentChange = AgentState | dict[str, Any]
"""A whole agent, or the fields of one that change."""


def prepare_agent(agent_id: str, given: AgentState | Mapping[str, Any], redaction: Redaction) -> AgentChange:
    """A checked copy of what a caller says about an agent. Raises InvalidInput."""
    records.validate_id(agent_id, "agent id")
    if isinstance(given, AgentState):
        agent, _ = records.AGENTS.check(given, f"agent {agent_id!r}")
        return redaction.agent(_named(agent, agent_id))
    if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput(f"agent {agent_id!r} is an AgentState or a dictionary, not {type(given).__name__}")
    try:
        return redaction.agent_fields(agent_id, msgspec.to_builtins(dict(given), builtin_types=(datetime,)))
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
        why = records.misfit(error)
    else:
        return records.AGENTS.check(merged, f"agent {agent.id!r}")[0]
    raise InvalidInput(f"agent {agent.id!r}: {why}")  # out here, since the other error repeats the value


def _merge(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Both, the changes winning; what is a dictionary in both is merged in turn."""
    merged = {**fields, **changes}
    for name in fields.keys() & changes.keys():
        if isinstance(fields[name], dict) and isinstance(changes[name], dict):
            merged[name] = {**fields[name], **changes[name]}
    return merged


class NewContext(NamedTuple):
    """What is merged into a context, encoded."""

    puts: dict[str, bytes]
    secrets: list[NewSecret]


def prepare_context(
    variables: Mapping[str, Any] | None,
    configuration: Mapping[str, Any] | None,
    features: Mapping[str, Any] | None,
    secrets: Mapping[str, Any] | None,
    redaction: Redaction,
    keys: FindKeys,
) -> NewContext:
    """The parts that merging these would put. Raises InvalidInput and its kinds, and SecretsNotSealed."""
    encode = redaction.encode_group
    puts = {
        **encode(variables or {}, records.VARIABLE, "context", "variables"),
        **encode(configuration or {}, records.CONFIGURATION, "context", "configuration"),
        **encode(features or {}, records.FEATURE, "context", "features"),
    }
    return NewContext(puts, secrecy.prepare(secrets or {}, keys))


def update_context(tx: Transaction, new: NewContext) -> None:
    """Merge into the context by key: keys that are not named keep their values."""
    tx.project(["context"])
    records.workflow(tx)
    for key, data in new.puts.items():
        tx.put(key, data)
    for secret in new.secrets:
        secret.put(tx)


# --- results ---


def render(view: View, projection: Sequence[Any], viewer: Viewer, store: Store) -> Any:
    """The result of an operation as a version holds it. Raises NotFound where it is gone from there."""
    match projection:
        case ["state"]:
            return loading.load(view, store, store.keys)
        case ["context"]:
            records.workflow(view)
            return loading.load_context(view, store.keys)
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
        case ["checkpoint", checkpoint_id]:
            return checkpoints.made(store, view, checkpoint_id)
        case ["session"]:
            return state_of(Looker(store, Catalogue(store), Watch()), view)
        case ["session", session_id]:
            return state_of(Looker(store, Catalogue(store), Watch()), store.view(DocumentId("session", session_id)))
        case ["imported", _, _, _]:
            return merging.report_in(projection)
        case ["imported", *_]:
            return loading.load(view, store)
        case ["erasure", path]:
            return erasures.finish(store, view, path)
        case ["erased"]:
            raise ValueErased("the result of the operation was forgotten, with what was erased from the workflow")
        case ["transaction", result]:
            return None if result is None else values.decode(result)
        case _:
            raise StoreError(f"an operation left a result of an unknown kind: {projection!r}")


def read_output(view: View, step_id: str, version: int | None) -> StepOutput:
    """One version of a step's output, the newest by default. Raises StepNotFound, OutputNotFound."""
    records.workflow(view)
    newest = records.step(view, step_id).output_version
    return loading.with_value(records.output(view, step_id, newest if version is None else version), lambda: view)


def open_output(view: View, step_id: str, version: int | None) -> BinaryIO:
    """As `read_output`, the value as a file. Raises InvalidInput for a value that is no bytes."""
    output = read_output(view, step_id, version)
    pieces = records.output_pieces(view, step_id, output.version)
    return streams.open_bytes(pieces, output.checksum, f"the output of step {step_id!r} (version {output.version})")


# --- looking for workflows ---


def list_workflows(catalogue: Catalogue, query: StateQuery) -> StateQueryResult[WorkflowSummary]:
    """The workflows that a query asks for. One that cannot be read is logged and left out."""
    query, _ = _QUERIES.check(query, "a query")
    total = 0

    def counted() -> Iterator[Entry]:
        nonlocal total
        for entry in _asked_for(catalogue, query):
            total += 1
            yield entry

    end = query.offset + query.limit
    choose = nlargest if query.sort_order == "desc" else nsmallest
    found = choose(end, counted(), key=_SORT_KEYS[query.sort_by])
    items = list(_summaries(catalogue, found[query.offset :]))
    has_more = end < total
    return StateQueryResult(items=items, total=total, has_more=has_more, next_offset=end if has_more else None)


_QUERIES = records.Record(StateQuery)

_SORT_KEYS: dict[str, Callable[[Entry], tuple[int, str]]] = {
    "created": lambda one: (one.created_us, one.id),
    "updated": lambda one: (one.updated_us, one.id),
    "size": lambda one: (one.size_bytes, one.id),
}


def _asked_for(catalogue: Catalogue, query: StateQuery) -> Iterator[Entry]:
    start_us, end_us = _moments(query.time_range)
    statuses = frozenset(query.status)
    for entry in _candidates(catalogue, query.workflow_id):
        if not start_us <= entry.updated_us <= end_us or (statuses and entry.status not in statuses):
            continue
        if query.session_id is not None and query.session_id not in _sessions(catalogue, entry):
            continue
        yield entry


def _candidates(catalogue: Catalogue, workflow_id: str | None) -> Iterable[Entry]:
    if workflow_id is None:
        return catalogue.entries()
    entry = catalogue.entry(workflow_id)
    return () if entry is None else (entry,)


def _moments(asked: TimeRange | None) -> tuple[float, float]:
    start, end = (None, None) if asked is None else (asked.start, asked.end)
    return -math.inf if start is None else clock.to_us(start), math.inf if end is None else clock.to_us(end)


def _sessions(catalogue: Catalogue, entry: Entry) -> Sequence[str]:
    return next((one.session_ids for one in _summaries(catalogue, [entry])), ())


def _summaries(catalogue: Catalogue, found: Iterable[Entry]) -> Iterator[WorkflowSummary]:
    for entry in found:
        try:
            summary = catalogue.summary(entry)
        except StoreError as error:
            leave_out(entry.id, error)
            continue
        if summary is not None:
            yield summary
