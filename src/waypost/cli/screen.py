"""Results for people: tables, colours and bars in a terminal, aligned plain text in a pipe.

Cells are `Text` or plain strings; strings are escaped here, and markup in them means nothing.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from waypost.cli import pager
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
        "✓✗▶·━─…│├└╯┆".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def can_draw() -> bool:
    """Whether the terminal's encoding has more than ASCII."""
    return _can_draw(sys.stdout.encoding or "ascii")


_ASCII = str.maketrans("✓✗▶·‖↷↻…━─│├└╯┆→", "+x>.=~r.#-|||/:>")


def console() -> Console:
    """The console of standard output."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def width() -> int:
    """How many columns a line may have."""
    return console().width if is_terminal() else _PIPE_WIDTH


_page: list[RenderableType] | None = None
"""What was shown since a page was begun, if one was."""


def show(*parts: RenderableType) -> None:
    """Print to standard output, one below the other."""
    if _page is not None:
        _page.extend(parts)
        return
    if is_terminal() and can_draw():
        console().print(Group(*parts))
        return
    printed = _in_terminal(parts) if is_terminal() else _plain(parts)
    sys.stdout.write(printed if can_draw() else _in_ascii(printed))


def show_line(line: Text) -> None:
    """Print one line of very many: in a pipe without making a page of each."""
    if is_terminal() or _page is not None:
        show(line)
    else:
        sys.stdout.write((line.plain if can_draw() else _in_ascii(line.plain)) + "\n")


def _plain(parts: Iterable[RenderableType]) -> str:
    """Without colours, and as wide as it is."""
    buffer = io.StringIO()
    plain = Console(file=buffer, width=_PIPE_WIDTH, highlight=False, markup=False, emoji=False, color_system=None)
    plain.print(Group(*parts))
    return "\n".join(line.rstrip() for line in buffer.getvalue().split("\n"))


def _in_terminal(parts: Iterable[RenderableType]) -> str:
    """As the console of standard output would print it."""
    made = console()
    with made.capture() as captured:
        made.print(Group(*parts))
    return captured.get()


def _in_ascii(printed: str) -> str:
    return printed.translate(_ASCII).encode("ascii", "backslashreplace").decode()


@contextmanager
def paged() -> Generator[None]:
    """Hand all that is shown within to the pager, if it is a terminal and does not fit on it."""
    global _page
    if not is_terminal() or _page is not None:
        yield
        return
    shown: list[RenderableType] = []
    _page = shown
    try:
        yield
    finally:
        _page = None
        printed = _in_terminal(shown) if shown else ""
        printed = printed if can_draw() else _in_ascii(printed)
        if printed.count("\n") < console().height or not pager.page(printed):
            sys.stdout.write(printed)


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
    """A bar that is filled to a fraction; only a number of percent in a pipe, and where it has no width."""
    percent = f"{100 * fraction:3.0f} %" if fraction in (0, 1) else f"{min(99, max(1, round(100 * fraction))):3d} %"
    if not is_terminal() or not width:
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


def aligned(
    rows: Sequence[Sequence[Text]], numbers: Iterable[int] = (), headers: Sequence[str] | None = None
) -> list[Text]:
    """A line for each row, its columns below each other; those of `numbers` are aligned to the right. All is kept but
    what does not fit at the end of a line. Columns that are empty throughout are left out, with their headers.
    """
    right = set(numbers)
    if headers is not None:
        is_there = [any(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
        rows = [[text((name if there else "", "dim")) for name, there in zip(headers, is_there, strict=True)], *rows]
    widest = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    there = [number for number, most in enumerate(widest) if most]
    lines: list[Text] = []
    for row in rows:
        made = text()
        for number in there:
            cell, blanks = row[number], " " * (widest[number] - row[number].cell_len)
            if number in right:
                made = text(made, blanks, cell)
            else:
                made = text(made, cell, blanks if number != there[-1] else "")
            made = text(made, "  " if number != there[-1] else "")
        lines.append(made)
    return lines


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
