"""A server that is put back to an older state, as a backup or a replica without the last commits does: it is noticed
and said, and nothing is shown or appended as if the lost commits were there (E6).
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests import servers
from tests.postgres.conftest import open_at
from tests.servers import Server
from tests.store.support import WF, change
from waypost import Waypost
from waypost.errors import StoreUnavailable
from waypost.store import DocumentId, JointChange, Transaction

SAID = "an older copy of the server has taken its place"


class Copied:
    """A server with a copy of its data, which can take its place."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._data, self._copy = server.directory / "data", server.directory / "copy"

    def copy(self) -> None:
        self.server.stop("fast")
        shutil.rmtree(self._copy, ignore_errors=True)
        subprocess.run(["cp", "-a", self._data, self._copy], check=True)
        self.server.start()

    def put_back(self) -> None:
        self.server.stop()
        shutil.rmtree(self._data)
        subprocess.run(["cp", "-a", self._copy, self._data], check=True)
        self.server.start()

    def open(self) -> Waypost:
        return open_at(self.server, "s")


@pytest.fixture(scope="module")
def copied() -> Iterator[Copied]:
    """A server whose copy holds version 3 of a document: `kept` and `n`, which is 3."""
    made = Copied(Server(servers.carried()))
    with made.open() as wp:
        put(wp, kept=b"1")
        put(wp, n=b"2")
        put(wp, n=b"3")
    made.copy()
    yield made
    made.server.close()


def put(wp: Waypost, **values: bytes) -> int:
    def work(tx: Transaction) -> None:
        for key, value in values.items():
            tx.put(key, value)

    return wp.definitions.store.submit(change(WF, work)).result().version


def parts(wp: Waypost) -> dict[str, bytes | None]:
    view = wp.definitions.store.view(WF)
    return {key: view.get(key) for key in view.keys()}


@pytest.fixture
def behind(copied: Copied) -> Iterator[Waypost]:
    """A handle that has seen versions 4 and 5, `n` and `lost` in them, which the server has no more."""
    copied.put_back()
    wp = copied.open()
    assert put(wp, n=b"4", lost=b"4") == 4
    assert put(wp, n=b"5") == 5
    assert parts(wp) == {"kept": b"1", "n": b"5", "lost": b"4"}
    copied.put_back()
    yield wp
    wp.close()


def test_t15_e6_a_commit_is_not_appended_on_a_version_that_is_lost(
    behind: Waypost, caplog: pytest.LogCaptureFixture
) -> None:
    """A work that saw what is lost runs again over what is there, and that commits were lost is said."""

    def work(tx: Transaction) -> None:
        tx.put("n", (tx.get("n") or b"") + b"+")

    with caplog.at_level(logging.WARNING, "waypost"):
        assert behind.definitions.store.submit(change(WF, work)).result().version == 4
    assert parts(behind) == {"kept": b"1", "n": b"3+"}
    assert SAID in caplog.text


@pytest.mark.parametrize("commits", [1, 2, 3, 70])
def test_t15_e6_a_reader_sees_only_what_the_older_copy_went_on_with(
    behind: Waypost, copied: Copied, commits: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether the older copy is behind what a handle has seen, or beyond it: what is there is seen, and said."""
    with copied.open() as other:
        for number in range(commits):
            put(other, other=b"%d" % number)
    with caplog.at_level(logging.WARNING, "waypost"):
        assert parts(behind) == {"kept": b"1", "n": b"3", "other": b"%d" % (commits - 1)}
    assert SAID in caplog.text
    assert put(behind, n=b"x") == 4 + commits


def test_t15_e6_a_blind_commit_does_not_rest_on_another_line(
    behind: Waypost, copied: Copied, caplog: pytest.LogCaptureFixture
) -> None:
    """Also a work that reads nothing is held against the id of the version that it saw."""
    with copied.open() as other:
        for number in range(4):
            put(other, other=b"%d" % number)
    with caplog.at_level(logging.WARNING, "waypost"):
        assert put(behind, blind=b"1") == 8
    assert SAID in caplog.text
    assert parts(behind) == {"kept": b"1", "n": b"3", "other": b"3", "blind": b"1"}


@pytest.mark.parametrize("commits", [0, 1, 4])
def test_t15_e6_a_view_of_a_lost_version_is_an_error(behind: Waypost, copied: Copied, commits: int) -> None:
    """What a view has not read yet it does not take from a version of the same number."""
    copied.put_back()
    with copied.open() as wp:
        put(wp, n=b"4", lost=b"4")
    with copied.open() as wp:
        view = wp.definitions.store.view(WF)
        copied.put_back()
        with copied.open() as other:
            for number in range(commits):
                put(other, other=b"%d" % number)
        with pytest.raises(StoreUnavailable, match="no longer kept"):
            view.get("n")
        with pytest.raises(StoreUnavailable, match="no longer kept"):
            list(view.keys())


def test_t15_e6_a_document_that_is_lost_is_noticed(copied: Copied, caplog: pytest.LogCaptureFixture) -> None:
    """A document that the older copy does not have, or has made anew, is told of."""
    copied.put_back()
    new = DocumentId("workflow", "new")
    with copied.open() as wp:
        store = wp.definitions.store
        store.submit(change(new, lambda tx: tx.put("n", b"1"))).result()
        copied.put_back()
        with caplog.at_level(logging.WARNING, "waypost"):
            assert store.view(new).version == 0
        assert SAID in caplog.text
        assert store.submit(change(new, lambda tx: tx.put("n", b"2"))).result().version == 1


def test_t15_e6_a_transaction_over_a_lost_version_runs_again(copied: Copied) -> None:
    """A commit over several documents rests on no version that is lost, also one that only read."""
    copied.put_back()
    with copied.open() as wp:
        put(wp, n=b"4")
        joint = wp.definitions.store.begin()
        assert joint.document(WF).get("n") == b"4"
        copied.put_back()
        with copied.open() as other:
            put(other, n=b"other")
        assert wp.definitions.store.commit(joint, JointChange("op", "test")) is None
        joint.document(WF).put("m", b"1")
        assert wp.definitions.store.commit(joint, JointChange("op", "test")) is None


def test_e6_a_handle_that_works_with_several_threads_tells_of_no_older_copy(
    copied: Copied, caplog: pytest.LogCaptureFixture
) -> None:
    """A look that was overtaken by a commit of the same handle is no sign of an older copy."""
    copied.put_back()
    with copied.open() as wp:
        context = wp.definitions.store._context  # pyright: ignore
        put(wp, n=b"4")
        original: Callable[..., object] = context._head

        def overtaken(*arguments: object) -> object:
            head = original(*arguments)
            context._head = original
            put(wp, n=b"5")
            return head

        context._head = overtaken
        with caplog.at_level(logging.WARNING, "waypost"):
            wp.definitions.store.view(WF)
    assert SAID not in caplog.text
