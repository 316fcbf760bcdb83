"""Which files a run of tests depends on: the modules that it loaded, in whatever process, and the data beside them.

What is loaded is seen by what Python leaves in a cache of bytecode that was empty of it: the tests, the processes that
they start and the forks of both leave it there, also those that are killed later. So nothing has to be put into them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

_TOPS = ("src/waypost", "tests", "tools")
_VERSIONS = "requirements/runtime.txt"


class Cache:
    """A folder for the bytecode of one run at a time: PYTHONPYCACHEPREFIX. What was installed stays in it."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        self._root = root

    def clear(self) -> None:
        """Forget what was loaded of the tree."""
        for top in _TOPS:
            shutil.rmtree(self._mirror(top), ignore_errors=True)

    def loaded(self) -> list[str]:
        """The modules of the tree that were loaded since, as paths in it, in order."""
        found: set[str] = set()
        for top in _TOPS:
            mirror = self._mirror(top)
            for file in mirror.rglob("*.pyc"):
                # NAME.cpython-311.pyc, or NAME.cpython-311-pytest-8.4.2.pyc where pytest has rewritten the asserts
                source = f"{file.name.partition('.')[0]}.py"
                found.add(f"{top}/{(file.parent.relative_to(mirror) / source).as_posix()}")
        return sorted(found)

    def _mirror(self, top: str) -> Path:
        return self.folder / (self._root / top).relative_to(self._root.anchor)


class Sums:
    """Sums over modules of a tree, the data in their packages, and the versions that Waypost runs with."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: dict[tuple[str, ...], str] = {}
        self._contents: dict[Path, bytes] = {}

    def __call__(self, modules: Iterable[str]) -> str:
        """The sum; another one where a module is gone."""
        key = tuple(modules)
        if key not in self._seen:
            found = sha256()
            for file in sorted([*(self._root / name for name in key), *self._beside(key), self._root / _VERSIONS]):
                found.update(f"{file.relative_to(self._root)}\0".encode())
                found.update(self._content(file))
            self._seen[key] = found.hexdigest()[:16]
        return self._seen[key]

    def _content(self, file: Path) -> bytes:
        if file not in self._contents:
            self._contents[file] = sha256(file.read_bytes()).digest() if file.exists() else b"gone"
        return self._contents[file]

    def _beside(self, modules: Sequence[str]) -> list[Path]:
        packages = {(self._root / name).parent for name in modules if name.endswith("/__init__.py")}
        return [file for file in self._data if self._package(file) in packages]

    @cached_property
    def _data(self) -> list[Path]:
        """What stands beside modules, and is read by them."""
        every = [file for top in _TOPS for file in (self._root / top).rglob("*")]
        return [file for file in every if file.is_file() and file.suffix not in (".py", ".pyc")]

    def _package(self, file: Path) -> Path:
        """The package that a file is in: the nearest, since folders of data are none."""
        return next((above for above in file.parents if (above / "__init__.py").exists()), self._root)
