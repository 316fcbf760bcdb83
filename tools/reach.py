"""Which files a test depends on: what it can come to import, with what that can, and the data beside all of it.

What can be imported is read from the source and not from a run, since most of it happens in processes of their own: a
module counts as imported where its name stands in an `import`, or in any text (a table of what is loaded later, the
program of a child, the words of `python -m`). So too much is taken rather than too little.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

_TOPS = {"waypost": "src/waypost", "tests": "tests", "tools": "tools"}
_NAME = re.compile(rf"\b(?:{'|'.join(_TOPS)})(?:\.\w+)*")
_FROM_IN_TEXT = re.compile(r"\bfrom\s+([\w.]+)\s+import\s+([\w, ]+)")


class Reach:
    """The files of a tree, and what each of them can import."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: dict[str, frozenset[str]] = {}

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Where each module stands, by its name."""
        found: dict[str, Path] = {}
        for name, top in _TOPS.items():
            for file in sorted((self._root / top).rglob("*.py")):
                inside = file.relative_to(self._root / top).with_suffix("").parts
                found[".".join((name, *inside)).removesuffix(".__init__")] = file
        return found

    def files(self, test: Path) -> list[Path]:
        """All files that a test depends on, itself among them. Raises SyntaxError."""
        names = {file: name for name, file in self.modules.items()}
        given = [
            name for name, file in self.modules.items() if file.name == "conftest.py" and file.parent in test.parents
        ]
        waiting = [names[test], *given]
        reached: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting += [*self._above(name), *self._imported(name)]
        found = [self.modules[name] for name in reached]
        packages = {file.parent for file in found if file.name == "__init__.py"}
        return sorted(found + [file for file in self._data if self._package(file) in packages])

    @cached_property
    def _data(self) -> list[Path]:
        """What stands beside modules, and is read by them."""
        every = [file for top in _TOPS.values() for file in (self._root / top).rglob("*")]
        return [file for file in every if file.is_file() and file.suffix not in (".py", ".pyc")]

    def _package(self, file: Path) -> Path:
        """The package that a file is in: the nearest, since folders of data are none."""
        return next((above for above in file.parents if (above / "__init__.py").exists()), self._root)

    def _imported(self, name: str) -> frozenset[str]:
        if name not in self._seen:
            tree = ast.parse(self.modules[name].read_bytes(), str(self.modules[name]))
            named = {found for node in ast.walk(tree) for found in _named(node)}
            self._seen[name] = frozenset(filter(None, map(self._known, named)))
        return self._seen[name]

    def _known(self, name: str) -> str | None:
        """The module of a dotted name that may go on with what is in it."""
        while name and name not in self.modules:
            name = name.rpartition(".")[0]
        return name or None

    def _above(self, name: str) -> list[str]:
        """The packages that a module is in."""
        parts = name.split(".")
        return [above for end in range(1, len(parts)) if (above := ".".join(parts[:end])) in self.modules]


def _named(node: ast.AST) -> Iterator[str]:
    """Names that may be those of modules. Relative imports are not allowed here, by lint."""
    match node:
        case ast.Import():
            yield from (alias.name for alias in node.names)
        case ast.ImportFrom(module=str(module)):
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        case ast.Constant(value=str(text)):
            yield from _NAME.findall(text)
            for module, imported in _FROM_IN_TEXT.findall(text):
                yield from (f"{module}.{one.strip()}" for one in imported.split(","))
        case _:
            pass
