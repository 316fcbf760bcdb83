"""Sessions that travel: exported from one store as one file, and taken in by another, all of it or nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import waypost
from tests.store.support import change
from waypost import DocumentDamaged, ImportConflict, InvalidInput, SessionNotFound, Waypost, records, session_records
from waypost.keys import Keys
from waypost.models import WorkflowContext
from waypost.store import Change, DocumentId, View

OPTIONS = {"compression": {"chunk_size": 4096}}
LARGE = bytes(range(256)) * 100
PLACES = ("memory", "directory")
Dumped = dict[str, Any]


def opened(place: str, path: Path, name: str) -> Waypost:
    return waypost.open("memory:" if place == "memory" else path / name, config=OPTIONS)


@pytest.fixture(params=PLACES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Waypost]:
    with opened(request.param, tmp_path, "source") as wp:
        yield wp


@pytest.fixture(params=PLACES)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Waypost]:
    with opened(request.param, tmp_path, "target") as wp:
        yield wp


def fill(wp: Waypost) -> None:
    """A session with a workflow of all kinds of parts, one that was deleted, and one that another session has."""
    wp.start_session("me", {"place": "here"}, {"colour": "blue"}, session_id="s")
    context = WorkflowContext(session_id="s", variables={"n": 0})
    wp.create_workflow("wf", "A workflow", steps=["a", "b"], context=context).unwrap()
    wp.update_step_status("wf", "a", "running").unwrap()
    wp.update_step_status("wf", "a", "completed", {"rows": 1}).unwrap()
    wp.add_step_output("wf", "a", LARGE).unwrap()
    wp.add_step_output("wf", "b", BytesIO(LARGE[::-1])).unwrap()
    wp.create_checkpoint("wf", "by hand", ["kept"]).unwrap()
    wp.create_workflow("Gone Ünder", "Deleted").unwrap()
    wp.delete_workflow("Gone Ünder").unwrap()
    wp.transact(lambda tx: [tx.update_context(name, variables={"joint": 1}) for name in ("wf",)]).unwrap()
    wp.create_workflow("other", "Of nobody", session_id="label").unwrap()


def parts_of(view: View) -> dict[str, bytes | None]:
    return {key: view.get(key) for key in view.keys()}


def dump(wp: Waypost, kind: Any, identifier: str) -> Dumped:
    """All that a store tells of a document."""
    store, document = wp.definitions.store, DocumentId(kind, identifier)
    past, view = store.past(document), store.view(document)
    return {
        "version": (view.version, view.commit_id, view.checksum, view.size_bytes, view.time_us),
        "parts": parts_of(view),
        "ids": [past.dropped_id(version + 1) for version in range(past.first)],
        "commits": [
            (
                each.version, each.commit_id, each.time_us, each.operation_id, each.operation, each.session, each.agent,
                each.cleared, {key: each.read(key) for key in each.puts}, list(each.removed), each.projection,
                each.size_bytes, each.checksum, None if each.joint is None else each.joint.transaction_id,
            )
            for each in past.commits()
        ],
        "checkpoints": {
            name: None if (one := store.checkpoint(document, name)) is None else parts_of(one)
            for name in store.checkpoints(document)
        },
    }  # fmt: skip


def operations_of(wp: Waypost) -> list[str]:
    return [each.operation_id for each in wp.definitions.store.past(DocumentId("workflow", "wf")).commits()]


def sound(wp: Waypost) -> None:
    """Whether what a store holds is as it should be, where it can tell; what it tidies up by and by is waited for."""
    store: Any = wp.definitions.store
    if hasattr(store, "verify"):
        deadline = time.monotonic() + 30
        while True:
            report = store.verify()
            assert report.sound and not getattr(report, "torn", []), report.findings
            left = [each for each in report.findings if each.severity == "leftover"]
            if not left:
                return
            assert time.monotonic() < deadline, left
            time.sleep(0.02)


# --- what arrives ---


def test_trap_22_what_arrives_is_what_left(source: Waypost, target: Waypost) -> None:
    """Workflows keep every version with its id, time, operation and parts, and every checkpoint."""
    fill(source)
    report = target.import_session(source.export_session("s")).unwrap()
    assert (report.session_id, report.made) == ("s", ["Gone Ünder", "wf"])
    for name in report.made:
        assert dump(target, "workflow", name) == dump(source, "workflow", name)
    assert target.get_step_output("wf", "b").output == LARGE[::-1]
    for one in target.list_checkpoints("wf").items:
        assert target.get_checkpoint(one.id).state.context.variables == {"n": 0}
        assert target.restore_from_checkpoint(one.id)
    sound(target)


def test_only_workflows_of_the_session_travel(source: Waypost, target: Waypost) -> None:
    fill(source)
    assert "other" not in target.import_session(source.export_session("s")).unwrap().workflows


def test_operations_are_remembered_where_they_arrive(source: Waypost, target: Waypost) -> None:
    """An operation that was done before it travelled is not done again."""
    fill(source)
    source.update_context("wf", variables={"n": 7}, operation_id="once").unwrap()
    target.import_session(source.export_session("s")).unwrap()
    assert target.update_context("wf", variables={"n": 8}, operation_id="once").repeated  # type: ignore[union-attr]
    assert target.load_workflow_state("wf").unwrap().context.variables["n"] == 7


def test_trap_23_an_imported_session_is_paused_and_goes_on_under_its_new_id(source: Waypost, target: Waypost) -> None:
    fill(source)
    report = target.import_session(source.export_session("s"), "t").unwrap()
    session = target.get_session("t")
    assert (session.status, session.owner, session.active_workflows) == ("paused", None, ["wf"])
    assert (dict(session.environment), dict(session.preferences)) == ({"place": "here"}, {"colour": "blue"})
    assert target.resume_session("t").status == "active"
    target.update_context("wf", variables={"n": 1}).unwrap()
    state = target.load_workflow_state("wf").unwrap()
    assert (state.context.session_id, report.session_id) == ("t", "t")
    with pytest.raises(SessionNotFound):
        target.get_session("s")
    here, there = operations_of(target), operations_of(source)
    assert here[-len(there) :] == there and len(here) == len(there) + 3  # the link, the new tenure, the update
    sound(target)


def test_a_session_that_has_ended_arrives_as_it_ended(source: Waypost, target: Waypost) -> None:
    fill(source)
    source.end_session("s").unwrap()
    target.import_session(source.export_session("s")).unwrap()
    assert target.get_session("s").status == "completed"
    assert dump(target, "session", "s") == dump(source, "session", "s")


def test_what_is_left_of_history_arrives_with_old_checkpoints(tmp_path: Path, target: Waypost) -> None:
    """Ids of dropped versions stay, and checkpoints that history does not reach back to any more."""
    config = {**OPTIONS, "history": {"max_age_days": 1}}
    with waypost.open(tmp_path / "source", config=config) as wp:
        fill(wp)
        with pytest.MonkeyPatch.context() as patch:
            from waypost import clock

            later = clock.now_us() + 3 * 24 * 3600 * 1_000_000
            patch.setattr(clock, "now_us", lambda: later)
            wp.update_context("wf", variables={"n": 2}).unwrap()
            wp.cleanup().unwrap()
            store: Any = wp.definitions.store
            assert store._compact(store._document(DocumentId("workflow", "wf")))
        before = dump(wp, "workflow", "wf")
        assert before["ids"] and len(before["checkpoints"]) > 1
        data = wp.export_session("s")
    target.import_session(data).unwrap()
    assert dump(target, "workflow", "wf") == before
    assert target.import_session(data).unwrap().unchanged == ["Gone Ünder", "wf"]
    data_again = target.export_session("s")
    with waypost.open("memory:", config=OPTIONS) as third:
        third.import_session(data_again).unwrap()
        assert dump(third, "workflow", "wf") == before
    sound(target)


def test_without_history_the_newest_version_and_all_checkpoints_travel(source: Waypost, target: Waypost) -> None:
    fill(source)
    target.import_session(source.export_session("s", include_history=False)).unwrap()
    there, here = dump(source, "workflow", "wf"), dump(target, "workflow", "wf")
    assert here["commits"] == [] and here["ids"] == [each[1] for each in there["commits"]][::-1]
    for told in ("version", "parts", "checkpoints"):
        assert here[told] == there[told]
    assert target.import_session(source.export_session("s")).unwrap().unchanged == ["Gone Ünder", "wf"]
    sound(target)


# --- twice, and on clashes ---


def test_trap_23_to_import_twice_is_to_import_once(source: Waypost, target: Waypost) -> None:
    fill(source)
    data = source.export_session("s")
    for new_id in (None, "t"):
        target.import_session(data, new_id).unwrap()
        once = [dump(target, *each) for each in (("workflow", "wf"), ("session", new_id or "s"))]
        report = target.import_session(data, new_id).unwrap()
        assert (report.made, report.merged, report.unchanged) == ([], [], ["Gone Ünder", "wf"])
        assert [dump(target, *each) for each in (("workflow", "wf"), ("session", new_id or "s"))] == once


def test_an_import_with_an_operation_id_is_repeated_with_its_first_result(source: Waypost, target: Waypost) -> None:
    fill(source)
    data = source.export_session("s")
    first = target.import_session(data, "t", operation_id="op").unwrap()
    again = target.import_session(data, "t", operation_id="op")
    assert (again.repeated, again.unwrap()) == (True, first)  # type: ignore[union-attr]
    assert target.get_outcome("op").data == first


def test_a_clash_is_refused_and_nothing_is_changed(source: Waypost, target: Waypost) -> None:
    fill(source)
    target.create_workflow("wf", "Mine").unwrap()
    before = dump(target, "workflow", "wf")
    result = target.import_session(source.export_session("s"))
    assert isinstance(result.error, ImportConflict) and result.error.details["workflows"] == ["wf"]
    assert dump(target, "workflow", "wf") == before
    assert list(target.definitions.store.documents("session")) == []
    assert list(target.definitions.store.documents("workflow")) == ["wf"]
    sound(target)


def test_a_clash_is_renamed_with_its_checkpoints(source: Waypost, target: Waypost) -> None:
    """The workflow that was there stays, and what came in has checkpoints of its own under the new id."""
    fill(source)
    data = source.export_session("s")
    target.create_workflow("wf", "Mine", steps=["x"]).unwrap()
    mine = dump(target, "workflow", "wf")
    report = target.import_session(data, on_clash="rename").unwrap()
    assert report.renamed == {"wf": "wf-2"}
    assert dump(target, "workflow", "wf") == mine
    assert target.get_session("s").active_workflows == ["wf-2"]
    theirs, here = source.list_checkpoints("wf").items, target.list_checkpoints("wf-2").items
    assert [(one.description, one.created_at) for one in here] == [(one.description, one.created_at) for one in theirs]
    for one in here:
        assert one.id.startswith("wf-2@c") and target.restore_from_checkpoint(one.id)
    again = target.import_session(data, on_clash="rename").unwrap()
    assert (again.renamed, again.made, again.unchanged) == ({"wf": "wf-2"}, [], ["Gone Ünder", "wf-2"])
    sound(target)


def test_checkpoints_under_another_id_come_behind_which_they_did(source: Waypost, target: Waypost) -> None:
    """Each has the same one as its parent as before, be it the one before it or the one that was gone back to."""
    fill(source)
    made = [source.create_checkpoint("wf").unwrap() for _ in range(3)]
    source.restore_from_checkpoint(made[0].id).unwrap()
    source.create_checkpoint("wf").unwrap()
    target.create_workflow("wf", "Mine").unwrap()
    target.import_session(source.export_session("s"), on_clash="rename").unwrap()
    theirs, here = source.list_checkpoints("wf").items, target.list_checkpoints("wf-2").items
    names = {one.id: other.id for one, other in zip(theirs, here, strict=True)}
    assert [one.parent_id for one in here] == [names.get(one.parent_id or "") for one in theirs]
    assert [one.parent_id for one in theirs].count(None) == 1


def test_what_came_under_another_id_leaves_checkpoints_of_the_first_alone(tmp_path: Path) -> None:
    """Its past speaks of checkpoints that are another workflow's; what tidies up after it must not take those."""
    config = {**OPTIONS, "history": {"max_age_days": 1}}
    with waypost.open(tmp_path / "store", config=config) as wp:
        fill(wp)
        data = wp.export_session("s")
        wp.update_context("wf", variables={"n": 3}).unwrap()
        before = dump(wp, "workflow", "wf")
    with waypost.open(tmp_path / "store", config=config) as wp, pytest.MonkeyPatch.context() as patch:
        from waypost import clock

        with waypost.open("memory:", config=OPTIONS) as other:
            other.import_session(data).unwrap()
            other.update_context("wf", variables={"n": 4}).unwrap()
            assert wp.import_session(other.export_session("s"), "t", on_clash="rename").unwrap().renamed
        later = clock.now_us() + 3 * 24 * 3600 * 1_000_000
        patch.setattr(clock, "now_us", lambda: later)
        wp.update_context("wf-2", variables={"n": 5}).unwrap()
        store: Any = wp.definitions.store
        assert store._compact(store._document(DocumentId("workflow", "wf-2")))
        wp.cleanup().unwrap()
        assert dump(wp, "workflow", "wf")["checkpoints"] == before["checkpoints"]
        sound(wp)


