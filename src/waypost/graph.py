"""Steps and what they depend on, as a graph: nothing given twice, nothing unknown, no circle.

Everything here is iterative, so a chain of any length is as safe as a short one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Protocol

from waypost.errors import InvalidWorkflow


class Node(Protocol):
    """As much of a step as the graph looks at."""

    @property
    def id(self) -> str: ...
    @property
    def dependencies(self) -> Sequence[str]: ...


def check(steps: Sequence[Node], is_known: Callable[[str], bool] = lambda _: False) -> None:
    """Refuse steps that are no graph. `is_known` tells steps that are there beside these. Raises InvalidWorkflow.

    Steps beside these cannot depend on these, so a circle lies within them or not at all.
    """
    graph = {step.id: step.dependencies for step in steps}
    if len(graph) != len(steps):
        _refuse_duplicates(steps)
    for step_id, dependencies in graph.items():
        for dependency in dependencies:
            if dependency not in graph and not is_known(dependency):
                raise InvalidWorkflow(
                    f"step {step_id!r} depends on {dependency!r}, which is no step of the workflow",
                    step_id=step_id,
                    dependency=dependency,
                )
    circle = find_circle(graph)
    if circle is not None:
        raise InvalidWorkflow(f"steps depend on each other in a circle: {' → '.join(circle)}", circle=circle)


def _refuse_duplicates(steps: Iterable[Node]) -> None:
    seen: set[str] = set()
    for step in steps:
        if step.id in seen:
            raise InvalidWorkflow(f"step {step.id!r} is given twice", step_id=step.id)
        seen.add(step.id)


def find_circle(graph: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Ids in a row of which each depends on the next, the first being the last too; None where there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # the sorter tells it the other way round: each before the one that depends on it
        circle: list[str] = error.args[1]
        return circle[::-1]
    return None


def after(step_id: str, steps: Iterable[Node]) -> list[str]:
    """The ids of all steps that depend on a step, directly or not, in the order of `steps`."""
    steps = list(steps)
    dependents: dict[str, list[str]] = {}
    for step in steps:
        for dependency in step.dependencies:
            dependents.setdefault(dependency, []).append(step.id)
    found: set[str] = set()
    waiting = deque([step_id])
    while waiting:
        for dependent in dependents.get(waiting.popleft(), ()):
            if dependent not in found:
                found.add(dependent)
                waiting.append(dependent)
    return [step.id for step in steps if step.id in found]
