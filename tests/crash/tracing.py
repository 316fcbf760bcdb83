"""A recording of a program that makes its system calls itself, from what `strace` saw of it.

The program works below a directory, and tells on its standard output what it tried and promised: `promised 3`, in one
write. Each call that changes a file system becomes an event of `recording`. A call on that directory that is not
understood is refused, and so is a trace whose tree is not the one that really came about.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.crash.oracle import Story
from tests.crash.recording import Cut, Event, Made, Mark, Removed, Renamed, Synced, Wrote, apply, tree_of
from tests.crash.simulated import Tree
from tests.crash.stories import Recording

_CHANGES = (
    "openat,open,creat,close,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,fdatasync,fsync,"
    "sync_file_range,rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,symlinkat,mkdir,mkdirat,rmdir,"
    "dup,dup2,dup3,copy_file_range,sendfile,splice"
)
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")
_STANDARD_OUTPUT = 1


class Call(NamedTuple):
    """A system call that succeeded: its arguments as strace writes them, and what it returned."""

    name: str
    args: list[str]
    result: int


def interpreter() -> str:
    """The interpreter itself: what stands before it in an environment may make calls of its own."""
    command = [sys.executable, "-c", "import sys; print(sys.executable)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def trace(program: str, directory: Path, *args: str) -> Recording:
    """Run a Python program, whose arguments are the directory and `args`, and record what it did there."""
    output = directory.with_name(directory.name + ".trace")
    names = "?" + _CHANGES.replace(",", ",?")  # not each machine has them all
    strace = ["strace", "-f", "-qq", "-xx", "-s", "10000000", "-o", str(output), "-e", f"trace={names}"]
    subprocess.run([*strace, interpreter(), "-c", program, str(directory), *args], check=True, stdout=subprocess.PIPE)
    traced = Trace(str(directory))
    for call in calls_of(output.read_text()):
        traced.follow(call)
    traced.check()
    return Recording(Tree(), traced.events, Story(), {})


def calls_of(text: str) -> Iterator[Call]:
    """The calls in the output of strace, but those that failed. Calls of threads that overlap are refused."""
    for line in text.splitlines():
        if re.match(r"\d+ +(\+\+\+|---)", line):  # an exit, a signal
            continue
        assert "unfinished" not in line and "resumed" not in line, f"calls overlap: {line[:200]}"
        found = _LINE.match(line)
        assert found is not None, f"not understood: {line[:200]}"
        _, name, args, result = found.groups()
        if int(result) >= 0:
            yield Call(name, args.split(", "), int(result))


def bytes_of(text: str) -> bytes:
    """What stands between quotation marks, of which `-xx` writes every byte in hex."""
    assert text.startswith('"') and text.endswith('"'), f"cut off: {text[:50]}"
    return bytes.fromhex(text[1:-1].replace("\\x", ""))


class Trace:
    """Follows the calls of a program, and keeps those that change what is below a directory."""

    def __init__(self, directory: str) -> None:
        self.events: list[Event] = []
        self._directory = directory
        self._tree = Tree()
        self._open: dict[int, int] = {}
        """The inode behind each descriptor that is open below the directory."""
        self._known: dict[str, Callable[[Call], None]] = {
            "openat": lambda call: self._opened(call, call.args[1:]),
            "open": lambda call: self._opened(call, call.args),
            "close": lambda call: self._closed(call),
            "write": self._told,
            "pwrite64": self._wrote,
            "ftruncate": lambda call: self._note(Cut(self._open[int(call.args[0])], int(call.args[1]))),
            "fsync": self._synced,
            "fdatasync": self._synced,
            "unlink": lambda call: self._removed(call.args[0]),
            "unlinkat": lambda call: self._removed(call.args[1]),
            "rename": self._renamed,
            "mkdir": self._made_directory,
        }

    def check(self) -> None:
        """Refuse a trace from which something is missing."""
        replayed = Tree()
        for event in self.events:
            apply(replayed, event)
        assert sorted(replayed.contents()) == tree_of(Path(self._directory)), "the trace is not what happened"

    def follow(self, call: Call) -> None:
        if call.name == "write" and call.args[0] == str(_STANDARD_OUTPUT):
            self._told(call)
        elif self._concerns(call):
            assert call.name in self._known and call.name != "write", f"not understood: {call.name}({call.args[:1]}"
            self._known[call.name](call)

    def _concerns(self, call: Call) -> bool:
        """Whether a call names a descriptor that is open below the directory, or a path there."""
        if call.args[0].isdigit() and int(call.args[0]) in self._open:
            return True
        return any(self._is_below(arg) for arg in call.args[:3] if arg.startswith('"'))

    def _is_below(self, arg: str) -> bool:
        path = bytes_of(arg).decode(errors="replace") if arg.endswith('"') else ""
        return path == self._directory or path.startswith(self._directory + "/")

    def _note(self, event: Event) -> None:
        self.events.append(event)
        apply(self._tree, event)

    def _place(self, arg: str) -> tuple[int, str]:
        """(inode of the directory, name in it); the name is empty for the directory itself."""
        above, _, name = bytes_of(arg).decode().removeprefix(self._directory).rpartition("/")
        inode = self._tree.find(above)
        assert inode is not None, above
        return inode, name

    def _told(self, call: Call) -> None:
        kind, _, number = bytes_of(call.args[1]).decode().strip().partition(" ")
        self.events.append(Mark(kind, int(number)))

    def _opened(self, call: Call, args: list[str]) -> None:
        directory, name = self._place(args[0])
        inode = self._tree.directories[directory].get(name) if name else directory
        if inode is None:
            assert "O_CREAT" in args[1], "made by somebody else"
            inode = self._tree.new_inode()
            self._note(Made(directory, name, inode, False))
        elif "O_TRUNC" in args[1] and self._tree.files[inode]:
            self._note(Cut(inode, 0))
        self._open[call.result] = inode

    def _closed(self, call: Call) -> None:
        del self._open[int(call.args[0])]

    def _wrote(self, call: Call) -> None:
        descriptor, data, _, offset = call.args
        self._note(Wrote(self._open[int(descriptor)], int(offset), bytes_of(data)[: call.result]))

    def _synced(self, call: Call) -> None:
        self._note(Synced(self._open[int(call.args[0])], len(self.events), call.name == "fsync", False))

    def _removed(self, arg: str) -> None:
        self._note(Removed(*self._place(arg)))

    def _renamed(self, call: Call) -> None:
        self._note(Renamed(*self._place(call.args[0]), *self._place(call.args[1])))

    def _made_directory(self, call: Call) -> None:
        if bytes_of(call.args[0]).decode() != self._directory:
            self._note(Made(*self._place(call.args[0]), self._tree.new_inode(), True))
