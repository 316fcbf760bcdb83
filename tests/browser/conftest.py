"""One browser and one server for each file of tests; a new context, as of a new user, for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.serving import Served, Witness, chromium, served
from tests.conftest import opened
from waypost.blocking import Waypost

PATIENCE_MS = 20_000
"""How long a condition is waited for: a machine that others use as well is no failure."""

Visit = Callable[..., Page]

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium()
    # of each file, and not of the run: as long as it runs this thread has a loop, and other tests want theirs
    with sync_playwright() as playwright:
        # no user but this one opens pages in it, and root has no other choice
        one = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield one
        one.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the store of a file's tests is."""
    return tmp_path_factory.mktemp("browser") / "state"


@pytest.fixture(scope="module")
def wp(place: Path) -> Iterator[Waypost]:
    """The store, open in this process, which is another one than the server's."""
    with opened(place) as one:
        yield one


@pytest.fixture(scope="module")
def server(wp: Waypost, place: Path) -> Iterator[Served]:
    with served(place) as one:
        yield one


@pytest.fixture
def visit(browser: Browser, server: Served) -> Iterator[Visit]:
    """Opens a view in a context of its own: `visit("/workflow", id="a")`; options of the context and the server too.

    When the test ends nothing may have happened that never may.
    """
    witnesses: list[Witness] = []
    contexts: list[Any] = []

    def visit(
        path: str = "/", *, at: Served = server, options: dict[str, Any] | None = None, **query: str | list[str]
    ) -> Page:
        context = browser.new_context(**(options or {}))
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        witnesses.append(Witness(context, at.origin))
        page = context.new_page()
        page.goto(at.address(path, **query))
        return page

    yield visit
    for context in contexts:
        context.close()
    assert [each for one in witnesses for each in one.found] == []


def go(page: Page, address: str) -> None:
    """Go to another view in the page that is open, and wait till all of it is there."""
    page.evaluate(
        """address => {
          history.pushState(null, "", address);
          dispatchEvent(new PopStateEvent("popstate"));
          return new Promise(done => setTimeout(() => requestAnimationFrame(done), 50));
        }""",
        address,
    )
    expect(page.locator("main h1, main [role=alert], main [data-empty]").first).to_be_visible()
    expect(page.locator(".waiting")).to_have_count(0)
