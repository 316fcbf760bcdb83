"""The parent of a PostgreSQL server of the tests, in a process of its own: when the process is gone that asked for the
server, however that went, it ends the server and removes its directory.

    python server_keeper.py DIRECTORY BINARIES [UID GID]

Reads words, one a line: `make`, `start PORT`, `stop MODE`. Answers each with `ok`, or with `failed` and why, one line.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}
_PATIENCE_S = 60
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "log_min_messages": "warning",
    # a server that was stopped at once, and is asked for again, has little to replay
    "max_wal_size": "256MB",
}


class Keeper:
    """A server below a directory: `data` is its data, and its sockets stand beside that."""

    def __init__(self, directory: Path, binaries: Path, owner: tuple[int, int] | None) -> None:
        self._directory = directory
        self._binaries = binaries
        self._owner = {} if owner is None else {"user": owner[0], "group": owner[1], "extra_groups": []}
        self._server: subprocess.Popen[bytes] | None = None
        # no word of the user's own environment reaches the server
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
        self._environment = {**kept, "LC_ALL": "C"}

    def _run(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        with (self._directory / "log").open("ab") as log:
            return subprocess.Popen(
                [str(self._binaries / program), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env=self._environment,
                **self._owner,
            )

    def make(self) -> None:
        data = str(self._directory / "data")
        trusted = (
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
        )  # the directory of the socket is its owner's alone
        made = self._run(
            "initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--no-sync", "--no-instructions", *trusted
        )
        if made.wait(_PATIENCE_S):
            raise RuntimeError(f"initdb ended with {made.returncode}: {self._log()}")

    def start(self, port: str) -> None:
        """Start the server. Where the first process of one was killed, its others may take a moment to notice."""
        until = time.monotonic() + _PATIENCE_S
        while not self._is_started(port, until):
            logged = self._log()
            if "shared memory block" not in logged or time.monotonic() > until:
                raise RuntimeError(f"the server does not start: {logged}")
            time.sleep(0.05)

    def _is_started(self, port: str, until: float) -> bool:
        (self._directory / "log").write_bytes(b"")
        options = [f"--{name}={value}" for name, value in _OPTIONS.items()]
        data = self._directory / "data"
        self._server = self._run("postgres", "-D", str(data), "-k", str(self._directory), "-p", port, *options)
        while self._server.poll() is None:
            if self._is_ready(data):
                return True
            if time.monotonic() > until:
                self.stop("immediate")
            time.sleep(0.01)
        return False

    def _is_ready(self, data: Path) -> bool:
        try:
            lines = (data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        assert self._server is not None
        return len(lines) > 7 and lines[0] == str(self._server.pid) and lines[7].strip() == "ready"

    def stop(self, mode: str) -> None:
        server, self._server = self._server, None
        if server is None or server.poll() is not None:
            return
        server.send_signal(_SIGNALS[mode])
        try:
            server.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise RuntimeError(f"the server did not stop in {_PATIENCE_S} s ({mode})") from None

    def clear(self) -> None:
        """End the server, and leave nothing of it."""
        try:
            self.stop("immediate")
            self._free_shared_memory()
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _free_shared_memory(self) -> None:
        # what only a server removes that ends by itself: the seventh line tells its number
        try:
            told = (self._directory / "data" / "postmaster.pid").read_text().splitlines()[6].split()
        except (FileNotFoundError, IndexError):
            return
        ctypes.CDLL(None).shmctl(int(told[1]), 0, None)  # 0: IPC_RMID

    def _log(self) -> str:
        return " | ".join((self._directory / "log").read_text(errors="replace").splitlines()[-6:])


def _words() -> Iterator[list[str]]:
    """What is asked for, until nobody is there any more to ask. A child of theirs may hold on to the pipe."""
    parent, held = os.getppid(), b""
    while os.getppid() == parent:
        if not select.select([0], [], [], 0.5)[0]:
            continue
        read = os.read(0, 4096)
        if not read:
            return
        *lines, held = (held + read).split(b"\n")
        yield from (line.decode().split() for line in lines)


def main(directory: Path, binaries: Path, owner: tuple[int, int] | None) -> None:
    keeper = Keeper(directory, binaries, owner)
    try:
        for word, *arguments in _words():
            try:
                getattr(keeper, word)(*arguments)
                answer = "ok"
            except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
                answer = f"failed {error}"
            os.write(1, answer.replace("\n", " ").encode() + b"\n")
    finally:
        keeper.clear()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    main(Path(sys.argv[1]), Path(sys.argv[2]), (int(sys.argv[3]), int(sys.argv[4])) if sys.argv[3:] else None)
