"""Which browser the tests of the page take, and what they say where there is none."""

from __future__ import annotations

import shutil

import pytest

from tests.browser.serving import NAMES, chromium


@pytest.fixture(autouse=True)
def nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMIUM_PROGRAM", raising=False)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)


def test_q09_without_a_browser_its_tests_are_skipped_by_name_and_fail_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer is told what was not tried; CI, which installs it, must not pass without it."""
    with pytest.raises(pytest.skip.Exception, match="chromium is not installed"):
        chromium()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="chromium is not installed"):
        chromium()


def test_the_browser_is_the_one_that_is_named_or_the_first_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names that systems give it; CHROMIUM_PROGRAM goes before all of them."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in NAMES[1:] else None)
    assert chromium() == "/usr/bin/chromium-browser"
    monkeypatch.setenv("CHROMIUM_PROGRAM", "/opt/chromium/chrome")
    assert chromium() == "/opt/chromium/chrome"