def test_a_history_that_went_on_elsewhere_is_caught_up_with(source: Waypost, target: Waypost) -> None:
    """What is here is the beginning of what comes in: one commit brings it up to date, twice in turn."""
    fill(source)
    target.import_session(source.export_session("s")).unwrap()
    for number in (1, 2):
        source.update_context("wf", variables={"n": number, f"new {number}": LARGE}).unwrap()
        source.create_checkpoint("wf", f"later {number}").unwrap()
        data = source.export_session("s")
        version = dump(target, "workflow", "wf")["version"][0]
        assert target.import_session(data).error  # without being told to merge it is a clash
        assert target.import_session(data, on_clash="merge").unwrap().merged == ["wf"]
        after = dump(target, "workflow", "wf")
        assert after["version"][0] == version + 1
        assert target.load_workflow_state("wf").unwrap().context.variables["n"] == number
        newest = target.list_checkpoints("wf").items[0]
        assert newest.description == f"later {number}" and target.restore_from_checkpoint(newest.id, operation_id="x")
        assert target.import_session(data, on_clash="merge").unwrap().unchanged == ["Gone Ünder", "wf"]
        break
    sound(target)


def test_e10_a_value_that_a_repair_could_not_keep_is_not_taken_away_by_a_merge(target: Waypost, tmp_path: Path) -> None:
    """The export of a store that was repaired lacks it, and has its output: nobody has removed it."""
    large = random.Random(1).randbytes(30_000)
    with opened("directory", tmp_path, "source") as source:
        source.start_session(session_id="s")
        source.create_workflow("wf", "A workflow", steps=["a", "b"], session_id="s").unwrap()
        source.add_step_output("wf", "a", large).unwrap()
        source.add_step_output("wf", "b", BytesIO(large[::-1])).unwrap()
        source.update_step_status("wf", "a", "running", session_id="s").unwrap()
        target.import_session(source.export_session("s")).unwrap()
    log = tmp_path / "source" / "workflows" / "wf.state"
    data = bytearray(log.read_bytes())
    for part in (large, large[::-1]):
        data[data.index(part[10_000:10_100])] ^= 1
    log.write_bytes(data)
    assert len(waypost.repair(tmp_path / "source").repaired[0].lost_parts) == 2
    with opened("directory", tmp_path, "source") as source:
        source.update_context("wf", variables={"more": 1}).unwrap()
        report = target.import_session(source.export_session("s"), on_clash="merge").unwrap()
    assert report.merged == ["wf"]
    assert target.load_workflow_state("wf").unwrap().context.variables["more"] == 1
    assert target.get_step_output("wf", "a").output == large
    assert target.get_step_output("wf", "b").output == large[::-1]


