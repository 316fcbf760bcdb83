"""What an agent does becomes workflows: conversations, turns, tools, subagents, tasks, slash commands."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

from tests.agents.support import (
    PROMPT,
    SESSION,
    T0_US,
    WORKFLOW,
    Feeder,
    bash,
    bash_done,
    bash_failed,
    batch,
    ended,
    entry,
    one_real_run,
    payload,
    prompted,
    started,
    stopped,
    subagent_started,
    subagent_stopped,
)
from tests.conftest import make_config
from tests.seeds import SEED
from waypost import clock
from waypost.agents.conversations import INTERRUPTED, MOST_NOTES
from waypost.agents.taking import take
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.models import WorkflowState, WorkflowStep
from waypost.store import open_store

TURN = f"turn-{PROMPT}"
AGENT = "a6c2c6a02c662bfe8"


@pytest.fixture
def feed(wp: Waypost) -> Feeder:
    return Feeder(wp)


def state_of(wp: Waypost, workflow_id: str = WORKFLOW) -> WorkflowState:
    return wp.load_workflow_state(workflow_id).unwrap()


def seen(step: WorkflowStep) -> tuple[Any, ...]:
    """All that is known of a step, however it came to be known."""
    return (step.id, step.name, step.status, step.error, step.start_time, step.end_time, step.agent_id, step.output)


def in_memory() -> Waypost:
    config = make_config()
    return Waypost(Definitions(open_store("memory:", config), config, verbose=False))


# --- what becomes of it ---


def test_a_real_run_becomes_a_workflow(wp: Waypost, feed: Feeder) -> None:
    """Turn, tools, subagent and task of a run are steps with their outputs, and nothing is left open."""
    feed(*one_real_run())
    state = state_of(wp)
    assert (state.workflow.name, len(state.workflow.steps)) == ("Mend the parser", 7)
    turn = state.step(TURN)
    assert (turn.status, turn.output) == ("completed", {"prompt": "Mend the parser", "message": "All done."})
    done = state.step("toolu_1")
    assert (done.name, done.status) == ("Bash: echo 1", "completed")
    assert done.output["response"]["stdout"] == "hi"
    assert wp.get_step_output(WORKFLOW, "toolu_1", 1).output == {"tool": "Bash", "input": {"command": "echo 1"}}
    failed = state.step("toolu_2")
    assert (failed.status, failed.error, failed.max_retries) == ("failed", "Exit code 3", 1)
    inner = state.step("toolu_4")
    assert inner.agent_id == AGENT
    assert (state.agents[AGENT].name, state.agents[AGENT].status) == ("general-purpose", "idle")
    assert state.step(f"agent-{AGENT}").output == {"message": "subagent done: 42"}
    assert state.step("task-1").status == "completed"
    assert [each.tags for each in wp.list_checkpoints(WORKFLOW) if each.type == "automatic"] == [
        ("session_end", SESSION),
        ("turn",),
    ]
    assert wp.validate_workflow_state(WORKFLOW).is_valid
    session = wp.get_session(SESSION)
    assert (session.status, session.environment["resume_command"]) == ("completed", f"claude --resume {SESSION}")


def test_a_failed_call_fails_no_workflow(wp: Waypost, feed: Feeder) -> None:
    """After a turn with a failed call the workflow waits for the next prompt; a new prompt sets it going."""
    feed(started(), prompted(), bash(1, "exit 3"), bash_failed(1, "exit 3"), stopped())
    assert state_of(wp).workflow.status == "paused"
    feed(prompted("Again", "p2"))
    assert state_of(wp).workflow.status == "running"


def test_a_turn_with_nothing_left_is_completed(wp: Waypost, feed: Feeder) -> None:
    """A turn that leaves nothing open leaves a workflow that is completed."""
    feed(started(), prompted(), bash(1, "a"), bash_done(1, "a"), stopped())
    assert state_of(wp).workflow.status == "completed"


def test_what_runs_in_the_background_keeps_a_workflow_open(wp: Waypost, feed: Feeder) -> None:
    """A turn that leaves something running is paused, not done, until a turn ends without it."""
    task = {"id": "b1", "type": "shell", "status": "running", "description": "dev server"}
    feed(started(), prompted(), stopped(tasks=[task]))
    state = state_of(wp)
    assert (state.workflow.status, state.step("background-b1").status) == ("paused", "running")
    feed(stopped("And now", stop_hook_active=True))
    state = state_of(wp)
    assert (state.workflow.status, state.step("background-b1").status) == ("completed", "completed")
    assert state.step(TURN).output["message"] == "And now"


def test_a_turn_may_fail_and_be_tried_again(wp: Waypost, feed: Feeder) -> None:
    """StopFailure fails the turn with its error, and no more than that."""
    failure = payload("StopFailure", error="rate_limit", error_details="try later", last_assistant_message="")
    feed(started(), prompted(), failure)
    turn = state_of(wp).step(TURN)
    assert (turn.status, turn.error) == ("failed", "rate_limit: try later")
    assert state_of(wp).workflow.status == "paused"
    feed(stopped("It went on"))
    assert state_of(wp).step(TURN).status == "completed"


def test_a_slash_command_is_a_workflow_of_its_own(wp: Waypost, feed: Feeder) -> None:
    """The steps of its prompt are there; those of the next prompt are in the conversation again."""
    expansion = payload(
        "UserPromptExpansion",
        expansion_type="slash_command",
        command_name="team:review",
        command_args="src --deep",
        command_source="project",
    )
    feed(started(), {**expansion, "prompt": "/team:review src --deep"}, prompted("/team:review src --deep"))
    feed(bash(1, "a"), bash_done(1, "a"), subagent_started(), subagent_stopped(), stopped("reviewed"))
    feed(prompted("Thanks", "p2"), {**bash(2, "b"), "prompt_id": "p2"})
    name = f"{WORKFLOW}-team:review-{PROMPT}"
    command = state_of(wp, name)
    assert (command.workflow.name, command.workflow.status) == ("/team:review src --deep", "completed")
    assert [step.id for step in command.workflow.steps] == [TURN, "toolu_1", f"agent-{AGENT}"]
    assert command.step(TURN).output == {"command": "team:review", "arguments": "src --deep", "message": "reviewed"}
    assert [step.id for step in state_of(wp).workflow.steps] == [TURN, "turn-p2", "toolu_2"]
    feed(ended())
    assert sorted(wp.get_session(SESSION).completed_workflows) == [name]


def test_checkpoints_are_made_before_compaction_and_at_stops(wp: Waypost, feed: Feeder) -> None:
    """PreCompact and Stop each make one checkpoint, of the state as it is then."""
    feed(started(), prompted(), payload("PreCompact", trigger="auto", custom_instructions=""), stopped())
    tags = [each.tags for each in wp.list_checkpoints(WORKFLOW) if each.type == "automatic"]
    assert tags == [("turn",), ("compaction",)]


def test_compaction_begins_no_session(wp: Waypost, feed: Feeder) -> None:
    """A SessionStart after compaction, and the summary, are notes."""
    feed(started(), prompted(), started("compact"), payload("PostCompact", trigger="auto", compact_summary="so far"))
    assert [one.session_id for one in wp.list_sessions()] == [SESSION]
    notes = state_of(wp).context.variables["notes"]
    assert [each[1:] for each in notes] == [["SessionStart", "compact"], ["PostCompact", "so far"]]


def test_a_title_names_the_conversation(wp: Waypost, feed: Feeder) -> None:
    """A session's title is its name whenever it comes; without one the first prompt is, cut to one line."""
    feed(started(), prompted("Mend\x1b[31m the\nparser " + "x" * 100))
    name = state_of(wp).workflow.name
    assert name.startswith("Mend [31m the parser xxx")
    assert (len(name), name[-1]) == (60, "…")
    feed(prompted("Second", "p2"))
    assert state_of(wp).workflow.name == name
    feed(started("resume", session_title="The parser"), prompted("Third", "p3"))
    assert state_of(wp).workflow.name == "The parser"


