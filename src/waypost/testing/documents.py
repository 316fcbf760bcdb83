"""Versions, works and operation ids: changes of one document."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from waypost.errors import IllegalTransition, InvalidId, StoreClosed
from waypost.store import DocumentId, Store, Ticket, Transaction, parts
from waypost.testing.base import (
    LARGE,
    WF,
    Kit,
    Open,
    at,
    change,
    contents,
    delete,
    outlives,
    put,
    putting,
    submit,
    sums,
)

LONG_S = 60.0


class DocumentTests(Kit):
    """The promises of `submit`, `view` and `view_at`."""

    def test_a_document_that_was_never_written_is_empty(self, store: Store) -> None:
        """A view of what does not exist has version 0, no parts, and the empty checksum."""
        view = store.view(WF)
        assert (view.document, view.version, list(view.keys()), view.get("a")) == (WF, 0, [], None)
        assert (view.size_bytes, view.checksum, view.commit_id) == (0, parts.EMPTY_CHECKSUM, bytes(32))
        assert list(store.documents("workflow")) == []

    def test_a_change_makes_the_next_version(self, store: Store) -> None:
        """Each change that changes something adds one to the version and is seen by the next view."""
        first = store.submit(change(putting({"a": b"1"}))).result()
        second = store.submit(change(lambda tx: [tx.put("b", b"2"), "data"][1])).result()
        assert (first.version, second.version, second.changed, second.data) == (1, 2, True, "data")
        assert contents(store.view(WF)) == {"a": b"1", "b": b"2"}
        assert list(store.documents("workflow")) == ["wf"] and list(store.documents("session")) == []

    def test_a_change_that_changes_nothing_makes_no_version(self, store: Store) -> None:
        """Putting what is there already, or removing what is not, commits nothing."""
        put(store, {"a": b"1"})
        again = store.submit(change(putting({"a": b"1"}))).result()
        gone = store.submit(change(lambda tx: tx.delete("zzz"))).result()
        assert (again.changed, gone.changed, store.view(WF).version) == (False, False, 1)

    def test_a_work_that_raises_changes_nothing(self, store: Store) -> None:
        """What a work staged before it raised is not there, and its ticket raises the same error."""

        def work(tx: Transaction) -> None:
            tx.put("a", b"1")
            raise IllegalTransition("no")

        with pytest.raises(IllegalTransition):
            store.submit(change(work)).result()
        assert store.view(WF).version == 0 and list(store.documents("workflow")) == []

    def test_reading_in_a_work_sees_its_own_changes(self, store: Store) -> None:
        """A transaction shows puts, deletes and clears at once, and the version that it started from."""
        put(store, {"a": b"1"})

        def work(tx: Transaction) -> list[object]:
            tx.put("b", b"2")
            tx.delete("a")
            seen = [tx.version, tx.get("a"), tx.get("b"), tx.size_of("b"), list(tx.keys())]
            tx.clear()
            tx.put("c", b"3")
            return [*seen, list(tx.keys()), list(tx.unwatched_keys("c"))]

        receipt = store.submit(change(work)).result()
        assert receipt.data == [1, None, b"2", 1, ["b"], ["c"], ["c"]]
        assert contents(store.view(WF)) == {"c": b"3"}

    def test_a_view_never_changes(self, store: Store) -> None:
        """A view taken before a commit shows the same parts after it, those that were never looked at included."""
        put(store, {"a": b"1", "b": LARGE})
        before = store.view(WF)
        put(store, {"a": b"2"})
        submit(store, lambda tx: tx.clear())
        assert contents(before) == {"a": b"1", "b": LARGE}
        assert (before.version, store.view(WF).version, contents(store.view(WF))) == (1, 3, {})

    def test_an_earlier_version_can_be_seen(self, store: Store) -> None:
        """`view_at` gives each version as it was, and None for those that never were."""
        for number in range(1, 8):
            put(store, {f"k{number % 3}": b"%d" % number})
        assert contents(at(store, 4)) == {"k1": b"4", "k2": b"2", "k0": b"3"}
        assert at(store, 0).version == 0 and contents(at(store, 0)) == {}
        assert store.view_at(WF, 8) is None

    def test_keys_are_texts_in_the_order_of_code_points(self, store: Store) -> None:
        """Any text of 1 to 4,096 bytes is a key; those that begin alike are listed, sorted by code point."""
        keys = ["a", "a\x1fb", "b", "z" * 300, "é", "\uffff", "\U0001f600"]
        put(store, {key: key.encode() for key in reversed(keys)})
        view = store.view(WF)
        assert list(view.keys()) == keys == sorted(keys)
        assert list(view.keys("a")) == ["a", "a\x1fb"] and list(view.keys("no")) == []
        assert all(view.get(key) == key.encode() for key in keys)
        for wrong in ("", "é" * 2049):
            with pytest.raises(InvalidId):
                put(store, {wrong: b"1"})

    def test_values_are_any_bytes(self, store: Store) -> None:
        """Empty ones, zeros and large ones come back as they were put, with their lengths."""
        values = {"empty": b"", "nul": b"\0", "large": LARGE}
        put(store, values)
        view = store.view(WF)
        assert contents(view) == values
        assert [view.size_of(key) for key in values] == [0, 1, len(LARGE)] and view.size_of("none") is None

    def test_ids_are_any_text(self, store: Store) -> None:
        """Documents whose ids differ at all, and those of other kinds, are documents of their own."""
        names = ["a", "A", "a ", "a/b", "..", "é", "e\u0301", "x" * 128, "%61", "a'; --", "\U0001f600"]
        workflows = [DocumentId("workflow", name) for name in names]
        documents = [*workflows, DocumentId("session", "a"), DocumentId("thread", "a"), DocumentId("thread", "a\x1f")]
        for number, document in enumerate(documents):
            put(store, {"n": b"%d" % number}, document)
        assert [store.view(each).get("n") for each in documents] == [b"%d" % n for n in range(len(documents))]
        assert sorted(store.documents("workflow")) == sorted(names)
        assert list(store.documents("session")) == ["a"] and sorted(store.documents("thread")) == ["a", "a\x1f"]

    def test_sizes_and_checksums_are_those_of_the_parts(self, store: Store) -> None:
        """A version's size is that of its keys and values, and its checksum the sum of those of its parts."""
        put(store, {"a": b"1", "ké": LARGE})
        put(store, {"a": b"22"})
        view = store.view(WF)
        assert view.size_bytes == 1 + 2 + 3 + len(LARGE)
        assert view.checksum == parts.document_checksum({"a": b"22", "ké": LARGE}.items())

    def test_times_grow_and_ids_name_the_commits(self, store: Store) -> None:
        """Each commit is later than the one before it, and has an id of its own."""
        for number in range(5):
            put(store, {"n": b"%d" % (number % 2)})
        views = [at(store, version) for version in range(1, 6)]
        times = [view.time_us for view in views]
        assert times == sorted(set(times))
        assert len({view.commit_id for view in views}) == 5 and all(len(view.commit_id) == 32 for view in views)

    def test_an_operation_id_acts_once(self, store: Store) -> None:
        """A repeated operation id changes nothing and leads to the version and projection of the first time, also where
        its work could no longer be done.
        """

        def work(tx: Transaction) -> None:
            if tx.get("a") is not None:
                raise IllegalTransition("it was done")
            tx.put("a", b"1")
            tx.project(["part", 7])

        once = change(work, once="op-1")
        assert store.submit(once).result().version == 1
        put(store, {"a": b"2"})
        again = store.submit(once).result()
        assert again.repeated is not None and (again.version, again.changed, again.data) == (1, False, None)
        assert list(again.repeated.projection) == ["part", 7] and again.repeated.operation == "test"
        assert (store.view(WF).get("a"), store.view(WF).version) == (b"2", 2)
        record = store.view(WF).operation("op-1")
        assert record is not None and (record.operation_id, record.version) == ("op-1", 1)
        assert store.view(WF).operation("other") is None

    def test_an_operation_id_is_of_its_document(self, store: Store) -> None:
        """What one document remembers is nothing to another."""
        other = DocumentId("workflow", "other")
        for document in (WF, other):
            receipt = store.submit(change(putting({"a": b"1"}), document, once="op-1")).result()
            assert receipt.repeated is None and receipt.version == 1

    def test_an_operation_that_changed_nothing_is_remembered_when_it_may_be_repeated(self, store: Store) -> None:
        """With an id of the caller's own, even a change without effect is recorded, so that its repetition has none."""
        nothing = change(lambda tx: tx.delete("a"), once="op-1")
        assert store.submit(nothing).result().version == 1
        put(store, {"a": b"1"})
        assert store.submit(nothing).result().repeated is not None
        assert store.view(WF).get("a") == b"1"

    def test_on_done_is_called_once(self, store: Store) -> None:
        """A change with `on_done` is carried out by the store, and the callback comes once, with the ticket done."""
        done: list[int] = []
        event = threading.Event()

        def finished(tickets: Sequence[Ticket]) -> None:
            done.extend(ticket.result().version for ticket in tickets)
            event.set()

        store.submit(change(putting({"a": b"1"})), finished)
        assert event.wait(LONG_S)
        assert done == [1]

    def test_on_done_is_told_of_each_once_that_it_was_given_with(self, store: Store) -> None:
        """Tickets of several changes with one `on_done` may be told together, and each is told once."""
        told: list[Ticket] = []
        left = threading.Semaphore(0)

        def finished(tickets: Sequence[Ticket]) -> None:
            for ticket in tickets:
                told.append(ticket)
                left.release()

        handed_out = [store.submit(change(putting({f"k{number}": b"1"})), finished) for number in range(20)]
        for _ in handed_out:
            assert left.acquire(timeout=LONG_S)
        assert len(told) == len(handed_out) and set(told) == set(handed_out)
        assert sorted(ticket.result().version for ticket in told) == list(range(1, 21))

    def test_on_done_is_told_of_errors(self, store: Store) -> None:
        """A work that raises is done, too: its ticket raises what it raised."""
        event, tickets = threading.Event(), list[Ticket]()

        def work(tx: Transaction) -> None:
            raise IllegalTransition("no")

        def finished(told: Sequence[Ticket]) -> None:
            tickets.extend(told)
            event.set()

        store.submit(change(work), finished)
        assert event.wait(LONG_S)
        with pytest.raises(IllegalTransition):
            tickets[0].result()

    def test_c11_threads_lose_no_update(self, store: Store) -> None:
        """Eight threads that each add one to a counter twenty times leave a hundred and sixty."""

        def add(tx: Transaction) -> None:
            tx.put("n", b"%d" % (int(tx.get("n") or 0) + 1))

        def many() -> None:
            for _ in range(20):
                submit(store, add)

        threads = [threading.Thread(target=many) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (store.view(WF).get("n"), store.view(WF).version) == (b"160", 160)

    def test_differing_names_every_part_that_differs(self, store: Store) -> None:
        """In a view and within a transaction that has changed some; it may name others."""
        put(store, {f"k{number:03}": b"0" for number in range(50)})
        for number in range(3):
            put(store, {f"k{number:03}": b"1"})
        delete(store, "k020")
        submit(store, lambda tx: tx.clear())
        views = [at(store, version) for version in range(1, store.view(WF).version + 1)]
        for one in views:
            for other in views:
                keys = {*one.keys(), *other.keys()}
                assert one.differing(other) >= {key for key in keys if one.get(key) != other.get(key)}
        put(store, {"k001": b"again"})

        def work(tx: Transaction) -> set[str]:
            tx.put("k005", b"staged")
            return tx.differing(views[0])

        assert store.submit(change(work)).result().data >= {"k001", "k005", "k049"}

    def test_a_glance_is_the_same_while_the_document_is(self, store: Store) -> None:
        """A stamp that says something differs once the document does; and every document is glanced at."""
        put(store, {"a": b"1"})
        before = dict(store.glance("workflow"))
        put(store, {"a": b"2"})
        after = dict(store.glance("workflow"))
        assert set(before) == set(after) == {"wf"}
        assert not before["wf"] or before != after
        assert sums(store.peek(WF)) == sums(store.view(WF))

    def test_what_was_committed_is_sound(self, store: Store) -> None:
        """`verify` reads all there is, finds nothing amiss, and changes nothing."""
        for number in range(5):
            put(store, {"n": b"%d" % number, f"k{number}": LARGE})
        delete(store, "k1")
        found = store.verify()
        assert found.sound and not [each for each in found.findings if each.severity != "note"]
        assert store.view(WF).version == 6

    def test_what_is_kept_is_recalled_or_forgotten(self, store: Store) -> None:
        """`recall` gives what was kept last under a name, or None, and never another's."""
        assert store.recall("one") is None
        store.keep("one", b"1")
        store.keep("one", b"2")
        store.keep("two", b"3")
        assert store.recall("one") in (None, b"2") and store.recall("two") in (None, b"3")

    def test_a_closed_store_says_so(self, opening: Open) -> None:
        """After `close` every call raises StoreClosed, and closing again does nothing."""
        store = opening()
        put(store, {"a": b"1"})
        store.close()
        store.close()
        for call in (
            lambda: store.view(WF),
            lambda: store.view_at(WF, 1),
            lambda: store.past(WF),
            lambda: store.submit(change(putting({"a": b"2"}))).result(),
            lambda: store.begin().document(WF).get("a"),
        ):
            with pytest.raises(StoreClosed):
                call()

    @outlives
    def test_what_was_committed_is_there_when_it_is_opened_again(self, opening: Open) -> None:
        """Parts, versions, history and operation ids of before are there, and commits go on behind them."""
        store = opening()
        put(store, {"a": b"1", "large": LARGE})
        store.submit(change(putting({"a": b"2"}), once="op-1")).result()
        delete(store, "large")
        before = [sums(at(store, version)) for version in range(1, 4)]
        store.close()
        again = opening()
        assert [sums(at(again, version)) for version in range(1, 4)] == before
        assert contents(at(again, 2)) == {"a": b"2", "large": LARGE} and contents(again.view(WF)) == {"a": b"2"}
        assert again.submit(change(putting({"a": b"2"}), once="op-1")).result().repeated is not None
        assert put(again, {"b": b"3"}) == 4 and list(again.documents("workflow")) == ["wf"]
