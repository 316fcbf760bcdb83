"""Exporting and importing checkpoints: what is carried arrives as it was, and what was tampered with does not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StoreFactory, make_config
from tests.test_checkpoints import LARGE, own_parts, view_of
from waypost import records
from waypost.api import AsyncWaypost
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import (
    CheckpointNotFound,
    DocumentDamaged,
    DocumentTooLarge,
    InvalidId,
    InvalidInput,
    UnsupportedFormat,
    WaypostError,
    WorkflowExists,
)
from waypost.models import StateCheckpoint, WorkflowStep
from waypost.store import Change, DocumentId, Transaction, View, export_version, open_store
from waypost.store.memory import MemoryStore

W = DocumentId("workflow", "w")
CONFIG = make_config({"checkpoints": {"initial": False, "post_step": False, "error": False, "pause": False}})
"""Checkpoints are made only where a test makes one."""
KEPT = "w@c1k1b07868gjt591"


@pytest.fixture
def make(store_factory: StoreFactory) -> Callable[[], Waypost]:
    """Makes handles over new empty stores of a kind."""
    return lambda: Waypost(Definitions(store_factory(CONFIG), CONFIG, verbose=False))


def opened(path: Path, *, read_only: bool = False) -> Waypost:
    return Waypost(Definitions(open_store(str(path), CONFIG, read_only=read_only), CONFIG, verbose=False))


def filled(wp: Waypost) -> Waypost:
    """A workflow with something of everything in it."""
    wp.create_workflow("w", "W", "s1", ["a", "b", WorkflowStep("c", dependencies=["a"])]).unwrap()
    wp.update_step_status("w", "a", "completed", {"rows": [1]}).unwrap()
    wp.add_step_output("w", "b", LARGE).unwrap()
    wp.update_agent_state("w", "g", {"status": "busy"}).unwrap()
    wp.update_context("w", variables={"x": 1}, configuration={"c": 2}, features={"f": True}).unwrap()
    return wp


@pytest.fixture
def source() -> tuple[Waypost, list[StateCheckpoint], list[bytes]]:
    """A store with three checkpoints of a workflow, what they are and what they are exported as."""
    wp = filled(Waypost(Definitions(MemoryStore(), CONFIG, verbose=False)))
    kept: list[StateCheckpoint] = []
    for number in range(3):
        wp.update_context("w", variables={"x": number}).unwrap()
        kept.append(wp.create_checkpoint("w", f"number {number}", [f"t{number}"]).unwrap())
    return wp, kept, [wp.export_checkpoint(each.id) for each in kept]


Source = tuple[Waypost, list[StateCheckpoint], list[bytes]]


def is_same(one: StateCheckpoint, other: StateCheckpoint) -> bool:
    first, second = one.state.metadata, other.state.metadata
    return (one, first.version, first.checksum, first.size_bytes, first.updated_at) == (
        other,
        second.version,
        second.checksum,
        second.size_bytes,
        second.updated_at,
    )


def store_parts(wp: Waypost, checkpoint_id: str) -> dict[str, Any]:
    version = wp.definitions.store.checkpoint(W, checkpoint_id)
    assert version is not None
    return {key: version.get(key) for key in version.keys()}


def test_a_workflow_is_made_of_an_export_where_there_is_none(make: Callable[[], Waypost], source: Source) -> None:
    """It is what it was, and the checkpoint is there under its id, as the version that it was."""
    there, kept, exports = source
    wp = make()
    result = wp.import_checkpoint(exports[1])
    found = result.unwrap()
    assert is_same(found, kept[1]) and found.parent_id == kept[0].id and not result.repeated
    assert [each.id for each in wp.list_checkpoints("w")] == [kept[1].id]
    assert own_parts(view_of(wp)) == own_parts(there.definitions.store.checkpoint(W, kept[1].id))  # type: ignore[arg-type]
    assert store_parts(wp, kept[1].id) == store_parts(there, kept[1].id)
    state = wp.load_workflow_state("w").unwrap()
    assert state.metadata.version == 1 and state.step("b").output == LARGE and state.context.variables["x"] == 1
    assert wp.validate_workflow_state("w").is_valid and wp.validate_checkpoint(kept[1].id).is_valid
    wp.update_context("w", variables={"x": 9}).unwrap()
    assert wp.restore_from_checkpoint(kept[1].id[:-1]).unwrap().context.variables["x"] == 1
    assert wp.create_checkpoint("w").unwrap().parent_id == kept[1].id


def test_a_checkpoint_is_added_to_the_workflow_that_there_is(make: Callable[[], Waypost], source: Source) -> None:
    """Its state stays as it is, and what it came by itself knows nothing of what was imported."""
    there, kept, exports = source
    wp = make()
    wp.create_workflow("w", "Another").unwrap()
    own = [wp.create_checkpoint("w", "own").unwrap()]
    before = own_parts(view_of(wp))
    for number in (2, 0, 1):
        assert is_same(wp.import_checkpoint(exports[number]).unwrap(), kept[number])
    own.append(wp.create_checkpoint("w", "own").unwrap())
    assert own_parts(view_of(wp)) == before
    assert [each.id for each in wp.list_checkpoints("w")] == sorted((each.id for each in [*kept, *own]), reverse=True)
    assert (own[1].parent_id, wp.get_checkpoint(own[0].id).parent_id) == (own[0].id, None)
    assert [each.parent_id for each in kept] == [wp.get_checkpoint(each.id).parent_id for each in kept]
    for number in (1, 2, 0):
        assert wp.restore_from_checkpoint(kept[number].id).unwrap().context.variables["x"] == number
        version = there.definitions.store.checkpoint(W, kept[number].id)
        assert version is not None and own_parts(view_of(wp)) == own_parts(version)
    assert wp.restore_from_checkpoint(own[0].id).unwrap().workflow.name == "Another"


def test_an_import_that_is_repeated_changes_nothing(make: Callable[[], Waypost], source: Source) -> None:
    """With the same operation id, with another, and where the checkpoint was made here."""
    there, kept, exports = source
    wp = make()
    first = wp.import_checkpoint(exports[0], operation_id="once").unwrap()
    assert wp.import_checkpoint(exports[0], operation_id="once").repeated
    version = view_of(wp).version
    assert wp.import_checkpoint(exports[0]).unwrap() == first and view_of(wp).version == version
    before = view_of(there).version
    assert is_same(there.import_checkpoint(exports[1]).unwrap(), kept[1]) and view_of(there).version == before
    assert wp.import_checkpoint(exports[0], "v", operation_id="other").unwrap().workflow_id == "v"
    assert wp.import_checkpoint(exports[0], "v", operation_id="other").repeated


def test_another_workflow_is_made_of_an_export(make: Callable[[], Waypost], source: Source) -> None:
    """As by a fork: under its new id it has what was kept, and a checkpoint of its own that says the same."""
    there, kept, exports = source
    wp = make()
    made = wp.import_checkpoint(exports[1], "v", session_id="s9").unwrap()
    assert made.id.startswith("v@c") and made.workflow_id == "v" and made.parent_id == kept[1].id
    assert (made.type, made.description, made.tags) == (kept[1].type, kept[1].description, kept[1].tags)
    version = there.definitions.store.checkpoint(W, kept[1].id)
    assert version is not None and own_parts(view_of(wp, "v")) == own_parts(version)
    assert view_of(wp).version == 0 and wp.list_checkpoints("w").total == 0
    assert [each.id for each in wp.list_checkpoints()] == [made.id]
    refused = wp.import_checkpoint(exports[1], "v")
    assert isinstance(refused.error, WorkflowExists) and refused.status == "rolled_back"
    wp.delete_workflow("v").unwrap()
    assert wp.import_checkpoint(exports[2], "v").unwrap().state.context.variables["x"] == 2
    for wrong in ("", "a\0b", "x" * 513, "\ud800"):
        assert isinstance(wp.import_checkpoint(exports[1], wrong).error, InvalidId)


def test_a_deleted_workflow_is_made_again(make: Callable[[], Waypost], source: Source) -> None:
    """As `create_workflow` does where one was deleted; the tombstone goes."""
    _, kept, exports = source
    wp = filled(make())
    wp.delete_workflow("w").unwrap()
    assert is_same(wp.import_checkpoint(exports[0]).unwrap(), kept[0])
    assert wp.load_workflow_state("w").unwrap().context.variables["x"] == 0
    assert wp.validate_workflow_state("w").is_valid


def test_what_was_removed_here_comes_back_by_its_export(make: Callable[[], Waypost]) -> None:
    """A workflow is deleted with its checkpoints, and is what it was again, checkpoint for checkpoint."""
    wp = filled(make())
    kept = [wp.create_checkpoint("w", str(number)).unwrap() for number in range(3)]
    was = [store_parts(wp, each.id) for each in kept]
    exports = [wp.export_checkpoint(each.id) for each in kept]
    wp.delete_workflow("w").unwrap()
    for data in exports:
        wp.import_checkpoint(data).unwrap()
    assert [store_parts(wp, each.id) for each in kept] == was
    assert [each.parent_id for each in wp.list_checkpoints("w")] == [kept[1].id, kept[0].id, None]


def test_a_transaction_imports(make: Callable[[], Waypost], source: Source) -> None:
    """What it imports is seen within it at once, and by others when all of it is committed."""
    _, kept, exports = source
    wp = make()

    def work(tx: Any) -> None:
        tx.create_workflow("other", "O")
        assert tx.import_checkpoint(exports[0]).id == kept[0].id
        assert tx.get_checkpoint(kept[0].id).state.context.variables["x"] == 0
        tx.update_context("w", variables={"x": 7})
        tx.restore_from_checkpoint(kept[0].id)
        assert tx.import_checkpoint(exports[0]).id == kept[0].id
        tx.import_checkpoint(exports[1], "v")

    wp.transact(work).unwrap()
    assert is_same(wp.get_checkpoint(kept[0].id), kept[0])
    assert wp.load_workflow_state("v").unwrap().context.variables["x"] == 1

    def failing(tx: Any) -> None:
        tx.import_checkpoint(exports[2])
        raise InvalidInput("no")

    assert not wp.transact(failing)
    assert wp.list_checkpoints("w").total == 1


async def test_both_faces_carry(awp: AsyncWaypost, source: Source) -> None:
    """Several at once, of which the same is imported twice."""
    _, kept, exports = source
    results = await asyncio.gather(*(awp.import_checkpoint(each) for each in [*exports, exports[0]]))
    assert [each.unwrap().id for each in results] == [kept[number].id for number in (0, 1, 2, 0)]
    assert await awp.export_checkpoint(kept[0].id)
    assert (await awp.list_checkpoints("w")).total == 3


def test_an_export_names_one_checkpoint(make: Callable[[], Waypost]) -> None:
    """By as much of its id as tells it from others; what is not there, or begins like several, is told."""
    wp = filled(make())
    kept = [wp.create_checkpoint("w").unwrap().id for _ in range(2)]
    assert wp.import_checkpoint(wp.export_checkpoint(kept[0][:-1])).unwrap().id == kept[0]
    with pytest.raises(InvalidInput, match=kept[1]):
        wp.export_checkpoint("w@c")
    for wrong in ("w@c0", "x@c0", "nonsense", "", "../w@c1"):
        with pytest.raises(CheckpointNotFound):
            wp.export_checkpoint(wrong)
    with pytest.raises(InvalidInput):
        wp.export_checkpoint(7)  # type: ignore[arg-type]


# --- what is no good ---


def is_refused(wp: Waypost, data: Any, kind: type[WaypostError], match: str = "") -> None:
    """It fails with an error of that kind, and nothing is there that was not before."""
    for new_workflow_id in (None, "fresh"):
        result = wp.import_checkpoint(data, new_workflow_id)
        assert isinstance(result.error, kind) and match in str(result.error), repr(result.error)
        assert result.status == "rolled_back"
    assert list(wp.definitions.store.documents("workflow")) == [] and wp.list_checkpoints().total == 0


def test_t08_what_was_tampered_with_is_refused(make: Callable[[], Waypost], source: Source) -> None:
    """Cut at any place, and with any bit changed: a documented error that says where, and nothing is written."""
    wp, whole = make(), source[2][0]
    rng = random.Random(5)
    for at in [*range(0, 600, 7), *rng.sample(range(len(whole)), 60), len(whole) - 1]:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << rng.randrange(8)
        error = wp.import_checkpoint(bytes(flipped)).error
        assert isinstance(error, (DocumentDamaged, InvalidInput, UnsupportedFormat)), at
    for length in [0, 3, 4, 139, 140, *rng.sample(range(len(whole)), 20)]:
        assert isinstance(wp.import_checkpoint(whole[:length]).error, (DocumentDamaged, InvalidInput))
    assert list(wp.definitions.store.documents("workflow")) == [] and wp.list_checkpoints().total == 0


def test_what_is_no_export_is_refused(make: Callable[[], Waypost], source: Source) -> None:
    """Other things than bytes, other bytes, a newer format, and more than a store may hold."""
    whole = source[2][0]
    for data in (None, "text", 7, [whole]):
        is_refused(make(), data, InvalidInput, "bytes")
    is_refused(make(), b"", InvalidInput, "no export")
    is_refused(make(), b'{"checkpoint": 1}', InvalidInput, "no export")
    is_refused(make(), whole[:3] + b"\2" + whole[4:], UnsupportedFormat, "newer format")
    small = Waypost(Definitions(MemoryStore(), make_config({"performance": {"max_file_size": 1}}), verbose=False))
    value = {"zeros": bytes(3_000_000)}
    is_refused(small, forged(lambda tx: tx.put("variable\x1fz", records.encode(value))), DocumentTooLarge)


def forged(
    change: Callable[[Transaction], Any] = lambda tx: None,
    *,
    workflow_id: str = "w",
    name: str | None = None,
    record: Any = ("manual", "", (), 1, None),
) -> bytes:
    """An export of somebody who knows the format: each sum is right, and what it holds is his choice."""
    wp = filled(Waypost(Definitions(MemoryStore(), CONFIG, verbose=False)))
    parts = own_parts(view_of(wp))
    name = f"{workflow_id}@c1k1b07868gjt591" if name is None else name
    store, document = MemoryStore(), DocumentId("workflow", workflow_id)

    def work(tx: Transaction) -> None:
        for key, value in parts.items():
            tx.put(key, value or b"")
        if record is not None:
            tx.put(f"checkpoint\x1f{name}"[:4000], records.encode(record))
        change(tx)

    store.submit(Change(document, work, "op", "test")).result()
    version: View = store.view(document)
    return export_version(version, name, CONFIG.compression)


def test_a_forged_export_that_is_sound_is_imported(make: Callable[[], Waypost]) -> None:
    """So that each of those below is refused for its own reason."""
    wp = make()
    assert wp.import_checkpoint(forged()).unwrap().id == KEPT
    assert wp.import_checkpoint(forged(), "fresh").unwrap().workflow_id == "fresh"


TRAVERSAL = ["", ".", "..", "../../x", "/etc/passwd", "a\0b", "a\nb", "a\x1fb", "x" * 513, "\u202ea"]


@pytest.mark.parametrize("workflow_id", TRAVERSAL, ids=lambda each: repr(each)[:12])
def test_trap_32_a_workflow_id_within_an_export_is_an_id(
    make: Callable[[], Waypost], tmp_path: Path, workflow_id: str
) -> None:
    """What callers may not give, an export may not either; what they may, stays in the store."""
    wp = make()
    result = wp.import_checkpoint(forged(workflow_id=workflow_id))
    if workflow_id in (".", "..", "../../x", "/etc/passwd"):
        assert result.unwrap().workflow_id == workflow_id
        wp.close()
        kinds = {each.name for each in tmp_path.iterdir()}
        assert kinds <= {"store0"}
    else:
        assert isinstance(result.error, InvalidId) and not list(wp.definitions.store.documents("workflow"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "w",
        "w@c",
        "v@c1k1b07868gjt591",
        "w@c../../x",
        "w@cABC",
        "w@c1\0",
        "w@c" + "1" * 300,
        "w@3",
        "w@c1/2",
        "W@c1",
    ],
    ids=lambda each: each[:12],
)
def test_trap_32_n01_a_checkpoint_id_within_an_export_is_of_its_workflow(
    make: Callable[[], Waypost], name: str
) -> None:
    """One that no checkpoint of that workflow is ever given is refused."""
    is_refused(make(), forged(name=name), InvalidInput)


FORGED: dict[str, tuple[Callable[[Transaction], Any], Any, str]] = {
    "no record of it": (lambda tx: None, None, "another version"),
    "a type that there is not": (lambda tx: None, ("odd", "", (), 1, None), "odd"),
    "a long description": (lambda tx: None, ("manual", "x" * 5000, (), 1, None), "4096"),
    "many tags": (lambda tx: None, ("manual", "", tuple(map(str, range(99))), 1, None), "64 tags"),
    "a tag that is none": (lambda tx: None, ("manual", "", ("a\0",), 1, None), "tag"),
    "a session that is none": (lambda tx: None, ("manual", "", (), 1, "\0"), "session id"),
    "a time out of range": (lambda tx: None, ("manual", "", (), 1 << 62, None), "out of range"),
    "no workflow": (lambda tx: tx.delete("workflow"), ("manual", "", (), 1, None), "no workflow"),
    "a tombstone": (lambda tx: tx.put("tombstone", b"\xc0"), ("manual", "", (), 1, None), "no kind"),
    "a part of no kind": (lambda tx: tx.put("evil", b"\xc0"), ("manual", "", (), 1, None), "no kind"),
    "a record that is none": (lambda tx: tx.put("step\x1fa", b"\xff"), ("manual", "", (), 1, None), "step"),
    "a step of no order": (lambda tx: tx.delete("order\x1f00000"), ("manual", "", (), 1, None), "order"),
    "an output that is lost": (lambda tx: tx.delete("output\x1fa\x1f00000001"), ("manual", "", (), 1, None), "output"),
    "a name that is none": (lambda tx: tx.put("variable\x1fa\nb", b"\xc0"), ("manual", "", (), 1, None), "variable"),
    "an agent that is none": (
        lambda tx: tx.put("agent\x1f\u202ea", tx.get("agent\x1fg") or b""),
        ("manual", "", (), 1, None),
        "",
    ),
}


@pytest.mark.parametrize("what", FORGED)
def test_x19_what_an_export_holds_is_a_sound_workflow(make: Callable[[], Waypost], what: str) -> None:
    """Right sums do not make it one: all of it is decoded and compared before anything is written."""
    change, record, match = FORGED[what]
    is_refused(make(), forged(change, record=record), WaypostError, match)


def test_what_tells_of_another_past_is_not_taken_over(make: Callable[[], Waypost]) -> None:
    """Checkpoints, returns and sessions that a version speaks of are those of where it was made."""

    def change(tx: Transaction) -> None:
        tx.put("checkpoint\x1f../../evil", records.encode(("manual", "", (), 1, None)))
        tx.put("adopted\x1f../../worse", records.encode(("manual", "", (), 1, None)))
        tx.put("restored\x1fw@c0", records.encode("../../worst"))
        tx.put("session\x1fs", b"\xc0")

    wp = make()
    wp.import_checkpoint(forged(change)).unwrap()
    assert [each.id for each in wp.list_checkpoints("w")] == [KEPT]
    assert {key.partition("\x1f")[0] for key in view_of(wp).keys()} & {"session", "checkpoint"} == set()


def test_another_checkpoint_of_the_same_id_is_refused(make: Callable[[], Waypost]) -> None:
    """Two that differ cannot both be the checkpoint of that id; the one that is there stays."""
    wp = make()
    wp.import_checkpoint(forged()).unwrap()
    before = view_of(wp).version
    other = wp.import_checkpoint(forged(lambda tx: tx.put("variable\x1fx", b"\xc0")))
    assert isinstance(other.error, InvalidInput) and "something else" in str(other.error)
    assert view_of(wp).version == before and wp.get_checkpoint(KEPT).state.context.variables["x"] == 1


# --- in a directory ---


def test_an_import_survives_the_loss_of_the_log(tmp_path: Path, source: Source) -> None:
    """What was imported is a file of its own once the store was closed, like every checkpoint."""
    _, kept, exports = source
    with opened(tmp_path / "s") as wp:
        wp.create_workflow("w", "Another").unwrap()
        for data in exports:
            wp.import_checkpoint(data).unwrap()
    (tmp_path / "s" / "workflows" / "w.state").unlink()
    with opened(tmp_path / "s") as wp:
        assert [each.id for each in wp.list_checkpoints("w")] == [each.id for each in reversed(kept)]
        assert is_same(wp.import_checkpoint(exports[1]).unwrap(), wp.get_checkpoint(kept[1].id))
        assert wp.load_workflow_state("w").unwrap().context.variables["x"] == 1
        assert [each.id for each in wp.list_checkpoints("w")] == [each.id for each in reversed(kept)]
        assert wp.definitions.store.verify().sound  # type: ignore[attr-defined]


def test_a_checkpoint_is_exported_whatever_became_of_its_workflow(tmp_path: Path) -> None:
    """Its log is damaged, or lost: what is kept in files can still be carried away."""
    path = tmp_path / "s"
    with opened(path) as wp:
        kept = filled(wp).create_checkpoint("w").unwrap()
        whole = wp.export_checkpoint(kept.id)
    log = path / "workflows" / "w.state"
    damaged = log.read_bytes()[:10] + b"damaged" + log.read_bytes()[17:]
    for number, damage in enumerate((lambda: log.write_bytes(damaged), log.unlink)):
        damage()
        with opened(path, read_only=True) as wp:
            carried = wp.export_checkpoint(kept.id)
        with opened(tmp_path / str(number)) as other:
            assert other.import_checkpoint(carried).unwrap().id == kept.id
            assert own_parts(view_of(other)) == own_parts(view_of(imported(whole)))


def imported(data: bytes) -> Waypost:
    wp = Waypost(Definitions(MemoryStore(), CONFIG, verbose=False))
    wp.import_checkpoint(data).unwrap()
    return wp


def test_d23_nothing_is_exported_that_a_crash_could_take_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has committed a checkpoint, and nobody knows yet whether that was synced: then it is synced."""
    from tests.store.support import system_calls
    from waypost.store.directory.upkeep import Upkeep

    monkeypatch.setattr(Upkeep, "ask", lambda self, document: None)  # which writes checkpoints out, and syncs as well
    with opened(tmp_path / "s") as wp, opened(tmp_path / "s") as other:
        filled(wp)
        kept = other.create_checkpoint("w").unwrap()
        with system_calls() as calls:
            wp.export_checkpoint(kept.id)
            assert calls.count("fdatasync") == 1


