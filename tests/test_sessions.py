"""Sessions through the public operations, over every store: whose they are, what they hold, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.conftest import make_config, opened
from waypost import SessionQuery, TimeRange, WorkflowContext
from waypost.api import AsyncWaypost
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import (
    InvalidId,
    InvalidInput,
    InvalidValue,
    SessionBusy,
    SessionEnded,
    SessionExists,
    SessionFenced,
    SessionNotFound,
    SessionPaused,
)
from waypost.store import DocumentId, Store


def beside(store: Store) -> Waypost:
    """Another handle over the same open store, as another part of the program may have one."""
    return Waypost(Definitions(store, make_config(), verbose=False))


# --- starting, and in whose name ---


def test_a_session_is_what_it_was_started_with(wp: Waypost) -> None:
    """A new session is active, held by this process, and has its user, environment and preferences."""
    session = wp.start_session("user123", {"CWD": "/work", "n": 3}, {"theme": "dark"})
    assert (session.user_id, session.status) == ("user123", "active")
    assert (session.environment, session.preferences) == ({"CWD": "/work", "n": 3}, {"theme": "dark"})
    assert (session.active_workflows, session.completed_workflows, session.end_time) == ([], [], None)
    assert session.presence is not None and session.presence.state == "alive"
    assert session.owner == waypost.StepOwner.this_process()
    assert wp.get_session(session.session_id).session_id == session.session_id == wp.session_id


def test_every_commit_names_its_session(wp: Waypost) -> None:
    """What is written through a handle is written in its current session, a transaction's commits included, unless
    another is named.
    """
    first = wp.start_session("a").session_id
    state = wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
    wp.update_step_status("w", "a", "completed", 1).unwrap()
    with wp.transaction() as tx:
        tx.add_step_output("w", "b", 2)
    kept = wp.create_checkpoint("w").unwrap()
    second = wp.start_session("b").session_id
    wp.pause_workflow("w").unwrap()
    wp.resume_workflow("w", session_id=first).unwrap()
    assert [entry.session_id for entry in wp.history("w")] == [first, second, first, first, first, first]
    assert (state.context.session_id, kept.session_id) == (first, first)
    assert wp.list_workflows(waypost.StateQuery(session_id=second)).total == 1


def test_a_handle_may_be_bound_to_a_session(wp: Waypost) -> None:
    """`in_session` gives a handle on the same store for one session, and closing it closes nothing."""
    mine, other = wp.start_session("a").session_id, wp.start_session("b").session_id
    with wp.in_session(mine) as bound:
        bound.create_workflow("w", "W", steps=["a"]).unwrap()
        assert bound.session_id == mine
    with wp.in_session(mine).run("w") as run:
        assert [run.do(step_id, str, 1) for step_id in run.ready()] == ["1"]
    wp.pause_workflow("w").unwrap()
    names = [entry.session_id for entry in wp.history("w")]
    assert names == [other, *[mine] * (len(names) - 1)]
    assert [wp.get_session(each).status for each in (mine, other)] == ["active", "active"]


def test_a_label_of_the_callers_own_is_recorded_and_nothing_more(wp: Waypost) -> None:
    """A name that no session has may be given with a write, as it always could."""
    wp.create_workflow("w", "W", "nightly").unwrap()
    assert [entry.session_id for entry in wp.history("w")] == ["nightly"]
    with pytest.raises(SessionNotFound, match="no session 'nightly'"):
        wp.get_session("nightly")


@pytest.mark.parametrize("session_id", ["../../x", "con", "A", "a", "ä" * 200, ".", "session_01", "x.session"])
def test_a_session_may_have_an_id_of_the_callers_own(wp: Waypost, session_id: str) -> None:
    """An id that is given is kept exactly, whatever it looks like, and no other session shares it (N1, N3)."""
    wp.start_session(session_id=session_id)
    wp.create_workflow("w", "W").unwrap()
    assert wp.get_session(session_id).active_workflows == ["w"]
    assert [each.session_id for each in wp.list_sessions()] == [session_id]
    with pytest.raises(SessionExists):
        wp.start_session(session_id=session_id)


@pytest.mark.parametrize("session_id", ["", "a\nb", "\x00", "x" * 513, "\ud800", 3])
def test_an_id_that_no_store_keeps_is_refused(wp: Waypost, session_id: Any) -> None:
    """Each of these is an InvalidId, wherever it is given, and nothing is made."""
    for call in (wp.get_session, wp.resume_session, wp.get_session_statistics, wp.in_session):
        with pytest.raises(InvalidId, match="session id"):
            call(session_id)
    with pytest.raises(InvalidId, match="session id"):
        wp.start_session(session_id=session_id)
    assert isinstance(wp.end_session(session_id).error, InvalidId)
    assert isinstance(wp.create_workflow("w", "W", session_id).error, InvalidId)
    assert (wp.list_sessions().total, wp.list_workflows().total) == (0, 0)


def test_a_bad_value_is_refused_with_its_path(wp: Waypost) -> None:
    """What cannot be stored in a session is named by where it stands, and no session is made of it."""
    with pytest.raises(InvalidValue, match=r"environment\.handle\[1\]"):
        wp.start_session(environment={"handle": [1, object()]})
    with pytest.raises(InvalidInput, match="preferences is a dictionary"):
        wp.start_session(preferences=["x"])  # type: ignore[arg-type]
    assert (wp.list_sessions().total, wp.session_id) == (0, None)


def test_starting_again_with_the_same_operation_id_is_starting_once(wp: Waypost) -> None:
    """A start that is repeated gives the session that it made the first time."""
    first = wp.start_session("a", operation_id="op")
    assert wp.start_session("a", operation_id="op").session_id == first.session_id
    assert wp.list_sessions().total == 1
    assert wp.get_outcome("op").data.session_id == first.session_id


# --- several sessions ---


def test_sessions_share_workflows_and_nothing_else(wp: Waypost) -> None:
    """Two sessions work on one workflow; each has an environment and preferences of its own."""
    one = wp.start_session("a", {"CWD": "/one"}, {"theme": "dark"}).session_id
    two = wp.start_session("b", {"CWD": "/two"}).session_id
    wp.create_workflow("w", "W", one, ["a", "b"]).unwrap()
    wp.update_step_status("w", "a", "completed", session_id=two).unwrap()
    wp.update_session(two, environment={"PATH": "/bin"}, preferences={"theme": "light"}).unwrap()
    first, second = wp.get_session(one), wp.get_session(two)
    assert (first.environment, first.preferences) == ({"CWD": "/one"}, {"theme": "dark"})
    assert (second.environment, second.preferences) == ({"CWD": "/two", "PATH": "/bin"}, {"theme": "light"})
    assert first.active_workflows == second.active_workflows == ["w"]


def test_workflow_lists_are_what_the_workflows_say(wp: Waypost) -> None:
    """A session's workflows are those that it wrote to, by their present status; deleted ones are not among them."""
    session_id = wp.start_session().session_id
    for name in ("w1", "w2", "w3"):
        wp.create_workflow(name, "W", steps=["a"]).unwrap()
    wp.create_workflow("other", "W", "label").unwrap()
    wp.update_step_status("w1", "a", "completed").unwrap()
    wp.delete_workflow("w3").unwrap()
    state = wp.get_session(session_id)
    assert (state.active_workflows, state.completed_workflows) == (["w2"], ["w1"])
    figures = wp.get_session_statistics(session_id)
    assert (figures.workflow_count, figures.active_workflows, figures.completed_workflows) == (2, 1, 1)
    assert figures.session_duration_ms > 0
    assert figures.last_activity == wp.load_workflow_state("w1").unwrap().metadata.updated_at
    assert wp.create_workflow("other", "W").error is not None  # a write that fails adds nothing
    assert wp.update_step_status("nowhere", "a", "running").error is not None
    assert wp.get_session_statistics(session_id).workflow_count == 2


