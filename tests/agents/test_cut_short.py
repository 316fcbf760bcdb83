"""A fold that is cut short at any of its writes, and done again, leaves what one that was not cut leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.agents.support import (
    SESSION,
    WORKFLOW,
    Payload,
    agent,
    bash,
    bash_done,
    ended,
    entry,
    kill,
    payload,
    prompted,
    started,
    stopped,
    variables_of,
)
from tests.conftest import make_config
from waypost.agents.taking import take
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import StoreUnavailable
from waypost.store import Store, open_store

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


def taken(variables: list[dict[str, str]], at: int, *, behind: bool) -> tuple[_Failing, str]:
    """Take the run in, and where a write fails begin that event again; what is there in the end."""
    config = make_config()
    failing = _Failing(open_store("memory:", config), at, behind=behind)
    definitions = Definitions(failing, config, verbose=False)  # type: ignore[arg-type]
    for number, (which, event) in enumerate(RUN):
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
def test_a_fold_may_be_cut_at_every_write(behind: bool) -> None:
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
