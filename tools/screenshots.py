"""Take the pictures of the page that the README and `docs/dashboard.md` show: `docs/pictures/`.

    python -m tools.screenshots [--into DIRECTORY]

A store is made in which a team of agents is in the middle of moving a shop's billing, other workflows are done, paused,
failed, or were left behind by a process that was killed; `waypost serve` shows it, and Chromium takes the pictures. The
clock of what is made is made up, so that half an hour of work is there at once.
"""

from __future__ import annotations

import argparse
import base64
import heapq
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import Page, Route, expect, sync_playwright
from tests.browser.serving import Served, chromium, served

import waypost
from waypost import WorkflowStep, clock
from waypost.blocking import Waypost

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, SCALE = 1280, 800, 1.5
QUALITY = 82
SECOND = 1_000_000

MAIN = "billing-to-v3"


# --- time ---


class MadeUpClock:
    """Wall time as the store sees it while it is filled; `at` is in seconds before now, negative ones ago."""

    def __init__(self) -> None:
        self.now_us = clock.now_us()
        self.at = 0.0
        clock.now_us = lambda: int(self.now_us + self.at * SECOND)


# --- one workflow, as agents would have done it ---


class Task(NamedTuple):
    """A step, who does it, what it needs, how long it takes, and how often it fails before it succeeds."""

    id: str
    agents: str
    needs: tuple[str, ...]
    seconds: float
    failures: int = 0


MODULES = ("accounts", "invoices", "payments", "refunds", "taxes", "reports", "webhooks", "exports")
PORTING = (118, 196, 243, 131, 88, 164, 207, 102)
TESTING = (61, 94, 122, 58, 41, 77, 108, 47)


def billing() -> list[Task]:
    """Moving the billing of a shop to another version of its interface: 39 steps of nine agents."""
    tasks = [Task("plan", "planner", (), 74)]
    areas = ("models", "routes", "jobs", "tests")
    tasks += [Task(f"survey-{each}", "reader-1 reader-2", ("plan",), 48 + 13 * at) for at, each in enumerate(areas)]
    tasks.append(Task("design", "planner", tuple(f"survey-{each}" for each in areas), 131))
    tasks += [
        Task(f"port-{each}", "coder-1 coder-2 coder-3", ("design",), PORTING[at], 1 if each == "payments" else 0)
        for at, each in enumerate(MODULES)
    ]
    tasks += [
        Task(
            f"test-{each}",
            "tester-1 tester-2",
            (f"port-{each}",),
            TESTING[at],
            {"accounts": 1, "refunds": 9}.get(each, 0),
        )
        for at, each in enumerate(MODULES)
    ]
    tasks += [
        Task(f"review-{each}", "reviewer", (f"test-{each}",), 39 + TESTING[at] / 3) for at, each in enumerate(MODULES)
    ]
    tasks += [Task("guide", "writer", ("design",), 286), Task("changelog", "writer", ("guide",), 92)]
    reviewed = tuple(f"review-{each}" for each in MODULES)
    tasks += [Task("integrate", "coder-1", reviewed, 140)]
    tasks += [Task(each, "tester-1 tester-2", ("integrate",), 120) for each in ("load-test", "security-scan")]
    tasks += [Task("release-notes", "writer", ("integrate", "changelog"), 60)]
    tasks += [
        Task("canary", "planner", ("load-test", "security-scan"), 300),
        Task("watch-canary", "planner", ("canary",), 600),
    ]
    return [*tasks, Task("deploy", "planner", ("watch-canary", "release-notes"), 120)]


Event = tuple[float, str, str, str, str | None]
"""When, which step, its new status, by whom, and with which error."""


def happened(tasks: Iterable[Task], until: float) -> Iterator[Event]:
    """What became of the tasks in so many seconds: each agent does one at a time, the first that can be begun."""
    waiting, done = list(tasks), set[str]()
    free = {agent for task in waiting for agent in task.agents.split()}
    failures = {task.id: task.failures for task in waiting}
    now, running = 0.0, list[tuple[float, str, Task]]()
    while now <= until:
        for task in list(waiting):
            agent = next((each for each in task.agents.split() if each in free), None)
            if agent is not None and done.issuperset(task.needs):
                waiting.remove(task)
                free.remove(agent)
                yield now, task.id, "running", agent, None
                part = 0.62 if failures[task.id] else 1
                heapq.heappush(running, (now + task.seconds * part, agent, task))
        if not running or running[0][0] > until:
            return
        now, agent, task = heapq.heappop(running)
        free.add(agent)
        if failures[task.id]:
            failures[task.id] -= 1
            yield now, task.id, "failed", agent, f"AssertionError: 3 of {17 + len(task.id)} cases of {task.id[5:]} fail"
            if failures[task.id] < 5:
                waiting.append(task)
        else:
            done.add(task.id)
            yield now, task.id, "completed", agent, None
        now += 1.5


