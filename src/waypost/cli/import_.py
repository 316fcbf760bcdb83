"""`waypost import langgraph`: take over what another framework's own store holds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from waypost.cli import messages
from waypost.cli.invocation import Invocation, options, writing
from waypost.cli.sync import bar
from waypost.cli.text import count
from waypost.errors import UnsupportedPlatform

if TYPE_CHECKING:
    from waypost.adapters.langgraph.importing import Report

_SHOWN = 50


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("--to", metavar="STORE", help="The store to import into, as --state says it; made where there is none.")
@options
@click.pass_obj
def langgraph(invocation: Invocation, source: str, to: str | None) -> int:
    """Import the threads of a database of LangGraph's SqliteSaver (a file) or PostgresSaver (postgresql://…).

    A thread is imported as a whole or not at all, and read back. One that is there already with the same checkpoints
    is passed over, so this may be broken off and done again. Ends with 1 where a thread was not imported.
    """
    try:
        from waypost.adapters.langgraph import WaypostSaver, importing
    except ImportError as error:
        raise UnsupportedPlatform(str(error)) from error
    if to is not None:
        invocation.state = to
    source = os.path.expanduser(source)
    importing.look(source)  # before a store is made
    with writing(invocation, create=True) as store, bar("importing") as progress:
        report = WaypostSaver(store.store).import_database(source, progress=progress)
    if invocation.json:
        messages.print_json({"location": store.location, "threads": [each._asdict() for each in report.threads]})
    else:
        _show(report, store.location)
    return 1 if report.of("failed") else 0


def _show(report: Report, location: str) -> None:
    from waypost.cli import screen

    failed, imported = report.of("failed"), report.of("imported")
    for each in failed[:_SHOWN]:
        screen.show(screen.line(("✗ ", "bold red"), f"thread {each.thread_id!a:.80}: {each.error}"))
    if len(failed) > _SHOWN:
        screen.show(screen.text(f"… and {len(failed) - _SHOWN:,} more: --json has all"))
    checkpoints = count(sum(each.checkpoints for each in imported), "checkpoint")
    told = f"{count(len(imported), 'thread')} imported into {location}, {checkpoints}, and read back"
    same = len(report.of("same"))
    told += f"; {same:,} there already" if same else ""
    verdict = (f"✗ {len(failed):,} left; {told}", "bold red") if failed else (f"✓ {told}", "green")
    screen.show(screen.text(verdict))
