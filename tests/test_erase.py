"""Erasing: a value that should never have been stored is gone from all of a workflow's past, and its trail stays."""

from __future__ import annotations

import asyncio
import logging
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from tests.conftest import ON_REQUEST, StoreFactory, make_config
from tests.files import files_with
from tests.store.support import change
from waypost import carrying, checkpoints, erasures, records
from waypost.api import AsyncWaypost
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import ImportConflict, InvalidInput, PathNotFound, StoreReadOnly, ValueErased, WorkflowNotFound
from waypost.places import ErasedValue
from waypost.store import DocumentId, Transaction, open_store
from waypost.store.directory import compaction, joint, upkeep
from waypost.store.memory import MemoryStore

W = DocumentId("workflow", "w")
CANARY = "canary-5e1f-password"
LARGE = (CANARY + " ") * 4000
CONFIG = make_config({"checkpoints": ON_REQUEST, "compression": {"chunk_size": 4096, "enabled": False}})


@pytest.fixture
def wp(store_factory: StoreFactory) -> Waypost:
    return Waypost(Definitions(store_factory(CONFIG), CONFIG, verbose=False))


def reopened(path: Path, *, read_only: bool = False) -> Waypost:
    return Waypost(Definitions(open_store(str(path), CONFIG, read_only=read_only), CONFIG, verbose=False))


def filled(wp: Waypost) -> tuple[str, str]:
    """A workflow that holds the canary in an output, a variable and an agent; two checkpoints that hold it."""
    wp.create_workflow("w", "W", "s1", ["fetch", "parse"]).unwrap()
    wp.update_step_status("w", "fetch", "completed", {"login": CANARY}, agent_id="scout").unwrap()
    wp.update_context("w", variables={"password": CANARY, "n": 1}, session_id="s2").unwrap()
    first = wp.create_checkpoint("w").unwrap().id
    wp.add_step_output("w", "fetch", LARGE).unwrap()
    wp.update_agent_state("w", "scout", {"current_task": CANARY}).unwrap()
    second = wp.create_checkpoint("w").unwrap().id
    wp.add_step_output("w", "fetch", "harmless").unwrap()
    return first, second


def versions(wp: Waypost) -> dict[int, tuple[bytes, bytes, int]]:
    store = wp.definitions.store
    views = [store.view_at(W, each) for each in range(1, store.view(W).version + 1)]
    return {view.version: (view.commit_id, view.checksum, view.size_bytes) for view in views if view is not None}


def test_a_variable_is_gone_from_every_version(wp: Waypost) -> None:
    """It is neither in the newest version nor in an older one, nor in a checkpoint; what stood beside it is."""
    first, _ = filled(wp)
    done = wp.erase("w", "context.variables.password", session_id="s9").unwrap()
    state = wp.load_workflow_state("w").unwrap()
    assert dict(state.context.variables) == {"n": 1}
    old = wp.get_checkpoint(first).state.context.variables
    assert ("password" in old, dict(old), old.get("password")) == (False, {"n": 1}, None)
    with pytest.raises(ValueErased, match="'variable password' was erased"):
        old["password"]
    assert (done.workflow_id, done.path, done.session_id) == ("w", "context.variables.password", "s9")
    assert len(done.checkpoints) == 2 and first in done.checkpoints


def test_the_trail_stays(wp: Waypost) -> None:
    """History tells which commit put the value, when and in which session; blame says that it was erased, by whom."""
    filled(wp)
    before = wp.history("w")
    done = wp.erase("w", "context.variables.password", session_id="s9", operation_id="gone").unwrap()
    entries = wp.history("w")
    assert entries[1:] == before
    assert (entries[0].operation, entries[0].session_id) == ("erase", "s9")
    (put,) = done.commits
    assert (put.operation, put.session_id, put in before) == ("update_context", "s2", True)
    blame = wp.blame("w", "context.variables.password")
    assert (blame.value, blame.commit.operation_id) == (ErasedValue(), "gone")
    assert isinstance(blame.before, ErasedValue) and blame.before.size_bytes == len(CANARY) + 1
    assert done.erased_at <= wp.load_workflow_state("w").unwrap().metadata.updated_at


def test_a_handle_in_a_session_says_who_erased_it(wp: Waypost) -> None:
    """The session of the handle is that of the erasure, and of its commit."""
    filled(wp)
    done = wp.in_session("s7").erase("w", "agents.scout").unwrap()
    assert (done.session_id, wp.history("w")[0].session_id) == ("s7", "s7")


