"""`transact` over two stores: in both, or in neither, whoever dies in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests import servers
from tests.conftest import Pretend, make_config
from waypost import TransactionPending, WorkflowTransaction, across, prepared
from waypost.api import AsyncWaypost
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import InvalidInput
from waypost.store import DocumentId, Store, open_store

PAIRS = ["memory-memory", "memory-directory", "directory-directory", "directory-postgres", "postgres-postgres"]
OPENING, CLOSING = DocumentId("workflow", "from"), DocumentId("workflow", "to")


class Pair:
    """Two stores, each with one workflow that has an amount: `from` in the coordinator, `to` in the participant."""

    def __init__(self, one: Store, other: Store) -> None:
        first, second = sorted((one, other), key=prepared.name_of)
        self.coordinator, self.participant = first, second
        self.here, self.there = (Waypost(Definitions(each, make_config(), verbose=False)) for each in (first, second))
        for handle, name in ((self.here, "from"), (self.there, "to")):
            context = waypost.WorkflowContext(variables={"amount": 0})
            handle.create_workflow(name, name, steps=["a"], context=context).unwrap()

    def amounts(self) -> tuple[Any, Any]:
        return amount(self.here, "from"), amount(self.there, "to")

    def move(self, **options: Any) -> Any:
        return self.here.transact(move, also=self.there, **options)

    def is_clean(self) -> bool:
        """Whether nothing is left of any transaction."""
        return not any(
            key.startswith((prepared.PREPARED, prepared.SETTLED))
            for store, document in ((self.coordinator, OPENING), (self.participant, CLOSING))
            for key in store.view(document).keys()
        )


def amount(handle: Waypost | WorkflowTransaction, name: str) -> int:
    loaded = handle.load_workflow_state(name)
    state = loaded if isinstance(loaded, waypost.WorkflowState) else loaded.unwrap()
    return state.context.variables["amount"]


def move(mine: WorkflowTransaction, theirs: WorkflowTransaction, by: int = 1) -> int:
    left = amount(mine, "from") - by
    mine.update_context("from", variables={"amount": left})
    theirs.update_context("to", variables={"amount": amount(theirs, "to") + by})
    return left


def open_pair(kinds: str, path: Path, stack: ExitStack) -> Pair:
    stores: list[Store] = []
    for number, kind in enumerate(kinds.split("-")):
        place = {"memory": "memory:", "directory": str(path / f"store{number}")}.get(kind)
        location = place or stack.enter_context(servers.postgres().lent())
        stores.append(open_store(location, make_config()))
        stack.callback(stores[-1].close)
    return Pair(*stores)


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield open_pair(request.param, tmp_path, stack)


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield open_pair("directory-directory", tmp_path, stack)


class Died(BaseException):
    """Stands for the end of a process: nothing that comes after it is done."""


def dying(pair: Pair, monkeypatch: pytest.MonkeyPatch, *, before: str) -> None:
    """Have the process die before a step of the next transaction."""

    def die(*_: Any, **__: Any) -> None:
        raise Died

    if before == "decide":
        monkeypatch.setattr(across._Commit, "_decide", die)
    elif before == "carry out":
        monkeypatch.setattr(across._Commit, "_follow", die)
    elif before == "forget":
        monkeypatch.setattr(prepared, "forget", die)
    with pytest.raises(Died):
        pair.move(operation_id="moved")
    monkeypatch.undo()


# --- all of it, or nothing ---


def test_both_stores_change_together_and_nothing_is_left(pair: Pair) -> None:
    moved = pair.move(operation_id="moved")
    assert (moved.unwrap(), pair.amounts(), pair.is_clean()) == (-1, (-1, 1), True)


async def test_the_awaited_face_does_the_same(pair: Pair) -> None:
    here, there = AsyncWaypost(pair.here.definitions), AsyncWaypost(pair.there.definitions)
    assert (await here.transact(move, also=there)).unwrap() == -1
    assert pair.amounts() == (-1, 1)


def test_the_handle_that_is_asked_need_not_be_the_one_whose_store_decides(pair: Pair) -> None:
    def work(mine: WorkflowTransaction, theirs: WorkflowTransaction) -> int:
        return move(theirs, mine)

    assert pair.there.transact(work, also=pair.here).unwrap() == -1
    assert (pair.amounts(), pair.is_clean()) == ((-1, 1), True)


def test_what_the_work_raises_undoes_all_of_it_in_both(pair: Pair) -> None:
    def half_way(mine: WorkflowTransaction, theirs: WorkflowTransaction) -> None:
        move(mine, theirs)
        theirs.create_workflow("new", "New")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pair.here.transact(half_way, also=pair.there)
    assert pair.amounts() == (0, 0)
    assert pair.there.load_workflow_state("new").error.code == "workflow_not_found"


def test_workflows_are_made_and_deleted_and_kept_as_checkpoints(pair: Pair) -> None:
    def work(mine: WorkflowTransaction, theirs: WorkflowTransaction) -> None:
        mine.delete_workflow("from")
        theirs.create_workflow("new", "New", steps=["a", "b"])
        theirs.update_step_status("new", "a", "completed", b"x" * 200_000)
        theirs.create_checkpoint("to", "before", ["milestone"])
        theirs.update_context("to", variables={"amount": 5})

    pair.here.transact(work, also=pair.there).unwrap()
    assert pair.here.load_workflow_state("from").error.code == "workflow_not_found"
    assert pair.there.get_step_output("new", "a").output == b"x" * 200_000
    (kept,) = [each for each in pair.there.list_checkpoints("to").items if "milestone" in each.tags]
    assert pair.there.validate_checkpoint(kept.id).is_valid
    assert pair.there.validate_workflow_state("new").is_valid
    assert pair.is_clean()


def test_a_workflow_that_was_only_read_in_one_store_is_as_it_was_when_the_other_changes(pair: Pair) -> None:
    """What was decided on the sight of a value is not committed beside another value."""
    runs: list[int] = []

    def work(mine: WorkflowTransaction, theirs: WorkflowTransaction) -> None:
        seen = amount(theirs, "to")
        if not runs:
            pair.there.update_context("to", variables={"amount": 7}).unwrap()
        runs.append(seen)
        mine.update_context("from", variables={"amount": seen})

    pair.here.transact(work, also=pair.there).unwrap()
    assert (runs, pair.amounts(), pair.is_clean()) == ([0, 7], (7, 7), True)


def test_work_that_touches_one_store_commits_there_as_ever(pair: Pair) -> None:
    for touches in (0, 1):
        version = [pair.coordinator.view(OPENING).version, pair.participant.view(CLOSING).version]

        def work(*both: WorkflowTransaction, touches: int = touches) -> None:
            both[touches].update_context(["from", "to"][touches], variables={"amount": 3})

        pair.here.transact(work, also=pair.there).unwrap()
        version[touches] += 1
        assert [pair.coordinator.view(OPENING).version, pair.participant.view(CLOSING).version] == version


def test_c06_no_update_is_lost_when_many_move_both_ways(pair: Pair) -> None:
    def back(mine: WorkflowTransaction, theirs: WorkflowTransaction) -> None:
        move(theirs, mine)

    failed: list[object] = []

    def work(number: int) -> None:
        for _ in range(5):
            outcome = pair.move() if number % 2 else pair.there.transact(back, also=pair.here)
            while not outcome and outcome.error.retryable:
                outcome = pair.move() if number % 2 else pair.there.transact(back, also=pair.here)
            if not outcome:
                failed.append(outcome.error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failed, pair.amounts(), pair.is_clean()) == ([], (-20, 20), True)


def test_what_could_not_be_decided_is_taken_away_by_the_one_who_prepared_it(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else has to ask, and the coordinator has nothing to say."""
    decide: Callable[[Any], Any] = across._Commit._decide
    late: list[object] = []

    def overtaken(commit: Any) -> Any:
        if not late:
            late.append(pair.here.update_context("from", variables={"amount": 5}).unwrap())
        return decide(commit)

    monkeypatch.setattr(across._Commit, "_decide", overtaken)
    pair.move().unwrap()
    assert pair.amounts() == (4, 1)
    assert {each.operation for each in pair.here.history("from")}.isdisjoint({"abandon"})
    assert [each.operation for each in pair.there.history("to")][:4] == ["transact", "prepare", "abandon", "prepare"]


