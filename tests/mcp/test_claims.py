"""Claims: two orchestrators never write to one run at the same time, and a dead one keeps nobody out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from tests.mcp.conftest import fill, handle
from tests.mcp.serving import ALL, served
from waypost.blocking import Waypost
from waypost.errors import SessionFenced
from waypost.mcp.stores import claim_name

STEPS = [{"id": "a"}, {"id": "b"}]

OTHER = """
import sys, time
from waypost.cli.invocation import Invocation
from waypost.mcp.stores import Stores
from waypost.mcp.writes import WriteTools
stores = Stores(Invocation(sys.argv[1]))
tools = WriteTools(stores)
tools.set_step("w", "a", "start")
print("claimed", flush=True)
for line in sys.stdin:
    try:
        tools.set_step("w", "a", "complete")
        print("written", flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
"""


@pytest.fixture
def place_with_a_run(place: str) -> str:
    with closing(handle(place)) as wp:
        wp.create_workflow("w", "w", steps=["a", "b"]).unwrap()
    return place


class Orchestrator:
    """Another process, which has claimed the run and started a step of it."""

    def __init__(self, place: str) -> None:
        command = [sys.executable, "-c", OTHER, place]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None and self.process.stdout.readline() == "claimed\n"

    def writes(self) -> str:
        """What becomes of a write of it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


async def test_a_second_orchestrator_is_kept_out(place_with_a_run: str) -> None:
    """While one process holds a run, another can look at it, and writes nothing to it."""
    other = Orchestrator(place_with_a_run)
    try:
        async with served(place_with_a_run, *ALL) as agent:
            plan = await agent.ok("resume_plan", run_id="w")
            assert plan["claim"]["state"] == "another_process"
            assert str(other.process.pid) in plan["claim"]["evidence"]
            assert plan["how_to_resume"][0].startswith("Another process has claimed the run")
            for tool, arguments in (
                ("set_step", {"run_id": "w", "step_id": "b", "action": "start"}),
                ("save_checkpoint", {"run_id": "w"}),
                ("claim_run", {"run_id": "w"}),
                ("delete_run", {"run_id": "w", "confirm": "w"}),
            ):
                error = await agent.refused(tool, **arguments)
                assert (error["code"], error["retryable"]) == ("session_busy", True), tool
                assert "take_over" in error["next"]
        assert other.writes() == "written"
    finally:
        other.kill()


async def test_a_run_of_a_killed_orchestrator_is_claimed_with_what_it_left(place_with_a_run: str) -> None:
    """The death of a process is seen, its claim keeps nobody out, and the step that it was at is named."""
    other = Orchestrator(place_with_a_run)
    os.kill(other.process.pid, signal.SIGKILL)
    other.process.communicate()
    async with served(place_with_a_run, "write") as agent:
        plan = await agent.ok("resume_plan", run_id="w")
        assert (plan["claim"]["state"], plan["interrupted"]["ids"]) == ("dead_owner", ["a"])
        status = await agent.ok("status")
        assert [session["session_id"] for session in status["abandoned_sessions"]] == [claim_name("w")]
        claimed = await agent.ok("claim_run", run_id="w")
        assert (claimed["claim"]["state"], claimed["interrupted"]["ids"]) == ("this_server", ["a"])
        begun = await agent.ok("set_step", run_id="w", step_id="a", action="start")
        assert begun["step"]["interruptions"] == 1


async def test_what_is_taken_over_is_lost_to_the_first(place_with_a_run: str) -> None:
    """After a takeover the first holder's writes fail, whole, though its process is alive."""
    other = Orchestrator(place_with_a_run)
    try:
        async with served(place_with_a_run, "write") as agent:
            claimed = await agent.ok("claim_run", run_id="w", action="take_over")
            assert claimed["claim"]["state"] == "this_server"
            assert other.writes() == SessionFenced.__name__
            assert other.writes() == "SessionBusy"  # it gave its claim up, and cannot have another
            await agent.ok("set_step", run_id="w", step_id="b", action="start")
    finally:
        other.kill()


async def test_a_claim_that_was_lost_is_made_again(place_with_a_run: str) -> None:
    """Who asks for a claim has it then, also where he had one before that was taken over and let go of since."""
    async with served(place_with_a_run, *ALL) as agent:
        await agent.ok("claim_run", run_id="w")
        with closing(handle(place_with_a_run)) as other:
            other.resume_session(claim_name("w"), take_over=True)
            other.pause_session(claim_name("w")).unwrap()
        assert (await agent.ok("claim_run", run_id="w"))["claim"]["state"] == "this_server"
        await agent.ok("set_step", run_id="w", step_id="a", action="start")


async def test_a_claim_is_let_go_of(here: str) -> None:
    """A run that is released, and one whose server has ended, is free; the claim of a finished run is over."""
    async with served(here, "write") as agent:
        await agent.ok("start_run", run_id="w", steps=STEPS)
        await agent.ok("start_run", run_id="v", steps=[{"id": "a"}])
        released = await agent.ok("claim_run", run_id="w", action="release")
        assert released["claim"] == {"state": "free", "session_id": claim_name("w")}
        again = await agent.ok("claim_run", run_id="w", action="release")
        assert again["claim"]["state"] == "free"
        await agent.ok("set_step", run_id="v", step_id="a", action="start")
        await agent.ok("set_step", run_id="v", step_id="a", action="complete")
    with closing(handle(here)) as wp:
        assert wp.get_session(claim_name("w")).status == "paused"
        assert wp.get_session(claim_name("v")).status == "completed"
    async with served(here, "write") as agent:
        await agent.ok("set_step", run_id="v", step_id="a", action="reset")
        assert (await agent.ok("resume_plan", run_id="v"))["claim"]["session_id"] == claim_name("v", 2)


async def test_each_write_is_in_the_name_of_the_claim_of_its_own_run(here: str) -> None:
    """A server that holds several runs mixes none of them up."""
    async with served(here, "write") as agent:
        for run in ("one", "two"):
            await agent.ok("start_run", run_id=run, steps=STEPS)
        await agent.ok("set_step", run_id="one", step_id="a", action="start")
        await agent.ok("start_run", run_id="three", steps=STEPS)
        await agent.ok("save_checkpoint", run_id="two")
    with closing(handle(here)) as wp:
        named = {run: {entry.session_id for entry in wp.history(run)} for run in ("one", "two", "three")}
    assert named["one"] - {None} == {claim_name("one")} and named["two"] - {None} == {claim_name("two")}
    assert named["three"] <= {None, claim_name("three")}


def test_claims_of_all_runs_have_names_that_differ() -> None:
    """Whatever a run is called, its claims have ids of their own that a store can keep."""
    runs = ["w", "1-of-w", "2-of-w", "w-2", "x" * 512, "x" * 511 + "y", "mcp-1-of-w"]
    names = [claim_name(run, number) for run in runs for number in (1, 2)]
    assert len(set(names)) == len(names) and all(0 < len(name) <= 512 for name in names)


async def test_what_is_written_goes_to_the_store_that_is_in_the_place(wp: Waypost, here: str) -> None:
    """Once a store is moved away nothing more is written to it, and what is put in its place is claimed and written to:
    nobody is told of a commit that is not where he looks.
    """
    fill(wp)
    wp.close()
    async with served(here, *ALL) as agent:
        await agent.ok("save_checkpoint", run_id="survey", description="before")
        os.rename(here, f"{here}-old")
        assert (await agent.refused("save_checkpoint", run_id="survey"))["code"] == "store_not_found"
        with closing(handle(here)) as another:
            fill(another)
        await agent.ok("save_checkpoint", run_id="survey", description="after")
        plan = await agent.ok("resume_plan", run_id="survey")
        assert plan["claim"]["state"] == "this_server"
    for place, said in ((here, "after"), (f"{here}-old", "before")):
        with closing(handle(place)) as found:
            assert found.list_checkpoints("survey")[0].description == said
            assert [each.status for each in found.list_sessions()] == ["paused"], "a claim was let go of"
