"""Behind pgbouncer in transaction mode: another connection for each transaction, and nothing rests on that (C13)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import waypost
from tests.postgres.conftest import OPTIONS
from tests.postgres.test_refusals import closed_port
from tests.postgres.test_rights import everything
from tests.servers import ROLE, Server
from waypost.store.postgres import PostgresStore

CONFIG = """
[databases]
postgres = host={host} port={port} dbname=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
ignore_startup_parameters = extra_float_digits{ignored}
logfile = {place}/log
[users]
"""


@pytest.fixture(params=["refused", "ignored"])
def pooler(request: pytest.FixtureRequest, server: Server) -> Iterator[int]:
    """The port of a pgbouncer that refuses or ignores what is set when a connection begins."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not Path(program).exists():
        if os.environ.get("CI"):
            pytest.fail("pgbouncer is not installed")
        pytest.skip("pgbouncer is not installed")
    port = closed_port()
    ignored = ",options" if request.param == "ignored" else ""
    with tempfile.TemporaryDirectory(prefix="waypost-pooler-") as name:
        place = Path(name)
        text = CONFIG.format(host=server.directory, port=server.port, listen=port, ignored=ignored, place=place)
        user = f"postgres = host={server.directory} port={server.port} dbname=postgres user={ROLE}"
        (place / "ini").write_text(text.replace(text.splitlines()[2], user).replace("[users]\n", ""))
        root = os.geteuid() == 0
        if root:
            shutil.chown(place, "nobody")
        place.chmod(0o755)
        started = subprocess.Popen([program, "-q", str(place / "ini")], user="nobody" if root else None)
        try:
            until = time.monotonic() + 20
            while True:
                try:
                    psycopg.connect(host="127.0.0.1", port=port, dbname="postgres", user=ROLE).close()
                    break
                except psycopg.OperationalError:
                    assert time.monotonic() < until and started.poll() is None, (place / "log").read_text()
                    time.sleep(0.05)
            yield port
        finally:
            started.terminate()
            started.wait()


def test_t15_c13_everything_works_behind_a_pooler(server: Server, schema: str, pooler: int) -> None:
    """Workflows, checkpoints, sessions and imports, and four writers at once on three connections."""
    url = server.url(schema, loopback=True, port=pooler, sslmode="disable")
    with waypost.open(url, config=OPTIONS) as wp:
        store = wp.definitions.store
        assert isinstance(store, PostgresStore) and store._connections.is_pooled
        everything(wp)
        handles = [waypost.open(url, config=OPTIONS) for _ in range(4)]
        wp.create_workflow("together", "together").unwrap()

        def write(number: int) -> None:
            for step in range(10):
                handles[number].update_context("together", variables={f"n{number}.{step}": step}).unwrap()

        writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        for handle in handles:
            handle.close()
        assert len(wp.load_workflow_state("together").unwrap().context.variables) == 40
