"""The conformance kit over the stores of the project."""

from __future__ import annotations

from pathlib import Path

from tests import servers
from tests.conftest import make_config
from waypost.store import Store, open_store
from waypost.store.memory import MemoryStore
from waypost.testing import StoreConformance


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


class TestPostgres(StoreConformance):
    """Tables in a server."""

    def open(self, place: Path) -> Store:
        note = place / "location"
        if not note.exists():
            note.write_text(servers.postgres().url())
        return open_store(note.read_text(), make_config())

    def damage(self, place: Path) -> bool:
        schema = (place / "location").read_text().partition("schema=")[2].partition("&")[0]
        servers.postgres().execute(
            f"UPDATE {schema}.parts SET value = set_byte(value, 0, get_byte(value, 0) # 1)"
            f" WHERE key = 'n' AND doc = (SELECT doc FROM {schema}.documents WHERE id = 'wf') AND since = 3"
        )
        return True
