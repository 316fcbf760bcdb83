"""What the tests of the kit share: the store that they are about, how it is opened, and small works."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from waypost import clock
from waypost.blocking import Waypost
from waypost.config import PRESETS
from waypost.definitions import Definitions
from waypost.store import Change, DocumentId, JointChange, Store, Transaction, View

WF = DocumentId("workflow", "wf")
A, B, C = (DocumentId("workflow", name) for name in "abc")
LARGE = bytes(range(256)) * 1200
"""More than what a store may keep in one piece."""

Work = Callable[[Transaction], Any]
Open = Callable[[], Store]
_Test = TypeVar("_Test", bound=Callable[..., None])


def outlives(test: _Test) -> _Test:
    """A test for stores that have the same data when a place is opened again."""
    test.needs_persistence = True  # type: ignore[attr-defined]
    return test


class Kit:
    """What a third party says of its store."""

    persistent = True
    """Whether a place that is opened again, also by another process, has the data that was committed there."""

    @abstractmethod
    def open(self, place: Path) -> Store:
        """Open the store in a place, and make it where there is none. Other processes do the same, with a new object of
        this class, while it is open here: so all that is to be known is in the place.
        """

    def damage(self, place: Path) -> bool:
        """Change a byte of what is stored of the document `wf`, in a place that nobody has open. False if that cannot
        be done.
        """
        del place
        return False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not cls.persistent:
            for name in dir(cls):
                if getattr(getattr(cls, name), "needs_persistence", False):
                    setattr(cls, name, None)  # what is no function is not collected, and nothing is skipped

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        """An empty directory."""
        made = tmp_path / "place"
        made.mkdir()
        return made

    @pytest.fixture
    def opening(self, place: Path) -> Iterator[Open]:
        """Opens handles over the place, which are closed in the end."""
        with ExitStack() as stack:

            def opened() -> Store:
                store = self.open(place)
                stack.callback(store.close)
                return store

            yield opened

    @pytest.fixture
    def store(self, opening: Open) -> Store:
        """A new empty store."""
        return opening()

    @pytest.fixture
    def wp(self, store: Store) -> Waypost:
        """A handle over a new empty store."""
        return handle(store)


def handle(store: Store, **retention: int) -> Waypost:
    """The blocking face over a store, with options of no file; `retention` as in the section of that name."""
    config = PRESETS["production"]
    if retention:
        from waypost import config as configuration

        config = configuration.load("production", {"retention": retention}, environment={})
    return Waypost(Definitions(store, config, verbose=False))


def change(work: Work, document: DocumentId = WF, *, once: str | None = None) -> Change:
    """A change; with `once` of an operation id that may be seen again."""
    return Change(document, work, once or clock.new_id("op"), "test", repeatable=once is not None)


def submit(store: Store, work: Work, document: DocumentId = WF) -> int:
    """Commit what a work does; the version that holds it."""
    return store.submit(change(work, document)).result().version


def put(store: Store, values: dict[str, bytes], document: DocumentId = WF) -> int:
    """Commit parts; the version that holds them."""
    return submit(store, putting(values), document)


def putting(values: dict[str, bytes]) -> Work:
    """A work that puts parts."""

    def work(tx: Transaction) -> None:
        for key, value in values.items():
            tx.put(key, value)

    return work


def delete(store: Store, *keys: str) -> int:
    """Commit that parts go; the version without them."""
    return submit(store, lambda tx: [tx.delete(key) for key in keys])


def joint_change(once: str | None = None) -> JointChange:
    """A change of several documents; with `once` of an operation id that may be seen again."""
    return JointChange(once or clock.new_id("op"), "test", repeatable=once is not None)


def put_in_all(store: Store, value: bytes, *documents: DocumentId) -> bool:
    """Commit a part `x` of that value in all documents; whether that was done."""
    joint = store.begin()
    for document in documents:
        joint.document(document).put("x", value)
    return store.commit(joint, joint_change()) is not None


def contents(view: View | None) -> dict[str, bytes | None]:
    """All parts of a version that must be there."""
    assert view is not None, "this version is kept"
    return {key: view.get(key) for key in view.keys()}


def at(store: Store, version: int, document: DocumentId = WF) -> View:
    """An earlier version that must be there."""
    view = store.view_at(document, version)
    assert view is not None, f"version {version} is kept"
    return view


def sums(view: View) -> tuple[int, bytes, bytes, int]:
    """What names a version and what is in it."""
    return view.version, view.commit_id, view.checksum, view.size_bytes
