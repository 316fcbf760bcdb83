"""A run file: the commands of a workflow in TOML, checked as a whole before anything runs.

    name = "Nightly build"                # workflow = "nightly" sets the id; else the file's name is it

    [steps.fetch]
    run = "curl -sO https://example.org/data.csv"
    retries = 2
    timeout = 60

    [steps.load]
    run = ["python", "load.py", "data.csv"]
    needs = ["fetch"]

Every error names the file, the table and the key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, cast

from waypost import graph
from waypost.cli import given
from waypost.errors import InvalidId, InvalidInput, InvalidWorkflow
from waypost.models import WorkflowStep
from waypost.records import validate_id

MOST_RETRIES = 1000
_LARGEST = 16 << 20


@dataclass(frozen=True)
class Command:
    """One step: what to run, and how.

    `timeout` is in seconds. `env` is added to the environment. `cwd` is absolute.
    """

    id: str
    argv: tuple[str, ...]
    cwd: str
    needs: tuple[str, ...] = ()
    retries: int = 0
    timeout: float | None = None
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    agent: str | None = None

    def as_step(self) -> WorkflowStep:
        return WorkflowStep(self.id, agent_id=self.agent, dependencies=list(self.needs), max_retries=self.retries)


@dataclass(frozen=True)
class Plan:
    """A run file that was read. `commands` are in the order of the file."""

    file: str
    workflow: str
    name: str
    commands: Mapping[str, Command]


def load(file: str) -> Plan:
    """Read and check a run file. Raises InvalidWorkflow, and InvalidInput where it cannot be read."""
    path = os.path.abspath(file)
    tables = _read(file, path)
    place = _Place(file)
    place.refuse_unknown(tables, ("name", "workflow", "steps"))
    workflow = place.text(tables, "workflow", os.path.splitext(os.path.basename(path))[0])
    place.id(workflow, "workflow", "workflow id")
    steps = tables.get("steps", {})
    if not isinstance(steps, dict) or not steps:
        raise place.error("steps", "there are none: write a table [steps.<id>] for each")
    commands = {
        name: _command(place.within(name), name, table, os.path.dirname(path))
        for name, table in cast("dict[str, Any]", steps).items()
    }
    _check_graph(place, commands)
    return Plan(path, workflow, place.text(tables, "name", workflow), commands)


def _read(file: str, path: str) -> dict[str, Any]:
    import tomllib

    try:
        data = given.read(path, _LARGEST + 1)
    except OSError as error:
        raise InvalidInput(f"{file}: cannot be read: {error.strerror}", file=file) from error
    if len(data) > _LARGEST:
        raise InvalidInput(f"{file}: is larger than {_LARGEST >> 20} MB", file=file)
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidWorkflow(f"{file}: is not valid TOML: {error}", file=file) from error


class _Place:
    """Where in a file something stands; makes errors that say so."""

    def __init__(self, file: str, table: str = "") -> None:
        self._file = file
        self._table = table

    def within(self, step_id: str) -> _Place:
        return _Place(self._file, f"steps.{step_id}")

    def error(self, key: str, what: str) -> InvalidWorkflow:
        table = f"[{self._table}] " if self._table else ""
        return InvalidWorkflow(f"{self._file}: {table}{key}: {what}", file=self._file, table=self._table, key=key)

    def refuse_unknown(self, table: Mapping[str, Any], known: Iterable[str]) -> None:
        known = list(known)
        for key in table:
            if key not in known:
                near = get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
                raise self.error(key, f"is no key that is known here: {hint}")

    def text(self, table: Mapping[str, Any], key: str, default: str) -> str:
        value = table.get(key, default)
        if not isinstance(value, str) or not value:
            raise self.error(key, "takes a text that is not empty")
        return self.without_nul(value, key)

    def without_nul(self, value: str, key: str) -> str:
        if "\0" in value:
            raise self.error(key, "holds the character NUL, which no command can be given")
        return value

    def id(self, value: str, key: str, what: str) -> str:
        try:
            return validate_id(value, what)
        except InvalidId as error:
            raise self.error(key, str(error)) from error


# --- one step ---


def _command(place: _Place, name: str, table: object, folder: str) -> Command:
    place.id(name, "id", "step id")
    if not isinstance(table, dict):
        raise place.error("step", "is no table: write [steps.<id>], and run = ... below it")
    given = cast("dict[str, Any]", table)
    place.refuse_unknown(given, _KEYS)
    if "run" not in given:
        raise place.error("run", "is missing: the command, as one text for the shell or as a list of words")
    found = {key: read(place, given[key]) for key, read in _KEYS.items() if key in given}
    argv = found.pop("run")
    cwd = os.path.join(folder, os.path.expanduser(found.pop("cwd", "")))
    return Command(name, argv, os.path.normpath(cwd), **found)


def _run(place: _Place, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) and value.strip():
        return ("/bin/sh", "-c", place.without_nul(value, "run"))
    words = _texts(place, "run", value, "takes a text for the shell, or a list of words")
    if not words or not words[0]:
        raise place.error("run", "is empty")
    return words


def _texts(place: _Place, key: str, value: Any, takes: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in cast("list[Any]", value)):
        raise place.error(key, takes)
    return tuple(place.without_nul(item, key) for item in cast("list[str]", value))


def _needs(place: _Place, value: Any) -> tuple[str, ...]:
    names = _texts(place, "needs", value, "takes a list of step ids")
    if len(set(names)) < len(names):
        raise place.error("needs", "names a step twice")
    return names


def _retries(place: _Place, value: Any) -> int:
    # a boolean is an int to Python, and never meant here
    if type(value) is not int or not 0 <= value <= MOST_RETRIES:
        raise place.error("retries", f"takes a whole number from 0 to {MOST_RETRIES}")
    return value


def _timeout(place: _Place, value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value <= 10_000_000:
        raise place.error("timeout", "takes a number of seconds, above 0")
    return float(value)


def _env(place: _Place, value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise place.error("env", "takes a table of texts")
    for name, item in cast("dict[str, Any]", value).items():
        if not name or "=" in name or "\0" in name:
            raise place.error("env", f"{name!a} is no name of a variable")
        if not isinstance(item, str):
            raise place.error(f"env.{name}", "takes a text")
        place.without_nul(item, f"env.{name}")
    return cast("dict[str, str]", value)


def _cwd(place: _Place, value: Any) -> str:
    return place.text({"cwd": value}, "cwd", "")


def _agent(place: _Place, value: Any) -> str:
    return place.id(place.text({"agent": value}, "agent", ""), "agent", "agent id")


_KEYS: dict[str, Callable[[_Place, Any], Any]] = {
    "run": _run,
    "needs": _needs,
    "retries": _retries,
    "timeout": _timeout,
    "env": _env,
    "cwd": _cwd,
    "agent": _agent,
}


# --- all of them together ---


def _check_graph(place: _Place, commands: Mapping[str, Command]) -> None:
    for command in commands.values():
        for need in command.needs:
            if need not in commands:
                near = get_close_matches(need, commands, 1)
                hint = f": did you mean {near[0]!r}?" if near else ""
                raise place.within(command.id).error("needs", f"there is no step {need!r}{hint}")
    circle = graph.find_circle({command.id: command.needs for command in commands.values()})
    if circle is not None:
        raise place.within(circle[0]).error("needs", f"steps need each other in a circle: {' → '.join(circle)}")
