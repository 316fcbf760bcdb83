"""How much a handle keeps in memory of what is in the server (X27)."""

from __future__ import annotations

import random
from functools import partial

import pytest

from tests.postgres.conftest import Opener
from tests.store.support import WF, change
from waypost import Waypost
from waypost.store import DocumentId, Transaction
from waypost.store.postgres import PostgresStore
from waypost.store.postgres.context import Context
from waypost.store.postgres.documents import DocumentView

MEGABYTE = 1 << 20


def context_of(wp: Waypost) -> Context:
    store = wp.definitions.store
    assert isinstance(store, PostgresStore)
    return store._context


def known_bytes(context: Context) -> int:
    """The values that are held, counted one by one."""
    views = [view for view, _ in context._known.values()]
    return sum(len(part.value or b"") for view in views for part in view._known.values() if part is not None)


def put_much(tx: Transaction, size: int) -> None:
    tx.put("k", bytes(size))


def test_x27_what_is_known_of_documents_is_bounded_at_all_times(opened: Opener) -> None:
    """After each commit, and after each reading, whatever the documents' number."""
    wp = opened(performance={"max_memory_usage": 1}, compression={"chunk_size": MEGABYTE})
    store, context = wp.definitions.store, context_of(wp)
    documents = [DocumentId("workflow", f"w{number}") for number in range(12)]
    for document in documents:
        store.submit(change(document, partial(put_much, size=60_000))).result()
        assert known_bytes(context) <= MEGABYTE // 2
    assert len(context._known) > 5
    context._known.clear()
    for document in documents:
        view = store.view(document)
        assert view.get("k") == bytes(60_000)
        assert known_bytes(context) <= MEGABYTE // 2
    assert len(context._known) > 5


def test_x27_a_document_that_takes_too_much_alone_is_not_kept(opened: Opener) -> None:
    """And can be read, and changed, all the same."""
    wp = opened(performance={"max_memory_usage": 1}, compression={"chunk_size": MEGABYTE})
    store, context = wp.definitions.store, context_of(wp)
    for size in (700_000, 700_001):
        store.submit(change(WF, partial(put_much, size=size))).result()
        assert known_bytes(context) <= MEGABYTE // 2
        assert store.view(WF).get("k") == bytes(size)


def counted(view: DocumentView) -> int:
    """What a view holds, by the same rule, all at once."""
    known = sum(200 + len(key) + len((part and part.value) or b"") for key, part in view._known.items())
    return known + sum(100 * len(keys) for keys in view._listed.values())


@pytest.mark.parametrize("seed", range(3))
def test_x27_what_is_counted_is_what_is_held(opened: Opener, seed: int) -> None:
    """However parts come and go, are read and listed."""
    wp, other = opened(), opened()
    store, context, dice = wp.definitions.store, context_of(wp), random.Random(seed)

    def work(tx: Transaction) -> None:
        for _ in range(dice.randrange(1, 6)):
            key = f"{dice.choice('ab')}\x1f{dice.randrange(20)}"
            if dice.random() < 0.3:
                tx.delete(key)
            else:
                tx.put(key, bytes(dice.randrange(20_000)))

    for _ in range(40):
        (other.definitions.store if dice.random() < 0.3 else store).submit(change(WF, work)).result()
        view = store.view(WF)
        if dice.random() < 0.5:
            view.get(f"a\x1f{dice.randrange(20)}")
        if dice.random() < 0.3:
            list(view.keys("b"))
        if dice.random() < 0.2:
            context.forget(WF)
        held = [view for view, _ in context._known.values()]
        sizes = sum(size for _, size in context._known.values())
        names = sum(len(key) for view in held for keys in view._listed.values() for key in keys)
        assert context._known_bytes == sizes
        assert abs(sizes - sum(map(counted, held))) <= names + 1000


def test_x27_counts_for_the_trimming_of_history_are_bounded(opened: Opener) -> None:
    """Of documents that were written long ago nothing is counted."""
    context = context_of(opened(performance={"max_memory_usage": 1}))
    for number in range(1000):
        context.committed(DocumentId("workflow", f"w{number}"))
        context.committed(WF)
    assert len(context.written) == 256
    assert context.written[WF] == 1000
