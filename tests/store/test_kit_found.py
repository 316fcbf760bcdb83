"""Stores that break a promise, and the tests of the kit that find it."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import pytest

from waypost.errors import WaypostError
from waypost.store import Change, Commit, DocumentId, Store, View
from waypost.store.memory import MemoryStore
from waypost.store.staging import StagedTransaction
from waypost.testing import StoreConformance
from waypost.testing.base import Kit, handle
from waypost.testing.receiving import _FORGED

FAILURES = (AssertionError, pytest.fail.Exception, WaypostError)


class Seen:
    """A version of which some is told otherwise."""

    def __init__(self, view: View, **otherwise: Any) -> None:
        self._view = view
        vars(self).update(otherwise)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)


class ForgetsOperations(MemoryStore):
    """Runs again what was done."""

    def submit(self, change: Change, on_done: Any = None) -> Any:
        return super().submit(Change(change.document, change.work, change.operation_id, change.operation), on_done)


class ShowsTheNewest(MemoryStore):
    """Gives the newest version for any."""

    def view_at(self, document: DocumentId, version: int) -> View | None:
        return self.view(document)

    def checkpoint(self, document: DocumentId, name: str) -> View | None:
        return self.view(document)


class ShowsWhatComesLater(MemoryStore):
    """A view of it is no version but the document."""

    def view(self, document: DocumentId, **options: Any) -> View:
        seen = super().view(document, **options)
        return Seen(seen, get=lambda key: MemoryStore.view(self, document).get(key))  # type: ignore[return-value]


class CommitsWhatFailed(MemoryStore):
    """Keeps what a work staged before it raised."""

    def submit(self, change: Change, on_done: Any = None) -> Any:
        error: list[WaypostError] = []

        def work(tx: Any) -> object:
            try:
                return change.work(tx)
            except WaypostError as raised:
                error.append(raised)
                return None

        ticket = super().submit(Change(change.document, work, change.operation_id, change.operation), on_done)
        if error:
            ticket._outcome = error[0]
        return ticket


class ListsInAnyOrder(MemoryStore):
    """Gives keys the wrong way round."""

    def view(self, document: DocumentId, **options: Any) -> View:
        seen = super().view(document, **options)
        return Seen(seen, keys=lambda prefix="": reversed(list(seen.keys(prefix))))  # type: ignore[return-value]


class SeesNoConflict(MemoryStore):
    """Commits whatever was read."""

    def commit(self, joint: Any, change: Any, received: Any = None) -> Any:
        for each in joint.opened.values():
            each.read.clear()
            each.read_prefixes.clear()
        return super().commit(joint, change, received)


class CommitsHalf(MemoryStore):
    """Of several documents it writes one."""

    def commit(self, joint: Any, change: Any, received: Any = None) -> Any:
        for each in list(joint.opened.values())[1:]:
            each.staged.puts.clear()
        return super().commit(joint, change, received)


class LosesUpdates(MemoryStore):
    """Runs a work over a version that may have passed by the time it is committed."""

    def submit(self, change: Change, on_done: Any = None) -> Any:
        transaction = StagedTransaction(self.view(change.document))
        data = change.work(transaction)
        time.sleep(0.001)

        def late(tx: Any) -> object:
            for key, value in transaction.staged.puts.items():
                tx.put(key, value)
            return data

        return super().submit(Change(change.document, late, change.operation_id, change.operation), on_done)


class TellsTwice(MemoryStore):
    """Calls back once too often."""

    def submit(self, change: Change, on_done: Any = None) -> Any:
        ticket = super().submit(change, on_done)
        if on_done is not None:
            on_done([ticket])
        return ticket


class TellsItOtherwise(MemoryStore):
    """Forgets who committed."""

    def past(self, document: DocumentId) -> Any:
        past = super().past(document)
        real = past.commits

        def commits(*given: Any, **named: Any) -> Iterator[Commit]:
            return (each._replace(session=None) for each in real(*given, **named))

        return Seen(past, commits=commits)  # type: ignore[arg-type]


class Believes(MemoryStore):
    """Takes in a past as it is told."""

    def receive(self) -> Any:
        received = super().receive()

        def take(document: DocumentId, past: Any, change: Any) -> Any:
            past = getattr(past, "_past", past)
            return type(received).take(received, document, past, change)

        return Seen(received, take=take, taken=received.taken)  # type: ignore[arg-type]


class ShowsWhatIsToArrive(MemoryStore):
    """Has a document before it has arrived."""

    def receive(self) -> Any:
        received = super().receive()

        def take(document: DocumentId, past: Any, change: Any) -> Any:
            newest = type(received).take(received, document, past, change)
            self._history[document], self._dropped[document] = received.taken[document]
            return newest

        return Seen(received, take=take)  # type: ignore[arg-type]


class ErasesNothing(MemoryStore):
    """Says that it is gone."""

    def erase(self, document: DocumentId) -> list[str]:
        return []


class ErasesTooMuch(MemoryStore):
    """Takes a part out whose key begins alike."""

    def erase(self, document: DocumentId) -> list[str]:
        gone = super().erase(document)
        for version in self._history.get(document, []):
            version.parts.pop("secret2", None)
        return gone


class LetsAnybodyHold(MemoryStore):
    """Gives a claim to whoever asks."""

    def claim(self, document: DocumentId, **options: Any) -> Any:
        return super().claim(document, by_force=True)


class LetsGoOfOthers(MemoryStore):
    """Whoever lets go frees the document, also when it is another's by then."""

    def claim(self, document: DocumentId, **options: Any) -> Any:
        claim = super().claim(document, **options)
        return claim and Seen(claim, release=lambda: self._claims.pop(document, None))  # type: ignore[arg-type]


