"""The page in a real browser: what it shows, now, live and of the past, and what can be done from it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import Visit
from tests.browser.serving import served
from tests.browser.wire import Wire
from tests.conftest import opened
from waypost import Workflow, WorkflowState, WorkflowStep
from waypost.blocking import Waypost

MOST_MS = 1_000
"""What the timeline and the graph of 1,000 steps may take."""


def begin(wp: Waypost, name: str, *steps: str) -> str:
    """A workflow whose first step is completed and whose second one runs. Gives the id of a checkpoint made between."""
    wp.create_workflow(name, f"Called {name}", steps=[WorkflowStep(each) for each in steps or ("a", "b", "c")]).unwrap()
    names = [step.id for step in wp.load_workflow_state(name).unwrap().workflow.steps]
    wp.update_step_status(name, names[0], "running", agent_id="robot").unwrap()
    wp.update_step_status(name, names[0], "completed", {"said": "done"}).unwrap()
    kept = wp.create_checkpoint(name, f"kept of {name}", ["milestone"]).unwrap()
    wp.update_step_status(name, names[1], "running", agent_id="robot").unwrap()
    return kept.id


def row_of(page: Page, workflow: str) -> Locator:
    return page.locator(f'[data-view=workflows] [data-row="{workflow}"]')


def shown(page: Page) -> list[str]:
    """The ids of the workflows that are listed."""
    return page.locator("[data-view=workflows] tbody tr").evaluate_all("rows => rows.map(row => row.dataset.workflow)")


# --- the list ---


def test_filters_stand_in_the_address(wp: Waypost, visit: Visit) -> None:
    """Loaded anew, or gone back to, the list is the one that was chosen."""
    for name in ("pick-1", "pick-2", "other-1"):
        wp.create_workflow(name, name, steps=["a"]).unwrap()
    wp.update_step_status("pick-2", "a", "running").unwrap()
    wp.update_step_status("pick-2", "a", "failed", error="no such table").unwrap()
    page = visit(q="pick-")
    expect(row_of(page, "pick-1")).to_be_visible()
    assert sorted(shown(page)) == ["pick-1", "pick-2"]
    chip = page.get_by_role("group", name="Status").get_by_role("button", name="failed")
    chip.click()
    expect(row_of(page, "pick-1")).to_have_count(0)
    expect(row_of(page, "pick-2")).to_contain_text("no such table")
    expect(page).to_have_url(re.compile(r"/\?(?=.*q=pick-)(?=.*status=failed)"))
    page.reload()
    expect(row_of(page, "pick-2")).to_be_visible()
    expect(chip).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("searchbox", name="Name or id")).to_have_value("pick-")
    assert shown(page) == ["pick-2"]
    page.go_back()
    expect(row_of(page, "pick-1")).to_be_visible()
    expect(chip).to_have_attribute("aria-pressed", "false")
    page.get_by_role("searchbox", name="Name or id").fill("other-")
    expect(row_of(page, "other-1")).to_be_visible()
    expect(page).to_have_url(re.compile("q=other-"))


def test_a_long_list_comes_by_pages(wp: Waypost, visit: Visit) -> None:
    """More are shown when they are asked for, each once, and stay when something changes."""
    names = [f"many-{number:03}" for number in range(130)]
    for name in names:
        wp.create_workflow(name, name, steps=["a"]).unwrap()
    page = visit(q="many-", sort="id")
    expect(row_of(page, names[0])).to_be_visible()
    assert 0 < len(shown(page)) < len(names)
    page.get_by_role("button", name="More workflows").click()
    expect(row_of(page, names[-1])).to_be_visible()
    expect(page.get_by_role("button", name="More workflows")).to_have_count(0)
    assert shown(page) == names
    wp.update_step_status(names[0], "a", "running").unwrap()
    expect(row_of(page, names[0])).to_contain_text("running")
    assert shown(page) == names


# --- live ---


def test_a_change_is_seen_without_loading_anew(wp: Waypost, visit: Visit) -> None:
    """What another process commits shows in the row, the workflow and its timeline; what has the focus keeps it."""
    begin(wp, "live-1")
    page = visit(q="live-")
    row = row_of(page, "live-1")
    expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuetext", "1 of 3 steps")
    expect(page.locator("[data-live=live]")).to_be_visible()
    page.evaluate("window.isSame = true")
    row.get_by_role("link", name="Called live-1").focus()
    wp.update_step_status("live-1", "b", "completed").unwrap()
    expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuetext", "2 of 3 steps")
    expect(row.get_by_role("link", name="Called live-1")).to_be_focused()
    wp.create_workflow("live-2", "Born later", steps=["a"]).unwrap()
    expect(row_of(page, "live-2")).to_contain_text("Born later")
    row.get_by_role("link", name="Called live-1").click()
    expect(page.get_by_role("heading", name="Called live-1")).to_be_visible()
    wp.update_step_status("live-1", "c", "running", agent_id="late").unwrap()
    expect(page.get_by_role("button", name=re.compile("^c: running, late"))).to_be_visible()
    wp.update_step_status("live-1", "c", "failed", error="the disk is full").unwrap()
    expect(page.locator("[data-evidence]")).to_contain_text("the disk is full")
    expect(page.locator("#announcements")).to_have_text("live-1 is now failed")
    assert page.evaluate("window.isSame")


def test_a_lost_stream_is_said_and_found_again(wp: Waypost, visit: Visit) -> None:
    """What is there stays to be seen, and what was committed meanwhile is shown then."""
    begin(wp, "lost-1")
    with Wire() as wire:
        page = visit(q="lost-", options={"proxy": {"server": wire.address}})
        progress = row_of(page, "lost-1").get_by_role("progressbar")
        expect(progress).to_have_attribute("aria-valuetext", "1 of 3 steps")
        expect(page.locator("[data-live]")).to_have_text("Live")
        wire.cut()
        expect(page.locator("[data-live]")).to_have_text("Connection lost")
        wp.update_step_status("lost-1", "b", "completed").unwrap()
        expect(progress).to_have_attribute("aria-valuetext", "1 of 3 steps")
        wire.mend()
        expect(progress).to_have_attribute("aria-valuetext", "2 of 3 steps")
        expect(page.locator("[data-live]")).to_have_text("Live")
        page.close()


def test_more_is_shown_also_where_the_list_is_just_being_looked_for_again(wp: Waypost, visit: Visit) -> None:
    """A click that comes while an answer is awaited is not lost."""
    names = [f"busy-{number:03}" for number in range(130)]
    for name in names:
        wp.create_workflow(name, name, steps=["a"]).unwrap()
    page = visit(q="busy-", sort="id")
    expect(row_of(page, names[0])).to_be_visible()
    held: list[Route] = []
    page.route("**/api/workflows?*", lambda route: held.append(route) if not held else route.continue_())
    with page.expect_request("**/api/workflows?*"):
        wp.update_step_status(names[0], "a", "running").unwrap()
    page.get_by_role("button", name="More workflows").click()
    assert names[-1] not in shown(page)
    held[0].continue_()
    expect(row_of(page, names[-1])).to_be_visible()
    assert shown(page) == names


LATE = """
(() => {
  const given = window.fetch;
  window.fetch = async (where, options) => {
    const response = await given(where, options);
    if (response.status !== 401 || !String(where).startsWith("/api/events")) return response;
    const body = new ReadableStream({ start: (sink) => (window.release = () => sink.close()) });
    document.documentElement.dataset.held = "";
    return new Response(body, { status: 401 });
  };
})();
"""
"""An answer that refuses the stream ends when it is told to."""


def test_a_late_answer_to_an_earlier_token_changes_nothing(visit: Visit, tmp_path: Path) -> None:
    """What was said to a token that is no longer in use neither ends the stream of the new one nor asks for another."""
    with opened(tmp_path / "state") as wp:
        begin(wp, "late-1")
    with served(tmp_path / "state") as first:
        page = visit(at=first)
        expect(page.locator("[data-live]")).to_have_text("Live")
        page.evaluate(LATE)
        first.end()
    expect(page.locator("[data-live]")).to_have_text("Connection lost")
    with served(tmp_path / "state", "--port", str(first.port)) as second:
        expect(page.locator("html[data-held]")).to_be_attached()
        page.get_by_role("dialog").get_by_label("Token").fill(second.address())
        page.keyboard.press("Enter")
        expect(page.locator("[data-live]")).to_have_text("Live")
        page.evaluate("window.release()")
        page.get_by_role("link", name="Workflows", exact=True).click()
        expect(row_of(page, "late-1")).to_be_visible()
        expect(page.locator("[data-live]")).to_have_text("Live")
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.close()


def test_another_start_of_the_server_asks_for_its_token(visit: Visit, tmp_path: Path) -> None:
    """A server that ends is said, with what it showed still there; the next one at its port has another token."""
    with opened(tmp_path / "state") as wp:
        begin(wp, "kept-1")
    with served(tmp_path / "state") as first:
        page = visit(at=first)
        expect(row_of(page, "kept-1")).to_be_visible()
        first.end()
    expect(page.locator("[data-live]")).to_have_text("Connection lost")
    expect(row_of(page, "kept-1")).to_be_visible()
    with served(tmp_path / "state", "--port", str(first.port)) as second:
        field = page.get_by_role("dialog").get_by_label("Token")
        expect(field).to_be_focused()
        field.fill(second.address())
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.locator("[data-live]")).to_have_text("Live")
        expect(row_of(page, "kept-1")).to_be_visible()
        page.close()


# --- a large one ---


def make_large(wp: Waypost, name: str) -> None:
    """1,000 steps of eight agents, in twenty fans that are joined, one behind the other; 900 of them have ended."""
    began = datetime(2026, 3, 1, 12, tzinfo=UTC)
    steps: list[WorkflowStep] = []
    for number in range(1_000):
        first, place = number - number % 50, number % 50
        needs = [first - 1] if place == 0 and first else range(first + 1, first + 49) if place == 49 else [first]
        step = WorkflowStep(f"step-{number}", dependencies=[f"step-{each}" for each in needs if each != number])
        if number < 900:
            step.status = "failed" if number % 97 == 96 else "completed"
            step.agent_id = f"agent-{number % 8}"
            step.start_time = began + timedelta(seconds=number // 8 * 5)
            step.end_time = step.start_time + timedelta(seconds=1 + number % 5)
        steps.append(step)
    wp.save_workflow_state(WorkflowState(workflow=Workflow(name, "A large one", steps=steps))).unwrap()


def measure(page: Page, name: str) -> float:
    """The shortest of the measures that the page has left under a name, in milliseconds: what drawing takes where the
    machine has nothing else to do.
    """
    found: list[float] = page.evaluate("name => performance.getEntriesByName(name).map(each => each.duration)", name)
    assert found, name
    return min(found)


def test_a_thousand_steps_are_drawn_within_a_second(wp: Waypost, visit: Visit) -> None:
    """All that have begun are in the timeline, each step is in the graph, and each picture is drawn fast enough."""
    make_large(wp, "large")
    page = visit("/workflow", id="large")
    expect(page.locator("[data-bar]")).to_have_count(900)
    expect(page.get_by_role("region", name="Not started").get_by_role("button")).to_have_count(100)
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Zoom to fit").click()
    expect(page.locator("[data-bar]")).to_have_count(900)
    assert measure(page, "draw timeline") < MOST_MS
    page.get_by_role("link", name="Graph").click()
    nodes = page.locator("[data-node]")
    expect(nodes.first).to_be_visible()
    # the fans, and the end of each with the beginning of the next one
    expect(page.locator("[data-group]")).to_have_count(39)
    assert nodes.evaluate_all("all => all.reduce((sum, one) => sum + Number(one.dataset.group ?? 1), 0)") == 1_000
    page.evaluate("performance.clearMeasures()")
    page.get_by_role("checkbox", name="Put together what is alike").uncheck()
    expect(nodes).to_have_count(1_000)
    page.set_viewport_size({"width": 1_000, "height": 700})
    page.wait_for_function("() => performance.getEntriesByName('draw graph').length > 1")
    assert measure(page, "draw graph") < MOST_MS
    edges = page.locator(".edge").evaluate_all("all => all.map(one => [one.dataset.from, one.dataset.to])")
    steps = wp.load_workflow_state("large").unwrap().workflow.steps
    assert sorted(edges) == sorted([needed, step.id] for step in steps for needed in step.dependencies)


def test_outputs_are_read_pretty_and_raw_by_pages(wp: Waypost, visit: Visit) -> None:
    """A long output comes by pages, which together are the whole of it; each version can be chosen."""
    begin(wp, "told", "short", "long")
    wp.update_step_status("told", "long", "completed", {"first": {"deep": [1, 2]}}).unwrap()
    text = "".join(f"line {number:06}\n" for number in range(12_000))
    wp.add_step_output("told", "long", text).unwrap()
    page = visit("/workflow", id="told", tab="outputs")
    page.get_by_role("navigation", name="Steps with an output").get_by_role("link", name="long").click()
    output = page.locator("[data-output]")
    expect(output).to_contain_text("line 000001")
    more = page.get_by_role("button", name="Show more of it")
    pages = 1
    while more.count():
        before = len(output.text_content() or "")
        more.click()
        page.wait_for_function(
            "length => document.querySelector('[data-output]').textContent.length > length", arg=before
        )
        pages += 1
    assert pages >= 3
    assert output.text_content() == text
    page.get_by_label("Version").select_option("1")
    expect(output).to_contain_text('"deep"')
    assert "\n" in (output.text_content() or "")
    page.get_by_role("button", name="Raw").click()
    expect(output).to_have_text('{"first": {"deep": [1, 2]}}')


# --- the past ---


def test_a_checkpoint_shows_the_state_of_then(wp: Waypost, visit: Visit) -> None:
    """All of the page is of then, and says so; keys step through; two moments are compared."""
    kept = begin(wp, "past")
    wp.update_step_status("past", "b", "completed", {"said": "later"}).unwrap()
    page = visit("/workflow", id="past", tab="checkpoints")
    page.get_by_role("link", name=f"Show the state at {kept}").click()
    expect(page.get_by_role("status").filter(has_text="You see the past")).to_contain_text("kept of past")
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuetext", "1 of 3 steps")
    expect(page.get_by_role("region", name="Not started").get_by_role("button")).to_have_text(["b", "c"])
    expect(page).to_have_url(re.compile(rf"at={quote(kept, safe='')}$"))
    wp.update_step_status("past", "c", "running").unwrap()  # what is past does not move
    page.keyboard.press("[")
    travel = page.get_by_role("region", name="Time travel")
    expect(travel).not_to_have_attribute("data-at", kept)
    page.keyboard.press("]")
    expect(travel).to_have_attribute("data-at", kept)
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuetext", "1 of 3 steps")
    page.get_by_role("link", name="Back to now").click()
    expect(travel).to_have_attribute("data-at", "now")
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuetext", "2 of 3 steps")
    page.goto(page.url.partition("?")[0] + f"?id=past&tab=checkpoints&compare={kept}")
    comparison = page.get_by_role("region", name="What changed")
    status = comparison.locator('[data-path="steps.b.status"]')
    expect(status).to_have_attribute("data-change", "changed")
    expect(status).to_have_text(re.compile("not started.*completed"))
    expect(comparison.locator('[data-path="steps.b.output_version"]')).to_contain_text(re.compile("0.*1"))
    expect(comparison.locator('[data-path^="steps.a"]')).to_have_count(0)


def ask(page: Page, action: str, checkpoint: str) -> Locator:
    """The dialog that comes when a checkpoint is to be restored or forked, with its preview."""
    page.get_by_role("button", name=f"{action} {checkpoint}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("[data-action=confirm]")).to_be_enabled()
    return dialog


def version_of(wp: Waypost, workflow: str) -> int:
    return wp.load_workflow_state(workflow).unwrap().metadata.version


def test_a_restore_is_shown_asked_and_done(wp: Waypost, visit: Visit) -> None:
    """Nothing is done before the reader has seen what will change and said yes."""
    kept = begin(wp, "back")
    wp.update_step_status("back", "b", "failed", error="no").unwrap()
    before = version_of(wp, "back")
    page = visit("/workflow", id="back", tab="checkpoints")
    dialog = ask(page, "Restore", kept)
    expect(dialog.locator('[data-path="steps.b.status"]')).to_contain_text("failed")
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert version_of(wp, "back") == before
    dialog = ask(page, "Restore", kept)
    dialog.locator("[data-action=confirm]").click()
    expect(dialog.locator("[data-done=restore]")).to_contain_text(f"version {before + 1}")
    state = wp.load_workflow_state("back").unwrap()
    assert [step.status for step in state.workflow.steps] == ["completed", "pending", "pending"]
    dialog.get_by_role("button", name="Show it").click()
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuetext", "1 of 3 steps")


def test_a_restore_overwrites_nothing_that_it_did_not_show(wp: Waypost, visit: Visit) -> None:
    """What was committed since the preview stays; the reader is told, and shown what would change now."""
    kept = begin(wp, "meanwhile")
    wp.update_step_status("meanwhile", "b", "completed").unwrap()
    page = visit("/workflow", id="meanwhile", tab="checkpoints")
    dialog = ask(page, "Restore", kept)
    wp.update_step_status("meanwhile", "c", "running").unwrap()
    wp.update_step_status("meanwhile", "c", "completed", {"n": 1}).unwrap()
    now = version_of(wp, "meanwhile")
    dialog.locator("[data-action=confirm]").click()
    expect(dialog.get_by_role("alert")).to_be_visible()
    expect(dialog).to_contain_text("It has changed since")
    assert version_of(wp, "meanwhile") == now
    expect(dialog.locator('[data-path="steps.c.status"]')).to_be_visible()
    dialog.locator("[data-action=confirm]").click()
    expect(dialog.locator("[data-done=restore]")).to_be_visible()
    assert version_of(wp, "meanwhile") == now + 1


def test_a_fork_is_another_workflow(wp: Waypost, visit: Visit) -> None:
    """Its id is the reader's to choose; one that is taken is refused before anything is done."""
    kept = begin(wp, "root")
    page = visit("/workflow", id="root", tab="checkpoints")
    dialog = ask(page, "Fork", kept)
    name = dialog.get_by_label("Id of the new workflow")
    name.fill("root")
    expect(dialog.locator("[data-action=confirm]")).to_be_disabled()
    expect(dialog).to_contain_text("'root' already")
    name.fill("branch/1 ?&#")
    expect(dialog.locator("[data-action=confirm]")).to_be_enabled()
    name.fill("branch")
    expect(dialog.locator("[data-action=confirm]")).to_be_enabled()
    dialog.locator("[data-action=confirm]").click()
    dialog.get_by_role("button", name="Show it").click()
    expect(page).to_have_url(re.compile(r"/workflow\?id=branch$"))
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuetext", "1 of 3 steps")
    assert wp.load_workflow_state("branch").unwrap().step("a").output == {"said": "done"}


