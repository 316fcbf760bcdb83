"""Listening by whoever may only read: he cannot say that he is there, and notices commits by asking."""

from __future__ import annotations

import pytest

from tests import servers
from tests.conftest import make_config
from tests.store.support import putting
from waypost.store import open_store
from waypost.store.postgres.connections import Connections


def test_a_listener_that_may_not_write_keeps_its_connection_and_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """It connects once, and hears of what others commit."""
    made: list[object] = []
    dedicated = Connections.dedicated
    monkeypatch.setattr(Connections, "dedicated", lambda self: made.append(self) or dedicated(self))
    with servers.postgres().lent() as location:
        writer = open_store(location, make_config())
        writer.submit(putting(n=b"1")).result()
        reader = open_store(f"{location}&options=-c%20default_transaction_read_only=on", make_config(), read_only=True)
        listener = reader.listen()
        while listener.wait(0.6):
            pass  # the first looks may find what was there
        assert not listener.wait(0.6)
        writer.submit(putting(n=b"2")).result()
        assert listener.wait(30)
        assert len(made) == 1
        listener.close()
        reader.close()
        writer.close()