class HearsNothing(MemoryStore):
    """A listener that is never told."""

    def listen(self, document: DocumentId | None = None) -> Any:
        return Seen(super().listen(document), wait=lambda timeout_s: False)  # type: ignore[arg-type]


class HearsTooMuch(MemoryStore):
    """A listener that is told all the time."""

    def listen(self, document: DocumentId | None = None) -> Any:
        calls = iter(range(3))
        return Seen(super().listen(document), wait=lambda timeout_s: timeout_s == 0 or next(calls, None) is not None)  # type: ignore[arg-type]


class StaysOpen(MemoryStore):
    """Works on when it is closed."""

    def close(self) -> None:
        pass


class KeepsNothingTakenIn(MemoryStore):
    """Adopts nothing."""

    def take_in(self, version: View, name: str) -> Any:
        return lambda: None


class MakesNoDifference(MemoryStore):
    """Says that two versions are alike."""

    def view_at(self, document: DocumentId, version: int) -> Any:
        seen = super().view_at(document, version)
        return None if seen is None else Seen(seen, differing=lambda other: set())


class ForgetsCheckpoints(MemoryStore):
    """Loses one to whoever looks after the medium."""

    def reclaim(self, document: DocumentId) -> None:
        newest = self._history[document][-1] = copy(self._history[document][-1])
        newest.parts = {key: value for key, value in newest.parts.items() if not key.startswith("checkpoint")}


class TruncatesStreams(MemoryStore):
    """Takes in the first piece."""

    def stage(self, document: DocumentId, key: str, length: int, pieces: Any) -> Any:
        held = super().stage(document, key, length, pieces)
        held._value = held._value[: 1 << 20] + bytes(max(0, length - (1 << 20)))
        return held


class FollowsAnything(MemoryStore):
    """Appends what others committed behind whatever is there."""

    def follow(self, document: DocumentId, head: bytes, commits: Any, checks: Any = ()) -> int:
        return super().follow(document, self.view(document).commit_id, commits, checks)


