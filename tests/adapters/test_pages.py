"""Rows of items in pages: batches are whole, items with a key come once, and a long row costs what a short one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.store.support import change, directory_store, failing, system_calls
from tests.synced import synced
from waypost.adapters import pages, seen
from waypost.adapters.pages import Item, Row, commit
from waypost.blocking import Waypost
from waypost.errors import DocumentDamaged, StorePoisoned, StoreUnavailable
from waypost.store import DocumentId, Store, Transaction

ROOT = DocumentId("thread", "test\x1froot")


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is full with three batches, so that few items fill many."""
    monkeypatch.setattr(pages, "MOST_BATCHES", 3)


def row_of(store: Store, name: str = "") -> Row:
    return Row(store, ROOT, name)


def items(*numbers: int, keyed: bool = True) -> list[Item]:
    return [Item(b"%d" % number, f"key {number}" if keyed else None) for number in numbers]


def numbers_in(row: Row, newest: int | None = None) -> list[int] | None:
    found = row.read(newest)
    return None if found is None else [int(each) for each in found]


def page_count(store: Store) -> int:
    return sum(
        len(each.split("\x1f")) == 4 and store.view(DocumentId("thread", each)).size_bytes > 0
        for each in store.documents("thread")
    )


def test_items_come_back_in_order_across_pages(store: Store) -> None:
    """What was appended in batches is read whole, or the newest so many, from however many pages."""
    row = row_of(store)
    assert numbers_in(row) is None and row.info() is None
    for first in range(0, 20, 2):
        row.append(items(first, first + 1))
    assert page_count(store) == 4
    everything = list(range(20))
    assert numbers_in(row) == numbers_in(row_of(store)) == everything
    for newest in range(22):
        assert numbers_in(row, newest) == everything[max(0, 20 - newest) :]
    assert numbers_in(row_of(store, "another")) is None


def test_an_item_with_a_key_is_there_once(store: Store) -> None:
    """Items are known again in their batch, in their page, and in pages that were closed long ago; others are not."""
    row = row_of(store)
    for number in range(10):
        row.append(items(number, number))
    row.append(items(*range(12)))
    assert numbers_in(row) == list(range(12))
    before = store.view(ROOT).version
    row_of(store).append(items(*range(12)))
    assert numbers_in(row) == list(range(12)) and store.view(ROOT).version == before
    row.append(items(3, 3, keyed=False))
    assert numbers_in(row) == [*range(12), 3, 3]


