"""What reading the PostgreSQL store has found, beside lost connections: each with the smallest input that shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import pytest
from psycopg.sql import SQL

from tests.postgres.conftest import Opener
from tests.postgres.proxy import Proxy, losing_the_answer
from tests.servers import Server
from tests.store.support import WF, change
from waypost.errors import StoreError, StoreUnavailable
from waypost.store import Change, Receipt, Ticket, Transaction, postgres
from waypost.store.contract import JointChange
from waypost.store.erasures import ERASED
from waypost.store.postgres import PostgresStore, batching, committing
from waypost.store.postgres.connections import Connection


def fresh(opened: Opener) -> PostgresStore:
    """A handle of its own, which has read nothing yet."""
    store = opened().definitions.store
    assert isinstance(store, PostgresStore)
    return store


def put_many(tx: Transaction) -> None:
    """More than comes whole at the first question."""
    for number in range(50):
        tx.put(f"key{number:02}", bytes(4000))


def together(store: PostgresStore, changes: Sequence[Change]) -> list[object]:
    """What changes that waited together come to."""
    outcomes = batching.commit_all(store._context, changes)
    return [each.data if isinstance(each, Receipt) else each for each in outcomes]


def test_c11_changes_of_a_large_document_that_wait_together_read_what_nobody_has_read(opened: Opener) -> None:
    """A work that runs over what another is about to commit reads all else as it is in the newest version."""
    fresh(opened).submit(change(WF, put_many)).result()

    def rename(tx: Transaction, beginning: str) -> int:
        key = next(iter(tx.keys(beginning)))
        value = tx.get(key) or b""
        tx.delete(key)
        tx.put(f"new {key}", value)
        return len(value) + len(list(tx.keys("key" if beginning == "key3" else beginning)))

    store = fresh(opened)
    changes = [change(WF, partial(rename, beginning=beginning)) for beginning in ("key1", "key0", "key3")]
    assert together(store, changes) == [4009, 4009, 4047]
    assert list(store.view(WF).keys()) == list(fresh(opened).view(WF).keys())


def test_a_commit_behind_which_history_cannot_be_shortened_is_made(
    opened: Opener, server: Server, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails after the commit is not the caller's: it is told that the change was made."""
    store = fresh(opened)
    monkeypatch.setattr(postgres, "_TRIM_EVERY", 1)
    server.execute(f"DROP FUNCTION {schema}.trim")
    assert store.submit(change(WF, put_many)).result().version == 1
    assert store.view(WF).version == 1