def test_a_denied_call_has_failed(wp: Waypost, feed: Feeder) -> None:
    """A call that is not permitted has failed, with the reason."""
    feed(started(), bash(1, "rm -rf /"), payload("PermissionDenied", tool_use_id="toolu_1", reason="no"))
    step = state_of(wp).step("toolu_1")
    assert (step.name, step.status, step.error) == ("Bash: rm -rf /", "failed", "denied: no")


# --- ends that never come ---


def test_what_runs_when_a_session_ends_is_interrupted(wp: Waypost, feed: Feeder) -> None:
    """A session that is ended during a call leaves that failed as interrupted; its own end still counts after that."""
    feed(started(), prompted(), bash(1, "sleep 9"), ended())
    step = state_of(wp).step("toolu_1")
    assert (step.status, step.error) == ("failed", f"{INTERRUPTED}the session ended (other)")
    feed(bash_done(1, "sleep 9"), seconds=3.5)
    assert (state_of(wp).step("toolu_1").status, state_of(wp).step("toolu_1").error) == ("completed", None)


def test_orphans_are_taken(wp: Waypost, feed: Feeder) -> None:
    """Ends without starts, of a session that nobody has started: all are kept, none is an error."""
    feed(bash_done(1, "a"), subagent_stopped("b1"), stopped(), payload("TaskCompleted", task_id="7", task_subject="T"))
    state = state_of(wp)
    assert {step.id: step.status for step in state.workflow.steps} == dict.fromkeys(
        ("toolu_1", "agent-b1", TURN, "task-7"), "completed"
    )
    assert state.agents["b1"].status == "idle"
    assert wp.get_session(SESSION).status == "active"