def test_ids_versions_and_checksums_stay_what_they_were(wp: Waypost) -> None:
    """Each version keeps its commit id, checksum and size, and the checksum can be computed from what is left."""
    first, second = filled(wp)
    before = versions(wp)
    for path in ("context.variables.password", "outputs.fetch", "agents.scout"):
        wp.erase("w", path).unwrap()
    after = versions(wp)
    assert {number: after[number] for number in before} == before
    for each in (first, second):
        report = wp.validate_checkpoint(each)
        assert report.is_valid, report.errors
        assert any("was erased" in warning for warning in report.warnings)
    assert wp.validate_workflow_state("w").is_valid


def test_all_versions_of_an_output_go(wp: Waypost) -> None:
    """Small ones and large ones; asking for one says that it was erased, and the next output is another version."""
    first, _ = filled(wp)
    done = wp.erase("w", "outputs.fetch").unwrap()
    assert [each.version for each in done.commits] == [8, 5, 2]
    for version in (None, 1, 2, 3):
        with pytest.raises(ValueErased):
            wp.get_step_output("w", "fetch", version)
    state = wp.load_workflow_state("w").unwrap()
    assert ("fetch" in state.outputs, list(state.outputs), state.workflow.steps[0].status) == (
        False,
        [],
        "completed",
    )
    with pytest.raises(ValueErased):
        state.outputs["fetch"]
    assert list(wp.get_checkpoint(first).state.outputs) == []
    wp.add_step_output("w", "fetch", "new").unwrap()
    assert (wp.get_step_output("w", "fetch").version, wp.get_step_output("w", "fetch").output) == (4, "new")


def test_one_version_of_an_output_goes(wp: Waypost) -> None:
    """`fetch@2` is the second one, and the others stay; an output that was given as a file goes with its value."""
    _, second = filled(wp)
    wp.add_step_output("w", "fetch", BytesIO(LARGE.encode())).unwrap()
    wp.erase("w", "outputs.fetch@2").unwrap()
    wp.erase("w", "outputs.fetch@4").unwrap()
    assert [wp.get_step_output("w", "fetch", each).output for each in (1, 3)] == [{"login": CANARY}, "harmless"]
    for version in (2, 4):
        with pytest.raises(ValueErased):
            wp.get_step_output("w", "fetch", version)
    with pytest.raises(ValueErased):
        wp.get_checkpoint(second).state.outputs["fetch"]
    assert wp.validate_workflow_state("w").is_valid
    wp.add_step_output("w", "fetch", "five").unwrap()
    assert wp.get_step_output("w", "fetch").version == 5


def test_an_id_with_an_at_sign_counts_as_a_whole(wp: Waypost) -> None:
    """A step that is called `a@1` is meant by that, and not the first output of `a`."""
    wp.create_workflow("w", "W", steps=["a", "a@1"]).unwrap()
    wp.update_step_status("w", "a", "completed", 1).unwrap()
    wp.update_step_status("w", "a@1", "completed", 2).unwrap()
    wp.erase("w", 'outputs["a@1"]').unwrap()
    assert wp.get_step_output("w", "a").output == 1
    with pytest.raises(ValueErased):
        wp.get_step_output("w", "a@1")


def test_what_is_long_gone_can_be_erased(wp: Waypost) -> None:
    """Also a value that only history holds, and one of a workflow that was deleted; the trail outlives the deletion."""
    first, _ = filled(wp)
    state = wp.load_workflow_state("w").unwrap()
    del state.context.variables["password"]
    wp.save_workflow_state(state).unwrap()
    assert wp.erase("w", "context.variables.password").unwrap().commits
    with pytest.raises(ValueErased):
        wp.get_checkpoint(first).state.context.variables["password"]
    wp.delete_workflow("w").unwrap()
    assert wp.erase("w", "outputs.fetch").unwrap().commits
    assert set(wp.definitions.store.view(W).keys()) == {
        "tombstone",
        *(f"erased\x1f{each}" for each in ("variable\x1fpassword", "output\x1ffetch\x1f", "value\x1ffetch\x1f")),
    }


def test_a_value_that_comes_later_is_another_one(wp: Waypost) -> None:
    """What is set again under the same name is there, is kept by checkpoints, and no erasure of before takes it."""
    filled(wp)
    wp.erase("w", "context.variables.password").unwrap()
    wp.update_context("w", variables={"password": "new"}).unwrap()
    later = wp.create_checkpoint("w").unwrap().id
    wp.erase("w", "agents.scout").unwrap()
    assert wp.load_workflow_state("w").unwrap().context.variables["password"] == "new"
    assert wp.get_checkpoint(later).state.context.variables["password"] == "new"
    wp.erase("w", "context.variables.password").unwrap()
    with pytest.raises(ValueErased):
        wp.get_checkpoint(later).state.context.variables["password"]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("steps.fetch", InvalidInput),
        ("outputs", InvalidInput),
        ("context.variables", InvalidInput),
        ("context.user_id", InvalidInput),
        ("checkpoints.x", InvalidInput),
        ("nonsense", InvalidInput),
        ("outputs.nothing", PathNotFound),
        ("outputs.fetch@9", PathNotFound),
        ("context.variables.other", PathNotFound),
    ],
)
def test_what_cannot_be_erased_is_refused(wp: Waypost, path: str, error: type[Exception]) -> None:
    """Whatever is no value of its own, and what never was there; nothing is changed."""
    filled(wp)
    before = versions(wp)
    failed = wp.erase("w", path)
    assert isinstance(failed.error, error) and versions(wp) == before
    assert isinstance(wp.erase("nobody", "outputs.fetch").error, WorkflowNotFound)


