"""The places in a workflow: by which path each part, and what stands in it, is called, and the values that stand there.

    workflow.name               of the workflow's own record: name, paused, created_at, schema_version, applications
    order[3]                    the ids of the steps, in the order of the workflow
    steps.fetch.status          a step
    agents.writer.status        an agent
    outputs.fetch.rows[3]       the newest output of a step
    context.user_id             session_id, user_id, environment
    context.variables.rows      a variable; likewise context.configuration and context.features
    context.secrets.token       a secret: that it is there, and with which key it is sealed
    sessions["…"]               there when that session has written to the workflow
    checkpoints["…"]            what is kept of a checkpoint; adopted and restored: what came of one
    erased["…"]                 that what was there was erased
    tombstone.deleted_at        what is left of a workflow that was deleted
    parts["…"]                  a part that this release does not know, as bytes

Invariants:

* Each place leads to one part, or, for an output, to its newest version; its *root* is the path of all of that part.
* Values are decoded inert: no function of the application runs. Records are dictionaries of their fields.
* A large output is never loaded: `LargeValue` stands for it. Nor is a secret opened: `SealedValue` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from itertools import count
from typing import Any, NamedTuple, TypeVar, cast

from msgspec import Struct, structs

from waypost import erased, records, sealing
from waypost.codec import paths, values
from waypost.errors import InvalidInput, ValueErased
from waypost.store import View
from waypost.store.contract import PREPARED, SETTLED

T = TypeVar("T")

Root = tuple[str, ...]
"""The names that lead to a part: ("steps", "fetch"), ("context", "variables", "rows")."""

Get = Callable[[str], bytes | None]


class LargeValue(Struct, frozen=True):
    """Stands for an output that is read in chunks, and is not loaded to be compared or shown.

    `checksum` is the SHA-256 of its bytes, in hex.
    """

    size_bytes: int
    checksum: str


class SealedValue(Struct, frozen=True, eq=False, dict=True):
    """Stands for a secret, which is not opened to be compared or shown; `key_id` is of the key that it is sealed with.

    Two are equal if they are the same sealed bytes. A secret that was sealed anew is another, whatever it holds.
    """

    key_id: str

    @classmethod
    def of(cls, sealed: bytes) -> SealedValue:
        made = cls(sealing.key_id_of(sealed))
        vars(made)["_digest"] = sha256(sealed).digest()  # beside the fields, so that nobody is shown it
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SealedValue) and vars(self).get("_digest") == vars(other).get("_digest")

    def __hash__(self) -> int:
        return hash(vars(self).get("_digest"))

    def __repr__(self) -> str:
        return f"<sealed with {self.key_id}>"


class ErasedValue(Struct, frozen=True):
    """Stands for a value that was erased. Where it is looked at in a version that held it, its part's length and digest
    (the SHA-256 of key and bytes, as in docs/format.md, in hex) are known.
    """

    size_bytes: int | None = None
    digest: str | None = None


class Absent:
    """There is nothing at a place."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = Absent()

_PREFIXES: Mapping[str, Root] = {
    records.STEP: ("steps",),
    records.AGENT: ("agents",),
    records.VARIABLE: ("context", "variables"),
    records.CONFIGURATION: ("context", "configuration"),
    records.FEATURE: ("context", "features"),
    records.SECRET: ("context", "secrets"),
    records.SESSION: ("sessions",),
    records.CHECKPOINT: ("checkpoints",),
    records.ADOPTED: ("adopted",),
    records.RESTORED: ("restored",),
    erased.ERASED: ("erased",),
    f"{PREPARED}{records.SEPARATOR}": ("prepared",),
    SETTLED: ("settled",),
}
ORDER: Root = ("order",)
TOMBSTONE: Root = ("tombstone",)
CONTEXT: Root = ("context",)
_SINGLE: Mapping[str, Root] = {
    records.WORKFLOW: ("workflow",),
    records.CONTEXT: CONTEXT,
    records.TOMBSTONE: TOMBSTONE,
    PREPARED: ("prepared",),
}
_BY_ROOT: Mapping[Root, str] = {root: prefix for prefix, root in _PREFIXES.items()}
_OUTPUTS = "outputs"
_OTHER = "parts"
_IN_ORDER = (
    "workflow", "order", "steps", "agents", "outputs", "context", "sessions", "checkpoints", "adopted", "restored",
    "erased", "prepared", "settled", "tombstone", "parts",
)  # fmt: skip

