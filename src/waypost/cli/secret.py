"""`waypost secret`: making a key, and sealing the secrets of a store with the current one.

A key is printed only where it was asked for, and is never an argument, which others could see.
"""

from __future__ import annotations

import click

from waypost import keys
from waypost.cli import messages
from waypost.cli.invocation import Invocation, options, writing
from waypost.cli.text import count
from waypost.rotation import RotationReport


@click.command("new-key")
@click.option("--file", "path", metavar="PATH", help="Put it first in this file, which nobody else may read.")
@options
@click.pass_obj
def new_key(invocation: Invocation, path: str | None) -> None:
    """Make a random key. Without --file it is printed, for $WAYPOST_KEY or a keyring.

    With --file the file's other keys stay behind it, and open what they sealed.
    """
    if path is not None:
        made = keys.add_key(path)
        _tell(invocation, {"key_id": made.id, "file": path}, f"key {made.id} is the first in {path}")
        return
    text = keys.new_key()
    made = keys.parse(text, "it")[0]
    if invocation.json:
        messages.print_json({"key_id": made.id, "key": text})
        return
    click.echo(text)
    messages.note(f"this is key {made.id}: whoever has it opens what it seals, and without it nobody does")


@click.command()
@options
@click.pass_obj
def rotate(invocation: Invocation) -> int:
    """Seal the secrets that workflows have now with the current key, each workflow in one commit.

    History and checkpoints keep what they have, sealed with the key of its time: do not throw that away. Ends with 1
    when a workflow has secrets that do not open; it is left as it is.
    """
    with writing(invocation) as store:
        location = store.location
        report = store.wp.rotate_secrets()
    if invocation.json:
        messages.print_json({"location": location, **_document(report)})
    else:
        _show(report)
    return 1 if report.failed else 0


def _document(report: RotationReport) -> dict[str, object]:
    return {
        "key_id": report.key_id,
        "resealed": report.resealed,
        "failed": len(report.failed),
        "current": report.current,
        "workflows": report.workflows,
    }


def _show(report: RotationReport) -> None:
    from waypost.cli import screen

    done = [each for each in report.workflows if each.error is None]
    for each in report.failed:
        screen.show(screen.line(("✗ ", "bold red"), (each.workflow_id, "bold"), f"  {each.error}"))
    said = f"{count(report.resealed, 'secret')} of {count(len(done), 'workflow')} sealed anew with key {report.key_id}"
    screen.show(screen.text(("✓ ", "green"), f"{said}; {report.current:,} had nothing to seal anew"))


def _tell(invocation: Invocation, document: dict[str, object], said: str) -> None:
    if invocation.json:
        messages.print_json(document)
        return
    from waypost.cli import screen

    screen.show(screen.text(("✓ ", "green"), said))
