"""A document seen as typed records: which parts a workflow consists of, and how each is encoded.

    workflow                        name, time of creation, schema version, paused or not, versions of applications
    order <page>                    ids of up to 256 steps, in the order of the workflow
    step <id>                       a WorkflowStep
    agent <id>                      an AgentState
    output <step> <version>         a StepOutput, and its value unless that is large
    value <step> <version>          the bytes of a large value; of one that was given as a file, `value <step> <name>`
    context                         session, user, environment
    variable|configuration|feature <name>   one value each
    secret <name>                   one value, sealed
    checkpoint <id>                 a checkpoint: the version whose commit put it is kept
    adopted <id>                    the same of one that outlived the rest of its workflow, or was imported
    restored <id>                   the checkpoint that it went back to, or was forked from, at that time
    erased <key>                    that a part, or all whose keys begin so, was erased
    session <id>                    a session that has written to the workflow, and the number below which it may not
    tombstone                       what is left once the workflow was deleted

Invariants:

* Whatever two writers may change independently is a part of its own, so that disjoint changes never conflict.
* The parts of a key are kept apart by `SEPARATOR`, and no id holds a control character, so no id reaches another key.
* Each record encodes to the same bytes whenever it holds the same, so bytes can be compared in place of values.
* The bytes of a value are those that `size_bytes` and `checksum` of its output speak of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from itertools import count
from typing import Any, Generic, NamedTuple, TypeVar, cast

from msgspec import MsgspecError, Struct, ValidationError
from msgspec.msgpack import Decoder, Encoder

from waypost import clock, erased, schema
from waypost.codec import values
from waypost.codec.decoding import is_short_of_stack
from waypost.errors import (
    DocumentDamaged,
    InvalidId,
    InvalidInput,
    InvalidWorkflow,
    OutputNotFound,
    SchemaOutdated,
    WaypostError,
    WorkflowNotFound,
)
from waypost.models import (
    AgentState,
    CheckpointType,
    Environment,
    StepOutput,
    Tombstone,
    WorkflowStep,
    no_such_step,
)
from waypost.store import Content, DocumentId, Pieces, Store, Transaction, View, contract
from waypost.streams import Source

T = TypeVar("T")

SEPARATOR = "\x1f"
MAX_ID_LENGTH = 512
PAGE_SIZE = 256

WORKFLOW = "workflow"
CONTEXT = "context"
TOMBSTONE = "tombstone"
ORDER = f"order{SEPARATOR}"
STEP = f"step{SEPARATOR}"
AGENT = f"agent{SEPARATOR}"
OUTPUT = f"output{SEPARATOR}"
VALUE = f"value{SEPARATOR}"
VARIABLE = f"variable{SEPARATOR}"
CONFIGURATION = f"configuration{SEPARATOR}"
FEATURE = f"feature{SEPARATOR}"
SECRET = f"secret{SEPARATOR}"
SESSION = f"session{SEPARATOR}"
CHECKPOINT = contract.CHECKPOINT
ADOPTED = contract.ADOPTED
RESTORED = f"restored{SEPARATOR}"

encode = Encoder().encode


# --- ids and keys ---

_FORBIDDEN = re.compile(
    "(?P<control>[\x00-\x1f\x7f-\x9f])"
    "|(?P<direction>[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069])"
    "|(?P<surrogate>[\ud800-\udfff])"
)
_NAMED = {"control": "a control character", "direction": "a direction mark", "surrogate": "a lone surrogate"}


def validate_id(given: object, what: str) -> str:
    """The id itself, if any store can keep it. `what` names it in the error, as in "workflow id".

    An id is 1 to 512 characters, none of them a control character, a mark that changes the direction of
    text, or a lone surrogate. It is taken as it is: no case, blank or path in it means anything. Raises InvalidId.
    """
    if type(given) is str and 0 < len(given) <= MAX_ID_LENGTH and given.isascii() and given.isprintable():
        return given
    if not isinstance(given, str):
        raise InvalidId(f"a {what} is a text, not {type(given).__name__}", what=what)
    if not given:
        raise InvalidId(f"a {what} is not empty", what=what)
    if len(given) > MAX_ID_LENGTH:
        raise InvalidId(f"a {what} has at most {MAX_ID_LENGTH} characters, this one has {len(given)}", what=what)
    found = _FORBIDDEN.search(given)
    if found is not None:
        kind = _NAMED[str(found.lastgroup)]
        raise InvalidId(
            f"a {what} holds no {kind.removeprefix('a ')}: {given!a} has U+{ord(found[0]):04X} at {found.start()}",
            what=what,
            position=found.start(),
        )
    # a subclass of str may compare and encode as it likes
    return str(given)


def order_key(page: int) -> str:
    return f"{ORDER}{page:05d}"


def output_key(step_id: str, version: int) -> str:
    return f"{OUTPUT}{step_id}{SEPARATOR}{version:08d}"


def value_key(step_id: str, version: int, name: str | None = None) -> str:
    return f"{VALUE}{step_id}{SEPARATOR}{version:08d}" if name is None else f"{VALUE}{step_id}{SEPARATOR}{name}"


# --- records ---


class WorkflowRecord(Struct, array_like=True, frozen=True):
    """What is kept of a workflow beside its steps; it rarely changes, since every step update depends on it.

    In every schema there ever is, the third field is the version of that schema, and the fifth, where it is there, the
    versions of the applications that have migrated the workflow, sorted by name.
    """

    name: str
    created_us: int
    schema_version: str
    paused: bool = False
    applications: dict[str, str] = {}

    @classmethod
    def new(cls, name: str, created_us: int, *, paused: bool = False) -> WorkflowRecord:
        """The record of a workflow that is made now."""
        return cls(name, created_us, schema.SCHEMA_VERSION, paused, schema.newest_applications())


class ContextRecord(Struct, array_like=True, frozen=True):
    session_id: str | None = None
    user_id: str | None = None
    environment: Environment = "development"


class CheckpointRecord(Struct, array_like=True, frozen=True):
    """What is kept of a checkpoint beside the version that it stands for."""

    type: CheckpointType
    description: str
    tags: tuple[str, ...]
    created_us: int
    session_id: str | None = None


class AdoptedRecord(CheckpointRecord, array_like=True, frozen=True):
    """The same of one that no commit of this history made; if imported or merged, it came after the checkpoint
    `parent_id`.
    """

    imported: bool = False
    parent_id: str | None = None


class OutputRecord(StepOutput, array_like=True, dict=True, frozen=True):
    """An output with the bytes of its value, or with None where they are a part of their own; `name` is what that
    part is named after when it is not the version.
    """

    value: bytes | None = None
    name: str | None = None

    def without_value(self) -> StepOutput:
        """What it says of the output."""
        return StepOutput(self.step_id, self.agent_id, self.timestamp, self.size_bytes, self.checksum, self.version)


class Record(Generic[T]):
    """How one kind of part is decoded, and how what a caller made of that kind is checked."""

    __slots__ = ("_decode", "kind")

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind
        self._decode = Decoder(kind).decode

    def decode(self, key: str, data: bytes) -> T:
        try:
            return self._decode(data)
        except (MsgspecError, ValueError, RecursionError) as error:  # ValueError: text that is not UTF-8
            if isinstance(error, RecursionError) and is_short_of_stack(error):
                raise
            raise undecodable(key, error) from error

    def get(self, view: View, key: str) -> T | None:
        data = erased.read(view, key)
        return None if data is None else self.decode(key, data)

    def check(self, given: Any, what: str) -> tuple[T, bytes]:
        """A copy of what a caller gave, every field of its declared type, and its bytes. Raises InvalidInput."""
        if not isinstance(given, self.kind):
            reason = f"it is a {self.kind.__name__}, not {type(given).__name__}"
            raise InvalidInput(f"{what}: {reason}", reason=reason)
        try:
            data = encode(given)
            return self._decode(data), data
        except (MsgspecError, TypeError, ValueError, OverflowError) as error:
            reason = self._explain(error)
            raise InvalidInput(f"{what}: {reason}", reason=reason) from error

    def _explain(self, error: Exception) -> str:
        """The codec's words, with the name of a field where it counts."""
        names: Sequence[str] = getattr(self.kind, "__struct_fields__", ())

        def name(place: re.Match[str]) -> str:
            number = int(place[1])
            return f"`{names[number]}" if number < len(names) else place[0]

        return re.sub(r"`\$\[(\d+)\]", name, str(error))


