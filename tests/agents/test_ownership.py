"""Whose session it is: the agent's process owns it, and what comes after its end, its death, or beside it."""

from __future__ import annotations

import pytest

from tests.agents.support import (
    SESSION,
    WORKFLOW,
    Feeder,
    agent,
    bash,
    ended,
    kill,
    payload,
    prompted,
    started,
    stopped,
    variables_of,
)
from waypost.agents.conversations import INTERRUPTED
from waypost.blocking import Waypost
from waypost.errors import SessionBusy

OTHER = "5f0c1a52-0f8e-4b6b-9d3e-1f6f7a1f0002"


@pytest.fixture
def feed(wp: Waypost) -> Feeder:
    return Feeder(wp)


def test_the_agents_process_owns_its_session(wp: Waypost, feed: Feeder) -> None:
    """While the agent's process is there its session is alive, and nobody else may have it."""
    with agent() as process:
        feed(started(), prompted(), bash(1, "npm test"), variables=variables_of(process.pid))
        session = wp.get_session(SESSION)
        assert session.owner is not None and session.presence is not None
        assert (session.owner.pid, session.presence.state) == (process.pid, "alive")
        assert wp.load_workflow_state(WORKFLOW).unwrap().step("toolu_1").owner == session.owner
        with pytest.raises(SessionBusy):
            wp.resume_session(SESSION)


def test_a_killed_agents_session_shows_as_crashed(wp: Waypost, feed: Feeder) -> None:
    """SIGKILL leaves no event: the process is the evidence, and what it was running is ambiguous."""
    with agent() as process:
        feed(started(), prompted(), bash(1, "npm test"), variables=variables_of(process.pid))
        kill(process)
    session = wp.get_session(SESSION)
    assert (session.status, session.presence is not None) == ("crashed", True)
    assert session.presence is not None
    assert f"process {process.pid} " in session.presence.evidence
    assert "there is no such process any more" in session.presence.evidence
    (plan,) = wp.detect_and_recover_crashed_sessions()
    assert plan.workflows[0].ambiguous == [f"turn-{prompted()['prompt_id']}", "toolu_1"]


def test_resuming_after_a_crash_is_the_next_tenure(wp: Waypost, feed: Feeder) -> None:
    """The next process of a conversation records the crash of the last, goes on in the same session, and closes what
    the dead one was running.
    """
    with agent() as first, agent() as second:
        feed(started(), prompted(), bash(1, "npm test"), variables=variables_of(first.pid))
        kill(first)
        feed(started("resume"), variables=variables_of(second.pid))
        session = wp.get_session(SESSION)
        assert (session.status, session.owner is not None) == ("active", True)
        assert session.owner is not None and session.owner.pid == second.pid
        found = session.crash_recovery_data
        assert found is not None
        assert f"process {first.pid} " in found.error
        assert list(found.ambiguous_steps[WORKFLOW]) == [f"turn-{prompted()['prompt_id']}", "toolu_1"]
        step = wp.load_workflow_state(WORKFLOW).unwrap().step("toolu_1")
        assert (step.status, step.error) == ("failed", f"{INTERRUPTED}the agent's process died")
        feed(prompted("Again", "p2"), stopped(prompt="p2"), ended(), variables=variables_of(second.pid))
    assert wp.get_session(SESSION).status == "completed"
    assert len(wp.list_sessions().items) == 1


def test_an_event_of_another_process_shows_that_the_owner_died(wp: Waypost, feed: Feeder) -> None:
    """Where the SessionStart of a resumed conversation never came, its next event begins the tenure."""
    with agent() as first, agent() as second:
        feed(started(), variables=variables_of(first.pid))
        kill(first)
        feed(prompted(), variables=variables_of(second.pid))
        session = wp.get_session(SESSION)
        assert session.owner is not None and session.owner.pid == second.pid
        assert session.crash_recovery_data is not None


def test_a_late_event_of_a_dead_owner_takes_nothing_over(wp: Waypost, feed: Feeder) -> None:
    """What a dead process had said is taken in after the next one began, and changes no owner."""
    with agent() as first, agent() as second:
        feed(started(), variables=variables_of(first.pid))
        late = variables_of(first.pid)
        kill(first)
        feed(started("resume"), variables=variables_of(second.pid))
        feed(bash(1, "late"), variables=late)
        session = wp.get_session(SESSION)
        assert session.owner is not None and session.owner.pid == second.pid
    assert wp.load_workflow_state(WORKFLOW).unwrap().step("toolu_1").name == "Bash: late"


def test_all_of_it_may_be_taken_in_long_after(wp: Waypost, feed: Feeder) -> None:
    """Two processes of a conversation, both dead by the time that anyone opens the store: the last owns it, crashed."""
    with agent() as first, agent() as second:
        one, two = variables_of(first.pid), variables_of(second.pid)
        kill(first)
        kill(second)
    feed(started(), prompted(), variables=one)
    feed(started("resume"), prompted("Again", "p2"), variables=two)
    feed(bash(1, "late"), variables=one)
    session = wp.get_session(SESSION)
    assert (session.status, session.owner is not None and session.owner.pid == second.pid) == ("crashed", True)


