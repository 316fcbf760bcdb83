"""What is at work, below the commits that `waypost watch` tells of, while it waits in a terminal.

Invariants:

* Commits scroll by above; below them stands what is true now, and is drawn anew several times a second.
* What is drawn is found out after commits were told, and every two seconds, since a process that dies makes no commit.
* Of a store of any size only those workflows are looked at in which something is at work.
* Drawing reads nothing: a thread of its own does it, with what was made last.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from waypost.cli import describe
from waypost.cli.invocation import Reading
from waypost.cli.overview import Condition, condition
from waypost.cli.text import count, cut, duration
from waypost.errors import WaypostError
from waypost.queries import StateQuery

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live as RichLive
    from rich.text import Text

LOOK_EVERY_S, LOOK_AGAIN_S = 2.0, 0.2
"""It is looked what is at work when the first has passed, and when something was committed and the second has."""

_MOST = 8
_LOOKED_AT = 32
_LONGEST_NAME = 40
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_TURNS_S = 8


@dataclass(frozen=True)
class AtWork:
    """A step that is running: whose, which, by whom, since when, and whether its process is dead."""

    workflow_id: str
    step_id: str
    agent_id: str | None
    since: datetime | None
    is_dead: bool


@dataclass(frozen=True)
class Now:
    """One workflow as it is: its version and condition, how far it is, and what is at work."""

    id: str
    version: int
    condition: Condition
    progress: float
    finished: int
    total: int
    begun: datetime | None
    at_work: Sequence[AtWork]


def look(store: Reading, workflow_id: str) -> Now | None:
    """One workflow; None where it cannot be read, or is not there."""
    try:
        state = store.wp.load_workflow_state(workflow_id).unwrap()
        folded = state.workflow.fold()
    except WaypostError:
        return None
    running: list[AtWork] = []
    for step in state.workflow.steps:
        if step.status == "running":
            owner = describe.owner(step)
            is_dead = owner is not None and owner["liveness"] == "dead"
            running.append(AtWork(workflow_id, step.id, step.agent_id, step.start_time, is_dead))
    finished = folded.step_counts["completed"] + folded.step_counts["skipped"]
    total = sum(folded.step_counts.values())
    version = state.metadata.version
    return Now(workflow_id, version, condition(state), folded.progress, finished, total, folded.start_time, running)


class Quiet:
    """Shows commits, and nothing below them."""

    def say(self, workflow_id: str, line: Text) -> None:
        from waypost.cli import screen

        screen.show_line(line)
        screen.flush()

    def look(self) -> None:
        """Find out what is at work."""


class Below(Quiet):
    """Shows commits above, and what is at work below: in one workflow, or in all that were at work, or are told of."""

    def __init__(self, store: Reading, workflow_id: str | None) -> None:
        self._store = store
        self._only = workflow_id
        self._names = dict.fromkeys([workflow_id] if workflow_id is not None else self._at_work())
        self._now: Sequence[Now] = ()
        self._display: RichLive | None = None

    def _at_work(self) -> list[str]:
        page = self._store.wp.list_workflows(StateQuery(status=["running", "failed", "paused"], limit=_LOOKED_AT))
        return [one.id for one in page if one.step_counts["running"]]

    def say(self, workflow_id: str, line: Text) -> None:
        if self._display is not None:
            self._display.console.print(line)
        self._names.pop(workflow_id, None)
        self._names = {workflow_id: None, **self._names}

    def look(self) -> None:
        found = [look(self._store, name) for name in list(self._names)[:_LOOKED_AT]]
        self._now = [now for now in found if now is not None and (now.at_work or now.id == self._only)]
        if self._only is None:
            self._names = dict.fromkeys(now.id for now in self._now)

    @contextmanager
    def displayed(self) -> Generator[None]:
        from rich.live import Live as RichLive

        from waypost.cli import screen

        made = RichLive(
            get_renderable=self._drawn,
            console=screen.console(),
            transient=True,
            refresh_per_second=_TURNS_S,
            redirect_stdout=False,
            redirect_stderr=sys.stderr.isatty(),
        )
        with made as self._display:
            try:
                yield
            finally:
                self._display = None

    def show_last(self) -> None:
        """Leave on the screen what was found out last."""
        from waypost.cli import screen

        screen.show(*screen.aligned([_total(now) for now in self._now]))

    # --- drawing ---

    def _drawn(self) -> RenderableType:
        from rich.console import Group

        from waypost.cli import screen

        if not self._now:
            return screen.text((f"{_turn()} nobody is at work; waiting for commits, until Ctrl-C", "dim"))
        at_work = [each for now in self._now for each in now.at_work]
        rows = [_row(each, len(self._now) > 1) for each in at_work[:_MOST]]
        lines = screen.aligned(rows, (2,)) if rows else []
        if len(at_work) > _MOST:
            lines.append(screen.text((f"  … and {count(len(at_work) - _MOST, 'step')} more", "dim")))
        return Group(*lines, *screen.aligned([_total(now) for now in self._now[:_MOST]]))


def _turn() -> str:
    from waypost.cli import screen

    return _SPINNER[int(time.monotonic() * _TURNS_S) % len(_SPINNER)] if screen.can_draw() else "."


def _row(each: AtWork, with_workflow: bool) -> list[Text]:
    from waypost.cli import screen

    sign, style = screen.STYLES["interrupted"] if each.is_dead else (_turn(), "cyan")
    owner = ("its process is dead", "yellow") if each.is_dead else (each.agent_id or "", "dim")
    waited = describe.elapsed_ms(each.since, None)
    name = f"{each.workflow_id}: {each.step_id}" if with_workflow else each.step_id
    return [
        screen.text((sign, style), " ", cut(name, _LONGEST_NAME)),
        screen.text(owner),
        screen.text((duration(waited) if waited is not None and not each.is_dead else "", "dim")),
    ]


def _total(now: Now) -> list[Text]:
    from waypost.cli import screen

    waited = describe.elapsed_ms(now.begun, None)
    is_on = now.condition == "running" and waited is not None
    return [
        screen.text((cut(now.id, _LONGEST_NAME), "bold")),
        screen.status_text(now.condition),
        screen.bar(now.progress / 100, 20, screen.STYLES[now.condition][1]),
        screen.text(f"{now.finished:,}/{now.total:,}"),
        screen.text((duration(waited) if is_on and waited is not None else "", "dim")),
    ]
