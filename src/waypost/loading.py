"""A workflow state over one version of a document: its parts are decoded when they are touched.

Invariants:

* Loading reads the workflow's own record and its context, whatever the number of steps.
* What was touched is kept, so the same step is the same object each time, and changes made in place stay.
* A step's `output` and the state's `outputs` lead to the same object.
* The containers tell what was touched, given and removed, so that saving looks at nothing else.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import Any, TypeVar, cast, overload

from waypost import erased, records, secrecy
from waypost.codec import values
from waypost.errors import ValueErased
from waypost.folding import Fold, fold
from waypost.keys import Keys
from waypost.models import (
    AgentState,
    StateMetadata,
    StepOutput,
    Steps,
    Workflow,
    WorkflowContext,
    WorkflowState,
    WorkflowStep,
    as_step,
)
from waypost.secrecy import FindKeys
from waypost.store import View

T = TypeVar("T")

_RUN = 512
"""So many steps are decoded at once: of many more at a time the garbage collector makes as much work again."""

Viewer = Callable[[], View]
"""Finds the version that something was read from, when it is needed. A function of its own and no `partial`, so that
copying what holds it copies neither view nor store."""


def load(view: View, store: object = None, keys: FindKeys = Keys, *, inert: bool = False) -> WorkflowState:
    """The workflow at one version, of a store to which it may be saved again; `keys` are for its secrets, when they are
    asked for. What is `inert` is to be shown: in it no object of an application is rebuilt. Raises WorkflowNotFound.
    """
    record = records.workflow(view)
    outputs = LazyOutputs(lambda: view, inert=inert)
    state = WorkflowState(
        metadata=_metadata(view, record),
        workflow=Workflow(view.document.id, record.name, LazySteps(lambda: view, outputs), record.paused),
        agents=LazyAgents(lambda: view, records.AGENT),
        outputs=outputs,
        context=load_context(view, keys, inert=inert),
    )
    vars(state)["_origin"] = lambda: (view, store)
    return state


def base_of(state: WorkflowState, store: object) -> View | None:
    """The version that a state was loaded from.

    None when the state was made by hand, came from another store, or was given another id.
    """
    origin: Callable[[], tuple[View, object]] | None = vars(state).get("_origin")
    if origin is None:
        return None
    view, home = origin()
    return view if home is store and view.document.id == state.workflow.id else None


def load_context(view: View, keys: FindKeys, *, inert: bool = False) -> WorkflowContext:
    kind = InertValues if inert else LazyValues
    record = records.CONTEXTS.get(view, records.CONTEXT) or records.ContextRecord()
    return WorkflowContext(
        session_id=record.session_id,
        user_id=record.user_id,
        environment=record.environment,
        configuration=kind(lambda: view, records.CONFIGURATION),
        variables=kind(lambda: view, records.VARIABLE),
        features=kind(lambda: view, records.FEATURE),
        secrets=LazySecrets(lambda: view, lambda: keys()),
    )


def _metadata(view: View, record: records.WorkflowRecord) -> StateMetadata:
    return StateMetadata(
        id=view.document.id,
        version=view.version,
        schema_version=record.schema_version,
        application_versions=record.applications,
        created_at=records.moment(record.created_us),
        updated_at=records.moment(view.time_us),
        checksum=view.checksum.hex(),
        size_bytes=view.size_bytes,
        compressed=view.compressed,
    )


def with_outputs(step: WorkflowStep, viewer: Viewer) -> WorkflowStep:
    """The step, whose `output` is read where `viewer` leads when it is asked for."""
    vars(step)["_outputs"] = LazyOutputs(viewer)
    return step


def with_value(output: StepOutput, viewer: Viewer, *, inert: bool = False) -> StepOutput:
    """The output, whose value is read where `viewer` leads when it is asked for."""
    step_id, version = output.step_id, output.version
    vars(output)["_load"] = lambda: values.decode(records.output_bytes(viewer(), step_id, version), inert=inert)
    return output


def every_step(view: View) -> Iterator[WorkflowStep]:
    """All steps in order, decoded a run of them at a time and kept by nobody.

    A run is read in the order of its keys, in which parts stand together: in that of the workflow each step may stand
    in another block than the one before it, which would be unpacked anew for each of its steps.
    """
    order = records.order(view)
    for start in range(0, len(order), _RUN):
        run = order[start : start + _RUN]
        steps = {step_id: records.step(view, step_id) for step_id in sorted(run)}
        yield from (steps[step_id] for step_id in run)


# --- steps ---


class LazySteps(Steps):
    """The steps of a version. An entry is a step, or the id of one that is as the version has it, or was touched."""

    __slots__ = ("_edited", "_entries", "_fold", "_outputs", "_touched", "_viewer")

    def __init__(self, viewer: Viewer, outputs: LazyOutputs) -> None:
        self._viewer = viewer
        self._outputs = outputs
        self._entries: list[WorkflowStep | str] | None = None
        self._touched: dict[str, WorkflowStep] = {}
        self._edited = False
        self._fold: tuple[bool, Fold] | None = None

    def ids(self) -> list[str]:
        """The ids of all steps in their order, as they are now."""
        touched = self._touched
        return [
            (touched[entry].id if entry in touched else entry) if isinstance(entry, str) else entry.id
            for entry in self._list()
        ]

    @property
    def is_reordered(self) -> bool:
        """Whether `ids` may differ from those of the version."""
        return self._edited or any(step.id != step_id for step_id, step in self._touched.items())

    def held(self) -> list[WorkflowStep]:
        """The steps that may differ from the version's: those that were touched, and those that were given."""
        if not self._edited:
            return list(self._touched.values())
        touched = self._touched
        found = [touched.get(entry) if isinstance(entry, str) else entry for entry in self._list()]
        return [step for step in found if step is not None]

    def is_of(self, view: View) -> bool:
        return self._viewer() is view

    def is_own(self, step: WorkflowStep) -> bool:
        """Whether a step came from this version."""
        return vars(step).get("_outputs") is self._outputs

    def find(self, step_id: str) -> WorkflowStep | None:
        if self._edited:
            return next((step for step in self if step.id == step_id), None)
        found = self._touched.get(step_id)
        if found is None and self._viewer().size_of(records.STEP + step_id) is not None:
            found = self._touch(step_id)
        return found

    def fold(self, paused: bool) -> Fold:
        if self._edited or self._touched:
            return fold(self._peek(), paused)
        if self._fold is None or self._fold[0] != paused:
            self._fold = (paused, fold(every_step(self._viewer()), paused))
        return self._fold[1]

    def _peek(self) -> Iterator[WorkflowStep]:
        """All steps, without keeping those that nobody has touched."""
        for entry in self._list():
            if isinstance(entry, str):
                yield self._touched.get(entry) or records.step(self._viewer(), entry)
            else:
                yield entry

    def _list(self) -> list[WorkflowStep | str]:
        if self._entries is None:
            self._entries = [*records.order(self._viewer())]
        return self._entries

    def _touch(self, entry: WorkflowStep | str) -> WorkflowStep:
        if not isinstance(entry, str):
            return entry
        found = self._touched.get(entry)
        if found is None:
            found = records.step(self._viewer(), entry)
            self._outputs.newest[entry] = found.output_version
            vars(found)["_outputs"] = self._outputs
            # whole before anybody finds it, so that what fails is tried again; where two threads made one, both have it
            found = self._touched.setdefault(entry, found)
        return found

    def __iter__(self) -> Iterator[WorkflowStep]:
        return map(self._touch, self._list())

    def __len__(self) -> int:
        return len(self._list())

    @overload
    def __getitem__(self, index: int) -> WorkflowStep: ...
    @overload
    def __getitem__(self, index: slice) -> list[WorkflowStep]: ...
    def __getitem__(self, index: int | slice) -> WorkflowStep | list[WorkflowStep]:
        found = self._list()[index]
        return [self._touch(entry) for entry in found] if isinstance(found, list) else self._touch(found)

    @overload
    def __setitem__(self, index: int, value: WorkflowStep) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[WorkflowStep]) -> None: ...
    def __setitem__(self, index: int | slice, value: WorkflowStep | Iterable[WorkflowStep]) -> None:
        self._edited = True
        if isinstance(index, slice):
            self._list()[index] = [as_step(step) for step in cast("Iterable[WorkflowStep]", value)]
        else:
            self._list()[index] = as_step(cast("WorkflowStep", value))

    def __delitem__(self, index: int | slice) -> None:
        self._edited = True
        del self._list()[index]

    def insert(self, index: int, value: WorkflowStep | str) -> None:
        self._edited = True
        self._list().insert(index, as_step(value))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return list(self) == list(cast("Sequence[object]", other))

    def __repr__(self) -> str:
        return f"<{len(self)} steps>"