def test_a_server_that_only_shows_changes_nothing(visit: Visit, tmp_path: Path) -> None:
    """The page says so and offers no change, and the server refuses one that is sent all the same."""
    with opened(tmp_path / "state") as wp:
        kept = begin(wp, "still")
        before = version_of(wp, "still")
    with served(tmp_path / "state", "--read-only") as one:
        page = visit("/workflow", at=one, id="still", tab="checkpoints")
        expect(page.get_by_role("banner")).to_contain_text("read only")
        expect(page.get_by_role("link", name=f"Show the state at {kept}")).to_be_visible()
        for action in ("Restore", "Fork"):
            button = page.get_by_role("button", name=f"{action} {kept}")
            assert button.count() == 0 or button.is_disabled(), action
        headers = {"authorization": f"Bearer {one.token}"}
        answer = page.request.post(
            f"{one.origin}/api/restore", data={"checkpoint": kept, "version": before}, headers=headers
        )
        assert answer.status == 403, answer.text()
        page.close()
    with opened(tmp_path / "state") as wp:
        assert version_of(wp, "still") == before


# --- crashes ---

DIES = """
import os, signal, sys, waypost
wp = waypost.open(sys.argv[1])
session = wp.start_session("ann", environment={"resume_command": "python nightly.py"})
wp.create_workflow("nightly", "Nightly", steps=["load", "check", "report"]).unwrap()
wp.update_step_status("nightly", "load", "running").unwrap()
wp.update_step_status("nightly", "load", "completed", {"rows": 3}).unwrap()
wp.update_step_status("nightly", "check", "running").unwrap()
print(session.session_id, os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_owner_is_told_with_evidence_and_a_plan(wp: Waypost, visit: Visit, place: Path) -> None:
    """Who died, how that is known, what was done, may have been done and never began, and how to go on."""
    ran = subprocess.run([sys.executable, "-c", DIES, str(place)], capture_output=True, text=True, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    session, pid = ran.stdout.split()
    page = visit("/sessions", status="crashed")
    row = page.locator(f'[data-row="{session}"]')
    expect(row).to_contain_text("crashed")
    expect(row).to_contain_text(f"process {pid}")
    row.get_by_role("link").click()
    expect(page.locator("[data-evidence=crashed]")).to_contain_text(f"process {pid}")
    for group, step in (("done", "load"), ("ambiguous", "check"), ("never_started", "report")):
        part = page.locator(f"[data-workflow=nightly] [data-group={group}]")
        if part.get_attribute("open") is None:
            part.locator("summary").click()
        expect(part.get_by_role("link")).to_have_text([step])
    expect(page.locator("[data-plan]")).to_contain_text("nothing has been done")
    expect(page.locator("[data-plan] .command")).to_contain_text("python nightly.py")
    page.locator("[data-workflow=nightly]").get_by_role("link", name="nightly").click()
    expect(page.locator("[data-evidence]")).to_contain_text("Interrupted: 1 step was running")
    assert wp.get_session(session).status == "crashed"  # looking has recovered nothing
    expect(page.get_by_role("button", name=re.compile("^check: interrupted"))).to_be_visible()
