"""What the tests that break the PostgreSQL store have found, each with the smallest input that shows it."""

from __future__ import annotations

from tests.postgres.conftest import Opener
from tests.postgres.proxy import Proxy, losing_the_answer
from tests.store.support import WF, change
from waypost import Waypost
from waypost.store import DocumentId

SESSION = DocumentId("session", "s")


def put(wp: Waypost, key: str, value: bytes) -> int:
    return wp.definitions.store.submit(change(WF, lambda tx: tx.put(key, value))).result().version


def test_c12_a_claim_whose_answer_is_lost_is_held(opened: Opener, proxy: Proxy) -> None:
    """A claim that the server has taken, and not acknowledged, is the caller's, and nobody else is in its way."""
    store = opened(proxy.port).definitions.store
    proxy.plan(losing_the_answer("INSERT INTO"))
    claim = store.claim(SESSION)
    assert proxy.cuts == 1
    assert claim is not None
    assert opened().definitions.store.claim(SESSION) is None
    claim.release()
    assert store.holder(SESSION) is None


def test_c12_a_session_whose_start_is_not_answered_is_held(opened: Opener, proxy: Proxy) -> None:
    """A start with an operation id that was committed and not acknowledged is this call's, and so is the session."""
    wp = opened(proxy.port)
    proxy.plan(losing_the_answer("submit"))
    wp.start_session("me", session_id="s", operation_id="op")
    assert proxy.cuts == 1
    assert wp.definitions.sessions.held.held() == ["s"]
    assert wp.definitions.store.holder(SESSION) is not None
