"""The commands there are: names and what each is for, without loading any of them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from waypost.cli.invocation import options


class Entry(NamedTuple):
    """Where a command is, and what help says about it."""

    place: str
    summary: str


class LazyGroup(click.Group):
    """A group that loads a command when it is run."""

    def __init__(self, *args: Any, entries: Mapping[str, Entry], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        module, _, name = entry.place.partition(":")
        return getattr(import_module(module), name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not self.invoke_without_command and not ctx.resilient_parsing:
            click.echo(ctx.get_help())  # of which click would make an error, in one line
            ctx.exit()
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self._entries.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self._entries:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self._entries, 1)
            hint = f": did you mean {near[0]}?" if near else f": there are {', '.join(self._entries)}"
            ctx.fail(f"there is no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)


class Verb(click.Command):
    """A command that has others below it: where the first word names none of them, it is for the command itself.

    Behind `--` every word is.
    """

    def __init__(self, *args: Any, entries: Mapping[str, Entry], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._entries = entries

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        at = _first_word(args)
        entry = None if at is None else self._entries.get(args[at])
        if at is None or entry is None:
            return super().make_context(info_name, args, parent, **extra)
        module, _, name = entry.place.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command.make_context(f"{info_name} {args[at]}", args[:at] + args[at + 1 :], parent, **extra)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self._entries.items()])


def _first_word(args: list[str]) -> int | None:
    """Where the first word stands, with nothing before it but options that every command takes."""
    at = 0
    while at < len(args) and args[at].startswith("-"):
        if args[at] not in ("--json", "--state") and not args[at].startswith("--state="):
            return None
        at += 2 if args[at] == "--state" else 1
    return at if at < len(args) else None


_COMMANDS = {
    "demo": Entry("waypost.cli.demo:demo", "See Waypost lose a process and carry on."),
    "run": Entry("waypost.cli.run:run", "Do the steps of a TOML file, or go on with them."),
    "status": Entry("waypost.cli.status:status", "What runs, what failed, what is unfinished, and how to go on."),
    "list": Entry("waypost.cli.listing:list_", "List workflows."),
    "show": Entry("waypost.cli.show:show", "Show one workflow: steps, agents, outputs, context."),
    "log": Entry("waypost.cli.log:log", "The commits of a workflow, the newest first."),
    "watch": Entry("waypost.cli.watch:watch", "Tell of commits as they are made, by whatever process."),
    "diff": Entry("waypost.cli.diff:diff", "What differs between two versions, or two workflows."),
    "blame": Entry("waypost.cli.blame:blame", "Who made a value what it is, and what was there before."),
    "checkpoint": Entry(
        "waypost.cli.checkpoint:checkpoint", "Keep a workflow as it is now, list what is kept, export or import it."
    ),
    "restore": Entry(
        "waypost.cli.checkpoint:restore", "Make a workflow what it was at a checkpoint; shows what changes."
    ),
    "fork": Entry("waypost.cli.checkpoint:fork", "Make another workflow of what one was at a checkpoint."),
    "erase": Entry("waypost.cli.erase:erase", "Take a value that should never have been stored out of all history."),
    "resume": Entry("waypost.cli.resume:resume", "What is unfinished, what was running, and how to go on."),
    "session": Entry("waypost.cli.commands:session", "Who works in the store: list, recover, export, import."),
    "secret": Entry("waypost.cli.commands:secret", "Keys for the secrets of workflows: new-key, rotate."),
    "serve": Entry("waypost.cli.serve:serve", "Show the store in the browser, live."),
    "mcp": Entry("waypost.cli.mcp:mcp", "Serve the store to a coding agent (Model Context Protocol)."),
    "agent": Entry(
        "waypost.cli.commands:agent",
        "Have coding agents tell Waypost what they do, and be told what is unfinished.",
    ),
    "import": Entry("waypost.cli.commands:import_", "Take over what another framework's store holds: langgraph."),
    "verify": Entry("waypost.cli.verify:verify", "Check every byte of the store."),
    "store": Entry(
        "waypost.cli.commands:store",
        "Look after the store: doctor, repair, backup, restore, sync, settle, migrate, du, cleanup, bench, config.",
    ),
}

_SESSION_COMMANDS = {
    "list": Entry("waypost.cli.session:list_", "List sessions, each with what is seen of its owner."),
    "recover": Entry("waypost.cli.session:recover", "Recover sessions whose owners are dead; shows the plan first."),
    "export": Entry("waypost.cli.bundle:export", "Write a session and its workflows to one file."),
    "import": Entry("waypost.cli.bundle:import_", "Take in a session that was exported, all of it or nothing."),
}

_STORE_COMMANDS = {
    "doctor": Entry("waypost.cli.doctor:doctor", "Which guarantees hold where the store lies, and who holds it."),
    "repair": Entry("waypost.cli.repair:repair", "Keep what is whole of a damaged store, and move the rest aside."),
    "backup": Entry("waypost.cli.backup:backup", "Copy the store while it is in use, and verify the copy."),
    "sync": Entry("waypost.cli.sync:sync", "Bring two stores to the same workflows, both ways."),
    "settle": Entry("waypost.cli.settle:settle", "Finish transactions over two stores that a crash has left open."),
    "restore": Entry("waypost.cli.backup:restore", "Put a backup in the place of what the store holds."),
    "migrate": Entry(
        "waypost.cli.migrate:migrate", "Bring workflows to another schema version, or show what that does."
    ),
    "du": Entry("waypost.cli.space:du", "What each workflow takes on disk, or each checkpoint and output of one."),
    "cleanup": Entry(
        "waypost.cli.space:cleanup", "Remove checkpoints beyond the bounds of retention, and give space back."
    ),
    "bench": Entry("waypost.cli.bench:bench", "What this disk syncs, and how close Waypost comes to that."),
    "config": Entry("waypost.cli.configuration:configuration", "The options in effect, and where each comes from."),
}

_SECRET_COMMANDS = {
    "new-key": Entry("waypost.cli.secret:new_key", "Make a key that secrets are sealed with."),
    "rotate": Entry("waypost.cli.secret:rotate", "Seal the secrets of every workflow with the current key."),
}

_AGENT_COMMANDS = {
    "install": Entry("waypost.cli.agent:install", "Put Waypost's hooks into an agent's settings; shows what changes."),
    "uninstall": Entry("waypost.cli.agent:uninstall", "Take them out again."),
    "plugin": Entry("waypost.cli.agent:plugin", "Write the hooks, commands and the MCP server as a plugin folder."),
    "brief": Entry("waypost.cli.agent:brief", "What is unfinished, in a few lines, for the next agent."),
    "checkpoint": Entry("waypost.cli.agent:checkpoint", "Keep the workflow of this conversation as it is now."),
    "fold": Entry("waypost.cli.agent:fold", "Take in what waits in the store's spool."),
    "status-line": Entry("waypost.cli.agent:status_line", "One line for an agent's status line."),
}

_IMPORT_COMMANDS = {
    "langgraph": Entry(
        "waypost.cli.import_:langgraph", "The threads of a database of LangGraph's SqliteSaver or PostgresSaver."
    ),
}

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

_EPILOG = """\
\b
The store is the directory or postgresql://… that --state names, else
$WAYPOST_STATE, else the nearest .claude/state from here upwards.