def test_unknown_events_are_notes_and_notes_are_bounded(wp: Waypost, feed: Feeder) -> None:
    """Events of newer versions are noted, whatever their fields hold; of many notes the newest stay."""
    feed(started(), payload("BrandNewEvent", tool_input=[1], message="x" * 10_000, nested={"a": [None]}))
    for number in range(MOST_NOTES):
        feed(payload("Notification", message=f"note {number}"))
    notes = state_of(wp).context.variables["notes"]
    assert [each[2] for each in notes] == [f"note {number}" for number in range(MOST_NOTES)]
    assert all(len(each[2]) <= 500 for each in notes)


def test_fields_of_another_type_are_as_if_missing(wp: Waypost, feed: Feeder) -> None:
    """A field that holds something else than it should keeps no event from being taken."""
    feed(
        {**started(), "source": 7, "session_title": []},
        {**prompted(), "prompt": {"text": "?"}},
        payload("PostToolUse", tool_name=5, tool_input="text", tool_use_id="toolu_1", duration_ms="long"),
        payload("PostToolBatch", tool_calls=[1, {"tool_use_id": 3}, {"tool_use_id": "toolu_2"}]),
        stopped() | {"background_tasks": "none"},
    )
    steps = {step.id: (step.name, step.status) for step in state_of(wp).workflow.steps}
    assert steps["toolu_1"] == ("tool", "completed")
    assert steps["toolu_2"] == ("tool", "completed")


# --- in any order, each once ---


