"""Runs: each step once, picked up where they stopped, on both faces, by one or many workers."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.conftest import Pretend, opened
from waypost import clock, runner
from waypost.api import AsyncWaypost
from waypost.blocking import Waypost
from waypost.errors import (
    DependencyUnfinished,
    IllegalTransition,
    InvalidInput,
    InvalidWorkflow,
    OutputNotFound,
    RetriesExhausted,
    StepBusy,
    StepFailed,
    StepNotFound,
    StoreClosed,
    StoreUnavailable,
    WorkflowNotFound,
    WorkflowPaused,
)
from waypost.frontier import Frontier
from waypost.models import WorkflowStep

DIAMOND: list[WorkflowStep | str] = [
    "a",
    WorkflowStep("b", dependencies=["a"]),
    WorkflowStep("c", dependencies=["a"]),
    WorkflowStep("d", dependencies=["b", "c"]),
]


def statuses(wp: Waypost, workflow_id: str = "w") -> dict[str, str]:
    return {step.id: step.status for step in wp.load_workflow_state(workflow_id).unwrap().workflow.steps}


class Calls:
    """A function that notes with what it was called, and gives that back in capitals."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, step_id: str) -> str:
        self.made.append(step_id)
        return step_id.upper()


# --- doing and resuming ---


def test_a_run_does_each_step_once(wp: Waypost) -> None:
    """A run makes the workflow and does its steps in the order that their dependencies allow."""
    calls = Calls()
    with wp.run("w", DIAMOND, name="Diamond") as run:
        for step_id in run.ready():
            assert run.do(step_id, calls, step_id) == step_id.upper()
    assert calls.made == ["a", "b", "c", "d"]
    state = wp.load_workflow_state("w").unwrap()
    assert (state.workflow.name, state.workflow.status, state.workflow.progress) == ("Diamond", "completed", 100)
    assert {name: output.output for name, output in state.outputs.items()} == {name: name.upper() for name in "abcd"}


def test_a_second_run_calls_nothing_again(wp: Waypost) -> None:
    """Finished steps are not handed out again, and doing one gives the recorded output."""
    calls = Calls()
    with wp.run("w", DIAMOND) as run:
        run.do("a", calls, "a")
        run.do("b", calls, "b")
    with wp.run("w", DIAMOND) as run:
        assert run.do("a", calls, "a") == "A"
        assert [(step_id, run.do(step_id, calls, step_id)) for step_id in run.ready()] == [("c", "C"), ("d", "D")]
        assert list(run.ready()) == []
    assert calls.made == ["a", "b", "c", "d"]


@pytest.mark.parametrize("value", [None, 0, "", [], (1, 2), {"k": b"v"}])
def test_a_finished_step_gives_an_equal_output(wp: Waypost, value: Any) -> None:
    """What a step returned comes back equal, also when it was nothing."""
    for _ in range(2):
        with wp.run("w", ["a"]) as run:
            assert run.do("a", lambda: value) == value
    assert wp.get_step_output("w", "a").version == 1


def test_arguments_reach_the_function(wp: Waypost) -> None:
    """Positional and named arguments are passed on as they are."""
    with wp.run("w", ["a"]) as run:
        assert run.do("a", lambda *args, **kwargs: [list(args), kwargs], 1, 2, x=3) == [[1, 2], {"x": 3}]


def test_a_run_without_steps_picks_up_what_is_there(wp: Waypost) -> None:
    """A run of a workflow that is there needs no list of its steps."""
    wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
    wp.update_step_status("w", "a", "completed").unwrap()
    with wp.run("w") as run:
        assert list(run.ready()) == ["b"]
        assert run.missing == []


def test_new_steps_are_added_and_missing_ones_kept(wp: Waypost) -> None:
    """Steps that the store does not have are added, and those that are not given are kept and reported."""
    with wp.run("w", ["a", "b"]) as run:
        run.do("a", str)
    with wp.run("w", ["b", "c", WorkflowStep("d", dependencies=["a"])]) as run:
        assert run.missing == ["a"]
        assert list(statuses(wp)) == ["a", "b", "c", "d"]
        assert list(run.ready()) == ["b", "c", "d"]


