"""What two lines of a document become together, part by part (docs/sync.md, sections 3 and 4).

Each part is *decided*: it is as one of the sides has it, or a value of its own, or not there. Nothing is written here.

Invariants:

* What only one side has changed is as that side has it; what both made the same of stays so.
* A part that is decided otherwise than by these rules, or by one that has only one sensible answer, is a conflict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast

import msgspec
from msgspec.structs import astuple, replace

from waypost import erased, lineage, migrations, records, secrecy, session_records, validation
from waypost.checkpoints import ERASURES
from waypost.erased import ERASED
from waypost.errors import DocumentDamaged, WaypostError
from waypost.lines import Line
from waypost.merging import digest_in, digest_of
from waypost.records import ADOPTED, CHECKPOINT, ORDER, OUTPUT, SECRET, SESSION, VALUE, AdoptedRecord
from waypost.session_records import RECOVERY, SESSION_RECORD
from waypost.store import View
from waypost.store.contract import PAGE
from waypost.store.staging import StagedTransaction

_MERGED_BY_FIELD = (records.STEP, records.AGENT)
_SINGLE_BY_FIELD = (records.WORKFLOW, records.CONTEXT)
_RECORDS: Mapping[str, records.Record[Any]] = {
    records.WORKFLOW: records.WORKFLOWS,
    records.CONTEXT: records.CONTEXTS,
    records.STEP: records.STEPS,
    records.AGENT: records.AGENTS,
}
_NIL = b"\xc0"


class Decided(NamedTuple):
    """What becomes of a part: the value of a view, bytes, or nothing where both are None."""

    view: View | None = None
    data: bytes | None = None

    def length(self, key: str) -> int | None:
        return len(self.data) if self.data is not None else None if self.view is None else self.view.size_of(key)

    def digest(self, key: str) -> bytes | None:
        if self.data is not None:
            return digest_of(key, self.data)
        return None if self.view is None or self.view.size_of(key) is None else digest_in(self.view, key)

    def get(self, key: str) -> bytes | None:
        return self.data if self.data is not None or self.view is None else erased.read(self.view, key)


class Sides(NamedTuple):
    """The two newest versions, the last common one (None where it is not kept) without what either side has erased
    since, and the lines that lead from it.
    """

    base: View | None
    ours: View
    theirs: View
    our_line: Line
    their_line: Line
    known_here: set[bytes]
    known_there: set[bytes]
    find_keys: secrecy.FindKeys

    @property
    def before(self) -> View | None:
        """The version that one can go back to: the two may never have been one, or it may be gone."""
        return self.base if self.base is not None and self.base.version else None

    def line_of(self, view: View) -> Line:
        return self.our_line if view is self.ours else self.their_line

    def is_seen(self, view: View, key: str) -> bool | None:
        """Whether the other side knows of the last change that a side made of a part; None where that is not told."""
        line = self.line_of(view)
        touch = line.touched.get(key)
        if touch is None:
            return True if line.is_whole else None
        return touch.commit_id in (self.known_there if view is self.ours else self.known_here)

    def knows_value(self, view: View, key: str) -> bool | None:
        """The same of the value that a side has. It may have got by an import what the common version had, or what the
        other side had and has erased since.
        """
        seen, base = self.is_seen(view, key), self.base
        if seen is not False or view.size_of(key) is None:
            return seen
        digest = digest_in(view, key)
        other = self.their_line if view is self.ours else self.our_line
        was_there = base is not None and base.size_of(key) is not None and digest_in(base, key) == digest
        return was_there or (key, digest) in other.erased

    def is_newer(self, view: View, other: View, key: str) -> bool:
        """Whether a side has changed a part knowing what the other made of it, who does not know of that."""
        return self.is_seen(other, key) is True and self.is_seen(view, key) is False

    def later(self, *keys: str) -> View:
        """The side that changed these parts last; of both at one time the one with the larger commit id."""
        return max((self.ours, self.theirs), key=lambda view: max(self._changed(view, key) for key in keys))

    def _changed(self, view: View, key: str) -> tuple[int, bytes]:
        line = self.line_of(view)
        touch = line.touched.get(key)
        # what is not known to have been changed was not changed later than what is
        if touch is None:
            return (0, b"") if line.is_whole else (view.time_us, view.commit_id)
        return touch.time_us, touch.commit_id


class Union(NamedTuple):
    """What is decided of each part, which parts are in conflict, and the checkpoints that are adopted, by the side that
    has their versions.
    """

    decided: dict[str, Decided]
    conflicts: dict[str, str]
    """Why, by the key; "" is the whole document."""
    adopted: dict[str, View]


WHOLE = ""


def unite(sides: Sides, keys: Iterable[str]) -> Union:
    """Decide these parts: all that one of the lines has changed. Raises DocumentDamaged, ValueErased."""
    union = Union({}, {}, {})
    keys = sorted(set(keys))
    if any(view.size_of(PAGE) is not None for view in (sides.ours, sides.theirs)):
        return _unite_page(sides, keys)
    gone = [view.size_of(records.TOMBSTONE) is not None for view in (sides.ours, sides.theirs)]
    if gone[0] and gone[1]:
        later = sides.later(records.TOMBSTONE)
        union.decided.update(dict.fromkeys(keys, Decided(later)) | lasting(sides, keys))
        return union
    if gone[0] != gone[1]:
        union.conflicts[WHOLE] = "deleted on one side, and changed on the other"
        return union
    if _is_made_anew(sides):
        union.conflicts[WHOLE] = "deleted and made anew on one side, and changed on the other"
        return union
    names = {key.removeprefix(prefix) for key in keys for prefix in (CHECKPOINT, ADOPTED) if key.startswith(prefix)}
    for name in sorted(names):
        _unite_checkpoint(sides, name, union)
    for key in keys:
        if not key.startswith((ORDER, CHECKPOINT, ADOPTED)):
            _unite_part(sides, key, union)
    unite_order(sides, keys, union)
    return union


def _unite_page(sides: Sides, keys: list[str]) -> Union:
    """A page is as one side has it whole: batches of both would be one of them twice, and a record of neither."""
    union = Union({}, {}, {})
    _unite_part(sides, PAGE, union)
    if PAGE in union.conflicts:
        return Union({}, {WHOLE: union.conflicts[PAGE]}, {})
    return Union(dict.fromkeys(keys, union.decided[PAGE]), {}, {})


def _is_made_anew(sides: Sides) -> bool:
    """Whether the workflow of one side is another than the common one: what the other changed belongs to that."""
    if sides.base is None or sides.base.size_of(records.WORKFLOW) is None:
        return False
    found = [records.find_workflow(migrations.current(view)) for view in (sides.base, sides.ours, sides.theirs)]
    return len({None if each is None else each.created_us for each in found}) > 1


def lasting(sides: Sides, keys: Iterable[str]) -> dict[str, Decided]:
    """What only grows, whatever else becomes of the document: numbers of sessions, and what was erased."""
    union = Union({}, {}, {})
    for key in keys:
        if key.startswith((SESSION, ERASED)):
            _unite_part(sides, key, union)
    return union.decided


def digests(sides: Sides, key: str) -> tuple[bytes | None, bytes | None, bytes | None]:
    def of(view: View) -> bytes | None:
        return None if view.size_of(key) is None else digest_in(view, key)

    return None if sides.base is None else of(sides.base), of(sides.ours), of(sides.theirs)


def _unite_part(sides: Sides, key: str, union: Union) -> None:
    then, here, there = digests(sides, key)
    kept = kept_by(sides, key)
    if kept is not None:
        union.decided[key] = Decided(kept)
    elif then is not None and here != there and _may_be_lost(sides, key):
        union.conflicts[key] = "not there on one side, where a repair may have been unable to keep it"
    elif here == there or sides.is_newer(sides.ours, sides.theirs, key):
        union.decided[key] = Decided(sides.ours)
    elif sides.is_newer(sides.theirs, sides.ours, key):
        union.decided[key] = Decided(sides.theirs)
    elif sides.base is not None and there == then:
        union.decided[key] = Decided(sides.ours)
    elif sides.base is not None and here == then:
        union.decided[key] = Decided(sides.theirs)
    else:
        found = _together(sides, key)
        if found is None:
            union.conflicts[key] = (
                "changed on both sides" if sides.base is not None else "differs, and no side keeps the common version"
            )
        else:
            union.decided[key] = found
    if key.startswith(ERASED):
        union.decided[key] = _erased(sides, key)
        union.conflicts.pop(key, None)
    elif here != there and (is_known := _knows_what_was_erased(sides, key)) is not None:
        union.conflicts[key] = "erased on one side, and put on the other"
        if is_known:
            union.decided[key] = Decided()
            del union.conflicts[key]


def _may_be_lost(sides: Sides, key: str) -> bool:
    """Whether a part is missing on a side of which nobody can tell whether somebody has removed it there."""
    lines = (sides.ours, sides.our_line), (sides.theirs, sides.their_line)
    return any(view.size_of(key) is None and line.may_lack and key not in line.touched for view, line in lines)


def kept_by(sides: Sides, key: str) -> View | None:
    """The side that has the value of an output which is the same on both, where the other has lost it: a repair could
    not keep it. Whoever removes a value removes its output.
    """
    step = key.removeprefix(VALUE).partition(records.SEPARATOR)[0]
    for view, other in ((sides.ours, sides.theirs), (sides.theirs, sides.ours)):
        if key.startswith(VALUE) and view.size_of(key) is not None and other.size_of(key) is None:
            for each in other.keys(f"{OUTPUT}{step}{records.SEPARATOR}"):
                found = records.OUTPUT_RECORDS.get(other, each)
                is_its = found is not None and records.value_key(step, found.version, found.name) == key
                if is_its and view.get(each) == other.get(each) and not is_erased_since(sides, view, key):
                    return view
    return None


def _together(sides: Sides, key: str) -> Decided | None:
    """What both changes of a part come to where there is one sensible answer."""
    if key.startswith(SESSION):
        number = max(session_records.number_in(view, key.removeprefix(SESSION)) for view in (sides.ours, sides.theirs))
        return Decided(data=records.encode(number) if number else _NIL)
    if key.startswith(SECRET):
        same = all(view.size_of(key) is not None for view in (sides.ours, sides.theirs)) and secrecy.is_same(
            key, sides.ours, sides.theirs, sides.find_keys
        )
        return Decided(sides.ours) if same else None
    if sides.ours.document.kind == "session" and key in (SESSION_RECORD, RECOVERY):
        return Decided(better_known(sides))
    kind = key.partition(records.SEPARATOR)[0] + records.SEPARATOR
    record = _RECORDS.get(key if key in _SINGLE_BY_FIELD else kind)
    data = [
        None if view is None or view.erased(key) is not None else view.get(key)
        for view in (sides.base, sides.ours, sides.theirs)
    ]
    if record is None or None in data:
        return None
    merged = merge_fields(*cast("list[bytes]", data))
    try:
        return None if merged is None else Decided(data=records.encode(record.decode(key, merged)))
    except DocumentDamaged:
        return None


def better_known(sides: Sides) -> View:
    """The side that knows better who is in a session: where it was entered more often, or else heard of last."""
    found = {view.commit_id: session_records.find(view) for view in (sides.ours, sides.theirs)}

    def rank(view: View) -> tuple[int, int, bytes]:
        record = found[view.commit_id]
        later = sides.later(SESSION_RECORD)
        return (0 if record is None else record.number, int(view is later), view.commit_id)

    return max((sides.ours, sides.theirs), key=rank)


def merge_fields(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """Three records field by field; None where one field was changed on both sides in different ways."""
    try:
        rows: list[Any] = [msgspec.msgpack.decode(data) for data in (base, ours, theirs)]
    except msgspec.MsgspecError:
        return None
    merged: Any
    if all(isinstance(row, list) for row in rows):
        length = max(map(len, rows))
        columns = [_padded(row, length) for row in rows]
        merged = [_field(*each) for each in zip(*columns, strict=True)]
        while merged and merged[-1] is _MISSING:
            merged.pop()
        fields = merged
    elif all(isinstance(row, dict) for row in rows):
        names = dict.fromkeys(name for row in (rows[1], rows[2], rows[0]) for name in row)
        found = {name: _field(*(row.get(name, _MISSING) for row in rows)) for name in names}
        merged = {name: value for name, value in found.items() if value is not _MISSING}
        fields = list(merged.values())
    else:
        return None
    if any(each is _CLASH or each is _MISSING for each in fields):
        return None
    return msgspec.msgpack.encode(merged)


_MISSING, _CLASH = object(), object()


def _padded(row: list[Any], length: int) -> list[Any]:
    return [*row, *[_MISSING] * (length - len(row))]


def _field(base: Any, ours: Any, theirs: Any) -> Any:
    if _same(ours, theirs) or _same(theirs, base):
        return ours
    return theirs if _same(ours, base) else _CLASH


def _same(one: Any, other: Any) -> bool:
    if one is _MISSING or other is _MISSING:
        return one is other
    return msgspec.msgpack.encode(one) == msgspec.msgpack.encode(other)


def _knows_what_was_erased(sides: Sides, key: str) -> bool | None:
    """Where a part is on one side, and the other says since that it was erased, whether that knew of its value."""
    for view, other in ((sides.ours, sides.theirs), (sides.theirs, sides.ours)):
        is_gone = view.size_of(key) is not None and other.size_of(key) is None
        if is_gone and _says_erased_since(sides, other, view, key):
            return sides.knows_value(view, key) is True
    return None


def is_erased_since(sides: Sides, view: View, key: str) -> bool:
    """Whether the value that a version has was erased behind it, or on a side that may have known it."""
    if view is sides.base:
        return view.erased(key) is not None
    other = sides.theirs if view is sides.ours else sides.ours
    return sides.knows_value(view, key) is not False and _says_erased_since(sides, other, view, key)


def _says_erased_since(sides: Sides, side: View, other: View, key: str) -> bool:
    """Whether a side says that a part was erased, and the other does not know that it does."""
    return any(
        side.size_of(each) is not None and side.get(each) != other.get(each) and sides.is_seen(side, each) is not True
        for each in erased.what_says_so(key)
    )


def _erased(sides: Sides, key: str) -> Decided:
    """That something was erased on one side counts for all that both sides have committed by now."""
    data = [found for view in (sides.ours, sides.theirs) if (found := view.get(key)) is not None]
    if not data:
        return Decided()
    said = [ERASURES.decode(key, each) for each in data]
    newest = max(said, key=lambda each: each.until_us)
    if len(said) == 2 and said[0] == said[1]:
        return Decided(sides.ours)  # both know of it
    return Decided(data=records.encode(replace(newest, until_us=max(sides.ours.time_us, sides.theirs.time_us))))


# --- the order of the steps ---


def unite_order(sides: Sides, keys: Iterable[str], union: Union) -> None:
    """The order is one thing, however many parts it has: of those steps that are there by what is decided so far."""
    keys = [key for key in keys if key.startswith(ORDER)]
    if not keys:
        return
    orders = [None if view is None else records.order(view) for view in (sides.base, sides.ours, sides.theirs)]
    base, ours, theirs = orders
    assert ours is not None
    assert theirs is not None
    if base is None:  # then what both have was there before
        base = [name for name in ours if name in theirs]
    # one that a side has removed, and that is there, is to that side as one that the other has added
    base = [name for name in base if (name in ours) == (name in theirs) or not _is_step(sides, union, name)]
    merged = merge_orders(base, ours, theirs)
    if merged is None:
        union.conflicts.update(dict.fromkeys(keys, "the steps were put in another order on both sides"))
        return
    pages = records.order_pages([name for name in merged if _is_step(sides, union, name)])
    for key in {*keys, *(records.order_key(number) for number in range(len(pages)))}:
        number = int(key.removeprefix(ORDER))
        union.decided[key] = Decided(data=pages[number]) if number < len(pages) else Decided()


def _is_step(sides: Sides, union: Union, name: str) -> bool:
    key = records.STEP + name
    if key in union.decided:
        return union.decided[key].length(key) is not None
    return any(view.size_of(key) is not None for view in (sides.ours, sides.theirs))


def merge_orders(base: list[str], ours: list[str], theirs: list[str]) -> list[str] | None:
    """Two orders as one; None where both sides have put the steps that were there in another order."""
    if ours == theirs or base == theirs:
        return ours
    if ours == base:
        return theirs
    there = {*ours, *theirs}
    stayed = [name for name in base if name in there and name in ours and name in theirs]
    here = [name for name in ours if name in stayed]
    elsewhere = [name for name in theirs if name in stayed]
    if stayed not in (here, elsewhere) and here != elsewhere:
        return None
    if here == stayed != elsewhere:  # they have put them in another order: what is new here goes into that
        ours, theirs = theirs, ours
    removed = {name for name in base if name not in ours or name not in theirs}
    merged = [name for name in ours if name not in removed]
    known = {*merged, *removed}
    before: str | None = None
    for name in theirs:
        if name not in known:
            merged.insert(merged.index(before) + 1 if before in merged else 0, name)
        before = name if name in merged else before
    return merged


# --- checkpoints ---


def _unite_checkpoint(sides: Sides, name: str, union: Union) -> None:
    """A checkpoint is there as long as neither side is known to have removed it, and one that a line has made is
    adopted: its commit is not there on the other side.
    """
    there = [view for view in (sides.ours, sides.theirs) if checkpoint_in(view, name) is not None]
    was_there = sides.base is not None and checkpoint_in(sides.base, name) is not None
    is_lost = all(_may_be_lost(sides, prefix + name) for prefix in (CHECKPOINT, ADOPTED))
    union.decided[CHECKPOINT + name] = Decided()
    if not there or (len(there) < 2 and not is_lost and (was_there or _is_removed(sides, there[0], name))):
        union.decided[ADOPTED + name] = Decided()
        return
    # the side that has adopted it says more of it
    side = next((view for view in there if view.size_of(ADOPTED + name) is not None), there[0])
    union.decided[ADOPTED + name] = Decided(data=adopted(side, name))
    union.adopted[name] = side


def _is_removed(sides: Sides, view: View, name: str) -> bool:
    """Whether the side that does not have a checkpoint knows that the other has it."""
    return any(
        sides.is_seen(view, prefix + name) is True for prefix in (CHECKPOINT, ADOPTED) if view.size_of(prefix + name)
    )


def checkpoint_in(view: View, name: str) -> str | None:
    """The key under which a version has a checkpoint."""
    return next((prefix + name for prefix in (CHECKPOINT, ADOPTED) if view.size_of(prefix + name) is not None), None)


def adopted(view: View, name: str) -> bytes:
    """What is kept of a checkpoint where no commit of the history puts it."""
    data = view.get(ADOPTED + name)
    if data is not None:
        return data
    record = records.CHECKPOINTS.get(view, CHECKPOINT + name)
    assert record is not None
    first = astuple(record)[: len(records.CheckpointRecord.__struct_fields__)]
    return records.encode(AdoptedRecord(*first, imported=False, parent_id=lineage.parent_in(view, name)))


# --- whether it is sound ---


def problem_of(sides: Sides, union: Union) -> str | None:
    """Why a workflow would not be sound, were it what is decided; None where it would."""
    if sides.ours.document.kind != "workflow":
        return None
    merged = StagedTransaction(sides.ours)
    for key, decided in union.decided.items():
        data = decided.get(key) if not key.startswith(VALUE) else _shown(decided, key)
        if data is None:
            merged.delete(key)
        else:
            merged.put(key, data)
    if merged.size_of(records.WORKFLOW) is None:
        return None if merged.size_of(records.TOMBSTONE) is not None else "it would have no record of its own"
    try:
        report = validation.inspect(migrations.current(merged), with_values=False)
    except WaypostError as error:
        return str(error)
    return None if report.is_valid else report.errors[0]


def _shown(decided: Decided, key: str) -> bytes | None:
    """That there is a value, which may be too large to be held."""
    return None if decided.length(key) is None else b""
