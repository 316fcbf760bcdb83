"""The tools that write: what each leaves in the store, once, and what has to be allowed and confirmed."""

from __future__ import annotations

from contextlib import closing

import pytest

from tests.mcp.conftest import fill, handle
from tests.mcp.serving import ALL, served
from waypost.blocking import Waypost
from waypost.errors import WorkflowNotFound

PLAN = [{"id": "fetch"}, {"id": "parse", "name": "Parse it", "depends_on": ["fetch"], "max_retries": 1}]


async def test_a_run_from_its_beginning_to_its_end(place: str) -> None:
    """An agent makes a run, records its steps, keeps a checkpoint, and each answer says what can be started now."""
    async with served(place, "write") as agent:
        made = await agent.ok("start_run", run_id="survey", name="A survey", steps=PLAN)
        assert (made["run"]["status"], made["run"]["step_counts"]["pending"]) == ("idle", 2)
        begun = await agent.ok("set_step", run_id="survey", step_id="fetch", action="start", agent_id="robot")
        assert begun["step"]["status"] == "running" and begun["step"]["worker"]["liveness"] == "alive"
        done = await agent.ok("set_step", run_id="survey", step_id="fetch", action="complete", output={"rows": [1, 2]})
        assert done["next"]["ids"] == ["parse"] and done["step"]["output_version"] == 1
        kept = await agent.ok("save_checkpoint", run_id="survey", description="fetched", notes={"rows": 2})
        await agent.ok("set_step", run_id="survey", step_id="parse", action="start")
        await agent.ok(
            "set_step", run_id="survey", step_id="parse", action="complete", output_text='{"kept": "as text"}'
        )
    with closing(handle(place)) as wp:
        state = wp.load_workflow_state("survey").unwrap()
        assert (state.workflow.status, state.step("fetch").output) == ("completed", {"rows": [1, 2]})
        assert state.step("parse").output == '{"kept": "as text"}' and state.step("parse").name == "Parse it"
        assert state.context.variables["rows"] == 2
        checkpoint = wp.get_checkpoint(kept["checkpoint"]["checkpoint_id"])
        assert checkpoint.state.context.variables["rows"] == 2 and checkpoint.description == "fetched"


async def test_an_operation_id_makes_a_call_that_was_sent_twice_one(here: str) -> None:
    """The same call with the same operation id changes nothing and gives the first result."""
    calls = (
        ("start_run", {"run_id": "w", "steps": PLAN}),
        ("set_step", {"run_id": "w", "step_id": "fetch", "action": "start"}),
        ("set_step", {"run_id": "w", "step_id": "fetch", "action": "fail", "error": "no"}),
        ("set_step", {"run_id": "w", "step_id": "fetch", "action": "reset"}),
        ("save_checkpoint", {"run_id": "w", "notes": {"key": 1}}),
    )
    async with served(here, "write") as agent:
        for number, (tool, arguments) in enumerate(calls):
            first = await agent.ok(tool, **arguments, operation_id=f"op{number}")
            version = (await agent.ok("get_run", run_id="w"))["run"]["version"]
            again = await agent.ok(tool, **arguments, operation_id=f"op{number}")
            assert (first["repeated"], again["repeated"]) == (False, True), tool
            assert (await agent.ok("get_run", run_id="w"))["run"]["version"] == version, tool


async def test_a_checkpoint_that_is_saved_again_does_not_put_older_notes_back(here: str) -> None:
    """The notes of a call that is repeated are not written again over those that came later."""
    async with served(here, "write") as agent:
        await agent.ok("start_run", run_id="w", steps=PLAN)
        first = {"run_id": "w", "notes": {"key": "first"}, "operation_id": "op"}
        await agent.ok("save_checkpoint", **first)
        await agent.ok("save_checkpoint", run_id="w", notes={"key": "second"})
        assert (await agent.ok("save_checkpoint", **first))["repeated"] is True
        variables = (await agent.ok("get_run", run_id="w", depth="full"))["context"]["variables"]
    assert [entry["value"]["text"] for entry in variables] == ['"second"']