def test_a_transaction_may_change_a_session_too(wp: Waypost) -> None:
    """Of workflows and a session that are changed in one transaction all is there, or nothing (trap 6)."""
    session_id = wp.start_session().session_id

    def work(tx: waypost.WorkflowTransaction) -> None:
        tx.create_workflow("w", "W")
        tx.update_session(session_id, environment={"done": True})
        assert tx.get_session(session_id).environment == {"done": True}

    def failing(tx: waypost.WorkflowTransaction) -> None:
        tx.update_session(session_id, environment={"done": False})
        tx.delete_workflow("w")
        raise InvalidInput("no")

    wp.transact(work).unwrap()
    assert isinstance(wp.transact(failing).error, InvalidInput)
    state = wp.get_session(session_id)
    assert (state.environment, state.active_workflows) == ({"done": True}, ["w"])


def test_sessions_are_listed_by_what_is_asked_for(wp: Waypost) -> None:
    """The last started comes first; status, user, time and pages narrow the list, and an unknown field is refused."""
    names = [wp.start_session(user).session_id for user in ("a", "b", "a", "a")]
    wp.end_session(names[0]).unwrap()
    wp.pause_session(names[2]).unwrap()
    assert [each.session_id for each in wp.list_sessions()] == names[::-1]
    assert [each.session_id for each in wp.list_sessions(SessionQuery(user_id="a"))] == [names[3], names[2], names[0]]
    assert [each.session_id for each in wp.list_sessions(SessionQuery(status=["paused", "completed"]))] == [
        names[2], names[0]
    ]  # fmt: skip
    page = wp.list_sessions(SessionQuery(limit=3, offset=2))
    assert ([each.session_id for each in page], page.total, page.has_more) == (names[1::-1], 4, False)
    long_ago = datetime.now(UTC) - timedelta(days=1)
    assert wp.list_sessions(SessionQuery(time_range=TimeRange(end=long_ago))).total == 0
    with pytest.raises(InvalidInput):
        wp.list_sessions(SessionQuery(limit=0))
    with pytest.raises(TypeError):
        SessionQuery(owner="x")  # type: ignore[call-arg]