# --- once ---


def test_an_operation_id_moves_once(pair: Pair) -> None:
    first, again = pair.move(operation_id="moved"), pair.move(operation_id="moved")
    assert (first.repeated, again.repeated, again.data) == (False, True, -1)
    assert pair.amounts() == (-1, 1)
    for handle in (pair.here, pair.there):
        assert handle.get_outcome("moved").data == -1


# --- death in between ---


@pytest.mark.parametrize(("before", "ends"), [("decide", 0), ("carry out", 1), ("forget", 1)])
def test_d12_whoever_loads_a_workflow_settles_what_a_dead_process_left(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, before: str, ends: int
) -> None:
    dying(pair, monkeypatch, before=before)
    assert pair.amounts() == (-ends, ends)
    assert pair.move(operation_id="another").unwrap() == -ends - 1
    assert (pair.amounts(), pair.is_clean()) == ((-ends - 1, ends + 1), True)


@pytest.mark.parametrize(("before", "ends"), [("decide", 0), ("carry out", 1), ("forget", 1)])
def test_d12_whoever_changes_a_workflow_settles_first(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, before: str, ends: int
) -> None:
    dying(pair, monkeypatch, before=before)
    pair.there.update_context("to", variables={"seen": True}).unwrap()
    assert pair.amounts() == (-ends, ends)


