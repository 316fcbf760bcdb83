"""`waypost watch`: commits as they are made, a line for each; in a terminal with what is at work below them."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

from waypost.cli import messages
from waypost.cli.commits import by, what
from waypost.cli.invocation import Invocation, Reading, options, reading, workflow_argument, workflow_id
from waypost.cli.live import LOOK_AGAIN_S, LOOK_EVERY_S, Below, Now, Quiet, look
from waypost.cli.overview import Condition
from waypost.cli.text import escape, local

if TYPE_CHECKING:
    from rich.text import Text

    from waypost.watching import CommitEvent, Watch

Until = Literal["completed", "failed", "paused", "interrupted", "ended"]

_ENDS = ("completed", "failed", "interrupted", "damaged")
"""Conditions out of which a workflow does not come by itself."""

_LONGEST_CURSOR = 200
_OTHERWISE = 1


@click.command()
@workflow_argument(required=False)
@click.option("--from", "cursor", metavar="CURSOR", help="Go on behind an event; `start` is the oldest commit kept.")
@click.option("--count", metavar="N", type=click.IntRange(1), help="End after so many.")
@click.option("--until", type=click.Choice(get_args(Until)), help="End once WORKFLOW is so; 1 if it ends otherwise.")
@options
@click.pass_obj
def watch(
    invocation: Invocation, workflow: str | None, cursor: str | None, count: int | None, until: Until | None
) -> int:
    """Tell of commits as they are made, by whatever process: a line for each, until Ctrl-C, which is no failure.

    WORKFLOW is an id, or the beginning of one; without it all workflows are watched. With --json each line is a
    document, whose `cursor` goes on behind it. In a terminal, what is at work stands below.
    """
    if until is not None and workflow is None:
        raise click.UsageError("--until is for one workflow: name it")
    found: Condition = "damaged"
    with reading(invocation) as store, ExitStack() as stack:
        name = None if workflow is None else workflow_id(store.store, workflow)
        before = None if name is None or until is None else look(store, name)
        commits = stack.enter_context(store.wp.watch(name, cursor=cursor))
        stack.enter_context(_until_interrupted(invocation, commits, workflow, is_failure=until is not None))
        display = _display(invocation, store, name)
        if isinstance(display, Below):
            stack.enter_context(display.displayed())
        watching = _Watching(invocation, commits, display, count, 0 if before is None else before.version)
        watching.run(lambda: None if name is None or until is None else _ended_at(store, name, until))
        if name is not None:
            found = _condition(look(store, name))
    if isinstance(display, Below):
        display.show_last()
    if until is None or name is None or _is_so(found, until):
        return 0
    if not invocation.json:
        command = f"waypost show {shlex.quote(name)}{invocation.flag()}"
        messages.note(escape(f"{name} is {found}: {command}"))
    return _OTHERWISE


def _condition(now: Now | None) -> Condition:
    return "damaged" if now is None else now.condition


def _is_so(found: Condition, until: Until) -> bool:
    return found == until or (until == "ended" and found in _ENDS)


def _ended_at(store: Reading, name: str, until: Until) -> int | None:
    """The version at which a workflow is as it was waited for, or has come to another end; 0 where it does not load."""
    now = look(store, name)
    found = _condition(now)
    if found not in _ENDS and not _is_so(found, until):
        return None
    return 0 if now is None else now.version


def _display(invocation: Invocation, store: Reading, name: str | None) -> Quiet:
    from waypost.cli import screen

    is_live = screen.is_terminal() and screen.can_draw() and not screen.console().is_dumb_terminal
    return Below(store, name) if is_live and not invocation.json else Quiet()


class _Watching:
    """The loop that tells of commits, and looks between them."""

    def __init__(self, invocation: Invocation, commits: Watch, display: Quiet, count: int | None, version: int) -> None:
        """`version` is that of the only workflow before it was watched."""
        self._invocation = invocation
        self._commits = commits
        self._display = display
        self._left = count
        self._version = version
        self._looked_at = 0.0
        self._is_news = True

    def run(self, ended_at: Callable[[], int | None]) -> None:
        """Until that gives a version, to which it is told; or until so many commits were told as were asked for."""
        while True:
            if self._is_to_look():
                self._display.look()
                version = ended_at()
                if version is not None:
                    self._tell_rest(version)
                    return
            if not self._tell():
                return

    def _wait_s(self) -> float:
        """How long it is until it is to be looked again: soon where something was committed since."""
        every = LOOK_AGAIN_S if self._is_news else LOOK_EVERY_S
        return max(0.0, self._looked_at + every - time.monotonic())

    def _is_to_look(self) -> bool:
        if self._wait_s():
            return False
        self._looked_at, self._is_news = time.monotonic(), False
        return True

    def _tell(self) -> bool:
        """Tell of commits until it is to be looked again. False after the last one that was asked for."""
        while (event := self._commits.get(self._wait_s())) is not None:
            if not self._tell_of(event):
                return False
            if not self._wait_s():
                break
        return not self._commits.has_ended

    def _tell_rest(self, version: int) -> None:
        """Tell of what led to a version, which may have been seen before the watch came upon it."""
        until = time.monotonic() + LOOK_EVERY_S
        event: CommitEvent | None
        while True:
            left = max(0.0, until - time.monotonic()) if self._version < version else 0.0
            event = self._commits.get(left)
            if event is None or not self._tell_of(event):
                return

    def _tell_of(self, event: CommitEvent) -> bool:
        self._is_news, self._version = True, event.version
        if self._invocation.json:
            messages.print_json_line(_document(event))
            sys.stdout.flush()
        else:
            self._display.say(event.workflow_id, _line(event))
        if self._left is not None:
            self._left -= 1
        return self._left != 0


@contextmanager
def _until_interrupted(
    invocation: Invocation, commits: Watch, workflow: str | None, *, is_failure: bool
) -> Generator[None]:
    """An interrupt is how it is ended; people are told how to go on. Of who waited for something, it is a failure."""
    try:
        yield
    except KeyboardInterrupt:
        cursor = commits.cursor
        if not invocation.json and len(cursor) <= _LONGEST_CURSOR:
            command = "waypost watch" if workflow is None else f"waypost watch {shlex.quote(escape(workflow))}"
            messages.note(f"\ngo on behind the last one: {command} --from {cursor}{invocation.flag()}")
        if is_failure:
            raise


def _document(event: CommitEvent) -> dict[str, Any]:
    import msgspec

    return {**msgspec.to_builtins(event), "cursor": event.cursor}


def _line(event: CommitEvent) -> Text:
    """One line that says what a commit was."""
    from waypost.cli import screen

    version = screen.text((event.workflow_id, "bold"), (f"@{event.version}", "dim"))
    if event.taken_back_from is not None:
        return screen.text(" " * 10, version, f"  was taken back from version {event.taken_back_from}")
    if event.at is None:
        return screen.text(" " * 10, version, "  is no longer kept")
    at = local(event.at, "%H:%M:%S")
    who = by(event)
    return screen.text(
        (at, "dim"), "  ", version, "  ", what(event, event.statuses), (f"  by {who}" if who else "", "dim")
    )
