"""Two handles over one place, and who waits for commits."""

from __future__ import annotations

import threading

from waypost.errors import StoreClosed
from waypost.store import Listener, Store, Transaction
from waypost.testing.base import (
    LARGE,
    WF,
    A,
    B,
    Kit,
    Open,
    at,
    change,
    contents,
    joint_change,
    outlives,
    put,
    put_in_all,
    putting,
    submit,
    sums,
)
from waypost.testing.streams import cut

LONG_S = 60.0


def quiet(listener: Listener) -> None:
    """Wait until it says no more of what happened before."""
    while listener.wait(0.5):
        pass


class HandleTests(Kit):
    """The promises that hold between handles, and those of `listen`."""

    @outlives
    def test_c06_what_one_handle_commits_the_other_sees(self, opening: Open) -> None:
        """At once, in the order of the commits, whoever made them."""
        stores = opening(), opening()
        for number in range(1, 9):
            assert put(stores[number % 2], {"n": b"%d" % number, f"k{number % 3}": LARGE[number:]}) == number
            assert all(store.view(WF).get("n") == b"%d" % number for store in stores)
        assert [sums(stores[0].view(WF)), list(stores[0].documents("workflow"))] == [
            sums(stores[1].view(WF)), list(stores[1].documents("workflow")),
        ]  # fmt: skip
        for version in range(1, 9):
            assert contents(at(stores[0], version)) == contents(at(stores[1], version))

    @outlives
    def test_c11_two_handles_lose_no_update(self, opening: Open) -> None:
        """Threads of two handles that each add one to a counter leave all that they added."""

        def add(tx: Transaction) -> None:
            tx.put("n", b"%d" % (int(tx.get("n") or 0) + 1))

        def many(store: Store) -> None:
            for _ in range(20):
                submit(store, add)

        stores = opening(), opening()
        threads = [threading.Thread(target=many, args=(stores[number % 2],)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [store.view(WF).get("n") for store in stores] == [b"80", b"80"]
        assert [commit.version for commit in stores[0].past(WF).commits(oldest_first=True)] == list(range(1, 81))

    @outlives
    def test_an_operation_id_acts_once_for_all_handles(self, opening: Open) -> None:
        """What was done by one is repeated by none."""
        one, other = opening(), opening()
        once = change(putting({"a": b"1"}), once="op-1")
        assert other.view(WF).version == 0
        assert one.submit(once).result().repeated is None
        assert other.submit(once).result().repeated is not None
        assert other.view(WF).version == 1

    @outlives
    def test_what_another_handle_changed_is_a_conflict(self, opening: Open) -> None:
        """Of a joint commit that rests on it."""
        one, other = opening(), opening()
        put_in_all(one, b"1", A)
        joint = other.begin()
        assert joint.document(A).get("x") == b"1"
        joint.document(B).put("x", b"from A")
        put_in_all(one, b"2", A)
        assert other.commit(joint, joint_change()) is None
        assert other.view(B).version == 0 and other.view(A).get("x") == b"2"

    @outlives
    def test_what_one_looks_after_another_goes_on_reading(self, opening: Open) -> None:
        """Views and pasts that one handle holds stay as they are, while another writes, reclaims and sweeps."""
        reader, writer = opening(), opening()
        for number in range(5):
            put(writer, {f"k{number % 2}": LARGE[number:]})
        data = LARGE * 4
        made = writer.stage(WF, "big", len(data), cut(data))
        submit(writer, lambda tx: tx.put("big", made))
        view, past = reader.view(WF), reader.past(WF)
        submit(writer, lambda tx: tx.clear())
        writer.reclaim(WF)
        writer.sweep()
        assert contents(view) == {"k0": LARGE[4:], "k1": LARGE[3:], "big": data}
        assert [commit.version for commit in past.commits()] == [6, 5, 4, 3, 2, 1]
        assert contents(reader.view(WF)) == {}

    def test_a_listener_tells_of_a_commit_since_it_was_made(self, store: Store) -> None:
        """A commit between the making of a listener and its first wait is told of, of one document or of any."""
        for document in (None, WF):
            listener = store.listen(document)
            put(store, {"n": repr(document).encode()})
            assert listener.wait(LONG_S)
            listener.close()

    def test_a_listener_wakes_for_a_commit_of_another_thread(self, store: Store) -> None:
        """Who waits is woken by a commit, and who is told of it looks when it is there."""
        listener = store.listen()
        quiet(listener)
        commit = threading.Timer(0.1, lambda: put(store, {"key": b"1"}))
        commit.start()
        while not store.view(WF).version:
            assert listener.wait(LONG_S)
        commit.join()
        listener.close()

    def test_a_listener_says_nothing_of_a_store_at_rest(self, store: Store) -> None:
        """A wait in which nothing is committed ends after its time with False."""
        put(store, {"a": b"1"})
        listener = store.listen()
        quiet(listener)
        assert not listener.wait(0)
        listener.close()
        listener.close()

    @outlives
    def test_a_listener_tells_of_commits_of_another_handle(self, opening: Open) -> None:
        """Whoever commits is told of."""
        store, other = opening(), opening()
        listener = store.listen()
        quiet(listener)
        put(other, {"a": b"1"})
        assert listener.wait(LONG_S)
        listener.close()

    def test_what_waits_ends_with_the_listener_and_with_the_store(self, opening: Open) -> None:
        """Closing the listener ends a wait with False, and closing the store ends it with StoreClosed."""
        for end in ("listener", "store"):
            store = opening()
            listener = store.listen()
            quiet(listener)
            waits, outcome = threading.Event(), list[object]()

            def wait(
                listener: Listener = listener, waits: threading.Event = waits, outcome: list[object] = outcome
            ) -> None:
                waits.set()
                try:
                    outcome.append(listener.wait(LONG_S))
                except StoreClosed as error:
                    outcome.append(type(error))

            waiting = threading.Thread(target=wait)
            waiting.start()
            assert waits.wait(LONG_S)
            (listener if end == "listener" else store).close()
            waiting.join(LONG_S / 2)
            assert outcome == [False if end == "listener" else StoreClosed]
            listener.close()