def test_e10_what_a_repair_may_have_lost_is_a_conflict_of_a_merge(target: Waypost, tmp_path: Path) -> None:
    """Whether it was removed or lost nobody can tell, so no import removes it; what is removed later is gone."""
    large = random.Random(1).randbytes(300_000)
    with opened("directory", tmp_path, "source") as source:
        source.start_session(session_id="s")
        source.create_workflow("wf", "A workflow", session_id="s").unwrap()
        source.update_context("wf", variables={"large": large, "larger": large[::-1], "x": 1}).unwrap()
        target.import_session(source.export_session("s")).unwrap()
    log = tmp_path / "source" / "workflows" / "wf.state"
    data = bytearray(log.read_bytes())
    data[data.index(large[100_000:100_100])] ^= 1
    log.write_bytes(data)
    assert waypost.repair(tmp_path / "source").repaired[0].lost_parts == ("variable\x1flarge",)
    with opened("directory", tmp_path, "source") as source:
        store = source.definitions.store
        store.submit(change(DocumentId("workflow", "wf"), lambda tx: tx.delete("variable\x1flarger"))).result()
        failed = target.import_session(source.export_session("s"), on_clash="merge").error
        assert isinstance(failed, ImportConflict)
        assert failed.details["parts"] == ["'variable large'"]
        assert set(target.load_workflow_state("wf").unwrap().context.variables) == {"large", "larger", "x"}
        source.update_context("wf", variables={"large": large}).unwrap()
        target.import_session(source.export_session("s"), on_clash="merge").unwrap()
    assert target.load_workflow_state("wf").unwrap().context.variables == {"large": large, "x": 1}


