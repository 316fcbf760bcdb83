"""What becomes of conflicts: how each of the four resolutions answers them (docs/sync.md, section 4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from waypost import clock, places, records
from waypost.codec import values
from waypost.errors import InvalidInput, WaypostError
from waypost.records import ADOPTED, CHECKPOINT, ORDER, OUTPUT, VALUE
from waypost.redaction import Redaction
from waypost.session_records import ENVIRONMENT, PREFERENCE
from waypost.store import View
from waypost.sync_models import ConflictSide, ConflictType, OnConflict, Resolution, Resolve, StateConflict
from waypost.uniting import (
    WHOLE,
    Decided,
    Sides,
    Union,
    adopted,
    checkpoint_in,
    is_erased_since,
    kept_by,
    lasting,
    problem_of,
    unite,
    unite_order,
)

_OF_A_STEP = (records.STEP, OUTPUT, VALUE)
_USER_VALUES = (records.VARIABLE, records.CONFIGURATION, records.FEATURE)


class Answers(NamedTuple):
    """What is said to conflicts."""

    on_conflict: OnConflict
    resolve: Resolve | None
    redaction: Redaction = Redaction()
    """For what is told of a conflict, and for what is answered."""


class Settled(NamedTuple):
    """What is decided, None where a conflict stays, and all conflicts that there were."""

    union: Union | None
    conflicts: tuple[StateConflict, ...]


def settle(sides: Sides, keys: Iterable[str], answers: Answers) -> Settled:
    """Unite two lines, and answer what is in conflict. Raises DocumentDamaged, ValueErased, InvalidInput,
    InvalidValue, and what `resolve` raises.
    """
    keys = set(keys)
    union = unite(sides, keys)
    if WHOLE in union.conflicts:
        return _settle_whole(sides, keys, answers, union.conflicts[WHOLE], "concurrent_write", ())
    found: list[StateConflict] = []
    for group in _groups(sides, union):
        conflict = _conflict(sides, group[0], union.conflicts[group[0]], answers.redaction)
        answer = _answer(sides, group, conflict, answers)
        if answer is not None:
            union.decided.update(answer)
            conflict = _resolved(conflict, answers)
        found.append(conflict)
    if any(each.resolution is None for each in found):
        return Settled(
            None, tuple(replace(each, resolution=None, resolved_by=None, resolved_at=None) for each in found)
        )
    if not any(key.startswith(ORDER) for key in union.conflicts):
        unite_order(sides, keys, union)  # whether steps that were in conflict are there is said by now
    problem = problem_of(sides, union)
    if problem is not None:
        reason = f"it would not be sound, were both sides brought together: {problem}"
        return _settle_whole(sides, keys, answers, reason, "data_corruption", tuple(found))
    return Settled(union, tuple(found))


def _groups(sides: Sides, union: Union) -> list[list[str]]:
    """The keys in conflict, those that stand or fall together in one list."""
    groups: list[list[str]] = []
    orders = [key for key in union.conflicts if key.startswith(ORDER)]
    if orders:
        views = [view for view in (sides.base, sides.ours, sides.theirs) if view is not None]
        groups.append(sorted({*orders, *(key for view in views for key in view.keys(ORDER))}))
        union.conflicts.update(dict.fromkeys(groups[0], union.conflicts[orders[0]]))
    steps = {step for key in union.conflicts if (step := _step_of(key)) is not None}
    for step in sorted(steps):
        groups.append(_group_of_step(step, union))
    taken = {key for group in groups for key in group}
    groups += [[key] for key in union.conflicts if key not in taken]
    return sorted(groups)


def _group_of_step(step: str, union: Union) -> list[str]:
    """A step with its outputs and their values: its record says which of them is the newest. It is told as the record,
    and where that is in no conflict as the newest output that is.
    """
    keys = sorted(key for key in {*union.decided, *union.conflicts} if _step_of(key) == step)
    record = records.STEP + step
    said = [key for key in keys if key in union.conflicts]
    told = record if record in said else max(said, key=lambda key: (key.startswith(OUTPUT), key))
    return [told, *(key for key in keys if key != told)]


def _step_of(key: str) -> str | None:
    """The step that a part belongs to: its record, an output, or the value of one; None of any other part."""
    kind, _, rest = key.partition(records.SEPARATOR)
    return rest.partition(records.SEPARATOR)[0] if kind + records.SEPARATOR in _OF_A_STEP else None


def _answer(sides: Sides, group: list[str], conflict: StateConflict, answers: Answers) -> dict[str, Decided] | None:
    """What these parts become; None where that is not said."""
    key = group[0]
    if answers.on_conflict == "last_writer_wins":
        later = sides.later(*group)
        return {each: _as_in(sides, later, each) for each in group}
    if answers.on_conflict == "rollback":
        return None if sides.before is None else {each: _as_in(sides, sides.before, each) for each in group}
    if answers.on_conflict != "user_intervention" or answers.resolve is None:
        return None
    said = answers.resolve(conflict)
    if isinstance(said, Resolution):
        if not key.startswith(_USER_VALUES):
            raise InvalidInput(f"{conflict.path or 'a document'}: only a side can be chosen, not another value")
        return {key: Decided(data=answers.redaction.encode(said.value, *places.root_of(key)))}
    view = _chosen(sides, said)
    return None if view is None else {each: _as_in(sides, view, each) for each in group}


def _chosen(sides: Sides, said: str | None) -> View | None:
    if said is None:
        return None
    if said not in ("ours", "theirs", "base"):
        raise InvalidInput(f"a conflict is answered with 'ours', 'theirs', 'base', a Resolution or None, not {said!r}")
    return {"ours": sides.ours, "theirs": sides.theirs, "base": sides.before}[said]


def _resolved(conflict: StateConflict, answers: Answers) -> StateConflict:
    by = "resolve" if answers.on_conflict == "user_intervention" else answers.on_conflict
    now = clock.to_datetime(clock.now_us())
    return replace(conflict, resolution=answers.on_conflict, resolved_by=by, resolved_at=now)


# --- the whole document ---


def _settle_whole(
    sides: Sides, keys: set[str], answers: Answers, reason: str, kind: ConflictType, before: tuple[StateConflict, ...]
) -> Settled:
    """One of the versions stands whole."""
    conflict = replace(_conflict(sides, WHOLE, reason, answers.redaction), conflict_type=kind)
    view: View | None = None
    if answers.on_conflict == "last_writer_wins":
        view = max((sides.ours, sides.theirs), key=lambda each: (each.time_us, each.commit_id))
    elif answers.on_conflict == "rollback":
        view = sides.before
    elif answers.on_conflict == "user_intervention" and answers.resolve is not None:
        said = answers.resolve(conflict)
        if isinstance(said, Resolution):
            raise InvalidInput("of a whole document only a side can be chosen, not another value")
        view = _chosen(sides, said)
    if view is None:
        return Settled(
            None, (*(replace(each, resolution=None, resolved_by=None, resolved_at=None) for each in before), conflict)
        )
    return Settled(_as_it_is(sides, keys, view), (*before, _resolved(conflict, answers)))


def _as_it_is(sides: Sides, keys: set[str], view: View) -> Union:
    """All of the parts as one version has them; what only grows (numbers of sessions, what was erased) does so."""
    union = Union({}, {}, {})
    grown = lasting(sides, keys)
    for key in sorted(keys):
        if key.startswith((CHECKPOINT, ADOPTED)):
            name = key.removeprefix(CHECKPOINT).removeprefix(ADOPTED)
            union.decided[CHECKPOINT + name] = Decided()
            union.decided.setdefault(ADOPTED + name, _adopted(sides, view, name, union))
        else:
            union.decided[key] = grown.get(key) or _as_in(sides, view, key)
    return union


def _as_in(sides: Sides, view: View, key: str) -> Decided:
    """A part as a version has it; what was erased since does not come back, and a value that a repair could not keep
    does: the answer is not about that.
    """
    if is_erased_since(sides, view, key):
        return Decided()
    kept = None if view is sides.base else kept_by(sides, key)
    return Decided(view if kept is None else kept)


def _adopted(sides: Sides, view: View, name: str, union: Union) -> Decided:
    if checkpoint_in(view, name) is None:
        return Decided()
    for side in (sides.ours, sides.theirs):
        if checkpoint_in(side, name) is not None:
            union.adopted[name] = side
            return Decided(data=adopted(side, name))
    return Decided()  # neither side has it any more


# --- how it is told ---


def _conflict(sides: Sides, key: str, reason: str, redaction: Redaction) -> StateConflict:
    document = sides.ours.document
    is_workflow = document.kind == "workflow"
    return StateConflict(
        conflict_type="concurrent_write" if sides.base is not None else "version_mismatch",
        kind=document.kind,
        document_id=document.id,
        part=key.replace(records.SEPARATOR, " "),
        path=places.path_of(places.root_of(key)) if key and is_workflow else key.replace(records.SEPARATOR, "."),
        reason=reason,
        base=ConflictSide() if sides.base is None else ConflictSide(value=_shown(sides.base, key, redaction)),
        ours=_side(sides, sides.ours, key, redaction),
        theirs=_side(sides, sides.theirs, key, redaction),
    )


def _side(sides: Sides, view: View, key: str, redaction: Redaction) -> ConflictSide:
    value = _shown(view, key, redaction)
    line = sides.line_of(view)
    touch = line.touched.get(key)
    if touch is None and key.startswith(ORDER):
        touch = next((found for each, found in line.touched.items() if each.startswith(ORDER)), None)
    if key == WHOLE:
        touch = max(line.touched.values(), key=lambda each: each.time_us, default=None)
    if touch is None:
        return ConflictSide(value=value)
    return ConflictSide(
        value=value,
        time=records.moment(touch.time_us),
        commit_id=touch.commit_id.hex(),
        operation_id=touch.operation_id,
        operation=touch.operation,
        session_id=touch.session,
    )


def _shown(view: View, key: str, redaction: Redaction) -> object:
    value = _value(view, key)
    return value if value is UNSET else redaction.shown(value, *_root(view, key))


def _root(view: View, key: str) -> places.Root:
    if view.document.kind == "workflow":
        return places.root_of(key)
    kind, separator, name = key.partition(records.SEPARATOR)
    return (_SESSION_GROUPS.get(kind + separator, kind), name)


_SESSION_GROUPS = {ENVIRONMENT: "environment", PREFERENCE: "preferences"}


def _value(view: View, key: str) -> object:
    """What a part says; UNSET where it is not there."""
    if key == WHOLE:
        return UNSET
    try:
        if view.document.kind == "thread":  # of another framework, and nothing that could be shown
            size = view.size_of(key)
            return UNSET if size is None else places.LargeValue(size, "")
        if view.document.kind == "session":
            data = view.get(key)
            return UNSET if data is None else values.decode(data, inert=True)
        if key.startswith(OUTPUT):
            data = view.get(key)
            return UNSET if data is None else places.output_value(key, data)
        if key.startswith(VALUE):
            size = view.size_of(key)
            return UNSET if size is None else places.LargeValue(size, "")
        found = places.value(view.get, places.root_of(key))
    except WaypostError as error:
        return f"<{error.message}>"
    return UNSET if found is places.ABSENT else found