# --- dictionaries ---


class LazyMapping(MutableMapping[str, T]):
    """A dictionary over the parts behind one prefix; an item is decoded when it is touched. What was erased is not
    among the items, and asking for it raises ValueErased, a KeyError.
    """

    __slots__ = ("_prefix", "_viewer", "given", "removed", "touched")

    def __init__(self, viewer: Viewer, prefix: str) -> None:
        self._viewer = viewer
        self._prefix = prefix
        self.touched: dict[str, T] = {}
        """What was handed out or given."""
        self.given: set[str] = set()
        """Names of items that were assigned, rather than read."""
        self.removed: set[str] = set()
        """Names of items that were taken out."""

    def is_of(self, view: View, prefix: str) -> bool:
        return self._prefix == prefix and self._viewer() is view

    @abstractmethod
    def _read(self, name: str) -> T:
        """Decode one item of the version. Raises KeyError where it has none of that name."""

    def _stored(self) -> Iterable[str]:
        view, prefix = self._viewer(), self._prefix
        return [name for name in records.names(view, prefix) if view.erased(prefix + name) is None]

    def __getitem__(self, name: str) -> T:
        if name in self.touched:
            return self.touched[name]
        if name in self.removed:
            raise KeyError(name)
        found = self.touched[name] = self._read(name)
        return found

    def __setitem__(self, name: str, value: T) -> None:
        self.touched[name] = value
        self.given.add(name)
        self.removed.discard(name)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self.touched.pop(name, None)
        self.given.discard(name)
        self.removed.add(name)

    def __contains__(self, name: object) -> bool:
        if name in self.touched:
            return True
        return isinstance(name, str) and name not in self.removed and self._is_stored(name)

    def _is_stored(self, name: str) -> bool:
        view, key = self._viewer(), self._prefix + name
        return view.size_of(key) is not None and view.erased(key) is None

    def __iter__(self) -> Iterator[str]:
        stored = [name for name in self._stored() if name not in self.removed]
        yield from stored
        yield from sorted(self.given.difference(stored))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<{len(self)} items>"