\b
Exit status: 0 done; 1 not all is well (a step failed, something was left,
             a guarantee does not hold), or a question was answered with no;
             2 misuse; 3 not found; 4 refused; 5 the store or the system
             cannot do it; 6 damage, or a format that this release does not
             read; 130 interrupted.
"""


@click.group(
    cls=LazyGroup,
    entries=_COMMANDS,
    context_settings=_SETTINGS,
    invoke_without_command=True,
    epilog=_EPILOG,
)
@click.version_option(package_name="waypost", message="waypost %(version)s")
@options
@click.pass_context
def waypost(context: click.Context) -> None:
    """Waypost keeps the state of workflows safe: each step is recorded durably, and a run that died goes on
    where it stopped."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@click.group(cls=LazyGroup, entries=_SESSION_COMMANDS)
@options
def session() -> None:
    """Sessions: who works in the store, who has died at it, and what is left of them."""


@click.group(cls=LazyGroup, entries=_STORE_COMMANDS)
@options
def store() -> None:
    """Look after the store itself."""


@click.group(cls=LazyGroup, entries=_SECRET_COMMANDS)
@options
def secret() -> None:
    """Look after the keys that seal the secrets of workflows."""


@click.group("import", cls=LazyGroup, entries=_IMPORT_COMMANDS)
@options
def import_() -> None:
    """Take over what the store of another framework holds."""


@click.group(cls=LazyGroup, entries=_AGENT_COMMANDS)
@options
def agent() -> None:
    """Coding agents: what they do is kept, and the next one is told what is unfinished."""