def test_history_of_what_is_only_committed_with_others_is_shortened(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits over several documents count for the history of each of them, and have it shortened."""
    store = fresh(opened)
    monkeypatch.setattr(postgres, "_TRIM_EVERY", 3)
    monkeypatch.setattr(store._context, "history_us", 0)
    for number in range(3):
        joint = store.begin()
        joint.document(WF).put("key", b"%d" % number)
        assert store.commit(joint, JointChange(f"op{number}", "test")) is not None
    assert store.past(WF).first > 0


def test_a_view_is_read_by_threads_at_once(opened: Opener) -> None:
    """What one thread learns of a version while another goes through what is known of it stops neither."""
    store = fresh(opened)
    store.submit(change(WF, put_many)).result()
    view = fresh(opened).view(WF)

    class Slow(str):
        """A key that another thread is faster than."""

        def startswith(self, prefix: str, *rest: int) -> bool:  # pyright: ignore
            list(view.keys(f"x{prefix}"))
            return super().startswith(prefix)

    list(view.keys("a"))
    assert view.get(Slow("key01")) == bytes(4000)


def test_c10_what_an_interrupted_thread_has_committed_for_others_is_not_done_again(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt behind the commit of several changes is that of one of them: the others are told they are made."""
    store = fresh(opened)
    in_transaction = store._context.in_transaction

    def interrupted(what: object, act: Callable[[Connection], object]) -> None:
        monkeypatch.undo()
        in_transaction(what, act)
        raise KeyboardInterrupt

    def add(tx: Transaction) -> int:
        number = int(tx.get("number") or b"0") + 1
        tx.put("number", b"%d" % number)
        return number

    tickets = [store.submit(change(WF, add)) for _ in range(4)]
    monkeypatch.setattr(store._context, "in_transaction", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tickets[0].result()
    receipts = [ticket.result() for ticket in tickets[1:]]
    assert [(each.version, each.changed, each.data) for each in receipts] == [(n, True, n) for n in (2, 3, 4)]
    assert store.view(WF).get("number") == b"4"


def put_key(tx: Transaction, key: str) -> None:
    tx.put(key, b"value")


class Interrupting:
    """A lock in whose wait an interrupt comes."""

    def __enter__(self) -> None:
        raise KeyboardInterrupt

    def __exit__(self, *_: object) -> None: ...


def interrupt_the_wait_of(ticket: Ticket) -> None:
    """As Ctrl-C does in a thread that waits for its turn."""
    assert isinstance(ticket, postgres._Ticket)
    assert ticket._waiting is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ticket._waiting._queue, "_turn", Interrupting())
        with pytest.raises(KeyboardInterrupt):
            ticket.result()


def test_c10_what_nobody_waits_for_any_more_is_committed_by_nobody(opened: Opener) -> None:
    """A change whose waiter was interrupted before its turn does not go with the next one, however late that comes."""
    store = fresh(opened)
    given_up, other, late = (
        store.submit(change(WF, partial(put_key, key=key))) for key in ("given up", "other", "late")
    )
    interrupt_the_wait_of(given_up)
    interrupt_the_wait_of(late)
    assert other.result().version == 1
    assert list(store.view(WF).keys()) == ["other"]
    with pytest.raises(StoreError) as told:
        given_up.result()
    assert told.value.details["outcome"] == "unknown"


@pytest.mark.parametrize("is_made", [True, False])
def test_c10_what_nobody_waits_for_any_more_is_committed_now_or_never(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, *, is_made: bool
) -> None:
    """Where it is under way by then in a thread that is interrupted as well, it was committed or never is."""
    store = fresh(opened)
    in_transaction = store._context.in_transaction
    keys = ["driver", "given up", "next"]
    driver, given_up, after = (store.submit(change(WF, partial(put_key, key=key))) for key in keys)

    def interrupted(what: object, act: Callable[[Connection], object]) -> None:
        monkeypatch.undo()
        interrupt_the_wait_of(given_up)
        if is_made:
            in_transaction(what, act)
        raise KeyboardInterrupt

    monkeypatch.setattr(store._context, "in_transaction", interrupted)
    with pytest.raises(KeyboardInterrupt):
        driver.result()
    after.result()
    assert list(store.view(WF).keys()) == (keys if is_made else ["next"])


def test_a_document_is_locked_by_one_call_of_the_server(opened: Opener) -> None:
    """And not by one for each column of its row, each of which looks for it."""
    connections = fresh(opened)._connections
    with connections.connection() as connection:
        explained = SQL("EXPLAIN (VERBOSE, COSTS OFF) ") + connections.statements["locked"]
        plan = "\n".join(line for (line,) in connection.execute(explained, WF))
    assert plan.count(".locked(") == 1


def test_what_is_dropped_while_it_is_read_is_not_damaged(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trim between two questions of one reader is an error of its kind, and not said to be damage."""
    store = fresh(opened)
    monkeypatch.setattr(store._context, "history_us", -1)
    monkeypatch.setattr(postgres, "_GRACE_US", -1_000_000_000)
    held = store.stage(WF, "key", 5000, lambda size: iter([bytes(5000)]))
    for value in (b"1", held, b"3"):
        store.submit(change(WF, lambda tx, value=value: tx.put("key", value))).result()
    pieces = next(each for each in store.past(WF).commits() if each.version == 2).pieces("key")
    past = store.past(WF)
    values = past._values

    def overtaken(versions: list[int]) -> object:
        store.reclaim(WF)
        return values(versions)

    monkeypatch.setattr(past, "_values", overtaken)
    with pytest.raises(StoreUnavailable, match="no longer kept"):
        list(past.commits())
    with pytest.raises(StoreUnavailable, match="no longer kept"):
        pieces.read(0)


def test_what_was_erased_earlier_elsewhere_is_erased(opened: Opener) -> None:
    """An erasure that comes from another store is carried out, also when a later one of this store was."""
    store = fresh(opened)
    for key in ("first", "second"):
        store.submit(change(WF, lambda tx, key=key: tx.put(key, b"secret"))).result()
    old = store.view(WF).time_us

    def erase(tx: Transaction, key: str, until_us: int) -> None:
        tx.delete(key)
        tx.put(ERASED + key, msgspec.msgpack.encode([until_us]))

    for key, until_us in (("first", old + 1), ("second", old)):
        store.submit(change(WF, partial(erase, key=key, until_us=until_us))).result()
        store.erase(WF)
    before = store.view_at(WF, 2)
    assert before is not None
    assert [before.erased(key) is not None for key in ("first", "second")] == [True, True]


def test_c12_a_change_under_the_lock_whose_answer_is_lost_is_this_call_s(
    opened: Opener, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A work that lost all races, and then the answer to its commit, is told as made, with what it gave."""
    store = opened(proxy.port).definitions.store
    monkeypatch.setattr(committing, "_TRIES", 0)
    proxy.plan(losing_the_answer("COMMIT"))

    def work(tx: Transaction) -> str:
        tx.put("key", b"value")
        return "given"

    receipt = store.submit(change(WF, work)).result()
    assert proxy.cuts == 1
    assert (receipt.version, receipt.changed, receipt.data, receipt.repeated) == (1, True, "given", None)
