"""The page among enemies: what is stored, who asks without a token, pages of others, and a store that breaks."""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import corpus
from tests.browser.conftest import Visit, go
from tests.browser.serving import Served, Witness, served
from tests.conftest import opened
from waypost.blocking import Waypost

TABS = ("timeline", "graph", "steps", "agents", "outputs", "checkpoints", "history", "context")


# --- what is stored ---


@pytest.fixture(scope="module")
def kept(wp: Waypost) -> str:
    """A checkpoint of the workflow of traps."""
    return corpus.fill(wp)


def walk(kept: str) -> Iterator[str]:
    """Every view of the hostile store, one after the other; gives its address."""
    step = quote(corpus.TRAPS[0], safe="")
    for name in (corpus.WORKFLOW, corpus.OF_KEYS):
        for tab in TABS:
            yield f"/workflow?id={quote(name, safe='')}&tab={tab}"
    name = f"/workflow?id={quote(corpus.WORKFLOW, safe='')}"
    yield f"{name}&step={step}"
    yield f"{name}&tab=outputs&step={quote(corpus.TRAPS[2], safe='')}"
    yield f"{name}&at={quote(kept, safe='')}"
    yield f"{name}&tab=checkpoints&compare={quote(kept, safe='')}"
    yield from (
        "/",
        f"/?q={step}&status={step}&session={step}&sort={step}",
        f"/workflow?id={step}&tab={step}&at={step}",
    )
    yield from ("/sessions", f"/session?id={quote(corpus.SESSION, safe='')}", f"/session?id={step}")
    yield from ("/storage", "/performance")


def test_x20_what_is_stored_is_text_in_every_view(visit: Visit, server: Served, kept: str) -> None:
    """No trap in any field makes an element, runs, or asks elsewhere; what it says is shown."""
    page = visit()
    for address in walk(kept):
        go(page, address)
        assert page.evaluate(corpus.TRACES) == [], address
        assert "This page made a mistake" not in page.inner_text("body"), address
    page.goto(f"{server.origin}/workflow?id={quote(corpus.WORKFLOW, safe='')}&tab=steps")
    for trap in corpus.TRAPS:
        row = page.get_by_role("row").filter(has=page.get_by_text(trap, exact=True)).first
        expect(row).to_contain_text(f"{trap}\\u202egnp.exe\\u200b\\u2066")
    expect(page.get_by_role("row")).to_have_count(len(corpus.TRAPS) + 1)


def test_x20_dialogs_show_text_too(visit: Visit, server: Served, kept: str) -> None:
    """What a restore would change, and what a fork is called, hold traps as well."""
    page = visit("/workflow", id=corpus.WORKFLOW, tab="checkpoints")
    for action in ("restore", "fork"):
        page.locator(f'[data-checkpoint="{json.dumps(kept)[1:-1]}"] [data-action={action}]').click()
        dialog = page.get_by_role("dialog")
        expect(dialog.locator("[data-action=confirm]")).to_be_enabled()
        assert page.evaluate(corpus.TRACES) == [], action
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_x20_the_exported_page_runs_nothing(visit: Visit, browser: Browser, kept: str, tmp_path: Path) -> None:
    """Saved and opened as a file, it shows the traps as text, and asks nobody for anything."""
    page = visit("/workflow", id=corpus.WORKFLOW)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export").click()
    saved = tmp_path / "page.html"
    waiting.value.save_as(saved)
    context = browser.new_context()
    witness = Witness(context, saved.parent.as_uri())
    alone = context.new_page()
    alone.goto(saved.as_uri())
    for trap in corpus.TRAPS:
        expect(alone.get_by_text(trap).first).to_be_attached()
    made = alone.locator("script, iframe, img, base, object, embed, form, [onload], [onerror], [onfocus]")
    assert made.count() == 0
    assert alone.title() != "trapped"
    context.close()
    assert witness.found == []


# --- who is let in ---


def test_x13_without_the_token_nothing_is_shown(wp: Waypost, visit: Visit, server: Served, kept: str) -> None:
    """The page asks for it, a wrong one lets nobody in, and another tab has none."""
    page = visit(at=Served(server.process, server.origin, server.port, "x" * 43))
    dialog = page.get_by_role("dialog")
    for wrong in ("wrong", "y" * 43):
        expect(dialog.get_by_label("Token")).to_be_focused()
        expect(dialog.get_by_label("Token")).to_have_attribute("type", "password")
        assert page.locator("[data-row]").count() == 0
        dialog.get_by_label("Token").fill(wrong)
        dialog.get_by_role("button", name="Open").click()
        expect(dialog.get_by_label("Token")).to_have_value("")
    dialog.get_by_label("Token").fill(server.token)
    dialog.get_by_role("button", name="Open").click()
    expect(page.locator("[data-row]").first).to_be_visible()
    other = page.context.new_page()
    other.goto(server.origin)
    expect(other.get_by_role("dialog").get_by_label("Token")).to_be_visible()