def output_of(step: str) -> dict[str, Any]:
    """What a step brings, in a few fields."""
    verb, _, what = step.partition("-")
    if verb == "port":
        return {
            "branch": f"v3/{what}",
            "files": [f"billing/{what}.py", f"tests/test_{what}.py"],
            "lines": {"added": 212, "removed": 187},
        }
    if verb == "test":
        return {"passed": 17 + len(what), "failed": 0, "coverage": 0.94}
    return {"summary": f"{step} is done", "notes": ["nothing unexpected"]}


KEPT = {"survey-tests": "all surveyed", "design": "the design is agreed", "port-accounts": "first module moved"}
"""After which steps somebody makes a checkpoint, and how it is called."""


def do_billing(wp: Waypost, time: MadeUpClock) -> None:
    """The large one, in the middle of its work."""
    length = 783.0
    tasks = billing()
    time.at = -length
    steps = [
        WorkflowStep(each.id, dependencies=list(each.needs), max_retries=1 if each.failures < 2 else 8)
        for each in tasks
    ]
    wp.create_workflow(MAIN, "Move billing to v3", steps=steps).unwrap()
    variables = {"branch": "v3", "modules": list(MODULES), "reviewers": 1}
    wp.update_context(MAIN, variables=variables, configuration={"model": "large", "parallel": 8}).unwrap()
    for at, step, status, agent, error in happened(tasks, length - 3):
        time.at = at - length
        if status == "completed":
            wp.update_step_status(MAIN, step, "completed", output_of(step), agent_id=agent).unwrap()
        else:
            wp.update_step_status(MAIN, step, status, error=error, agent_id=agent).unwrap()
        if status == "completed" and step in KEPT:
            time.at += 1
            tags = ["milestone"] if step == "design" else []
            wp.create_checkpoint(MAIN, KEPT[step], tags).unwrap()


# --- the others ---


def do_all(
    wp: Waypost, time: MadeUpClock, name: str, title: str, steps: dict[str, float], ago: float, last: str
) -> None:
    """A small workflow whose steps took so many seconds each; the last of them ends as `last`."""
    time.at = -ago
    wp.create_workflow(name, title, steps=list(steps)).unwrap()
    for number, (step, seconds) in enumerate(steps.items(), 1):
        status = last if number == len(steps) else "completed"
        if status == "pending":
            return
        wp.update_step_status(name, step, "running", agent_id="worker").unwrap()
        time.at += seconds
        if status == "failed":
            error = "ConnectionError: db-2.internal did not answer within 30 s"
            wp.update_step_status(name, step, "failed", error=error, agent_id="worker").unwrap()
        elif status == "completed":
            wp.update_step_status(name, step, "completed", {"rows": 1_204 * number}, agent_id="worker").unwrap()


def fill(store: str) -> None:
    """All workflows, as they stand now. The ones that run are this process's."""
    leaving = [sys.executable, "-m", "tools.screenshots", "--leave-behind", store]
    subprocess.run(leaving, cwd=ROOT, check=False)
    time = MadeUpClock()
    wp = waypost.open(store)
    load = {"extract": 63.0, "transform": 128.0, "load": 41.0, "verify": 12.0}
    do_all(wp, time, "nightly-2026-03-02", "Nightly figures", load, 11 * 3600, "completed")
    do_all(wp, time, "nightly-2026-03-03", "Nightly figures", load, 3 * 3600, "completed")
    do_all(
        wp, time, "import-customers", "Import of customers", {"fetch": 30, "check": 22, "write": 140}, 5_400, "failed"
    )
    do_all(wp, time, "docs", "Documentation", {"build": 51, "links": 33, "publish": 8}, 4_100, "completed")
    do_all(wp, time, "digest-week-9", "Weekly digest", {"collect": 40, "write": 95, "send": 0}, 2_900, "pending")
    wp.pause_workflow("digest-week-9").unwrap()
    do_all(wp, time, "rank-model", "Train the ranking", {"sample": 140, "features": 311, "fit": 420}, 840, "running")
    wp.start_session("ann", environment={"resume_command": "python -m team billing"})
    do_billing(wp, time)
    time.at = 0