@pytest.mark.parametrize(("before", "repeated"), [("decide", False), ("carry out", True), ("forget", True)])
def test_a_call_that_died_is_finished_by_the_same_operation_id(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, before: str, repeated: bool
) -> None:
    dying(pair, monkeypatch, before=before)
    again = pair.move(operation_id="moved")
    assert (again.repeated, again.unwrap(), pair.amounts()) == (repeated, -1, (-1, 1))
    assert prepared.find(pair.participant.view(CLOSING)) is None


def test_a_reader_is_not_kept_waiting_by_what_is_not_decided(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, as_living_process: Pretend
) -> None:
    with as_living_process():
        dying(pair, monkeypatch, before="decide")
    monkeypatch.setattr(prepared, "PATIENCE_S", 600.0)
    assert pair.amounts() == (0, 0)
    assert prepared.find(pair.participant.view(CLOSING)) is not None


def test_c05_who_is_alive_is_waited_for_and_then_named(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, as_living_process: Pretend
) -> None:
    with as_living_process():
        dying(pair, monkeypatch, before="decide")
    monkeypatch.setattr(prepared, "PATIENCE_S", 0.05)
    monkeypatch.setattr(prepared, "identity_of", lambda _: b"another")
    refused = pair.there.update_context("to", variables={"amount": 9})
    assert isinstance(refused.error, TransactionPending)
    assert (refused.status, refused.error.retryable) == ("rolled_back", True)
    assert "by process" in str(refused.error)


def test_s05_who_was_given_up_and_goes_on_does_it_again_and_once(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, as_unseen_process: Pretend
) -> None:
    """A coordinator of a machine that cannot be seen wakes between its phases, after others went on."""
    monkeypatch.setattr(prepared, "PATIENCE_S", 0.05)
    decide: Callable[[Any], Any] = across._Commit._decide
    woken: list[object] = []

    def late(commit: Any) -> Any:
        if not woken:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(prepared, "_under_way", set())
                patch.setattr(prepared.clock, "liveness", lambda _: "unknown")
                patch.setattr(prepared.StepOwner, "this_process", staticmethod(lambda: None))
                woken.append(pair.there.update_context("to", variables={"amount": 10}))
        return decide(commit)

    monkeypatch.setattr(across._Commit, "_decide", late)
    assert pair.move().unwrap() == -1
    assert (bool(woken[0]), pair.amounts()) == (True, (-1, 11))