def moment(time_us: int) -> datetime:
    """A stored time. Raises DocumentDamaged for one that no clock ever showed."""
    try:
        return clock.to_datetime(time_us)
    except OverflowError as error:
        raise DocumentDamaged(f"a stored time is out of range: {time_us} microseconds") from error


def undecodable(key: str, error: Exception) -> DocumentDamaged:
    return DocumentDamaged(f"the part {shown(key)} cannot be decoded: {error}", part=key)


def shown(key: str) -> str:
    """A key as people read it."""
    return repr(key.replace(SEPARATOR, " "))


WORKFLOWS = Record(WorkflowRecord)
CONTEXTS = Record(ContextRecord)
STEPS = Record(WorkflowStep)
AGENTS = Record(AgentState)
OUTPUTS = Record(StepOutput)
OUTPUT_RECORDS = Record(OutputRecord)
TOMBSTONES = Record(Tombstone)
TEXTS = Record(str)
CHECKPOINTS = Record(CheckpointRecord)
ADOPTIONS = Record(AdoptedRecord)
PAGES: Record[list[str]] = Record(list[str])


# --- the workflow and its steps ---


def workflow(view: View) -> WorkflowRecord:
    """The workflow's own record. Raises WorkflowNotFound, which says so if it was deleted, and as `find_workflow`."""
    found = find_workflow(view)
    if found is None:
        raise no_such_workflow(view)
    return found


