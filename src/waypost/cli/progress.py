"""How a run of commands is shown while it goes on: live in a terminal, a line for each event in a pipe."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from waypost.cli import screen
from waypost.cli.engine import Done, Prepared
from waypost.cli.text import count, duration, escape, escape_lines, listing
from waypost.models import WorkflowStep

if TYPE_CHECKING:
    from rich.live import Live as RichLive
    from rich.progress import Progress, TaskID
    from rich.text import Text

_LINES_OF_A_FAILURE = 12


class Lines:
    """Tells each event on a line of its own."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._lock = threading.Lock()
        self._waited_for: set[str] = set()

    def say(self, *lines: Text) -> None:
        if not self._quiet:
            with self._lock:
                screen.show(*lines)
                screen.flush()

    def prepared(self, run: Prepared) -> None:
        finished = len(run.finished)
        been = f", {finished:,} finished before" if finished else ""
        self.say(screen.text((run.workflow, "bold"), f"  {count(run.total, 'step')}{been}"))
        for names, what in (
            (run.taken_over, "taken over from a run that died"),
            (run.again, "failed before and tried again"),
            (run.added, "new in the file"),
            (run.changed, "changed in the file"),
            (run.missing, "no longer in the file, kept as they are"),
        ):
            if names:
                self.say(screen.text((f"  {what}: ", "dim"), listing(names, 8)))

    def started(self, step_id: str) -> None:
        self.say(screen.text(("▶ ", "cyan"), step_id))

    def retrying(self, step_id: str, error: str, retry: int, of: int) -> None:
        self.say(screen.text(("↻ ", "yellow"), step_id, (f"  {error}; trying again, {retry} of {of}", "yellow")))

    def ended(self, done: Done) -> None:
        if done.result == "completed":
            self.say(screen.text(("✓ ", "green"), done.step_id, (f"  {_took(done)}", "dim")))
        elif done.result == "interrupted":
            self.say(screen.text(("! ", "yellow"), done.step_id, ("  interrupted, pending again", "yellow")))
        else:
            after = f", after {done.attempts} attempts" if done.attempts > 1 else ""
            self.say(
                screen.text(("✗ ", "bold red"), done.step_id, (f"  {done.reason}{after}", "red")), *_last_words(done)
            )

    def waiting(self, steps: Mapping[str, WorkflowStep]) -> None:
        for name, step in steps.items():
            if name not in self._waited_for:
                self._waited_for.add(name)
                who = "somebody" if step.owner is None else f"process {step.owner.pid}"
                self.say(screen.text(("… ", "dim"), name, (f"  {who} is working on it", "dim")))

    def stopping(self, commands: int) -> None:
        under_way = f"; ending {count(commands, 'command')} (again to kill)" if commands else ""
        self.say(screen.text((f"stopping{under_way}", "yellow")))


def _took(done: Done) -> str:
    return "" if done.ended is None else duration(done.ended.duration_ms)


def _last_words(done: Done) -> list[Text]:
    """The end of what a failed command said."""
    if done.ended is None or done.ended.exit_code is None:
        return []
    said = (done.ended.stderr.strip() or done.ended.stdout.strip()).splitlines()
    return [screen.text((f"    {escape_lines(line)}", "dim")) for line in said[-_LINES_OF_A_FAILURE:]]


class Live(Lines):
    """Tells what is finished on lines, with what is under way and a bar below them."""

    def __init__(self, display: RichLive, under_way: Progress, all_steps: Progress) -> None:
        super().__init__()
        self._display = display
        self._under_way = under_way
        self._all_steps = all_steps
        self._all: TaskID | None = None
        self._tasks: dict[str, TaskID] = {}

    def say(self, *lines: Text) -> None:
        for line in lines:
            self._display.console.print(line)

    def prepared(self, run: Prepared) -> None:
        super().prepared(run)
        self._all = self._all_steps.add_task("all steps", total=run.total, completed=len(run.finished))

    def started(self, step_id: str) -> None:
        self._tasks[step_id] = self._under_way.add_task(escape(step_id), total=None)

    def ended(self, done: Done) -> None:
        task = self._tasks.pop(done.step_id, None)
        if task is not None:
            self._under_way.remove_task(task)
        super().ended(done)
        if self._all is not None and done.result == "completed":
            self._all_steps.advance(self._all)


@contextmanager
def reporter(quiet: bool) -> Generator[Lines]:
    """Whoever shows the run, for the time it takes."""
    if quiet or not screen.is_terminal():
        yield Lines(quiet=quiet)
        return
    from rich.console import Group
    from rich.live import Live as RichLive
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    name = TextColumn("{task.description}", markup=False)
    under_way = Progress(SpinnerColumn(), name, TimeElapsedColumn())
    all_steps = Progress(name, BarColumn(24, "dim", "green", "green"), MofNCompleteColumn(), TimeElapsedColumn())
    with RichLive(Group(under_way, all_steps), console=screen.console(), transient=True) as display:
        yield Live(display, under_way, all_steps)