def test_a_piece_of_a_value_is_refused_with_the_path_of_all_of_it(wp: Waypost) -> None:
    """The error names what can be erased in its place."""
    filled(wp)
    failed = wp.erase("w", "outputs.fetch.login")
    assert isinstance(failed.error, InvalidInput) and "all of outputs.fetch can" in str(failed.error)


def test_a_repeated_erasure_gives_the_first_result(wp: Waypost) -> None:
    """The same operation id erases once; what came since under that name stays."""
    filled(wp)
    first = wp.erase("w", "context.variables.password", operation_id="once").unwrap()
    wp.update_context("w", variables={"password": "new"}).unwrap()
    again = wp.erase("w", "context.variables.password", operation_id="once")
    assert again.repeated and (again.data.erased_at, again.data.commits) == (first.erased_at, first.commits)
    assert wp.get_outcome("once").data.path == "context.variables.password"
    assert wp.load_workflow_state("w").unwrap().context.variables["password"] == "new"


def test_the_results_of_what_put_it_are_forgotten(wp: Waypost) -> None:
    """A repeated operation whose result was the output says that it was erased; so does one of a transaction."""
    wp.create_workflow("w", "W", steps=["fetch"]).unwrap()
    wp.add_step_output("w", "fetch", CANARY, operation_id="put").unwrap()

    def work(tx: Any) -> Any:
        tx.update_context("w", variables={"password": CANARY})
        return {"said": CANARY}

    wp.transact(work, operation_id="told").unwrap()
    wp.erase("w", "outputs.fetch").unwrap()
    assert isinstance(wp.add_step_output("w", "fetch", CANARY, operation_id="put").error, ValueErased)
    with pytest.raises(ValueErased):
        wp.get_outcome("told")
    wp.erase("w", "context.variables.password").unwrap()
    if wp.definitions.store.location != "memory:":
        assert files_with(Path(wp.definitions.store.location), CANARY) == []


def test_diff_shows_what_was_erased(wp: Waypost) -> None:
    """In its place stands a marker; two values that were erased are not taken for the same one."""
    filled(wp)
    wp.erase("w", "outputs.fetch").unwrap()
    wp.erase("w", "context.variables.password").unwrap()
    (change,) = [each for each in wp.diff("w@2", "w@5") if each.path == "outputs.fetch"]
    assert isinstance(change.before, ErasedValue) and isinstance(change.after, ErasedValue)
    assert change.before != change.after
    added = {each.path: each.after for each in wp.diff("w@1", "w@3")}
    assert isinstance(added["context.variables.password"], ErasedValue)
    gone = {each.path: (each.before, each.after) for each in wp.diff("w@8", "w")}
    assert isinstance(gone["outputs.fetch"][0], ErasedValue)
    whole = wp.blame("w", "context.variables")
    assert whole.value == {"n": 1}


def test_a_restore_leaves_out_what_was_erased(wp: Waypost, caplog: pytest.LogCaptureFixture) -> None:
    """Going back to a version that held it brings back all else, warns, and leaves a workflow that is sound."""
    first, second = filled(wp)
    for path in ("context.variables.password", "outputs.fetch@2", "agents.scout"):
        wp.erase("w", path).unwrap()
    wp.update_context("w", variables={"password": "new"}).unwrap()
    with caplog.at_level(logging.WARNING, "waypost"):
        state = wp.restore_from_checkpoint(second).unwrap()
    assert "comes without" in caplog.text and CANARY not in caplog.text
    assert dict(state.context.variables) == {"n": 1} and dict(state.agents) == {}
    with pytest.raises(ValueErased):
        wp.get_step_output("w", "fetch")
    assert wp.validate_workflow_state("w").is_valid
    assert wp.restore_from_checkpoint(first).unwrap().outputs["fetch"].output == {"login": CANARY}
    assert wp.validate_workflow_state("w").is_valid


