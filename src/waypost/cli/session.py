"""`waypost session`: who works in the store, who has died at it, and what is left of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, get_args

import click

from waypost.cli import describe, messages
from waypost.cli.invocation import Invocation, Reading, one_of, options, reading, writing
from waypost.cli.text import ago, count, cut, listing, short_session
from waypost.errors import InvalidInput, SessionNotFound
from waypost.session_models import SessionQuery, SessionRecoveryPlan, SessionState, SessionStatus, WorkflowTriage

if TYPE_CHECKING:
    from rich.text import Text

_EVIDENCE, _LONGEST_ID = 80, 40
RESUME_COMMAND = "resume_command"
"""The key of a session's environment under which a program keeps the command that starts it again."""


def session_id(store: Reading, given: str) -> str:
    """The id of the session that is meant: the id itself, or the beginning of one only."""
    ids = list(store.store.documents("session"))
    if given in ids:
        return given
    return one_of([name for name in ids if name.startswith(given)], ids, given, "session", SessionNotFound)


def evidence(session: SessionState) -> str:
    """What is known of its owner, in one sentence; empty where nobody holds it and nobody died at it."""
    if session.presence is not None:
        return session.presence.evidence
    found = session.crash_recovery_data
    return found.error if session.status == "crashed" and found is not None else ""


def resume_command(session: SessionState) -> str | None:
    """The command that starts its program again, where that says so."""
    own = session.environment.get(RESUME_COMMAND)
    return own if isinstance(own, str) else None


# --- listing ---


