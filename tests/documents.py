"""What the documents show: their examples and commands, as tests find and run them.

An example is a block between fences. A comment on the line before it, which no renderer shows, says what becomes of it:

    <!-- file: NAME -->    it is put into that file, for the blocks that follow
    <!-- run -->           a block for the shell is run; `<!-- run: 1 -->` where it ends with that status
    <!-- fragment -->      it is a part of something, and is only compiled

Without one, Python is run, and a block for the shell is only looked at: whether what it calls is there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

SERVER = "postgresql://ann@db.example.org/work"
"""The server that examples name; where they are run, another one stands in its place."""

_BLOCK = re.compile(r"(?:^<!-- ([^\n]*?) -->\n)?^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SHELL_LINE = re.compile(r"(?:^|[|(;]|&&) *(waypost (?:[^#|;&>)\n]|\)(?=[A-Z]))*)", re.MULTILINE)

_NO_COMMANDS = ("waypost bundle", "waypost index 1", "waypost key id 1")
"""Words of the format that begin as commands do."""


class Block(NamedTuple):
    """A block of a page: what it is written in, the mark before it, and the line that its text begins at."""

    page: Path
    line: int
    language: str
    mark: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands, for a message."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether a test runs it."""
        return self.mark.startswith("run") or (self.language == "python" and not self.mark)


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start(3)) + 1, found[2], found[1] or "", found[3])
        for found in _BLOCK.finditer(text)
    ]


def expected(text: str) -> list[str]:
    """What a Python example says that it prints, in comments behind its `print(...)`."""
    return re.findall(r"print\(.*\) +# (.*)", text)


def commands_of(page: Path) -> list[str]:
    """The command lines of `waypost` that a page names, in blocks and in its text."""
    text = page.read_text(encoding="utf-8")
    shown = [block.text for block in blocks_of(page) if block.language in ("", "sh", "text")]
    spans = re.findall(r"`([^`\n]+)`", _BLOCK.sub("", text))
    found = [line for shell in shown for line in _SHELL_LINE.findall(shell.replace("\\\n", " "))]
    found += [span for span in spans if span.startswith("waypost ") and not span.startswith(_NO_COMMANDS)]
    return [each.strip() for each in found]


def targets_of(page: Path) -> list[str]:
    """What `make` is asked for on a page: the words behind it, up to the arguments of a test."""
    text = page.read_text(encoding="utf-8")
    shown = [*re.findall(r"`([^`\n]+)`", _BLOCK.sub("", text)), *(block.text for block in blocks_of(page))]
    return [found for each in shown for found in re.findall(r"(?:^|; )make ([a-z][\w.-]*)", each, re.MULTILINE)]


def selections_of(page: Path) -> list[str]:
    """What the `make test ARGS="…"` of a page choose among the tests."""
    return re.findall(r'make test ARGS="([^"]*)"', page.read_text(encoding="utf-8"))
