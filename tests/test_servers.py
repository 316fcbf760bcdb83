"""The servers of the tests: that they are real, that they end, and that they come back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests import servers
from tests.conftest import make_config
from waypost.errors import StoreError
from waypost.store import open_store

ROOT = Path(__file__).resolve().parent.parent

_ASKING = """
import sys
from tests import servers
server = servers.Server(servers.carried())
print(server.directory, server.execute("SELECT pg_backend_pid()")[0][0], flush=True)
sys.stdin.readline()
"""


def _gone(directory: Path) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not directory.exists() and not _processes_of(directory):
            return True
        time.sleep(0.05)
    return False


def _processes_of(directory: Path) -> list[str]:
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(directory) in line]


@pytest.mark.parametrize("ending", ["exit", "kill"])
def test_q9_a_server_ends_with_whoever_asked_for_it(ending):
    """Neither a process nor a file of a server is left when the process that started it ends or is killed."""
    asking = subprocess.Popen(
        [sys.executable, "-c", _ASKING], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert asking.stdin is not None and asking.stdout is not None
    directory = Path(asking.stdout.readline().split()[0])
    assert _processes_of(directory)
    asking.kill() if ending == "kill" else asking.stdin.write("\n")
    asking.communicate()
    assert _gone(directory)


def test_q9_a_server_that_does_not_start_fails(tmp_path):
    """A server whose programs are not there, or do not run, is an error that says so, and leaves no directory."""
    binaries = tmp_path / "package" / "pginstall" / "bin"
    binaries.mkdir(parents=True)
    with pytest.raises(servers.ServerNotStarted, match="initdb"):
        servers.Server(binaries)
    initdb = binaries / "initdb"
    initdb.write_text("#!/bin/sh\necho no room >&2; exit 3\n")
    initdb.chmod(0o755)
    with pytest.raises(servers.ServerNotStarted, match=r"ended with 3.*no room"):
        servers.Server(binaries)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another user")
def test_programs_that_another_user_cannot_reach_are_copied(tmp_path):
    """Root runs the server as another user, who gets the programs in a place where he can read them."""
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    package = servers.carried().parent.parent
    for each in (package, *package.parent.glob(f"{package.name}.libs")):
        shutil.copytree(each, hidden / each.name)
    programs = hidden / servers.carried().relative_to(package.parent)
    server = servers.Server(programs)
    try:
        assert server.execute("SELECT current_setting('data_directory')") == [(str(server.directory / "data"),)]
    finally:
        server.close()


@pytest.mark.parametrize("mode", ["immediate", "kill"])
def test_a_server_comes_back_with_what_it_acknowledged(mode):
    """After each way of stopping it, the server starts again on its port, and has what was committed."""
    server = servers.Server(servers.carried())
    try:
        server.execute("CREATE TABLE kept AS SELECT 1 AS n")
        port = server.port
        server.stop(mode)
        with pytest.raises(psycopg.OperationalError):
            server.execute("SELECT 1")
        server.start()
        assert (server.port, server.execute("SELECT n FROM kept")) == (port, [(1,)])
    finally:
        server.close()


def test_a_server_takes_passwords_and_syncs():
    """On loopback a role comes in with its password alone, and what is committed is synced."""
    server = servers.postgres()
    open_store(server.url(loopback=True), make_config()).close()
    with pytest.raises(StoreError) as caught:
        open_store(server.url(password="not it"), make_config())
    assert "not it" not in str(caught.value)
    assert server.execute("SELECT current_setting('fsync'), current_setting('synchronous_commit')") == [("on", "on")]


def test_what_is_lent_is_empty():
    """A location that was lent is lent again when all that was put there is gone."""
    server = servers.postgres()
    with server.lent() as url:
        store = open_store(url, make_config())
        store.keep("name", b"data")
        store.close()
    with server.lent() as again:
        assert again == url
        store = open_store(again, make_config())
        assert store.recall("name") is None
        store.close()


def test_q9_the_server_of_the_machine_runs_too():
    """Where this machine has a PostgreSQL of its own, a store is made and opened there."""
    server = servers.installed()
    if server is None:
        assert servers.found_here() is None
        return
    open_store(server.url("there"), make_config()).close()
    store = open_store(server.url("there"), make_config(), create=False)
    assert list(store.documents("workflow")) == []
    store.close()
