"""Results for people: tables, colours and bars in a terminal, aligned plain text in a pipe.

Cells are `Text` or plain strings; strings are escaped here, and markup in them means nothing.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from waypost.cli.text import escape, escape_lines

if TYPE_CHECKING:
    from rich.console import RenderableType

# wide enough for any row: what reads from a pipe cuts for itself
_PIPE_WIDTH = 100_000

_NARROW = 18
"""Columns up to this width are never cut."""

STYLES = {
    "completed": ("✓", "green"),
    "running": ("▶", "cyan"),
    "interrupted": ("!", "bold yellow"),
    "failed": ("✗", "bold red"),
    "paused": ("‖", "yellow"),
    "active": ("▶", "cyan"),
    "crashed": ("!", "bold yellow"),
    "pending": ("·", "dim"),
    "idle": ("·", "dim"),
    "unfinished": ("·", "yellow"),
    "skipped": ("↷", "dim"),
    "damaged": ("✗", "bold red"),
    "alive": ("", "green"),
    "dead": ("", "yellow"),
    "unknown": ("", "magenta"),
}


def is_terminal() -> bool:
    return sys.stdout.isatty()


@cache
def _can_draw(encoding: str) -> bool:
    try:
        "✓✗▶·━─…│█".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def can_draw() -> bool:
    """Whether the terminal's encoding has more than ASCII."""
    return _can_draw(sys.stdout.encoding or "ascii")


_ASCII = str.maketrans({"✓": "+", "✗": "x", "▶": ">", "·": ".", "‖": "=", "↷": "~", "…": ".", "━": "#", "─": "-"})


def console() -> Console:
    """The console of standard output."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def show(*parts: RenderableType) -> None:
    """Print to standard output, one below the other."""
    if is_terminal():
        console().print(Group(*parts))
        return
    buffer = io.StringIO()
    plain = Console(file=buffer, width=_PIPE_WIDTH, highlight=False, markup=False, emoji=False, color_system=None)
    plain.print(Group(*parts))
    lines = "\n".join(line.rstrip() for line in buffer.getvalue().split("\n"))
    sys.stdout.write(lines if can_draw() else lines.translate(_ASCII).encode("ascii", "backslashreplace").decode())


# --- pieces ---


def text(*pieces: str | tuple[str, str] | Text) -> Text:
    """Escaped text on one line; a pair is a text and its style."""
    made = Text(no_wrap=True, overflow="ellipsis")
    for piece in pieces:
        if isinstance(piece, Text):
            made.append_text(piece)
        elif isinstance(piece, tuple):
            made.append(escape(piece[0]), piece[1])
        else:
            made.append(escape(piece))
    return made


def line(*pieces: str | tuple[str, str] | Text) -> Text:
    """As `text`, but wrapped where the terminal is narrow, not cut."""
    made = text(*pieces)
    made.no_wrap, made.overflow = False, "fold"
    return made


def prose(given: str, style: str = "") -> Text:
    """Escaped text that is wrapped, and keeps its line ends."""
    return Text(escape_lines(given), style)


def heading(given: str) -> Text:
    return text((given, "bold"))


def blank() -> Text:
    return Text("")


def indented(part: RenderableType, by: int = 2) -> Padding:
    return Padding(part, (0, 0, 0, by))


def status_text(status: str, note: str = "") -> Text:
    """A status with its sign and colour."""
    sign, style = STYLES.get(status, ("?", ""))
    return text((f"{sign} {status}".strip(), style), (f" {note}" if note else "", "dim"))


def unreadable(workflow: str, error: str | None) -> Text:
    """A workflow that cannot be read, and why."""
    return line(("✗ ", "bold red"), (workflow, "bold"), f"  {error or 'cannot be read'}")


def bar(fraction: float, width: int = 20, style: str = "green") -> Text:
    """A bar that is filled to a fraction; only a number of percent in a pipe."""
    percent = f"{100 * fraction:3.0f} %" if fraction in (0, 1) else f"{min(99, max(1, round(100 * fraction))):3d} %"
    if not is_terminal():
        return text(percent)
    full = round(width * fraction)
    return text(("━" * full, style), ("─" * (width - full), "dim"), f" {percent}")


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, headless: bool = False) -> Table:
    """A table without lines. A header that begins with ">" is of numbers. Where room is short, wide columns are cut."""
    made = Table(
        box=None,
        show_header=not headless,
        show_edge=False,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    cells = [[cell if isinstance(cell, Text) else text(str(cell)) for cell in row] for row in rows]
    for number, header in enumerate(headers):
        widest = max((row[number].cell_len for row in cells), default=0)
        # rich takes room from columns that may be wrapped; cells that may not be are cut there
        made.add_column(
            header.removeprefix(">"), justify="right" if header.startswith(">") else "left", no_wrap=widest <= _NARROW
        )
    for row in cells:
        made.add_row(*row)
    return made


def facts(rows: Iterable[tuple[str, str | Text]]) -> Table:
    """Names and what is known of them, two columns."""
    made = Table(box=None, show_header=False, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(text(name), value if isinstance(value, Text) else prose(value))
    return made


def columns(cells: Sequence[Text]) -> Table:
    """One row; the last cell is wrapped below itself."""
    made = Table.grid(padding=(0, 1, 0, 0))
    for number in range(len(cells)):
        made.add_column(no_wrap=number < len(cells) - 1, overflow="fold")
    made.add_row(*cells)
    return made


def flush() -> None:
    sys.stdout.flush()
