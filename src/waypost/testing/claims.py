"""Documents that are held for as long as a process lives."""

from __future__ import annotations

import threading

from waypost.store import DocumentId, Store
from waypost.store.claims import Claim
from waypost.testing.base import Kit, Open, outlives, put

SESSION = DocumentId("session", "s")
OTHER = DocumentId("session", "other")


def is_held(store: Store) -> bool:
    """Whether somebody is seen to hold the session."""
    sight = store.holder(SESSION)
    return sight is not None and sight.is_held


class ClaimTests(Kit):
    """The promises of `claim`, `holder` and `claimed`."""

    def test_s07_a_claim_is_one_s_alone(self, store: Store) -> None:
        """While a claim is held nobody else gets one of that document, and other documents are free."""
        assert store.holder(SESSION) is None
        first = store.claim(SESSION)
        assert first is not None
        assert store.claim(SESSION) is None and is_held(store)
        other = store.claim(OTHER)
        assert other is not None and set(store.claimed("session")) == {SESSION.id, OTHER.id}
        assert list(store.claimed("workflow")) == []

    def test_a_claim_that_was_let_go_of_is_free_again(self, store: Store) -> None:
        """Letting go, twice if need be, leaves nothing behind, and what others claimed since stays theirs."""
        first = store.claim(SESSION)
        assert first is not None
        first.release()
        assert store.holder(SESSION) is None and list(store.claimed("session")) == []
        second = store.claim(SESSION)
        assert second is not None
        first.release()
        assert is_held(store) and store.claim(SESSION) is None

    def test_s02_a_claim_by_force_takes_it_from_who_holds_it(self, store: Store) -> None:
        """The one who held it is not asked, and what he lets go of afterwards is not the new one's."""
        first = store.claim(SESSION)
        second = store.claim(SESSION, by_force=True)
        assert first is not None and second is not None
        first.release()
        assert is_held(store) and store.claim(SESSION) is None
        second.release()
        assert store.holder(SESSION) is None

    def test_a_claim_hinders_no_commit(self, store: Store) -> None:
        """A document that is held is written to and read by whoever comes, and need not be there."""
        assert store.claim(SESSION) is not None
        assert store.view(SESSION).version == 0 and list(store.documents("session")) == []
        assert put(store, {"session": b"\xc0"}, SESSION) == 1
        assert store.view(SESSION).version == 1

    def test_s07_of_many_threads_one_gets_the_claim(self, store: Store) -> None:
        """Eight threads that claim the same at once: one holds it."""
        ready, got = threading.Barrier(8), list[Claim | None]()

        def claim() -> None:
            ready.wait()
            got.append(store.claim(SESSION))

        threads = [threading.Thread(target=claim) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 8 and len([each for each in got if each is not None]) == 1

    @outlives
    def test_closing_lets_go_of_everything(self, opening: Open) -> None:
        """Another handle sees what this one holds, and once that is closed it is free."""
        holder, other = opening(), opening()
        assert holder.claim(SESSION) is not None
        assert is_held(other) and other.claim(SESSION) is None
        holder.close()
        assert other.holder(SESSION) is None and other.claim(SESSION) is not None
