"""`waypost show --timeline` and `--tree`: when the steps of a workflow were at work, and which waits for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from waypost.cli import describe, timeline, tree
from waypost.cli.overview import condition
from waypost.cli.text import count, cut, duration, listing, local
from waypost.cli.timeline import Attempt
from waypost.models import WorkflowState, WorkflowStep
from waypost.store import Store

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_ROWS = 40
"""Steps that are shown without --all."""

_IN_A_PIPE = 120
_LONGEST_NAME = 30
_BESIDE = 38
"""Columns for what stands beside name and bar."""

_LEAST_BAR = 16


def show(store: Store, state: WorkflowState, *, timeline: bool, tree: bool, everything: bool) -> None:
    """Print what is asked for, one below the other."""
    from waypost.cli import screen

    with screen.paged():
        if timeline:
            screen.show(*_timeline(store, state, everything))
        if timeline and tree:
            screen.show(screen.blank())
        if tree:
            screen.show(*_tree(state, everything))


# --- the timeline ---


def _timeline(store: Store, state: WorkflowState, everything: bool) -> Sequence[RenderableType]:
    from waypost.cli import screen

    attempts = timeline.all_attempts(store, state)
    steps = list(state.workflow.steps)
    shown = steps if everything or len(steps) <= _ROWS else _most_telling(steps, attempts)
    begun = sorted((step for step in shown if attempts.get(step.id)), key=lambda step: attempts[step.id][0].start)
    shown = [*begun, *(step for step in shown if not attempts.get(step.id))]
    name_width = max((len(cut(step.id, _LONGEST_NAME)) for step in shown), default=0)
    total = screen.width() if screen.is_terminal() else _IN_A_PIPE
    width = max(_LEAST_BAR, total - name_width - _BESIDE)
    scale, bars = timeline.draw(attempts, [step.id for step in shown], width)
    rows = [[screen.text(), scale, screen.text(), screen.text()]]
    rows += [_row(step, bars.get(step.id, screen.text()), attempts.get(step.id, ())) for step in shown]
    parts = [_title(state, attempts), *(screen.aligned(rows, (2,)) if shown else ())]
    return [*parts, *_left_out(steps, shown)]


def _title(state: WorkflowState, attempts: Mapping[str, Sequence[Attempt]]) -> Text:
    from waypost.cli import screen

    every = [attempt for theirs in attempts.values() for attempt in theirs]
    said = "nothing was begun"
    if every:
        first, last = min(each.start for each in every), max(each.end for each in every)
        is_one_day = local(first, "%x") == local(last, "%x")
        form = "%H:%M:%S" if is_one_day else "%Y-%m-%d %H:%M"
        said = f"{_took(last - first)}, {local(first, form)} to {local(last, form)}"
        said += f", {timeline.at_a_time(every):.1f} steps at a time"
    return screen.text((state.workflow.id, "bold"), "  ", screen.status_text(condition(state)), (f"  {said}", "dim"))


def _most_telling(steps: Sequence[WorkflowStep], attempts: Mapping[str, Sequence[Attempt]]) -> list[WorkflowStep]:
    """Steps that failed, are at work or were tried again, and those that took longest, in the order of the workflow."""

    def weight(step: WorkflowStep) -> tuple[bool, bool, timedelta]:
        theirs = attempts.get(step.id, ())
        took = sum((each.took for each in theirs), timedelta())
        return step.status in ("failed", "running"), len(theirs) > 1, took

    begun = [step for step in steps if attempts.get(step.id)]
    chosen = {step.id for step in sorted(begun, key=weight, reverse=True)[:_ROWS]}
    return [step for step in steps if step.id in chosen]


def _row(step: WorkflowStep, bar: Text, attempts: Sequence[Attempt]) -> list[Text]:
    from waypost.cli import screen

    result = attempts[-1].result if attempts else step.status
    sign, style = screen.STYLES.get(result, ("?", ""))
    notes = ", ".join(filter(None, (_tried(attempts), step.agent_id)))
    return [
        screen.text((sign, style), " ", (cut(step.id, _LONGEST_NAME), "dim" if not attempts else "")),
        bar,
        screen.text(_took(attempts[-1].took) if attempts and attempts[-1].result != "interrupted" else ""),
        screen.text((notes, "dim")),
    ]


def _tried(attempts: Sequence[Attempt]) -> str:
    return f"{len(attempts)} attempts" if len(attempts) > 1 else ""


def _took(time: timedelta) -> str:
    return duration(time / timedelta(milliseconds=1))


def _left_out(steps: Sequence[WorkflowStep], shown: Sequence[WorkflowStep]) -> Sequence[Text]:
    from waypost.cli import screen

    left = Counter(step.status for step in steps) - Counter(step.status for step in shown)
    return [screen.text((f"… and {_numbers(left)}: --all shows them", "dim"))] if left else []


def _numbers(statuses: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {status}" for status, number in statuses.items())


# --- the tree ---


def _tree(state: WorkflowState, everything: bool) -> Sequence[RenderableType]:
    from waypost.cli import screen

    steps = list(state.workflow.steps)
    title = screen.text((state.workflow.id, "bold"), (f"  {count(len(steps), 'step')}", "dim"))
    return [title, *(_branch(each) for each in tree.branches(steps, everything=everything))]


def _branch(branch: tree.Branch) -> Text:
    from waypost.cli import screen

    step = branch.step
    if step is None:
        return screen.text((branch.prefix, "dim"), (f"… and {_numbers(branch.left_out)}: --all shows them", "dim"))
    found = describe.step(step)
    gone = found["owner"] is not None and found["owner"]["liveness"] == "dead"
    sign, style = screen.STYLES.get("interrupted" if gone else step.status, ("?", ""))
    said = [step.agent_id or ""]
    if found["duration_ms"] is not None and not gone:
        said.append(duration(found["duration_ms"]))
    if branch.also_needs:
        said.append(f"also needs {listing(branch.also_needs, 3)}")
    notes = ", ".join(filter(None, said))
    return screen.text((branch.prefix, "dim"), (sign, style), " ", step.id, (f"  {notes}" if notes else "", "dim"))
