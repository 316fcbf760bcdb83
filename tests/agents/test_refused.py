"""What cannot be used is refused with a reason, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.agents.support import (
    SESSION,
    WORKFLOW,
    Feeder,
    bash,
    bash_done,
    ended,
    entry,
    payload,
    prompted,
    started,
    stopped,
)
from tests.conftest import make_config
from tests.seeds import SEED
from waypost.agents.dialects import read
from waypost.agents.taking import take
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import InvalidInput, WaypostError
from waypost.hooks.entries import Cut
from waypost.store import open_store

BAD = {
    b"": "no JSON",
    b"not json": "no JSON",
    b'{"session_id": "s", "hook_event_name": "Stop", "las': "no JSON",
    b"[1]": "is a JSON object",
    b"null": "is a JSON object",
    b'{"hook_event_name": "Stop"}': "without session_id",
    b'{"session_id": "s"}': "without hook_event_name",
    b'{"session_id": 7, "hook_event_name": "Stop"}': "is a text",
    b'{"session_id": "", "hook_event_name": "Stop"}': "is not empty",
    b'{"session_id": "a\\u0000b", "hook_event_name": "Stop"}': "control character",
    b'{"session_id": "s", "hook_event_name": "PreToolUse"}': "without tool_use_id",
    b'{"session_id": "s", "hook_event_name": "PreToolUse", "tool_use_id": "a\\u001fb"}': "control character",
    b'{"session_id": "s", "hook_event_name": "SubagentStop"}': "without agent_id",
    b'{"session_id": "s", "hook_event_name": "TaskCreated", "task_id": 3}': "without task_id",
    b'{"session_id": "s", "hook_event_name": "Stop", "x": NaN}': "no JSON",
    b"\xff\xfe": "no JSON",
    b'{"a":' * 100_000: "no JSON",
}


@pytest.fixture
def wp() -> Waypost:
    config = make_config()
    return Waypost(Definitions(open_store("memory:", config), config, verbose=False))


@pytest.mark.parametrize("data", BAD, ids=lambda data: repr(data[:60]))
def test_what_cannot_be_used_is_refused_with_a_reason(wp: Waypost, data: bytes) -> None:
    """Bytes that are no event of an agent raise an error that says why, and change no workflow."""
    with pytest.raises(InvalidInput, match=BAD[data]):
        take(wp.definitions, entry(data, 1))
    assert list(wp.list_workflows()) == []


def test_what_was_cut_is_refused_with_its_length(wp: Waypost) -> None:
    """A payload that was longer than a hook takes is no event, whatever its beginning says."""
    given = entry(started(), 1)._replace(cut=Cut(9_000_000, "ab" * 32))
    with pytest.raises(InvalidInput, match=r"9,000,000 bytes.*abab"):
        take(wp.definitions, given)


def test_a_dialect_that_nobody_speaks_is_refused(wp: Waypost) -> None:
    """A hook that was started with the name of no agent is told which there are."""
    with pytest.raises(InvalidInput, match="claude-code"):
        take(wp.definitions, entry(started(), 1, dialect="gemini"))


def test_a_time_beyond_dates_is_refused(wp: Waypost) -> None:
    """A header may hold any number: one that is no date is refused, not raised as something else."""
    with pytest.raises(InvalidInput, match="after 1970"):
        take(wp.definitions, entry(started(), 1)._replace(time_us=10**18 - 1))


def test_texts_that_were_cut_in_half_are_mended(wp: Waypost) -> None:
    """JavaScript writes halves of pairs where it cuts a text: they become U+FFFD, and the event is taken."""
    data = json.dumps(bash_done(1, "ls")).replace('"hi"', '"cut \\ud83d"').encode()
    Feeder(wp)(data)
    assert wp.load_workflow_state(WORKFLOW).unwrap().step("toolu_1").output["response"]["stdout"] == "cut \ufffd"


@pytest.mark.parametrize(
    ("fields", "agent"),
    [
        ({"prompt_id": "p"}, "claude-code"),
        ({"turn_id": "t", "model": "m"}, "codex"),
    ],
)
def test_auto_tells_agents_by_their_fields(fields: dict[str, str], agent: str) -> None:
    """The dialect `auto` knows an agent by the names of its fields."""
    given = {"session_id": SESSION, "hook_event_name": "Stop", **fields}
    found = read(entry(given, 1, dialect="auto"))
    assert (found.agent, found.turn_id) == (agent, next(iter(fields.values())))


def test_auto_refuses_what_it_does_not_know() -> None:
    """Fields of no known agent are named in the refusal."""
    with pytest.raises(InvalidInput, match="conversationId, hookEventName"):
        read(entry({"conversationId": "c", "hookEventName": "stop"}, 1, dialect="auto"))


def test_codex_says_the_same_in_its_words(wp: Waypost) -> None:
    """Codex's `turn_id` stands for the prompt's id, and its Interrupt fails the turn."""
    feed = Feeder(wp)
    common = {"session_id": SESSION, "turn_id": "t1", "cwd": "/x", "transcript_path": None}
    tool = {"tool_name": "shell", "tool_input": {"command": "make"}, "tool_use_id": "call_1"}
    feed(
        {**common, "hook_event_name": "UserPromptSubmit", "prompt": "Build it"},
        {**common, **tool, "hook_event_name": "PreToolUse"},
        {**common, **tool, "hook_event_name": "PostToolUse", "tool_response": "ok"},
        {**common, "hook_event_name": "Interrupt"},
        dialect="codex",
    )
    state = wp.load_workflow_state(f"codex-{SESSION}").unwrap()
    assert [(step.id, step.name, step.status) for step in state.workflow.steps] == [
        ("turn-t1", "Build it", "failed"),
        ("call_1", "shell: make", "completed"),
    ]


@pytest.mark.parametrize(
    "variables",
    [
        {"notes": ["mine", ["a", "b"], [1]]},
        {"recent": ["mine", ["a", "b"], [["a"], 1]]},
        {"agent": {"ended_us": "x", "stopped_us": None, "prompted_us": [], "named_us": {}}},
        {"agent": {"ended_us": 10**30, "stopped_us": -1, "background": 5, "end_reason": 7}},
        {"agent": "mine", "notes": {}, "recent": 0},
    ],
)
def test_events_are_taken_whatever_stands_in_their_variables(wp: Waypost, variables: dict[str, Any]) -> None:
    """Who puts values of his own under the names that the hooks use keeps no event from being taken in."""
    feed = Feeder(wp)
    feed(started(), prompted(), bash(1, "ls"))
    wp.update_context(WORKFLOW, variables=variables).unwrap()
    told = payload("Notification", message="hello")
    tasks = [{"id": "b1", "description": "serve"}]
    feed(told, bash_done(1, "ls"), bash(2, "make"), stopped(tasks=tasks), prompted("Again", "p2"), ended())
    found = wp.load_workflow_state(WORKFLOW).unwrap()
    assert {step.id: step.status for step in found.workflow.steps}["turn-p2"] == "failed"
    notes = found.context.variables["notes"]
    assert notes[-1][1:] == ["Notification", "hello"]
    assert notes[:-1] == (variables.get("notes") or []), "his own stay"


def test_random_bytes_raise_nothing_but_our_errors(wp: Waypost) -> None:
    """Payloads with a byte changed here and there are taken, or refused by an error of Waypost."""
    import random

    print(f"WAYPOST_TEST_SEED={SEED}")
    shuffler = random.Random(SEED)
    whole = json.dumps(payload("PostToolBatch", tool_calls=[{"tool_use_id": "t", "tool_name": "B"}])).encode()
    for number in range(300):
        data = bytearray(whole)
        for _ in range(shuffler.randint(1, 4)):
            data[shuffler.randrange(len(data))] = shuffler.randrange(256)
        try:
            take(wp.definitions, entry(bytes(data), number))
        except WaypostError:
            pass