def test_what_was_decided_outlives_the_workflow_that_says_so(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    dying(pair, monkeypatch, before="carry out")
    pair.here.delete_workflow("from").unwrap()
    assert amount(pair.there, "to") == 1


def test_a_joint_commit_of_one_store_waits_for_what_is_prepared(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    dying(pair, monkeypatch, before="carry out")

    def work(tx: WorkflowTransaction) -> int:
        tx.create_workflow("beside", "Beside")
        tx.update_context("to", variables={"seen": amount(tx, "to")})
        return amount(tx, "to")

    assert pair.there.transact(work).unwrap() == 1


def test_a_session_ends_and_is_recovered_where_its_workflow_is_prepared(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = pair.there.start_session("somebody")
    pair.there.update_context("to", variables={"amount": 0, "mine": 1}).unwrap()
    dying(pair, monkeypatch, before="carry out")
    pair.there.end_session(session.session_id).unwrap()
    assert amount(pair.there, "to") == 1


# --- looking, erasing, syncing ---


def test_d15_a_handle_for_reading_shows_the_version_before_and_changes_nothing(
    directories: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dying(directories, monkeypatch, before="carry out")
    store = open_store(directories.participant.location, make_config(), read_only=True)
    reader = Waypost(Definitions(store, make_config(), verbose=False))
    assert amount(reader, "to") == 0
    assert "is shown as it was before a transaction over two stores" in caplog.text
    assert reader.validate_workflow_state("to").is_valid
    store.close()
    assert prepared.find(directories.participant.view(CLOSING)) is not None


def test_an_erased_value_is_gone_from_what_was_prepared(pair: Pair) -> None:
    def work(mine: WorkflowTransaction, theirs: WorkflowTransaction) -> None:
        mine.update_context("from", variables={"amount": 1})
        theirs.update_context("to", variables={"secretly": "a value that nobody should have"})

    pair.here.transact(work, also=pair.there).unwrap()
    pair.there.erase("to", "context.variables.secretly").unwrap()
    past = pair.participant.past(CLOSING)
    held = [value for commit in past.commits() for key in commit.puts if (value := _value(commit, key)) is not None]
    assert not any(b"nobody should have" in value for value in held)


def _value(commit: Any, key: str) -> bytes | None:
    try:
        return commit.read(key)
    except waypost.ValueErased:
        return None


def test_sync_settles_before_it_copies(directories: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dying(directories, monkeypatch, before="carry out")
    with waypost.open(tmp_path / "third") as third:
        report = third.sync(directories.there).unwrap()
        assert not report.failures
        copied = third.definitions.store.view(CLOSING)
        assert prepared.find(copied) is None
        assert copied.commit_id == directories.participant.view(CLOSING).commit_id


def test_history_and_diff_tell_of_what_was_changed_and_not_of_how(pair: Pair) -> None:
    pair.move().unwrap()
    entries = pair.there.history("to")
    assert [each.operation for each in entries][:2] == ["transact", "prepare"]
    changes = pair.there.diff(f"to@{entries[-1].version}", f"to@{entries[0].version}").changes
    assert [each.path for each in changes] == ["context.variables.amount"]


# --- what cannot be ---


def test_a_coordinator_that_is_gone_is_named_and_one_that_has_moved_can_be_asked(
    directories: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dying(directories, monkeypatch, before="carry out")
    coordinator = Path(directories.coordinator.location)
    directories.coordinator.close()
    coordinator.rename(tmp_path / "moved")
    refused = directories.there.update_context("to", variables={"amount": 9})
    assert isinstance(refused.error, TransactionPending)
    assert str(coordinator) in str(refused.error)
    moved = open_store(str(tmp_path / "moved"), make_config())
    assert prepared.settle(directories.participant, CLOSING, moved) == "committed"
    moved.close()
    assert amount(directories.there, "to") == 1


def test_a_store_is_not_taken_twice(directories: Pair, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is this store itself"):
        directories.here.transact(move, also=directories.here)
    with waypost.open(directories.coordinator.location) as again, pytest.raises(InvalidInput, match="itself"):
        directories.here.transact(move, also=again)
    (tmp_path / "link").symlink_to(directories.coordinator.location)
    with waypost.open(tmp_path / "link") as again, pytest.raises(InvalidInput, match="itself"):
        directories.here.transact(move, also=again)
    with pytest.raises(InvalidInput, match="an open Waypost, not str"):
        directories.here.transact(move, also=str(tmp_path))  # type: ignore[arg-type]