class HasNoPast(MemoryStore):
    """Has no past."""

    def past(self, document: DocumentId) -> Any:
        return super().past(DocumentId("workflow", "nobody"))


FOUND: list[tuple[type[MemoryStore], str]] = [
    (ForgetsOperations, "test_an_operation_id_acts_once"),
    (ForgetsOperations, "test_a_repeated_operation_has_its_first_result"),
    (ShowsTheNewest, "test_an_earlier_version_can_be_seen"),
    (ShowsTheNewest, "test_a_checkpoint_is_the_version_whose_commit_put_it"),
    (ShowsTheNewest, "test_t10_random_changes_leave_what_they_leave_in_the_oracle"),
    (ShowsTheNewest, "test_restoring_goes_back_and_forgets_nothing"),
    (ShowsTheNewest, "test_prune_x_fork_what_retention_takes_is_in_no_fork_s_way"),
    (ShowsWhatComesLater, "test_a_view_never_changes"),
    (CommitsWhatFailed, "test_a_work_that_raises_changes_nothing"),
    (ListsInAnyOrder, "test_keys_are_texts_in_the_order_of_code_points"),
    (SeesNoConflict, "test_what_was_read_and_changed_since_is_a_conflict"),
    (SeesNoConflict, "test_a_listing_that_changed_since_is_a_conflict"),
    (SeesNoConflict, "test_write_skew_is_a_conflict"),
    (SeesNoConflict, "test_it_arrives_with_what_is_staged_elsewhere_or_not_at_all"),
    (CommitsHalf, "test_a_commit_over_several_documents_makes_a_version_of_each"),
    (CommitsHalf, "test_a_transaction_is_done_in_all_workflows_or_in_none"),
    (LosesUpdates, "test_c11_threads_lose_no_update"),
    (TellsTwice, "test_on_done_is_called_once"),
    (TellsItOtherwise, "test_a_commit_says_who_did_what_and_to_which_parts"),
    (Believes, "test_a_past_that_is_not_what_its_ids_and_sums_say_is_refused"),
    (ShowsWhatIsToArrive, "test_what_was_taken_in_is_not_seen_before_it_arrives"),
    (FollowsAnything, "test_nothing_follows_another_commit"),
    (HasNoPast, "test_commits_come_newest_first_and_from_below_a_version"),
    (ErasesNothing, "test_an_erased_part_is_refused_in_every_version"),
    (ErasesNothing, "test_checkpoints_lose_it_too"),
    (ErasesTooMuch, "test_a_key_that_begins_like_an_erased_one_is_another"),
    (LetsAnybodyHold, "test_s07_a_claim_is_one_s_alone"),
    (LetsAnybodyHold, "test_s07_of_many_threads_one_gets_the_claim"),
    (LetsGoOfOthers, "test_s02_a_claim_by_force_takes_it_from_who_holds_it"),
    (HearsNothing, "test_a_listener_tells_of_a_commit_since_it_was_made"),
    (HearsTooMuch, "test_a_listener_says_nothing_of_a_store_at_rest"),
    (StaysOpen, "test_a_closed_store_says_so"),
    (KeepsNothingTakenIn, "test_what_is_taken_in_is_seen_once_it_is_adopted"),
    (MakesNoDifference, "test_differing_names_every_part_that_differs"),
    (ForgetsCheckpoints, "test_looking_after_the_medium_takes_no_checkpoint_away"),
    (TruncatesStreams, "test_staged_content_is_a_part_like_any_other"),
    (TruncatesStreams, "test_a_stream_comes_back_as_it_went_in"),
]


def run(test: str, kit: Kit, place: Path) -> None:
    """One test of the kit, given what it asks for."""
    store = kit.open(place)
    given: dict[str, Any] = {
        "store": store,
        "opening": lambda: kit.open(place),
        "place": place,
        "seed": 1,
        "wp": handle(store),
        "forged": _FORGED[0],
    }
    function: Callable[..., None] = getattr(kit, test)
    function(**{name: given[name] for name in inspect.signature(function).parameters})


