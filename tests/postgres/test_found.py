"""What the tests that break the PostgreSQL store have found, each with the smallest input that shows it."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial

import pytest

import waypost
from tests.postgres.acts import exported
from tests.postgres.conftest import Opener
from tests.postgres.proxy import CLIENT, Action, Message, Plan, Proxy, holding, losing_the_answer, passing
from tests.servers import Server
from tests.store.support import WF, change
from tests.store.test_checkpoints import contents, name_of
from waypost import WorkflowTransaction, clock
from waypost.errors import StoreUnavailable
from waypost.store import Change, ContentLost, DocumentId, JointPart, Receipt, Store, Transaction
from waypost.store.contract import ADOPTED, JointChange
from waypost.store.memory import MemoryStore
from waypost.store.postgres import PostgresStore, batching, erasing
from waypost.store.postgres.context import Context
from waypost.store.postgres.joint import commit_with
from waypost.testing.checkpoints import foreign

SESSION = DocumentId("session", "s")


def put_part(tx: Transaction, key: str) -> None:
    tx.put(key, b"value")


def put_anything(tx: Transaction) -> None:
    """Depends on nothing, and does another thing each time."""
    tx.put(uuid.uuid4().hex, b"value")


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


def overtake(patch: pytest.MonkeyPatch, context: Context, other: Store, changes: Sequence[Change]) -> None:
    """Another handle commits changes, once, right behind the next look of ours."""
    look = context.look

    def overtaken(*arguments: DocumentId) -> object:
        view = look(*arguments)
        patch.undo()
        for each in changes:
            other.submit(each).result()
        return view

    patch.setattr(context, "look", overtaken)


def test_c12_an_operation_in_a_batch_that_another_has_done_meanwhile_is_not_done_again(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits together is committed together, but for what another handle has committed under the same id."""
    store, other = opened().definitions.store, opened().definitions.store
    assert isinstance(store, PostgresStore)
    context = store._context
    both = [change(WF, put_anything, operation_id=key, repeatable=True) for key in "ab"]
    overtake(monkeypatch, context, other, both[1:])
    receipts = batching.commit_all(context, both)
    assert [isinstance(each, Receipt) and each.repeated is not None for each in receipts] == [False, True]
    assert store.view(WF).version == 2