def test_e10_a_checkpoint_that_a_sync_has_had_adopted_is_not_taken_away_by_a_merge(
    source: Waypost, target: Waypost
) -> None:
    """Where it stands with another mark than here, it was not removed."""
    source.start_session(session_id="s")
    source.create_workflow("wf", "A workflow", session_id="s").unwrap()
    with waypost.open("memory:") as third:
        source.sync(third).unwrap()
        kept = source.create_checkpoint("wf", "kept").unwrap().id
        source.sync(target).unwrap()
        third.update_context("wf", variables={"x": 1}).unwrap()
        assert source.sync(third).unwrap().documents[0].action == "merged"
    report = target.import_session(source.export_session("s"), on_clash="merge").unwrap()
    assert report.merged == ["wf"]
    assert kept in [each.id for each in target.list_checkpoints("wf")]
    target.sync(source).unwrap()
    for each in (source, target):
        each.restore_from_checkpoint(kept).unwrap()
        sound(each)


def test_what_was_erased_does_not_come_back_with_a_store_that_has_it_by_an_import(
    source: Waypost, target: Waypost
) -> None:
    """There it stands in a commit that is not known here; another value that was put there is a conflict."""
    source.start_session(session_id="s")
    source.create_workflow("wf", "A workflow", session_id="s").unwrap()
    target.import_session(source.export_session("s")).unwrap()
    source.update_context("wf", variables={"leak": "a canary", "other": 1}).unwrap()
    target.import_session(source.export_session("s"), on_clash="merge").unwrap()
    source.erase("wf", "context.variables.leak").unwrap()
    source.erase("wf", "context.variables.other").unwrap()
    target.update_context("wf", variables={"more": 1}).unwrap()
    source.import_session(target.export_session("s"), on_clash="merge").unwrap()
    assert source.load_workflow_state("wf").unwrap().context.variables == {"more": 1}
    target.update_context("wf", variables={"leak": "another", "other": 2}).unwrap()
    failed = source.import_session(target.export_session("s"), on_clash="merge").error
    assert isinstance(failed, ImportConflict)
    assert failed.details["parts"] == ["'variable leak'", "'variable other'"]


