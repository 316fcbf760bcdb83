"""Checkpoints that are written out in rounds: what others do between two rounds, while the folder is theirs, counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from tests.store.needed import calm, path
from tests.store.support import WF, TestedStore, change, directory_store
from tests.store.test_checkpoints import files, make, name_of, remove
from waypost.store import JointChange, Transaction
from waypost.store.directory import checkpoints, keeping, log
from waypost.store.erasures import ERASED

__all__ = ["calm", "path"]

pytestmark = pytest.mark.usefixtures("calm")

MANY = 9


@pytest.fixture(autouse=True)
def small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few files are written at a time that a handful of checkpoints takes several rounds."""
    monkeypatch.setattr(keeping, "AT_A_TIME", 2)


def write_out(store: TestedStore, between: Callable[[], object], numbers: range = range(MANY)) -> None:
    """Write checkpoints out, and do something before the third round."""
    names = [name_of(number) for number in numbers]
    wanted = keeping.Wanted(WF, names, set(), store._context.restores)

    def rounds() -> Iterator[list]:
        for number, some in enumerate(store._document(WF)._checkpoints_in_log(names)):
            if number == 2:
                between()
            yield list(some)

    keeping.write_out(store._context, wanted, rounds())


def erase(tx: Transaction) -> None:
    tx.delete("secret")
    tx.put(ERASED + "secret", msgspec.msgpack.encode([tx.time_us, "told"]))


def decide(store: TestedStore) -> None:
    """Decide to erase it together with something else, and die before either log is written."""
    joint = store.begin()
    erase(joint.document(WF))
    joint.document(WF._replace(id="other")).put("a", b"1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log.Log, "put", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.commit(joint, JointChange("op", "test"))


@pytest.mark.parametrize("how", ["written", "decided"])
def test_what_is_erased_meanwhile_is_written_out_no_more(path: Path, how: str) -> None:
    """Also where the decision stands in no log yet."""
    with closing(directory_store(path)) as store, closing(directory_store(path)) as other:
        for number in range(MANY):
            make(store, number, secret=b"secret %d" % number)
        write_out(store, lambda: other.submit(change(WF, erase)).result() if how == "written" else decide(other))
        is_left = [checkpoints.read(store._context, name_of(number)).erased("secret") is None for number in range(MANY)]
        assert is_left == [True] * 4 + [False] * (MANY - 4)


def test_c04_none_is_written_on_one_that_goes_meanwhile(path: Path) -> None:
    """The version to be written still names it, as the one that was written last."""
    with closing(directory_store(path)) as store, closing(directory_store(path)) as other:
        for number in range(MANY):
            make(store, number, a=b"%d" % number)

        def take_away() -> None:
            remove(other, 3)
            other._document(WF).keep_checkpoints(newest_only=True)

        write_out(store, take_away)
        left = [number for number in range(MANY) if number != 3]
        assert {checkpoints.file_name(name_of(each)) for each in left} == files(path)
        assert all(store.checkpoint(WF, name_of(each)).get("a") == b"%d" % each for each in left)
        assert all(checkpoints.verify(store._context, name_of(each)) for each in left)


def test_one_in_the_middle_on_which_others_stand_is_written_as_a_base(path: Path) -> None:
    """However many stand behind it: on another it could make the longest chain too long."""
    with closing(directory_store(path)) as store:
        for number in range(MANY):
            make(store, number, a=b"%d" % number)
        folder = store._context.layout.folder(checkpoints.FOLDER)
        for gone, parent in (1, None), (MANY - 1, name_of(MANY - 2)):
            store._document(WF).keep_checkpoints(newest_only=False)
            folder.remove(checkpoints.file_name(name_of(gone)))
            store._document(WF).keep_checkpoints(newest_only=False)
            layer = checkpoints.read_layer(store._context, folder, name_of(gone))
            assert layer is not None and layer.parent == parent
        assert all(checkpoints.verify(store._context, name_of(number)) for number in range(MANY))
