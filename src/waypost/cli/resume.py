"""`waypost resume`: what is unfinished, what was running, which checkpoint is good, and the one command to go on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import click

from waypost import loading, migrations, triage
from waypost.cli import describe, messages
from waypost.cli.invocation import Invocation, Reading, options, reading
from waypost.cli.overview import Found, how_to_go_on, look, show_next, show_waiting
from waypost.cli.session import evidence, resume_command, session_id, workflow_line
from waypost.cli.text import ago
from waypost.errors import DocumentDamaged, WaypostError
from waypost.hooks import spool
from waypost.models import WorkflowState
from waypost.session_models import SessionQuery, SessionState, WorkflowTriage
from waypost.store import DocumentId

_MOST_SESSIONS = 20
_REPAIR = "waypost store repair --dry-run"


@dataclass
class Left:
    """A workflow that is not finished: its steps, its newest whole checkpoint, and how to go on with it."""

    triage: WorkflowTriage
    checkpoint_id: str | None
    go_on: str | None


@dataclass
class Unfinished:
    """A session with what is left to do in it; None for workflows of no session."""

    session: SessionState | None
    workflows: list[Left] = field(default_factory=list[Left])


@click.command()
@click.argument("session", required=False)
@options
@click.pass_obj
def resume(invocation: Invocation, session: str | None) -> None:
    """Show what is unfinished and what was running when its owner died, and how to go on. Changes nothing.

    SESSION is an id, or the beginning of one; without it all sessions that have not ended are shown.
    """
    with reading(invocation) as store:
        only = None if session is None else session_id(store, session)
        found = list(_unfinished(store, only))
        waiting = spool.waiting(invocation.location())
    command = command_of(found, invocation)
    if invocation.json:
        unfinished = [document(each) for each in found]
        messages.print_json({"unfinished": unfinished, "go_on": command, "waiting_events": waiting})
    else:
        _show(found, command)
        show_waiting(waiting, invocation.flag())


# --- looking ---


def _unfinished(store: Reading, only: str | None) -> Iterator[Unfinished]:
    seen: set[str] = set()
    for session in _sessions(store, only):
        left = [look_at(store, session.session_id, name) for name in session.active_workflows]
        seen.update(session.active_workflows)
        yield Unfinished(session, [each for each in left if each is not None])
    if only is None:
        others = [one for one in look(store).found if one.id not in seen and _is_unfinished(one)]
        rest = [look_at(store, None, one.id) for one in others]
        if rest:
            yield Unfinished(None, [each for each in rest if each is not None])


def _sessions(store: Reading, only: str | None) -> Sequence[SessionState]:
    if only is not None:
        return [store.wp.get_session(only)]
    return store.wp.list_sessions(SessionQuery(status=("active", "crashed", "paused"), limit=_MOST_SESSIONS)).items


def _is_unfinished(one: Found) -> bool:
    return one.condition not in ("completed", "idle")


def look_at(store: Reading, session_id: str | None, name: str) -> Left | None:
    """What is left of one workflow; None where it is deleted, or the session never wrote to it."""
    sorted_ = triage.triage(store.store, session_id, name)
    if sorted_ is None:
        return None
    try:
        best = store.wp.get_recovery_suggestions(name).recommended_recovery_point
        go_on = how_to_go_on(_shown(store, name)) if sorted_.loads else _mending(store, name)
    except WaypostError:
        return Left(sorted_, sorted_.checkpoint_id, _mending(store, name))
    return Left(sorted_, None if best is None else best.id, go_on)


def _mending(store: Reading, name: str) -> str | None:
    """What comes before anything else where the file of a workflow is damaged: nothing can be written to it."""
    try:
        store.store.view(DocumentId("workflow", name), durable=False)
    except DocumentDamaged:
        return _REPAIR
    except WaypostError:
        pass
    return None


def _shown(store: Reading, name: str) -> WorkflowState:
    view = migrations.current(store.store.view(DocumentId("workflow", name), durable=False))
    return loading.load(view, keys=store.store.keys, inert=True)


def command_of(found: Sequence[Unfinished], invocation: Invocation) -> str | None:
    """The one command: of the first session, or workflow of none, that has something left and nobody at work on it."""
    for each in found:
        if each.workflows and (each.session is None or each.session.status != "active"):
            commands = [command for left in each.workflows if (command := _command_of(left, invocation)) is not None]
            return _command_of_session(each.session, commands, invocation)
    return None


def _command_of(left: Left, invocation: Invocation) -> str | None:
    if left.go_on is not None:
        return left.go_on + invocation.flag()
    if left.checkpoint_id is None or left.triage.in_doubt:
        return None
    return f"waypost restore {shlex.quote(left.checkpoint_id)}{invocation.flag()}"


def _command_of_session(session: SessionState | None, commands: Sequence[str], invocation: Invocation) -> str | None:
    mending = next((command for command in commands if command.startswith(_REPAIR)), None)
    if mending is not None:
        return mending  # no program could go on before
    if session is None:
        return next(iter(commands), None)
    if (own := resume_command(session)) is not None:
        return own
    runs = [command for command in commands if command.startswith("waypost run ")]
    if runs:
        return runs[0]
    if session.status == "crashed" and session.crash_recovery_data is None:
        return f"waypost session recover {shlex.quote(session.session_id)}{invocation.flag()}"
    return f"wp.resume_session({session.session_id!r}) in your program"


def document(each: Unfinished) -> dict[str, object]:
    """A session, and what is left to do in it."""
    return {
        "session": None if each.session is None else describe.session(each.session),
        "workflows": [
            {**describe.triage(left.triage), "good_checkpoint": left.checkpoint_id, "go_on": left.go_on}
            for left in each.workflows
        ],
    }


# --- for people ---


def _show(found: Sequence[Unfinished], command: str | None) -> None:
    from waypost.cli import screen

    if not any(each.workflows or each.session for each in found):
        screen.show(screen.text("nothing is unfinished"))
        return
    for number, each in enumerate(found):
        if number:
            screen.show(screen.blank())
        _show_session(each.session)
        for left in each.workflows:
            screen.show(screen.indented(workflow_line(left.triage)))
            if left.checkpoint_id is not None:
                screen.show(screen.indented(screen.text(("good checkpoint  ", "dim"), left.checkpoint_id), 4))
        if not each.workflows:
            screen.show(screen.indented(screen.text(("nothing is unfinished in it", "dim"))))
    if command is not None:
        show_next(command)


def _show_session(session: SessionState | None) -> None:
    from waypost.cli import screen

    if session is None:
        screen.show(screen.heading("in no session"))
        return
    who = f"  {session.user_id}" if session.user_id else ""
    started = (f"{who}  started {ago(session.start_time)}", "dim")
    screen.show(screen.text((session.session_id, "bold"), "  ", screen.status_text(session.status), started))
    if evidence(session):
        screen.show(screen.indented(screen.line(evidence(session))))
