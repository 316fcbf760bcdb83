"""What is erased on one side while the other deletes, changes or goes back: no resolution brings it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import opened
from tests.files import files_with
from tests.synced import WF, synced, variables, view
from waypost import StoreUnavailable
from waypost.blocking import Waypost
from waypost.records import AGENT, VARIABLE, output_key
from waypost.store import DocumentId

LEAK = VARIABLE + "leak"
SECRET = "a canary that sings"
PLAIN = {"enabled": False}
"""So that it is seen in files."""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Waypost]:
    with opened(tmp_path / "here", compression=PLAIN) as wp:
        wp.create_workflow("wf", "Wf", steps=["a"]).unwrap()
        wp.update_context("wf", variables={"leak": SECRET, "x": 0}).unwrap()
        wp.update_agent_state("wf", "agent", {"name": "Agent"}).unwrap()
        yield wp


@pytest.fixture
def other(tmp_path: Path, here: Waypost) -> Iterator[Waypost]:
    """A store with the same workflow."""
    with opened(tmp_path / "other", compression=PLAIN) as wp:
        synced(here, wp)
        yield wp


def versions_with(wp: Waypost, key: str = LEAK) -> list[int]:
    """The versions of the workflow that still hold what was erased, the versions of its checkpoints among them."""
    store = wp.definitions.store
    kept = [store.view_at(WF, number) for number in range(1, view(wp).version + 1)]
    kept += [store.checkpoint(WF, name) for name in store.checkpoints(WF)]
    return [each.version for each in kept if each is not None and each.size_of(key) and each.erased(key) is None]


def erase(wp: Waypost) -> None:
    wp.erase("wf", "context.variables.leak").unwrap()


def erase_and_delete(wp: Waypost) -> None:
    erase(wp)
    wp.delete_workflow("wf").unwrap()


def change(wp: Waypost) -> None:
    wp.update_context("wf", variables={"x": 1}).unwrap()


def delete(wp: Waypost) -> None:
    change(wp)
    wp.delete_workflow("wf").unwrap()


def put_again(wp: Waypost) -> None:
    wp.update_context("wf", variables={"leak": "another"}).unwrap()


Deed = Callable[[Waypost], None]


def do(here: Waypost, other: Waypost, erasing: Deed, meanwhile: Deed, *, last: bool) -> None:
    """Erase here and do something there, in one order or the other."""
    deeds = [(erasing, here), (meanwhile, other)]
    for deed, wp in deeds[::-1] if last else deeds:
        deed(wp)


def test_what_is_erased_is_in_no_file_of_the_other_side(here: Waypost, other: Waypost, tmp_path: Path) -> None:
    """An erasure takes the value out of the files of a side that has changed something else meanwhile."""
    assert files_with(tmp_path, SECRET)
    erase(here)
    change(other)
    synced(here, other)
    assert files_with(tmp_path, SECRET) == []


@pytest.mark.parametrize("is_there", [False, True])
def test_what_is_still_to_be_erased_does_not_travel(
    here: Waypost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """An erasure that was decided, and failed before it was carried out, is carried out before anything is sent."""
    with opened(tmp_path / "other", compression=PLAIN) as other:
        if is_there:
            synced(here, other)
        put_again(here)

        def fails(_: DocumentId) -> list[str]:
            raise StoreUnavailable("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(here.definitions.store, "erase", fails)
            with pytest.raises(StoreUnavailable):
                here.erase("wf", "context.variables.leak").unwrap()
        assert versions_with(here) != []
        with monkeypatch.context() as patch:
            patch.setattr(other.definitions.store, "erase", lambda _: [])  # it has nothing to erase
            assert here.sync(other).unwrap().is_complete
        assert files_with(tmp_path, "another") == []


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("how", ["last_writer_wins", "rollback"])
@pytest.mark.parametrize(("erasing", "meanwhile"), [(erase, delete), (erase_and_delete, change)])
def test_a_version_that_stands_whole_brings_back_nothing_that_was_erased(
    here: Waypost, other: Waypost, erasing: Deed, meanwhile: Deed, how: Any, last: bool
) -> None:
    """Whichever version stands after a deletion, what the other side erased is in no version of either store."""
    do(here, other, erasing, meanwhile, last=last)
    synced(here, other, on_conflict=how)
    for wp in (here, other):
        assert versions_with(wp) == []


@pytest.mark.parametrize("last", [False, True])
def test_two_deletions_lose_no_erasure(here: Waypost, other: Waypost, last: bool) -> None:
    """Of two deletions either may stand, and what one side erased before is erased on both."""
    do(here, other, erase_and_delete, delete, last=last)
    assert list(synced(here, other).conflicts) == []
    for wp in (here, other):
        assert versions_with(wp) == []


@pytest.mark.parametrize("turned", [False, True])
def test_rollback_brings_back_nothing_that_was_erased(here: Waypost, other: Waypost, turned: bool) -> None:
    """The common version is without what was erased since, whichever store keeps it."""
    erase(here)
    put_again(other)
    one, two = (other, here) if turned else (here, other)
    (conflict,) = one.sync(two).unwrap().unresolved
    assert SECRET not in str(conflict.base.value)
    synced(one, two, on_conflict="rollback")
    for wp in (here, other):
        assert variables(wp) == {"x": 0}
        assert versions_with(wp) == []


def test_what_was_put_meanwhile_may_stand(here: Waypost, other: Waypost) -> None:
    """A value that the erasing side never knew is answered as any conflict."""
    erase(here)
    put_again(other)
    synced(here, other, on_conflict="last_writer_wins")
    for wp in (here, other):
        assert variables(wp) == {"x": 0, "leak": "another"}


def test_an_agent_that_was_erased_and_changed_is_a_conflict(here: Waypost, other: Waypost) -> None:
    """A record of which the common version was erased is compared without it."""
    here.erase("wf", "agents.agent").unwrap()
    other.update_agent_state("wf", "agent", {"name": "Other"}).unwrap()
    report = here.sync(other).unwrap()
    assert ([each.path for each in report.unresolved], list(report.failures)) == (["agents.agent"], [])
    synced(here, other, on_conflict="rollback")
    assert versions_with(other, AGENT + "agent") == []


def test_a_step_that_stands_with_its_outputs_brings_back_none_that_was_erased(here: Waypost, other: Waypost) -> None:
    """Where a step comes from the side that knows nothing of an erasure, the output that was erased stays so."""
    here.add_step_output("wf", "a", SECRET).unwrap()
    synced(here, other)
    here.erase("wf", "outputs.a").unwrap()
    here.update_step_status("wf", "a", "running").unwrap()
    other.update_step_status("wf", "a", "completed", output="another").unwrap()
    synced(here, other, on_conflict="last_writer_wins")
    for wp in (here, other):
        assert versions_with(wp, output_key("a", 1)) == []
        assert wp.get_step_output("wf", "a").output == "another"


@pytest.mark.parametrize("is_erased_first", [True, False])
@pytest.mark.parametrize("on_conflict", ["merge", "last_writer_wins"])
def test_what_the_other_side_has_by_an_import_is_erased(
    tmp_path: Path, on_conflict: Any, *, is_erased_first: bool
) -> None:
    """Also where the import came after it was erased: nobody has put it there as another value."""
    stores = [tmp_path / name for name in ("here", "other")]
    with opened(stores[0], compression=PLAIN) as one, opened(stores[1], compression=PLAIN) as two:
        one.start_session(session_id="s")
        one.create_workflow("wf", "Wf", session_id="s").unwrap()
        synced(one, two)
        one.update_context("wf", variables={"leak": SECRET}).unwrap()
        export = one.export_session("s")
        if is_erased_first:
            erase(one)
        two.import_session(export, on_clash="merge").unwrap()
        if not is_erased_first:
            erase(one)
        assert not synced(one, two, on_conflict=on_conflict).conflicts
        assert [variables(each) for each in (one, two)] == [{}, {}]
        assert [versions_with(each) for each in (one, two)] == [[], []]
    assert [files_with(each, SECRET) for each in stores] == [[], []]


@pytest.mark.parametrize("on_conflict", ["merge", "last_writer_wins"])
def test_what_a_third_store_has_by_an_import_of_the_second_is_erased(tmp_path: Path, on_conflict: Any) -> None:
    """Its commit is known to nobody else, and the value is one that was erased."""
    stores = [tmp_path / name for name in ("one", "two", "three")]
    with (
        opened(stores[0], compression=PLAIN) as one,
        opened(stores[1], compression=PLAIN) as two,
        opened(stores[2], compression=PLAIN) as three,
    ):
        one.start_session(session_id="s")
        one.create_workflow("wf", "Wf", session_id="s").unwrap()
        synced(one, three)
        one.update_context("wf", variables={"leak": SECRET}).unwrap()
        synced(one, two)
        two.update_context("wf", variables={"x": 1}).unwrap()
        three.import_session(two.export_session("s"), on_clash="merge").unwrap()
        erase(one)
        assert not synced(one, three, on_conflict=on_conflict).conflicts
        assert [variables(each) for each in (one, three)] == [{"x": 1}, {"x": 1}]
        assert [versions_with(each) for each in (one, three)] == [[], []]
    assert [files_with(stores[number], SECRET) for number in (0, 2)] == [[], []]
