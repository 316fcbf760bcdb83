"""`waypost agent`: hooks of coding agents put in and taken out, and what they and people ask for (docs/agents.md)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from waypost.cli import messages
from waypost.cli.invocation import Invocation, options, writing
from waypost.cli.text import count, escape_lines
from waypost.errors import InvalidInput, WorkflowNotFound

if TYPE_CHECKING:
    from waypost.agents.installing import Agent, Change, Scope
    from waypost.cli.invocation import Reading

_AGENTS = click.Choice(["claude-code", "codex"])
_MOST_SHOWN = 20


def _scoped(command: Any) -> Any:
    for name, text in (
        ("--user", "For all projects of this user."),
        ("--project", "For everybody who works on this project."),
        ("--local", "For this project, on this machine (the default)."),
    ):
        command = click.option(name, "scope", flag_value=name[2:], help=text)(command)
    return command


# --- putting in, taking out ---


@click.command()
@click.argument("agent", type=_AGENTS)
@_scoped
@click.option("--detail", is_flag=True, help="Also what is running: two processes for each call of a tool.")
@click.option("--status-line", is_flag=True, help="A status line too; the one that is there is shown before it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options
@click.pass_obj
def install(
    invocation: Invocation, agent: Agent, scope: Scope | None, detail: bool, status_line: bool, yes: bool
) -> int:
    """Have AGENT (claude-code, codex) tell Waypost what it does. Shows what changes in its settings, and asks.

    The store is made, too, unless it is for all projects: then those take part that have one.
    """
    from waypost.agents import installing

    if status_line and agent != "claude-code":
        raise click.UsageError("--status-line is for claude-code")
    scope = scope or "local"
    path = installing.settings_path(agent, scope, Path.cwd())
    change = installing.plan_install(
        path, installing.entries(agent, detail=detail, state=_named(invocation)), with_status_line=status_line
    )
    if not _agreed(change, "Install", yes=yes, as_json=invocation.json):
        return 1
    if scope != "user":
        with writing(invocation, create=True):
            pass
    if change.is_one:
        installing.carry_out(change, keep=True)
    events = installing.events_of(agent, detail=detail)
    done = f"{agent} tells Waypost of {count(len(events), 'event')}: {path}"
    _tell(invocation, change, done if change.is_one else f"{path} has them already", events=list(events))
    return 0


@click.command()
@click.argument("agent", type=_AGENTS)
@_scoped
@click.option("--yes", is_flag=True, help="Do not ask.")
@options
@click.pass_obj
def uninstall(invocation: Invocation, agent: Agent, scope: Scope | None, yes: bool) -> int:
    """Take out of AGENT's settings what `install` put in, and nothing else. The store stays."""
    from waypost.agents import installing

    change = installing.plan_uninstall(installing.settings_path(agent, scope or "local", Path.cwd()))
    if not _agreed(change, "Uninstall", yes=yes, as_json=invocation.json):
        return 1
    if change.is_one:
        installing.carry_out(change, keep=False)
    _tell(invocation, change, f"{change.path} {'is without them again' if change.is_one else 'has none of them'}")
    return 0


def _named(invocation: Invocation) -> str | None:
    """The store that is named on the command line, for those who cannot find it by themselves."""
    from waypost.config import is_directory

    if invocation.state is None:
        return None
    if not is_directory(invocation.state):
        raise InvalidInput("hooks of agents need a store in a directory: $WAYPOST_SPOOL names the spool of another")
    return invocation.state


def _agreed(change: Change, what: str, *, yes: bool, as_json: bool) -> bool:
    if not change.is_one or yes:
        return True
    if as_json or not sys.stdin.isatty():
        raise InvalidInput(f"{change.path} would be changed. Say --yes to go on")
    click.echo(escape_lines(f"{change.path}\n{change.diff()}"))
    return click.confirm(f"{what}?", default=True, err=True)


def _tell(invocation: Invocation, change: Change, said: str, **more: object) -> None:
    if invocation.json:
        messages.print_json({"settings": str(change.path), "changed": change.is_one, **more})
        return
    from waypost.cli import screen

    screen.show(screen.text(("✓ ", "green"), said))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--detail", is_flag=True, help="Also what is running: two processes for each call of a tool.")
