"""What each address answers, of a store of each kind; and what becomes of it when the store is damaged or gone."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Pretend
from tests.mcp.conftest import handle
from tests.mcp.conftest import place as place  # a fixture
from tests.owners import owner
from tests.web.asking import Page
from waypost.blocking import Waypost
from waypost.models import WorkflowStep
from waypost.web.lately import Lately


async def test_every_address_answers_over_each_kind_of_store(filled: tuple[Page, Waypost, str]) -> None:
    """All that is read, on a directory and on a server: the shapes that docs/dashboard.md names."""
    page, wp, kept = filled
    about = await page.ok("/api/store")
    assert about["kind"] in ("directory", "postgres") and about["problems"] == [] and not about["read_only"]
    assert about["location"] == wp.location
    (row,) = (await page.ok("/api/workflows"))["items"]
    assert (row["id"], row["condition"], row["status"], row["version"]) == ("survey", "unfinished", "running", 8)
    state = await page.ok("/api/workflow", id="survey")
    assert (state["condition"], state["checkpoint_count"], state["sessions"]) == ("unfinished", 1, [])
    assert state["context"]["variables"] == {"depth": 2} and state["agents"]["robot"]["status"] == "busy"
    steps = await page.ok("/api/steps", workflow="survey")
    assert [each["id"] for each in steps["items"]] == ["fetch", "parse", "count", "report"] and steps["total"] == 4
    assert [each["version"] for each in (await page.ok("/api/outputs", workflow="survey", step="fetch"))["items"]] == [
        1
    ]
    output = await page.ok("/api/output", workflow="survey", step="fetch")
    assert (output["text"], output["media"], output["next_offset"]) == ('{\n  "rows": 3\n}', "json", None)
    assert [each["checkpoint_id"] for each in (await page.ok("/api/checkpoints", workflow="survey"))["items"]] == [kept]
    history = await page.ok("/api/history", workflow="survey", limit=2)
    assert [each["version"] for each in history["items"]] == [8, 7] and history["next_cursor"] == "7"
    assert history["items"][1]["operation"] == "update_context"
    changes = await page.ok("/api/diff", a=kept)
    assert changes["before"] == "survey@4" and changes["after"] == "survey@8" and not changes["cut"]
    assert {"path": "context.variables.depth", "change": "added", "after": 2} in changes["items"]
    assert (await page.ok("/api/sessions"))["items"] == []
    storage = await page.ok("/api/storage")
    assert storage["items"][0]["id"] == "survey" and storage["total_bytes"] >= storage["items"][0]["bytes"] > 0
    assert (storage["free_bytes"] is None) == (about["kind"] == "postgres")
    assert len((await page.ok("/api/metrics"))["activity"]) == 360
    assert "waypost_seen_commits_total 0\n" in (await page.get("/metrics")).text
    exported = await page.get("/api/export", workflow="survey")
    assert exported.header("content-disposition") == 'attachment; filename="survey.html"'
    assert "no such column" in exported.text and "&#34;rows&#34;: 3" in exported.text


async def test_what_others_commit_is_seen_at_once(filled: tuple[Page, Waypost, str]) -> None:
    """The store is open all the time, and each answer is of the newest version."""
    page, wp, _ = filled
    assert (await page.ok("/api/workflow", id="survey"))["metadata"]["version"] == 8
    wp.update_step_status("survey", "count", "running").unwrap()
    assert (await page.ok("/api/workflow", id="survey"))["condition"] == "running"
    assert (await page.ok("/api/steps", workflow="survey", offset=2, limit=1))["items"][0]["owner"][
        "liveness"
    ] == "alive"


# --- as it was ---


async def test_a_workflow_is_shown_as_it_was(page: Page, kept: str) -> None:
    """At a checkpoint its state, steps and outputs are those of then; a checkpoint of another workflow is none."""
    then = await page.ok("/api/workflow", id="survey", at=kept)
    assert then["metadata"]["version"] == 4 and then["context"]["variables"] == {} and then["at"] == kept
    steps = (await page.ok("/api/steps", workflow="survey", at=kept))["items"]
    assert [each["status"] for each in steps] == ["completed", "pending", "pending", "pending"]
    assert (await page.ok("/api/output", workflow="survey", step="fetch", at=kept))["version"] == 1
    for path, name in (("/api/workflow", "id"), ("/api/steps", "workflow")):
        error = (await page.get(path, **{name: "other", "at": kept})).error(404)
        assert error["code"] == "checkpoint_not_found"


async def test_what_ran_then_is_told_as_of_then(page: Page, wp: Waypost, as_dead_process: Pretend) -> None:
    """Whether whoever was at a step of an earlier version is alive by now, and how long ago that was, says nothing."""
    with as_dead_process():
        wp.update_step_status("survey", "count", "running").unwrap()
    at = wp.create_checkpoint("survey").unwrap().id
    assert (await page.ok("/api/workflow", id="survey"))["condition"] == "interrupted"
    then = await page.ok("/api/workflow", id="survey", at=at)
    (step,) = (await page.ok("/api/steps", workflow="survey", at=at, offset=2, limit=1))["items"]
    assert (then["condition"], step["status"], step["owner"]) == ("running", "running", None)
    assert step["end_time"] == then["metadata"]["updated_at"]


# --- lists and their pages ---


async def _all(page: Page, path: str, of: str, **parameters: Any) -> list[Any]:
    """What stands under a name in all rows, page by page."""
    found: list[Any] = []
    cursor: dict[str, Any] = {}
    for _ in range(100):
        answer = await page.ok(path, **parameters, **cursor)
        found += [each[of] for each in answer["items"]]
        if answer["next_cursor"] is None:
            return found
        cursor = {"cursor": answer["next_cursor"]}
    raise AssertionError("the list has no end")


async def test_workflows_are_listed_page_by_page(page: Page, wp: Waypost) -> None:
    """In each order, narrowed in each way, every workflow is there once, however many are on a page."""
    for number in range(7):
        wp.create_workflow(f"w{number}", f"Nightly {number % 3}", steps=["a"]).unwrap()
    wp.update_step_status("w3", "a", "running").unwrap()
    wp.update_step_status("w3", "a", "failed", error="no").unwrap()
    newest = ["w3", "w6", "w5", "w4", "w2", "w1", "w0", "survey"]
    for limit in (1, 3, 7, 8, 200):
        assert await _all(page, "/api/workflows", "id", limit=limit) == newest
        assert await _all(page, "/api/workflows", "id", limit=limit, sort="id") == sorted(newest)
        assert await _all(page, "/api/workflows", "id", limit=limit, sort="-id") == sorted(newest, reverse=True)
        for sort in ("created_at", "-size_bytes", "status"):
            assert sorted(await _all(page, "/api/workflows", "id", limit=limit, sort=sort)) == sorted(newest)
    assert await _all(page, "/api/workflows", "id", q="NIGHTLY 1", limit=1) == ["w4", "w1"]
    assert await _all(page, "/api/workflows", "id", q="urve") == ["survey"]
    assert await _all(page, "/api/workflows", "id", status="failed") == ["w3"]
    assert await _all(page, "/api/workflows", "id", status=["failed", "running"]) == ["w3", "survey"]
    assert await _all(page, "/api/workflows", "id", session="nobody") == []


async def test_a_page_of_workflows_stays_behind_the_one_before(page: Page, wp: Waypost) -> None:
    """What is changed between two pages moves to the front, and none that stayed is left out."""
    for number in range(6):
        wp.create_workflow(f"w{number}", "W", steps=["a"]).unwrap()
    first = await page.ok("/api/workflows", limit=3)
    wp.create_workflow("new", "N").unwrap()
    wp.update_step_status("w1", "a", "running").unwrap()
    second = await page.ok("/api/workflows", limit=3, cursor=first["next_cursor"])
    assert [each["id"] for each in first["items"] + second["items"]] == ["w5", "w4", "w3", "w2", "w0", "survey"]


async def test_history_and_checkpoints_are_listed_page_by_page(page: Page, wp: Waypost) -> None:
    """Each commit and each checkpoint is there once, the newest first."""
    ids = [wp.create_checkpoint("survey", str(number)).unwrap().id for number in range(5)]
    for limit in (1, 2, 6, 200):
        assert await _all(page, "/api/history", "version", workflow="survey", limit=limit) == list(range(13, 0, -1))
        found = await _all(page, "/api/checkpoints", "checkpoint_id", workflow="survey", limit=limit)
        assert found[:5] == ids[::-1] and len(found) == 6


async def test_sessions_are_told_with_evidence_and_a_plan(page: Page, wp: Waypost, here: Path) -> None:
    """One that is held is alive; nothing is carried out, and nothing is written."""
    ann = wp.start_session("ann", session_id="s1")
    wp.create_workflow("w", "W", steps=["a", "b"]).unwrap()
    wp.update_step_status("w", "a", "running").unwrap()
    (row,) = (await page.ok("/api/sessions"))["items"]
    assert (row["session_id"], row["status"], row["user_id"]) == ("s1", "active", "ann") and "lock" in row["evidence"]
    assert await _all(page, "/api/workflows", "id", session="s1") == ["w"]
    (seen,) = (await page.ok("/api/workflow", id="w"))["sessions"]
    assert (seen["id"], seen["status"]) == ("s1", "active")
    told = await page.ok("/api/session", id="s1")
    assert (told["plan"], told["command"], told["workflows"][0]["running"]) == (None, None, ["a"])
    wp.pause_session(ann.session_id).unwrap()
    told = await page.ok("/api/session", id="s1")
    assert told["status"] == "paused" and "resume_session('s1')" in told["command"]
    assert await _all(page, "/api/sessions", "session_id", limit=1, status=["paused", "active"]) == ["s1"]
    assert (await page.get("/api/session", id="s2")).error(404)["code"] == "session_not_found"


async def test_a_dead_owner_is_told_with_a_plan_that_nobody_carries_out(page: Page, here: Path) -> None:
    """What was running when it was killed may have had effects; the look leaves the session as it is."""
    with owner(here) as process:
        name = process.start_session("w")
        process.kill()
        before = sorted((each, each.stat().st_mtime_ns) for each in here.rglob("*") if each.is_file())
        (row,) = (await page.ok("/api/sessions", status="crashed"))["items"]
        assert row["session_id"] == name and "no such process" in row["evidence"]
        told = await page.ok("/api/session", id=name)
        assert (told["status"], told["plan"]["strategy"], told["plan"]["is_carried_out"]) == (
            "crashed",
            "full_recovery",
            False,
        )
        (left,) = told["workflows"]
        assert (left["done"], left["ambiguous"], left["never_started"]) == (["a"], ["b"], ["c", "d"])
        assert told["command"].startswith(f"waypost session recover {name}")
        assert (await page.ok("/api/workflow", id="w"))["condition"] == "interrupted"
        assert (await page.ok("/api/workflow", id="w"))["sessions"][0]["status"] == "crashed"
        assert sorted((each, each.stat().st_mtime_ns) for each in here.rglob("*") if each.is_file()) == before


async def test_numbers_that_json_does_not_have_are_text(page: Page, wp: Waypost) -> None:
    """What an agent reports of itself does not keep its workflow from being shown."""
    resources = {"cpu_usage": float("nan"), "cache_hit_rate": float("inf")}
    wp.update_agent_state("survey", "robot", {"resources": resources}).unwrap()
    wp.update_context("survey", variables={"n": float("-inf"), "big": 10**30}).unwrap()
    state = await page.ok("/api/workflow", id="survey")
    assert state["agents"]["robot"]["resources"]["cpu_usage"] == "nan"
    assert state["context"]["variables"] == {"depth": 2, "n": "-inf", "big": str(10**30)}
    assert (await page.ok("/api/diff", a="survey@1"))["items"]
    assert (await page.get("/api/export", workflow="survey")).status == 200


# --- outputs ---


@pytest.mark.parametrize(
    ("value", "media", "text"),
    [
        ("line\n" * 3, "text", "line\n" * 3),
        ({"a": [1, "ß"]}, "json", '{\n  "a": [\n    1,\n    "ß"\n  ]\n}'),
        ("ß漢🙂".encode() * 2, "bytes", "ß漢🙂ß漢🙂"),
        (bytes(range(18)), "bytes", None),
        (None, "json", "null"),
        ("", "text", ""),
    ],
)
async def test_outputs_are_read_piece_by_piece(
    page: Page, wp: Waypost, value: Any, media: str, text: str | None
) -> None:
    """The pieces of any size are the whole; of bytes that are no text a dump is shown, and no character is cut."""
    wp.add_step_output("survey", "count", value).unwrap()
    for limit in (4, 7, 1_000):
        read, offset = "", 0
        while offset is not None:
            piece = await page.ok("/api/output", workflow="survey", step="count", offset=offset, limit=limit)
            assert (piece["media"], piece["offset"]) == (media, offset)
            read, offset = read + piece["text"], piece["next_offset"]
        if text is not None:
            assert read == text
    raw = await page.ok("/api/output", workflow="survey", step="count", form="raw")
    if text is None:
        assert raw["text"] == bytes(range(18)).hex() and raw["encoding"] == "hex"
        pretty = (await page.ok("/api/output", workflow="survey", step="count"))["text"].split("\n")
        assert pretty[1] == f"00000010  10 11{'':42}  .."
    elif media == "json":
        assert "\n" not in raw["text"]


async def test_whole_numbers_are_told_to_their_last_digit(page: Page, wp: Waypost) -> None:
    """What JavaScript would round when it reads it is text, however deep it lies; any other number stays one."""
    big, least = 12_345_678_901_234_567_891, -(2**53)
    wp.update_context("survey", variables={"ids": [{"big": big}, 2**53 - 1], "least": least}).unwrap()
    told = (await page.ok("/api/workflow", id="survey"))["context"]["variables"]
    assert told == {"depth": 2, "ids": [{"big": str(big)}, 2**53 - 1], "least": str(least)}
    rows = (await page.ok("/api/diff", a="survey@1"))["items"]
    assert str(least) in [row.get("after") for row in rows]


async def test_x27_what_is_too_large_is_cut_or_refused(
    page: Page, wp: Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values among others are cut and say so; an output that would have to be in memory as a whole is refused."""
    long = "x" * 50_000
    wp.update_context("survey", variables={f"v{number}": long for number in range(400)}).unwrap()
    wp.create_workflow("w", long, steps=[WorkflowStep("a", long)]).unwrap()
    wp.update_step_status("w", "a", "running").unwrap()
    wp.update_step_status("w", "a", "failed", error=long).unwrap()
    answer = await page.get("/api/workflow", id="survey")
    context = answer.json()["context"]["variables"]
    assert len(answer.body) < 2_000_000 and answer.json()["cut"] and 100 < len(context) < 400
    assert context["v0"]["cut"] and context["v0"]["characters"] == 50_002
    rows = await page.get("/api/workflows")
    assert len(rows.body) < 10_000
    assert len((await page.ok("/api/steps", workflow="w"))["items"][0]["error"]) == 4_000
    changes = await page.get("/api/diff", a="survey@1")
    assert len(changes.body) < 5_000_000
    wp.add_step_output("w", "a", [long]).unwrap()
    monkeypatch.setattr("waypost.web.views.outputs.MOST_DECODED", 1_000)
    assert "50," in (await page.get("/api/output", workflow="w", step="a")).error(400)["message"]