def test_what_is_decided_does_not_come_back_before_it_is_carried_out(
    wp: Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An erasure failed after its decision: neither a restore nor a fork brings the value back meanwhile."""
    first, _ = filled(wp)
    store = wp.definitions.store
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "erase", lambda *_: [])
        wp.erase("w", "context.variables.password").unwrap()
        wp.restore_from_checkpoint(first)
        wp.fork_workflow(first, "other").unwrap()
    store.erase(W)
    for name in ("w", "other"):
        assert dict(wp.load_workflow_state(name).unwrap().context.variables) == {"n": 1}


def test_a_restore_that_began_before_an_erasure_leaves_it_out(wp: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = filled(wp)
    prepare = checkpoints.prepare_version

    def prepared(*arguments: Any) -> Any:
        wanted = prepare(*arguments)
        monkeypatch.undo()
        wp.erase("w", "context.variables.password").unwrap()
        return wanted

    monkeypatch.setattr(checkpoints, "prepare_version", prepared)
    wp.restore_from_checkpoint(first)
    assert dict(wp.load_workflow_state("w").unwrap().context.variables) == {"n": 1}


def test_an_import_that_makes_a_deleted_workflow_again_leaves_out_what_was_erased(wp: Waypost) -> None:
    first, _ = filled(wp)
    early = wp.export_checkpoint(first)
    wp.erase("w", "context.variables.password").unwrap()
    wp.delete_workflow("w").unwrap()
    wp.import_checkpoint(early).unwrap()
    assert dict(wp.load_workflow_state("w").unwrap().context.variables) == {"n": 1}
    assert wp.validate_workflow_state("w").is_valid


def test_a_fork_leaves_out_what_was_erased(wp: Waypost) -> None:
    """The other workflow says, too, that it was erased, and is sound."""
    _, second = filled(wp)
    wp.erase("w", "outputs.fetch").unwrap()
    wp.erase("w", "context.variables.password").unwrap()
    wp.fork_workflow(second, "other").unwrap()
    assert wp.validate_workflow_state("other").is_valid
    with pytest.raises(ValueErased):
        wp.get_step_output("other", "fetch")
    assert dict(wp.load_workflow_state("other").unwrap().context.variables) == {"n": 1}


def test_a_fork_of_a_version_from_after_the_erasure_is_sound(wp: Waypost) -> None:
    """Its output is missing in the version itself, which says why; and so does what is made of it."""
    filled(wp)
    wp.erase("w", "outputs.fetch", session_id="s9").unwrap()
    later = wp.create_checkpoint("w").unwrap().id
    wp.fork_workflow(later, "other").unwrap()
    assert wp.validate_workflow_state("other").is_valid
    with pytest.raises(ValueErased):
        wp.get_step_output("other", "fetch")


def test_a_save_leaves_alone_what_was_erased(wp: Waypost) -> None:
    """A state that is loaded, touched everywhere and saved changes nothing of it, and other outputs stay."""
    filled(wp)
    wp.erase("w", "outputs.fetch@3").unwrap()
    state = wp.load_workflow_state("w").unwrap()
    state.outputs = dict(state.outputs)
    state.workflow.steps[1].name = "another"
    wp.save_workflow_state(state).unwrap()
    assert wp.get_step_output("w", "fetch", 1).output == {"login": CANARY}
    with pytest.raises(ValueErased):
        wp.get_step_output("w", "fetch")
    assert wp.validate_workflow_state("w").is_valid


def test_an_export_holds_what_is_left(wp: Waypost, store_factory: StoreFactory) -> None:
    """A checkpoint that is exported afterwards arrives without it, as the version that it was."""
    first, second = filled(wp)
    early = wp.export_checkpoint(first)
    for path in ("context.variables.password", "outputs.fetch", "agents.scout"):
        wp.erase("w", path).unwrap()
    data = wp.export_checkpoint(second)
    assert CANARY.encode() not in data and CANARY.encode() in early
    there = Waypost(Definitions(store_factory(CONFIG), CONFIG, verbose=False))
    kept = there.import_checkpoint(data).unwrap()
    assert kept.id == second and there.validate_checkpoint(second).is_valid
    assert there.validate_workflow_state("w").is_valid
    with pytest.raises(ValueErased):
        there.get_step_output("w", "fetch")
    assert there.get_checkpoint(second).state.metadata.checksum == wp.get_checkpoint(second).state.metadata.checksum


@pytest.mark.parametrize("what", ["checkpoint", "session", "session without history"])
def test_nothing_is_exported_that_is_to_be_erased(wp: Waypost, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """An erasure failed after its decision: it is carried out before anything leaves the store."""
    wp.start_session(session_id="s1")
    first, _ = filled(wp)
    with monkeypatch.context() as patch:
        patch.setattr(type(wp.definitions.store), "erase", lambda *_: [])
        for path in ("context.variables.password", "outputs.fetch", "agents.scout"):
            wp.erase("w", path).unwrap()
    if what == "checkpoint":
        data = wp.export_checkpoint(first)
    else:
        data = wp.export_session("s1", include_history=what == "session")
    assert isinstance(data, bytes) and CANARY.encode() not in data


def test_what_is_to_be_erased_is_not_exported_by_who_cannot_erase_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reopened(tmp_path) as wp:
        wp.start_session(session_id="s1")
        filled(wp)
        monkeypatch.setattr(upkeep, "compact_if_due", lambda *_, **__: None)
        with monkeypatch.context() as patch:
            patch.setattr(type(wp.definitions.store), "erase", lambda *_: [])
            wp.erase("w", "context.variables.password").unwrap()
        with reopened(tmp_path, read_only=True) as reader, pytest.raises(StoreReadOnly, match="is to be erased"):
            reader.export_session("s1")
        wp.erase("w", "context.variables.password").unwrap()
        with reopened(tmp_path, read_only=True) as reader:
            assert isinstance(reader.export_session("s1"), bytes)


def test_an_import_of_before_does_not_bring_it_back(wp: Waypost) -> None:
    """An export that was made before the erasure is imported without what was erased since."""
    first, _ = filled(wp)
    early = wp.export_checkpoint(first)
    record = wp.definitions.store.view(W).get(records.CHECKPOINT + first)
    assert record is not None
    wp.erase("w", "context.variables.password").unwrap()
    wp.definitions.store.submit(change(W, lambda tx: tx.delete(records.CHECKPOINT + first))).result()
    wp.import_checkpoint(early).unwrap()
    with pytest.raises(ValueErased):
        wp.get_checkpoint(first).state.context.variables["password"]


def test_an_import_from_a_store_that_went_on_does_not_bring_it_back(wp: Waypost, store_factory: StoreFactory) -> None:
    """A checkpoint that another store made after the erasure here, of a version that still had it, arrives without."""
    there = Waypost(Definitions(store_factory(CONFIG), CONFIG, verbose=False))
    first, _ = filled(there)
    wp.import_checkpoint(there.export_checkpoint(first)).unwrap()
    wp.erase("w", "context.variables.password").unwrap()
    there.update_context("w", variables={"n": 2}).unwrap()
    late = there.create_checkpoint("w").unwrap().id
    wp.import_checkpoint(there.export_checkpoint(late)).unwrap()
    with pytest.raises(ValueErased):
        wp.get_checkpoint(late).state.context.variables["password"]
    wp.restore_from_checkpoint(late)
    assert "password" not in wp.load_workflow_state("w").unwrap().context.variables


def test_an_erasure_during_an_import_counts_for_it(
    wp: Waypost, store_factory: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was taken in before the erasure, and is adopted after it, arrives without."""
    there = Waypost(Definitions(store_factory(CONFIG), CONFIG, verbose=False))
    first, second = filled(there)
    wp.import_checkpoint(there.export_checkpoint(first)).unwrap()
    prepare, erased = carrying.prepare, list[bool]()

    def prepared(*arguments: Any) -> Any:
        work = prepare(*arguments)
        if not erased:
            erased.append(wp.erase("w", "context.variables.password").success)
        return work

    monkeypatch.setattr(carrying, "prepare", prepared)
    wp.import_checkpoint(there.export_checkpoint(second)).unwrap()
    assert erased == [True]
    with pytest.raises(ValueErased):
        wp.get_checkpoint(second).state.context.variables["password"]


def test_what_a_dead_importer_left_goes_too(store_factory: StoreFactory, tmp_path: Path) -> None:
    """Logs and checkpoints that were about to arrive are copies like others, also in a store that is open for long."""
    there = Waypost(Definitions(store_factory(CONFIG), CONFIG, verbose=False))
    carried(there, store_factory)
    there.create_checkpoint("w").unwrap()
    data = there.export_session("s")
    bare = there.export_session("s", include_history=False)
    path = tmp_path / "store"
    with reopened(path) as wp:
        process = os.fork()
        if not process:
            joint._decide = lambda *_: os._exit(9)  # pyright: ignore[reportPrivateUsage]
            try:
                reopened(path).import_session(bare)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9
        assert len(files_with(path, CANARY)) == 2
        wp.import_session(data).unwrap()
        wp.erase("w", "context.variables.password").unwrap()
        assert files_with(path, CANARY) == []


def test_what_was_imported_is_erased_as_well(wp: Waypost, store_factory: StoreFactory) -> None:
    """A checkpoint that came from another store loses it, whatever the clock there said."""
    there = Waypost(Definitions(store_factory(CONFIG), CONFIG, verbose=False))
    first, _ = filled(there)
    wp.create_workflow("w", "W").unwrap()
    wp.import_checkpoint(there.export_checkpoint(first)).unwrap()
    assert wp.get_checkpoint(first).state.context.variables["password"] == CANARY
    done = wp.erase("w", "context.variables.password").unwrap()
    assert done.checkpoints == [first]
    with pytest.raises(ValueErased):
        wp.get_checkpoint(first).state.context.variables["password"]


def test_a_secret_goes_with_what_seals_it(store_factory: StoreFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealed bytes are erased like any others; the name of the secret is in none of the versions any more."""
    monkeypatch.setenv("WAYPOST_KEY", "07" * 32)
    wp = Waypost(Definitions(store_factory(CONFIG), CONFIG, verbose=False))
    wp.create_workflow("w", "W").unwrap()
    wp.update_context("w", secrets={"token": CANARY, "other": 1}).unwrap()
    kept = wp.create_checkpoint("w").unwrap().id
    assert wp.get_checkpoint(kept).state.context.secrets["token"] == CANARY
    done = wp.erase("w", "context.secrets.token").unwrap()
    assert (len(done.commits), done.checkpoints) == (1, [kept])
    secrets = wp.get_checkpoint(kept).state.context.secrets
    assert list(secrets) == ["other"] and list(wp.load_workflow_state("w").unwrap().context.secrets) == ["other"]
    with pytest.raises(ValueErased):
        secrets["token"]


@pytest.mark.parametrize("kind", ["memory", "directory"])
def test_a_session_is_carried_without_what_was_erased(wp: Waypost, kind: str, tmp_path: Path) -> None:
    """Its bundle does not hold it; what arrives keeps ids and sums, says what was erased, and can lose more."""
    session_id = wp.start_session().session_id
    filled(wp.in_session(session_id))
    for path in ("context.variables.password", "outputs.fetch@2", "agents.scout"):
        wp.erase("w", path).unwrap()
    wp.erase("w", "outputs.fetch@1").unwrap()
    wp.end_session(session_id)
    data = wp.export_session(session_id)
    assert isinstance(data, bytes) and CANARY.encode() not in data
    store = MemoryStore() if kind == "memory" else open_store(str(tmp_path / "there"), CONFIG)
    there = Waypost(Definitions(store, CONFIG, verbose=False))
    there.import_session(data)
    assert versions(there) == versions(wp)
    assert there.validate_workflow_state("w").is_valid
    assert [(each.commit_id, each.changed) for each in there.history("w")] == [
        (each.commit_id, each.changed) for each in wp.history("w")
    ]
    for one, other in zip(there.list_checkpoints("w").items, wp.list_checkpoints("w").items, strict=True):
        assert there.validate_checkpoint(one.id).is_valid and one.id == other.id
    with pytest.raises(ValueErased):
        there.get_step_output("w", "fetch", 2)
    there.erase("w", "outputs.fetch@3").unwrap()
    assert there.validate_workflow_state("w").is_valid
    there.close()
    if kind == "directory":
        assert files_with(tmp_path / "there", CANARY) == []
        with reopened(tmp_path / "there") as again:
            store = again.definitions.store
            assert [each for each in store.verify().findings if each.severity != "note"] == []  # type: ignore[attr-defined]


def carried(wp: Waypost, store_factory: StoreFactory) -> Waypost:
    """Another store, which has taken in a session whose workflow has the canary; the session is paused."""
    session_id = wp.start_session(session_id="s").session_id
    wp.create_workflow("w", "W", session_id=session_id, steps=["fetch"]).unwrap()
    wp.update_context("w", variables={"password": CANARY, "n": 1}, session_id=session_id).unwrap()
    wp.update_step_status("w", "fetch", "completed", "harmless", session_id=session_id).unwrap()
    wp.pause_session(session_id).unwrap()
    there = Waypost(Definitions(store_factory(CONFIG), CONFIG, verbose=False))
    there.import_session(wp.export_session(session_id)).unwrap()
    return there


def test_a_merge_erases_what_the_other_side_erased(wp: Waypost, store_factory: StoreFactory) -> None:
    """It is gone from all versions here, also from those that came after both have parted."""
    there = carried(wp, store_factory)
    wp.update_context("w", variables={"n": 2}).unwrap()
    kept = wp.create_checkpoint("w").unwrap().id
    there.erase("w", "context.variables.password").unwrap()
    data = there.export_session("s")
    assert wp.import_session(data, on_clash="merge").unwrap().merged == ["w"]
    with pytest.raises(ValueErased):
        wp.get_checkpoint(kept).state.context.variables["password"]
    store = wp.definitions.store
    for version in range(1, store.view(W).version + 1):
        view = store.view_at(W, version)
        assert view is None or view.size_of("variable\x1fpassword") is None or view.erased("variable\x1fpassword")
    assert wp.validate_workflow_state("w").is_valid
    wp.close()
    if hasattr(store, "layout"):
        assert files_with(Path(store.layout.path), CANARY) == []


def test_what_both_sides_erased_is_no_conflict(wp: Waypost, store_factory: StoreFactory) -> None:
    there = carried(wp, store_factory)
    for each in (wp, there):
        each.erase("w", "context.variables.password").unwrap()
    there.update_context("w", variables={"n": 2}).unwrap()
    wp.import_session(there.export_session("s"), on_clash="merge").unwrap()
    assert dict(wp.load_workflow_state("w").unwrap().context.variables) == {"n": 2}


def test_a_merge_erases_nothing_that_the_other_side_never_saw(wp: Waypost, store_factory: StoreFactory) -> None:
    """All versions of an output were erased there, and one was added here: that is for people to decide."""
    there = carried(wp, store_factory)
    wp.add_step_output("w", "fetch", "mine").unwrap()
    there.erase("w", "outputs.fetch").unwrap()
    result = wp.import_session(there.export_session("s"), on_clash="merge")
    assert isinstance(result.error, ImportConflict)
    assert wp.get_step_output("w", "fetch").output == "mine"


def test_erasing_is_refused_within_a_transaction(wp: Waypost) -> None:
    """It is no change that can be part of another."""
    filled(wp)
    with pytest.raises(AttributeError):
        wp.transact(lambda tx: tx.erase("w", "outputs.fetch"))


async def _on_the_loop(awp: AsyncWaypost) -> None:
    await awp.create_workflow("w", "W", steps=["fetch"])
    await awp.add_step_output("w", "fetch", CANARY)
    done = (await awp.erase("w", "outputs.fetch")).unwrap()
    assert [each.operation for each in done.commits] == ["add_step_output"]
    with pytest.raises(ValueErased):
        await awp.get_step_output("w", "fetch")


def test_it_works_on_the_asynchronous_face(store_factory: StoreFactory) -> None:
    """The same there."""
    store = store_factory(CONFIG)
    asyncio.run(_on_the_loop(AsyncWaypost(Definitions(store, CONFIG, verbose=False))))


# --- in a directory ---


def erase_all(wp: Waypost) -> None:
    for path in ("context.variables.password", "outputs.fetch", "agents.scout"):
        wp.erase("w", path).unwrap()


@pytest.mark.parametrize("algorithm", ["none", "zstd", "gzip", "lz4", "brotli"])
def test_no_byte_of_it_is_left_on_disk(tmp_path: Path, algorithm: str) -> None:
    """No file of the store holds it, whichever codec wrote the files: as they stand, and after they are read again."""
    sections = {"checkpoints": ON_REQUEST, "compression": {"chunk_size": 4096, "algorithm": algorithm}}
    config = make_config({**sections, "compression": {**sections["compression"], "enabled": algorithm != "none"}})
    with Waypost(Definitions(open_store(str(tmp_path / "s"), config), config, verbose=False)) as wp:
        filled(wp)
        before = versions(wp)
    with Waypost(Definitions(open_store(str(tmp_path / "s"), config), config, verbose=False)) as wp:
        erase_all(wp)
        assert files_with(tmp_path, CANARY) == []
        wp.update_context("w", variables={"n": 2}).unwrap()
    plain = reopened(tmp_path / "s")
    try:
        assert {number: versions(plain)[number] for number in before} == before
        store: Any = plain.definitions.store
        findings = [each for each in store.verify().findings if each.severity != "note"]
        assert findings == []
    finally:
        plain.close()
    assert files_with(tmp_path, CANARY) == []


def test_copies_that_the_store_keeps_go_and_are_named(tmp_path: Path) -> None:
    """Generations, migrations' copies, torn tails, what a repair or a restore put by: of this workflow alone."""
    path = tmp_path / "s"
    with reopened(path) as wp:
        filled(wp)
        wp.create_workflow("w2", "W2").unwrap()
    log = (path / "workflows" / "w.state").read_bytes()
    gone = ["backups/w.state.0", "backups/w.state.v3", "damaged/w.state.1", "damaged/w.state.1.json"]
    gone += ["temp/w.state.77.torn", "backups/before-restore.1/workflows/w.state"]
    kept = ["backups/w2.state.0", "damaged/w2.state.1", "backups/before-restore.1/workflows/w2.state"]
    for name in (*gone, *kept):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(log if name in gone else b"another's")
    checkpoint = next(each for each in (path / "checkpoints").iterdir() if each.suffix == ".checkpoint")
    (path / "damaged" / f"{checkpoint.name}.1").write_bytes(checkpoint.read_bytes())
    (path / "backups" / "before-restore.1" / "checkpoints").mkdir()
    (path / "backups" / "before-restore.1" / "checkpoints" / checkpoint.name).write_bytes(checkpoint.read_bytes())
    gone += [f"damaged/{checkpoint.name}.1", f"backups/before-restore.1/checkpoints/{checkpoint.name}"]
    with reopened(path) as wp:
        (path / "temp" / "0123456789abcdef.new").write_bytes(log)  # a process was writing it that died since
        done = wp.erase("w", "outputs.fetch").unwrap()
        assert sorted(done.removed_files) == sorted(gone)
        wp.erase("w", "context.variables.password").unwrap()
        wp.erase("w", "agents.scout").unwrap()
        assert [name for name in kept if not (path / name).exists()] == []
        assert files_with(tmp_path, CANARY) == []


def test_a_shortened_history_is_erased_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snapshot with which the log begins, and checkpoints of versions that are gone from it."""
    with reopened(tmp_path / "s") as wp:
        first, _ = filled(wp)
        store: Any = wp.definitions.store
        with monkeypatch.context() as patch:
            patch.setattr(compaction, "DAY_US", -1)
            assert upkeep.compact(store._document(W), store._context)
        assert wp.definitions.store.past(W).first > 4
        with monkeypatch.context() as patch:
            patch.setattr(compaction, "DAY_US", -1)  # it is shortened again by the erasure itself
            erase_all(wp)
        assert files_with(tmp_path, CANARY) == []
        with pytest.raises(ValueErased):
            wp.get_checkpoint(first).state.context.variables["password"]
        assert wp.validate_checkpoint(first).is_valid


def test_a_transaction_that_put_it_leaves_nothing(tmp_path: Path) -> None:
    """Neither its decision, nor the frames in it, nor its result; the other workflow stays as it is."""
    with reopened(tmp_path / "s") as wp:
        wp.create_workflow("w", "W").unwrap()
        wp.create_workflow("v", "V").unwrap()

        def work(tx: Any) -> None:
            tx.update_context("w", variables={"password": CANARY})
            tx.update_context("v", variables={"x": 1})

        wp.transact(work).unwrap()
        wp.erase("w", "context.variables.password").unwrap()
        assert files_with(tmp_path, CANARY) == []
        assert wp.load_workflow_state("v").unwrap().context.variables["x"] == 1
        store: Any = wp.definitions.store
        findings = [each for each in store.verify().findings if each.severity == "damage"]
        assert findings == []


def test_no_version_comes_between_what_is_covered_and_the_decision(tmp_path: Path) -> None:
    """A checkpoint that another process makes just before the commit is covered: the work runs again behind it."""
    with reopened(tmp_path / "s") as wp, reopened(tmp_path / "s") as other:
        wp.create_workflow("w", "W").unwrap()
        wp.update_context("w", variables={"password": CANARY}).unwrap()
        store = wp.definitions.store
        work = erasures.prepare(store, "w", "context.variables.password", None)
        made: list[str] = []

        def beaten(tx: Transaction) -> None:
            work(tx)
            if not made:
                made.append(other.create_checkpoint("w").unwrap().id)

        store.submit(change(W, beaten)).result()
        store.erase(W)
        with pytest.raises(ValueErased):
            wp.get_checkpoint(made[0]).state.context.variables["password"]
        assert files_with(tmp_path, CANARY) == []


def test_a_diff_of_nothing_shows_nothing(wp: Waypost) -> None:
    """A version that holds what was erased is equal to itself."""
    filled(wp)
    wp.erase("w", "outputs.fetch").unwrap()
    assert list(wp.diff("w@5", "w@5")) == []
    assert wp.blame("w", "outputs.fetch").value == ErasedValue()
    assert wp.blame("w", "steps.fetch.status").before is not UNSET


def test_what_waits_for_no_sync_is_erased_for_good(tmp_path: Path) -> None:
    """Also where commits are synced now and then: what is acknowledged is on the medium, and the old files are gone."""
    config = make_config({"checkpoints": ON_REQUEST, "reliability": {"enable_wal": False}})
    with Waypost(Definitions(open_store(str(tmp_path / "s"), config), config, verbose=False)) as wp:
        filled(wp)
        erase_all(wp)
        assert files_with(tmp_path, CANARY) == []
        log = wp.definitions.store._document(W)._log  # type: ignore[attr-defined]
        assert wp.validate_workflow_state("w").is_valid and (log is None or log.recorded_synced > 0)