def test_what_went_different_ways_is_merged_part_by_part(source: Waypost, target: Waypost) -> None:
    fill(source)
    target.import_session(source.export_session("s")).unwrap()
    for turn in range(3):
        source.update_context("wf", variables={"theirs": turn}).unwrap()
        target.update_context("wf", variables={"ours": turn}).unwrap()
        assert target.import_session(source.export_session("s"), on_clash="merge").unwrap().merged == ["wf"]
        variables = target.load_workflow_state("wf").unwrap().context.variables
        assert (variables["theirs"], variables["ours"]) == (turn, turn)
    sound(target)


def test_the_same_part_changed_on_both_sides_refuses_all_of_it(source: Waypost, target: Waypost) -> None:
    fill(source)
    target.import_session(source.export_session("s")).unwrap()
    source.update_context("wf", variables={"both": "theirs", "fine": 1}).unwrap()
    source.create_workflow("new", "New").unwrap()
    target.update_context("wf", variables={"both": "ours"}).unwrap()
    before = dump(target, "workflow", "wf"), dump(target, "session", "s")
    error = target.import_session(source.export_session("s"), on_clash="merge").error
    assert isinstance(error, ImportConflict) and error.details["workflows"] == ["wf"]
    assert "variable" in str(error) and "both" in str(error.details["parts"])
    assert (dump(target, "workflow", "wf"), dump(target, "session", "s")) == before
    assert "new" not in target.definitions.store.documents("workflow")
    sound(target)