class LazyValues(LazyMapping[Any]):
    """Variables, configuration or features."""

    __slots__ = ()

    def _read(self, name: str) -> Any:
        data = erased.read(self._viewer(), self._prefix + name)
        if data is None:
            raise KeyError(name)
        return values.decode(data)


class InertValues(LazyValues):
    """The same to be shown: no object of an application is rebuilt."""

    __slots__ = ()

    def _read(self, name: str) -> Any:
        data = erased.read(self._viewer(), self._prefix + name)
        if data is None:
            raise KeyError(name)
        return values.decode(data, inert=True)


class LazySecrets(LazyMapping[Any]):
    """Secrets: their names are there for anybody, and each is opened when it is touched."""

    __slots__ = ("_keys",)

    def __init__(self, viewer: Viewer, keys: FindKeys) -> None:
        super().__init__(viewer, records.SECRET)
        self._keys = keys

    def _read(self, name: str) -> Any:
        """Raises KeyMissing, SealBroken."""
        data = erased.read(self._viewer(), self._prefix + name)
        if data is None:
            raise KeyError(name)
        return secrecy.read(name, data, self._keys)

    def __eq__(self, other: object) -> bool:
        mine = self._stands_as_sealed() if isinstance(other, LazySecrets) else None
        if mine is not None and isinstance(other, LazySecrets) and mine == other._stands_as_sealed():
            return True  # also where there is no key
        return super().__eq__(other)

    def _stands_as_sealed(self) -> dict[str, bytes | None] | None:
        """What is stored, if nothing was touched."""
        if self.touched or self.removed:
            return None
        view = self._viewer()
        return {name: view.get(self._prefix + name) for name in self._stored()}


