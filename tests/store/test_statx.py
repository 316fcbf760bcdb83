"""Which file a name stands for, asked without its times."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools import times_asked

from waypost.store.directory import statx


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(b"x" * 70_000)
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "nameé").write_bytes(b"")
    (tmp_path / "within").mkdir()
    statx.load()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def told(found: statx.Found | os.stat_result) -> tuple[int, int, int]:
    return found.st_dev, found.st_ino, found.st_size


@pytest.mark.parametrize("name", ["file", "link", "nameé", "within", "."])
def test_it_tells_what_stat_tells(folder: int, name: str) -> None:
    """Device, number and length are those of `os.stat`; a link is not followed."""
    assert told(statx.stat(name, dir_fd=folder, follow_symlinks=False)) == told(
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    )


def test_what_is_refused_is_refused_as_by_stat(folder: int) -> None:
    with pytest.raises(FileNotFoundError):
        statx.stat("absent", dir_fd=folder, follow_symlinks=False)
    with pytest.raises(NotADirectoryError):
        statx.stat("file/below", dir_fd=folder, follow_symlinks=False)
    with pytest.raises(OSError, match="Bad file descriptor"):
        statx.stat("file", dir_fd=999_999, follow_symlinks=False)


@pytest.mark.parametrize("call", [None, lambda *_: False, lambda *_: True], ids=["none", "refused", "says nothing"])
def test_where_the_system_does_not_know_the_call_stat_is_asked(
    folder: int, monkeypatch: pytest.MonkeyPatch, call: object
) -> None:
    """Also where it is refused by a sandbox, or answers without what it was asked for."""
    monkeypatch.setattr(statx, "_AT_HAND", [] if call is None else [call])
    found = statx.stat("file", dir_fd=folder, follow_symlinks=False)
    assert isinstance(found, os.stat_result)
    assert found.st_size == 70_000


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="needs Linux")
def test_linux_has_the_call(folder: int) -> None:
    assert isinstance(statx.stat("file", dir_fd=folder, follow_symlinks=False), statx.Found)


def test_what_the_question_for_times_costs_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both ways take their turns on a file that is gone afterwards; which is faster is the system's."""
    assert times_asked.main([str(tmp_path)]) == 0
    words = capsys.readouterr().out.split()
    assert (words[1], words[5]) == ("statx", "stat")
    assert float(words[2]) > 0 and float(words[6]) > 0
    assert list(tmp_path.iterdir()) == []
