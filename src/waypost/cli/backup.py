"""`waypost store backup` and `waypost store restore`: a copy of a store in use, and putting one back."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from waypost.cli import messages
from waypost.cli.invocation import Invocation, options, reading, writing
from waypost.cli.text import count, listing, size
from waypost.errors import InvalidInput, Refused
from waypost.store import Restored, Store
from waypost.store.kinds import KINDS


@click.command()
@click.argument("path")
@options
@click.pass_obj
def backup(invocation: Invocation, path: str) -> None:
    """Copy the store to PATH, where nothing may be yet. It may be in use meanwhile.

    The copy is a store itself, and every byte of it is verified before it gets its name.
    """
    with reading(invocation) as store:
        made = store.wp.backup(path).unwrap()
    if invocation.json:
        messages.print_json(asdict(made))
        return
    from waypost.cli import screen

    total = size(sum(each.size_bytes for each in made.documents))
    screen.show(
        screen.text((made.location, "dim")),
        screen.text((f"✓ {count(len(made.documents), 'document')}, {total}: verified", "green")),
    )


@click.command()
@click.argument("path")
@click.option("--yes", is_flag=True, help="Do not ask, also when newer commits are taken back.")
@options
@click.pass_obj
def restore(invocation: Invocation, path: str, yes: bool) -> int:
    """Put the backup at PATH in the place of all that the store holds; what was there is kept in its backups.

    All of it is restored or nothing. Where there is no store, one is made.
    """
    from waypost.store.directory.restoring import look

    look(path)  # before anything is asked, or a store made
    with writing(invocation, create=True) as opened:
        store = opened.store
        holds_any = any(True for kind in KINDS for _ in store.documents(kind))
        if not yes and holds_any and not _agreed(store, path, invocation.json):
            return 1
        restored = _restored(store, path, yes, invocation.json)
    if restored is None:
        return 1
    if invocation.json:
        messages.print_json(asdict(restored))
    else:
        _tell(restored)
    return 0


def _agreed(store: Store, path: str, as_json: bool) -> bool:
    numbers = {kind: sum(1 for _ in store.documents(kind)) for kind in KINDS}
    held = listing([count(number, kind) for kind, number in numbers.items() if number or kind == "workflow"])
    what = f"all that {store.location} holds ({held}) is replaced by what {path} holds, and kept in its backups"
    return _asked(what, "Restore it?", as_json)


def _asked(what: str, question: str, as_json: bool) -> bool:
    if as_json or not sys.stdin.isatty():
        raise InvalidInput(f"{what}. Say --yes to go on")
    messages.note(f"{what}.")
    return click.confirm(question, default=False, err=True)


def _restored(store: Store, path: str, yes: bool, as_json: bool) -> Restored | None:
    try:
        return store.restore_backup(path, allow_older=yes)
    except Refused as error:
        if not _asked(str(error), "Take them back?", as_json):
            return None
    return store.restore_backup(path, allow_older=True)


def _tell(restored: Restored) -> None:
    from waypost.cli import screen

    screen.show(screen.text((restored.location, "dim")))
    if restored.taken_back:
        screen.show(screen.text((f"taken back to an older state: {listing(restored.taken_back)}", "yellow")))
    screen.show(
        screen.text(f"what was there is in {restored.replaced}"),
        screen.text((f"✓ {count(restored.documents, 'document')} restored from {restored.source}", "green")),
    )
