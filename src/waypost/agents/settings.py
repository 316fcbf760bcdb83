"""Settings of coding agents as values: putting Waypost's entries in, and taking them out again.

Invariant: what is not Waypost's own stays as it is, also in its order. What has another shape than the agents' settings
is refused, and so left alone.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NoReturn, cast

from waypost.errors import InvalidInput

Settings = dict[str, Any]

SCRIPT = "/waypost/_hook.py"
STATUS_LINE_SCRIPT = "/waypost/agents/status_line.py"
_COMMAND = ("-m", "waypost", "agent")
HOOKS, STATUS_LINE, THEN = "hooks", "statusLine", "--then"


# --- text ---


def parse(data: bytes) -> Settings:
    """Settings as they stand in a file; an empty file has none. Raises InvalidInput."""
    if not data.strip():
        return {}
    try:
        found = json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"they are no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput("they are no JSON object")
    return cast("Settings", found)


def _unique(pairs: list[tuple[str, Any]]) -> Settings:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in an object, and one of them would be lost")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no value of JSON")


def render(settings: Settings, like: bytes = b"") -> bytes:
    """Settings as the text of a file, indented as another one is."""
    return (json.dumps(settings, indent=_indent_of(like), ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")


def _indent_of(text: bytes) -> int | str:
    for line in text.splitlines()[1:]:
        found = line[: len(line) - len(line.lstrip())]
        if found:
            return "\t" if found.startswith(b"\t") else len(found)
    return 2


# --- entries ---


def is_own(handler: object) -> bool:
    """Whether a handler of a hook is one that was put in here, by whichever release."""
    if not isinstance(handler, dict):
        return False
    words = _words(cast("Mapping[str, Any]", handler))
    return any(word.endswith(SCRIPT) for word in words) or any(
        tuple(words[at : at + len(_COMMAND)]) == _COMMAND for at in range(len(words))
    )


def _words(handler: Mapping[str, Any]) -> list[str]:
    command, args = handler.get("command"), handler.get("args")
    if not isinstance(command, str):
        return []
    if isinstance(args, list):
        return [command, *(each for each in cast("list[Any]", args) if isinstance(each, str))]
    try:
        return shlex.split(command)
    except ValueError:
        return []


def with_entries(settings: Settings, entries: Mapping[str, Sequence[Settings]]) -> Settings:
    """The settings with these handlers in the place of those that were put in before. Raises InvalidInput."""
    made = without_hooks(settings)
    if entries:
        hooks = made.setdefault(HOOKS, {})
        for event, handlers in entries.items():
            hooks.setdefault(event, []).append({"hooks": list(handlers)})
    return settings if own_entries(made) == own_entries(settings) else made


def own_entries(settings: Settings) -> list[tuple[str, Any, Any]]:
    """All that was put in: event, matcher, handler."""
    return [
        (event, group.get("matcher"), handler)
        for event, groups in _hooks_of(settings).items()
        for group in groups
        for handler in _handlers_of(event, group)
        if is_own(handler)
    ]


def without_hooks(settings: Settings) -> Settings:
    """The settings without the handlers that were put in, nor what held nothing but them. Raises InvalidInput."""
    made = deepcopy(settings)
    for event, groups in list(_hooks_of(made).items()):
        for group in groups:
            _handlers_of(event, group)
        kept = [group for group in groups if not _empties(group)]
        if groups and not kept:
            del made[HOOKS][event]
        else:
            groups[:] = kept
    if HOOKS in made and not made[HOOKS] and settings[HOOKS]:
        del made[HOOKS]
    return made


def _empties(group: Settings) -> bool:
    """Take the handlers that were put in out of a group; whether there was nothing else in it."""
    handlers = group["hooks"]
    kept = [each for each in handlers if not is_own(each)]
    is_empty = bool(handlers) and not kept
    handlers[:] = kept
    return is_empty


def _hooks_of(settings: Settings) -> dict[str, list[Settings]]:
    hooks = settings.get(HOOKS, {})
    if not isinstance(hooks, dict):
        raise InvalidInput('their "hooks" are no object')
    for event, groups in cast("dict[str, Any]", hooks).items():
        if not isinstance(groups, list) or not all(isinstance(each, dict) for each in cast("list[Any]", groups)):
            raise InvalidInput(f"their hooks of {event!r} are no list of objects")
    return cast("dict[str, list[Settings]]", hooks)


def _handlers_of(event: str, group: Settings) -> list[Any]:
    handlers = group.get("hooks")
    if not isinstance(handlers, list):
        raise InvalidInput(f"an entry of their hooks of {event!r} has no list of hooks")
    return cast("list[Any]", handlers)


def is_same(one: Settings, other: Settings) -> bool:
    """Whether two settings say the same in the same order, but for places that hold no hook."""
    return render(_without_empty(one)) == render(_without_empty(other))


def _without_empty(settings: Settings) -> Settings:
    hooks = {event: groups for event, groups in _hooks_of(settings).items() if groups}
    return {name: hooks if name == HOOKS else value for name, value in settings.items() if name != HOOKS or hooks}


# --- the status line ---


def with_status_line(settings: Settings, command: Callable[[str | None], str]) -> Settings:
    """The settings with a status line that runs the one that was there; `command` makes it of that."""
    made = without_status_line(settings)
    line = made.get(STATUS_LINE)
    earlier = line.get("command") if isinstance(line, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    kept = cast("Settings", line) if isinstance(line, dict) else {"type": "command"}
    made[STATUS_LINE] = {**kept, "command": command(earlier if isinstance(earlier, str) else None)}
    return settings if made == settings else made


def without_status_line(settings: Settings) -> Settings:
    """The settings with the status line that was there before."""
    line = settings.get(STATUS_LINE)
    words = _words(cast("Settings", line)) if isinstance(line, dict) else []
    if not any(word.endswith(STATUS_LINE_SCRIPT) for word in words):
        return settings
    made = deepcopy(settings)
    if THEN in words[:-1]:
        made[STATUS_LINE]["command"] = words[words.index(THEN) + 1]
    else:
        del made[STATUS_LINE]
    return made
