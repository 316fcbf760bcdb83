"""Commits over several documents: all of them or none."""

from __future__ import annotations

import threading

from waypost.store import Store
from waypost.testing.base import A, B, C, Kit, Open, change, joint_change, outlives, put, put_in_all


def x_of(store: Store) -> list[bytes | None]:
    """The part `x` of the three documents."""
    return [store.view(document).get("x") for document in (A, B, C)]


class JointTests(Kit):
    """The promises of `begin` and `commit`."""

    def test_a_commit_over_several_documents_makes_a_version_of_each(self, store: Store) -> None:
        """Each document that was changed has one version more, and the others are as they were."""
        assert put_in_all(store, b"1", A, B)
        assert put_in_all(store, b"2", B, C)
        assert x_of(store) == [b"1", b"2", b"2"]
        assert [store.view(each).version for each in (A, B, C)] == [1, 2, 1]

    def test_work_sees_what_it_staged_and_nobody_else_does(self, store: Store) -> None:
        """Until it is committed it is the transaction's own; when it is dropped it never was."""
        joint = store.begin()
        joint.document(A).put("x", b"1")
        assert joint.document(A).get("x") == b"1" and joint.document(A).as_it_is().get("x") == b"1"
        assert store.view(A).get("x") is None and list(store.documents("workflow")) == []

    def test_a_transaction_sees_a_document_as_it_was_first(self, store: Store) -> None:
        """What others commit meanwhile does not show."""
        put(store, {"x": b"1"}, A)
        joint = store.begin()
        document = joint.document(A)
        put(store, {"x": b"2"}, A)
        assert document.get("x") == b"1" and joint.document(A).get("x") == b"1"

    def test_a_savepoint_takes_back_what_came_after_it(self, store: Store) -> None:
        """Rolling back stages again what was staged then, in that document alone."""
        joint = store.begin()
        one, other = joint.document(A), joint.document(B)
        one.put("x", b"1")
        other.put("x", b"1")
        savepoint = one.savepoint()
        one.put("x", b"2")
        one.put("y", b"2")
        one.roll_back(savepoint)
        other.roll_back(None)
        assert store.commit(joint, joint_change()) is not None
        assert dict(zip("xy", map(store.view(A).get, "xy"), strict=True)) == {"x": b"1", "y": None}
        assert store.view(B).version == 0

    def test_what_was_read_and_changed_since_is_a_conflict(self, store: Store) -> None:
        """A commit that rests on a part that another changed meanwhile is none, in no document."""
        put_in_all(store, b"1", A)
        joint = store.begin()
        assert joint.document(A).get("x") == b"1"
        joint.document(B).put("x", b"from A")
        put_in_all(store, b"2", A)
        assert store.commit(joint, joint_change()) is None
        assert store.view(B).version == 0

    def test_another_part_changed_since_is_no_conflict(self, store: Store) -> None:
        """Commits of other parts of the same documents are in nobody's way."""
        put_in_all(store, b"1", A)
        joint = store.begin()
        assert joint.document(A).get("x") == b"1"
        joint.document(B).put("x", b"from A")
        joint.document(A).put("z", b"z")
        put(store, {"y": b"other"}, A)
        assert store.commit(joint, joint_change()) is not None
        assert [store.view(A).get(key) for key in "xyz"] == [b"1", b"other", b"z"]

    def test_a_listing_that_changed_since_is_a_conflict(self, store: Store) -> None:
        """Which parts there are counts as read by whoever listed them, unless he said that it does not."""
        for listed in (True, False):
            document = A if listed else C
            joint = store.begin()
            found = joint.document(document).keys("x") if listed else joint.document(document).unwatched_keys("x")
            assert list(found) == []
            joint.document(B).put("x", b"is empty")
            put_in_all(store, b"1", document)
            assert (store.commit(joint, joint_change()) is None) is listed

    def test_write_skew_is_a_conflict(self, store: Store) -> None:
        """Of two that each rest on what the other changes, one is committed."""
        first, second = store.begin(), store.begin()
        assert first.document(A).get("x") is None
        first.document(B).put("x", b"1")
        assert second.document(B).get("x") is None
        second.document(A).put("x", b"2")
        assert store.commit(first, joint_change())
        assert store.commit(second, joint_change()) is None

    def test_reading_only_is_checked_to_have_been_so_at_one_moment(self, store: Store) -> None:
        """With nothing staged, a commit says whether all that was read was so at once, and makes no version."""
        joint = store.begin()
        assert joint.document(A).get("x") is None
        put_in_all(store, b"1", A, B)
        assert joint.document(B).get("x") == b"1"
        assert store.commit(joint, joint_change()) is None
        again = store.begin()
        assert (again.document(A).get("x"), again.document(B).get("x")) == (b"1", b"1")
        receipt = store.commit(again, joint_change())
        assert receipt is not None and not receipt.changed
        assert [store.view(each).version for each in (A, B)] == [1, 1]

    def test_an_operation_id_counts_once_in_all_documents(self, store: Store) -> None:
        """A repeatable one that any of the documents remembers commits nothing."""
        for expected in (True, False):
            joint = store.begin()
            joint.document(A).put("x", b"1")
            joint.document(B).put("x", b"1")
            assert bool(store.commit(joint, joint_change("once"))) is expected
        assert [store.view(each).version for each in (A, B)] == [1, 1]
        assert all(store.view(each).operation("once") for each in (A, B))
        assert store.submit(change(lambda tx: tx.put("x", b"2"), A, once="once")).result().repeated is not None

    def test_c11_threads_that_move_something_lose_none_of_it(self, store: Store) -> None:
        """Whatever threads move from document to document, the sum is the same at each moment and in the end."""
        for document in (A, B):
            put(store, {"x": b"50"}, document)

        def move(amount: int) -> None:
            for _ in range(15):
                done = False
                while not done:
                    joint = store.begin()
                    one, other = joint.document(A), joint.document(B)
                    one.put("x", b"%d" % (int(one.get("x") or 0) - amount))
                    other.put("x", b"%d" % (int(other.get("x") or 0) + amount))
                    done = store.commit(joint, joint_change()) is not None

        threads = [threading.Thread(target=move, args=(amount,)) for amount in (1, 2, -1)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            joint = store.begin()
            sides = [int(joint.document(document).get("x") or 0) for document in (A, B)]
            if store.commit(joint, joint_change()) is not None:
                assert sum(sides) == 100
        assert x_of(store)[:2] == [b"20", b"80"]

    @outlives
    def test_a_commit_over_several_documents_is_there_when_it_is_opened_again(self, opening: Open) -> None:
        """All of it is."""
        store = opening()
        assert put_in_all(store, b"1", A, B, C)
        store.close()
        assert x_of(opening()) == [b"1", b"1", b"1"]