BOOKKEEPING: frozenset[str] = frozenset(
    {"sessions", "checkpoints", "adopted", "restored", "erased", "prepared", "settled"}
)
"""The places that tell of the workflow's own past, and not of what it is: going back to a version leaves them alone."""

_USUAL = ", ".join(name for name in _IN_ORDER if name not in BOOKKEEPING | {"tombstone", "parts"})
"""What a workflow is made of, and what is changed about it."""

SECTIONS: frozenset[Root] = frozenset({*_BY_ROOT, CONTEXT, (_OUTPUTS,), (_OTHER,)})
"""The places below which there are parts, and not only what stands in one."""


def root_of(key: str) -> Root:
    """The root of the part of a key."""
    if key in _SINGLE:
        return _SINGLE[key]
    kind, separator, name = key.partition(records.SEPARATOR)
    prefix = kind + separator
    if prefix in _PREFIXES:
        return (*_PREFIXES[prefix], name)
    if prefix == records.ORDER:
        return ORDER
    if prefix in (records.OUTPUT, records.VALUE) and records.SEPARATOR in name:
        return (_OUTPUTS, name.rpartition(records.SEPARATOR)[0])
    return (_OTHER, key)


def position(root: Root) -> tuple[int, Root]:
    """A key that sorts roots in the order in which they are shown."""
    return _IN_ORDER.index(root[0]), root


def path_of(root: Root) -> str:
    return paths.written(paths.of_keys(*root))


class Place(NamedTuple):
    """A path, taken apart: the root of a part, or a section, and the steps within its value."""

    root: Root
    inner: tuple[str, ...]

    @property
    def path(self) -> str:
        return paths.written([*paths.of_keys(*self.root), *self.inner])

    @property
    def is_section(self) -> bool:
        """Whether it stands for what is in several parts, or for something that cannot be among them."""
        return self.root in SECTIONS and (not self.inner or self.root != CONTEXT)

    def holds(self, root: Root) -> bool:
        """Whether a change of that part may change what is here."""
        return root == self.root or (self.is_section and root[: len(self.root)] == self.root)


def place(path: str) -> Place:
    """Where a path leads. Raises InvalidInput for what is no path, or begins with no part of a workflow."""
    if type(path) is not str:
        raise InvalidInput(f"a path is a text, not {type(path).__name__}")
    steps = paths.parse(path)
    names = {step: name for name in _IN_ORDER for step in paths.of_keys(name)}
    top = names.get(steps[0])
    if top is None:
        raise InvalidInput(f"{path!a:.200} leads nowhere: paths begin with {_USUAL}", path=path)
    if top == "context":
        group = next((root for root in _BY_ROOT if root[0] == top and paths.of_keys(*root) == steps[:2]), None)
        return Place((top,), tuple(steps[1:])) if group is None else _within(group, steps[2:])
    return _within((top,), steps[1:])


def _within(above: Root, steps: list[str]) -> Place:
    if above not in SECTIONS or not steps:
        return Place(above, tuple(steps))
    # ids are texts: a step that stands for another key leads nowhere
    name = paths.text_of(steps[0])
    return Place(above, tuple(steps)) if name is None else Place((*above, name), tuple(steps[1:]))


# --- values ---


def value(get: Get, root: Root) -> Any:
    """What stands at a root, by the bytes of its parts; ABSENT where nothing does."""
    try:
        found = _value(get, root)
    except ValueErased as error:
        return erased_value(error)
    if found is ABSENT and root[0] not in (_OUTPUTS, _OTHER) and root != ORDER:
        return ErasedValue() if _is_said_to_be_erased(get, key_of(root)) else ABSENT
    return found


def erased_value(error: ValueErased) -> ErasedValue:
    return ErasedValue(error.size_bytes, error.digest)


def _is_said_to_be_erased(get: Get, key: str) -> bool:
    return any(get(each) is not None for each in erased.what_says_so(key))


def _value(get: Get, root: Root) -> Any:
    if root[0] == _OUTPUTS:
        return _output(get, root[1])
    if root == ORDER:
        ids = list(_order(get))
        return ids if get(records.WORKFLOW) is not None else ABSENT
    key = key_of(root)
    data = get(key)
    return ABSENT if data is None else decoded(key, data)


