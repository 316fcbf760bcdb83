"""What a store keeps in memory is bounded by what it takes there, not by what it takes on disk."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.codec.bodies import Block, Extent, Part
from waypost.records import encode
from waypost.store.directory.blocks import BlockCache, Blocks
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