@click.command("list")
@click.option(
    "--status", multiple=True, type=click.Choice(get_args(SessionStatus)), help="Only these; may be repeated."
)
@click.option("--user", metavar="ID", help="Only those of one user.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="At most that many.")
@click.option("--offset", default=0, type=click.IntRange(0, 1_000_000_000), help="Leave out the first ones.")
@options
@click.pass_obj
def list_(invocation: Invocation, status: tuple[SessionStatus, ...], user: str | None, limit: int, offset: int) -> None:
    """List sessions, the last started first, each with what is seen of its owner."""
    with reading(invocation) as store:
        page = store.wp.list_sessions(SessionQuery(status=status, user_id=user, limit=limit, offset=offset))
    if invocation.json:
        found = [describe.session(one) for one in page]
        messages.print_json({"sessions": found, "total": page.total, "next_offset": page.next_offset})
        return
    from waypost.cli import screen

    if not len(page):
        screen.show(screen.text("no sessions" if page.total == 0 else f"no more: there are {page.total:,}"))
        return
    headers = ("session", "status", "user", "started", "workflows", "owner")
    screen.show(*screen.aligned([_row(one) for one in page], (4,), headers))
    if page.has_more:
        rest = page.total - offset - len(page)
        screen.show(screen.text((f"… and {rest:,} more: --offset {page.next_offset}", "dim")))


def _row(one: SessionState) -> list[Text]:
    from waypost.cli import screen

    finished, total = len(one.completed_workflows), len(one.active_workflows) + len(one.completed_workflows)
    return [
        screen.text(cut(short_session(one.session_id), _LONGEST_ID) if screen.is_terminal() else one.session_id),
        screen.status_text(one.status),
        screen.text(cut(one.user_id or "", 30)),
        screen.text(ago(one.start_time)),
        screen.text(f"{finished:,}/{total:,}"),
        screen.text((cut(one.presence.evidence, _EVIDENCE) if one.presence else "", "dim")),
    ]


# --- recovering ---


@click.command()
@click.argument("session", required=False)
@click.option(
    "--take-over", is_flag=True, help="Also where SESSION's owner is alive, or cannot be seen: he is shut out."
)
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Bring workflows whose files are gone back from their newest whole checkpoints; damaged files are for "
    "`waypost store repair`.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@options
@click.pass_obj
def recover(invocation: Invocation, session: str | None, take_over: bool, accept_loss: bool, yes: bool) -> int:
    """Recover sessions whose owners are dead: all, or SESSION. Shows the plan, and asks.

    It is recorded what was done, what never started, and what may have had effects; the old owner can write no more.
    Nothing that loads is changed. Ends with 1 where a workflow does not load. SESSION is an id, or its beginning.
    """
    if take_over and session is None:
        raise click.UsageError("--take-over is for one session: name it")
    with writing(invocation) as store:
        name = None if session is None else session_id(store, session)
        if take_over and name is not None:
            _take_over(store, name, yes=yes, as_json=invocation.json)
            return 0
        plans = store.wp.detect_and_recover_crashed_sessions(dry_run=True, session_id=name)
        if plans and not yes:
            if invocation.json or not sys.stdin.isatty():
                raise InvalidInput(f"{count(len(plans), 'session')} would be recovered. Say --yes to go on")
            _show(plans)
            if not click.confirm("Recover?", default=False, err=True):
                return 1
        done = store.wp.detect_and_recover_crashed_sessions(accept_loss=accept_loss, session_id=name)
    if invocation.json:
        messages.print_json({"recovered": [describe.recovery_plan(plan) for plan in done]})
    else:
        _show_done(done, invocation)
    return 0 if all(plan.is_carried_out for plan in done) else 1


def _take_over(store: Reading, name: str, *, yes: bool, as_json: bool) -> None:
    """Shut a session's owner out by hand, and leave it for anyone to resume."""
    from waypost.cli import screen

    seen = store.wp.get_session(name).presence
    evidence = "nobody holds it" if seen is None else seen.evidence
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise InvalidInput(f"session {name} would be taken over ({evidence}). Say --yes to go on")
        screen.show(screen.line((name, "bold"), f"  {evidence}"))
        if not click.confirm("Shut its owner out?", default=False, err=True):
            raise click.Abort
    store.wp.resume_session(name, take_over=True)
    paused = store.wp.pause_session(name).unwrap()
    if as_json:
        messages.print_json(describe.session(paused))
    else:
        screen.show(screen.text(("✓ ", "green"), (name, "bold"), "  is free: its old owner can write no more"))


# --- for people ---


def _show(plans: list[SessionRecoveryPlan]) -> None:
    from waypost.cli import screen

    for plan in plans:
        screen.show(screen.line((plan.session_id, "bold"), f"  {plan.evidence}"))
        strategy = f"{plan.strategy.replace('_', ' ')}, estimated loss {plan.estimated_data_loss:.0f} %"
        screen.show(screen.indented(screen.text(strategy)))
        for each in plan.workflows:
            screen.show(screen.indented(workflow_line(each)))
        for warning in plan.warnings:
            screen.show(screen.indented(screen.line(("! ", "yellow"), warning)))


def workflow_line(each: WorkflowTriage) -> Text:
    """A workflow's steps in numbers, and by name where they matter."""
    from waypost.cli import screen

    if each.problem is not None and each.checkpoint_id is None:
        return screen.line(("✗ ", "bold red"), (each.workflow_id, "bold"), f"  {each.problem}")
    pieces: list[str | tuple[str, str]] = [
        ("✗ ", "bold red") if each.problem else ("· ", "dim"),
        (each.workflow_id, "bold"),
        f"  {len(each.done):,} done, {len(each.never_started):,} never started",
    ]
    for names, what, style in (
        (each.ambiguous, "was running", "yellow"),
        (each.running, "may still run", "cyan"),
        (each.failed, "failed", "red"),
    ):
        if names:
            pieces += [f", {what}: ", (listing(names, 5), style)]
    if each.problem:
        pieces.append(f" at {each.checkpoint_id}; {each.problem}")
    return screen.line(*pieces)


def _show_done(plans: list[SessionRecoveryPlan], invocation: Invocation) -> None:
    from waypost.cli import screen

    if not plans:
        screen.show(screen.text("no session was left by a dead owner"))
        return
    _show(plans)
    for plan in plans:
        screen.show(screen.blank())
        if plan.is_carried_out:
            screen.show(screen.text(("✓ ", "green"), (plan.session_id, "bold"), "  is recovered, and may be resumed"))
        else:
            said = "  is recorded as crashed; what does not load waits for you"
            screen.show(screen.text(("! ", "bold yellow"), (plan.session_id, "bold"), said))
        for step in plan.recovery_steps:
            screen.show(screen.indented(screen.line(step + (invocation.flag() if step.startswith("waypost") else ""))))
