"""The conformance kit over the stores of the project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests import servers
from tests.conftest import make_config
from waypost.store import Store, open_store
from waypost.store.memory import MemoryStore
from waypost.testing import StoreConformance
from waypost.testing.claims import ClaimTests
from waypost.testing.documents import DocumentTests
from waypost.testing.handles import HandleTests
from waypost.testing.joint import JointTests
from waypost.testing.pasts import PastTests
from waypost.testing.writers import WriterTests


class TestMemory(StoreConformance):
    """The oracle keeps its own promises."""

    persistent = False

    def open(self, place: Path) -> Store:
        del place
        return MemoryStore()


class TestDirectory(StoreConformance):
    """A directory of logs."""

    def open(self, place: Path) -> Store:
        return open_store(str(place / "store"), make_config())

    def damage(self, place: Path) -> bool:
        log = place / "store" / "workflows" / "wf.state"
        data = bytearray(log.read_bytes())
        data[len(data) // 2] ^= 1
        log.write_bytes(data)
        return True


def open_in(place: Path, server: Callable[[], servers.Server | None]) -> Store:
    """The store in a server whose location stands in the place, also for other processes."""
    note = place / "location"
    if not note.exists():
        started = server()
        assert started is not None
        note.write_text(started.url())
    return open_store(note.read_text(), make_config())


class TestPostgres(StoreConformance):
    """Tables in a server."""

    def open(self, place: Path) -> Store:
        return open_in(place, servers.postgres)

    def damage(self, place: Path) -> bool:
        schema = (place / "location").read_text().partition("schema=")[2].partition("&")[0]
        servers.postgres().execute(
            f"UPDATE {schema}.parts SET value = set_byte(value, 0, get_byte(value, 0) # 1)"
            f" WHERE key = 'n' AND doc = (SELECT doc FROM {schema}.documents WHERE id = 'wf') AND since = 3"
        )
        return True


if servers.found_here() is not None:

    class TestServerOfTheMachine(DocumentTests, JointTests, PastTests, ClaimTests, HandleTests, WriterTests):
        """Tables in the server that this machine has, be it an older one."""

        def open(self, place: Path) -> Store:
            return open_in(place, servers.installed)