async def test_notes_of_different_calls_are_kept_however_long_their_operation_ids_are(here: str) -> None:
    """Ids of the greatest length that differ only in their last character are of two calls, and so are their notes."""
    async with served(here, "write") as agent:
        await agent.ok("start_run", run_id="w", steps=PLAN)
        for number in (1, 2):
            call = {"run_id": "w", "notes": {f"key{number}": number}, "operation_id": "x" * 511 + str(number)}
            assert (await agent.ok("save_checkpoint", **call))["repeated"] is False
            assert (await agent.ok("save_checkpoint", **call))["repeated"] is True
        variables = (await agent.ok("get_run", run_id="w", depth="full"))["context"]["variables"]
    assert [entry["key"] for entry in variables] == ["key1", "key2"]


async def test_an_operation_id_of_another_call_is_refused(here: str) -> None:
    """Nobody is told that a thing was done because another one was, under an operation id that was used for it."""
    async with served(here, *ALL) as agent:
        await agent.ok("start_run", run_id="w", steps=PLAN, operation_id="made")
        start = {"run_id": "w", "step_id": "fetch", "action": "start", "operation_id": "begun"}
        await agent.ok("set_step", **start)
        for tool, other in (
            ("set_step", {**start, "action": "complete"}),
            ("set_step", {**start, "step_id": "parse", "action": "skip"}),
            ("set_step", {**start, "action": "reset"}),
            ("set_step", {**start, "operation_id": "made"}),
            ("save_checkpoint", {"run_id": "w", "operation_id": "begun"}),
            ("delete_run", {"run_id": "w", "confirm": "w", "operation_id": "begun"}),
        ):
            error = await agent.refused(tool, **other)
            assert error["code"] == "invalid_input" and "operation_id" in error["message"], tool
        assert (await agent.ok("set_step", **start))["repeated"] is True
        assert (await agent.ok("get_run", run_id="w"))["steps"][0]["status"] == "running"


async def test_a_step_fails_is_tried_again_and_reset(here: str) -> None:
    """A failure needs a reason, retries are counted, and reset makes a step pending again."""
    async with served(here, "write") as agent:
        await agent.ok("start_run", run_id="w", steps=PLAN)
        await agent.ok("set_step", run_id="w", step_id="fetch", action="skip")
        await agent.ok("set_step", run_id="w", step_id="parse", action="start")
        assert "error" in (await agent.refused("set_step", run_id="w", step_id="parse", action="fail"))["message"]
        failed = await agent.ok("set_step", run_id="w", step_id="parse", action="fail", error="first", output=[1])
        assert (failed["step"]["error"]["text"], failed["step"]["retry_count"]) == ("first", 0)
        await agent.ok("set_step", run_id="w", step_id="parse", action="start")
        await agent.ok("set_step", run_id="w", step_id="parse", action="fail", error="second")
        error = await agent.refused("set_step", run_id="w", step_id="parse", action="start")
        assert error["code"] == "retries_exhausted" and "reset" in error["next"]
        reset = await agent.ok("set_step", run_id="w", step_id="parse", action="reset")
        assert (reset["step"]["status"], reset["next"]["ids"]) == ("pending", ["parse"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"action": "skip", "output": 1}, "takes no output"),
        ({"action": "complete", "output": 1, "output_text": "x"}, "not as both"),
        ({"action": "start", "error": "x"}, "belongs to fail"),
        ({"action": "pause"}, "action:"),
        ({"action": "start", "operation_id": "\x00"}, "operation id"),
    ],
)
async def test_what_does_not_fit_together_changes_nothing(here: str, arguments: dict[str, object], said: str) -> None:
    """A call whose arguments contradict each other is refused with what is wrong, and the run is as it was."""
    async with served(here, "write") as agent:
        await agent.ok("start_run", run_id="w", steps=PLAN)
        error = await agent.refused("set_step", run_id="w", step_id="fetch", **arguments)
        assert said in error["message"]
        assert (await agent.ok("get_run", run_id="w"))["run"]["version"] == 1


async def test_a_run_that_is_there_is_not_made_again(wp: Waypost, here: str) -> None:
    """A run id that is taken, and steps that depend on each other in a circle, are refused."""
    fill(wp)
    async with served(here, "write") as agent:
        error = await agent.refused("start_run", run_id="survey", steps=PLAN)
        assert error["code"] == "workflow_exists" and "resume_plan" in error["next"]
        circle = [{"id": "a", "depends_on": ["b"]}, {"id": "b", "depends_on": ["a"]}]
        assert (await agent.refused("start_run", run_id="w", steps=circle))["code"] == "invalid_workflow"
        assert wp.list_sessions().total == 0