def test_a_pid_that_was_used_again_is_another_process(wp: Waypost, feed: Feeder) -> None:
    """A living process of the owner's pid that started at another time is not the owner."""
    with agent() as process:
        start = int(variables_of(process.pid)["agent_start"])
        feed(started(), variables=variables_of(process.pid, start=start - 1))
        assert wp.get_session(SESSION).status == "crashed"
        feed(prompted(), variables=variables_of(process.pid))
        assert wp.get_session(SESSION).status == "active"


def test_two_processes_in_one_conversation(wp: Waypost, feed: Feeder) -> None:
    """A second process beside a living owner takes nothing from it."""
    with agent() as first, agent() as second:
        feed(started(), variables=variables_of(first.pid))
        feed(started("resume"), prompted(), ended(), variables=variables_of(second.pid))
        session = wp.get_session(SESSION)
        assert session.owner is not None
        assert (session.status, session.owner.pid) == ("active", first.pid)


# --- after an end ---


def test_resuming_after_an_end_is_the_next_attempt(wp: Waypost, feed: Feeder) -> None:
    """A conversation that has ended goes on in a session of its own, linked to the last; its workflow stays."""
    with agent() as process:
        mine = variables_of(process.pid)
        feed(started(), prompted(), stopped(), ended(), variables=mine)
        feed(started("resume"), started("resume"), prompted("Again", "p2"), variables=mine)
        feed(ended(), started("resume"), variables=mine)
    names = [one.session_id for one in wp.list_sessions()]
    assert sorted(names) == [SESSION, f"{SESSION}.2", f"{SESSION}.3"]
    third = wp.get_session(f"{SESSION}.3")
    assert third.environment["predecessor"] == f"{SESSION}.2"
    assert third.active_workflows == [WORKFLOW]


def test_a_late_event_of_an_ended_session_is_taken_in_nobodys_name(wp: Waypost, feed: Feeder) -> None:
    """It is kept in the workflow, and the session stays ended."""
    feed(started(), prompted(), ended(), bash(1, "late"))
    assert wp.get_session(SESSION).status == "completed"
    assert wp.load_workflow_state(WORKFLOW).unwrap().step("toolu_1").name == "Bash: late"
    assert wp.history(WORKFLOW)[0].session_id is None


def test_an_end_ends_once(wp: Waypost, feed: Feeder) -> None:
    """The second delivery of an end changes nothing, also after the next attempt has begun."""
    with agent() as first, agent() as second:
        feed(started(), variables=variables_of(first.pid))
        feed(ended(), seconds=10, variables=variables_of(first.pid))
        feed(started("resume"), variables=variables_of(second.pid))
        feed(ended(), seconds=11, variables=variables_of(first.pid))
        assert wp.get_session(f"{SESSION}.2").status == "active"


def test_clearing_links_to_the_session_before(wp: Waypost, feed: Feeder) -> None:
    """`/clear` ends a session and begins another in the same process, which names it as its predecessor."""
    with agent() as process, agent() as beside:
        third = "5f0c1a52-0f8e-4b6b-9d3e-1f6f7a1f0003"
        feed(started() | {"session_id": third}, variables=variables_of(beside.pid))
        feed(ended() | {"session_id": third}, variables=variables_of(beside.pid))
        feed(started(), ended("clear"), variables=variables_of(process.pid))
        feed(started("clear") | {"session_id": OTHER}, variables=variables_of(process.pid))
        assert wp.get_session(OTHER).environment["predecessor"] == SESSION
        assert wp.get_session(OTHER).status == "active"


def test_a_fork_is_a_session_of_its_own(wp: Waypost, feed: Feeder) -> None:
    """A fork has an id of its own, and nobody tells where it comes from."""
    with agent() as process:
        feed(started(), variables=variables_of(process.pid))
        feed(started("fork") | {"session_id": OTHER}, variables=variables_of(process.pid))
    assert "predecessor" not in wp.get_session(OTHER).environment


# --- without a process ---


def test_an_agent_that_names_no_process_is_never_crashed(wp: Waypost, feed: Feeder) -> None:
    """Codex tells no process: nobody owns the session, and it goes on whoever calls."""
    turn = {"turn_id": "t1", "model": "gpt-5", "hook_event_name": "UserPromptSubmit", "prompt": "Go"}
    feed({"session_id": SESSION, "cwd": "/x", "transcript_path": None, **turn}, dialect="codex")
    session = wp.get_session(SESSION)
    assert (session.status, session.presence) == ("active", None)
    assert session.environment["resume_command"] == f"codex resume {SESSION}"
    assert wp.load_workflow_state(f"codex-{SESSION}").unwrap().step("turn-t1").output == {"prompt": "Go"}


@pytest.mark.parametrize("lacking", ["CLAUDE_PID", "agent_start", "boot"])
def test_a_process_that_is_half_known_owns_nothing(wp: Waypost, feed: Feeder, lacking: str) -> None:
    """Without start time or boot a pid may be anybody's."""
    with agent() as process:
        variables = variables_of(process.pid) | {lacking: ""}
        feed(started(), variables=variables)
    assert wp.get_session(SESSION).owner is None


def test_a_process_is_learned_later(wp: Waypost, feed: Feeder) -> None:
    """A session that was begun without a process is owned by the first that is named."""
    with agent() as process:
        feed(prompted())
        feed(payload("Notification", message="x"), variables=variables_of(process.pid))
        owner = wp.get_session(SESSION).owner
        assert owner is not None and owner.pid == process.pid