async def test_x27_rows_that_are_too_many_are_for_the_next_page(
    page: Page, wp: Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the rows of a page weigh too much, it ends early, and the next one goes on there."""
    for number in range(9):
        wp.create_workflow(f"w{number}", "n" * 500, steps=["a"]).unwrap()
    monkeypatch.setattr("waypost.web.answers.filled.__defaults__", (2_000,))
    first = await page.ok("/api/workflows", limit=10)
    assert 1 < len(first["items"]) < 5
    assert len(await _all(page, "/api/workflows", "id", limit=10)) == 10
    assert len(await _all(page, "/api/history", "version", workflow="survey")) == 8
    monkeypatch.setattr("waypost.web.answers.filled.__defaults__", (1_000,))
    steps = await page.ok("/api/steps", workflow="survey")
    assert 0 < len(steps["items"]) < 4 == steps["total"]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        *(("/api/workflows", f"limit={limit}") for limit in ("0", "201", "-1", "x", "", " 1", "9" * 30)),
        ("/api/steps", "workflow=survey&limit=10001"),
        ("/api/output", "workflow=survey&step=fetch&limit=65537"),
        ("/api/workflows", "sort=name"),
        ("/api/workflows", "status=crashed"),
        ("/api/workflows", "cursor=x"),
        ("/api/history", "workflow=survey&cursor=0"),
        ("/api/sessions", "cursor=-1"),
        ("/api/events", "since=x"),
        ("/api/workflow", "id=survey&id=survey"),
        ("/api/workflow", ""),
        ("/api/workflow", "id=%ff"),
        ("/api/workflow", "id=%ed%a0%80"),
    ],
)
async def test_x27_numbers_and_words_outside_their_bounds_are_refused(page: Page, path: str, query: str) -> None:
    """400, with the name of what is wrong."""
    error = (await page.ask(path, query)).error(400)
    assert error["code"] in ("invalid_input", "invalid_id") and error["message"]


async def test_x06_unknown_parameters_are_refused(page: Page) -> None:
    """On each route of data, and in each body: what is not known is named, and never passed over."""
    seen = 0
    for route in page.routes:
        if route.is_exempt:
            continue
        error = (await page.ask(route.path, "nope=1")).error(400)
        assert "'nope'" in error["message"]
        seen += 1
        if "POST" in route.methods:
            answer = await page.post(route.path, {"checkpoint": "w@c1", "version": 1, "new_id": "x", "nope": 1})
            assert "nope" in answer.error(400)["message"] or "unknown field" in answer.error(400)["message"]
    assert seen >= 18


# --- when something is wrong ---


def _damage(here: Path, workflow: str) -> None:
    """Turn bytes in the middle of a workflow's log."""
    (log,) = [each for each in here.rglob("*.state") if workflow in each.name]
    data = bytearray(log.read_bytes())
    data[200:240] = bytes(40)
    log.write_bytes(data)


async def test_a_damaged_workflow_is_told_and_the_rest_goes_on(page: Page, wp: Waypost, here: Path) -> None:
    """422 with file and offset where it would be shown, a row of its own in the list, and all others as before."""
    wp.create_workflow("good", "G", steps=["a"]).unwrap()
    wp.close()
    _damage(here, "survey")
    listed = await page.ok("/api/workflows")
    assert [each["id"] for each in listed["items"]] == ["good"]
    (unread,) = listed["unreadable"]
    assert (unread["id"], unread["condition"]) == ("survey", "damaged") and unread["error"]
    for path in ("/api/workflow?id", "/api/steps?workflow", "/api/export?workflow"):
        address, _, name = path.partition("?")
        error = (await page.get(address, **{name: "survey"})).error(422)
        assert error["code"] == "document_damaged" and error["details"]["file"]
    assert (await page.ok("/api/workflow", id="good"))["id"] == "good"
    assert (await page.ok("/api/storage"))["total"] == 2


async def test_a_store_that_is_gone_is_told_and_found_again(
    page: Page, wp: Waypost, here: Path, tmp_path: Path
) -> None:
    """503 as long as it is away; what comes back in its place, the same or another, is shown without a new start."""
    wp.close()
    assert (await page.ok("/api/workflow", id="survey"))["id"] == "survey"
    here.rename(tmp_path / "elsewhere")
    for path in ("/api/store", "/api/workflows", "/api/storage"):
        error = (await page.get(path)).error(503)
        assert (error["code"], error["retryable"]) == ("store_not_found", True) and "no store" in error["message"]
    assert (await page.ask("/")).status == 200
    with closing(handle(str(here))) as other:
        other.create_workflow("another", "A").unwrap()
    assert [each["id"] for each in (await page.ok("/api/workflows"))["items"]] == ["another"]
    shutil.rmtree(here)
    (await page.get("/api/workflows")).error(503)
    (tmp_path / "elsewhere").rename(here)
    assert [each["id"] for each in (await page.ok("/api/workflows"))["items"]] == ["survey"]


def test_what_is_quick_is_fresh_and_what_is_slow_is_kept_for_a_while() -> None:
    """An answer is kept for twice as long as it took, at most for the bound, and for no other store."""
    now, asked = [0.0], [0]

    def find() -> int:
        asked[0] += 1
        now[0] += 1.0
        return asked[0]

    lately: Lately[int] = Lately(5.0, lambda: now[0])
    one, other = object(), object()
    assert [lately.get(one, find), lately.get(one, find)] == [1, 1]
    now[0] += 1.9  # of the two seconds
    assert lately.get(one, find) == 1
    now[0] += 0.2
    assert lately.get(one, find) == 2 and lately.get(other, find) == 3
    quick: Lately[int] = Lately(5.0, lambda: now[0])
    assert [quick.get(one, lambda number=number: number) for number in range(3)] == [0, 1, 2]
