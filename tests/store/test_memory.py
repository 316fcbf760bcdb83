"""What a store keeps in memory is bounded by what it takes there, not by what it takes on disk."""

from __future__ import annotations

import gc
import tracemalloc
from collections import OrderedDict
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.codec.bodies import Block, Extent, Part
from waypost.records import encode
from waypost.store.directory.blocks import BlockCache, Blocks, Held
from waypost.store.directory.files import File
from waypost.store.directory.standing import in_order

LIMIT = 2 << 20


class _Made(Blocks):
    """Blocks of no file: each holds a hundred parts."""

    def __init__(self, cache: BlockCache, part: Part) -> None:
        super().__init__(File(-1, "none"), 1, cache, verify=False)
        self._part = part

    def data(self, block: Block) -> bytes:
        return encode({f"output\x1fstep-{block.offset + number}\x1f00000001": self._part for number in range(100)})


@pytest.mark.parametrize(
    "part",
    [
        b"x",
        bytes(1000),
        Extent(1 << 17, bytes(32), [Block(65_000, 65_536, 1, 1 << 31, 1 << 30)] * 2),
        Extent(1 << 20, bytes(32), [Block(65_000, 65_536, 1, 1 << 31, 1 << 30)] * 16),
    ],
)
def test_x27_the_cache_of_blocks_holds_no_more_than_it_may(part: Part) -> None:
    """However small parts are on disk, and however many blocks they have, decoded they stay within the bound."""
    cache = BlockCache(LIMIT)
    blocks = _Made(cache, part)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(300):
        blocks.entries(Block(1, 1, 0, 0, number * 1000))
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert LIMIT / 4 < taken < LIMIT * 1.2


def test_x27_what_the_cache_drops_nobody_holds_who_remembers_where_it_was() -> None:
    """A block that is used stays while others come and go; of one that went only that is left."""
    blocks = _Made(BlockCache(LIMIT), bytes(1000))
    _, used = blocks.entries(Block(1, 1, 0, 0, 0))
    _, idle = blocks.entries(Block(1, 1, 0, 0, 1000))
    for number in range(2, 300):
        blocks.entries(Block(1, 1, 0, 0, number * 1000))
        used.used = True
    assert used.entries is not None
    assert idle.entries is None
    assert blocks.entries(Block(1, 1, 0, 0, 0))[1] is used


class _Failing(OrderedDict[tuple[int, int, int], Held]):
    """Takes in one more item, and has no memory for another."""

    left = 1

    def __setitem__(self, key: tuple[int, int, int], held: Held) -> None:
        self.left -= 1
        if self.left < 0:
            raise MemoryError
        super().__setitem__(key, held)


def test_x27_the_cache_counts_what_it_holds_where_memory_runs_out() -> None:
    """What was used since its turn last came stays, and is counted, though there is memory for the new one alone."""
    cache = BlockCache(100)
    for number in range(5):
        cache.put((1, number, 0), {}, 20)
        cache.get((1, number, 0))
    failing = _Failing()
    for key, held in cache._held.items():
        OrderedDict.__setitem__(failing, key, held)
    cache._held = failing
    with suppress(MemoryError):
        cache.put((1, 9, 0), {}, 20)
    assert cache.bytes == sum(held.size for held in cache._held.values()) == 100
    with pytest.raises(MemoryError):
        cache.put((1, 10, 0), {}, 20)
    assert cache.bytes == sum(held.size for held in cache._held.values()) == 100


def test_what_is_cleared_is_gone_for_whoever_remembers_it() -> None:
    """Room that the cache gives back is free."""
    cache = BlockCache(LIMIT)
    _, held = _Made(cache, b"x").entries(Block(1, 1, 0, 0, 0))
    cache.clear()
    assert (held.entries, cache.bytes) == (None, 0)


@given(st.sets(st.text(max_size=3)), st.sets(st.text(max_size=3)))
def test_keys_of_two_are_laid_in_one_order(many: set[str], few: set[str]) -> None:
    """What stands in a snapshot and what was committed since come as if they had been sorted together."""
    assert list(in_order(sorted(many - few), sorted(few))) == sorted(many | few)