# --- from where, and to where ---


def test_an_export_goes_to_a_path_or_a_file_and_comes_from_them(
    source: Waypost, target: Waypost, tmp_path: Path
) -> None:
    fill(source)
    folder, held = tmp_path / "out", BytesIO()
    folder.mkdir()
    path = folder / "file.waypost"
    told: list[tuple[int, int]] = []
    report = source.export_session("s", path, progress=lambda done, of: told.append((done, of)))
    assert not isinstance(report, bytes)
    assert (report.session_id, report.workflows) == ("s", ["Gone Ünder", "wf"])
    assert (report.size_bytes, path.stat().st_mode & 0o777) == (path.stat().st_size, 0o600)
    assert told[-1][0] <= told[-1][1] and list(folder.iterdir()) == [path]
    with pytest.raises(InvalidInput):
        source.export_session("s", path)
    source.export_session("s", held)
    source.export_session("s", path, overwrite=True)
    told.clear()
    assert target.import_session(path, progress=lambda done, of: told.append((done, of)))
    assert told == sorted(told) or told[-1][0] <= told[-1][1]
    held.seek(0)
    assert target.import_session(held).unwrap().unchanged == ["Gone Ünder", "wf"]


def test_a_session_that_is_not_there_cannot_be_exported(source: Waypost) -> None:
    with pytest.raises(SessionNotFound):
        source.export_session("s")


@pytest.mark.parametrize("given", [3, None, BytesIO(b""), b"", b"no export", Path("/"), Path("/nowhere")])
def test_what_is_no_export_is_refused(target: Waypost, given: Any) -> None:
    assert isinstance(target.import_session(given).error, InvalidInput)


async def test_a_session_travels_over_the_asynchronous_face(source: Waypost, tmp_path: Path) -> None:
    fill(source)
    path = tmp_path / "file"
    source.export_session("s", path)
    async with waypost.open_async("memory:") as target:
        assert (await target.import_session(path, "t")).unwrap().made == ["Gone Ünder", "wf"]
        data = await target.export_session("t")
        assert isinstance(data, bytes)
    with waypost.open("memory:") as third:
        assert third.import_session(data).unwrap().session_id == "t"


