"""Where the settings of coding agents are, what Waypost puts into them, and writing them whole or not at all.

What a file was before stands beside it, so that it can be given back byte for byte; a file that was not there has an
empty one beside it.
"""

from __future__ import annotations

import difflib
import os
import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from waypost.agents import settings as settings_
from waypost.agents import status_line
from waypost.agents.settings import Settings
from waypost.errors import InvalidInput, Refused
from waypost.hooks import spool

Agent = Literal["claude-code", "codex"]
Scope = Literal["user", "project", "local"]

BEFORE = ".before-waypost"
_HOOK_S, _BRIEF_S, _FOLD_S = 5, 10, 60
"""Seconds after which an agent gives a command up."""

_WHOLE = (
    *("SessionStart", "SessionEnd", "UserPromptSubmit", "UserPromptExpansion", "SubagentStart", "SubagentStop"),
    *("TaskCreated", "TaskCompleted", "Stop", "StopFailure", "PreCompact"),
)
_DETAIL = ("PreToolUse", "PostToolUse", "PostToolUseFailure")
_CODEX = (
    *("SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "SubagentStart", "SubagentStop"),
    *("PreCompact", "Stop"),
)


def events_of(agent: Agent, *, detail: bool = False) -> tuple[str, ...]:
    """The events that are asked for."""
    if agent == "codex":
        return _CODEX
    return (*_WHOLE, *(_DETAIL if detail else ("PostToolBatch",)))


def entries(agent: Agent, *, detail: bool = False, state: str | None = None) -> dict[str, list[Settings]]:
    """The handlers of each event. `state` is the store where that is another than the project's own."""
    place = [] if state is None else ["--spool", os.path.join(os.path.abspath(state), "spool")]
    hook = _handler(agent, ["-I", "-S", spool.script_path(), "--dialect", agent, *place], _HOOK_S)
    found = {event: [hook] for event in events_of(agent, detail=detail)}
    found["SessionStart"] = [hook, _handler(agent, command_of("brief", "--hook", state=state), _BRIEF_S)]
    if agent == "claude-code":
        fold = _handler(agent, command_of("fold", "--quiet", state=state), _FOLD_S)
        found["Stop"] = [hook, {**fold, "async": True}]
    return found


def command_of(*words: str, state: str | None = None) -> list[str]:
    """The arguments of Python for one of the commands of `waypost agent`."""
    place = [] if state is None else ["--state", os.path.abspath(state)]
    return ["-P", "-m", "waypost", "agent", *words, *place]


def _handler(agent: Agent, arguments: list[str], timeout_s: int) -> Settings:
    if agent == "codex":  # whose handlers have a command line only
        return {"type": "command", "command": shlex.join([sys.executable, *arguments]), "timeout": timeout_s}
    return {"type": "command", "command": sys.executable, "args": arguments, "timeout": timeout_s}


def status_line_command(earlier: str | None) -> str:
    """The command of a status line that runs an earlier one first."""
    then = [] if earlier is None else [settings_.THEN, earlier]
    return shlex.join([sys.executable, "-I", "-S", os.path.abspath(status_line.__file__), *then])


def settings_path(agent: Agent, scope: Scope, project: Path, home: Path | None = None) -> Path:
    """The file of an agent's settings."""
    folder = {"claude-code": ".claude", "codex": ".codex"}[agent]
    base = (Path.home() if home is None else home) if scope == "user" else project
    name = "hooks.json" if agent == "codex" else "settings.local.json" if scope == "local" else "settings.json"
    return base / folder / name


# --- a change of a file ---


class Change(NamedTuple):
    """What becomes of a file; None is one that is not there."""

    path: Path
    before: bytes | None
    after: bytes | None

    @property
    def is_one(self) -> bool:
        return self.before != self.after

    def diff(self) -> str:
        """For people."""
        old, new = ((text or b"").decode("utf-8", "replace").splitlines(keepends=True) for text in self[1:])
        ends = (line if line.endswith("\n") else f"{line}\n" for line in difflib.unified_diff(old, new))
        return "".join(list(ends)[2:])


def plan_install(path: Path, wanted: Mapping[str, Any], *, with_status_line: bool = False) -> Change:
    """What installing makes of a file. Raises InvalidInput where that is not to be touched."""
    before = _read(path)
    found = _parsed(path, before)
    made = settings_.with_entries(found, wanted)
    if with_status_line:
        made = settings_.with_status_line(made, status_line_command)
    return Change(path, before, before if made == found else settings_.render(made, before or b""))


def plan_uninstall(path: Path) -> Change:
    """What a file is without what was put in: the very bytes that it was before, where nothing else has changed."""
    before = _read(path)
    if before is None:
        return Change(path, None, None)
    found = _parsed(path, before)
    made = settings_.without_status_line(settings_.without_hooks(found))
    if made == found:
        return Change(path, before, before)
    kept = _read(_beside(path))
    if kept is not None:
        if not kept and not made:
            return Change(path, before, None)
        with suppress(InvalidInput):
            if settings_.is_same(settings_.parse(kept), made):
                return Change(path, before, kept)
    return Change(path, before, settings_.render(made, before))


def _parsed(path: Path, data: bytes | None) -> Settings:
    try:
        settings = settings_.parse(data or b"")
        settings_.own_entries(settings)
    except InvalidInput as error:
        raise InvalidInput(f"the settings in {path} are left as they are: {error}", path=str(path)) from error
    return settings


def carry_out(change: Change, *, keep: bool) -> None:
    """Make a change that was planned; with `keep` what the file was before stays beside it.

    Raises Refused if somebody has changed the file since, and OSError.
    """
    path = Path(os.path.realpath(change.path))  # a link to a file kept elsewhere stays one
    if _read(path) != change.before:
        raise Refused(f"{path} was changed meanwhile: do it again", path=str(path))
    beside = _beside(change.path)
    if keep and not beside.exists():
        _replace(beside, change.before or b"", path)
    if change.after is None:
        path.unlink()
    else:
        _replace(path, change.after, path)
    if not keep:
        beside.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + BEFORE)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _replace(path: Path, data: bytes, like: Path) -> None:
    """Put a file in the place of another, or of none, whole: temporary file, sync, rename, sync."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = like.stat().st_mode & 0o777 if like.exists() else 0o644
    temporary = path.with_name(f".{path.name}.{os.getpid()}.temp")
    try:
        with open(temporary, "xb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
