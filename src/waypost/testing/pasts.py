"""How a document came to be what it is."""

from __future__ import annotations

from waypost.store import Change, Store, Transaction
from waypost.testing.base import LARGE, WF, A, B, Kit, Open, at, contents, delete, joint_change, outlives, put, submit
from waypost.testing.oracle import told


class PastTests(Kit):
    """The promises of `past`. The tests commit little: a store that shortens history keeps what is young."""

    def test_a_document_that_was_never_written_has_no_past(self, store: Store) -> None:
        """What does not exist has version 0, no commits, and begins empty."""
        past = store.past(WF)
        assert (past.version, past.first, list(past.commits()), list(past.start().keys())) == (0, 0, [], [])
        assert list(past.remembered()) == []

    def test_a_commit_says_who_did_what_and_to_which_parts(self, store: Store) -> None:
        """A commit has the id of its version's view, its operation, session, agent and time, and the values it put."""

        def work(tx: Transaction) -> None:
            tx.put("a", b"1")
            tx.put("big", LARGE)
            tx.project(["found", 1])

        store.submit(Change(WF, work, "op-1", "update", session="s", agent="g")).result()
        delete(store, "a")
        submit(store, lambda tx: [tx.clear(), tx.put("after", b"clear")])
        cleared, removed, first = store.past(WF).commits()
        view = at(store, 1)
        assert told(first) == (
            1, "op-1", "update", "s", "g", False, {"a": (1, b"1"), "big": (len(LARGE), LARGE)}, [], None
        )  # fmt: skip
        assert (first.commit_id, first.time_us, first.checksum, first.size_bytes) == (
            view.commit_id, view.time_us, view.checksum, view.size_bytes,
        )  # fmt: skip
        assert list(first.projection) == ["found", 1] and first.erased is None
        pieces = first.pieces("big")
        assert b"".join(map(pieces.read, range(len(pieces.starts)))) == LARGE
        assert (list(removed.removed), dict(removed.puts), removed.cleared) == (["a"], {}, False)
        assert (cleared.cleared, dict(cleared.puts), cleared.session) == (True, {"after": 5}, None)

    def test_commits_come_newest_first_and_from_below_a_version(self, store: Store) -> None:
        """The newest commit comes first, or the oldest; `before` leaves out its own version and all above it."""
        for number in range(1, 8):
            put(store, {"a": b"%d" % number})
        past = store.past(WF)
        assert [commit.version for commit in past.commits()] == [7, 6, 5, 4, 3, 2, 1]
        assert [commit.version for commit in past.commits(4)] == [3, 2, 1]
        assert [commit.version for commit in past.commits(4, oldest_first=True)] == [1, 2, 3]
        assert [commit.version for commit in past.commits(100)] == [7, 6, 5, 4, 3, 2, 1]
        assert (list(past.commits(1)), past.version) == ([], 7)

    def test_a_past_stays_as_it_is(self, store: Store) -> None:
        """What is committed after a past was asked for is not in it, and what is in it can still be read."""
        put(store, {"a": b"1"})
        past = store.past(WF)
        put(store, {"a": b"2"})
        submit(store, lambda tx: tx.clear())
        assert [(commit.version, commit.read("a")) for commit in past.commits()] == [(1, b"1")]
        assert past.version == 1

    def test_a_commit_over_several_documents_names_all_of_them(self, store: Store) -> None:
        """Each of its commits carries one transaction id and the documents and versions that belong to it."""
        put(store, {"a": b"1"}, B)
        joint = store.begin()
        joint.document(B).put("a", b"2")
        joint.document(A).put("b", b"2")
        assert store.commit(joint, joint_change()) is not None
        here, alone = store.past(B).commits()
        (there,) = store.past(A).commits()
        assert alone.joint is None
        assert here.joint is not None and there.joint is not None
        assert here.joint.transaction_id == there.joint.transaction_id
        assert list(here.joint.participants) == list(there.joint.participants) == [(A, 1), (B, 2)]
        joint = store.begin()
        joint.document(B).put("a", b"3")
        joint.document(A).get("b")
        assert store.commit(joint, joint_change()) is not None
        assert next(iter(store.past(B).commits())).joint is None, "only one was changed"

    def test_what_is_put_again_as_it_was_is_no_change(self, store: Store) -> None:
        """A commit tells of parts that it changed, and not of others that its work put."""
        put(store, {"a": b"1", "b": b"1"})
        put(store, {"a": b"1", "b": b"2"})
        newest, _ = store.past(WF).commits()
        assert dict(newest.puts) == {"b": 1}

    @outlives
    def test_a_past_is_told_alike_when_it_is_opened_again(self, opening: Open) -> None:
        """Every commit that is kept says the same, and from its beginning they make what the document is."""
        store = opening()
        for number in range(5):
            put(store, {f"k{number % 2}": LARGE[number:]})
        delete(store, "k0")
        before = [told(commit) for commit in store.past(WF).commits()]
        store.close()
        past = opening().past(WF)
        assert [told(commit) for commit in past.commits()] == before
        made = dict(contents(past.start()))
        for commit in past.commits(oldest_first=True):
            made = {} if commit.cleared else made
            made.update({key: commit.read(key) for key in commit.puts})
            made = {key: value for key, value in made.items() if key not in commit.removed}
        assert made == contents(opening().view(WF))
