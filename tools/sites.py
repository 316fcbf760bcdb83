"""Where the store syncs, locks and compares: found in the source itself, so that none can be forgotten.

A site is named by its file, its function and its text, with a number where a function has the same text twice, and can
be cut out of the source: a call in favour of a value, a comparison in favour of an outcome.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

STORE = "store/directory"
MODULES = ("codec/frame.py", "codec/bodies.py", "codec/compression.py", "streams.py", "validation.py", "migrations.py")
"""Those beside the directory store in which sums are compared."""

_SYNCS = {"sync", "sync_all", "sync_to", "sync_above", "confirm", "fsync", "fdatasync", "fcntl"}
_SYNCS |= {"_sync_data", "_sync_full", "_sync_if_possible", "_sync_at_once"}
_LOCKS = {"lock", "try_lock", "flock", "enter", "try_alone", "share_again"}
_THREAD_LOCKS = {"Lock", "RLock"}
_CHECKS = {"intact", "blocks_whole", "is_current"}
_SUMS = re.compile(r"checksum|crc32|digest\b|(?<!\")\blink\b|commit_id|transaction_id|sha256|file_id|_text\(|_head\(")


class Site(NamedTuple):
    """One place of the source: what it is, where, and the stretch of the file that a mutation replaces."""

    key: str
    kind: str
    """`sync`, `lock`, `thread lock`, `checksum` or `identity`."""
    module: str
    """Its path below `src/waypost`."""
    line: int
    function: str
    text: str
    spans: tuple[tuple[int, int], ...]
    without: str
    """What stands in its place when it is removed: nothing is done, all is well."""

    def removed_from(self, source: str, instead: str | None = None) -> str:
        """The source of the module without it."""
        data = source.encode()
        for start, end in sorted(self.spans, reverse=True):
            data = data[:start] + (self.without if instead is None else instead).encode() + data[end:]
        return data.decode()


def modules(root: Path) -> list[str]:
    """The modules that are looked at, as paths below `src/waypost`."""
    store = sorted(f"{STORE}/{each.name}" for each in (root / STORE).glob("*.py"))
    return [*MODULES, *store]


def find_sites(root: Path) -> list[Site]:
    """All sites of a source tree; `root` is its directory `waypost`."""
    return [site for module in modules(root) for site in _Finder(module, (root / module).read_text()).run()]


class _Finder(ast.NodeVisitor):
    """Goes through one module."""

    def __init__(self, module: str, source: str) -> None:
        self._module = module
        self._data = source.encode()
        starts = [0]
        for line in self._data.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        self._starts = starts
        self._names: list[str] = []
        self._seen: Counter[str] = Counter()
        self._sites: list[Site] = []
        self._thread_locks: dict[str, Site] = {}

    def run(self) -> list[Site]:
        self.visit(ast.parse(self._data))
        return [*self._sites, *self._thread_locks.values()]

    # --- going through ---

    def _within(self, node: ast.ClassDef | ast.FunctionDef) -> None:
        self._names.append(node.name)
        self.generic_visit(node)
        self._names.pop()

    visit_ClassDef = _within
    visit_FunctionDef = _within

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        text = self._text(node)
        if name in _SYNCS:
            self._note(node, "sync", "0" if name == "sync_to" else "None")
        elif name in _LOCKS and "LOCK_UN" not in text:
            self._note(node, "lock", self._without_lock(node, name))
        elif name in _CHECKS or (name == "startswith" and _SUMS.search(text)):
            self._note(node, "identity" if name == "is_current" else "checksum", "True")
        self.generic_visit(node)

    def _without_lock(self, node: ast.Call, name: str) -> str:
        receiver = self._text(node.func).rpartition(".")[0]
        if name in ("try_lock", "try_alone"):
            return "True"
        if name == "lock" and not receiver.endswith("file"):
            return f"{receiver}.file.identity()"  # as `Log.lock`, which says which file it is
        if name == "enter":
            return f"({self._text(node)}, {receiver}.open_for_writing().file.unlock())[0]"
        return "None"

    def visit_Compare(self, node: ast.Compare) -> None:
        operands, operator = (node.left, *node.comparators), node.ops[0]
        is_well = "False" if isinstance(operator, ast.NotEq | ast.NotIn | ast.Is | ast.Lt) else "True"
        if any(map(_is_identity, operands)) and isinstance(operator, ast.Eq | ast.NotEq | ast.Is | ast.IsNot | ast.Lt):
            self._note(node, "identity", is_well)
        elif isinstance(operator, ast.Eq | ast.NotEq | ast.NotIn) and any(
            _SUMS.search(self._text(each)) for each in operands
        ):
            self._note(node, "checksum", is_well)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self._thread_lock(node.targets[0], node.value)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._thread_lock(node.target, node.value)
        self.generic_visit(node)

    # --- taking note ---

    def _thread_lock(self, target: ast.expr, value: ast.expr | None) -> None:
        """A lock of threads is a site where it is first made, not where the child of a fork makes it anew."""
        if self._names and "after_fork" in self._names[-1]:
            return
        if not isinstance(value, ast.Call) or self._text(value.func).rpartition(".")[2] not in _THREAD_LOCKS:
            return
        owner = self._names[0] if self._names and self._text(target).startswith("self.") else ""
        text = self._text(target)
        key = f"{self._module}::{owner}::{text}" if owner else f"{self._module}::{text}"
        known = self._thread_locks.get(key)
        spans = (*(known.spans if known else ()), self._span(value))
        line = known.line if known else value.lineno
        self._thread_locks[key] = Site(key, "thread lock", self._module, line, owner, text, spans, _NO_LOCK)

    def _note(self, node: ast.expr, kind: str, without: str) -> None:
        function, text = ".".join(self._names), " ".join(self._text(node).split())
        key = f"{self._module}::{function}::{text}"
        self._seen[key] += 1
        if self._seen[key] > 1:
            key = f"{key} #{self._seen[key]}"
        self._sites.append(Site(key, kind, self._module, node.lineno, function, text, (self._span(node),), without))

    def _text(self, node: ast.expr) -> str:
        start, end = self._span(node)
        return self._data[start:end].decode()

    def _span(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return (
            self._starts[node.lineno - 1] + node.col_offset,
            self._starts[node.end_lineno - 1] + node.end_col_offset,
        )


_NO_LOCK = (
    "__import__('unittest.mock').mock.MagicMock("
    "**{'__exit__.return_value': None, 'acquire.return_value': True, 'locked.return_value': False})"
)
"""Something that can be held by everybody at once."""


def _is_identity(node: ast.expr) -> bool:
    """Whether an operand is what `fstat` or `stat` told: `identity(...)`, part of it, or `…[:2]` of it."""
    if isinstance(node, ast.Subscript):
        return ast.unparse(node.slice) == ":2"
    if isinstance(node, ast.Attribute) and node.attr == "size":
        return _is_identity(node.value) or ast.unparse(node.value) == "here"
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).rpartition(".")[2] in ("identity", "_identity")
    return False


def function_names(path: Path) -> Iterator[str]:
    """The tests in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield node.name
