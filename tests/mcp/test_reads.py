"""The tools that read: what each gives of a store that somebody else fills."""

from __future__ import annotations

import base64
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import Pretend
from tests.mcp.conftest import fill, handle
from tests.mcp.serving import ALL, served
from waypost import clock
from waypost.blocking import Waypost

READS = ["status", "list_runs", "get_run", "list_steps", "get_output", "list_checkpoints", "diff", "resume_plan"]
WRITES = ["start_run", "set_step", "save_checkpoint", "claim_run"]


async def test_x18_there_are_few_tools_and_each_says_what_it_does_to_the_store(here: str) -> None:
    """Without a flag there are tools that read, with --write twelve; what takes something back needs one of its own."""
    for allowed, names in (
        ((), READS),
        (("write",), READS + WRITES),
        (("write", "restore"), [*READS, *WRITES, "restore_checkpoint"]),
        (ALL, [*READS, *WRITES, "restore_checkpoint", "delete_run"]),
    ):
        async with served(here, *allowed) as agent:
            tools = (await agent.client.list_tools()).tools
            assert [tool.name for tool in tools] == names
    for tool in tools:
        assert tool.annotations is not None and tool.output_schema is not None and tool.description
        assert tool.annotations.read_only_hint == (tool.name in READS)
        assert tool.annotations.destructive_hint == (tool.name in ("restore_checkpoint", "delete_run"))
        assert tool.annotations.open_world_hint is False
        assert tool.input_schema["additionalProperties"] is False


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_older_clients_are_served_as_well(here: str, mode: str) -> None:
    """A client that begins with a handshake, and one that knows none, see the same."""
    from mcp import Client

    from waypost.cli.invocation import Invocation
    from waypost.mcp.server import build
    from waypost.mcp.stores import Stores

    async with Client(build(Stores(Invocation(here))), mode=mode) as client:
        result = await client.call_tool("status", {})
        assert result.structured_content is not None and result.structured_content["exists"] is False


async def test_a_store_that_does_not_exist_yet_is_noticed_when_it_does(here: str) -> None:
    """Status says that there is none, other tools refuse, and nothing is made; once there is one it is read."""
    async with served(here) as agent:
        status = await agent.ok("status")
        assert (status["exists"], status["may_write"]) == (False, False) and "no store yet" in status["hint"]
        assert (await agent.refused("list_runs"))["code"] == "store_not_found"
        with closing(handle(here)) as wp:
            fill(wp)
        assert (await agent.ok("status"))["exists"] is True
        assert (await agent.ok("list_runs"))["total"] == 1


async def test_status_says_what_is_unfinished(place: str) -> None:
    """Runs are counted by condition, and those that somebody may go on with are named with what failed in them."""
    with closing(handle(place)) as wp:
        fill(wp)
        wp.create_workflow("done", "done", steps=["only"]).unwrap()
        wp.update_step_status("done", "only", "completed").unwrap()
        async with served(place) as agent:
            status = await agent.ok("status")
    assert (status["run_counts"]["unfinished"], status["run_counts"]["completed"]) == (1, 1)
    assert [(one["run_id"], one["failed"]) for one in status["unfinished"]] == [("survey", ["parse"])]
    assert status["unfinished_total"] == 1 and status["durability"] in ("power", "process")


async def test_list_runs_narrows_and_pages(wp: Waypost, here: str) -> None:
    """Runs come last changed first, page by page, each once, also where some are of the same moment."""
    for number in range(7):
        wp.create_workflow(f"run{number}", f"run{number}", steps=["a"]).unwrap()
    wp.update_step_status("run3", "a", "completed").unwrap()
    async with served(here) as agent:
        seen: list[str] = []
        page = await agent.ok("list_runs", limit=2)
        assert page["total"] == 7
        while True:
            seen += [run["run_id"] for run in page["runs"]]
            if "next_cursor" not in page:
                break
            page = await agent.ok("list_runs", limit=2, cursor=page["next_cursor"])
        assert seen == ["run3", "run6", "run5", "run4", "run2", "run1", "run0"]
        completed = await agent.ok("list_runs", status=["completed"])
        assert [run["run_id"] for run in completed["runs"]] == ["run3"]
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        assert (await agent.ok("list_runs", since=later))["runs"] == []
        # a time without a zone is one of UTC
        assert (await agent.ok("list_runs", since="2001-01-01T00:00:00"))["total"] == 7


