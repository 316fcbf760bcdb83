"""`waypost session export` and `import`: a session and its workflows, carried from store to store in one file."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import get_args

import click

from waypost.cli import messages
from waypost.cli.carrying import named
from waypost.cli.invocation import Invocation, config_of, is_there, options, reading, writing
from waypost.cli.session import session_id
from waypost.cli.text import count, size
from waypost.errors import InvalidInput
from waypost.session_models import OnClash, SessionExport, SessionImport
from waypost.store import Progress


@click.command("export")
@click.argument("session")
@click.argument("file", metavar="FILE")
@click.option("--without-history", is_flag=True, help="Only the newest version of each workflow, and its checkpoints.")
@click.option("--sealed", is_flag=True, help="Seal all of it with the current key, which whoever imports it needs.")
@click.option("--yes", is_flag=True, help="Write over FILE if it is there.")
@options
@click.pass_obj
def export(invocation: Invocation, session: str, file: str, without_history: bool, sealed: bool, yes: bool) -> None:
    """Write SESSION and all workflows that it has written to into FILE, which stands alone.

    SESSION is an id, or the beginning of one; with - for FILE it goes to standard output. All versions are in it with
    their outputs, and all checkpoints. The store may be in use meanwhile.
    """
    if file == "-":
        if invocation.json:
            raise click.UsageError("with --json the file cannot go to standard output: name one")
        if sys.stdout.isatty():
            raise InvalidInput("an export is no text for a terminal: name a file, or send it on")
    with reading(invocation) as store, _bar("exporting") as progress:
        found = session_id(store, session)
        target = sys.stdout.buffer if file == "-" else file
        done = store.wp.export_session(
            found, target, include_history=not without_history, sealed=sealed, overwrite=yes, progress=progress
        )
    assert isinstance(done, SessionExport)
    if file == "-":
        sys.stdout.flush()
        return
    if invocation.json:
        messages.print_json({"file": file, "session_id": done.session_id, "workflows": done.workflows,
                             "size_bytes": done.size_bytes, "sha256": done.sha256})  # fmt: skip
        return
    from waypost.cli import screen

    what = f"  holds session {done.session_id} with {count(len(done.workflows), 'workflow')} ({size(done.size_bytes)})"
    screen.show(screen.text(("✓ ", "green"), (file, "bold"), what))


@click.command("import")
@click.argument("file", metavar="FILE")
@click.option("--as", "new_id", metavar="NEW_ID", help="The id that the session has here.")
@click.option(
    "--on-clash",
    type=click.Choice(get_args(OnClash)),
    default="refuse",
    show_default=True,
    help="What becomes of a workflow that is here with another history.",
)
@options
@click.pass_obj
def import_(invocation: Invocation, file: str, new_id: str | None, on_clash: OnClash) -> None:
    """Take in the session that FILE holds, with all of its workflows, or nothing; - is standard input.

    Versions, commit ids and times stay what they were. The session is paused: `waypost resume` shows it. What is here
    already stays as it is, so that importing twice is importing once. Where there is no store, one is made.
    """
    if file != "-" and not is_there(invocation):
        from waypost import bundles

        with named(file):
            bundles.look(file, config_of(invocation.location()).performance.max_file_size << 20)
    with writing(invocation, create=True) as store, _bar("importing") as progress, named(file):
        source = sys.stdin.buffer if file == "-" else file
        done = store.wp.import_session(source, new_id, on_clash=on_clash, progress=progress).unwrap()
    if invocation.json:
        messages.print_json(done)
        return
    _tell(done)


def _tell(done: SessionImport) -> None:
    from waypost.cli import screen

    here = {there: name for name, there in done.renamed.items()}
    for names, mark, what in (
        (done.made, ("✓ ", "green"), "new here"),
        (done.merged, ("✓ ", "yellow"), "merged with what was here"),
        (done.unchanged, ("· ", "dim"), "here already"),
    ):
        for name in names:
            was = f", in the file {here[name]}" if name in here else ""
            screen.show(screen.text(mark, (name, "bold"), (f"  {what}{was}", "dim")))
    text = f"  session with {count(len(done.workflows), 'workflow')}"
    screen.show(screen.text(("✓ ", "green"), (done.session_id, "bold"), text))


@contextmanager
def _bar(what: str) -> Generator[Progress]:
    """A bar on standard error, where people look."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(24), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, of: bars.update(task, completed=done, total=of)


def _silent(done: int, of: int) -> None:
    """Nobody looks."""
