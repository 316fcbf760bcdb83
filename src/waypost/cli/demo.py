"""`waypost demo`: see Waypost lose a process in the middle of real work, and carry on."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from waypost.cli import messages
from waypost.cli.invocation import Invocation, options
from waypost.demo import work
from waypost.errors import InvalidInput

if TYPE_CHECKING:
    from waypost.demo.conduct import Demo, Story, Watcher


@click.command()
@click.option("--keep", metavar="DIR", type=click.Path(), help="Keep the store in this new directory.")
@click.option(
    "--kill-at", metavar="N", type=click.IntRange(1), help="Kill after N finished steps; by default half of them."
)
@options
@click.pass_obj
def demo(invocation: Invocation, keep: str | None, kill_at: int | None) -> int:
    """Survey Python's standard library in hundreds of steps by six agents, kill the process with SIGKILL in the
    middle, and resume: nothing that was finished is done again. Takes about 15 seconds.

    The store lies in a temporary directory, which goes at the end unless --keep names another.
    """
    with ExitStack() as stack:
        folder = _folder(stack, keep)
        from waypost.demo.conduct import Demo

        performed = Demo(folder, kill_at)
        stack.callback(performed.stop)
        story = _perform(performed, invocation.json)
        if invocation.json:
            messages.print_json({"kept": keep is not None, "kept_its_word": story.kept_its_word, "story": story})
        else:
            _close(story, keep)
    return 0 if story.kept_its_word else 1


def _folder(stack: ExitStack, keep: str | None) -> str:
    if keep is None:
        return stack.enter_context(tempfile.TemporaryDirectory(prefix="waypost-demo-"))
    folder = os.path.abspath(keep)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.listdir(folder):
            raise InvalidInput(f"{keep} is not empty: --keep takes a new directory", location=folder)
    except OSError as error:
        raise InvalidInput(f"{keep} cannot be used: {error.strerror}", location=folder) from error
    return folder


def _perform(performed: Demo, quiet: bool) -> Story:
    from waypost.cli import screen
    from waypost.demo import show

    def say(*parts: object) -> None:
        if not quiet:
            screen.show(*parts)  # pyright: ignore
            screen.flush()

    say(*show.opening(performed.location, len(performed.sources), len(performed.steps), len(work.AGENTS)))
    with _watcher(performed, "at work", quiet) as watcher:
        wreck = performed.run_until_killed(watcher)
    say(*show.after_the_kill(wreck))
    with _watcher(performed, "resumed", quiet) as watcher:
        performed.resume(watcher)
    say(
        screen.text(
            ("✓ resumed", "bold green"),
            f" and finished by another process, in {performed.ended_s - performed.resumed_s:.1f} s",
        )
    )
    return performed.take_stock(wreck)


@contextmanager
def _watcher(performed: Demo, title: str, quiet: bool) -> Generator[Watcher]:
    """Shows how far the worker is: a bar in a terminal, now and then a line in a pipe."""
    from waypost.cli import screen

    total = len(performed.steps)
    if quiet:
        yield lambda finished, by_agent: None
    elif screen.is_terminal():
        with _bars(title, total) as watcher:
            yield watcher
    else:
        told = [-1]

        def tell(finished: int, by_agent: dict[str, int]) -> None:
            quarter = 4 * finished // total
            if quarter > told[0]:
                told[0] = quarter
                screen.show(screen.text(f"{title}: {finished:,} of {total:,} steps finished"))
                screen.flush()

        yield tell


@contextmanager
def _bars(title: str, total: int) -> Generator[Watcher]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from waypost.cli import screen

    columns = (
        TextColumn("{task.description}"),
        BarColumn(40, "dim", "green", "green"),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=screen.console(), transient=True) as progress:
        task = progress.add_task(title, total=total)

        def draw(finished: int, by_agent: dict[str, int]) -> None:
            progress.update(task, completed=finished)

        yield draw


def _close(story: Story, keep: str | None) -> None:
    from waypost.cli import screen
    from waypost.demo import show

    screen.show(*show.closing(story), screen.blank())
    if keep is None:
        screen.show(screen.text(("the store was temporary: waypost demo --keep DIR keeps one to look at", "dim")))
        return
    place = shlex.quote(os.path.join(keep, "state"))
    screen.show(screen.text("look at it yourself:"))
    for command in (
        f"waypost show {work.WORKFLOW} --state {place}",
        f"waypost show {work.WORKFLOW} --step report --state {place}",
        f"waypost verify --state {place}",
    ):
        screen.show(screen.indented(screen.text((command, "bold"))))
