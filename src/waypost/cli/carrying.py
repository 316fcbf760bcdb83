"""`waypost checkpoint export` and `import`: carrying what is kept from store to store in one file."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256

import click

from waypost.cli import describe, given, messages
from waypost.cli.invocation import Invocation, config_of, is_there, options, reading, writing
from waypost.cli.invocation import checkpoint as checkpoint_of
from waypost.cli.text import size
from waypost.errors import InvalidInput, StoreUnavailable, WaypostError
from waypost.store import read_export

_MODE = 0o600


@click.command("export")
@click.argument("checkpoint")
@click.option(
    "-o", "--output", metavar="FILE", help="Where it goes; - for standard output.  [default: a name by its id]"
)
@click.option("--yes", is_flag=True, help="Write over FILE if it is there.")
@options
@click.pass_obj
def export(invocation: Invocation, checkpoint: str, output: str | None, yes: bool) -> None:
    """Write CHECKPOINT to one file that stands alone: the version that it keeps, with all outputs and values.

    CHECKPOINT is an id, or the beginning of one.
    """
    if output == "-" and invocation.json:
        raise click.UsageError("with --json the file cannot go to standard output: name one")
    if output is not None and (not output or os.path.isdir(output)):
        raise InvalidInput(f"{output} is a directory: name a file" if output else "the name of the file is empty")
    with reading(invocation) as store:
        kept = checkpoint_of(store, checkpoint, invocation.flag())
        data = store.wp.export_checkpoint(kept.id)
    if output == "-":
        _to_output(data)
        return
    path = _default_name(kept.id) if output is None else output
    _put(path, data, overwrite=yes)
    if invocation.json:
        found = {"file": path, "size_bytes": len(data), "sha256": sha256(data).hexdigest()}
        messages.print_json({**describe.checkpoint(kept), **found})
        return
    from waypost.cli import screen

    screen.show(screen.text(("✓ ", "green"), (path, "bold"), f"  holds {kept.id} ({size(len(data))})"))


def _default_name(checkpoint_id: str) -> str:
    from waypost.store.directory.checkpoints import file_name

    return file_name(checkpoint_id)


def _to_output(data: bytes) -> None:
    if sys.stdout.isatty():
        raise InvalidInput("an export is no text for a terminal: name a file with --output, or send it on")
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def _put(path: str, data: bytes, *, overwrite: bool) -> None:
    """Write a file whole or not at all. Raises InvalidInput where it is there already, StoreUnavailable."""
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".waypost-", dir=os.path.dirname(path) or ".")
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)  # which never takes another's place
    except FileExistsError as error:
        raise InvalidInput(f"{path} is there already: say --yes to write over it", file=path) from error
    except OSError as error:
        raise StoreUnavailable(f"cannot write {path}: {error.strerror}", file=path) from error
    finally:
        if temporary is not None and os.path.lexists(temporary):
            os.unlink(temporary)


@click.command("import")
@click.argument("file")
@click.option("--as", "new_id", metavar="NEW_ID", help="Make another workflow of it, of that id.")
@options
@click.pass_obj
def import_(invocation: Invocation, file: str, new_id: str | None) -> None:
    """Have what FILE holds among the checkpoints of its workflow, which is made of it where there is none.

    A workflow that is there stays as it is: `waypost restore` goes back to what was imported. All of FILE is checked
    first; - is standard input. Where there is no store, one is made.
    """
    data = _read(file)
    if not is_there(invocation):
        with named(file):
            read_export(data, config_of(invocation.location()).performance.max_file_size << 20)
    with writing(invocation, create=True) as store, named(file):
        kept = store.wp.import_checkpoint(data, new_id).unwrap()
    if invocation.json:
        messages.print_json(describe.checkpoint(kept))
        return
    from waypost.cli import screen

    screen.show(screen.text(("✓ ", "green"), (kept.id, "bold"), f"  is kept with workflow {kept.workflow_id}"))


@contextmanager
def named(file: str) -> Generator[None]:
    """Have what is said of an export say which file that is."""
    try:
        yield
    except WaypostError as error:
        if error.message.startswith(("this is ", "the export ")):
            error.message = f"{'standard input' if file == '-' else file}: {error.message}"
        raise


def _read(file: str) -> bytes:
    try:
        if file == "-":
            return sys.stdin.buffer.read()
        return given.read(file)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(f"cannot read {file}: {why}", file=file) from error