# --- leaving and coming back ---


def test_a_paused_session_is_resumed(wp: Waypost, store: Store) -> None:
    """Nobody enters a paused session to write in its name; whoever resumes it goes on where it was."""
    session_id = wp.start_session("a", {"k": 1}).session_id
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    assert wp.pause_session(session_id).unwrap().status == "paused"
    assert wp.session_id is None
    assert isinstance(wp.update_step_status("w", "a", "running", session_id=session_id).error, SessionPaused)
    assert wp.pause_session(session_id).unwrap().status == "paused"
    other = beside(store)
    resumed = other.resume_session(session_id)
    assert (resumed.status, resumed.environment, resumed.active_workflows) == ("active", {"k": 1}, ["w"])
    other.update_step_status("w", "a", "running").unwrap()
    with pytest.raises(SessionBusy, match="in use"):
        wp.resume_session(session_id)
    assert other.resume_session(session_id).metadata.version == resumed.metadata.version


def test_trap_20_an_ended_session_is_given_as_it_ended(wp: Waypost, store: Store) -> None:
    """Resuming an ended session gives it, whole, and enters nothing: it stays ended, and nobody writes in its name."""
    session_id = wp.start_session("a", {"k": 1}).session_id
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    ended = wp.end_session(session_id).unwrap()
    other = beside(store)
    again = other.resume_session(session_id)
    assert again == other.get_session(session_id) == ended
    assert (again.status, again.environment, other.session_id) == ("completed", {"k": 1}, None)
    for refused in (
        other.update_step_status("w", "a", "running", session_id=session_id),
        other.pause_session(session_id),
        other.update_session(session_id, environment={"k": 2}),
        other.end_session(session_id),
        other.transact(lambda tx: tx.pause_workflow("w"), session_id=session_id),
    ):
        assert isinstance(refused.error, SessionEnded)
    assert other.get_session(session_id) == ended


