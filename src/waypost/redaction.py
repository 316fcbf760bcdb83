"""Values that are never written: what stands at a path that one of the patterns matches becomes the text "[redacted]".

This is the one way in which values of callers become bytes: outputs, the groups of a context and of a session, results
of transactions, and those fields of steps and agents that are text.

Invariants:

* A value is encoded first, and looked through as it would be stored: what the caller changes meanwhile is not missed,
  and no function of the application runs twice.
* Where no pattern leads nothing is looked through.
* What cannot be told apart is redacted: an element without a path is matched by `*` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from msgspec.structs import replace

from waypost import patterns
from waypost.codec import paths, values
from waypost.errors import InvalidConfiguration, InvalidInput
from waypost.models import AgentState, WorkflowStep
from waypost.patterns import Pattern
from waypost.records import validate_id

REDACTED = "[redacted]"


class Redaction:
    """The patterns of a store, and how they are applied."""

    def __init__(self, given: Iterable[str] = ()) -> None:
        self._patterns = [self._parsed(text) for text in given]

    @staticmethod
    def _parsed(text: str) -> Pattern:
        found = patterns.parse(text)
        if found is None:
            raise InvalidConfiguration(f"{text!a:.200} is no pattern: security.redact is {patterns.TAKEN}")
        return found

    def encode(self, value: Any, *root: str) -> bytes:
        """The bytes of a value that stands at a root, redacted. Raises InvalidValue."""
        live = self._leading_into(root)
        if not live:
            return values.encode(value, ".".join(root))
        if any(len(each.elements) == len(root) for each in live):
            return values.encode(REDACTED)
        data = values.encode(value, ".".join(root))
        found = values.decode(data, inert=True)
        redacted = _redacted(found, live, len(root))
        return data if redacted is found else values.encode(redacted, ".".join(root))

    def shown(self, value: Any, *root: str) -> Any:
        """A value that was read at a root, as it may be shown: it may come of a store that does not redact it."""
        return REDACTED if self.covers(*root) else _redacted(value, self._leading_into(root), len(root))

    def covers(self, *root: str) -> bool:
        """Whether all that stands at a root is redacted, whatever it is."""
        live = self._leading_into(root)
        return bool(live) and any(len(each.elements) == len(root) for each in live)

    def encode_group(self, group: object, prefix: str, *root: str) -> dict[str, bytes]:
        """The parts of a dictionary of values, one for each key. Raises InvalidId, InvalidInput, InvalidValue."""
        path = ".".join(root)
        if not isinstance(group, Mapping):
            raise InvalidInput(f"{path} is a dictionary, not {type(group).__name__}")
        return {
            prefix + validate_id(name, f"name in {path}"): self.encode(value, *root, cast("str", name))
            for name, value in cast("Mapping[object, Any]", group).items()
        }

    def text(self, text: str, *path: str) -> str:
        """A text that stands at a path, redacted."""
        return REDACTED if self.covers(*path) else text

    def step(self, step: WorkflowStep) -> WorkflowStep:
        """Redact those fields of a step that are text; the step itself."""
        if self._patterns:
            step.name = self.text(step.name, "steps", step.id, "name")
            if step.error is not None:
                step.error = self.text(step.error, "steps", step.id, "error")
        return step

    def agent(self, agent: AgentState) -> AgentState:
        """An agent, those of its fields redacted that are text."""
        if not self._leading_into(("agents", agent.id)):
            return agent
        fields = {"name": agent.name, "current_task": agent.current_task, "task_queue": agent.task_queue}
        return replace(agent, **self.agent_fields(agent.id, fields))

    def agent_fields(self, agent_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of an agent that change, those redacted that are text. Others are checked by whoever puts them."""
        found = dict(fields)
        for name in ("name", "current_task"):
            if isinstance(found.get(name), str):
                found[name] = self.text(found[name], "agents", agent_id, name)
        queue = found.get("task_queue")
        if isinstance(queue, list):
            tasks = cast("list[Any]", queue)
            found["task_queue"] = [
                self.text(each, "agents", agent_id, "task_queue", str(place)) if isinstance(each, str) else each
                for place, each in enumerate(tasks)
            ]
        return found

    def _leading_into(self, root: Sequence[str]) -> list[Pattern]:
        """The patterns that match a root, or something within it."""
        if not self._patterns:
            return self._patterns
        return [
            each
            for each in self._patterns
            if len(each.elements) >= len(root) and all(each.matches(name, depth) for depth, name in enumerate(root))
        ]


def _redacted(value: Any, live: list[Pattern], depth: int) -> Any:
    """A value whose elements stand at a depth of the patterns; itself where nothing in it is redacted."""
    given: object = value
    kind = type(given)
    if kind is dict:
        items: dict[object, Any] = value
        made = {key: _element(_name(key), item, live, depth) for key, item in items.items()}
        return value if all(made[key] is item for key, item in items.items()) else made
    if kind is list or kind is tuple:
        found: Sequence[Any] = value
        elements = [_element(str(place), item, live, depth) for place, item in enumerate(found)]
        if all(new is item for new, item in zip(elements, found, strict=True)):
            return value
        return tuple(elements) if kind is tuple else elements
    if isinstance(value, values.Unregistered):
        inner = value.value
        redacted = _redacted(inner, live, depth)
        return value if redacted is inner else values.Unregistered(value.tag, values.encode(redacted))
    return value


def _element(name: str, item: Any, live: list[Pattern], depth: int) -> Any:
    matching = [each for each in live if each.matches(name, depth)]
    if not matching:
        return item
    if any(len(each.elements) == depth + 1 for each in matching):
        return REDACTED
    return _redacted(item, matching, depth + 1)


def _name(key: object) -> str:
    """A key as patterns see it; of one that no path leads to its type, which only `*` can be meant to match."""
    if type(key) is str:
        return key
    step = paths.key_step(key)
    return f"<{type(key).__name__}>" if step is None else step[1:-1]