async def test_a_write_to_what_is_not_there_leaves_nothing_behind(wp: Waypost, here: str) -> None:
    """A run id that is mistyped makes no claim, and a write that fails keeps none."""
    fill(wp)
    async with served(here, "write") as agent:
        for tool, arguments in (
            ("set_step", {"step_id": "fetch", "action": "start"}),
            ("save_checkpoint", {}),
            ("claim_run", {}),
        ):
            assert (await agent.refused(tool, run_id="suvrey", **arguments))["code"] == "workflow_not_found"
        assert wp.list_sessions().total == 0
        error = await agent.refused("set_step", run_id="survey", step_id="nope", action="start")
        assert error["code"] == "step_not_found"
        assert (await agent.ok("resume_plan", run_id="survey"))["claim"]["state"] == "free"


async def test_a_step_that_waits_for_others_cannot_be_started(here: str) -> None:
    """What a step depends on has to be finished first, and the refusal says so."""
    async with served(here, "write") as agent:
        await agent.ok("start_run", run_id="w", steps=PLAN)
        error = await agent.refused("set_step", run_id="w", step_id="parse", action="start")
    assert (error["code"], error["retryable"]) == ("dependency_unfinished", True)


async def test_x18_a_server_that_was_not_started_to_write_cannot(wp: Waypost, here: str) -> None:
    """The tools that write are not there, whatever is called."""
    fill(wp)
    version = wp.load_workflow_state("survey").unwrap().metadata.version
    async with served(here) as agent:
        for tool in ("start_run", "set_step", "save_checkpoint", "claim_run", "restore_checkpoint", "delete_run"):
            result = await agent.client.call_tool(tool, {"run_id": "survey", "confirm": "survey"})
            assert result.is_error and "Unknown tool" in result.content[0].text
    assert wp.load_workflow_state("survey").unwrap().metadata.version == version


async def test_x18_going_back_needs_the_id_twice(wp: Waypost, here: str) -> None:
    """A restore whose confirmation is not the id changes nothing; with it the run is what it was, as a new version."""
    kept = fill(wp)
    async with served(here, "write", "restore") as agent:
        before = (await agent.ok("get_run", run_id="survey"))["run"]
        for confirm in ("", "yes", kept[:-1], kept.upper()):
            error = await agent.refused("restore_checkpoint", checkpoint_id=kept, confirm=confirm)
            assert "nothing was changed" in error["message"]
        short = kept[:-2]
        error = await agent.refused("restore_checkpoint", checkpoint_id=short, confirm=short)
        assert error["code"] == "checkpoint_not_found"
        assert (await agent.ok("get_run", run_id="survey"))["run"] == before
        back = await agent.ok("restore_checkpoint", checkpoint_id=kept, confirm=kept)
    assert back["run"]["step_counts"]["failed"] == 0 and back["run"]["version"] > before["version"]


async def test_x18_deleting_needs_the_id_twice(wp: Waypost, here: str) -> None:
    """A deletion whose confirmation is not the id changes nothing; with it the run is gone, and so is its claim."""
    fill(wp)
    async with served(here, *ALL) as agent:
        for confirm in ("", "true", "Survey"):
            await agent.refused("delete_run", run_id="survey", confirm=confirm)
        assert (await agent.ok("list_runs"))["total"] == 1
        gone = await agent.ok("delete_run", run_id="survey", confirm="survey", operation_id="gone")
        assert gone["repeated"] is False
        again = await agent.ok("delete_run", run_id="survey", confirm="survey", operation_id="gone")
        assert (again["repeated"], again["deleted_at"]) == (True, gone["deleted_at"])
        assert (await agent.refused("delete_run", run_id="survey", confirm="survey"))["code"] == "workflow_not_found"
    with pytest.raises(WorkflowNotFound):
        wp.load_workflow_state("survey").unwrap()
    assert {session.status for session in wp.list_sessions()} == {"completed"}
