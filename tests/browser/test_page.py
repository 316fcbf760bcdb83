"""The page in a real browser: what it shows, live and of the past, and what can be done from it."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Visit
from waypost.blocking import Waypost


def test_the_list_shows_what_there_is(wp: Waypost, visit: Visit) -> None:
    """Each workflow with its name, status and progress."""
    wp.create_workflow("one", "The first", steps=["a", "b"]).unwrap()
    page = visit()
    row = page.get_by_role("row").filter(has_text="The first")
    expect(row).to_contain_text("0/2")