def test_x16_the_token_is_left_in_no_place_that_lasts(visit: Visit, server: Served, kept: str) -> None:
    """It goes from the address at once, is sent in no address, and no cookie or lasting storage holds it."""
    page = visit()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    expect(page.locator("[data-row]").first).to_be_visible()
    assert page.url == f"{server.origin}/"
    page.reload()
    expect(page.locator("[data-row]").first).to_be_visible()
    page.locator("[data-action=theme]").click()
    page.get_by_role("link", name="Storage").click()
    expect(page.get_by_role("table")).to_be_visible()
    assert page.context.cookies() == []
    assert server.token not in page.evaluate(
        "JSON.stringify(localStorage) + document.cookie + JSON.stringify(history.state)"
    )
    assert server.token not in page.content()
    assert len(asked) > 5 and not any(server.token in each for each in asked)
    page.go_back()
    assert server.token not in page.url


class Empty(BaseHTTPRequestHandler):
    """A page without content."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A page of another program on this machine: browsers let it reach further than one from the net."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as one:
        Thread(target=one.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{one.server_port}/"
        one.shutdown()


def test_x16_a_page_from_elsewhere_reads_and_changes_nothing(
    browser: Browser, server: Served, wp: Waypost, kept: str, elsewhere: str
) -> None:
    """Also one that knows the token: it cannot read an answer, send a change, or put the page into a frame."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(elsewhere)
    before = wp.load_workflow_state(corpus.WORKFLOW).unwrap().metadata.version
    body = json.dumps({"checkpoint": kept, "version": before})
    tried = page.evaluate(
        """async ([origin, token, body]) => {
          const headers = {authorization: `Bearer ${token}`};
          const attempt = (path, options) => fetch(origin + path, options).then(got => got.text(), () => "refused");
          return Promise.all([
            attempt("/api/store", {headers}), attempt("/api/store", {}), attempt("/", {}),
            attempt("/api/restore", {method: "POST", headers: {...headers, "content-type": "application/json"}, body}),
            attempt("/api/restore", {method: "POST", headers: {"content-type": "text/plain"}, body}),
          ]);
        }""",
        [server.origin, server.token, body],
    )
    assert tried == ["refused"] * 5
    page.evaluate(
        """address => {
          const frame = document.createElement("iframe");
          frame.src = address;
          document.body.append(frame);
          return new Promise(done => { frame.onload = done; });
        }""",
        server.address(),
    )
    assert page.frames[1].locator("#main").count() == 0
    assert wp.load_workflow_state(corpus.WORKFLOW).unwrap().metadata.version == before
    context.close()


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("Host", "elsewhere.example", 421),
        ("Origin", "http://elsewhere.example", 403),
        ("Sec-Fetch-Site", "cross-site", 403),
    ],
)
def test_x16_what_a_foreign_page_sends_is_refused_by_the_server(
    server: Served, name: str, value: str, status: int
) -> None:
    """Not only by the browser: sent by hand, and with the token, it gets no answer either."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    headers = {"Host": f"127.0.0.1:{server.port}", "Authorization": f"Bearer {server.token}"}
    for given, expected in (({}, 200), ({name: value}, status)):
        connection.request("GET", "/api/store", headers={**headers, **given})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == expected, body
        assert answer.getheader("access-control-allow-origin") is None
    connection.close()


# --- what breaks ---


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)


def test_a_damaged_workflow_is_told_and_the_rest_stays(visit: Visit, tmp_path: Path) -> None:
    """The list says which one cannot be read; opened, it says why; the others are as they were."""
    store = tmp_path / "state"
    with opened(store) as wp:
        wp.create_workflow("sound", "Sound", steps=["a"]).unwrap()
        wp.create_workflow("broken", "Broken", steps=["a", "b"]).unwrap()
    flip_a_bit(store / "workflows/broken.state")
    with served(store, is_quiet=False) as one:
        page = visit(at=one)
        expect(page.locator("[data-row=sound]")).to_be_visible()
        expect(page.get_by_role("alert").or_(page.locator("[data-condition=damaged]")).first).to_contain_text("broken")
        page.goto(f"{one.origin}/workflow?id=broken")
        expect(page.get_by_role("alert")).to_contain_text("damaged")
        page.get_by_role("navigation", name="Views").get_by_role("link", name="Workflows").click()
        page.locator("[data-row=sound]").get_by_role("link").click()
        expect(page.get_by_role("heading", name="Sound")).to_be_visible()
        page.close()


def test_a_store_that_vanishes_is_told_and_found_again(visit: Visit, tmp_path: Path) -> None:
    """What was shown stays beside the message; put back, the store is looked at again without a hand."""
    store = tmp_path / "state"
    with opened(store) as wp:
        wp.create_workflow("away", "Away", steps=["a"]).unwrap()
    with served(store, is_quiet=False) as one:
        page = visit(at=one)
        expect(page.locator("[data-row=away]")).to_be_visible()
        shutil.move(store, tmp_path / "elsewhere")
        page.get_by_role("searchbox").fill("a")
        expect(page.get_by_role("alert").first).to_contain_text("no store")
        shutil.move(tmp_path / "elsewhere", store)
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(page.locator("[data-row=away]")).to_be_visible()
        page.close()