def key_of(root: Root) -> str:
    """The key of the only part of a root that has one; not for outputs and the order."""
    for key, single in _SINGLE.items():
        if single == root:
            return key
    if root[0] == _OTHER:
        return root[1]
    return _BY_ROOT[root[:-1]] + root[-1]


def decoded(key: str, data: bytes) -> Any:
    """The value of a part. Raises DocumentDamaged."""
    kind = key.partition(records.SEPARATOR)[0] + records.SEPARATOR
    if kind in (records.SESSION, records.ADOPTED):
        return True
    if kind == records.SECRET:
        return SealedValue.of(data)
    record = _RECORDS.get(key if key in _SINGLE else kind)
    if record is not None:
        found = record.decode(key, data)
        return _fields(found) if isinstance(found, Struct) else found
    return data if root_of(key)[0] == _OTHER else values.decode(data, inert=True)


_RECORDS: Mapping[str, records.Record[Any]] = {
    records.WORKFLOW: records.WORKFLOWS,
    records.CONTEXT: records.CONTEXTS,
    records.TOMBSTONE: records.TOMBSTONES,
    records.STEP: records.STEPS,
    records.AGENT: records.AGENTS,
    records.CHECKPOINT: records.CHECKPOINTS,
    records.RESTORED: records.TEXTS,
    erased.ERASED: records.Record(erased.ErasureRecord),
}


def _fields(given: Struct) -> dict[str, Any]:
    """A record and those in it as dictionaries."""
    found: dict[str, Any] = {}
    for name, each in structs.asdict(given).items():
        if name == "created_us":
            found["created_at"] = records.moment(each)
        else:
            found[name] = _fields(each) if isinstance(each, Struct) else each
    return found


def _order(get: Get) -> Iterator[str]:
    for number in count():
        key = records.order_key(number)
        data = get(key)
        if data is None:
            return
        yield from records.PAGES.decode(key, data)


def output_root(step_id: str) -> Root:
    return (_OUTPUTS, step_id)


def output_stamp(get: Get, root: Root) -> tuple[int, str] | None:
    """Size and checksum of the newest output of a step, of an erased one those of its part; None where it has none."""
    try:
        found = _newest_output(get, root[1])
    except ValueErased as error:
        return error.size_bytes or 0, error.digest or "erased"
    if found is None:
        return None
    record = records.OUTPUTS.decode(*found)
    return record.size_bytes, record.checksum


def _output(get: Get, step_id: str) -> Any:
    found = _newest_output(get, step_id)
    return ABSENT if found is None else output_value(*found)


def _newest_output(get: Get, step_id: str) -> tuple[str, bytes] | None:
    """Key and bytes of the record of a step's newest output. Raises ValueErased."""
    key = records.STEP + step_id
    data = get(key)
    version = 0 if data is None else records.STEPS.decode(key, data).output_version
    key = records.output_key(step_id, version)
    data = get(key) if version else None
    if data is None and version and _is_said_to_be_erased(get, key):
        raise erased.named(key, None, None)
    return None if data is None else (key, data)


def output_value(key: str, data: bytes) -> Any:
    """The value of an output, by its record."""
    found = records.OUTPUT_RECORDS.decode(key, data)
    if found.value is None:
        return LargeValue(found.size_bytes, found.checksum)
    return values.decode(found.value, inert=True)


def tree(view: View, section: Root) -> Any:
    """All that stands in a section, as dictionaries; ABSENT where that is nothing."""
    found: dict[str, Any] = {}
    for root in sorted({each for each in map(root_of, _keys(view, section)) if each[: len(section)] == section}):
        here = value(view.get, root)
        if here is ABSENT:
            continue
        names = root[len(section) :]
        if not names:
            found.update(here)
            continue
        inner = found
        for name in names[:-1]:
            inner = cast("dict[str, Any]", inner.setdefault(name, {}))
        inner[names[-1]] = here
    return found or ABSENT


def _keys(view: View, section: Root) -> Iterator[str]:
    prefix = records.OUTPUT if section == (_OUTPUTS,) else _BY_ROOT.get(section, "")
    return view.keys(prefix)


def inside(given: Any, steps: tuple[str, ...]) -> tuple[Any, int]:
    """What stands within a value, and how many steps lead to something: ABSENT when those are not all."""
    here = given
    if here is ABSENT:
        return ABSENT, 0
    for number, step in enumerate(steps):
        below = paths.child(here, step)
        if below is None:
            return ABSENT, number
        here = below[0]
    return here, len(steps)
