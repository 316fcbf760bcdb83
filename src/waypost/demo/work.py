"""What the demo does: the steps of the survey, which agent does which, and how each is done.

    parse:<module>   by parser-1 … parser-4   reads and measures one module
    digest:<group>   by librarian             sums a package up, after its modules were parsed
    rank:<what>      by librarian             ranks the whole library, after every digest
    report           by editor                puts the rankings together

Every result reaches the steps after it through the store, and in no other way.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from waypost.demo import survey
from waypost.errors import NotFound
from waypost.models import WorkflowStep

WORKFLOW = "stdlib-survey"
SESSION = "survey"
NAME = "A survey of Python's standard library"
PARSERS = tuple(f"parser-{number}" for number in range(1, 5))
LIBRARIAN, EDITOR = "librarian", "editor"
AGENTS = (*PARSERS, LIBRARIAN, EDITOR)

# tests, tables and tools that tell nothing about the library
_LEFT_OUT = frozenset(
    (
        *("test", "tests", "site-packages", "dist-packages", "lib-dynload", "__pycache__", "idlelib", "lib2to3"),
        *("turtledemo", "distutils", "ensurepip", "encodings", "pydoc_data", "__phello__"),
    )
)


class Source(NamedTuple):
    """A module of the library and its file."""

    module: str
    path: str
    is_package: bool

    @property
    def group(self) -> str:
        """The package, or the first letter of a module that stands alone."""
        package, dot, _ = self.module.partition(".")
        return package if dot or self.is_package else f"modules-{package[0].lower()}"


def find_sources() -> list[Source]:
    """The modules of this Python's standard library. Raises NotFound where they have no sources."""
    root = sysconfig.get_path("stdlib")
    found: list[Source] = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name.isidentifier() and name not in _LEFT_OUT)
        for file in files:
            if file.endswith(".py") and file.removesuffix(".py").isidentifier():
                found.append(_source(root, os.path.join(folder, file)))
    if len(found) < 100:
        raise NotFound(
            f"the standard library of this Python has no sources in {root}: the demo reads them", location=root
        )
    return sorted(found, key=lambda source: (source.group, source.module))


def _source(root: str, path: str) -> Source:
    parts = os.path.relpath(path, root).removesuffix(".py").split(os.sep)
    is_package = parts[-1] == "__init__" and len(parts) > 1
    return Source(".".join(parts[:-1] if is_package else parts), path, is_package)


_RANKINGS: dict[str, Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]] = {
    "imports": survey.rank_imports,
    "cycles": survey.rank_cycles,
    "longest": survey.rank_longest,
    "complexity": survey.rank_complexity,
    "documentation": survey.rank_documentation,
}


def steps(sources: Sequence[Source]) -> list[WorkflowStep]:
    """The workflow: hundreds of steps that depend on each other."""
    made = [
        WorkflowStep(f"parse:{source.module}", agent_id=PARSERS[number % len(PARSERS)])
        for number, source in enumerate(sources)
    ]
    groups = dict.fromkeys(source.group for source in sources)
    for group in groups:
        needs = [f"parse:{source.module}" for source in sources if source.group == group]
        made.append(WorkflowStep(f"digest:{group}", agent_id=LIBRARIAN, dependencies=needs))
    digests = [f"digest:{group}" for group in groups]
    made.extend(WorkflowStep(f"rank:{what}", agent_id=LIBRARIAN, dependencies=digests) for what in _RANKINGS)
    rankings = [f"rank:{what}" for what in _RANKINGS]
    return [*made, WorkflowStep("report", agent_id=EDITOR, dependencies=[*digests, *rankings])]


class Desk:
    """Where steps are done: the sources, and the outputs of the steps before."""

    def __init__(self, sources: Sequence[Source], read: Callable[[str], Any]) -> None:
        self._sources = {source.module: source for source in sources}
        self._groups = list(dict.fromkeys(source.group for source in sources))
        self._read = read

    def do(self, step_id: str) -> dict[str, Any]:
        """The output of a step."""
        kind, _, name = step_id.partition(":")
        if kind == "parse":
            return self._parse(self._sources[name])
        if kind == "digest":
            return self._digest(name)
        digests = [self._read(f"digest:{group}") for group in self._groups]
        if kind == "rank":
            return _RANKINGS[name](digests)
        return survey.report(digests, {what: self._read(f"rank:{what}") for what in _RANKINGS})

    def _parse(self, source: Source) -> dict[str, Any]:
        with open(source.path, "rb") as file:
            return survey.measure(source.module, file.read(), is_package=source.is_package)

    def _digest(self, group: str) -> dict[str, Any]:
        modules = [source.module for source in self._sources.values() if source.group == group]
        measured = [self._read(f"parse:{module}") for module in modules]
        return survey.digest(group, measured, {*self._sources, *sys.stdlib_module_names})
