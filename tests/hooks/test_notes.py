"""Events of the template's own hooks: the same names of another side, and what changes no step is noted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hooks.support import NOW_MS, emit, nested, notes, state, tags
from waypost import clock
from waypost.blocking import Waypost
from waypost.hooks.notes import MOST_BYTES, MOST_NOTES
from waypost.store import DocumentId


def envelope(type: str, /, **data: Any) -> tuple[str, dict[str, Any]]:
    """An event as the template's hooks write it down."""
    made = {
        "id": f"8c1f-{type}",
        "timestamp": NOW_MS / 1000,
        "priority": "NORMAL",
        "data": data,
        "context": {},
        "session_id": "sess-1",
        "workflow_id": "w",
        "source": "event-system",
        "retry_count": 0,
        "max_retries": 3,
    }
    return type, made


NOTED: list[tuple[str, dict[str, Any]]] = [
    ("file.created", {"file_path": "a.py", "file_type": "py", "size": 10, "timestamp": NOW_MS / 1000}),
    ("file.modified", {"type": "modified", "path": "a.py", "timestamp": "2026-09-21T14:13:20", "monitored": True}),
    ("file.deleted", {"file_path": "a.py"}),
    ("tool.used", {"tool_name": "Edit", "execution_time": 0.5, "success": True, "metadata": {}}),
    ("git.commit", {"files_changed": ["a.py"], "validation_result": None, "violations": []}),
    ("session.compacted", {"free": "text"}),
    ("agent.trigger", {"agent": "reviewer", "trigger_event": "file.modified", "trigger_source": "watcher"}),
    ("process.restarted", {"process": "watcher", "pid": 5}),
    ("process.terminated", {"process": "watcher", "exit_code": 1}),
    ("state.changed", {}),
    ("naming.violation", {"name": "x"}),
    ("spec.drift", {"file": "x"}),
    ("performance.threshold", {"metric": "x"}),
]


@pytest.mark.parametrize(("type", "data"), NOTED)
def test_trap_33_what_changes_no_step_is_noted(wp: Waypost, type: str, data: dict[str, Any]) -> None:
    """Events of files, tools, git and processes are recorded with what they said, and change nothing else."""
    wp.create_workflow("w", "W", steps=["s"]).unwrap()
    before = state(wp)
    emit(wp, *envelope(type, **data))
    after = state(wp)
    assert (after.workflow, after.agents, tags(wp)) == (before.workflow, before.agents, [])
    (note,) = notes(wp)
    assert (note["event"], note["at"]) == (type, clock.to_datetime(NOW_MS * 1000))
    known = {name: value for name, value in data.items() if name != "timestamp"}
    assert known.items() <= note["fields"].items()
    assert wp.validate_workflow_state("w").is_valid


def test_trap_33_the_templates_own_names_of_the_twelve(wp: Waypost) -> None:
    """Dotted events with their fields in `data` do what the twelve do."""
    started = emit(wp, *envelope("workflow.started", workflow_type="Feature", workflow_data={}))
    assert started.workflow.name == "Feature"
    agent = emit(wp, *envelope("agent.started", agent="reviewer"))
    assert (agent.id, agent.status) == ("reviewer", "active")
    agent = emit(wp, *envelope("agent.completed", agent="reviewer", execution_time=1.5, outputs={"a": 1}, metrics={}))
    assert (agent.status, agent.performance.average_execution_time_ms) == ("idle", 1500)
    agent = emit(wp, *envelope("agent.failed", agent="reviewer"))
    assert (agent.status, agent.performance.error_rate) == ("error", 0.5)
    emit(wp, *envelope("workflow.failed", error="e"))
    emit(wp, *envelope("workflow.completed"))
    assert tags(wp) == [("error", "recovery", "analysis"), ("completion", "final", "preserve")]
    assert state(wp).context.session_id == "sess-1"


def test_an_event_without_a_workflow_stays_with_its_session(wp: Waypost) -> None:
    """workflow.started names no workflow there, and tools and files neither: one of the session's name has them."""
    type, payload = envelope("workflow.started", workflow_type="Feature")
    payload["workflow_id"] = None
    assert emit(wp, type, payload).workflow.name == "Feature"
    type, payload = envelope("tool.used", tool_name="Edit")
    emit(wp, type, {**payload, "workflow_id": None})
    assert [each["event"] for each in notes(wp, "sess-1")] == ["tool.used"]


def test_only_the_newest_notes_stay(wp: Waypost) -> None:
    """A hundred notes of a workflow are kept, the newest by the time that they tell; other variables stay."""
    wp.create_workflow("w", "W").unwrap()
    wp.update_context("w", variables={"hook_not": 1, "zoo": 2}).unwrap()
    for number in range(MOST_NOTES + 5):
        emit(wp, "tool.used", {**nested(number=number), "timestamp": NOW_MS + number})
    assert [each["fields"]["number"] for each in notes(wp)] == list(range(5, MOST_NOTES + 5))
    assert {"hook_not", "zoo"} <= set(state(wp).context.variables)


def test_x27_a_note_is_short(wp: Waypost) -> None:
    """Of what is too long for a note its texts are kept in short, and size and hash of the whole."""
    emit(wp, "tool.used", nested(tool_name="Edit", text="x" * 100_000, rows=list(range(10_000))))
    (note,) = notes(wp)
    assert note["fields"] == {"tool_name": "Edit", "text": "x" * 500}
    assert note["size_bytes"] > 100_000
    assert len(note["sha256"]) == 64
    emit(wp, "tool.used", nested("v", **{f"name{number}": "x" * 5000 for number in range(100)}))
    (note,) = notes(wp, "v")
    assert "fields" not in note
    size = wp.definitions.store.view(DocumentId("workflow", "v")).size_bytes
    assert size < 2 * MOST_BYTES