def kit_of(store: type[MemoryStore]) -> Kit:
    class Planted(StoreConformance):
        def open(self, place: Path) -> Store:
            return store()

    return Planted()


@pytest.mark.parametrize(("store", "test"), FOUND, ids=[f"{each.__name__}-{test}" for each, test in FOUND])
def test_a_broken_promise_is_found(store: type[MemoryStore], test: str, tmp_path: Path) -> None:
    """The test of the kit passes for a store that keeps its promises, and fails for the one that does not."""
    run(test, kit_of(MemoryStore), tmp_path)
    with pytest.raises(FAILURES):
        run(test, kit_of(store), tmp_path)


# --- stores that seem to keep what they were given ---

_PLACES: dict[Path, MemoryStore] = {}


class InThisProcess(StoreConformance):
    """Its places are there for this process alone, and closing one takes nothing away."""

    def open(self, place: Path) -> Store:
        store = _PLACES.setdefault(place, MemoryStore())
        store._closed = False
        return store

    def damage(self, place: Path) -> bool:
        for version in _PLACES[place]._history[DocumentId("workflow", "wf")]:
            if version.parts.get("n") == b"3":
                version.parts["n"] = b"8"
        return True


class ForgetsAll(StoreConformance):
    """A place is empty whenever it is opened."""

    def open(self, place: Path) -> Store:
        return MemoryStore()


@pytest.mark.parametrize(
    ("kit", "test"),
    [
        (InThisProcess, "test_c11_two_processes_lose_no_update"),
        (InThisProcess, "test_d01_what_was_acknowledged_outlives_kill_9"),
        (InThisProcess, "test_s02_a_claim_ends_with_its_process"),
        (InThisProcess, "test_d07_a_changed_byte_is_told_and_never_read_as_if_it_were_right"),
        (ForgetsAll, "test_what_was_committed_is_there_when_it_is_opened_again"),
        (ForgetsAll, "test_c06_what_one_handle_commits_the_other_sees"),
        (ForgetsAll, "test_an_operation_id_acts_once_for_all_handles"),
        (ForgetsAll, "test_checkpoints_are_there_when_it_is_opened_again"),
        (ForgetsAll, "test_a_workflow_is_there_when_it_is_opened_again"),
        (ForgetsAll, "test_t10_random_changes_outlive_closing_in_the_oracle_s_way"),
        (ForgetsAll, "test_closing_lets_go_of_everything"),
    ],
)
def test_a_store_that_does_not_keep_what_it_says_is_found(kit: type[Kit], test: str, tmp_path: Path) -> None:
    """What is only in memory is found out by other processes, by opening it again, and by a byte that changes."""
    with pytest.raises(FAILURES):
        run(test, kit(), tmp_path)
    assert getattr(getattr(kit, test), "needs_persistence", False)


def test_no_test_of_the_kit_hides_another() -> None:
    """Each name is of one test alone, so that none is lost where the parts of the kit come together."""
    names = [name for each in StoreConformance.__mro__ for name in vars(each) if name.startswith("test_")]
    assert len(names) == len(set(names)) > 100
    assert all(getattr(StoreConformance, name).__doc__ for name in names)


def test_a_store_that_is_not_persistent_has_no_test_of_it() -> None:
    """They are not collected, rather than skipped; the others are."""

    class Volatile(StoreConformance):
        persistent = False

        def open(self, place: Path) -> Store:
            return MemoryStore()

    kept = {name for name in dir(Volatile) if name.startswith("test_") and getattr(Volatile, name) is not None}
    whole = {name for name in dir(StoreConformance) if name.startswith("test_")}
    assert whole - kept == {
        name for name in whole if getattr(getattr(StoreConformance, name), "needs_persistence", False)
    }
    assert len(whole - kept) > 15
