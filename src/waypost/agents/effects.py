"""What each event of an agent does to its workflows (docs/agents.md, section 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from waypost import clock
from waypost.agents import texts
from waypost.agents.conversations import COMMAND, Conversation
from waypost.agents.events import AgentEvent, list_of
from waypost.models import StepOwner


class Workflows(Protocol):
    """The workflows that an event may change."""

    @property
    def main(self) -> Conversation:
        """That of the agent's session."""
        ...

    @property
    def turn(self) -> Conversation:
        """That to which the steps of the event's turn belong: a slash command's, or the session's."""
        ...

    def made(self, workflow_id: str, name: str) -> Conversation:
        """One by its id, made where it is not there."""
        ...

    def others(self) -> list[Conversation]:
        """Those of the session's slash commands."""
        ...


_LONGEST_MS = 1e9
Effect = Callable[[AgentEvent, Workflows], None]


def apply(event: AgentEvent, found: Workflows) -> None:
    """Do to the workflows what the event says; nothing where it came before."""
    if not event.is_named and found.main.came_before(event.digest):
        return
    EFFECTS.get(event.event, _note)(event, found)


# --- sessions and turns ---


def _session_start(event: AgentEvent, found: Workflows) -> None:
    title = event.text("session_title")
    if title:
        found.main.state["is_titled"] = True
        found.main.rename(texts.line(title, texts.LONGEST_NAME) or event.workflow_id)
    source = event.text("source") or "startup"
    if source != "startup":
        found.main.note(event.event, source)
    for each in (found.main, *found.others()):
        each.interrupt([step for step in each.running() if _is_left(step.owner, event)], "the agent's process died")
    found.main.settle()


def _is_left(owner: StepOwner | None, event: AgentEvent) -> bool:
    """Whether whoever ran a step is dead, and not the one who is here now."""
    return owner is not None and owner != event.owner and clock.liveness(owner.identity) == "dead"


def _session_end(event: AgentEvent, found: Workflows) -> None:
    reason = f"the session ended ({texts.line(event.text('reason'), 40) or 'other'})"
    for each in (found.main, *found.others()):
        if each.latest("ended_us"):
            each.state["end_reason"] = reason
        each.interrupt(each.running(began_before_us=event.time_us), reason)
        each.settle()


def _prompt(event: AgentEvent, found: Workflows) -> None:
    prompt = event.text("prompt")
    main = found.main
    if main.earliest("named_us") and not main.state.get("is_titled"):
        name = texts.line(prompt, texts.LONGEST_NAME)
        if name:
            main.rename(name)
    if event.turn_id is not None:
        step_id = f"turn-{event.turn_id}"
        main.begin(step_id, texts.line(prompt, texts.LONGEST_STEP_NAME) or step_id)
        main.join(step_id, {"prompt": prompt})
    for each in _both(found):
        each.latest("prompted_us")
        each.settle()


def _expansion(event: AgentEvent, found: Workflows) -> None:
    command = texts.line(event.text("command_name"), 40)
    if event.text("expansion_type") != "slash_command" or not command or event.turn_id is None:
        _note(event, found)
        return
    name = texts.line(f"/{command} {event.text('command_args')}", texts.LONGEST_NAME)
    workflow_id = f"{event.workflow_id}-{command}-{event.turn_id}"
    made = found.made(workflow_id, name)
    found.main.write(COMMAND + event.turn_id, workflow_id)
    made.latest("prompted_us")
    step_id = f"turn-{event.turn_id}"
    made.begin(step_id, name)
    made.join(step_id, {"command": command, "arguments": event.text("command_args")})
    made.settle()


def _stop(event: AgentEvent, found: Workflows) -> None:
    tasks = {name: each for each in list_of(event.fields, "background_tasks") if (name := _background_id(each))}
    for each in _both(found):
        if event.turn_id is not None:
            message = {"message": event.text("last_assistant_message")}
            each.conclude(f"turn-{event.turn_id}", "turn", "completed", message, None)
        _background(each, tasks, is_latest=each.latest("stopped_us"))
        each.settle()
        each.keep("a turn ended", "turn")


def _background_id(task: Mapping[str, Any]) -> str:
    name = task.get("id")
    return f"background-{name}" if isinstance(name, str) and name else ""


def _background(each: Conversation, tasks: Mapping[str, Mapping[str, Any]], *, is_latest: bool) -> None:
    """What was left to run at the end of a turn runs until a turn ends without it."""
    for step_id, task in tasks.items():
        description = task.get("description") or task.get("command") or task.get("type") or step_id
        name = texts.line(f"background: {description}", texts.LONGEST_STEP_NAME)
        each.begin(step_id, name, may_reopen=is_latest)
        if not is_latest and step_id not in each.state.get("background", []):
            each.end(step_id, name, "completed", at_us=each.state["stopped_us"])
    if is_latest:
        for step in each.running(prefix="background-"):
            if step.id not in tasks:
                each.end(step.id, step.name, "completed")
        each.state["background"] = sorted(tasks)


def _turn_failed(event: AgentEvent, found: Workflows) -> None:
    details = event.text("error_details")
    error = event.text("error") or ("interrupted by the user" if event.event == "Interrupt" else "unknown")
    for each in _both(found):
        each.latest("stopped_us")
        if event.turn_id is not None:
            message = {"message": event.text("last_assistant_message")}
            text = f"{error}: {details}" if details else error
            each.conclude(f"turn-{event.turn_id}", "turn", "failed", message, text)
        each.settle()