def test_ending_keeps_what_is_not_done(wp: Waypost) -> None:
    """Workflows of the session that are not completed get a checkpoint, in the commit that ends it."""
    session_id = wp.start_session().session_id
    for name in ("open", "done"):
        wp.create_workflow(name, "W", steps=["a"]).unwrap()
    wp.update_step_status("done", "a", "completed").unwrap()
    before = {name: wp.list_checkpoints(name).total for name in ("open", "done")}
    ended = wp.end_session(session_id, operation_id="end").unwrap()
    assert (ended.status, ended.end_time is not None, ended.owner, wp.session_id) == ("completed", True, None, None)
    newest = wp.list_checkpoints("open")[0]
    assert (newest.type, set(newest.tags), newest.session_id) == ("automatic", {"session_end", session_id}, session_id)
    assert ended.last_checkpoint_id == newest.id
    assert wp.list_checkpoints("done").total == before["done"]
    repeated = wp.end_session(session_id, operation_id="end")
    assert (repeated.success, repeated.unwrap()) == (True, ended)
    assert wp.get_outcome("end").data.session_id == session_id


def test_ending_makes_no_checkpoint_where_none_is_wanted(wp: Waypost) -> None:
    """Without a final checkpoint the workflows keep those that they have."""
    session_id = wp.start_session().session_id
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    before = wp.list_checkpoints("w").total
    wp.end_session(session_id, create_final_checkpoint=False).unwrap()
    assert wp.list_checkpoints("w").total == before


def test_who_worked_for_a_session_cannot_after_its_end(wp: Waypost, store: Store) -> None:
    """A worker that wrote in a session's name before it ended is refused in each workflow that was still open."""
    session_id = wp.start_session().session_id
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    worker = beside(store).in_session(session_id)
    worker.update_step_status("w", "a", "running").unwrap()
    wp.end_session(session_id).unwrap()
    assert isinstance(worker.update_step_status("w", "a", "completed").error, SessionFenced)
    assert isinstance(worker.create_workflow("new", "W").error, SessionEnded)
    assert wp.list_workflows().total == 1


def test_trap_21_nobody_writes_to_what_a_session_had_finished_after_its_end(wp: Waypost, store: Store) -> None:
    """A worker is refused after the end also in workflows that are completed or deleted: the lists stay."""
    session_id = wp.start_session().session_id
    for name in ("done", "gone"):
        wp.create_workflow(name, "W", steps=["a"]).unwrap()
    worker = beside(store).in_session(session_id)
    worker.update_step_status("done", "a", "completed").unwrap()
    worker.delete_workflow("gone").unwrap()
    ended = wp.end_session(session_id).unwrap()
    assert isinstance(worker.reset_step("done", "a").error, SessionFenced)
    assert isinstance(worker.create_workflow("gone", "W").error, SessionFenced)
    now = wp.get_session(session_id)
    assert (now.active_workflows, now.completed_workflows) == (ended.active_workflows, ended.completed_workflows)
    assert now.completed_workflows == ["done"]


def test_resuming_what_never_was_is_told(wp: Waypost) -> None:
    """There is no session to resume, end, pause, change or describe, and none is made."""
    for call in (wp.resume_session, wp.get_session, wp.get_session_statistics):
        with pytest.raises(SessionNotFound, match="no session 'nowhere'"):
            call("nowhere")
    for result in (wp.end_session("nowhere"), wp.pause_session("nowhere"), wp.update_session("nowhere")):
        assert isinstance(result.error, SessionNotFound)
        assert result.status == "rolled_back"
    assert wp.list_sessions().total == 0


# --- taking over ---