def test_steps_added_by_another_process_at_the_same_time(wp: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another run adds the same steps first, this one goes on with them; what is no graph raises."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    add = wp.definitions.add_steps
    raced: list[int] = []

    def add_second(*args: Any, **kwargs: Any) -> Any:
        if not raced:
            raced.append(1)
            add("w", ["b"]).run()
        return add(*args, **kwargs)

    monkeypatch.setattr(wp.definitions, "add_steps", add_second)
    with wp.run("w", ["a", "b", "c"]) as run:
        assert list(run.ready()) == ["a", "b", "c"]
    with pytest.raises(InvalidWorkflow), wp.run("w", [WorkflowStep("x", dependencies=["nobody"])]):
        pass


def test_a_run_of_nothing_makes_nothing(wp: Waypost) -> None:
    """A run without steps of a workflow that is not there raises, rather than ending as if all were done."""
    with pytest.raises(WorkflowNotFound), wp.run("typo"):
        pass
    assert wp.list_workflows().total == 0


def test_a_step_that_is_taken_out_meanwhile_is_left_out(wp: Waypost) -> None:
    """A step that somebody removes during a run is not handed out any more."""
    with wp.run("w", ["a", "b", "c"]) as run:
        ready = run.ready()
        assert next(ready) == "a"
        run.do("a", str)
        state = wp.load_workflow_state("w").unwrap()
        del state.workflow.steps[1]
        wp.save_workflow_state(state).unwrap()
        assert next(ready) == "c"


# --- failing ---


def boom() -> None:
    raise ValueError("no rows")


def test_a_failing_step_raises_from_its_error(wp: Waypost) -> None:
    """A function that raises fails the step, and the error that comes out names step and cause."""
    with wp.run("w", ["a"]) as run, pytest.raises(StepFailed, match=r"step 'a' .* no rows") as caught:
        run.do("a", boom)
    assert isinstance(caught.value.__cause__, ValueError)
    step = wp.load_workflow_state("w").unwrap().step("a")
    assert (step.status, step.error) == ("failed", "ValueError: no rows")


def test_retries_are_made_and_counted(wp: Waypost) -> None:
    """A step is called again while it has retries left, and what it returns in the end is recorded."""
    tries: list[int] = []

    def third_time_lucky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError(len(tries))
        return "done"

    with wp.run("w", [WorkflowStep("a", max_retries=2), WorkflowStep("b", max_retries=2)]) as run:
        assert run.do("a", third_time_lucky) == "done"
        with pytest.raises(StepFailed) as caught:
            run.do("b", boom)
    assert caught.value.details["attempts"] == 3
    state = wp.load_workflow_state("w").unwrap()
    assert (state.step("a").retry_count, state.step("a").output) == (2, "done")
    assert (state.step("b").retry_count, state.step("b").status) == (2, "failed")


def test_the_rest_goes_on_after_a_failure(wp: Waypost) -> None:
    """Steps that do not depend on a failed one are still handed out, and the end is quiet if the caller knows."""
    with wp.run("w", ["x", *DIAMOND]) as run:
        done: list[str] = []
        for step_id in run.ready():
            try:
                run.do(step_id, boom if step_id == "b" else Calls(), *([] if step_id == "b" else [step_id]))
                done.append(step_id)
            except StepFailed:
                pass
    assert done == ["x", "a", "c"]
    assert statuses(wp) == {"x": "completed", "a": "completed", "b": "failed", "c": "completed", "d": "pending"}


def test_a_run_does_not_end_as_if_all_were_done(wp: Waypost) -> None:
    """A run that finds a step failed for good does the rest, and then says so instead of ending quietly."""
    with wp.run("w", DIAMOND) as run:
        run.do("a", str)
        with pytest.raises(StepFailed):
            run.do("b", boom)
    with wp.run("w", DIAMOND) as run:
        ready = run.ready()
        assert next(ready) == "c"
        run.do("c", str)
        with pytest.raises(StepFailed, match="reset_step") as caught:
            next(ready)
        assert caught.value.details["step_id"] == "b"
        with pytest.raises(RetriesExhausted):
            run.do("b", str)
    wp.reset_step("w", "b").unwrap()
    with wp.run("w", DIAMOND) as run:
        for step_id in run.ready():
            run.do(step_id, str)
    assert set(statuses(wp).values()) == {"completed"}


def test_an_interrupt_is_no_failure(wp: Waypost) -> None:
    """A step that was interrupted is not failed: the next run does it, without counting a retry."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    with wp.run("w", ["a"]) as run, pytest.raises(KeyboardInterrupt):
        run.do("a", interrupted)
    assert statuses(wp) == {"a": "running"}
    with wp.run("w", ["a"]) as run:
        assert [run.do(step_id, lambda: 1) for step_id in run.ready()] == [1]
    assert wp.load_workflow_state("w").unwrap().step("a").retry_count == 0


def test_an_interrupt_as_a_step_is_claimed_leaves_it_free(wp: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the claim of a step in this process and its beginning an interrupt comes: any run may still do it."""

    class Interrupting(set[Any]):
        def add(self, element: Any, /) -> None:
            super().add(element)
            raise KeyboardInterrupt

    with wp.run("w", ["a"]) as run:
        (step_id,) = run.ready()
        at_work = Interrupting()
        with monkeypatch.context() as patch:
            patch.setattr(runner, "_at_work", at_work)
            with pytest.raises(KeyboardInterrupt):
                run.do(step_id, str)
            assert not at_work
        assert [run.do(step_id, lambda: 1) for step_id in run.ready()] == [1]


def test_a_step_that_could_not_be_looked_at_is_handed_out_later(wp: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails as a step is about to be handed out raises, and the step is not lost to the run."""
    load, looks = runner.migrations.load, iter(["all steps", "the step"])

    def refuse_the_second(*args: Any) -> Any:
        if next(looks, None) == "the step":
            raise StoreUnavailable("the server was restarted")
        return load(*args)

    with wp.run("w", ["a", "b"]) as run:
        monkeypatch.setattr(runner.migrations, "load", refuse_the_second)
        with pytest.raises(StoreUnavailable):
            next(run.ready())
        assert sorted(run.do(step_id, str, step_id) for step_id in run.ready()) == ["a", "b"]
    assert statuses(wp) == {"a": "completed", "b": "completed"}


# --- outputs that cannot be stored ---


def test_an_output_that_cannot_be_stored_is_returned_all_the_same(wp: Waypost, caplog: Any) -> None:
    """The caller gets the value, the step is completed, and says why the output is missing and what to do."""
    value = threading.Lock()
    with wp.run("w", ["a"]) as run:
        assert run.do("a", lambda: value) is value
    step = wp.load_workflow_state("w").unwrap().step("a")
    assert (step.status, step.output) == ("completed", None)
    assert "register_type" in (step.error or "")
    assert any("register_type" in record.getMessage() for record in caplog.records)
    with wp.run("w", ["a"]) as run, pytest.raises(OutputNotFound, match="reset_step"):
        run.do("a", lambda: value)


def test_the_output_of_an_earlier_attempt_is_not_given_as_that_of_the_last(wp: Waypost) -> None:
    """A step that was reset, and had no output that could be stored or was skipped then, gives none."""
    with wp.run("w", ["a"]) as run:
        assert run.do("a", lambda: "old") == "old"
    wp.reset_step("w", "a").unwrap()
    with wp.run("w", ["a"]) as run:
        run.do("a", threading.Lock)
    with wp.run("w", ["a"]) as run, pytest.raises(OutputNotFound, match="reset_step"):
        run.do("a", lambda: "never called")
    wp.reset_step("w", "a").unwrap()
    wp.update_step_status("w", "a", "skipped").unwrap()
    with wp.run("w", ["a"]) as run:
        assert run.do("a", lambda: "never called") is None


# --- refusals ---


def test_refusals_of_the_step_come_through(wp: Waypost) -> None:
    """A step that may not start is not called: unknown, waiting for others, or paused."""
    calls = Calls()
    with wp.run("w", DIAMOND) as run:
        with pytest.raises(StepNotFound):
            run.do("x", calls, "x")
        with pytest.raises(DependencyUnfinished):
            run.do("d", calls, "d")
        wp.pause_workflow("w").unwrap()
        with pytest.raises(WorkflowPaused):
            run.do("a", calls, "a")
    assert calls.made == []


def test_an_asynchronous_function_needs_the_asynchronous_face(wp: Waypost) -> None:
    """A coroutine that nobody would await fails the step with a sentence that says so."""

    async def work() -> int:
        return 1

    with wp.run("w", ["a"]) as run, pytest.raises(StepFailed, match="asynchronous"):
        run.do("a", work)


def test_a_store_that_fails_raises(wp: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a result cannot be recorded because the store fails, that is raised and not hidden."""
    update = wp.definitions.update_step_status

    def refuse(workflow_id: str, step_id: str, status: Any, **kwargs: Any) -> Any:
        if status == "completed":
            raise StoreUnavailable("disk full")
        return update(workflow_id, step_id, status, **kwargs)

    with wp.run("w", ["a"]) as run:
        monkeypatch.setattr(wp.definitions, "update_step_status", refuse)
        with pytest.raises(StoreUnavailable):
            run.do("a", str)


# --- the long form ---


def test_the_long_form_records_what_is_set(wp: Waypost) -> None:
    """A step in a `with` block is running within it, and completed after it with the output that was set."""
    with wp.run("w", ["a", "b"]) as run:
        with run.step("a") as step:
            assert statuses(wp)["a"] == "running"
            step.output = {"rows": 0}
        with run.step("b"):
            pass
        assert list(run.ready()) == []
    state = wp.load_workflow_state("w").unwrap()
    assert (state.outputs["a"].output, "b" in state.outputs) == ({"rows": 0}, False)
    assert state.workflow.status == "completed"


def test_the_long_form_fails_with_its_exception(wp: Waypost) -> None:
    """An exception fails the step and goes on as it is, an interrupt does not; a finished step cannot be entered."""
    with wp.run("w", ["a", "b", "c"]) as run:
        with pytest.raises(ValueError, match="no rows"), run.step("a"):
            boom()
        assert statuses(wp)["a"] == "failed"
        run.do("b", str)
        with pytest.raises(IllegalTransition), run.step("b"):
            pass
        with pytest.raises(KeyboardInterrupt), run.step("c"):
            raise KeyboardInterrupt
    assert statuses(wp) == {"a": "failed", "b": "completed", "c": "running"}


# --- several at once ---


def test_one_process_does_a_step_once(wp: Waypost) -> None:
    """Two threads that do the same step do not both call its function."""
    started, may_end = threading.Event(), threading.Event()

    def slow() -> str:
        started.set()
        may_end.wait(60)
        return "done"

    with wp.run("w", ["a"]) as run, wp.run("w", ["a"]) as other, ThreadPoolExecutor(1) as pool:
        job = pool.submit(run.do, "a", slow)
        started.wait(60)
        with pytest.raises(StepBusy):
            other.do("a", str)
        may_end.set()
        assert job.result() == "done"
        assert other.do("a", str) == "done"


def test_one_process_does_a_step_once_by_whatever_path_its_store_was_opened(tmp_path: Path) -> None:
    """A directory that is reached by a link is the same place, where the step is being done."""
    (tmp_path / "link").symlink_to(tmp_path / "state")
    with ExitStack() as stack:
        here, there = [stack.enter_context(opened(tmp_path / name)) for name in ("state", "link")]
        run, other = [stack.enter_context(wp.run("w", ["a"])) for wp in (here, there)]

        def work() -> str:
            with pytest.raises(StepBusy, match="in this process"):
                other.do("a", str)
            return "done"

        assert run.do("a", work) == "done"
        assert other.do("a", str) == "done"


def test_a_step_ends_as_its_store_is_closed(tmp_path: Path) -> None:
    """Its result cannot be recorded then, and it is not taken for being done for ever."""
    with opened(tmp_path) as wp, wp.run("w", ["a"]) as run, pytest.raises(StoreClosed):
        run.do("a", wp.close)
    with opened(tmp_path) as wp, wp.run("w") as run:
        assert run.do("a", lambda: "done") == "done"


@pytest.mark.parametrize("retries", [0, 1])
def test_a_step_that_others_finish_before_it_begins_gives_their_output(
    wp: Waypost, monkeypatch: pytest.MonkeyPatch, retries: int
) -> None:
    """A step that another process finishes between the look and the beginning, or between two tries, is not called."""
    update = wp.definitions.update_step_status
    begun: list[str] = []
    theirs: dict[str, Any] = {"output": "theirs"}

    def others_are_faster(workflow_id: str, step_id: str, status: Any, **kwargs: Any) -> Any:
        begun.extend([step_id] * (status == "running"))
        if status == "running" and begun.count(step_id) == retries + 1:
            for each in ("running", "completed"):
                update(workflow_id, step_id, each, **(theirs if each == "completed" else {})).run().unwrap()
        return update(workflow_id, step_id, status, **kwargs)

    steps = [WorkflowStep(name, max_retries=1) for name in "abc"]
    with wp.run("w", steps) as run:
        monkeypatch.setattr(wp.definitions, "update_step_status", others_are_faster)
        assert run.do("a", boom) == "theirs"
        assert run.map(lambda step_id: boom(), workers=1) == {"b": "theirs", "c": "theirs"}
        assert begun == [name for name in "abc" for _ in range(retries + 1)]
    wp.definitions.add_steps("w", ["d"]).run().unwrap()
    theirs = {"error": "the output is not recorded: it is a lock"}
    with wp.run("w") as run:
        begun.extend("d" * retries)
        assert run.map(lambda step_id: boom(), workers=1) == {}
    assert set(statuses(wp).values()) == {"completed"}


def test_a_step_that_others_finish_while_it_is_done_raises(wp: Waypost) -> None:
    """Who has called the function learns that somebody else has finished the step with another result."""
    with wp.run("w", ["a"]) as run, pytest.raises(IllegalTransition, match="with another output"):
        run.do("a", lambda: wp.update_step_status("w", "a", "completed", "theirs").unwrap() and "ours")
    assert wp.get_step_output("w", "a").output == "theirs"


def test_ready_waits_for_what_others_are_doing(wp: Waypost, caplog: pytest.LogCaptureFixture) -> None:
    """A step becomes ready as soon as other threads have finished what it depends on; a run never waits for itself."""
    caplog.set_level(logging.INFO, "waypost")
    with wp.run("w", DIAMOND) as run, ThreadPoolExecutor(2) as pool:
        order: list[str] = []

        def work(step_id: str) -> None:
            time.sleep(0.01)
            order.append(step_id)

        jobs = [pool.submit(run.do, step_id, work, step_id) for step_id in run.ready()]
        assert [job.result() for job in jobs] == [None] * 4
    assert order[0] == "a"
    assert order[-1] == "d"
    assert caplog.records == []
    assert set(statuses(wp).values()) == {"completed"}


def test_steps_that_nobody_begins_do_not_hold_up_the_end(
    wp: Waypost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever takes a step and does not do it gets to the end of the run all the same, and is told."""
    monkeypatch.setattr(runner, "PATIENCE", 0.05)
    with wp.run("w", DIAMOND) as run:
        assert list(run.ready()) == ["a"]
    assert any("not begun: ['a']" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("workers", [1, 4])
def test_map_does_all_steps(wp: Waypost, workers: int) -> None:
    """`map` calls the function for each step that is ready, in threads, and gives the outputs."""
    calls = Calls()
    with wp.run("w", DIAMOND) as run:
        run.do("a", calls, "a")
        assert run.map(calls, workers=workers) == {"b": "B", "c": "C", "d": "D"}
        assert run.map(calls) == {}
    assert sorted(calls.made) == ["a", "b", "c", "d"]
    assert calls.made[-1] == "d"


def test_map_works_in_parallel(wp: Waypost) -> None:
    """With two workers two steps are in work at the same time."""
    both = threading.Barrier(2)
    with wp.run("w", ["a", "b"]) as run:
        assert run.map(lambda _: both.wait(60), workers=2).keys() == {"a", "b"}


def test_a_step_that_is_not_parallel_is_done_alone(wp: Waypost) -> None:
    """While a step with `parallel=False` is in work no other one is."""
    active: list[str] = []
    seen: list[list[str]] = []

    def work(step_id: str) -> None:
        active.append(step_id)
        time.sleep(0.01)
        seen.append(sorted(active))
        active.remove(step_id)

    steps = ["a", "b", WorkflowStep("alone", parallel=False), "c", "d"]
    with wp.run("w", steps) as run:
        run.map(work, workers=4)
    assert ["alone"] in seen
    assert all(others == ["alone"] for others in seen if "alone" in others)


def test_map_does_what_does_not_depend_on_a_failure(wp: Waypost) -> None:
    """After a failure the independent steps are done, and then the failure is raised."""

    def work(step_id: str) -> None:
        if step_id == "b":
            boom()

    with wp.run("w", ["x", *DIAMOND]) as run, pytest.raises(StepFailed) as caught:
        run.map(work, workers=2)
    assert caught.value.details["step_id"] == "b"
    assert statuses(wp) == {"x": "completed", "a": "completed", "b": "failed", "c": "completed", "d": "pending"}


def test_map_does_what_does_not_depend_on_a_failure_elsewhere(wp: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that fails for good in another process is one failure more: the rest is done, and then it is told."""
    update = wp.definitions.update_step_status

    def others_are_faster(workflow_id: str, step_id: str, status: Any, **kwargs: Any) -> Any:
        if (step_id, status) == ("b", "running"):
            update(workflow_id, step_id, "failed", error="no disk there").run().unwrap()
        return update(workflow_id, step_id, status, **kwargs)

    def work(step_id: str) -> None:
        if step_id == "y":
            boom()

    with wp.run("w", [*DIAMOND, "x", "y"]) as run:
        monkeypatch.setattr(wp.definitions, "update_step_status", others_are_faster)
        with pytest.raises(StepFailed, match=r"step 'b' .*no disk there") as caught:
            run.map(work, workers=1)
    assert isinstance(caught.value.__cause__, RetriesExhausted)
    assert ["'y'" in note for note in caught.value.__notes__] == [True]
    assert statuses(wp) == dict.fromkeys("acx", "completed") | {"b": "failed", "y": "failed", "d": "pending"}


def test_map_stops_when_the_store_fails(wp: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is none of a step ends all workers, and is raised."""
    update = wp.definitions.update_step_status

    def refuse(workflow_id: str, step_id: str, status: Any, **kwargs: Any) -> Any:
        if step_id == "3":
            raise StoreUnavailable("disk full")
        return update(workflow_id, step_id, status, **kwargs)

    monkeypatch.setattr(wp.definitions, "update_step_status", refuse)
    with wp.run("w", map(str, range(1000))) as run, pytest.raises(StoreUnavailable):
        run.map(lambda _: None, workers=2)
    assert sum(status == "completed" for status in statuses(wp).values()) < 900


def test_a_run_that_was_ended_by_an_error_does_not_say_that_all_is_done(
    wp: Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To map again what failed is refused, and does not give an empty answer; another run does what is left."""
    with wp.run("w", ["a", "b"]) as run:
        with monkeypatch.context() as patch:
            patch.setattr(wp.definitions, "update_step_status", refuse_all)
            with pytest.raises(StoreUnavailable):
                run.map(str, workers=1)
        with pytest.raises(InvalidInput, match="begin another"):
            run.map(str, workers=1)
        with pytest.raises(InvalidInput, match="begin another"):
            next(run.ready())
    with wp.run("w") as run:
        assert run.map(str) == {"a": "a", "b": "b"}


def refuse_all(*_: Any, **__: Any) -> Any:
    raise StoreUnavailable("the server was restarted")


async def test_an_asynchronous_run_that_was_ended_by_an_error_does_not_say_that_all_is_done(
    awp: AsyncWaypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the blocking face."""
    async with awp.run("w", ["a"]) as run:
        with monkeypatch.context() as patch:
            patch.setattr(awp.definitions, "update_step_status", refuse_all)
            with pytest.raises(StoreUnavailable):
                await run.map(str)
        with pytest.raises(InvalidInput, match="begin another"):
            await run.map(str)
        with pytest.raises(InvalidInput, match="begin another"):
            await anext(run.ready())
    async with awp.run("w") as run:
        assert await run.map(str) == {"a": "a"}


def test_two_runs_share_the_work(wp: Waypost) -> None:
    """Two runs of one workflow do each step once between them, and both end when all is done."""
    calls = Calls()

    def work() -> dict[str, str]:
        with wp.run("w", steps) as run:
            return run.map(calls, workers=2)

    steps = [WorkflowStep(str(n), dependencies=[str(n - 3)] if n > 3 else []) for n in range(1, 40)]
    wp.create_workflow("w", "W", steps=steps).unwrap()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(work), pool.submit(work)
        assert {**first.result(), **second.result()} == {str(n): str(n) for n in range(1, 40)}
    assert sorted(calls.made, key=int) == [str(n) for n in range(1, 40)]


# --- owners ---


def test_what_a_dead_process_left_is_taken_over(wp: Waypost, as_dead_process: Pretend) -> None:
    """A step that was running when its process died is handed out, done, and counted as interrupted."""
    wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
    with as_dead_process():
        wp.update_step_status("w", "a", "running").unwrap()
    with wp.run("w") as run:
        assert [run.do(step_id, str) for step_id in run.ready()] == ["", ""]
    step = wp.load_workflow_state("w").unwrap().step("a")
    assert (step.interruptions, step.retry_count) == (1, 0)


def test_what_a_living_process_does_is_waited_for(
    wp: Waypost, as_living_process: Pretend, caplog: pytest.LogCaptureFixture
) -> None:
    """A step of another living process is not handed out, and what depends on it is once that has finished it."""
    wp.create_workflow("w", "W", steps=DIAMOND).unwrap()
    with as_living_process():
        wp.update_step_status("w", "a", "running").unwrap()
    with wp.run("w") as run, caplog.at_level(logging.INFO, "waypost"):
        with pytest.raises(StepBusy):
            run.do("a", str)
        finisher = threading.Timer(0.1, lambda: wp.update_step_status("w", "a", "completed").unwrap())
        finisher.start()
        assert next(run.ready()) == "b"
        finisher.join()
    assert sum("is working on step 'a'" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_owner_is_noticed_while_waiting(wp: Waypost, tmp_path: Path) -> None:
    """A run that waits for another process takes its step over as soon as that process is killed."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    from waypost import clock

    identity = clock.process_identity()._replace(pid=child.pid, start=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "process_identity", lambda: identity)
        wp.create_workflow("w", "W", steps=["a"]).unwrap()
        wp.update_step_status("w", "a", "running").unwrap()
    killer = threading.Timer(0.1, lambda: (os.kill(child.pid, signal.SIGKILL), child.wait()))
    killer.start()
    with wp.run("w") as run:
        assert [run.do(step_id, lambda: "mine") for step_id in run.ready()] == ["mine"]
    killer.join()
    child.communicate()


# --- what a run costs ---


def test_a_run_reads_the_workflow_only_now_and_then(wp: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of steps is done without reading the whole workflow for each of them, as long as no time passes."""
    read: list[int] = []
    now_ns = clock.monotonic_ns()
    monkeypatch.setattr(clock, "monotonic_ns", lambda: now_ns)
    learn = Frontier.learn
    monkeypatch.setattr(Frontier, "learn", lambda *args: (read.append(1), learn(*args))[1])
    steps = [WorkflowStep(str(n), dependencies=[str(n - 1)] if n else []) for n in range(200)]
    with wp.run("w", steps) as run:
        for step_id in run.ready():
            run.do(step_id, str)
    assert len(read) <= 3


def test_what_is_finished_while_the_workflow_is_read_counts(wp: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is finished between reading the workflow and looking at what was read does not hold up others."""
    every_step = runner.loading.every_step
    with wp.run("w", DIAMOND) as run, ThreadPoolExecutor(1) as pool:
        may_end = threading.Event()

        def slow_read(view: Any) -> Any:
            steps = list(every_step(view))
            may_end.set()
            job.result(60)
            return steps

        ready = run.ready()
        assert next(ready) == "a"
        job = pool.submit(run.do, "a", may_end.wait, 60)
        monkeypatch.setattr(runner.loading, "every_step", slow_read)
        assert next(ready) == "b"


# --- the asynchronous face ---


async def test_an_asynchronous_run(wp: Waypost, awp: AsyncWaypost) -> None:
    """The asynchronous face runs alike: coroutine functions, plain ones, and functions that give coroutines."""

    async def work(step_id: str) -> str:
        await asyncio.sleep(0)
        return step_id.upper()

    async with awp.run("w", DIAMOND) as run:
        functions: dict[str, Callable[[str], Any]] = {"a": work, "b": str.upper, "c": lambda name: work(name)}
        async for step_id in run.ready():
            assert await run.do(step_id, functions.get(step_id, work), step_id) == step_id.upper()
        assert await run.do("a", work, "x") == "A"
        assert run.missing == []
    assert wp.load_workflow_state("w").unwrap().workflow.status == "completed"


async def test_plain_functions_do_not_block_the_loop(awp: AsyncWaypost) -> None:
    """A plain function of an asynchronous run is called in another thread than the loop's."""
    async with awp.run("w", ["a"]) as run:
        assert await run.do("a", threading.get_ident) != threading.get_ident()


async def test_asynchronous_failures_and_long_form(wp: Waypost, awp: AsyncWaypost) -> None:
    """Failures, retries and `with` blocks are recorded as on the blocking face."""
    async with awp.run("w", [WorkflowStep("a", max_retries=1), "b", "c"]) as run:
        with pytest.raises(StepFailed) as caught:
            await run.do("a", boom)
        assert isinstance(caught.value.__cause__, ValueError)
        async with run.step("b") as step:
            step.output = 5
        with pytest.raises(ValueError, match="no rows"):
            async with run.step("c"):
                boom()
    state = wp.load_workflow_state("w").unwrap()
    assert (state.step("a").retry_count, state.step("b").output, state.step("c").status) == (1, 5, "failed")


async def test_asynchronous_map(awp: AsyncWaypost) -> None:
    """`map` on the asynchronous face works in tasks, side by side."""
    active = most = 0
    all_at_once = asyncio.Event()

    async def work(step_id: str) -> str:
        nonlocal active, most
        active += 1
        most = max(most, active)
        if active == 3:
            all_at_once.set()
        async with asyncio.timeout(30):
            await all_at_once.wait()
        active -= 1
        return step_id.upper()

    async with awp.run("w", [*DIAMOND, *"xyz"]) as run:
        assert await run.map(work, workers=3) == {name: name.upper() for name in "abcdxyz"}
    assert most == 3


async def test_asynchronous_ready_with_tasks(awp: AsyncWaypost) -> None:
    """Steps may be done in tasks while the loop over ready ones goes on."""
    async with awp.run("w", DIAMOND) as run:
        order: list[str] = []

        async def work(step_id: str) -> None:
            await asyncio.sleep(0.01)
            order.append(step_id)

        tasks = [asyncio.create_task(run.do(step_id, work, step_id)) async for step_id in run.ready()]
        await asyncio.gather(*tasks)
    assert (order[0], sorted(order[1:3]), order[3]) == ("a", ["b", "c"], "d")


async def test_cancelling_an_asynchronous_step_is_no_failure(wp: Waypost, awp: AsyncWaypost) -> None:
    """A cancelled step stays running, to be done by the next run; a cancelled `map` leaves no task behind."""
    async with awp.run("w", ["a", "b"]) as run:
        started = asyncio.Event()

        async def forever(step_id: str) -> None:
            started.set()
            await asyncio.sleep(60)

        task = asyncio.create_task(run.map(forever, workers=2))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1
    assert "failed" not in statuses(wp).values()
    async with awp.run("w") as run:
        assert await run.map(str.upper) == {"a": "A", "b": "B"}


async def test_a_step_whose_call_was_cancelled_is_busy_until_its_function_has_returned(
    wp: Waypost, awp: AsyncWaypost
) -> None:
    """A plain function cannot be stopped: it is never called beside itself, and what it gives is dropped."""
    began, may_end, ended = threading.Event(), threading.Event(), threading.Event()
    calls: list[tuple[str, bool]] = []

    def work(step_id: str) -> str:
        calls.append((step_id, ended.is_set()))
        may_end.set()
        return step_id.upper()

    def slow() -> str:
        began.set()
        may_end.wait(60)
        ended.set()
        return "dropped"

    async with awp.run("w", ["a", "b"]) as run, awp.run("w", ["a", "b"]) as other:
        task = asyncio.create_task(run.do("a", slow))
        await asyncio.to_thread(began.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for each in (run, other):
            with pytest.raises(StepBusy, match="in this process"):
                await each.do("a", str)
        assert await other.map(work, workers=2) == {"a": "A", "b": "B"}
    assert calls == [("b", False), ("a", True)]
    step = wp.load_workflow_state("w").unwrap().step("a")
    assert (step.status, step.output, step.retry_count) == ("completed", "A", 0)


async def test_a_function_that_has_not_begun_when_it_is_cancelled_is_not_called(awp: AsyncWaypost) -> None:
    """While all threads are taken a step waits for one, and is free as soon as nobody waits for it."""
    calls, may_end, waits = Calls(), threading.Event(), asyncio.Event()
    with ThreadPoolExecutor(1) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        job = pool.submit(may_end.wait, 60)
        async with awp.run("w", ["a"]) as run:
            queued = pool.submit

            def submit(*args: Any, **kwargs: Any) -> Any:
                waits.set()
                return queued(*args, **kwargs)

            pool.submit = submit  # type: ignore[method-assign]
            task = asyncio.create_task(run.do("a", calls, "a"))
            await waits.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            again = asyncio.create_task(run.do("a", calls, "again"))
            may_end.set()
            assert await again == "AGAIN"
        assert job.result()
    assert calls.made == ["again"]


def test_a_function_that_outlives_its_loop_lets_go_of_its_step(wp: Waypost) -> None:
    """A step is free when its function has returned, also where the loop that called it is closed by then."""
    may_end = threading.Event()

    async def give_up() -> None:
        began = asyncio.Event()

        def work() -> None:
            loop.call_soon_threadsafe(began.set)
            may_end.wait(60)

        async with AsyncWaypost(wp.definitions).run("w", ["a"]) as run:
            task = asyncio.create_task(run.do("a", work))
            await began.wait()
            task.cancel()
            await asyncio.wait([task])

    with ThreadPoolExecutor(1) as pool:
        loop = asyncio.new_event_loop()
        loop.set_default_executor(pool)
        loop.run_until_complete(give_up())
        loop.close()
        with wp.run("w") as run, pytest.raises(StepBusy):
            run.do("a", str)
        may_end.set()
    with wp.run("w") as run:
        assert run.do("a", lambda: "done") == "done"


def test_the_run_of_the_public_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of the documentation works as it stands there."""
    monkeypatch.chdir(tmp_path)

    def analyse(step_id: str) -> dict[str, int]:
        return {"length": len(step_id)}

    with waypost.open("memory:") as wp:
        with wp.run("survey", steps=["fetch", "parse", "report"]) as run:
            for step_id in run.ready():
                run.do(step_id, analyse, step_id)
        assert wp.get_step_output("survey", "report").output == {"length": 6}


# --- killed ---

WORKER = """
import sys, time
sys.path.insert(0, sys.argv[1])
import waypost
begun = 0
def work(step_id):
    global begun
    begun += 1
    with open(sys.argv[3], "a") as log:
        log.write(step_id + "\\n")
    time.sleep(0.02 if begun < 4 else 3600)  # until it is killed, however slow that is
    return step_id.upper()
steps = [waypost.WorkflowStep(str(n), dependencies=[str(n - 1)] if n else []) for n in range(12)]
with waypost.open(sys.argv[2]) as wp, wp.run("w", steps) as run:
    for step_id in run.ready():
        run.do(step_id, work, step_id)
"""


def test_a_killed_run_repeats_no_finished_step(tmp_path: Path) -> None:
    """A run that is killed again and again ends up with each step done, and none called after it was finished."""
    log = tmp_path / "log"
    source = str(Path(waypost.__file__).parent.parent)
    command = [sys.executable, "-c", WORKER, source, str(tmp_path / "state"), str(log)]
    kills = 0
    while True:
        child = subprocess.Popen(command, cwd=tmp_path)
        calls = len(log.read_text().split()) if log.exists() else 0
        while child.poll() is None and (len(log.read_text().split()) if log.exists() else 0) < calls + 3:
            time.sleep(0.002)
        if child.poll() is not None:
            break
        child.kill()
        child.wait()
        kills += 1
    assert child.returncode == 0
    assert kills >= 3
    called = log.read_text().split()
    with waypost.open(str(tmp_path / "state")) as wp:
        steps = {step.id: step for step in wp.load_workflow_state("w").unwrap().workflow.steps}
        assert {step.id: step.output for step in steps.values()} == {str(n): str(n) for n in range(12)}
    # only what was running when its process was killed was called again, and each such call is counted; a process may
    # be killed between taking a step and calling its function
    assert called == sorted(called, key=int)
    again = {step_id: called.count(step_id) - 1 for step_id in steps}
    assert all(0 <= times <= steps[step_id].interruptions for step_id, times in again.items())
    assert sum(step.interruptions for step in steps.values()) <= kills
    assert all(step.retry_count == 0 for step in steps.values())
