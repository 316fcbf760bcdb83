"""T11 over sessions: whatever the order of their system calls, a session has one owner, and nobody writes after him.

Two processes of their own, each a thread with a handle, are stepped one system call at a time. What each wrote, and
under which number, is looked up in the history of the workflows: a write stands where the number was its own. A failing
schedule prints its name: repeat it with WAYPOST_SCHEDULE set to that.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crash.machine import SCRATCH
from tests.crash.runs import handle, open_store
from tests.crash.scheduling import Choose, Scheduler, stepping
from tests.crash.session_acts import DEAD, HERE, check_sessions
from tests.crash.test_schedules import ONLY, SEED, at_random, one_after_the_other
from tests.totals import Totals, ring_size
from waypost import clock, session_records
from waypost.blocking import Waypost
from waypost.errors import SessionBusy, SessionEnded, SessionFenced, SessionPaused
from waypost.store import DocumentId, Store
from waypost.store.directory import claims
from waypost.store.directory.upkeep import Upkeep

S = session_records.document_of("s")
WORKFLOWS = [DocumentId("workflow", name) for name in ("w", "x", "new")]
REFUSALS = (SessionBusy, SessionEnded, SessionFenced, SessionPaused)

Program = list[str]


class Race(NamedTuple):
    """What two processes do. `owner` is the first of them, or one that is dead by then."""

    programs: tuple[Program, Program]
    is_dead: bool
    check: Callable[[Waypost, list[Actor]], None]


def _closed_to_old_numbers(store: Store) -> None:
    """No write under an earlier number can come any more, to no workflow that was ever announced."""
    number = session_records.expect(store.view(S)).number
    for document in WORKFLOWS:
        view = store.view(document)
        assert not view.version or session_records.number_in(view, "s") == number, document


def _one_has_it(wp: Waypost, actors: list[Actor]) -> None:
    """Of those who resumed a dead session one has it, and the other was told who."""
    assert sorted(actor.outcomes["resume"] for actor in actors) == ["SessionBusy", "active"]
    assert session_records.expect(wp.definitions.store.view(S)).status == "active"


def _recovered_once(wp: Waypost, actors: list[Actor]) -> None:
    """Those who recover at once come to the same end, under one number."""
    store = wp.definitions.store
    record, recovered = session_records.expect(store.view(S)), session_records.recovery(store.view(S))
    assert record.status == "crashed" and record.number == 2
    assert recovered is not None and recovered.found is not None and recovered.number == 2
    assert all(session_records.number_in(store.view(each), "s") == 2 for each in WORKFLOWS[:2])
    assert {actor.outcomes["recover"] for actor in actors} == {"s"}


def _taken_over(wp: Waypost, actors: list[Actor]) -> None:
    """The one who took it over writes on, and the other does not, from then on."""
    old, new = actors
    assert new.outcomes["take"] == "active" and new.outcomes["write w"] == "done"
    assert all(not each.is_done for each in old.writes if each.began > new.times["take"])
    _closed_to_old_numbers(wp.definitions.store)


def _ended(wp: Waypost, actors: list[Actor]) -> None:
    """Nothing is written in the name of a session that has ended, by whoever worked for it."""
    owner, worker = actors
    assert owner.outcomes["end"] == "done"
    assert session_records.expect(wp.definitions.store.view(S)).status == "completed"
    assert all(not each.is_done for each in worker.writes if each.began > owner.times["end"])
    _closed_to_old_numbers(wp.definitions.store)


def _by_force(wp: Waypost, actors: list[Actor]) -> None:
    """Who takes it by force has it, and nobody takes it from him who does not."""
    assert actors[1].outcomes["take"] == "active" and actors[1].outcomes["write w"] == "done"
    owner = session_records.expect(wp.definitions.store.view(S)).owner
    assert owner is not None and owner.pid == actors[1].identity.pid


RACES = {
    "two claimants": Race((["resume", "write w"], ["resume", "write w"]), True, _one_has_it),
    "claim beside takeover": Race((["resume", "write w"], ["take", "write w"]), True, _by_force),
    "claim beside recovery": Race((["resume", "write w"], ["recover"]), True, lambda wp, actors: None),
    "recovery beside recovery": Race((["recover"], ["recover"]), True, _recovered_once),
    "takeover beside writes": Race((["write w", "make new", "write x"], ["take", "write w"]), False, _taken_over),
    "end beside a worker": Race((["end"], ["write w", "make new", "write x"]), False, _ended),
}


class Wrote(NamedTuple):
    workflow: DocumentId
    operation_id: str
    number: int | None
    began: int
    is_done: bool


class Actor:
    """A process with a handle."""

    def __init__(self, name: str, path: Path, scheduler: Scheduler, pid: int) -> None:
        self.name, self.scheduler = name, scheduler
        self.identity = HERE._replace(pid=pid, start=5)
        self.wp = handle(open_store(path, "chunked"), "chunked")
        self.outcomes: dict[str, str] = {}
        self.times: dict[str, int] = {}
        self.writes: list[Wrote] = []

    def run(self, program: Program, identities: dict[int, clock.ProcessIdentity]) -> Callable[[], None]:
        def act() -> None:
            identities[threading.get_ident()] = self.identity
            for each in program:
                verb, _, workflow = each.partition(" ")
                try:
                    self.outcomes[each] = self.do(verb, workflow)
                except REFUSALS as error:
                    self.outcomes[each] = type(error).__name__
                self.times[each] = self.scheduler.tick()

        return act

    def do(self, verb: str, workflow: str) -> str:
        if verb in ("resume", "take"):
            return self.wp.resume_session("s", take_over=verb == "take").status
        if verb == "recover":
            return " ".join(each.session_id for each in self.wp.detect_and_recover_crashed_sessions())
        if verb == "end":
            self.wp.end_session("s", False).unwrap()
            return "done"
        return self.write(verb, workflow)

    def write(self, verb: str, workflow: str) -> str:
        began, name = self.scheduler.tick(), f"{self.name}.{len(self.writes)}"
        try:
            if verb == "make":
                self.wp.create_workflow(workflow, "Made", "s", operation_id=name).unwrap()
            else:
                self.wp.update_context(workflow, variables={name: 1}, session_id="s", operation_id=name).unwrap()
            outcome = "done"
        except REFUSALS as error:
            outcome = type(error).__name__
        number = self.wp.definitions.sessions.held.number_of("s")
        self.writes.append(Wrote(DocumentId("workflow", workflow), name, number, began, outcome == "done"))
        return outcome


def check_fences(store: Store, actors: Sequence[Actor]) -> None:
    """Each write stands where the number was its own; those that were refused stand nowhere."""
    for actor in actors:
        for each in actor.writes:
            found = store.view(each.workflow).operation(each.operation_id)
            assert (found is not None) == each.is_done, each
            if found is not None:
                then = store.view_at(each.workflow, found.version)
                assert then is not None and session_records.number_in(then, "s") == each.number, each


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, dict[int, clock.ProcessIdentity]]]:
    """A place with a store for each race, and who each thread is."""
    identities: dict[int, clock.ProcessIdentity] = {}
    pids = {HERE.pid + number: 5 for number in (1, 2)}
    start_ticks = clock.start_ticks
    monkeypatch.setattr(clock, "process_identity", lambda: identities.get(threading.get_ident(), HERE))
    monkeypatch.setattr(clock, "start_ticks", lambda pid: pids.get(pid) or start_ticks(pid))
    monkeypatch.setattr(claims, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(claims.Claims, "_beat", lambda self, done: None)
    monkeypatch.setattr(Upkeep, "ask", lambda self, document: None)
    monkeypatch.setattr(Upkeep, "ask_to_settle", lambda self: None)
    place = Path(tempfile.mkdtemp(prefix="waypost-schedules-", dir=SCRATCH))
    yield place, identities
    shutil.rmtree(place)


def prepare(path: Path, identities: dict[int, clock.ProcessIdentity]) -> None:
    """A dead process has left a session with two workflows."""
    identities[threading.get_ident()] = DEAD
    store = open_store(path, "chunked")
    wp = handle(store, "chunked")
    wp.start_session(session_id="s")
    for name in ("w", "x"):
        wp.create_workflow(name, name.upper(), "s", ["a"]).unwrap()
    store.close()
    del identities[threading.get_ident()]


def run_race(
    template: tuple[Path, dict[int, clock.ProcessIdentity]], race: Race, choose: Choose
) -> tuple[Scheduler, list[Actor]]:
    place, identities = template
    path = place / "store"
    shutil.rmtree(path, ignore_errors=True)
    if not (place / "template").exists():
        prepare(place / "template", identities)
    shutil.copytree(place / "template", path)
    scheduler = Scheduler(choose)
    with stepping(scheduler):
        actors = [Actor(name, path, scheduler, HERE.pid + number) for number, name in enumerate("ab", 1)]
        if not race.is_dead:  # the first is the owner by now, and the second, if it works for him, knows it
            identities[threading.get_ident()] = actors[0].identity
            assert actors[0].wp.resume_session("s").status == "active"
            if "end" in race.programs[0]:
                actors[1].write("write", "w")
            del identities[threading.get_ident()]
        pairs = zip(actors, race.programs, strict=True)
        scheduler.run([actor.run(program, identities) for actor, program in pairs])
        store = actors[0].wp.definitions.store
        check_sessions(store)
        check_fences(store, actors)
        race.check(actors[0].wp, actors)
        for actor in actors:
            actor.wp.definitions.store.close()
    return scheduler, actors


def try_race(template: tuple[Path, dict[int, clock.ProcessIdentity]], name: str, choose: Choose) -> Scheduler | None:
    if ONLY is not None and name != ONLY:
        return None
    try:
        return run_race(template, RACES[name.partition(",")[0]], choose)[0]
    except BaseException as error:
        error.add_note(f"WAYPOST_TEST_SEED={SEED} WAYPOST_SCHEDULE={name!r} pytest {os.path.relpath(__file__)}")
        raise


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RACES)
def test_s07_c09_t11_one_process_stopped_at_every_call(
    template: tuple[Path, dict[int, clock.ProcessIdentity]], totals: Totals, name: str
) -> None:
    """Each of two processes is stopped before each of its calls, while the other one does all that it can."""
    ran, step = 0, ring_size(5, 1)
    for thread in (0, 1):
        at, length = 0, 1
        while at < length:
            turns = [(thread, at), (1 - thread, 10_000), (thread, 10_000)]
            done = try_race(template, f"{name}, {thread} {at}", one_after_the_other(turns))
            ran += done is not None
            length = sum(who == thread for who, _ in done.trace) if done else 600
            at += step
    totals("schedules", ran)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RACES)
def test_s07_c09_t11_processes_in_random_order(
    template: tuple[Path, dict[int, clock.ProcessIdentity]], totals: Totals, name: str
) -> None:
    """Both are stepped in a random order."""
    ran = 0
    for number in range(ring_size(8, 400)):
        rng = random.Random(f"{SEED}.{name}.{number}")
        ran += try_race(template, f"{name}, random {number}", at_random(rng)) is not None
    totals("schedules", ran)