async def test_runs_and_checkpoints_of_one_moment_are_listed_once_each(
    wp: Waypost, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many are of the same microsecond, a page goes on among them where the one before ended."""
    monkeypatch.setattr(clock, "now_us", lambda: 1_800_000_000_000_000)
    names = [f"run{number}" for number in range(7)]
    for name in names:
        wp.create_workflow(name, name).unwrap()
        wp.create_checkpoint(name).unwrap()
    async with served(here) as agent:
        for tool, rows in (("list_runs", "runs"), ("list_checkpoints", "checkpoints")):
            page = await agent.ok(tool, limit=2)
            assert len({row["updated_at" if rows == "runs" else "created_at"] for row in page[rows]}) == 1
            seen = [row["run_id"] for row in page[rows]]
            while "next_cursor" in page:
                page = await agent.ok(tool, limit=2, cursor=page["next_cursor"])
                seen += [row["run_id"] for row in page[rows]]
                assert len(seen) <= len(names), tool
            assert sorted(seen) == names, tool


async def test_get_run_shows_as_much_as_is_asked_for(wp: Waypost, here: str) -> None:
    """A summary has no steps, and only the full depth has agents and context."""
    fill(wp)
    async with served(here) as agent:
        summary = await agent.ok("get_run", run_id="survey", depth="summary")
        steps = await agent.ok("get_run", run_id="survey")
        full = await agent.ok("get_run", run_id="survey", depth="full")
    assert "steps" not in summary and summary["run"]["step_counts"]["completed"] == 1
    assert [(step["step_id"], step["status"]) for step in steps["steps"]] == [
        ("fetch", "completed"), ("parse", "failed"), ("count", "pending"), ("report", "pending")
    ]  # fmt: skip
    assert "agents" not in steps and steps["steps"][1]["error"]["text"] == "no such column"
    assert full["agents"][0]["current_task"] == "parsing"
    assert full["context"]["variables"] == [{"key": "depth", "value": {"text": "2", "characters": 1, "cut": False}}]


async def test_list_steps_narrows_and_pages(wp: Waypost, here: str) -> None:
    """Steps come in the order of the run, page by page; the cursor of get_run goes on behind what that showed."""
    wp.create_workflow("long", "long", steps=[f"s{number:03}" for number in range(230)]).unwrap()
    wp.update_step_status("long", "s200", "completed").unwrap()
    async with served(here) as agent:
        shown = await agent.ok("get_run", run_id="long")
        seen = [step["step_id"] for step in shown["steps"]]
        cursor = shown["next_cursor"]
        while cursor:
            page = await agent.ok("list_steps", run_id="long", limit=60, cursor=cursor)
            seen += [step["step_id"] for step in page["steps"]]
            cursor = page.get("next_cursor")
        assert seen == [f"s{number:03}" for number in range(230)] and page["total"] == 230
        done = await agent.ok("list_steps", run_id="long", status=["completed"])
        assert [step["step_id"] for step in done["steps"]] == ["s200"] and "next_cursor" not in done


async def test_get_output_gives_text_json_and_bytes_piece_by_piece(wp: Waypost, here: str) -> None:
    """The pieces of an output make the whole, whatever it is; an older version stays readable."""
    text, binary, blob = "zwölf Boxkämpfer\n" * 40, "größer\n".encode() * 30, bytes(range(256)) * 3
    wp.create_workflow("w", "w", steps=["text", "json", "binary", "blob"]).unwrap()
    for step, value in (("text", text), ("json", {"rows": [1, 2]}), ("binary", binary), ("blob", blob)):
        wp.add_step_output("w", step, value).unwrap()
    wp.add_step_output("w", "json", 5).unwrap()
    async with served(here) as agent:

        async def whole(step: str) -> tuple[str, str, list[str]]:
            pieces: list[str] = []
            offset: int | None = 0
            while offset is not None:
                piece = await agent.ok("get_output", run_id="w", step_id=step, offset=offset, limit=100)
                pieces.append(piece["text"])
                offset = piece.get("next_offset")
            return piece["encoding"], piece["unit"], pieces

        encoding, unit, pieces = await whole("text")
        assert (encoding, unit, "".join(pieces)) == ("text", "characters", text) and len(pieces) > 3
        encoding, unit, pieces = await whole("binary")
        assert (encoding, unit, "".join(pieces).encode()) == ("text", "bytes", binary) and len(pieces) > 2
        encoding, unit, pieces = await whole("blob")
        assert unit == "bytes" and encoding in ("base64", "text")
        data = b"".join([
            base64.b64decode(piece["text"]) if piece["encoding"] == "base64" else piece["text"].encode()
            for piece in [
                await agent.ok("get_output", run_id="w", step_id="blob", offset=offset, limit=256)
                for offset in (0, 256, 512)
            ]
        ])  # fmt: skip
        assert data == blob
        first = await agent.ok("get_output", run_id="w", step_id="json", version=1)
        assert (first["encoding"], first["text"]) == ("json", '{"rows": [1, 2]}')
        assert (await agent.ok("get_output", run_id="w", step_id="json"))["text"] == "5"
        beyond = await agent.ok("get_output", run_id="w", step_id="json", offset=99)
        assert beyond["text"] == "" and "next_offset" not in beyond


async def test_get_output_of_what_is_not_there(wp: Waypost, here: str) -> None:
    """A step without an output and a version that never was are refused, each with where to look."""
    fill(wp)
    async with served(here) as agent:
        assert (await agent.refused("get_output", run_id="survey", step_id="count"))["code"] == "output_not_found"
        error = await agent.refused("get_output", run_id="survey", step_id="fetch", version=2)
        assert error["code"] == "output_not_found" and "list_steps" in error["next"]
        assert (await agent.refused("get_output", run_id="survey", step_id="nope"))["code"] == "step_not_found"


async def test_list_checkpoints_pages_newest_first(wp: Waypost, here: str) -> None:
    """Checkpoints come newest first, each once, of one run or of all."""
    fill(wp)
    wp.create_workflow("other", "other").unwrap()
    made = [wp.create_checkpoint("survey", str(number)).unwrap().id for number in range(4)]
    made.append(wp.create_checkpoint("other").unwrap().id)
    async with served(here) as agent:
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await agent.ok("list_checkpoints", limit=2, cursor=cursor)
            seen += [one["checkpoint_id"] for one in page["checkpoints"]]
            cursor = page.get("next_cursor")
        assert seen[:5] == made[::-1] and len(seen) == len(set(seen)) == 6
        only = await agent.ok("list_checkpoints", run_id="other")
        assert [one["checkpoint_id"] for one in only["checkpoints"]] == made[-1:]
        oldest = (await agent.ok("list_checkpoints", run_id="survey"))["checkpoints"][-1]
    assert (oldest["tags"], oldest["description"]["text"]) == (["good"], "fetched")


async def test_diff_tells_what_changed(wp: Waypost, here: str) -> None:
    """Versions, checkpoints and runs can be compared, page by page."""
    kept = fill(wp)
    async with served(here) as agent:
        whole = await agent.ok("diff", a=kept, b="survey")
        paths = [change["path"]["text"] for change in whole["changes"]]
        assert "steps.parse.status" in paths and "context.variables.depth" in paths and whole["total"] == len(paths)
        status = next(change for change in whole["changes"] if change["path"]["text"] == "steps.parse.status")
        assert (status["before"]["text"], status["after"]["text"]) == ('"pending"', '"failed"')
        first = await agent.ok("diff", a=kept, b="survey", limit=1)
        rest = await agent.ok("diff", a=kept, b="survey", limit=100, cursor=first["next_cursor"])
        assert first["changes"] + rest["changes"] == whole["changes"] and "next_cursor" not in rest
        assert (await agent.ok("diff", a="survey@1", b="survey@1"))["changes"] == []
        assert (await agent.refused("diff", a="survey", b="survey@99"))["code"] == "version_not_found"


async def test_resume_plan_tells_how_to_go_on(place: str) -> None:
    """Steps are sorted by what is known of them, with the checkpoint that is whole and what to do."""
    with closing(handle(place)) as wp:
        kept = fill(wp)
        async with served(place) as agent:
            plan = await agent.ok("resume_plan", run_id="survey")
    assert {name: plan[name]["ids"] for name in ("done", "failed", "next", "waiting")} == {
        "done": ["fetch"], "failed": ["parse"], "next": ["count"], "waiting": ["report"]
    }  # fmt: skip
    assert plan["running"] == plan["interrupted"] == {"total": 0, "ids": []}
    assert (plan["good_checkpoint"], plan["claim"]) == (kept, {"state": "free"})
    assert plan["how_to_resume"] == ["Step 'parse' failed and may be started again 2 times.", "Start 'count' next."]


async def test_resume_plan_tells_dead_workers_from_living_ones(
    wp: Waypost, here: str, as_dead_process: Pretend, as_living_process: Pretend
) -> None:
    """A step of a process that died was interrupted; one of a process that lives is left alone."""
    wp.create_workflow("w", "w", steps=["dead", "alive", "new"]).unwrap()
    with as_dead_process():
        wp.update_step_status("w", "dead", "running").unwrap()
    with as_living_process():
        wp.update_step_status("w", "alive", "running").unwrap()
    async with served(here) as agent:
        plan = await agent.ok("resume_plan", run_id="w")
        steps = (await agent.ok("list_steps", run_id="w"))["steps"]
    assert (plan["interrupted"]["ids"], plan["running"]["ids"], plan["next"]["ids"]) == (["dead"], ["alive"], ["new"])
    assert [step.get("worker", {}).get("liveness") for step in steps] == ["dead", "alive", None]
    assert "'dead'" in plan["how_to_resume"][0] and "do not start it" in plan["how_to_resume"][1]


async def test_resume_plan_of_what_is_finished_paused_or_made_from_a_file(wp: Waypost, here: str) -> None:
    """A run that is over needs nothing, a paused one must be resumed, and the file of one is told as data."""
    wp.create_workflow("over", "over", steps=["a"]).unwrap()
    wp.update_step_status("over", "a", "completed").unwrap()
    wp.create_workflow("paused", "paused", steps=["a"]).unwrap()
    wp.update_context("paused", configuration={"run_file": "/srv/jobs/nightly.toml"}).unwrap()
    wp.pause_workflow("paused").unwrap()
    async with served(here) as agent:
        over, paused = [await agent.ok("resume_plan", run_id=name) for name in ("over", "paused")]
    assert over["how_to_resume"] == ["The run is completed: nothing is left to do."] and "command" not in over
    assert "paused" in paused["how_to_resume"][0]
    assert paused["command"]["text"] == "waypost run /srv/jobs/nightly.toml"


async def test_a_run_that_is_damaged_is_told_with_the_checkpoint_that_is_whole(here: str) -> None:
    """A run that cannot be read is named as such, with what there is to go back to; no tool that writes touches it."""
    with closing(handle(here)) as wp:
        kept = fill(wp)
    log = Path(here, "workflows", "survey.state")
    data = log.read_bytes()
    log.write_bytes(data[:200] + bytes(byte ^ 0xFF for byte in data[200:260]) + data[260:])
    damaged = log.read_bytes()
    async with served(here, "write") as agent:
        status = await agent.ok("status")
        assert (status["run_counts"]["damaged"], status["unfinished"][0]["condition"]) == (1, "damaged")
        plan = await agent.ok("resume_plan", run_id="survey")
        assert (plan["condition"], plan["good_checkpoint"]) == ("damaged", kept)
        assert plan["done"]["ids"] == ["fetch"] and kept in plan["how_to_resume"][0] and plan["problem"]["text"]
        for tool, arguments in (("get_run", {}), ("set_step", {"step_id": "parse", "action": "start"})):
            error = await agent.refused(tool, run_id="survey", **arguments)
            assert error["code"] == "document_damaged" and "resume_plan" in error["next"]
    assert log.read_bytes() == damaged
