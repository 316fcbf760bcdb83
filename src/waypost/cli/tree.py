"""Which step waits for which, as a tree: each stands once, below the one of those it needs that comes last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from waypost.models import WorkflowStep

_MANY, _FIRST = 8, 3
"""Of more steps than that beside each other at which nothing is remarkable, and which nobody waits for, the first are
shown."""

_DEEPEST = 60
"""Characters in front of a step, at most: a chain may have thousands."""


class Branch(NamedTuple):
    """One line of the tree: a step with what else it needs, or the statuses of steps that are left out."""

    prefix: str
    step: WorkflowStep | None
    also_needs: Sequence[str] = ()
    left_out: Mapping[str, int] = {}


def branches(steps: Sequence[WorkflowStep], *, everything: bool) -> Iterator[Branch]:
    """The lines of the tree, from the top."""
    parents = _parents(steps)
    children: dict[str | None, list[WorkflowStep]] = {}
    for step in steps:
        children.setdefault(parents[step.id], []).append(step)
    waiting = [_lines_below(children, None, "", everything)]
    while waiting:
        branch = next(waiting[-1], None)
        if branch is None:
            waiting.pop()
            continue
        line, prefix_below = branch
        if line.step is not None:
            parent = parents[line.step.id]
            yield line._replace(also_needs=[name for name in line.step.dependencies if name != parent])
            waiting.append(_lines_below(children, line.step.id, prefix_below[-_DEEPEST:], everything))
        else:
            yield line


def _lines_below(
    children: Mapping[str | None, list[WorkflowStep]], parent: str | None, prefix: str, everything: bool
) -> Iterator[tuple[Branch, str]]:
    """The steps below one, each with the prefix of those below it in turn."""
    there = children.get(parent, [])
    plain = [step for step in there if step.id not in children and _is_plain(step)]
    left_out = plain[_FIRST:] if len(plain) > _MANY and not everything else []
    gone = {step.id for step in left_out}
    shown = [step for step in there if step.id not in gone]
    for number, step in enumerate(shown):
        is_last = number == len(shown) - 1 and not left_out
        own, below = ("", "") if parent is None else ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        yield Branch(prefix + own, step), prefix + below
    if left_out:
        own = "" if parent is None else "└─ "
        yield Branch(prefix + own, None, (), Counter(step.status for step in left_out)), ""


def _is_plain(step: WorkflowStep) -> bool:
    return step.status in ("completed", "skipped", "pending") and not step.error


def _parents(steps: Sequence[WorkflowStep]) -> dict[str, str | None]:
    """Below which step each stands: of those it needs, the one with the longest way to it, and of equals the last."""
    by_id = {step.id: step for step in steps}
    needs = {step.id: [name for name in step.dependencies if name in by_id] for step in steps}
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError:  # no writer makes one; without an order all stand beside each other
        return dict.fromkeys(needs)
    depth: dict[str, int] = {}
    found: dict[str, str | None] = {}
    for name in order:
        found[name] = max(reversed(needs[name]), key=depth.__getitem__, default=None)
        depth[name] = 1 + max((depth[each] for each in needs[name]), default=0)
    return found