def test_c09_whoever_was_taken_over_from_writes_no_more(wp: Waypost, store: Store) -> None:
    """After a takeover the old owner is refused, in workflows that he had and in new ones, again and again."""
    session_id = wp.start_session().session_id
    wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
    other = beside(store)
    other.resume_session(session_id, take_over=True)
    version = wp.load_workflow_state("w").unwrap().metadata.version
    for _ in range(2):
        for refused in (
            wp.update_step_status("w", "a", "running"),
            wp.create_workflow("new", "W"),
            wp.delete_workflow("w"),
            wp.transact(lambda tx: tx.update_step_status("w", "a", "running")),
        ):
            assert isinstance(refused.error, SessionFenced)
            assert refused.status == "rolled_back"
    assert wp.load_workflow_state("w").unwrap().metadata.version == version
    assert wp.list_workflows().total == 1
    other.update_step_status("w", "a", "running").unwrap()
    wp.update_step_status("w", "b", "skipped", session_id="label").unwrap()  # what names another session is free


def test_trap_21_closing_leaves_what_was_taken_over_to_its_new_owner(wp: Waypost, store: Store) -> None:
    """A handle that is closed does not pause the session that another of the same process took over from it."""
    session_id = wp.start_session().session_id
    other = beside(store)
    other.resume_session(session_id, take_over=True)
    wp.definitions.sessions.close()
    assert other.get_session(session_id).status == "active"
    assert other.create_workflow("w", "W").success
    assert store.holder(DocumentId("session", session_id)) is not None


def test_c09_a_fence_outlives_the_workflow(wp: Waypost, store: Store) -> None:
    """Who was fenced off cannot make a workflow anew that the new owner has deleted."""
    session_id = wp.start_session().session_id
    wp.create_workflow("w", "W").unwrap()
    other = beside(store)
    other.resume_session(session_id, take_over=True)
    other.delete_workflow("w").unwrap()
    assert isinstance(wp.create_workflow("w", "W").error, SessionFenced)
    assert other.create_workflow("w", "W").success


def test_c09_an_announced_workflow_is_fenced_before_it_is_there(wp: Waypost, store: Store) -> None:
    """A workflow that the old owner had announced, and not made, cannot be made by him after the takeover."""
    session_id = wp.start_session().session_id
    failed = wp.update_step_status("w", "a", "running")
    assert failed.error is not None
    other = beside(store)
    other.resume_session(session_id, take_over=True)
    assert isinstance(wp.create_workflow("w", "W").error, SessionFenced)
    assert (wp.list_workflows().total, other.get_session(session_id).active_workflows) == (0, [])
    assert other.create_workflow("w", "W").success


def test_s05_an_operation_that_was_done_is_found_again_by_who_was_fenced_off(wp: Waypost, store: Store) -> None:
    """A write that is repeated gives its first result, also to one who may write no more."""
    session_id = wp.start_session().session_id
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    first = wp.update_step_status("w", "a", "completed", 1, operation_id="op").unwrap()
    beside(store).resume_session(session_id, take_over=True)
    repeated = wp.update_step_status("w", "a", "completed", 1, operation_id="op")
    assert (repeated.unwrap(), getattr(repeated, "repeated", None)) == (first, True)
    assert isinstance(wp.add_step_output("w", "a", 2).error, SessionFenced)


def test_c10_a_session_is_left_while_others_write(wp: Waypost) -> None:
    """Threads that write in a session's name to new workflows do not make leaving another one fail."""
    held = wp.definitions.sessions.held
    wp.start_session()
    held._announced.update(("another", str(number)) for number in range(20_000))
    done, failures = threading.Event(), list[Exception]()

    def leave() -> None:
        try:
            while not done.is_set():
                held.forget("left")
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=leave)
    thread.start()
    for number in range(50):
        wp.create_workflow(f"w{number}", "W").unwrap()
    done.set()
    thread.join()
    assert failures == []