def leave_behind(store: str) -> None:
    """Work in a session, and be killed in the middle of it."""
    time = MadeUpClock()
    time.at = -6_000
    wp = waypost.open(store)
    wp.start_session("ben", environment={"resume_command": "python backfill.py --year 2024"})
    months = [f"2024-{month:02}" for month in range(1, 13)]
    wp.create_workflow("backfill-2024", "Backfill of 2024", steps=months).unwrap()
    for month in months[:7]:
        wp.update_step_status("backfill-2024", month, "running", agent_id="loader").unwrap()
        time.at += 83
        wp.update_step_status("backfill-2024", month, "completed", {"rows": 31_877}, agent_id="loader").unwrap()
    for month in months[7:9]:
        wp.update_step_status("backfill-2024", month, "running", agent_id="loader").unwrap()
    os.kill(os.getpid(), signal.SIGKILL)


# --- the pictures ---


def take(page: Page, into: Path, name: str) -> None:
    """Keep what is seen, as WebP, which Chromium itself writes."""
    page.mouse.move(0, 0)
    client = page.context.new_cdp_session(page)
    taken = client.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    data = base64.b64decode(taken["data"])
    (into / f"{name}.webp").write_bytes(data)
    print(f"{name}.webp  {len(data) / 1024:.0f} KB")


def show_list(page: Page) -> None:
    expect(page.locator("[data-view=workflows] tbody tr")).to_have_count(8)


def show_timeline(page: Page) -> None:
    page.get_by_role("link", name="Move billing to v3").click()
    expect(page.locator("[data-bar]").first).to_be_visible()


def show_graph(page: Page) -> None:
    page.get_by_role("navigation", name="Parts of the workflow").get_by_role("link", name="Graph").click()
    expect(page.locator("[data-node]").first).to_be_visible()


def show_past(page: Page) -> None:
    page.get_by_role("navigation", name="Parts of the workflow").get_by_role("link", name="Checkpoints").click()
    page.get_by_role("row").filter(has_text=KEPT["port-accounts"]).locator("[data-action=show]").click()
    expect(page.locator(".banner")).to_be_visible()
    expect(page.locator("[data-bar]").first).to_be_visible()
    page.evaluate("scrollTo(0, 0)")


def show_comparison(page: Page) -> None:
    page.get_by_role("navigation", name="Parts of the workflow").get_by_role("link", name="Checkpoints").click()
    page.get_by_role("row").filter(has_text=KEPT["design"]).locator("[data-action=compare]").click()
    expect(page.locator("[data-compare] [data-path]").first).to_be_visible()


PICTURES: dict[str, tuple[str, list[Callable[[Page], None]]]] = {
    "list": ("light", [show_list]),
    "timeline": ("light", [show_list, show_timeline]),
    "timeline-dark": ("dark", [show_list, show_timeline]),
    "graph": ("light", [show_list, show_timeline, show_graph]),
    "past": ("light", [show_list, show_timeline, show_past]),
    "comparison": ("light", [show_list, show_timeline, show_comparison]),
}
"""Each with its theme and how one gets there from the list."""


def elsewhere(route: Route) -> None:
    """Tell another place of the store than it has here: no picture shows a path of the machine that it was taken on."""
    route.fulfill(json={**route.fetch().json(), "location": "~/shop/.claude/state"})


def take_all(server: Served, into: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for name, (theme, ways) in PICTURES.items():
            page = browser.new_page(
                viewport={"width": WIDTH, "height": HEIGHT},
                device_scale_factor=SCALE,
                color_scheme=theme,
                reduced_motion="reduce",
            )
            page.route("**/api/store", elsewhere)
            page.goto(server.address())
            for way in ways:
                way(page)
            take(page, into, name)
            page.close()
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "pictures", metavar="DIRECTORY")
    parser.add_argument("--leave-behind", metavar="STORE", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.leave_behind:
        leave_behind(asked.leave_behind)
    asked.into.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory())) / ".claude" / "state"
        place.parent.mkdir()
        fill(str(place))
        take_all(stack.enter_context(served(place)), asked.into)


if __name__ == "__main__":
    main()