def _both(found: Workflows) -> list[Conversation]:
    """The session's workflow, and that of the turn where it is another."""
    return [found.main] if found.turn is found.main else [found.main, found.turn]


# --- tools ---


def _tool_given(fields: Mapping[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """A call's name for people, and what it was given, where that is told."""
    tool, given = fields.get("tool_name"), fields.get("tool_input")
    tool = tool if isinstance(tool, str) and tool else "tool"
    return texts.of_tool(tool, given), {"tool": tool, "input": given} if "tool_input" in fields else None


def _see_agent(event: AgentEvent, found: Workflows) -> None:
    """A subagent that does something is there, also where its start was not told."""
    if event.agent_id is not None and not found.turn.knows_agent(event.agent_id):
        found.turn.agent(event.agent_id, event.agent_type, is_active=True)


def _tool_began(event: AgentEvent, found: Workflows) -> None:
    name, given = _tool_given(event.fields)
    _see_agent(event, found)
    found.turn.begin(event.identity("tool_use_id"), name, given)


def _tool_done(event: AgentEvent, found: Workflows) -> None:
    name, given = _tool_given(event.fields)
    _see_agent(event, found)
    came = {"response": event.fields.get("tool_response")}
    step_id, ms = event.identity("tool_use_id"), _duration_ms(event)
    found.turn.end(step_id, name, "completed", given=given, came=came, duration_ms=ms)


def _tool_failed(event: AgentEvent, found: Workflows) -> None:
    name, given = _tool_given(event.fields)
    _see_agent(event, found)
    error = event.text("error") or "failed"
    error = f"cancelled: {error}" if event.fields.get("is_interrupt") is True else error
    step_id, ms = event.identity("tool_use_id"), _duration_ms(event)
    found.turn.end(step_id, name, "failed", given=given, error=error, duration_ms=ms)


def _tool_denied(event: AgentEvent, found: Workflows) -> None:
    name, given = _tool_given(event.fields)
    error = f"denied: {event.text('reason')}"
    found.turn.end(event.identity("tool_use_id"), name, "failed", given=given, error=error)


def _batch(event: AgentEvent, found: Workflows) -> None:
    _see_agent(event, found)
    for call in list_of(event.fields, "tool_calls"):
        step_id = call.get("tool_use_id")
        if isinstance(step_id, str) and step_id:
            name, given = _tool_given(call)
            came = {"response": call["tool_response"]} if "tool_response" in call else None
            found.turn.end(step_id, name, "completed", given=given, came=came, is_weak=True)


def _duration_ms(event: AgentEvent) -> float:
    given = event.fields.get("duration_ms")
    if not isinstance(given, (int, float)) or isinstance(given, bool):
        return 0.0
    return float(given) if 0 <= given < _LONGEST_MS else 0.0


# --- subagents, tasks, the rest ---


def _agent_start(event: AgentEvent, found: Workflows) -> None:
    agent_id = event.identity("agent_id")
    step_id = f"agent-{agent_id}"
    found.turn.begin(step_id, _agent_name(event), may_reopen=True)
    found.turn.agent(agent_id, event.agent_type, is_active=found.turn.is_running(step_id))


def _agent_stop(event: AgentEvent, found: Workflows) -> None:
    agent_id = event.identity("agent_id")
    step_id = f"agent-{agent_id}"
    came = {"message": event.text("last_assistant_message")}
    found.turn.conclude(step_id, _agent_name(event), "completed", came, None)
    found.turn.agent(agent_id, event.agent_type, is_active=found.turn.is_running(step_id))


def _agent_name(event: AgentEvent) -> str:
    return texts.line(f"agent: {event.agent_type or event.agent_id}", texts.LONGEST_STEP_NAME)


def _task_created(event: AgentEvent, found: Workflows) -> None:
    found.main.expect(f"task-{event.identity('task_id')}", _task_name(event))


def _task_completed(event: AgentEvent, found: Workflows) -> None:
    found.main.end(f"task-{event.identity('task_id')}", _task_name(event), "completed")


def _task_name(event: AgentEvent) -> str:
    return texts.line(event.text("task_subject"), texts.LONGEST_STEP_NAME) or event.identity("task_id")


def _compaction(event: AgentEvent, found: Workflows) -> None:
    for each in _both(found):
        each.keep("before the agent's context was compacted", "compaction")


_TELLING = ("compact_summary", "message", "notification_type", "tool_name", "to_model", "trigger", "reason")


def _note(event: AgentEvent, found: Workflows) -> None:
    told = next((text for field in _TELLING if (text := event.text(field))), "")
    found.main.note(event.event, told)


EFFECTS: Mapping[str, Effect] = {
    "SessionStart": _session_start,
    "SessionEnd": _session_end,
    "UserPromptSubmit": _prompt,
    "UserPromptExpansion": _expansion,
    "PreToolUse": _tool_began,
    "PostToolUse": _tool_done,
    "PostToolUseFailure": _tool_failed,
    "PermissionDenied": _tool_denied,
    "PostToolBatch": _batch,
    "SubagentStart": _agent_start,
    "SubagentStop": _agent_stop,
    "TaskCreated": _task_created,
    "TaskCompleted": _task_completed,
    "Stop": _stop,
    "StopFailure": _turn_failed,
    "Interrupt": _turn_failed,
    "PreCompact": _compaction,
}
"""What is not here becomes a note."""
