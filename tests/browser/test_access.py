"""The page for everyone: by keys alone, in the dark, on a narrow screen, and as a screen reader is told of it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit, go
from waypost import WorkflowStep
from waypost.blocking import Waypost

RULES = {
    "light": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
    "dark": {"type": "rule", "values": ["color-contrast"]},
}
"""What is checked: in the dark the elements are the same, and only the colours are others."""


@pytest.fixture(scope="module")
def kept(wp: Waypost) -> str:
    """A store with something of everything. Gives a checkpoint of the workflow `w-1`."""
    wp.start_session("ann", environment={"resume_command": "python nightly.py"}, session_id="session-1")
    for number in (1, 2, 3):
        names = ["fetch", "parse", "check", "report", "send"]
        steps = [WorkflowStep(each, dependencies=names[:at][-1:]) for at, each in enumerate(names)]
        wp.create_workflow(f"w-{number}", f"Nightly report {number}", steps=steps).unwrap()
        wp.update_step_status(f"w-{number}", "fetch", "running", agent_id="fetcher").unwrap()
        wp.update_step_status(f"w-{number}", "fetch", "completed", {"rows": [1, 2, 3]}).unwrap()
    wp.update_step_status("w-1", "parse", "running", agent_id="parser").unwrap()
    wp.update_step_status("w-2", "parse", "running", agent_id="parser").unwrap()
    wp.update_step_status("w-2", "parse", "failed", error="no such column: total").unwrap()
    wp.update_step_status("w-3", "parse", "skipped").unwrap()
    wp.pause_workflow("w-3").unwrap()
    wp.update_context("w-1", variables={"depth": 2}, configuration={"retries": {"most": 3}}).unwrap()
    wp.add_step_output("w-1", "fetch", "as text " * 400).unwrap()
    kept = wp.create_checkpoint("w-1", "before the check", ["milestone"]).unwrap()
    wp.update_step_status("w-1", "parse", "completed", {"n": 3}).unwrap()
    wp.update_step_status("w-1", "check", "running", agent_id="a checker with a rather long name").unwrap()
    return kept.id


def views(kept: str) -> dict[str, str]:
    """Addresses by what is seen there."""
    one = "/workflow?id=w-1"
    tabs = ("timeline", "graph", "steps", "agents", "outputs", "checkpoints", "history", "context")
    return {
        "workflows": "/",
        "none": "/?q=nothing-like-that",
        **{tab: f"{one}&tab={tab}" for tab in tabs},
        "step": f"{one}&step=parse",
        "output": f"{one}&tab=outputs&step=fetch",
        "past": f"{one}&at={kept}",
        "comparison": f"{one}&tab=checkpoints&compare={kept}",
        "failed": "/workflow?id=w-2",
        "missing": "/workflow?id=no-such-workflow",
        "sessions": "/sessions",
        "session": "/session?id=session-1",
        "storage": "/storage",
        "performance": "/performance",
    }


# --- as it is told ---


def violations(page: Page, where: str, scheme: str) -> list[str]:
    """What axe-core finds: where, by which rule, at which element, and what is amiss."""
    page.evaluate("scrollTo(0, 0)")  # what has gone below the frame is no target
    found = page.evaluate(
        "rules => axe.run({resultTypes: ['violations'], runOnly: rules}).then(found => found.violations)", RULES[scheme]
    )
    return [
        f"{where}: {rule['id']}: {node['html'][:160]} {node.get('failureSummary', '')}"
        for rule in found
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_passes_the_check_of_accessibility(visit: Visit, kept: str, scheme: str) -> None:
    """Names, roles, labels, order of headings and contrast, in light and dark, of the dialogs too."""
    page = visit(options={"color_scheme": scheme, "reduced_motion": "reduce"})
    page.evaluate(AXE_SCRIPT)  # once: all views are of one document
    found: list[str] = []
    for name, address in views(kept).items():
        go(page, address)
        found += violations(page, name, scheme)
    go(page, "/workflow?id=w-1&tab=checkpoints")
    page.get_by_role("button", name=f"Restore {kept}").click()
    expect(page.get_by_role("dialog").locator("[data-action=confirm]")).to_be_enabled()
    found += violations(page, "restore", scheme)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    found += violations(page, "help", scheme)
    assert not found, "\n".join(found)


def test_the_order_of_focus_is_the_order_of_reading(visit: Visit, kept: str) -> None:
    """The first stop leads past the frame to the content; every stop is seen and named, and none is a trap."""
    page = visit("/workflow", id="w-1", tab="steps")
    expect(page.get_by_role("table", name="Steps")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    stops: list[dict[str, Any]] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            """() => {
              const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
              return {
                name: one.getAttribute("aria-label") ?? one.innerText ?? "", tag: one.nodeName, top: box.top + scrollY,
                isOutlined: parseFloat(style.outlineWidth) > 0 && style.outlineStyle !== "none",
                index: [...document.querySelectorAll("*")].indexOf(one),
              };
            }"""
        )
        if stop["tag"] == "BODY" or (stops and stop["index"] < stops[0]["index"]):
            break
        stops.append(stop)
    assert len(stops) > 10
    assert [each["index"] for each in stops] == sorted({each["index"] for each in stops})
    assert [each for each in stops if not each["isOutlined"]] == []
    assert [each for each in stops if not each["name"].strip() and each["tag"] != "INPUT"] == []


# --- by keys ---


def test_all_is_reached_by_keys(wp: Waypost, visit: Visit, kept: str) -> None:
    """Filter, go through the rows, copy an id, open one, go back; close what is open first; help, and theme."""
    page = visit(options={"permissions": ["clipboard-read", "clipboard-write"]})
    expect(page.locator("[data-row]")).to_have_count(3)
    page.keyboard.press("/")
    field = page.get_by_role("searchbox")
    expect(field).to_be_focused()
    page.keyboard.type("w-")
    expect(page).to_have_url(re.compile("q=w-"))
    page.keyboard.press("Escape")
    expect(field).not_to_be_focused()
    links = page.locator("[data-row-link]")
    page.keyboard.press("j")
    expect(links.nth(0)).to_be_focused()
    page.keyboard.press("j")
    expect(links.nth(1)).to_be_focused()
    page.keyboard.press("k")
    expect(links.nth(0)).to_be_focused()
    page.keyboard.press("y")
    expect(page.locator("#announcements")).to_have_text("Copied id")
    assert page.evaluate("navigator.clipboard.readText()") == links.nth(0).get_attribute("data-id")
    name = links.nth(0).inner_text()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", level=1)).to_have_text("Workflows")
    before = page.locator("html").get_attribute("data-theme")
    page.keyboard.press("t")
    expect(page.locator("html")).not_to_have_attribute("data-theme", str(before))


def test_arrow_keys_go_from_step_to_step(visit: Visit, kept: str) -> None:
    """In the timeline and in the graph one step has the focus; enter shows what is known of it, escape closes it."""
    page = visit("/workflow", id="w-1")
    page.locator('[data-bar="fetch"]').focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator('[data-bar="parse"]')).to_be_focused()
    expect(page.get_by_role("tooltip")).to_contain_text("completed")
    page.keyboard.press("Enter")
    expect(page.get_by_role("complementary", name="Step parse")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("complementary")).to_have_count(0)
    go(page, "/workflow?id=w-1&tab=graph")
    page.locator('[data-node="fetch"]').focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator('[data-node="parse"]')).to_be_focused()


# --- light and dark ---


def test_the_theme_is_the_system_s_until_one_is_chosen(visit: Visit, kept: str) -> None:
    """Then it is the chosen one, also when the page is loaded anew and the system changes."""
    page = visit(options={"color_scheme": "dark"})
    theme = page.locator("html")
    expect(page.get_by_role("button", name="Use the light theme")).to_be_visible()  # it is drawn, and follows
    expect(theme).to_have_attribute("data-theme", "dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="light")
    expect(theme).to_have_attribute("data-theme", "light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    page.get_by_role("button", name="Use the dark theme").click()
    expect(theme).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    page.reload()
    expect(theme).to_have_attribute("data-theme", "dark")
    expect(page.get_by_role("button", name="Use the light theme")).to_be_visible()


# --- narrow ---


def test_nothing_is_wider_than_a_narrow_screen(visit: Visit, kept: str) -> None:
    """At 360 pixels no view has to be moved sideways to be read."""
    page = visit(options={"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True})
    wide: dict[str, Any] = {}
    for name, address in views(kept).items():
        go(page, address)
        found = page.evaluate(
            """() => {
              if (document.documentElement.scrollWidth <= 360 && innerWidth === 360) return null;
              return [...document.querySelectorAll("main *, header *")]
                .filter(each => each.getBoundingClientRect().right > 361).map(each => each.outerHTML.slice(0, 120));
            }"""
        )
        if found is not None:
            wide[name] = found[:3]
    assert wide == {}
