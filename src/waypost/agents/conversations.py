"""One workflow of an agent, within a transaction: its steps are put together from what is known of them.

Invariants (docs/agents.md, section 1):

* What is told in another order leads to the same steps: starts take the earliest time, ends the strongest word.
* An end that is only supposed (the session ended, the process died) gives way to any that is told.
* Nothing is raised over a start or an end that is missing, or comes twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

from msgspec.structs import replace

from waypost import checkpoints, clock, records, workflows
from waypost.agents import texts
from waypost.agents.events import LATEST_US
from waypost.checkpoints import NewCheckpoint
from waypost.codec import values
from waypost.errors import ValueErased
from waypost.folding import StepStatus
from waypost.loading import every_step
from waypost.models import StepOwner, WorkflowStep
from waypost.records import Value
from waypost.redaction import Redaction
from waypost.retention import Retention
from waypost.store import Transaction, View

INTERRUPTED = "interrupted before its end was told: "
STATE, NOTES, RECENT, COMMAND = "agent", "notes", "recent", "command-"
"""Variables of such a workflow: what is known of the agent, notes, events of late, and the workflow of a command."""

MOST_NOTES = MOST_RECENT = 32
SAME_WITHIN_US = 2_000_000


class Means(NamedTuple):
    """With what a workflow is written to, and the moment and process that an event speaks of."""

    redaction: Redaction
    retention: Retention
    chunk_size: int
    session: str | None
    time_us: int
    owner: StepOwner | None
    agent_id: str | None


class Conversation:
    """A workflow that is there, as one event changes it."""

    def __init__(self, tx: Transaction, means: Means) -> None:
        self._tx = tx
        self._means = means
        self._now = clock.to_datetime(means.time_us)
        self.state: dict[str, Any] = _as_it_should_be(self._read(STATE, dict))

    # --- steps ---

    def expect(self, step_id: str, name: str) -> None:
        """A step is to be done."""
        step, _ = self._step(step_id, name)
        step.name = name
        self._put(step)

    def begin(
        self, step_id: str, name: str, given: Mapping[str, Any] | None = None, *, may_reopen: bool = False
    ) -> None:
        """A step has begun. `given` is what it was given; with `may_reopen` it may have begun once more."""
        step, is_new = self._step(step_id, name)
        step.name = name
        was_ended = step.end_time is not None
        if step.start_time is None or self._now < step.start_time:
            step.start_time = self._now
        if may_reopen and step.end_time is not None and self._now > step.end_time:
            was_ended = False
        if not was_ended:
            step.status, step.end_time, step.error, step.owner = "running", None, None, self._means.owner
        if not was_ended and self._means.time_us <= self.state.get("ended_us", 0):
            self._interrupt(step, clock.to_datetime(self.state["ended_us"]), self.state.get("end_reason", ""))
        if given is not None:
            self._give(step, given)
        self._put(step, is_new=is_new)

    def end(
        self,
        step_id: str,
        name: str,
        status: StepStatus,
        *,
        given: Mapping[str, Any] | None = None,
        came: Any = None,
        error: str | None = None,
        duration_ms: float = 0,
        is_weak: bool = False,
        at_us: int | None = None,
    ) -> None:
        """A step has ended, once and for all. What is weak only says so where nothing else does; `at_us` is when,
        unless that is now.
        """
        step, is_new = self._step(step_id, name)
        start = clock.to_datetime(self._means.time_us - int(duration_ms * 1000))
        step.start_time = start if step.start_time is None else min(step.start_time, start)
        if given is not None:
            self._give(step, given)
        is_news = _strength(step) <= (0 if is_weak else _STRENGTHS[status])
        if is_news:
            self._finish(step, status, error, at_us)
        if came is not None and ((is_news and not is_weak) or step.output_version <= (given is not None)):
            self._add(step, came)
        self._put(step, is_new=is_new)

    def conclude(self, step_id: str, name: str, status: StepStatus, came: Mapping[str, Any], error: str | None) -> None:
        """A step has ended, for this time: the latest word counts. What came of it joins what was known."""
        step, is_new = self._step(step_id, name)
        if step.start_time is None:
            step.start_time = self._now
        if _is_supposed(step) or self._is_latest(step):
            self._finish(step, status, error)
            self._join(step, came)
        self._put(step, is_new=is_new)

    def _is_latest(self, step: WorkflowStep) -> bool:
        known = step.end_time if step.status != "running" else step.start_time
        return known is None or self._now >= known

    def join(self, step_id: str, came: Mapping[str, Any]) -> None:
        """More is known of a step that is there."""
        step = records.step(self._tx, step_id)
        self._join(step, came)
        self._put(step)

    def is_running(self, step_id: str) -> bool:
        step = records.STEPS.get(self._tx, records.STEP + step_id)
        return step is not None and step.status == "running"

    def running(self, *, prefix: str = "", began_before_us: int | None = None) -> list[WorkflowStep]:
        before = None if began_before_us is None else clock.to_datetime(began_before_us)
        return [
            each
            for each in every_step(self._tx)
            if each.status == "running"
            and each.id.startswith(prefix)
            and (before is None or each.start_time is None or each.start_time <= before)
        ]

    def interrupt(self, steps: Iterable[WorkflowStep], reason: str) -> None:
        """Suppose that steps have ended, since whoever ran them is gone."""
        for step in steps:
            self._interrupt(step, self._now, reason)
            self._put(step)

    def _interrupt(self, step: WorkflowStep, moment: datetime, reason: str) -> None:
        step.status, step.end_time, step.owner = "failed", moment, None
        step.error = f"{INTERRUPTED}{reason}"

    def _step(self, step_id: str, name: str) -> tuple[WorkflowStep, bool]:
        """A step, and whether it is new. A failed one may be done again, and so fails no workflow."""
        records.validate_id(step_id, "step id")
        found = records.STEPS.get(self._tx, records.STEP + step_id)
        if found is not None:
            return found, False
        records.append_to_order(self._tx, [step_id])
        return WorkflowStep(step_id, name, self._means.agent_id, max_retries=1), True

    def _finish(self, step: WorkflowStep, status: StepStatus, error: str | None, at_us: int | None = None) -> None:
        moment = self._now if at_us is None else clock.to_datetime(at_us)
        step.status, step.end_time, step.owner = status, moment, None
        step.error = None if error is None else texts.cut(error, texts.LONGEST_ERROR)

    def _put(self, step: WorkflowStep, *, is_new: bool = False) -> None:
        if not is_new and step.agent_id is None:
            step.agent_id = self._means.agent_id
        records.put_step(self._tx, self._means.redaction.step(step))

    # --- outputs ---

    def _give(self, step: WorkflowStep, given: Mapping[str, Any]) -> None:
        if not step.output_version:
            self._add(step, given)

    def _join(self, step: WorkflowStep, came: Mapping[str, Any]) -> None:
        known = self._known(step)
        merged = {**(cast("dict[str, Any]", known) if isinstance(known, dict) else {}), **came}
        if merged != known:
            self._add(step, merged)

    def _known(self, step: WorkflowStep) -> Any:
        """The newest output of a step; None where it has none, or a user has erased it."""
        try:
            data = records.output_bytes(self._tx, step.id, step.output_version) if step.output_version else None
        except ValueErased:
            return None
        return None if data is None else values.decode(data, inert=True)

    def _add(self, step: WorkflowStep, value: Any) -> None:
        means = self._means
        encoded = Value.of(means.redaction.encode(value, "outputs", step.id))
        records.add_output(self._tx, step, encoded, means.agent_id, means.time_us, means.chunk_size)

    # --- agents, checkpoints ---

    def agent(self, agent_id: str, agent_type: str | None, *, is_active: bool) -> None:
        """What a subagent is doing now."""
        fields = {"status": "active" if is_active else "idle", **({"name": agent_type} if agent_type else {})}
        change = workflows.prepare_agent(agent_id, fields, self._means.redaction)
        workflows.update_agent(self._tx, agent_id, change)

    def knows_agent(self, agent_id: str) -> bool:
        return self._tx.size_of(records.AGENT + agent_id) is not None

    def keep(self, description: str, tag: str) -> None:
        """A checkpoint of the workflow as it is after the event."""
        new = NewCheckpoint("automatic", description, (tag,), self._means.session)
        checkpoints.put(self._tx, new, self._means.retention)

    # --- the workflow's record, and variables ---

    def rename(self, name: str) -> None:
        record = records.workflow(self._tx)
        self._tx.put(records.WORKFLOW, records.encode(replace(record, name=name)))

    def settle(self) -> None:
        """Store what is known of the agent, and whether the workflow waits for a prompt."""
        self.write(STATE, self.state)
        record = records.workflow(self._tx)
        stopped = max(self.state.get("stopped_us", 0), self.state.get("ended_us", 0))
        is_paused = stopped > self.state.get("prompted_us", 0)
        if is_paused != record.paused:
            self._tx.put(records.WORKFLOW, records.encode(replace(record, paused=is_paused)))

    def latest(self, field: str) -> bool:
        """Move the time of the last event of its kind on; whether this one is it."""
        is_it = self._means.time_us >= self.state.get(field, 0)
        if is_it:
            self.state[field] = self._means.time_us
        return is_it

    def earliest(self, field: str) -> bool:
        is_it = self._means.time_us < self.state.get(field, self._means.time_us + 1)
        if is_it:
            self.state[field] = self._means.time_us
        return is_it

    def note(self, event: str, text: str) -> None:
        """Remember a line for people; of many the newest."""
        notes = [*self._read(NOTES, list), [self._means.time_us, event, texts.cut(text, texts.LONGEST_NOTE)]]
        self.write(NOTES, sorted(notes, key=_order_of_note)[-MOST_NOTES:])

    def came_before(self, digest: str) -> bool:
        """Whether an event that names nothing is another delivery of one that came just now; it is remembered."""
        recent = [each for each in self._read(RECENT, list) if _is_like(each, (str, int))]
        now = self._means.time_us
        if any(seen == digest and abs(now - time_us) <= SAME_WITHIN_US for seen, time_us in recent):
            return True
        self.write(RECENT, sorted([*recent, [digest, now]], key=lambda each: each[1])[-MOST_RECENT:])
        return False

    def command(self, turn_id: str) -> str | None:
        """The workflow of the slash command that a turn carries out."""
        return _command_in(self._tx, turn_id)

    def commands(self) -> list[str]:
        return commands_in(self._tx)

    def write(self, name: str, value: Any) -> None:
        for key, data in self._means.redaction.encode_group(
            {name: value}, records.VARIABLE, "context", "variables"
        ).items():
            self._tx.put(key, data)

    def _read(self, name: str, kind: type[Any]) -> Any:
        data = self._tx.get(records.VARIABLE + name)
        found = None if data is None else values.decode(data, inert=True)
        return found if isinstance(found, kind) else kind()  # somebody may have put something else, or redacted it


# --- what others may have put in the place of those variables ---


def _is_like(given: Any, kinds: Sequence[type]) -> bool:
    return isinstance(given, list) and [type(each) for each in cast("list[Any]", given)] == [*kinds]


def _as_it_should_be(state: dict[str, Any]) -> dict[str, Any]:
    """What is known of the agent, without what is not of the kind that it is read as."""

    def is_sound(name: str, value: Any) -> bool:
        if name.endswith("_us"):
            return type(value) is int and 0 <= value <= LATEST_US
        return isinstance(value, {"end_reason": str, "background": list}.get(name, object))

    return {name: value for name, value in state.items() if is_sound(name, value)}


def _order_of_note(note: Any) -> tuple[int, str, str]:
    """What is none stays, as older than all."""
    return tuple(note) if _is_like(note, (int, str, str)) else (0, "", "")


def commands_in(view: View) -> list[str]:
    """The workflows of the slash commands of a session's workflow."""
    turns = records.names(view, records.VARIABLE + COMMAND)
    return [found for turn_id in turns if (found := _command_in(view, turn_id)) is not None]


def _command_in(view: View, turn_id: str) -> str | None:
    data = view.get(records.VARIABLE + COMMAND + turn_id)
    found = None if data is None else values.decode(data, inert=True)
    return found if isinstance(found, str) else None


_STRENGTHS: Mapping[StepStatus, int] = {"pending": -1, "running": -1, "skipped": 1, "completed": 1, "failed": 2}


def _is_supposed(step: WorkflowStep) -> bool:
    return step.status == "failed" and (step.error or "").startswith(INTERRUPTED)


def _strength(step: WorkflowStep) -> int:
    """How sure the end of a step is: -1 without one, 0 where it is only supposed."""
    return 0 if _is_supposed(step) else _STRENGTHS[step.status]