def find_workflow(view: View) -> WorkflowRecord | None:
    """The workflow's own record, None where there is no workflow.

    Raises UnsupportedFormat for a schema version that is newer than this release or no version, and SchemaOutdated for
    an older one: whoever has a record at hand may take it that all other parts are as this release lays them out.
    """
    data = view.get(WORKFLOW)
    if data is None:
        return None
    try:
        found = WORKFLOWS.decode(WORKFLOW, data)
        if schema.is_current(found.schema_version, found.applications):
            return found
    except DocumentDamaged:
        if versions_in(data).schema == schema.SCHEMA_VERSION:
            raise
    named = f"workflow {view.document.id!r}"
    versions_in(data).refuse_unknown(named)
    raise SchemaOutdated(f"{named} is of an older schema version and was not migrated", workflow_id=view.document.id)


def versions_in(data: bytes) -> schema.Versions:
    """What a workflow's record says of its versions, whatever else the record holds."""
    try:
        row: Any = values.decode(data, inert=True)
    except WaypostError:
        row = None
    fields = cast("list[Any]", row) if isinstance(row, list) else []
    return schema.Versions.of(fields[2] if len(fields) > 2 else None, fields[4] if len(fields) > 4 else {})


def no_such_workflow(view: View) -> WorkflowNotFound:
    name = view.document.id
    gone = TOMBSTONES.get(view, TOMBSTONE)
    if gone is None:
        return WorkflowNotFound(f"there is no workflow {name!r}", workflow_id=name)
    when = gone.deleted_at.isoformat(timespec="seconds")
    return WorkflowNotFound(f"workflow {name!r} was deleted at {when}", workflow_id=name, deleted_at=when)


def step(view: View, step_id: str) -> WorkflowStep:
    """One step. Raises StepNotFound."""
    found = STEPS.get(view, STEP + step_id)
    if found is None:
        raise no_such_step(view.document.id, step_id)
    return found


def put_step(tx: Transaction, step: WorkflowStep) -> None:
    tx.put(STEP + step.id, encode(step))


def check_step(given: WorkflowStep) -> WorkflowStep:
    """A copy of a step that a caller made, with lawful ids and types. Raises InvalidId, InvalidWorkflow."""
    try:
        copy, _ = STEPS.check(given, "a step")
    except InvalidInput as error:
        name = f"step {getattr(given, 'id', given)!a:.80}"
        raise InvalidWorkflow(f"{name}: {error.details['reason']}") from error
    validate_id(copy.id, "step id")
    for dependency in copy.dependencies:
        validate_id(dependency, "dependency")
    if copy.agent_id is not None:
        validate_id(copy.agent_id, "agent id")
    return copy


def pages(view: View) -> Iterator[list[str]]:
    """The pages of the order, without listing keys: the first one missing is the end."""
    for number in count():
        page = PAGES.get(view, order_key(number))
        if page is None:
            return
        yield page


def order(view: View) -> list[str]:
    """The ids of all steps, in the order of the workflow."""
    return [step_id for page in pages(view) for step_id in page]