class LazyAgents(LazyMapping[AgentState]):
    """The workflow's agents."""

    __slots__ = ()

    def _read(self, name: str) -> AgentState:
        found = records.AGENTS.get(self._viewer(), self._prefix + name)
        if found is None:
            raise KeyError(name)
        return found


class LazyOutputs(LazyMapping[StepOutput]):
    """The newest output of each step that has one."""

    __slots__ = ("_inert", "newest")

    def __init__(self, viewer: Viewer, *, inert: bool = False) -> None:
        super().__init__(viewer, records.OUTPUT)
        self._inert = inert
        self.newest: dict[str, int] = {}
        """The number of the newest output of steps that were read of the version, which stays as it is."""

    def value_of(self, step_id: str) -> Any:
        """The value of a step's newest output; None where it has none, or that was erased."""
        found = self.touched.get(step_id)
        if found is None and step_id not in self.removed:
            found = self._read_with_value(step_id)
        return None if found is None else found.output

    def _read_with_value(self, step_id: str) -> StepOutput | None:
        """Take in an output whose value is wanted at once: where it stands in the record, that is read only once."""
        view = self._viewer()
        version = self.newest.get(step_id) or self._version(view, step_id)
        key = records.output_key(step_id, version)
        try:
            data = view.get(key) if version else None
        except ValueErased:
            data = None
        record = None if data is None else records.OUTPUT_RECORDS.decode(key, data)
        if record is None or record.value is None:
            return self.get(step_id)  # it is told there what is missing; a large value is a part of its own
        found = record.without_value()
        held = vars(found)
        held["_value"] = values.decode(record.value, inert=self._inert)
        held["_compressed"] = view.compressed
        self.touched[step_id] = found
        return found

    def _read(self, name: str) -> StepOutput:
        view = self._viewer()
        version = self._version(view, name)
        if not version:
            raise KeyError(name)
        return self._with_value(view, records.output(view, name, version))

    def _with_value(self, view: View, output: StepOutput) -> StepOutput:
        vars(output)["_compressed"] = view.compressed
        return with_value(output, self._viewer, inert=self._inert)

    def _version(self, view: View, step_id: str) -> int:
        # asked of the version, since the step may have been changed by hand
        version = self.newest.get(step_id)
        if version is None:
            step = records.STEPS.get(view, records.STEP + step_id)
            version = self.newest[step_id] = 0 if step is None else step.output_version
        return version

    def _is_stored(self, name: str) -> bool:
        view = self._viewer()
        version = self._version(view, name)
        return version > 0 and not erased.is_gone(view, records.output_key(name, version))

    def _stored(self) -> Iterable[str]:
        # keys are sorted, so the versions of one step stand together
        stored = records.names(self._viewer(), self._prefix)
        names = dict.fromkeys(name.rpartition(records.SEPARATOR)[0] for name in stored)
        # an output without its step is damage, which validation tells; nobody can ask for it
        return [name for name in names if self._is_stored(name)]