def test_a_worker_enters_a_session_that_was_taken_over_anew(wp: Waypost, store: Store) -> None:
    """Binding a handle again lets a worker write under the new owner; the old owner has to resume."""
    session_id = wp.start_session().session_id
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    third = beside(store)
    worker = third.in_session(session_id)
    worker.update_step_status("w", "a", "running").unwrap()
    owner = beside(store)
    owner.resume_session(session_id, take_over=True)
    assert isinstance(worker.add_step_output("w", "a", 1).error, SessionFenced)
    third.in_session(session_id).add_step_output("w", "a", 1).unwrap()
    assert isinstance(wp.in_session(session_id).add_step_output("w", "a", 2).error, SessionFenced)
    wp.resume_session(session_id, take_over=True)
    wp.add_step_output("w", "a", 2).unwrap()


# --- both faces, closing, restoring ---


async def test_the_asynchronous_face_does_the_same(awp: AsyncWaypost) -> None:
    """Sessions work awaited as they do blocking."""
    session = await awp.start_session("a", {"k": 1})
    (await awp.create_workflow("w", "W", steps=["a"])).unwrap()
    (await awp.in_session(session.session_id).update_step_status("w", "a", "running")).unwrap()
    assert [entry.session_id for entry in await awp.history("w")] == [session.session_id] * 2
    assert (await awp.get_session(session.session_id)).active_workflows == ["w"]
    assert (await awp.pause_session(session.session_id)).unwrap().status == "paused"
    assert (await awp.resume_session(session.session_id)).status == "active"
    assert (await awp.end_session(session.session_id)).unwrap().status == "completed"
    assert [each.session_id for each in await awp.list_sessions()] == [session.session_id]
    assert await awp.detect_and_recover_crashed_sessions() == []


def test_closing_pauses_what_is_held(tmp_path: Path) -> None:
    """A program that closes its handle without ending its session is not taken for one that died."""
    with opened(tmp_path / "state") as wp:
        session_id = wp.start_session().session_id
        wp.create_workflow("w", "W", steps=["a"]).unwrap()
    with opened(tmp_path / "state") as wp:
        assert wp.get_session(session_id).status == "paused"
        assert wp.detect_and_recover_crashed_sessions() == []
        assert wp.resume_session(session_id).active_workflows == ["w"]
    assert list((tmp_path / "state" / "owners").iterdir()) == []


def test_what_tells_of_sessions_does_not_come_back_with_a_checkpoint(wp: Waypost, store: Store) -> None:
    """Going back to a version from before a takeover does not let the old owner in again."""
    session_id = wp.start_session().session_id
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    kept = wp.create_checkpoint("w").unwrap()
    other = beside(store)
    other.resume_session(session_id, take_over=True)
    other.restore_from_checkpoint(kept.id).unwrap()
    assert isinstance(wp.update_step_status("w", "a", "running").error, SessionFenced)


def test_a_session_of_a_newer_release_is_refused(wp: Waypost, store: Store) -> None:
    """What a newer release laid out otherwise is not guessed at, and not changed."""
    session_id = wp.start_session().session_id
    document = DocumentId("session", session_id)
    data = store.view(document).get("session")
    assert data is not None

    def newer(tx: Any) -> None:
        tx.put("session", data.replace(b"1.0.0", b"9.0.0"))

    store.submit(waypost.store.Change(document, newer, "op", "test")).result()  # type: ignore[attr-defined]
    with pytest.raises(waypost.UnsupportedFormat, match=r"9\.0\.0"):
        wp.get_session(session_id)
    assert wp.list_sessions().total == 0


def test_a_context_keeps_what_it_was_given(wp_with: Callable[..., Waypost]) -> None:
    """A workflow's context names the session that made it, whatever the context that is given says."""
    wp = wp_with()
    session_id = wp.start_session("a").session_id
    state = wp.create_workflow("w", "W", context=WorkflowContext(user_id="u", session_id="x")).unwrap()
    assert (state.context.session_id, state.context.user_id) == (session_id, "u")