def put_order(tx: Transaction, ids: Sequence[str]) -> None:
    """Write the order; pages that stay as they are are not written."""
    for number, data in enumerate(order_pages(ids)):
        tx.put(order_key(number), data)
    for number in count(-(-len(ids) // PAGE_SIZE)):
        if tx.size_of(order_key(number)) is None:
            return
        tx.delete(order_key(number))


def order_pages(ids: Sequence[str]) -> list[bytes]:
    return [encode(ids[start : start + PAGE_SIZE]) for start in range(0, len(ids), PAGE_SIZE)]


def append_to_order(tx: Transaction, ids: Sequence[str]) -> None:
    """Add ids at the end, at the cost of the pages there are and not of the steps."""
    number = next(number for number in count() if tx.size_of(order_key(number)) is None)
    if number:
        number -= 1
        ids = [*(PAGES.get(tx, order_key(number)) or ()), *ids]
    for page, data in enumerate(order_pages(ids), number):
        tx.put(order_key(page), data)


# --- outputs ---


class Value(NamedTuple):
    """A user's value as it will be stored: encoded before any transaction, since encoding may run the user's code.

    One that was given as a file may have been staged. Its part then has a name that was drawn for it, since the
    version is known only to the transaction.
    """

    data: bytes | Content
    checksum: str
    name: str | None = None

    @classmethod
    def of(cls, data: bytes) -> Value:
        return cls(data, sha256(data).hexdigest())

    @classmethod
    def staged(cls, source: Source, store: Store, document: DocumentId, step_id: str, chunk_size: int) -> Value:
        """Take in what a file holds, for a step. Raises InvalidValue, DocumentTooLarge, StoreUnavailable."""
        if source.length <= chunk_size:
            return cls(b"".join(source.pieces(chunk_size)), source.checksum)
        name = clock.new_id("v")
        data = store.stage(document, value_key(step_id, 0, name), source.length, source.pieces)
        return cls(data, source.checksum, name)

    @property
    def size(self) -> int:
        return len(self.data) if isinstance(self.data, bytes) else self.data.length


def add_output(
    tx: Transaction, step: WorkflowStep, value: Value, agent_id: str | None, time_us: int, chunk_size: int
) -> StepOutput:
    """Put the next version of a step's output. The step is changed, and written by the caller."""
    step.output_version += 1
    size, version, data = value.size, step.output_version, value.data
    made = (step.id, agent_id or step.agent_id, clock.to_datetime(time_us), size, value.checksum, version)
    inline = data if isinstance(data, bytes) and size <= chunk_size else None
    tx.put(output_key(step.id, version), encode(OutputRecord(*made, value=inline, name=value.name)))
    if inline is None:
        tx.put(value_key(step.id, version, value.name), data)
    return StepOutput(*made)


def output(view: View, step_id: str, version: int) -> StepOutput:
    """One version of an output, without its value. Raises OutputNotFound."""
    found = OUTPUTS.get(view, output_key(step_id, version)) if version > 0 else None
    if found is None:
        erased.refuse(view, output_key(step_id, version))
        which = f"no output of version {version}" if version > 0 else "no output"
        raise OutputNotFound(
            f"step {step_id!r} of workflow {view.document.id!r} has {which}",
            workflow_id=view.document.id,
            step_id=step_id,
            version=version,
        )
    return found


def output_bytes(view: View, step_id: str, version: int) -> bytes:
    """The bytes of an output's value. Raises DocumentDamaged when they are not there."""
    inline, key = _find_value(view, step_id, version)
    data = view.get(key) if inline is None else inline
    if data is None:
        raise _lost_value(step_id, version)
    return data


def output_pieces(view: View, step_id: str, version: int) -> Pieces:
    """As `output_bytes`, a piece at a time."""
    inline, key = _find_value(view, step_id, version)
    pieces = view.pieces(key) if inline is None else Pieces.of(inline)
    if pieces is None:
        raise _lost_value(step_id, version)
    return pieces


def _find_value(view: View, step_id: str, version: int) -> tuple[bytes | None, str]:
    """The bytes of an output's value where they stand in its record, and the part in which they stand otherwise."""
    found = OUTPUT_RECORDS.get(view, output_key(step_id, version))
    if found is None:
        erased.refuse(view, output_key(step_id, version))
        return None, value_key(step_id, version)
    return found.value, value_key(step_id, version, found.name)


def _lost_value(step_id: str, version: int) -> DocumentDamaged:
    return DocumentDamaged(f"version {version} of the output of step {step_id!r} has lost its value")


# --- the rest ---


def misfit(error: ValidationError) -> str:
    """Where something does not fit, and what is wanted there; the value itself is not told."""
    said, _, at = str(error).rpartition(" - at `$.") if " - at `$." in str(error) else (str(error), "", "")
    name = at.rstrip("`").partition("[")[0]
    wrong = "it is none of the values that there are" if said.startswith("Invalid enum value") else said
    return f"{name}: {wrong}" if name else wrong


def names(view: View, prefix: str) -> list[str]:
    """What stands behind a prefix: the names of the parts of one kind, sorted."""
    start = len(prefix)
    return [key[start:] for key in view.keys(prefix)]