def test_listing_all_tells_of_workflows_that_are_lost(tmp_path: Path) -> None:
    """With and without a query; those that are there are told once."""
    path = tmp_path / "s"
    with opened(path) as wp:
        filled(wp)
        ids = [wp.create_checkpoint("w", "one", ["t"]).unwrap().id]
        for name in ("v", "u" * 200):
            ids.append(wp.import_checkpoint(wp.export_checkpoint(ids[0]), name).unwrap().id)
    for log in (path / "workflows").iterdir():
        if not log.name.startswith("v"):
            log.unlink()
    with opened(path, read_only=True) as wp:
        assert sorted(each.id for each in wp.list_checkpoints()) == sorted(ids)
        assert wp.list_checkpoints(limit=2).has_more
        assert all(each.state.workflow.name == "W" for each in wp.list_checkpoints())


def test_checkpoints_of_a_damaged_workflow_are_told(tmp_path: Path) -> None:
    """Its log cannot be read: its checkpoints are listed, by themselves and with all others, and one is recommended."""
    path = tmp_path / "s"
    with opened(path) as wp:
        filled(wp)
        ids = [wp.create_checkpoint("w", "one").unwrap().id]
        ids.append(wp.import_checkpoint(wp.export_checkpoint(ids[0]), "v").unwrap().id)
    log = path / "workflows" / "v.state"
    log.write_bytes(log.read_bytes()[:10] + b"damaged" + log.read_bytes()[17:])
    with opened(path, read_only=True) as wp:
        assert sorted(each.id for each in wp.list_checkpoints()) == sorted(ids)
        assert wp.get_checkpoint(ids[1]).description == "one" and wp.list_checkpoints("v").total == 1
        recommended = wp.get_recovery_suggestions("v").recommended_recovery_point
        assert recommended is not None and recommended.id == ids[1]