def test_events_act_once(wp: Waypost, feed: Feeder) -> None:
    """The same hook in the settings and in a plugin runs twice; each event acts once, whenever its twin comes."""
    for each in one_real_run():
        feed(each, seconds=feed.number // 2)
        feed(each, seconds=(feed.number - 1) // 2 + 0.5)
    once = in_memory()
    for number, each in enumerate(one_real_run()):
        Feeder(once)(each, seconds=number)
    assert [seen(step) for step in state_of(wp).workflow.steps] == [
        seen(step) for step in state_of(once).workflow.steps
    ]
    assert len(wp.list_checkpoints(WORKFLOW).items) == len(once.list_checkpoints(WORKFLOW).items)
    assert len(state_of(wp).context.variables["notes"]) == 1
    for step in state_of(wp).workflow.steps:
        assert step.output_version == state_of(once).step(step.id).output_version


def test_an_event_that_names_nothing_may_come_again_later(wp: Waypost, feed: Feeder) -> None:
    """Two equal notifications within two seconds are one, later they are two."""
    waiting = payload("Notification", message="waiting")
    feed(waiting, seconds=1)
    feed(waiting, seconds=2.9)
    feed(waiting, seconds=6)
    assert len(state_of(wp).context.variables["notes"]) == 2


ANY_ORDER = [
    [started(), bash(1, "echo 1"), bash_done(1, "echo 1"), batch(1, response="flat")],
    [bash(1, "echo 1"), bash_failed(1, "echo 1"), batch(1)],
    [bash(1, "echo 1"), bash_done(1, "echo 1"), ended()],
    [bash(1, "echo 1"), bash_done(1, "echo 1"), bash_failed(1, "echo 1")],
    [prompted(), bash(1, "echo 1"), stopped(), ended()],
    [subagent_started(), bash_done(1, "echo 1", agent_id=AGENT), subagent_stopped(), ended()],
    [payload("TaskCreated", task_id="1", task_subject="T"), payload("TaskCompleted", task_id="1", task_subject="T")],
    [
        prompted(),
        stopped(tasks=[{"id": "b", "type": "shell", "description": "d"}]),
        stopped("two", stop_hook_active=True),
    ],
]


@pytest.mark.parametrize("events", ANY_ORDER, ids=lambda events: "-".join(each["hook_event_name"] for each in events))
def test_order_does_not_matter(events: list[dict[str, Any]]) -> None:
    """Whatever the order of arrival, the steps are the same in the end."""
    outcomes: dict[str, list[list[int]]] = {}
    for order in itertools.permutations(range(len(events))):
        wp = in_memory()
        for number in order:
            take(wp.definitions, entry(events[number], number))
        state = state_of(wp)
        found = sorted(seen(step) for step in state.workflow.steps)
        agents = [(agent.id, agent.status) for agent in state.agents.values()]
        outcome = repr((_sorted_keys(found), agents, state.workflow.paused, state.workflow.name))
        outcomes.setdefault(outcome, []).append(list(order))
        wp.close()
    assert len(outcomes) == 1, "\n".join(f"{orders[:3]}: {outcome}" for outcome, orders in outcomes.items())


def test_a_whole_run_may_be_shuffled() -> None:
    """A real run in 20 random orders leads to the same steps."""
    print(f"WAYPOST_TEST_SEED={SEED}")
    shuffler = random.Random(SEED)
    events = one_real_run()
    wanted: str | None = None
    for _ in range(20):
        wp = in_memory()
        for number in range(len(events)) if wanted is None else shuffler.sample(range(len(events)), len(events)):
            take(wp.definitions, entry(events[number], number))
        found = repr(_sorted_keys(sorted(seen(step) for step in state_of(wp).workflow.steps)))
        wanted = found if wanted is None else wanted
        assert found == wanted
        wp.close()


def _sorted_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted_keys(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_sorted_keys(each) for each in value]
    return value


def test_times_are_those_of_the_hooks(wp: Waypost, feed: Feeder) -> None:
    """A step begins and ends when its hooks ran, not when they were taken in; a duration tells an unseen start."""
    feed(bash(1, "a"), seconds=10)
    feed(bash_done(1, "a"), seconds=12)
    feed(bash_done(2, "b"), seconds=20)
    first, second = state_of(wp).step("toolu_1"), state_of(wp).step("toolu_2")
    assert first.start_time == clock.to_datetime(T0_US + 10_000_000)
    assert first.end_time == clock.to_datetime(T0_US + 12_000_000)
    assert second.start_time == clock.to_datetime(T0_US + 20_000_000 - 113_000)


# --- large values, redaction ---


def test_large_values_are_kept_whole(wp: Waypost, feed: Feeder) -> None:
    """What a tool gave is the newest output, of any size that a hook takes; the step itself stays small."""
    text = "0123456789" * 300_000
    feed(bash_done(1, "x" * 100_000) | {"tool_response": {"stdout": text}})
    step = state_of(wp).step("toolu_1")
    assert len(step.name) == 80
    assert step.output["response"]["stdout"] == text
    assert wp.get_step_output(WORKFLOW, "toolu_1", 1).output["input"]["command"] == "x" * 100_000


def test_redaction_applies_to_what_agents_say() -> None:
    """What stands at a path that is redacted is never stored, also of an agent."""
    config = make_config({"security": {"redact": ["outputs.*.**.token", "steps.*.name"]}})
    wp = Waypost(Definitions(open_store("memory:", config), config, verbose=False))
    given = payload("PostToolUse", tool_name="Web", tool_input={"token": "s3cret"}, tool_use_id="t", tool_response="ok")
    Feeder(wp)(given)
    assert wp.get_step_output(WORKFLOW, "t", 1).output["input"] == {"token": "[redacted]"}
    assert state_of(wp).step("t").name == "[redacted]"
    assert "s3cret" not in json.dumps(repr(state_of(wp)))


# --- what a user takes out ---


def test_a_turn_whose_output_was_erased_comes_to_its_end(wp: Waypost, feed: Feeder) -> None:
    """A prompt that should not have been kept is erased while the agent works on it; the events behind it are taken."""
    feed(started(), prompted("my password is hunter2"))
    wp.erase(WORKFLOW, f"outputs.{TURN}").unwrap()
    feed(prompted("again"), stopped("All done."))
    step = state_of(wp).step(TURN)
    assert (step.status, step.output) == ("completed", {"message": "All done."})


def test_a_command_whose_workflow_was_deleted_stays_deleted(wp: Waypost, feed: Feeder) -> None:
    """Neither the end of the session nor its next start makes it anew, for nothing is told of it."""
    feed(started(), prompted())
    feed(payload("UserPromptExpansion", expansion_type="slash_command", command_name="fix", command_args=""), stopped())
    (name,) = (each.id for each in wp.list_workflows().items if each.id != WORKFLOW)
    wp.delete_workflow(name).unwrap()
    feed(ended(), started("resume"))
    assert [each.id for each in wp.list_workflows().items] == [WORKFLOW]
