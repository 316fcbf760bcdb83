"""Values that are taken in ahead of the change that puts them, and read piece by piece."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from waypost.store import Store, Transaction
from waypost.testing.base import WF, A, Kit, Open, at, delete, joint_change, outlives, put, submit

MB = 1 << 20


def noise(size: int) -> bytes:
    """Bytes that no compression makes smaller, the same each time."""
    return random.Random(1).randbytes(size)  # noqa: S311


def cut(data: bytes) -> Callable[[int], Iterator[bytes]]:
    """The value in pieces of whatever size is asked for."""
    return lambda size: (data[begin : begin + size] for begin in range(0, len(data), size))


def joined(store: Store, key: str) -> bytes:
    """A part of the newest version, read piece by piece."""
    pieces = store.view(WF).pieces(key)
    assert pieces is not None
    read = [pieces.read(number) for number in range(len(pieces.starts))]
    assert [sum(map(len, read[:number])) for number in range(len(read))] == list(pieces.starts)
    assert pieces.length == sum(map(len, read))
    return b"".join(read)


class StreamTests(Kit):
    """The promises of `stage`, `pieces` and `scratch`."""

    def test_staged_content_is_a_part_like_any_other(self, store: Store) -> None:
        """A work may read what it put, later works and views see it, and it can be removed and cleared."""
        data = noise(3 * MB)
        made = store.stage(WF, "big", len(data), cut(data))
        assert (made.key, made.length, store.view(WF).version) == ("big", len(data), 0)

        def work(tx: Transaction) -> None:
            tx.put("big", made)
            pieces = tx.pieces("big")
            assert pieces is not None and pieces.length == len(data)
            assert (tx.size_of("big"), tx.get("big") == data, list(tx.keys())) == (len(data), True, ["big"])

        submit(store, work)
        view = store.view(WF)
        assert (view.get("big") == data, view.size_bytes, view.pieces("x")) == (True, 3 + len(data), None)
        assert joined(store, "big") == data
        delete(store, "big")
        assert store.view(WF).checksum == bytes(32) and list(store.view(WF).keys()) == []
        assert at(store, 1).get("big") == data

    def test_a_small_part_is_read_in_pieces_too(self, store: Store) -> None:
        """Whatever was put can be read piece by piece, in however many pieces that is."""
        put(store, {"a": b"1", "empty": b"", "large": noise(MB)})
        assert (joined(store, "a"), joined(store, "empty"), joined(store, "large")) == (b"1", b"", noise(MB))

    def test_what_is_staged_is_seen_by_nobody(self, store: Store) -> None:
        """What is never put makes no document and no version, and is swept without harm."""
        store.stage(WF, "big", MB, cut(noise(MB)))
        assert store.view(WF).version == 0 and list(store.documents("workflow")) == []
        put(store, {"a": b"1"})
        store.sweep()
        assert list(store.view(WF).keys()) == ["a"]

    def test_a_source_that_breaks_off_changes_nothing(self, store: Store) -> None:
        """What its pieces raise is raised, and the same can be staged afterwards."""

        def broken(size: int) -> Iterator[bytes]:
            yield noise(size)
            raise InterruptedError("the source")

        with pytest.raises(InterruptedError, match="the source"):
            store.stage(WF, "big", 3 * MB, broken)
        assert store.view(WF).version == 0
        made = store.stage(WF, "big", MB, cut(noise(MB)))
        submit(store, lambda tx: tx.put("big", made))
        assert joined(store, "big") == noise(MB)

    def test_content_is_for_its_key(self, store: Store) -> None:
        """It cannot be put under another one."""
        made = store.stage(WF, "big", 3, cut(b"abc"))
        with pytest.raises(ValueError, match="cannot be put"):
            submit(store, lambda tx: tx.put("another", made))

    def test_scratch_is_room_to_write_and_read(self, store: Store) -> None:
        """What was written at an offset is read there."""
        scratch = store.scratch()
        scratch.write_all(b"abc", 0)
        scratch.write_all(b"def", 3)
        assert (scratch.read(6, 0), scratch.read(2, 2)) == (b"abcdef", b"cd")

    def test_work_over_several_documents_puts_what_was_staged(self, store: Store) -> None:
        """Staged content is put by a joint commit as by any other."""
        data = noise(2 * MB)
        made = store.stage(WF, "big", len(data), cut(data))
        joint = store.begin()
        joint.document(WF).put("big", made)
        joint.document(A).put("x", b"1")
        assert store.commit(joint, joint_change()) is not None
        assert joined(store, "big") == data

    @outlives
    def test_a_stream_is_there_when_it_is_opened_again(self, opening: Open) -> None:
        """What was staged and put is kept as any part is."""
        store, data = opening(), noise(3 * MB)
        made = store.stage(WF, "big", len(data), cut(data))
        submit(store, lambda tx: tx.put("big", made))
        store.close()
        assert joined(opening(), "big") == data