def test_checkpoints_that_came_in_have_their_files_once_the_store_is_closed(source: Waypost, tmp_path: Path) -> None:
    """Nothing of an import is left in `temp`, also of what came under another id."""
    fill(source)
    data = source.export_session("s")
    with waypost.open(tmp_path / "target", config=OPTIONS) as wp:
        wp.create_workflow("wf", "Mine").unwrap()
        assert wp.import_session(data, on_clash="rename").unwrap().renamed
        names = [one.id for one in wp.list_checkpoints("wf-2").items]
    assert list((tmp_path / "target" / "temp").iterdir()) == []
    assert len([*(tmp_path / "target" / "checkpoints").glob("wf-2_40*.checkpoint")]) == len(names) > 1


def test_an_import_shuts_out_nobody_who_is_here(source: Waypost, target: Waypost) -> None:
    """Sessions were entered more often elsewhere, and have higher numbers there: who is in them here writes on, both in
    a workflow that is merged and in one that is new.
    """
    for name in ("s", "t"):
        target.start_session(session_id=name)
    target.create_workflow("wf", "A workflow", session_id="s").unwrap()
    for name in ("s", "t"):
        source.import_session(target.export_session(name)).unwrap()
    for _ in range(3):
        source.resume_session("s")
        source.resume_session("t")
        source.update_context("wf", variables={"n": 1}, session_id="s").unwrap()
        source.pause_session("s").unwrap()
        source.pause_session("t").unwrap()
    source.resume_session("s")
    source.resume_session("t")
    source.create_workflow("new", "Of both", session_id="t").unwrap()
    source.update_context("new", variables={"n": 1}, session_id="s").unwrap()
    report = target.import_session(source.export_session("s"), on_clash="merge").unwrap()
    assert (report.made, report.merged) == (["new"], ["wf"])
    for name, workflow in (("s", "wf"), ("s", "new"), ("t", "new")):
        target.update_context(workflow, variables={"from": name}, session_id=name).unwrap()
    sound(target)


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": 0},
        {"number": (1 << 64) - 1},
        {"started_us": 1 << 62},
        {"status": "completed", "ended_us": -(1 << 62)},
    ],
    ids=str,
)
def test_a_session_that_could_not_be_used_is_not_taken_in(target: Waypost, wrong: Any) -> None:
    """Its number leaves room for who enters it, and its times are some: else no list of sessions could be read."""
    with waypost.open("memory:") as forged:
        forged.start_session(session_id="s")
        store, document = forged.definitions.store, session_records.document_of("s")
        record = replace(session_records.expect(store.view(document)), **wrong)
        store.submit(Change(document, lambda tx: tx.put("session", records.encode(record)), "forged", "x")).result()
        data = forged.export_session("s")
        result = target.import_session(data)
        assert isinstance(result.error, InvalidInput | DocumentDamaged)
        assert not target.list_sessions().items


@pytest.mark.parametrize("has_key", [True, False])
def test_a_secret_that_both_sides_gave_the_same_value_is_no_conflict(
    source: Waypost, target: Waypost, monkeypatch: pytest.MonkeyPatch, has_key: bool
) -> None:
    """Each has sealed it on its own, so its bytes differ; without the key that cannot be told, and is refused."""
    monkeypatch.setenv("WAYPOST_KEY", "07" * 32)
    source.start_session(session_id="s")
    source.create_workflow("wf", "A workflow", session_id="s").unwrap()
    target.import_session(source.export_session("s")).unwrap()
    for each in (source, target):
        each.update_context("wf", secrets={"token": "the same"}).unwrap()
    source.update_context("wf", variables={"n": 1}).unwrap()
    data = source.export_session("s")
    if has_key:
        assert target.import_session(data, on_clash="merge").unwrap().merged == ["wf"]
        context = target.load_workflow_state("wf").unwrap().context
        assert (context.secrets["token"], dict(context.variables)) == ("the same", {"n": 1})
    else:
        monkeypatch.setattr(target.definitions.store, "keys", Keys)
        assert isinstance(target.import_session(data, on_clash="merge").error, ImportConflict)
