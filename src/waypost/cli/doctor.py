"""`waypost store doctor`: which guarantees hold where the store lies, and who holds it.

Everything is found out here and now, by looking or by trying; nothing is written unless `--take-lease` asks for it.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

import click

from waypost import clock
from waypost.cli import messages
from waypost.cli.examination import Check, examine, examine_spool
from waypost.cli.invocation import Invocation, no_store, options, reading
from waypost.config import is_directory
from waypost.errors import InvalidInput, StoreLeased, StoreNotFound
from waypost.store.directory import lease
from waypost.store.directory.layout import Layout, open_layout

if TYPE_CHECKING:
    from rich.text import Text

_SIGNS = {"good": ("✓", "green"), "info": ("·", "dim"), "warning": ("!", "yellow"), "problem": ("✗", "bold red")}


@click.command()
@click.option(
    "--take-lease", is_flag=True, help="Take the store over from another machine, which must be done with it."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@options
@click.pass_obj
def doctor(invocation: Invocation, take_lease: bool, yes: bool) -> int:
    """Say which guarantees the file system gives, who may read and write the store, and who holds it.

    Ends with 1 when a guarantee does not hold.
    """
    location = invocation.location()
    if not is_directory(location):
        return _examine_server(invocation, take_lease)
    if take_lease and not _take_over(location, yes, invocation.json):
        return 1
    layout = _open(location, read_only=True)
    try:
        checks = examine(layout)
    finally:
        layout.close()
    return _tell(invocation, layout.path, checks)


def _tell(invocation: Invocation, location: str, checks: list[Check]) -> int:
    if invocation.json:
        messages.print_json({"location": location, "sound": not _has_problem(checks), "checks": checks})
    else:
        _show(location, checks)
    return 1 if _has_problem(checks) else 0


def _examine_server(invocation: Invocation, take_lease: bool) -> int:
    from waypost.cli import server
    from waypost.store.postgres import PostgresStore

    if take_lease:
        raise InvalidInput("a server has no lease that could be taken: every machine may write to it")
    with reading(invocation) as opened:
        assert isinstance(opened.store, PostgresStore)
        checks = [*server.examine(opened.store.facts()), *examine_spool(invocation.location())]
        return _tell(invocation, opened.location, checks)


def _open(location: str, *, read_only: bool) -> Layout:
    try:
        return open_layout(location, create=False, read_only=read_only)[0]
    except StoreNotFound as error:
        raise no_store(location, error) from error


def _has_problem(checks: list[Check]) -> bool:
    return any(check.verdict == "problem" for check in checks)


def _show(location: str, checks: list[Check]) -> None:
    from waypost.cli import screen

    screen.show(screen.text((location, "dim")))
    for check in checks:
        screen.show(screen.columns([screen.text(_SIGNS[check.verdict]), _title(check), screen.prose(check.text)]))
    found = Counter(check.verdict for check in checks)
    verdict = ("✓ all guarantees hold", "green")
    if found["problem"]:
        verdict = ("✗ not all guarantees hold", "bold red")
    elif found["warning"]:
        verdict = ("✓ all guarantees hold; mind the warnings", "yellow")
    screen.show(screen.blank(), screen.text(verdict))


def _title(check: Check) -> Text:
    from waypost.cli import screen

    return screen.text((f"{check.name:<12}", "dim"))


# --- taking the lease over ---


def _take_over(location: str, yes: bool, as_json: bool) -> bool:
    """Take the lease, after saying what that means. False when the person would rather not."""
    layout = _open(location, read_only=False)
    try:
        file = layout.root.open("lease")
        if file is None:
            messages.note("nobody holds the lease, so there is nothing to take over")
            return True
        holder = lease.parse(file.read(4096, 0))
        if holder is not None and holder.boot == clock.boot_id():
            messages.note("this machine holds the lease already, so there is nothing to take over")
            return True
        if not file.try_lock():
            # a lock that can be seen from here belongs to somebody who is alive
            raise StoreLeased(f"{location} is being written to right now: end those processes first", location=location)
        file.close()
        whose = "a holder that cannot be made out" if holder is None else f"{holder.host} (since {holder.since})"
        if not yes and not _agreed(f"the lease of {location} is taken from {whose}", as_json):
            return False
        lease.take(layout, by_force=True).release()
        return True
    finally:
        layout.close()


def _agreed(what: str, as_json: bool) -> bool:
    warning = (
        f"{what}. If that machine still writes, or is only paused, commits will be lost and files damaged: "
        "make sure that it is done."
    )
    if as_json or not sys.stdin.isatty():
        raise InvalidInput(f"{warning} Say --yes to go on")
    messages.note(warning)
    return click.confirm("Take it over?", default=False, err=True)
