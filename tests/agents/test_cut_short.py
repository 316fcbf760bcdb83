"""A fold that is cut short at any of its writes, and done again, leaves what one that was not cut leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.agents.support import (
    SESSION,
    WORKFLOW,
    Feeder,
    Payload,
    agent,
    bash,
    bash_done,
    ended,
    entry,
    finish,
    hook,
    kill,
    payload,
    prompted,
    started,
    stopped,
    variables_of,
)
from tests.conftest import make_config, opened
from tests.test_two_stores import Died, Pair, directories
from waypost import across
from waypost.agents.taking import take
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import StoreUnavailable, VersionConflict
from waypost.hooks.entries import Entry
from waypost.hooks.intake import Folded, fold
from waypost.store import Store, open_store
from waypost.transactions import WorkflowTransaction

__all__ = ["directories"]  # a fixture

EXPANSION = payload("UserPromptExpansion", expansion_type="slash_command", command_name="go", command_args="")
RUN: list[tuple[int, Payload]] = [
    (0, started()),
    (0, EXPANSION),
    (0, prompted()),
    (0, bash(1, "a")),
    (0, bash_done(1, "a")),
    (0, bash(2, "b")),
    (0, stopped()),
    (1, started("resume")),
    (1, prompted("Again", "p2")),
    (1, bash(3, "c") | {"prompt_id": "p2"}),
    (1, ended("clear")),
    (1, started("clear") | {"session_id": "next"}),
    (1, started("resume")),
]
"""Events, and which of two processes each is of: the first is dead by the time that they are taken in."""


class _Failing:
    """A store that fails once: at the write of that number, before it, or behind it."""

    def __init__(self, store: Store, at: int, *, behind: bool) -> None:
        self._store = store
        self._at = at
        self._behind = behind
        self.writes = 0
        self.has_failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def submit(self, *given: Any, **named: Any) -> Any:
        return self._count(self._store.submit, *given, **named)

    def commit(self, *given: Any, **named: Any) -> Any:
        return self._count(self._store.commit, *given, **named)

    def _count(self, write: Callable[..., Any], *given: Any, **named: Any) -> Any:
        self.writes += 1
        is_it = self.writes == self._at
        if is_it and not self._behind:
            self._fail()
        made = write(*given, **named)
        if is_it:
            if hasattr(made, "result"):
                made.result()
            self._fail()
        return made

    def _fail(self) -> None:
        self.has_failed = True
        raise StoreUnavailable("pulled out")


def taken(variables: list[dict[str, str]], at: int, *, behind: bool, again: int = 0) -> tuple[_Failing, str]:
    """Take the run in, and where a write fails begin that event again; what is there in the end. With `again` the last
    events come once more: a power cut took back that they were removed.
    """
    config = make_config()
    failing = _Failing(open_store("memory:", config), at, behind=behind)
    definitions = Definitions(failing, config, verbose=False)  # type: ignore[arg-type]
    numbers = [*range(len(RUN)), *range(len(RUN) - again, len(RUN))]
    for number, (which, event) in ((number, RUN[number]) for number in numbers):
        for _ in range(2):
            try:
                take(definitions, entry(event, number, variables=variables[which]))
                break
            except StoreUnavailable:
                pass
    wp = Waypost(definitions)
    found: list[Any] = []
    for name in (WORKFLOW, f"{WORKFLOW}-go-{prompted()['prompt_id']}", "claude-next"):
        state = wp.load_workflow_state(name).unwrap()
        found += [(s.id, s.name, s.status, s.error, s.start_time, s.end_time, s.output) for s in state.workflow.steps]
        found += [state.workflow.name, state.workflow.paused, dict(state.context.variables)]
        found.append([(one.description, one.tags) for one in wp.list_checkpoints(name, 100)])
    for session in sorted(wp.list_sessions(), key=lambda one: one.session_id):
        recovered = session.crash_recovery_data
        found.append((session.session_id, session.status, session.owner, session.environment))
        found.append(None if recovered is None else (recovered.error, recovered.ambiguous_steps))
    return failing, repr(found)


@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
def test_d24_a_fold_may_be_cut_at_every_write(behind: bool) -> None:
    """Whichever write of a fold fails, with or without being made, folding again gives the same state."""
    with agent() as first, agent() as second:
        variables = [variables_of(first.pid), variables_of(second.pid)]
        kill(first)
        whole, wanted = taken(variables, 0, behind=behind)
        assert whole.writes > len(RUN)
        assert f"'{SESSION}.2'" in wanted
        for at in range(1, whole.writes + 1):
            failing, found = taken(variables, at, behind=behind)
            assert failing.has_failed
            assert found == wanted, f"cut {'behind' if behind else 'before'} write {at} of {whole.writes}"


def test_d24_events_that_come_back_change_nothing() -> None:
    """Events whose removal was taken back are folded once more, any number of the last ones, and change nothing."""
    with agent() as first, agent() as second:
        variables = [variables_of(first.pid), variables_of(second.pid)]
        kill(first)
        _, wanted = taken(variables, 0, behind=False)
        for again in range(1, len(RUN) + 1):
            _, found = taken(variables, 0, behind=False, again=again)
            assert found == wanted, f"the last {again} came again"


def test_d24_a_start_that_comes_back_begins_nothing(wp: Waypost) -> None:
    """The start of a conversation that has ended since is no next attempt when it is folded once more."""
    with agent() as process:
        mine = variables_of(process.pid)
        for _ in range(2):
            for number, event in enumerate([started(), prompted(), ended()]):
                take(wp.definitions, entry(event, number, variables=mine))
    assert [(one.session_id, one.status) for one in wp.list_sessions()] == [(SESSION, "completed")]


# --- what passes ---


def test_an_event_waits_for_what_passes(tmp_path: Path) -> None:
    """An event that others were faster than is not set aside: it stays, and is taken in by the next fold."""
    state = tmp_path / "store"
    waypost.open(state).close()
    finish(hook(state, prompted()))
    with opened(state) as wp:

        def faster(definitions: Definitions, given: Entry) -> None:
            raise VersionConflict("others were faster")

        place = str(state / "spool")
        assert fold(wp.definitions, place, {"claude-code": faster}) == Folded(0, 0, 1)
        assert fold(wp.definitions, place, {"claude-code": take}) == Folded(1, 0, 0)
        assert wp.load_workflow_state(WORKFLOW).unwrap().workflow.name == "Mend the parser"


def test_an_event_goes_behind_a_transaction_over_two_stores(directories: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation that such a transaction has left prepared is settled, and then takes the event."""
    feed = Feeder(directories.there)
    feed(started(), prompted())

    def work(mine: WorkflowTransaction, theirs: WorkflowTransaction) -> None:
        mine.update_context("from", variables={"amount": 1})
        theirs.update_context(WORKFLOW, variables={"mine": 1})

    def die(*_: Any, **__: Any) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(across._Commit, "_follow", die)
        with pytest.raises(Died):
            directories.here.transact(work, also=directories.there, operation_id="moved")
    feed(bash(1, "a"))
    state = directories.there.load_workflow_state(WORKFLOW).unwrap()
    assert (state.context.variables["mine"], state.step("toolu_1").status) == (1, "running")