def test_keys_that_only_look_alike_are_told_apart(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """That a filter of a closed page may hold a key is asked of the page itself."""
    digests = iter(range(100))
    known: dict[str, bytes] = {}
    monkeypatch.setattr(
        pages, "digest_of", lambda key: known.setdefault(key, bytes(8) + next(digests).to_bytes(8, "big"))
    )
    row = row_of(store)
    for number in range(8):
        row.append(items(number))
    row.append(items(*range(9)))
    assert numbers_in(row) == list(range(9))


def test_what_a_handle_knows_of_closed_pages_is_forgotten_with_them(store: Store) -> None:
    """A row that another handle cleared and filled again has the items that it was given since."""
    mine, other = row_of(store), row_of(store)
    for number in range(9):
        mine.append(items(number))
    mine.append(items(0))
    commit(store, other.clear, "clear")
    assert numbers_in(mine) is None and mine.pop() is None
    for number in range(20, 29):
        other.append(items(number))
    mine.append(items(0, 20, 25))
    assert numbers_in(mine) == [*range(20, 29), 0]


def test_items_are_taken_away_from_the_end_across_pages(store: Store) -> None:
    """Popping goes back through pages to the first item, and appending goes on behind what is left."""
    row, other = row_of(store), row_of(store)
    for first in range(0, 16, 2):
        row.append(items(first, first + 1, keyed=False))
    for expected in range(15, 4, -1):
        assert other.pop() == b"%d" % expected
    assert numbers_in(row) == list(range(5))
    row.append(items(50, keyed=False))
    assert numbers_in(other) == [*range(5), 50]
    assert [row.pop() for _ in range(7)] == [b"50", b"4", b"3", b"2", b"1", b"0", None]
    assert numbers_in(row) == []
    row.append(items(7, keyed=False))
    assert numbers_in(row) == [7]


@pytest.mark.parametrize("at", [2, 1, 0])
def test_what_is_read_was_there_at_one_moment(store: Store, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Whoever clears a row and fills it again while somebody reads it is seen before or behind both, never between."""
    row, other = row_of(store), row_of(store)
    for number in range(9):
        row.append(items(number))
    page_of, waiting = pages.Row._page, [at]

    def meanwhile(self: Row, number: int) -> object:
        if self is row and waiting == [number]:
            waiting.clear()
            commit(store, other.clear, "clear")
            for each in range(20, 29):
                other.append(items(each))
        return page_of(self, number)

    monkeypatch.setattr(pages.Row, "_page", meanwhile)
    assert numbers_in(row) == list(range(20, 29)) and waiting == []


def test_a_batch_that_comes_in_between_is_not_overtaken(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An append that was planned on an older page is planned again: what came in between counts, also its keys."""
    row, other = row_of(store), row_of(store)
    row.append(items(0))
    plan, waiting = pages.Row._batch, [1]

    def slow(self: Row, *args: object) -> object:
        made = plan(self, *args)  # type: ignore[arg-type]
        if self is row and waiting:
            waiting.clear()
            for each in range(1, 6):
                other.append(items(each))
        return made

    monkeypatch.setattr(pages.Row, "_batch", slow)
    row.append(items(3, 9))
    assert numbers_in(row) == [0, 1, 2, 3, 4, 5, 9]


def test_a_row_that_is_cleared_while_its_keys_are_read_is_begun_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That pages are gone is no damage where the row is gone as well."""
    row = row_of(store)
    for number in range(9):
        row.append(items(number))
    late = row_of(store)
    page_of, waiting = pages.Row._page, [1]

    def meanwhile(self: Row, number: int) -> object:
        if self is late and waiting == [number]:
            waiting.clear()
            commit(store, row.clear, "clear")
        return page_of(self, number)

    monkeypatch.setattr(pages.Row, "_page", meanwhile)
    late.append(items(5, 6))
    assert numbers_in(row) == [5, 6] and waiting == []


def test_an_item_that_is_popped_in_between_does_not_come_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the append was about to turn the page that it was popped from."""
    row, other = row_of(store), row_of(store)
    for number in range(3):
        row.append(items(number, keyed=False))
    plan, waiting = pages.Row._batch, [1]

    def slow(self: Row, *args: object) -> object:
        made = plan(self, *args)  # type: ignore[arg-type]
        if waiting:
            waiting.clear()
            assert other.pop() == b"2"
        return made

    monkeypatch.setattr(pages.Row, "_batch", slow)
    row.append(items(9, keyed=False))
    assert numbers_in(row) == [0, 1, 9]


def test_an_item_that_comes_while_a_page_is_turned_back_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever pops takes the item that came in between, and not one before it."""
    row, other = row_of(store), row_of(store)
    for number in range(4):
        row.append(items(number, keyed=False))
    assert row.pop() == b"3"
    page_of, waiting = pages.Row._page, [0]

    def meanwhile(self: Row, number: int) -> object:
        if self is row and waiting == [number]:
            waiting.clear()
            other.append(items(7, keyed=False))
        return page_of(self, number)

    monkeypatch.setattr(pages.Row, "_page", meanwhile)
    assert row.pop() == b"7" and waiting == []
    assert numbers_in(other) == [0, 1, 2]


@pytest.mark.parametrize("record", [b"\x92\x02\xc4\x01a", b"\x92\xcf\x00\x00\x10\x00\x00\x00\x00\x00\xc4\x01a"])
def test_a_row_that_is_damaged_can_be_cleared_and_begun_anew(store: Store, record: bytes) -> None:
    """Whatever its record says, and whatever is left of its pages."""
    row = row_of(store)
    for number in range(8):
        row.append(items(number))
    store.submit(change(DocumentId("thread", f"{ROOT.id}\x1f\x1f1"), lambda tx: tx.clear())).result()
    store.submit(change(ROOT, lambda tx: tx.put("row\x1f", record))).result()
    commit(store, row.clear, "clear")
    assert numbers_in(row) is None
    for number in (11, 2, 0, 1):
        row_of(store).append(items(number))
    assert numbers_in(row) == [11, 2, 0, 1]


def test_the_keys_of_many_pages_are_in_few_arrays() -> None:
    """Twice as many pages are one array more, so looking a key up costs next to nothing more."""
    levels: list[array[int]] = []
    for number in range(200):
        levels = seen._with(levels, number, sorted(seen.digest_of(f"{number} {each}") for each in range(10)))
    assert len(levels) <= 9 and sum(map(len, levels)) == 2000
    for number in range(200):
        assert list(seen._may_hold(levels, seen.digest_of(f"{number} 7"))) == [number]


def test_a_note_goes_on_from_page_to_page(store: Store) -> None:
    """What the adapter folds of the new items is in their commit, and told without reading them."""
    row = row_of(store)

    def fold(note: bytes | None, places: list[int]) -> bytes:
        return (note or b"") + b"%d" % len(places)

    for number in range(5):
        row.append(items(number, number + 1, number + 10), fold)
    info = row.info()
    assert info is not None and info.note == b"32222"
    assert info.time_us == max(store.view(DocumentId("thread", each)).time_us for each in store.documents("thread"))


def test_writers_of_one_row_lose_nothing(store: Store) -> None:
    """Of those who append at once each has his items there, once, and in his order."""

    def write(writer: int) -> None:
        row = row_of(store)
        for number in range(8):
            row.append(items(100 * writer + number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    found = numbers_in(row_of(store))
    assert found is not None and len(found) == 32
    for writer in range(4):
        assert [each for each in found if each // 100 == writer] == [100 * writer + number for number in range(8)]


def test_a_batch_is_one_write_and_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many items are in the row already."""
    monkeypatch.setattr(pages, "MOST_BATCHES", 1000)
    store = directory_store(tmp_path / "s")
    row = row_of(store)
    row.append(items(0))  # it begins the row, which takes more
    row.append(items(20))
    counts: list[tuple[int, int]] = []
    for first in (1, 4, 7, 10):
        with system_calls() as calls:
            row.append(items(first, first + 1, first + 2))
        counts.append((calls.count("pwrite"), calls.count("fdatasync")))
    assert counts == [(1, 1)] * 4
    store.close()


def test_a_page_holds_a_bounded_amount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is closed when it has as many bytes as it may; a batch is not parted."""
    monkeypatch.setattr(pages, "MOST_BATCHES", 1000)
    monkeypatch.setattr(pages, "MOST_BYTES", 2000)
    store = directory_store(tmp_path / "s")
    row = row_of(store)
    for number in range(30):
        row.append([Item(b"%0300d" % number, str(number))])
    row.append([Item(b"%04000d" % 30)])
    *sizes, largest = sorted(store.view(DocumentId("thread", each)).size_bytes for each in store.documents("thread"))
    assert len(sizes) >= 5 and max(sizes) < 3000 and 4000 < largest < 7000
    assert numbers_in(row) == list(range(31))
    store.close()


@pytest.mark.parametrize("at", range(1, 12))
def test_a_sync_that_fails_loses_nothing_that_was_acknowledged(tmp_path: Path, at: int) -> None:
    """Also where a page is turned: what was acknowledged is there, batches are whole, and the store is sound."""
    store = directory_store(tmp_path / "s")
    row = row_of(store)
    acknowledged = 0
    with system_calls() as calls:
        calls.fault = failing("fdatasync", at, onwards=True)
        try:
            for number in range(12):
                row.append(items(2 * number, 2 * number + 1))
                acknowledged = number + 1
        except (StoreUnavailable, StorePoisoned):
            pass
    store.close()
    store = directory_store(tmp_path / "s")
    found = numbers_in(row_of(store)) or []
    assert found == list(range(len(found))) and len(found) % 2 == 0
    assert 2 * acknowledged <= len(found) <= 2 * acknowledged + 2
    assert store.verify().sound
    row_of(store).append(items(*range(30)))
    assert numbers_in(row_of(store)) == list(range(30))
    store.close()


WRITER = """
import sys
from waypost import config
from waypost.adapters import pages, seen
from waypost.adapters.pages import Item, Row
from waypost.store import DocumentId, open_store
pages.MOST_BATCHES = 3
store = open_store(sys.argv[1], config.load("production", {}, environment={}))
row = Row(store, DocumentId("thread", "test\\x1froot"), "")
for number in range(100_000):
    row.append([Item(b"%d" % (2 * number), str(2 * number)), Item(b"%d" % (2 * number + 1))])
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_a_writer_that_is_killed_leaves_whole_batches(tmp_path: Path) -> None:
    """After SIGKILL each batch that was acknowledged is there, and of the one under way all or nothing."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "s")]
    acknowledged = -1
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            acknowledged = int(line)
            if acknowledged == 40:
                os.kill(writer.pid, signal.SIGKILL)
    store = directory_store(tmp_path / "s")
    found = numbers_in(row_of(store)) or []
    assert found == list(range(len(found))) and len(found) in (2 * acknowledged + 2, 2 * acknowledged + 4)
    assert store.verify().sound
    store.close()


DAMAGES: dict[str, tuple[bool, Callable[[Transaction], None]]] = {
    "a page that is gone": (False, lambda tx: tx.clear()),
    "a batch that is gone": (False, lambda tx: tx.delete("batch\x1f00000000")),
    "a record that is none": (False, lambda tx: tx.put("page", b"\xc1")),
    "a row that is none": (True, lambda tx: tx.put("row\x1f", b"\xff")),
    "a page that does not exist": (True, lambda tx: tx.put("row\x1f", b"\x92\xcd\x03\xe7\xc4\x01a")),
}
"""Of the root, or else of the second page."""


@pytest.mark.parametrize("what", DAMAGES)
def test_what_cannot_be_is_told_as_damage(store: Store, what: str) -> None:
    """Parts that are missing or say nonsense end in an error that names the thread, and in no endless search."""
    row = row_of(store)
    for number in range(5):
        row.append(items(number, keyed=False))
    of_root, work = DAMAGES[what]
    store.submit(change(ROOT if of_root else DocumentId("thread", f"{ROOT.id}\x1f\x1f1"), work)).result()
    with pytest.raises(DocumentDamaged, match=r"thread|row"):
        row_of(store).read()


@pytest.mark.parametrize("filter_", [None, b"short"])
def test_a_closed_page_that_does_not_say_what_it_holds_is_damage(store: Store, filter_: bytes | None) -> None:
    """Told when somebody appends, since an item might be there twice."""
    row = row_of(store)
    for number in range(5):
        row.append(items(number))
    page = DocumentId("thread", f"{ROOT.id}\x1f\x1f0")
    store.submit(
        change(page, lambda tx: tx.delete("filter") if filter_ is None else tx.put("filter", filter_))
    ).result()
    with pytest.raises(DocumentDamaged, match="thread"):
        row_of(store).append(items(9))


def test_an_empty_page_behind_one_that_is_gone_is_damage(store: Store) -> None:
    """Popping does not go on below what is missing, and does not search for ever."""
    row = row_of(store)
    for number in range(4):
        row.append(items(number, keyed=False))
    assert row.pop() == b"3"
    store.submit(change(DocumentId("thread", f"{ROOT.id}\x1f\x1f0"), lambda tx: tx.clear())).result()
    with pytest.raises(DocumentDamaged, match="thread"):
        row.pop()


# --- stores that are synced ---


@pytest.fixture
def others() -> Iterator[tuple[Waypost, Waypost]]:
    """Two stores of which both have a row with one item."""
    with waypost.open("memory:") as one, waypost.open("memory:") as other:
        row_of(one.definitions.store).append(items(0))
        synced(one, other)
        yield one, other


@pytest.mark.parametrize("answer", ["last_writer_wins", "ours", "theirs"])
def test_trap_08_a_page_that_was_appended_to_in_two_stores_is_one_conflict(
    others: tuple[Waypost, Waypost], answer: Any
) -> None:
    """One of the two pages stands, with its batches as they came: none of the other's is among them, and none twice."""
    one, other = others
    here, there = (row_of(wp.definitions.store) for wp in others)
    here.append(items(1))
    there.append(items(11))
    there.append(items(12))
    here.append(items(2))
    (conflict,) = one.sync(other).unwrap().unresolved
    assert (conflict.part, conflict.conflict_type) == ("", "concurrent_write")
    assert (numbers_in(here), numbers_in(there)) == ([0, 1, 2], [0, 11, 12])
    how: Any = {"on_conflict": answer}
    if answer != "last_writer_wins":
        how = {"on_conflict": "user_intervention", "resolve": lambda _: answer}
    synced(one, other, **how)
    expected = [0, 11, 12] if answer == "theirs" else [0, 1, 2]
    for wp in others:
        row = row_of(wp.definitions.store)
        assert numbers_in(row) == expected
        row.append(items(expected[-1], 5))
        assert numbers_in(row) == [*expected, 5]
        assert [row.pop() for _ in range(5)] == [b"5", *(b"%d" % each for each in reversed(expected)), None]


@pytest.mark.parametrize("last", [False, True])
def test_a_page_that_was_closed_in_one_store_and_appended_to_in_another(
    others: tuple[Waypost, Waypost], last: bool
) -> None:
    """Whichever page stands, the row is appended to behind the page that followed, and an item is there once."""
    here, there = (row_of(wp.definitions.store) for wp in others)

    def turn() -> None:
        for number in (1, 2, 3):
            here.append(items(number))

    deeds = [turn, lambda: there.append(items(11))]
    for deed in deeds[::-1] if last else deeds:
        deed()
    synced(*others, on_conflict="last_writer_wins")
    for wp in others:
        row = row_of(wp.definitions.store)
        row.append(items(0, 1, 11, 3))
        assert sorted(numbers_in(row) or []) == ([0, 1, 2, 3, 11] if last else [0, 1, 3, 11])