@options
@click.pass_obj
def plugin(invocation: Invocation, folder: Path, detail: bool) -> None:
    """Write FOLDER as a plugin of Claude Code: the hooks, /waypost:resume, /waypost:checkpoint, /waypost:status, MCP.

    It is for this machine: `claude --plugin-dir FOLDER`.
    """
    from waypost.agents import plugins

    made = plugins.write(folder, detail=detail, state=_named(invocation))
    if invocation.json:
        messages.print_json({"folder": str(folder), "files": [str(each) for each in made]})
        return
    from waypost.cli import screen

    screen.show(screen.text(("✓ ", "green"), f"{count(len(made), 'file')} in {folder}"))


# --- what agents ask for ---


@click.command()
@click.option("--hook", is_flag=True, help="As a hook at the start of a session: reads its event, answers in JSON.")
@options
@click.pass_obj
def brief(invocation: Invocation, hook: bool) -> None:
    """What is unfinished, in at most 2,000 characters; nothing where nothing is."""
    from waypost.agents import brief as brief_

    if not hook:
        with writing(invocation) as store:
            text = brief_.brief(store.definitions, None)
        if invocation.json:
            messages.print_json({"brief": text})
        elif text:
            click.echo(text)
        return
    try:
        own = _conversation_of(sys.stdin.buffer.read())
        with messages.silenced(), writing(invocation) as store:
            text = brief_.answer(brief_.brief(store.definitions, own))
    except Exception:  # an agent is not to be kept from its work, nor told of ours
        return
    if text:
        click.echo(text)


def _conversation_of(event: bytes) -> str | None:
    """The conversation that an event is of; None where it does not say so."""
    from waypost.agents.dialects import decode
    from waypost.agents.events import text_of

    try:
        return text_of(decode(event), "session_id") or None
    except InvalidInput:
        return None


@click.command()
@click.option("--quiet", is_flag=True, help="As a hook: prints nothing, and ends with 0 whatever happens.")
@options
@click.pass_obj
def fold(invocation: Invocation, quiet: bool) -> None:
    """Take in what agents and other programs have left in the store's spool. Every command that writes does so."""
    from waypost.hooks import spool

    if quiet:
        try:
            with messages.silenced(), writing(invocation):
                return
        except Exception:
            return
    with writing(invocation) as store:
        left = spool.waiting(store.location)
    if invocation.json:
        messages.print_json({"waiting": left})
        return
    from waypost.cli import screen

    screen.show(screen.text(f"{count(left, 'event')} still waiting" if left else "nothing waits"))


@click.command()
@click.argument("description", required=False, default="asked for in a conversation")
@options
@click.pass_obj
def checkpoint(invocation: Invocation, description: str) -> None:
    """Keep the workflow of the conversation that this is called in, as it is now.

    It is the one that $CLAUDE_CODE_SESSION_ID names, else the one that was changed last.
    """
    with writing(invocation) as store:
        name = _conversation(store)
        made = store.wp.create_checkpoint(name, description).unwrap()
    if invocation.json:
        messages.print_json({"workflow": name, "checkpoint": made.id})
        return
    from waypost.cli import screen

    screen.show(screen.text(("✓ ", "green"), (made.id, "bold")))


def _conversation(store: Reading) -> str:
    from waypost.agents.claude_code import PREFIX
    from waypost.queries import StateQuery

    session = os.environ.get("CLAUDE_CODE_SESSION_ID")
    if session:
        return f"{PREFIX}-{session}"
    for one in store.wp.list_workflows(StateQuery(limit=_MOST_SHOWN)):
        if one.id.startswith((f"{PREFIX}-", "codex-")):
            return one.id
    raise WorkflowNotFound("there is no conversation of an agent in this store")


@click.command("status-line")
@click.option("--then", metavar="COMMAND", help="A command whose line is shown before.")
def status_line(then: str | None) -> None:
    """One line for an agent's status line: whether this project's events are kept, and how many wait."""
    from waypost.agents import status_line as status_line_

    status_line_.main([] if then is None else ["--then", then])
