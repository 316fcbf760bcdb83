"""What else may come upon a workflow that is prepared: exports and imports, new keys, other machines, a full file."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.canary import KEY, OLD_KEY
from tests.conftest import Pretend, make_config
from tests.test_two_stores import CLOSING, Pair, amount, dying, move, open_pair
from waypost import TransactionPending, WorkflowTransaction, prepared
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import DocumentTooLarge, InvalidInput, StoreUnavailable
from waypost.store import Change, DocumentId, Store, open_store

PAIRS = ["memory-memory", "directory-directory", "directory-postgres", "postgres-postgres"]


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield open_pair(request.param, tmp_path, stack)


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield open_pair("directory-directory", tmp_path, stack)


# --- which store decides ---


def test_s05_another_machines_store_at_the_same_path_decides_nothing(
    directories: Pair, monkeypatch: pytest.MonkeyPatch, as_unseen_process: Pretend
) -> None:
    """What a machine that cannot be seen has committed is not undone by a look into a store that is not its own."""
    monkeypatch.setattr(prepared, "PATIENCE_S", 0.05)
    with as_unseen_process():
        dying(directories, monkeypatch, before="carry out")
    directories.coordinator.close()
    path = Path(directories.coordinator.location)
    path.rename(path.with_name("elsewhere"))
    with waypost.open(path) as namesake:
        namesake.create_workflow("from", "From", steps=["a"]).unwrap()
        refused = directories.there.update_context("to", variables={"amount": 9})
        assert isinstance(refused.error, TransactionPending)
        assert "store settle --also" in str(refused.error)
    shutil.rmtree(path)
    path.with_name("elsewhere").rename(path)
    directories.there.update_context("to", variables={"seen": True}).unwrap()
    assert amount(directories.there, "to") == 1


def test_s05_the_store_that_decides_is_known_again_and_has_the_last_word(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, as_unseen_process: Pretend
) -> None:
    """What a machine that is gone for good has left is given up where the store is surely the one."""
    with as_unseen_process():
        dying(pair, monkeypatch, before="decide")
    monkeypatch.setattr(prepared, "PATIENCE_S", 0.05)
    pair.there.update_context("to", variables={"amount": 9}).unwrap()
    assert pair.amounts() == (0, 9)


def test_c05_a_living_process_that_has_left_it_open_keeps_nobody_out_for_ever(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, as_living_process: Pretend
) -> None:
    """It may have lost the connection by which it was to undo it, and go on with other things for months."""
    with as_living_process():
        dying(pair, monkeypatch, before="decide")
    monkeypatch.setattr(prepared, "PATIENCE_S", 0.05)
    pair.there.update_context("to", variables={"amount": 9}).unwrap()
    assert pair.amounts() == (0, 9)


def test_a_workflow_that_is_not_there_decides_only_where_no_other_does(pair: Pair) -> None:
    """What was only looked for, as a session that is only a label, is not made."""

    def work(mine: WorkflowTransaction, theirs: WorkflowTransaction) -> None:
        with pytest.raises(waypost.WorkflowNotFound):
            mine.load_workflow_state("a")
        move(mine, theirs)

    pair.here.transact(work, also=pair.there, session_id="label").unwrap()
    assert pair.coordinator.view(DocumentId("workflow", "a")).version == 0
    assert pair.coordinator.view(DocumentId("session", "label")).version == 0


def test_who_asks_while_it_ends_leaves_nothing_in_the_store_that_decides(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is done, and has let go of what he said, is not taken for one who never decided."""
    with monkeypatch.context() as waiting:
        waiting.setattr(prepared, "forget", lambda *_: None)
        waiting.setattr(prepared, "finish", lambda *_: None)
        pair.move().unwrap()
    record = prepared.find(pair.participant.view(CLOSING))
    assert record is not None
    asked: list[object] = []

    def ends_behind(store: Store, record: prepared.PreparedRecord) -> object:
        asked.append(None)
        if len(asked) == 1:
            prepared.finish(pair.participant, record, "committed")
            prepared.forget(store, record.decided_in, record.transaction)
            prepared._under_way.discard(record.transaction)
        return None

    monkeypatch.setattr(prepared, "_said", ends_behind)
    with prepared.under_way(record.transaction):
        assert prepared.settle(pair.participant, CLOSING) is None
    assert (pair.amounts(), pair.is_clean()) == ((-1, 1), True)


