"""`waypost store config`: the options in effect, and where each value comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from waypost.cli import messages
from waypost.cli.invocation import Invocation, options
from waypost.config import Setting, describe, load_with_sources

if TYPE_CHECKING:
    from rich.text import Text


@click.command("config")
@options
@click.pass_obj
def configuration(invocation: Invocation) -> None:
    """Show every option with its value, and where the value comes from."""
    location = invocation.location()
    loaded = load_with_sources(directory=location)
    settings = describe(loaded)
    durability = loaded.config.durability
    if invocation.json:
        options = {row.option: {"value": row.value, "source": row.source} for row in settings}
        messages.print_json({"location": location, "durability": durability, "options": options})
    else:
        _show(location, durability, settings)


def _show(location: str, durability: str, settings: list[Setting]) -> None:
    from waypost.cli import screen

    survives = "the loss of power" if durability == "power" else "the end of the process, not the loss of power"
    screen.show(
        screen.text((location, "dim")),
        screen.text(f"durability: {durability} (an acknowledged commit survives {survives})"),
        screen.blank(),
        screen.table(("option", "value", "from"), [_row(row) for row in settings]),
    )


def _row(row: Setting) -> list[str | Text]:
    from waypost.cli import screen

    is_preset = row.source.startswith("preset ")
    value = str(row.value).lower() if isinstance(row.value, bool) else str(row.value)
    if isinstance(row.value, tuple):
        value = ", ".join(row.value)
    return [row.option, screen.text((value, "" if is_preset else "bold")), screen.text((row.source, "dim"))]
