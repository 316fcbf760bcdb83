"""Going back and forking: what is shown before, and that nothing happens which was not shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StoreFactory, make_config
from tests.mcp.conftest import place as place  # a fixture
from tests.web.asking import Page, page_of
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import InvalidInput, VersionConflict


async def test_a_workflow_goes_back_as_it_was_shown(filled: tuple[Page, Waypost, str]) -> None:
    """The preview says what changes and at which version; the change is one commit, and history stays."""
    page, wp, kept = filled
    preview = await page.ok("/api/restore", checkpoint=kept)
    assert (preview["version"], preview["problems"], preview["cut"]) == (8, [], False)
    assert {"path": "context.variables.depth", "change": "removed", "before": 2} in preview["items"]
    assert preview["summary"]["step_counts"]["pending"] == 3
    done = (await page.post("/api/restore", {"checkpoint": kept, "version": preview["version"]})).json()
    assert (done["workflow"], done["summary"]["version"]) == ("survey", 9)
    assert wp.load_workflow_state("survey").unwrap().step("parse").status == "pending"
    assert wp.history("survey")[0].operation == "restore_from_checkpoint"


async def test_what_was_changed_since_the_preview_is_not_undone(filled: tuple[Page, Waypost, str]) -> None:
    """409, and nothing is written: the comparison is made in the commit itself."""
    page, wp, kept = filled
    preview = await page.ok("/api/restore", checkpoint=kept)
    wp.update_step_status("survey", "count", "running").unwrap()
    error = (await page.post("/api/restore", {"checkpoint": kept, "version": preview["version"]})).error(409)
    assert error["code"] == "version_conflict" and error["details"]["version"] == 9
    assert wp.load_workflow_state("survey").unwrap().step("count").status == "running"
    again = await page.ok("/api/restore", checkpoint=kept)
    assert again["version"] == 9 and "1 of its steps are running now" in again["problems"][0]


async def test_a_checkpoint_is_forked_once(filled: tuple[Page, Waypost, str]) -> None:
    """The preview says whether the id is free; one that is taken gives 409, and the workflow of it stays as it is."""
    page, wp, kept = filled
    preview = await page.ok("/api/fork", checkpoint=kept, new_id="again")
    assert preview["problems"] == [] and preview["summary"]["id"] == "survey"
    done = (await page.post("/api/fork", {"checkpoint": kept, "new_id": "again"})).json()
    assert done["workflow"] == "again" and wp.load_workflow_state("again").unwrap().step("fetch").output == {"rows": 3}
    assert (
        "there is a workflow 'again' already"
        in (await page.ok("/api/fork", checkpoint=kept, new_id="again"))["problems"][0]
    )
    for name in ("again", "survey"):
        error = (await page.post("/api/fork", {"checkpoint": kept, "new_id": name})).error(409)
        assert error["code"] == "workflow_exists"
    assert [wp.load_workflow_state(name).unwrap().metadata.version for name in ("survey", "again")] == [8, 1]


async def test_a_workflow_of_which_only_checkpoints_are_left_comes_back(
    page: Page, wp: Waypost, kept: str, here: Path
) -> None:
    """Its version is 0 then, and going back makes it again."""
    wp.close()
    (log,) = [each for each in here.rglob("*.state") if "survey" in each.name]
    log.unlink()
    (await page.get("/api/workflow", id="survey")).error(404)
    preview = await page.ok("/api/restore", checkpoint=kept)
    assert (preview["version"], preview["items"]) == (0, [])
    assert (await page.post("/api/restore", {"checkpoint": kept, "version": 0})).status == 200
    assert (await page.ok("/api/workflow", id="survey"))["checkpoint_count"] == 1


async def test_a_damaged_checkpoint_is_told_of(page: Page, wp: Waypost, kept: str, here: Path) -> None:
    """What is damaged in its file stands in the preview, before anything is done."""
    wp.close()
    for each in (here / "checkpoints").iterdir():
        each.write_bytes(each.read_bytes()[:-20] + bytes(20))
    (problem,) = (await page.ok("/api/restore", checkpoint=kept))["problems"]
    assert "checkpoint" in problem
    assert (await page.ok("/api/fork", checkpoint=kept, new_id="x"))["problems"] == [problem]


async def test_read_only_changes_nothing(wp: Waypost, kept: str, here: Path) -> None:
    """With --read-only nothing is opened to write: 403, and the previews go on."""
    wp.close()  # which writes what it has put off
    with page_of(here, read_only=True) as page:
        assert (await page.ok("/api/store"))["read_only"] is True
        before = sorted((each, each.stat().st_mtime_ns) for each in here.rglob("*"))
        for path, body in (
            ("/api/restore", {"checkpoint": kept, "version": 8}),
            ("/api/fork", {"checkpoint": kept, "new_id": "x"}),
        ):
            error = (await page.post(path, body)).error(403)
            assert error["code"] == "store_read_only" and "--read-only" in error["message"]
        assert (await page.ok("/api/restore", checkpoint=kept))["version"] == 8
        assert sorted((each, each.stat().st_mtime_ns) for each in here.rglob("*")) == before


@pytest.mark.parametrize(
    "body",
    [
        *({}, [], "x", None, {"checkpoint": "survey@c1"}, {"checkpoint": 1, "version": 1}),
        *({"checkpoint": "", "version": 1}, {"checkpoint": "x" * 601, "version": 1}),
        *({"checkpoint": "survey@c1", "version": number} for number in (-1, "1", 1.5, True, None, 2**60)),
    ],
    ids=repr,
)
async def test_a_body_that_does_not_fit_is_refused(page: Page, body: Any) -> None:
    """400 with what is wrong, and nothing is coerced."""
    assert (await page.post("/api/restore", body)).error(400)["code"] == "invalid_input"


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"{", b"\x00", b"\xff\xfe{}", b"NaN", b"[" * 30_000, b'{"a":' * 10_000, b"1" * 60_000, b"// {}"),
        *(b'{"checkpoint":"\\ud800","version":1}', b'{"checkpoint":"survey@c1","version":1e400}', b"{'checkpoint':1}"),
        b'{"checkpoint":"survey@c1","version":' + b"9" * 5_000 + b"}",
        '{"checkpoint":"survey@c1","version":1}'.encode("utf-16"),
    ],
    ids=lambda raw: repr(raw[:20]),
)
async def test_a_body_that_is_no_json_is_refused(page: Page, raw: bytes) -> None:
    """Whatever the bytes are: 400 in words, at once."""
    headers = {"content-type": "application/json"}
    for path in ("/api/restore", "/api/fork"):
        answer = await page.ask(path, method="POST", headers=headers, body=[raw])
        assert answer.error(400)["code"] in ("invalid_input", "invalid_id")


# --- the operation behind it ---


def test_a_restore_may_name_the_version_that_it_is_for(store_factory: StoreFactory) -> None:
    """On every store: at that version it is done, at any other it fails and writes nothing."""
    config = make_config()
    wp = Waypost(Definitions(store_factory(config), config, verbose=False))
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    kept = wp.create_checkpoint("w", "kept").unwrap().id
    wp.update_step_status("w", "a", "running").unwrap()
    now = wp.load_workflow_state("w").unwrap().metadata.version
    for wrong in (0, now - 1, now + 1):
        failed = wp.restore_from_checkpoint(kept, expected_version=wrong)
        assert isinstance(failed.error, VersionConflict) and failed.error.details["version"] == now
    for nonsense in (-1, "1", True, 1.0):
        failed = wp.restore_from_checkpoint(kept, expected_version=nonsense)  # type: ignore[arg-type]
        assert isinstance(failed.error, InvalidInput)
    assert wp.load_workflow_state("w").unwrap().metadata.version == now
    assert wp.restore_from_checkpoint(kept, expected_version=now).unwrap().step("a").status == "pending"