# --- what travels ---


def test_what_is_exported_is_settled_before(pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An export holds nothing of a transaction that only the store it comes from could settle."""
    session = pair.there.start_session("somebody")
    pair.there.update_context("to", variables={"amount": 0, "mine": 1}).unwrap()
    dying(pair, monkeypatch, before="carry out")
    data = pair.there.export_session(session.session_id)
    with waypost.open(tmp_path / "third") as third:
        third.import_session(data).unwrap()
        assert prepared.find(third.definitions.store.view(CLOSING)) is None
        assert amount(third, "to") == 1


def test_what_is_prepared_while_it_is_synced_does_not_travel(
    directories: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What came upon a workflow right behind the settling is settled by another look."""
    dying(directories, monkeypatch, before="carry out")
    settle = prepared.settle
    asked: list[object] = []

    def too_early(*given: Any) -> Any:
        asked.append(given)
        return settle(*given) if len(asked) > 2 else None

    monkeypatch.setattr(prepared, "settle", too_early)
    with waypost.open(tmp_path / "third") as third:
        assert not third.sync(directories.there).unwrap().failures
        assert prepared.find(third.definitions.store.view(CLOSING)) is None


def test_an_import_settles_what_is_in_its_way(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session comes in also where a dead process has left one of its workflows prepared."""
    session = pair.there.start_session("somebody")
    pair.there.update_context("to", variables={"amount": 0, "mine": 1}).unwrap()
    data = pair.there.export_session(session.session_id)
    pair.there.end_session(session.session_id).unwrap()
    dying(pair, monkeypatch, before="carry out")
    pair.there.import_session(data, "another", on_clash="merge").unwrap()
    assert amount(pair.there, "to") == 1


def test_a_checkpoint_is_not_imported_over_two_stores(pair: Pair, tmp_path: Path) -> None:
    """The versions of such a checkpoint would be cleared away before it is carried out, were the process killed."""
    with waypost.open(tmp_path / "third") as third:
        third.create_workflow("new", "New", steps=["a"]).unwrap()
        data = third.export_checkpoint(third.create_checkpoint("new", "kept").unwrap().id)

    def work(mine: WorkflowTransaction, theirs: WorkflowTransaction) -> None:
        move(mine, theirs)
        theirs.import_checkpoint(data)

    refused = pair.here.transact(work, also=pair.there)
    assert isinstance(refused.error, InvalidInput)
    assert (pair.amounts(), pair.is_clean()) == ((0, 0), True)


# --- sessions and keys ---


def dying_in(pair: Pair, work: Callable[[WorkflowTransaction, WorkflowTransaction], object]) -> None:
    """Have the process die behind the decision of some work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair, "move", lambda **options: pair.here.transact(work, also=pair.there, **options))
        dying(pair, patch, before="carry out")


def test_d12_whoever_looks_at_a_session_settles_it(pair: Pair) -> None:
    """A session is shown as it is by now, as a workflow is."""
    session = pair.there.start_session("somebody")

    def work(mine: WorkflowTransaction, theirs: WorkflowTransaction) -> None:
        move(mine, theirs)
        theirs.update_session(session.session_id, preferences={"theme": "dark"})

    dying_in(pair, work)
    assert pair.there.get_session(session.session_id).preferences["theme"] == "dark"


def test_rotation_reaches_the_secrets_of_what_was_not_carried_out_yet(
    directories: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once every workflow is said to be rotated the key before can go, and no secret with it."""
    monkeypatch.setenv("WAYPOST_KEY", OLD_KEY)

    def work(mine: WorkflowTransaction, theirs: WorkflowTransaction) -> None:
        move(mine, theirs)
        theirs.update_context("to", secrets={"token": "of the old key"})

    dying_in(directories, work)
    monkeypatch.setenv("WAYPOST_KEY", f"{KEY} {OLD_KEY}")
    with waypost.open(directories.participant.location) as there:
        assert [each.workflow_id for each in there.rotate_secrets().workflows] == ["to"]
    monkeypatch.setenv("WAYPOST_KEY", KEY)
    with waypost.open(directories.participant.location) as there:
        assert there.load_workflow_state("to").unwrap().context.secrets["token"] == "of the old key"


# --- room ---


@pytest.mark.parametrize("kilobytes", [450, 490, 510, 700])
def test_d07_what_is_decided_fits_when_it_is_carried_out(tmp_path: Path, kilobytes: int) -> None:
    """What a file could not hold twice is refused before anything is decided, so that nothing is stuck half way."""
    config = make_config({"performance": {"max_file_size": 1}, "compression": {"enabled": False}})
    value = random.Random(kilobytes).randbytes(kilobytes * 1000)
    with ExitStack() as stack:
        stores = [open_store(str(tmp_path / name), config) for name in ("a", "b")]
        for each in stores:
            stack.callback(each.close)
        pair = Pair(*stores)
        there = Waypost(Definitions(pair.participant, config, verbose=False))

        def work(mine: WorkflowTransaction, theirs: WorkflowTransaction) -> None:
            move(mine, theirs)
            theirs.add_step_output("to", "a", value)

        done = Waypost(Definitions(pair.coordinator, config, verbose=False)).transact(work, also=there)
        assert done or isinstance(done.error, DocumentTooLarge)
        assert (pair.amounts(), pair.is_clean()) == ((-1, 1) if done else (0, 0), True)
        assert bool(done) == (kilobytes == 450)


# --- what the decision came to ---


def losing_the_decision(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Have the coordinator say once of what it has committed that it conflicts; that receipt."""
    commit = type(pair.coordinator).commit
    lost: list[object] = []

    def answer_is_lost(store: Any, joint: Any, change: Any, *rest: Any) -> Any:
        receipt = commit(store, joint, change, *rest)
        if store is pair.coordinator and change.operation == "transact" and not lost:
            lost.append(receipt)
            return None
        return receipt

    monkeypatch.setattr(type(pair.coordinator), "commit", answer_is_lost)
    return lost


@pytest.mark.parametrize("operation_id", ["once", None])
def test_c12_t15_a_decision_whose_answer_was_lost_is_carried_out(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, operation_id: str | None
) -> None:
    """What is found to be decided is acknowledged, and its work does not run again: it might do something else."""
    lost = losing_the_decision(pair, monkeypatch)
    runs: list[int] = []

    def work(mine: WorkflowTransaction, theirs: WorkflowTransaction) -> int:
        runs.append(move(mine, theirs))
        return runs[-1]

    moved = pair.here.transact(work, also=pair.there, operation_id=operation_id)
    assert lost[0] is not None
    assert (moved.unwrap(), runs, pair.amounts(), pair.is_clean()) == (-1, [-1], (-1, 1), True)


def test_c12_a_decision_that_cannot_be_asked_for_is_unknown(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a store said that it conflicts, and then no more, the work does not run again."""
    losing_the_decision(pair, monkeypatch)

    def unreachable(*_: object) -> None:
        raise StoreUnavailable("the server is gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepared, "is_committed", unreachable)
        moved = pair.move()
    assert (moved.status, str(moved.error)) == ("unknown", "the server is gone")
    assert pair.amounts() == (-1, 1)


@pytest.mark.parametrize("operation_id", ["once", None])
def test_d12_what_is_decided_is_carried_out_though_its_operation_id_was_used_beside_it(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, operation_id: str | None
) -> None:
    """A document that remembers the id of what it is prepared for has not followed it before it is prepared no more."""
    with monkeypatch.context() as patch:
        patch.setattr(pair, "move", lambda **_: pair.here.transact(move, also=pair.there, operation_id=operation_id))
        dying(pair, patch, before="carry out")
    record = prepared.find(pair.participant.view(CLOSING))
    assert record is not None
    beside = Change(CLOSING, lambda tx: None, record.operation_id, "beside", repeatable=True)
    assert pair.participant.submit(beside).result().repeated is None
    assert (pair.amounts(), pair.move().unwrap(), pair.amounts()) == ((-1, 1), -2, (-2, 2))
    assert pair.is_clean()


def test_a_store_that_cannot_be_asked_keeps_none_of_the_others_from_being_settled(
    directories: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left open is reported, whatever the reason, and the rest is settled."""
    dying(directories, monkeypatch, before="carry out")

    def unreachable(*_: object) -> None:
        raise StoreUnavailable("the server is gone")

    monkeypatch.setattr(prepared, "_said", unreachable)
    (left,) = prepared.settle_all(directories.participant)
    assert (left.id, left.error) == ("to", "the server is gone")