def test_c12_operations_in_a_batch_that_another_has_all_done_meanwhile_are_told_as_his(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as this batch's own, with what it would have stored."""
    store, other = opened().definitions.store, opened().definitions.store
    assert isinstance(store, PostgresStore)
    context = store._context
    both = [change(WF, put_anything, operation_id=key, repeatable=True) for key in "ab"]
    overtake(monkeypatch, context, other, both)
    receipts = batching.commit_all(context, both)
    assert all(isinstance(each, Receipt) and each.repeated is not None and not each.changed for each in receipts)
    assert [each.version for each in receipts if isinstance(each, Receipt)] == [1, 2]
    assert store.view(WF).version == 2


def test_c12_an_import_whose_commit_is_held_up_is_unknown(opened: Opener, proxy: Proxy) -> None:
    """While the first attempt may still be committed nobody says that it was rolled back."""
    wp = opened(proxy.port, postgres={"lock_timeout": 700})
    proxy.plan(holding("COMMIT"))
    failed = wp.import_session(exported(wp, "s"), operation_id="op")
    assert failed.error is not None
    assert failed.status == "unknown", failed.error
    proxy.release()
    assert proxy.delivered.wait(30)
    assert wp.get_outcome("op").repeated


def test_c12_a_batch_that_finds_no_server_fails_at_once(opened: Opener, proxy: Proxy) -> None:
    """Changes that wait together do not wait for a server that is gone one after the other."""
    store = opened(proxy.port, postgres={"lock_timeout": 300}).definitions.store
    assert isinstance(store, PostgresStore)
    changes = [change(WF, partial(put_part, key=str(number))) for number in range(20)]
    proxy.plan(lambda message: "cut before")
    started = time.monotonic()
    outcomes = batching.commit_all(store._context, changes)
    assert time.monotonic() - started < 20 * 0.3
    assert {type(each) for each in outcomes} == {StoreUnavailable}


def test_t15_a_handle_finds_a_server_again_whose_connections_are_all_lost(opened: Opener, server: Server) -> None:
    """More connections that lie idle than a reader tries, and all of them lost: the next read works."""
    wp = opened(postgres={"pool_size": 12})
    wp.create_workflow("w", "w").unwrap()
    connections = wp.definitions.store._connections  # pyright: ignore
    with ExitStack() as stack:
        pids = [stack.enter_context(connections.connection()).info.backend_pid for _ in range(12)]
    for pid in pids:
        server.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    wp.load_workflow_state("w").unwrap()


def test_t15_a_work_that_needs_a_second_connection_does_not_wait_for_its_own(opened: Opener) -> None:
    """With one connection for all, what comes in is read and compared with what is there meanwhile."""
    wp = opened(postgres={"pool_size": 1, "lock_timeout": 1500})
    data = exported(wp, "s")
    assert wp.import_session(data).unwrap().session_id == "s"
    assert wp.import_session(data).unwrap().session_id == "s"
    wp.create_workflow("w", "w", steps=["a"]).unwrap()
    checkpoint = wp.create_checkpoint("w").unwrap()
    wp.import_checkpoint(wp.export_checkpoint(checkpoint.id), "other").unwrap()
    wp.fork_workflow(checkpoint.id, "fork").unwrap()


def test_t15_a_server_that_is_back_is_found_at_once(opened: Opener, proxy: Proxy) -> None:
    """However long a server was away, who asks when it is back does not wait for an attempt that comes later."""
    wp = opened(proxy.port, postgres={"lock_timeout": 1000})
    wp.create_workflow("w", "w").unwrap()
    proxy.plan(lambda message: "cut before")
    for _ in range(6):
        with pytest.raises(StoreUnavailable, match="server closed the connection"):
            wp.load_workflow_state("w").unwrap()
    proxy.plan(passing)
    wp.load_workflow_state("w").unwrap()


def test_t15_a_transaction_that_is_taken_back_when_its_connection_is_lost(opened: Opener, proxy: Proxy) -> None:
    """A commit over several documents that has to run again, and cannot say ROLLBACK any more, runs again."""
    wp, other = opened(proxy.port), opened()
    for name in "wv":
        wp.create_workflow(name, name).unwrap()
    runs: list[int] = []

    def both(tx: WorkflowTransaction) -> None:
        for name in "wv":
            n = tx.load_workflow_state(name).context.variables.get("n", 0)
            tx.update_context(name, variables={"n": n + 1})
        if not runs:
            other.update_context("v", variables={"n": 10}).unwrap()
            proxy.plan(lambda message: "cut before" if b"ROLLBACK" in message.data else "pass")
        runs.append(1)

    wp.transact(both).unwrap()
    assert proxy.cuts >= 1
    assert wp.load_workflow_state("v").unwrap().context.variables["n"] == 11


def test_c12_a_look_at_what_is_to_arrive_fails_as_a_store_does(opened: Opener, proxy: Proxy) -> None:
    """Who reads what was taken in before it arrives, and loses the connection, meets no error of the driver."""
    elsewhere = MemoryStore()
    elsewhere.submit(change(WF, partial(put_part, key="k"))).result()
    with closing(opened(proxy.port).definitions.store.receive()) as received:
        view = received.take(WF, elsewhere.past(WF), None)
        proxy.plan(lambda message: "cut before")
        with pytest.raises(StoreUnavailable):
            view.get("k")
        proxy.plan(passing)


def losing_the_answer_as(word: str, act: Callable[[], object]) -> Plan:
    """As losing the answer, and another client does something before the loss is noticed."""
    plan = losing_the_answer(word)

    def with_act(message: Message) -> Action:
        action = plan(message)
        if action != "pass":
            act()
        return action

    return with_act


def test_c12_a_transaction_whose_commit_is_not_answered_is_not_done_again(opened: Opener, proxy: Proxy) -> None:
    """Though another client changes what it has only read before it looks whether it was done."""
    direct, wp = opened(), opened(proxy.port)
    for name in "abc":
        direct.create_workflow(name, name, steps=["s"]).unwrap()
    taken: list[str] = []

    def take_a_free_one(tx: WorkflowTransaction) -> None:
        dict(tx.load_workflow_state("a").context.variables)
        free = next(name for name in "bc" if "owner" not in tx.load_workflow_state(name).context.variables)
        tx.update_context(free, variables={"owner": "me"})
        taken.append(free)

    proxy.plan(losing_the_answer_as("COMMIT", lambda: direct.update_context("a", variables={"x": 1}).unwrap()))
    wp.transact(take_a_free_one).unwrap()
    assert proxy.cuts == 1
    assert taken == ["b"]
    assert "owner" not in direct.load_workflow_state("c").unwrap().context.variables


@pytest.mark.parametrize("operation_id", ["op", None])
def test_c12_work_that_makes_another_workflow_each_time_makes_one(
    opened: Opener, proxy: Proxy, operation_id: str | None
) -> None:
    """What is found to be this call's own commit, whose answer was lost, is acknowledged, and its work does not run
    again: with an operation id neither, since what it touches then may not remember that.
    """
    wp = opened(proxy.port)
    made: list[str] = []

    def make_two(tx: WorkflowTransaction) -> None:
        made.append(uuid.uuid4().hex)
        for name in (made[-1], f"{made[-1]}-beside"):
            tx.create_workflow(name, name)

    proxy.plan(losing_the_answer("COMMIT"))
    wp.transact(make_two, operation_id=operation_id).unwrap()
    assert (proxy.cuts, len(made)) == (1, 1)
    assert {each.id for each in wp.list_workflows().items} == {made[0], f"{made[0]}-beside"}


def test_c12_an_import_whose_commit_is_not_answered_is_done(opened: Opener, proxy: Proxy) -> None:
    """Though another client goes on with what has arrived before it looks whether it has."""
    direct, wp = opened(), opened(proxy.port)
    data = exported(wp, "s")
    proxy.plan(losing_the_answer_as("COMMIT", lambda: direct.update_context("s", variables={"x": 1}).unwrap()))
    wp.import_session(data, operation_id="op").unwrap()
    assert proxy.cuts == 1


@pytest.mark.parametrize("word", ["COMMIT", "append"])
def test_c12_an_import_that_only_merges_is_not_said_to_be_done_when_it_is_lost(
    opened: Opener, proxy: Proxy, word: str
) -> None:
    """Nothing arrives with it whose being there could tell: its operation does."""
    direct, wp = opened(), opened(proxy.port)
    source = waypost.open("memory:")
    source.start_session("me", session_id="s")
    source.create_workflow("w", "W", session_id="s", steps=["a"]).unwrap()
    source.end_session("s").unwrap()
    direct.import_session(source.export_session("s")).unwrap()
    source.update_context("w", variables={"later": 1}).unwrap()
    later = source.export_session("s")
    source.close()
    proxy.plan(cut_before(word))
    wp.import_session(later, on_clash="merge", operation_id="op").unwrap()
    assert proxy.cuts == 1
    assert direct.load_workflow_state("w").unwrap().context.variables == {"later": 1}


def cut_before(word: str) -> Plan:
    """Cut once, before the server is handed the first statement with a word in it."""
    done = False

    def plan(message: Message) -> Action:
        nonlocal done
        if done or message.sender != CLIENT or message.kind not in "PQ" or word not in message.text:
            return "pass"
        done = True
        return "cut before"

    return plan


def test_c09_a_value_that_is_just_being_put_is_not_swept(opened: Opener, server: Server, schema: str) -> None:
    """Though it was staged long ago, and whoever puts it has not committed yet."""
    store, other = opened().definitions.store, opened().definitions.store
    assert isinstance(store, PostgresStore)
    data = bytes(range(256)) * 100
    written = store.stage(WF, "k", len(data), lambda _: iter([data]))
    server.execute(f"UPDATE {schema}.contents SET made = made - interval '2 days'")
    joint = store.begin()
    joint.document(WF).put("k", written)
    connections, swept = store._context.connections, list[int]()
    sweeping = threading.Thread(target=lambda: swept.append(other.sweep()))
    with connections.connection() as connection:
        with connections.transaction(connection):
            commit_with(store._context, connection, joint.opened, [WF], JointChange("op", "test"), None, set())
            sweeping.start()
            until(lambda: bool(swept) or waits_for_a_lock(server))
        sweeping.join()
    assert swept == [0]
    assert other.view(WF).get("k") == data


def aged(server: Server, schema: str) -> None:
    """All that was taken in was so two days ago."""
    server.execute(f"UPDATE {schema}.adopted SET made = made - interval '2 days'")


def adopting(tx: JointPart | Transaction) -> None:
    tx.put(ADOPTED + name_of(7), b"said of it")


def test_c09_a_version_that_is_just_being_adopted_is_not_swept(opened: Opener, server: Server, schema: str) -> None:
    """Though it was taken in long ago, and whoever adopts it has not committed yet."""
    store, other = opened().definitions.store, opened().definitions.store
    assert isinstance(store, PostgresStore)
    version = foreign()
    store.take_in(version, name_of(7))
    aged(server, schema)
    joint = store.begin()
    adopting(joint.document(WF))
    connections = store._context.connections
    with connections.connection() as connection, connections.transaction(connection):
        commit_with(store._context, connection, joint.opened, [WF], JointChange("op", "test"), None, set())
        assert other.sweep() == 0
    found = other.checkpoint(WF, name_of(7))
    assert found is not None and contents(found) == contents(version)


def test_c09_a_version_that_was_just_looked_for_is_not_swept(opened: Opener, server: Server, schema: str) -> None:
    """Whoever has made sure that it is there has a day to commit that it is adopted."""
    store = opened().definitions.store
    check = store.take_in(foreign(), name_of(7))
    aged(server, schema)
    check()
    assert store.sweep() == 0
    check()


def commit_by(way: str, store: Store, work: Callable[[JointPart | Transaction], None]) -> None:
    """Commit work by itself, in a batch with another, or as one over several documents."""
    if way == "joint":
        joint = store.begin()
        work(joint.document(WF))
        store.commit(joint, JointChange("op", "test"))
        return
    ticket = store.submit(change(WF, work))
    if way == "batch":
        store.submit(change(WF, put_anything))
    ticket.result()


@pytest.mark.parametrize("by", ["submit", "batch", "joint"])
def test_c09_nobody_adopts_a_version_that_was_swept_since_it_was_looked_for(
    opened: Opener, server: Server, schema: str, by: str
) -> None:
    """The commit looks as well, however long ago that was."""
    store = opened().definitions.store
    checks = [store.take_in(foreign(), name_of(7))]

    def work(tx: JointPart | Transaction) -> None:
        while checks:
            checks.pop()()
        aged(server, schema)
        store.sweep()
        adopting(tx)

    with pytest.raises(ContentLost):
        commit_by(by, store, work)
    assert store.checkpoints(WF) == []


def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        time.sleep(0.01)


def waits_for_a_lock(server: Server) -> bool:
    return server.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")[0][0] > 0


def test_a_clock_that_is_ahead_for_a_moment_takes_no_history(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Age is told by the newest commit, as in a directory."""
    store = opened().definitions.store
    for number in range(3):
        store.submit(change(WF, lambda tx, number=number: tx.put("k", b"%d" % number))).result()
    real = clock.now_us
    with monkeypatch.context() as patch:
        patch.setattr(clock, "now_us", lambda: real() + 400 * 86_400_000_000)
        store.reclaim(WF)
    found = store.view_at(WF, 1)
    assert found is not None and found.get("k") == b"0"


def test_c12_an_erasure_that_no_vacuum_follows_is_done(
    opened: Opener, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though there is no server any more by then: it was committed."""
    wp = opened(proxy.port, postgres={"lock_timeout": 300})
    wp.create_workflow("w", "w").unwrap()
    wp.update_context("w", variables={"k": "secret"}).unwrap()
    vacuum = erasing._vacuum

    def vacuum_nothing(context: Context) -> None:
        with context.connections.connection() as connection:
            connection.close()
        proxy.plan(lambda message: "cut before")
        vacuum(context)
        proxy.plan(passing)

    monkeypatch.setattr(erasing, "_vacuum", vacuum_nothing)
    wp.erase("w", "context.variables.k").unwrap()
    assert proxy.cuts
