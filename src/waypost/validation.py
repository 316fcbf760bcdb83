"""Looking a stored workflow over: does everything in it decode, fit together, and add up.

Nothing is mended and nothing is written. An *error* is something that no operation leaves behind; a *warning* is
odd but possible, such as a step that was set to completed by hand and has no end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

from waypost import erased, graph, prepared, records, sealing
from waypost.codec import values
from waypost.errors import InvalidWorkflow, WaypostError
from waypost.models import ValidationReport, WorkflowStep
from waypost.store import View, parts
from waypost.store.contract import PREPARED, SETTLED


def validate(view: View) -> ValidationReport:
    """Check every part of a workflow, and the sums over them. Raises WorkflowNotFound."""
    records.workflow(view)
    return inspect(view)


def inspect(view: View, *, with_values: bool = True) -> ValidationReport:
    """As `validate`, whatever versions the workflow's record names; without values only what refers to them."""
    errors = list(_undecodable(view, with_values))
    if not errors:
        # what does not decode would be told again by each of these, less clearly
        steps = {name: records.step(view, name) for name in records.names(view, records.STEP)}
        errors = [*_disorder(view, steps), *_bad_outputs(view, steps, with_values), *_bad_graph(steps)]
        warnings = list(_oddities(view, steps))
    else:
        warnings = []
    if with_values and _checksum(view) != view.checksum:
        errors.append("the checksum of the workflow is not that of its parts")
    return ValidationReport(is_valid=not errors, errors=errors, warnings=warnings)


def _checksum(view: View) -> bytes:
    """The checksum of what is there and, by their digests, of the parts that were erased."""
    gone = sum(int.from_bytes(digest, "big") for key in view.keys() if (digest := view.erased(key)) is not None)
    return parts.add_to_checksum(parts.document_checksum(_parts(view)), gone)


def _parts(view: View, with_values: bool = True) -> Iterator[tuple[str, bytes]]:
    """All parts but those that were erased."""
    for key in view.keys():
        if key.startswith(records.VALUE) and not with_values:
            continue
        data = None if view.erased(key) is not None else view.get(key)
        if data is not None:
            yield key, data


def _decode_value(_: str, data: bytes) -> Any:
    # what is found is the same in each process, whatever its application has registered
    return values.decode(data, inert=True)


def _decode_nothing(_: str, data: bytes) -> None:
    """What is to be put is looked at when it is."""


def _is_sealed(_: str, data: bytes) -> Any:
    return sealing.key_id_of(data)  # whether it opens is for who has the key


_DECODERS: dict[str, Callable[[str, bytes], Any]] = {
    records.WORKFLOW: records.WORKFLOWS.decode,
    records.CONTEXT: records.CONTEXTS.decode,
    records.ORDER: records.PAGES.decode,
    records.STEP: records.STEPS.decode,
    records.AGENT: records.AGENTS.decode,
    records.OUTPUT: records.OUTPUT_RECORDS.decode,
    records.VALUE: _decode_value,
    records.VARIABLE: _decode_value,
    records.CONFIGURATION: _decode_value,
    records.FEATURE: _decode_value,
    records.SECRET: _is_sealed,
    records.SESSION: _decode_value,
    records.CHECKPOINT: records.CHECKPOINTS.decode,
    records.ADOPTED: records.ADOPTIONS.decode,
    records.RESTORED: records.TEXTS.decode,
    erased.ERASED: records.Record(erased.ErasureRecord).decode,
    PREPARED: prepared.PREPARATIONS.decode,
    prepared.CHANGE: _decode_nothing,
    SETTLED: prepared.SETTLEMENTS.decode,
}


def _undecodable(view: View, with_values: bool) -> Iterator[str]:
    for key, data in _parts(view, with_values):
        kind, separator, _ = key.partition(records.SEPARATOR)
        decode = _DECODERS.get(kind + separator)
        if decode is None:
            yield f"the part {records.shown(key)} is of no kind that a workflow has"
            continue
        try:
            decode(key, data)
        except WaypostError as error:
            yield str(error) if records.shown(key) in str(error) else f"the part {records.shown(key)}: {error}"


def _disorder(view: View, steps: dict[str, WorkflowStep]) -> Iterator[str]:
    order = Counter(records.order(view))
    for step_id, times in order.items():
        if times > 1:
            yield f"step {step_id!r} stands {times} times in the order"
        if step_id not in steps:
            yield f"step {step_id!r} stands in the order, and is not there"
    for name, step in steps.items():
        if name not in order:
            yield f"step {name!r} is missing in the order"
        if step.id != name:
            yield f"step {step.id!r} stands under another id, {name!r}"


def _bad_graph(steps: dict[str, WorkflowStep]) -> Iterator[str]:
    try:
        graph.check(list(steps.values()))
    except InvalidWorkflow as error:
        yield str(error)


def _bad_outputs(view: View, steps: dict[str, WorkflowStep], with_values: bool) -> Iterator[str]:
    newest: dict[str, int] = {}
    for name in records.names(view, records.OUTPUT):
        step_id, _, number = name.rpartition(records.SEPARATOR)
        if not (number.isascii() and number.isdigit()):
            yield f"there is an output under {records.shown(name)}, which tells no version"
            continue
        newest[step_id] = max(newest.get(step_id, 0), int(number))
        if step_id not in steps:
            yield f"there is an output of {step_id!r}, which is no step"
        elif with_values and view.erased(records.OUTPUT + name) is None:
            yield from _bad_value(view, step_id, int(number))
    for step in steps.values():
        is_gone = step.output_version > 0 and erased.is_gone(view, records.output_key(step.id, step.output_version))
        if step.output_version != newest.get(step.id, 0) and not is_gone:
            yield f"step {step.id!r} has no output of version {step.output_version}"


def _bad_value(view: View, step_id: str, version: int) -> Iterator[str]:
    output = records.output(view, step_id, version)
    try:
        data = records.output_bytes(view, step_id, version)
        values.decode(data, inert=True)
    except WaypostError as error:
        yield f"version {version} of the output of step {step_id!r}: {error}"
        return
    if (output.size_bytes, output.checksum) != (len(data), sha256(data).hexdigest()):
        yield f"version {version} of the output of step {step_id!r} has another size or checksum than its value"


def _oddities(view: View, steps: dict[str, WorkflowStep]) -> Iterator[str]:
    for key in view.keys():
        if view.erased(key) is not None:
            yield f"{records.shown(key)} was erased"
    for step in steps.values():
        if step.status == "running" and step.start_time is None:
            yield f"step {step.id!r} is running and has no start"
        if step.status in ("completed", "failed", "skipped") and step.end_time is None:
            yield f"step {step.id!r} is {step.status} and has no end"
        if step.start_time is not None and step.end_time is not None and step.end_time < step.start_time:
            yield f"step {step.id!r} ends before it starts"
    for name in records.names(view, records.AGENT):
        key = records.AGENT + name
        agent = None if view.erased(key) is not None else records.AGENTS.get(view, key)
        if agent is not None and agent.id != name:
            yield f"agent {agent.id!r} stands under another id, {name!r}"
