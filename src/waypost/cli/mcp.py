"""`waypost mcp`: a server for coding agents, over standard input and output."""

from __future__ import annotations

import click

from waypost.cli.invocation import Invocation, options
from waypost.errors import UnsupportedPlatform


@click.command()
@click.option("--write", is_flag=True, help="Let runs be made, and their steps and checkpoints recorded.")
@click.option("--allow-restore", is_flag=True, help="Let a run be put back to a checkpoint. Needs --write.")
@click.option("--allow-delete", is_flag=True, help="Let a run be deleted. Needs --write.")
@options
@click.pass_obj
def mcp(invocation: Invocation, write: bool, allow_restore: bool, allow_delete: bool) -> None:
    """Serve the store to a coding agent by the Model Context Protocol, over standard input and output.

    Without --write everything is only read. It needs the extra: pip install 'waypost[mcp]'.
    """
    if (allow_restore or allow_delete) and not write:
        raise click.UsageError("--allow-restore and --allow-delete go with --write")
    try:
        from waypost.mcp.server import Allowed, serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "mcp_types"):
            raise
        raise UnsupportedPlatform("the server needs the package mcp: pip install 'waypost[mcp]'") from error
    given: list[tuple[Allowed, bool]] = [("write", write), ("restore", allow_restore), ("delete", allow_delete)]
    serve(invocation, [name for name, is_given in given if is_given])
