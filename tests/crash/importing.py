"""Imports of sessions for the sweeps: a store with something of its own, and a file that brings more.

Of what comes in one workflow is new, one has a checkpoint that its history does not reach back to, and one is here
already and went on in both places, so that it is merged.
"""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import pytest

from tests.crash.runs import LARGE, NOW_US, Run, handle, open_store
from waypost import clock
from waypost.blocking import Waypost
from waypost.store import DocumentId, Store
from waypost.store.kinds import KINDS
from waypost.store.memory import MemoryStore

OPTIONS = "chunked"
LATE = "late"
BUNDLE = "session.waypost"
Held = dict[DocumentId, dict[str, bytes | None]]


# --- over a whole store ---


def to_be_imported(place: Path) -> None:
    store = open_store(place / "store", OPTIONS)
    wp = handle(store, OPTIONS)
    wp.start_session(session_id="s")
    wp.create_workflow("shared", "Shared", steps=["a", "b"]).unwrap()
    wp.create_checkpoint("shared").unwrap()
    store.close()
    shutil.copytree(place / "store", place / "source")
    source = open_store(place / "source", OPTIONS)
    there = handle(source, OPTIONS)
    there.resume_session("s", take_over=True)
    there.create_workflow("new", "New", steps=["a"]).unwrap()
    there.add_step_output("new", "a", LARGE).unwrap()
    there.create_checkpoint("new").unwrap()
    there.update_context("shared", variables={"theirs": LARGE}).unwrap()
    there.create_checkpoint("shared").unwrap()
    there.export_session("s", place / BUNDLE, include_history=True)
    source.close()
    shutil.rmtree(place / "source")
    store = open_store(place / "store", OPTIONS)
    wp = handle(store, OPTIONS)
    wp.update_context("shared", variables={"ours": 1}).unwrap()
    wp.create_workflow("alone", "Alone").unwrap()
    store.close()
    shutil.copytree(place / "store", place / "after")
    store = open_store(place / "after", OPTIONS)
    assert bring_in(handle(store, OPTIONS), place) == "done"
    store.close()


def bring_in(wp: Waypost, place: Path) -> str:
    """Import a session under another id; what is here already is merged."""
    result = wp.import_session(place / BUNDLE, "t", on_clash="merge")
    if result:
        return "done"
    from tests.crash.sweeps import FOR_STORES  # which look at workloads, of which one is here

    assert type(result.error).__name__ in FOR_STORES, repr(result.error)
    return result.status


def held_in(path: Path) -> Held:
    """The parts of all documents of a store, which is sound, and of all their checkpoints; but for what came late."""
    store = open_store(path, OPTIONS, read_only=True)
    try:
        damage = [found for found in store.verify().findings if found.severity in ("damage", "torn tail")]
        assert not damage, damage
        return _held(store)
    finally:
        store.close()


def _held(store: Store) -> Held:
    found: Held = {}
    for kind in KINDS:
        for name in store.documents(kind):
            document = DocumentId(kind, name)
            if name == LATE or not store.view(document).version:  # of one that was begun there may be an empty file
                continue
            for each in (None, *store.checkpoints(document)):
                view = store.view(document) if each is None else store.checkpoint(document, each)
                assert view is not None, each
                found[DocumentId(kind, f"{name} {each or ''}")] = {key: view.get(key) for key in view.keys()}
    return found


def is_imported(place: Path, before: Path) -> bool:
    """All documents are there, or none is changed; also while a decision is still to be carried out."""
    found = held_in(place / "store")
    open_store(place / "store", OPTIONS).close()
    assert held_in(place / "store") == found, "opening it for writing shows something else"
    was, comes = held_in(before / "store"), held_in(before / "after")
    if found == comes:
        return True
    assert found == was, (
        f"neither what was there, but for {_unlike(found, was)}, nor what was to come, but for {_unlike(found, comes)}"
    )
    return False


def _unlike(found: Held, expected: Held) -> list[str]:
    """What two stores hold differently: documents, with the parts if both have them."""
    unlike: list[str] = []
    for document in {*found, *expected}:
        one, other = found.get(document), expected.get(document)
        if one is None or other is None:
            unlike.append(f"{document.id!r} ({'missing' if one is None else 'there'})")
        else:
            unlike += [f"{document.id!r}: {key!r}" for key in {*one, *other} if one.get(key) != other.get(key)]
    return unlike


# --- as a workload ---


@cache
def travelling() -> bytes:
    """A session that another store has exported: one workflow with a large value, and a checkpoint."""
    wp = handle(MemoryStore(), OPTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now_us", lambda: NOW_US - 5_000_000)
        wp.start_session(session_id="s")
        wp.create_workflow("came", "From elsewhere", steps=["a", "b"]).unwrap()
        wp.add_step_output("came", "a", LARGE[::-1]).unwrap()
        wp.create_checkpoint("came", "made elsewhere").unwrap()
        wp.create_workflow("Came Too", "From elsewhere").unwrap()
        data = wp.export_session("s")
    assert isinstance(data, bytes)
    return data


def import_session(run: Run) -> None:
    """Twice, once with another write to what came in between."""
    run.write("import_session", travelling(), "t")
    run.write("update_context", "came", variables={"n": "after"})
    run.write("import_session", travelling(), "t")
    run.write("update_context", "wf", variables={"n": "after"})
