"""What lies in the files of a store, while its upkeep may be at work."""

from __future__ import annotations

from pathlib import Path


def contents(*roots: Path) -> dict[Path, bytes]:
    """The bytes of some files, and of every file below some directories.

    An open store's upkeep takes files away whenever it likes. Where one goes as they are read, they are all read
    again, since what it held may lie in another one by then.
    """
    while True:
        try:
            files = [file for root in roots for file in [root, *root.rglob("*")] if file.is_file()]
            return {file: file.read_bytes() for file in files}
        except FileNotFoundError:
            continue


def files_with(path: Path, sought: str | bytes) -> list[Path]:
    """The files below a directory that hold some bytes, or some text in UTF-8."""
    wanted = sought.encode() if isinstance(sought, str) else sought
    return sorted(file for file, data in contents(path).items() if wanted in data)
