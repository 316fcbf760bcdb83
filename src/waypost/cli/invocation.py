"""What holds for a whole command line (where the store is, JSON or not), and opening the store for a command.

Invariant: a command that only reads opens the store for reading only, and makes nothing.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from waypost.errors import (
    CheckpointNotFound,
    InvalidInput,
    StoreNotFound,
    VersionNotFound,
    WaypostError,
    WorkflowNotFound,
)

if TYPE_CHECKING:
    from waypost.blocking import Waypost
    from waypost.config import Config
    from waypost.definitions import Definitions
    from waypost.models import StateCheckpoint
    from waypost.store import Store

F = TypeVar("F", bound=Callable[..., Any])

_PASSWORD = re.compile(r"(//[^/@]*?:)[^/@]*@")


@dataclass
class Invocation:
    """The options that every command takes, wherever on the command line they were given."""

    state: str | None = None
    json: bool = False

    def flag(self) -> str:
        """What a command needs to find the same store, where it was named on the command line."""
        return "" if self.state is None else f" --state {shlex.quote(shown(self.state))}"

    def location(self) -> str:
        """Where the store is, which need not exist. It may hold a password."""
        from waypost.config import find_location

        place = find_location(self.state)
        if place == "memory:":
            raise InvalidInput("a store in memory ends with its process: name a directory")
        return place


def shown(location: str) -> str:
    """A location as it may be seen by anyone. Of stores of others only the usual place of a password is known."""
    from waypost.config import is_directory
    from waypost.schemes import is_registered

    if is_directory(location):
        return location
    if is_registered(location):
        return _PASSWORD.sub(r"\1***@", location)
    from waypost.store.postgres.locations import parse

    return parse(location).shown


Place = tuple[tuple[int, int, int], ...]
"""What tells a store in a directory from another one that was put there."""

_MARK = "FORMAT"


def place_of(location: str) -> Place | None:
    """What stands at a location now: of a directory where there is no store that is empty. None for what has none."""
    from waypost.config import is_directory

    if not is_directory(location):
        return None
    try:
        folder, mark = (os.stat(path) for path in (location, os.path.join(location, _MARK)))
    except OSError:
        return ()
    # a mark that is written anew is of another format, or of another store
    return (folder.st_dev, folder.st_ino, 0), (mark.st_dev, mark.st_ino, mark.st_mtime_ns)


def _set(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    invocation = context.ensure_object(Invocation)
    if value and parameter.name:
        setattr(invocation, parameter.name, value)


def options(command: F) -> F:
    """Give a command `--state` and `--json`."""
    command = click.option("--json", is_flag=True, expose_value=False, callback=_set, help="Print one JSON document.")(
        command
    )
    return click.option(
        "--state", metavar="PLACE", expose_value=False, callback=_set, help="The store: a directory, or postgresql://…"
    )(command)


def workflow_argument(*, required: bool = True) -> Callable[[F], F]:
    """Give a command the argument WORKFLOW, which a shell may complete."""
    return click.argument("workflow", required=required, shell_complete=_complete)


_MOST_COMPLETED = 500
_COMPLETED = re.compile(r"[\w.@+,/][\w.@:+,/-]*")
"""Ids that nobody else than their reader acts on: whatever stands on a command line, a shell may carry out."""


def _complete(context: click.Context, parameter: click.Parameter, given: str) -> list[CompletionItem]:
    """The ids that begin so. Nothing is said where that fails: the line is not finished."""
    invocation = context.ensure_object(Invocation)
    try:
        with reading(invocation) as store:
            found = [name for name in store.store.documents("workflow") if name.startswith(given)]
    except WaypostError:
        return []
    return [CompletionItem(name) for name in sorted(filter(_COMPLETED.fullmatch, found))[:_MOST_COMPLETED]]


# --- opening ---


@dataclass
class Reading:
    """A store that is open: where it is, as it may be shown, and the operations over it."""

    location: str
    store: Store
    definitions: Definitions

    @cached_property
    def wp(self) -> Waypost:
        """The blocking face. It brings runs, transactions and watching along, so it is loaded where it is used."""
        from waypost.blocking import Waypost

        return Waypost(self.definitions)


@contextmanager
def reading(invocation: Invocation) -> Generator[Reading]:
    """Open the store for reading only. Raises StoreNotFound, which says how one comes about."""
    from waypost.definitions import Definitions
    from waypost.store import open_store

    location = invocation.location()
    config = config_of(location)
    try:
        store = open_store(location, config, create=False, read_only=True)
    except StoreNotFound as error:
        raise no_store(location, error) from error
    try:
        yield Reading(store.location, store, Definitions(store, config, False))
    finally:
        store.close()


@contextmanager
def writing(invocation: Invocation, *, create: bool = False) -> Generator[Reading]:
    """Open the store for writing. Raises StoreNotFound where there is none, unless it is to be made then."""
    from waypost.definitions import Definitions
    from waypost.opening import take_part
    from waypost.store import open_store

    location = invocation.location()
    config = config_of(location)
    try:
        store = open_store(location, config, create=create)
    except StoreNotFound as error:
        raise no_store(location, error) from error
    try:
        definitions = Definitions(store, config, False)
        take_part(definitions, location)
        yield Reading(store.location, store, definitions)
    finally:
        store.close()


def config_of(location: str) -> Config:
    """The options that hold for the store at a location."""
    from waypost.config import is_directory, load

    return load(None, None, location if is_directory(location) else None)


def is_there(invocation: Invocation) -> bool:
    """Whether there is a store, so that none would be made."""
    try:
        with reading(invocation):
            return True
    except StoreNotFound:
        return False
    except WaypostError:
        return True  # whoever opens it for writing carries on what was cut off, or says what is amiss


def no_store(location: str, error: StoreNotFound) -> StoreNotFound:
    from waypost.config import is_directory

    if error.details.get("missing") is not None:
        why = f"{location} looks like a store whose file FORMAT is missing: "
        return StoreNotFound(f"{why}`waypost store repair --state {shlex.quote(location)}` makes it", location=location)
    # the error of a server holds no password
    where, known = (f"there is no store in {location}", location) if is_directory(location) else (str(error), "")
    return StoreNotFound(
        f"{where}: name another place with --state or $WAYPOST_STATE; "
        "`waypost run FILE.toml` and `waypost.open()` make one",
        location=known or error.details.get("location"),
    )


# --- names ---


def workflow_id(store: Store, given: str) -> str:
    """The id of the workflow that is meant: the id itself, or the beginning of one only."""
    ids = list(store.documents("workflow"))
    if given in ids:
        return given
    found = [name for name in ids if name.startswith(given) and _is_there(store, name)]
    return one_of(found, ids, given, "workflow", WorkflowNotFound)


def _is_there(store: Store, name: str) -> bool:
    """Whether a workflow is not deleted. What cannot be read is there: whoever names it shall be told what is wrong."""
    from waypost.records import WORKFLOW
    from waypost.store import DocumentId

    try:
        return store.view(DocumentId("workflow", name), durable=False).size_of(WORKFLOW) is not None
    except WaypostError:
        return True


def reference(opened: Reading, given: str) -> str:
    """The reference that is meant, where the beginning of an id was given."""
    from waypost.references import is_checkpoint, is_number
    from waypost.store import DocumentId

    store = opened.store
    name, _, version = given.rpartition("@")
    if not name or given in store.documents("workflow"):
        return workflow_id(store, given)
    if is_number(version):
        return f"{workflow_id(store, name)}@{version}"
    if is_checkpoint(given) and (names := store.checkpoints(DocumentId("workflow", name))):
        # what looks like the id of a checkpoint may be the beginning of a workflow's
        is_one = any(each.startswith(given) for each in names)
        if is_one or not any(each.startswith(given) for each in store.documents("workflow")):
            return opened.wp.get_checkpoint(given).id
    try:
        return workflow_id(store, given)
    except WorkflowNotFound as error:
        known = _workflow_of(store, given)
        if known is None:
            raise
        raise VersionNotFound(f"{version!r} is no version or checkpoint of {known!r}", given=given) from error


def checkpoint(opened: Reading, given: str, flag: str) -> StateCheckpoint:
    """The checkpoint that is meant, by its id or the beginning of one. `flag` names the store in a command."""
    from waypost.references import is_number

    try:
        return opened.wp.get_checkpoint(given)
    except CheckpointNotFound as error:
        known, version = _workflow_of(opened.store, given), given.rpartition("@")[2]
        if known is None:
            raise
        what = f"there is no checkpoint {given!r}"
        if "@" not in given or is_number(version):
            what = f"{given!r} is a {'version' if is_number(version) else 'workflow'}, and no checkpoint"
        command = f"waypost checkpoint {shlex.quote(known)} --list{flag}"
        raise CheckpointNotFound(f"{what}: `{command}` shows those that there are", checkpoint_id=given) from error


def _workflow_of(store: Store, given: str) -> str | None:
    """The workflow that a reference which leads nowhere is of; None where there is none."""
    name, separator, _ = given.rpartition("@")
    try:
        return workflow_id(store, name if separator else given)
    except WaypostError:
        return None


def one_of(
    found: list[str], all_of: Iterable[str], given: str, noun: str, missing: type[WaypostError], of: str = ""
) -> str:
    """The only one that was found; else an error that names what there is, and `of` what it is missing."""
    if len(found) == 1:
        return found[0]
    if found:
        found.sort()
        named = ", ".join(repr(name) for name in found[:8]) + (", …" if len(found) > 8 else "")
        raise InvalidInput(
            f"{given!r} is the beginning of {len(found)} {noun}s: {named}", given=given, candidates=found
        )
    from difflib import get_close_matches

    near = get_close_matches(given, list(all_of)[:10_000], 1)
    hint = f": did you mean {near[0]!r}?" if near else ""
    there_is = f"{of} has" if of else "there is"
    raise missing(f"{there_is} no {noun} {given!r}{hint}", given=given)
