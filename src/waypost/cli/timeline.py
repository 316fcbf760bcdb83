"""When each step of a workflow was at work: attempts as bars over one axis of time.

A time in which nobody was at work, and which would push the bars together, takes little of the axis, and is marked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import TYPE_CHECKING, NamedTuple

from waypost import clock, history
from waypost.cli import describe
from waypost.cli.text import duration
from waypost.models import WorkflowState, WorkflowStep
from waypost.store import DocumentId, Store

if TYPE_CHECKING:
    from rich.text import Text

_MOST_COMMITS = 5_000
"""So many of the newest are looked through for earlier attempts."""

_LONG_GAP, _SHORT_GAP = 0.15, 0.04
"""An idle time longer than the first share of all work is drawn as long as the second."""

_NOUGHT = re.compile(r"\.0+(?= )| 0 (s|min)$")
_LEAST = timedelta(microseconds=1)
_TICKS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)
_TICKS_H = (1, 2, 3, 6, 12, 24, 48, 120, 240, 480, 1200)


class Attempt(NamedTuple):
    """One attempt at a step. `result` is a status of a step, or `interrupted`."""

    start: datetime
    end: datetime
    result: str

    @property
    def took(self) -> timedelta:
        return self.end - self.start


# --- what was when ---


def last_attempts(state: WorkflowState) -> dict[str, list[Attempt]]:
    """The last attempt at each step that was begun: all that a state tells."""
    now = clock.to_datetime(clock.now_us())
    found = {step.id: _last_attempt(step, state.metadata.updated_at, now) for step in state.workflow.steps}
    return {name: [attempt] for name, attempt in found.items() if attempt is not None}


def _last_attempt(step: WorkflowStep, updated_at: datetime | None, now: datetime) -> Attempt | None:
    start = step.start_time or step.end_time  # what was never said to run has an end alone
    if start is None or step.status == "pending":
        return None
    if step.status != "running":
        return Attempt(start, max(start, step.end_time or start), step.status)
    owner = describe.owner(step)
    if owner is None or owner["liveness"] != "dead":
        return Attempt(start, max(start, step.end_time or now), "running")
    # it ended some time after; the last change is what is known to have been before
    return Attempt(start, max(start, updated_at or start), "interrupted")


def all_attempts(store: Store, state: WorkflowState) -> dict[str, list[Attempt]]:
    """Every attempt at each step, as far as history is kept."""
    found = last_attempts(state)
    again = {step.id for step in state.workflow.steps if step.retry_count or step.interruptions}
    if again:
        for name, earlier in _from_history(store, state, again).items():
            last = found.get(name, [])
            before = [each for each in earlier if not last or each.start < last[0].start]
            found[name] = before + last
    return found


def _from_history(store: Store, state: WorkflowState, names: set[str]) -> dict[str, list[Attempt]]:
    """Attempts at some steps that had ended, told by the commits that wrote these steps."""
    past = history.past_of(store, DocumentId("workflow", state.workflow.id))
    commits = islice(past.commits(before=state.metadata.version + 1), _MOST_COMMITS)
    found: dict[str, list[Attempt]] = {}
    begun: dict[str, datetime] = {}
    for commit in reversed(list(commits)):
        for name, step in history.steps(commit, names).items():
            open_since = begun.pop(name, None)
            start, end = step.start_time or step.end_time, step.end_time
            if step.status == "running" and start is not None:
                begun[name] = start
                end = None
            if end is not None and start is not None and step.status != "pending":
                found.setdefault(name, []).append(Attempt(start, max(start, end), step.status))
            elif open_since is not None and open_since != begun.get(name):
                ended = max(open_since, start or clock.to_datetime(commit.time_us))
                found.setdefault(name, []).append(Attempt(open_since, ended, "interrupted"))
    return found


# --- the axis ---


class Axis:
    """Times as columns, from 0 to a width."""

    def __init__(self, attempts: Iterable[Attempt], width: int) -> None:
        """There is one attempt at least."""
        self._width = width
        self._pieces = _busy(attempts)
        worked = sum((end - start for start, end in self._pieces), timedelta()) or _LEAST
        self._gaps = [
            _SHORT_GAP * worked if later - earlier > _LONG_GAP * worked else later - earlier
            for (_, earlier), (later, _) in pairwise(self._pieces)
        ]
        self._shown = worked + sum(self._gaps, timedelta())
        self.begin, self.end = self._pieces[0][0], self._pieces[-1][1]
        self._is_cut = [
            shown < later - earlier
            for shown, ((_, earlier), (later, _)) in zip(self._gaps, pairwise(self._pieces), strict=True)
        ]

    def column(self, moment: datetime) -> float:
        before = timedelta()
        for number, (start, end) in enumerate(self._pieces):
            if moment <= end or number == len(self._gaps):
                before += max(timedelta(), min(moment, end) - start)
                break
            before += end - start + self._gaps[number]
        return min(self._width, self._width * (before / self._shown))

    def cuts(self) -> list[int]:
        """Columns in which idle time was left out."""
        found = zip(self._is_cut, pairwise(self._pieces), strict=True)
        middles = [(self.column(left[1]) + self.column(right[0])) / 2 for is_cut, (left, right) in found if is_cut]
        return [min(self._width - 1, int(middle)) for middle in middles]

    def ticks(self) -> list[tuple[int, str]]:
        """Columns, and how long after the begin they are: at round times, or where work began again after a cut."""
        after = self._round_times()
        if any(self._is_cut):
            begins = (start for start, _ in self._pieces[1:])
            after = [timedelta(), *(at - self.begin for at, cut in zip(begins, self._is_cut, strict=True) if cut)]
        return [(int(self.column(self.begin + each)), _after(each)) for each in after]

    def _round_times(self) -> list[timedelta]:
        """About five times after the begin, none of them after the end."""
        whole = self.end - self.begin
        wanted = whole.total_seconds() / 5
        seconds = (*_TICKS_S, *(3600 * hours for hours in _TICKS_H))
        step = timedelta(seconds=next((each for each in seconds if each >= wanted), wanted))
        return [number * step for number in range(6) if number * step <= whole]


def _after(time: timedelta) -> str:
    """A time after the begin, without what is nought."""
    said = duration(time / timedelta(milliseconds=1)) if time else "0 s"
    return _NOUGHT.sub("", said)


def _busy(attempts: Iterable[Attempt]) -> list[tuple[datetime, datetime]]:
    """The times in which somebody was at work, none of which overlap, in their order."""
    found: list[tuple[datetime, datetime]] = []
    for start, end, _ in sorted(attempts):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def at_a_time(attempts: Sequence[Attempt]) -> float:
    """How many steps were at work on average, while any was."""
    worked = sum((end - start for start, end in _busy(attempts)), timedelta())
    return sum((each.took for each in attempts), timedelta()) / worked if worked else 1.0


# --- drawing ---


def bar(axis: Axis, attempts: Sequence[Attempt], width: int) -> Text:
    """A row of the drawing: a bar for each attempt, which ends with the sign of what became of it."""
    from waypost.cli import screen

    signs: list[tuple[str, str]] = [(" ", "")] * width
    for column in axis.cuts():
        signs[column] = ("┆", "dim")
    ends: dict[int, tuple[str, str]] = {}
    for attempt in attempts:
        sign, style = screen.STYLES.get(attempt.result, ("?", ""))
        first = min(width - 1, int(axis.column(attempt.start)))
        last = max(first, min(width, math.ceil(axis.column(attempt.end))) - 1)
        signs[first : last + 1] = [("━", style)] * (last + 1 - first)
        if attempt.result != "completed":
            ends[last] = (sign, style)
    for column, sign in ends.items():  # after all bars, so that the next attempt does not hide how one ended
        signs[column] = sign
    return screen.text(*signs)


def scale(axis: Axis, width: int) -> Text:
    """The row above: how long after the begin a column is."""
    from waypost.cli import screen

    made = ""
    for column, said in axis.ticks():
        if (not made or column > len(made)) and column + len(said) <= width:
            made = made.ljust(column) + said
    return screen.text((made, "dim"))


def draw(attempts: Mapping[str, Sequence[Attempt]], names: Sequence[str], width: int) -> tuple[Text, dict[str, Text]]:
    """The scale, and the bar of each of some steps that was begun, all over the axis of all attempts at these."""
    from waypost.cli import screen

    shown = {name: attempts[name] for name in names if attempts.get(name)}
    if not shown:
        return screen.text(), {}
    axis = Axis((each for theirs in shown.values() for each in theirs), width)
    return scale(axis, width), {name: bar(axis, theirs, width) for name, theirs in shown.items()}
