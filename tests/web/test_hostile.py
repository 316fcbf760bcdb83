"""Hostile input and hostile content: paths as ids, markup and code in everything stored, and secrets."""

from __future__ import annotations

import html.parser
import json
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest

from tests.canary import CANARY, CONTROL, KEY, OLD_KEY, SECRETS
from tests.canary import Watch as Canaries
from tests.test_carrying import TRAVERSAL
from tests.test_workflows import REFUSED_IDS, STRANGE_IDS
from tests.web.asking import TOKEN, Page, page_of, stream
from waypost import blocking, register_type
from waypost.blocking import Waypost
from waypost.models import AgentState, WorkflowStep
from waypost.web.views import changes, export, outputs, sessions, store, workflow, workflows

TAKES: dict[str, type[msgspec.Struct]] = {
    "/api/workflows": workflows.Wanted,
    "/api/workflow": workflow.One,
    "/api/steps": workflow.Steps,
    "/api/outputs": outputs.Versions,
    "/api/output": outputs.Piece,
    "/api/checkpoints": workflow.Paged,
    "/api/history": workflow.Paged,
    "/api/diff": changes.Compared,
    "/api/restore": changes.OfCheckpoint,
    "/api/fork": changes.Fork,
    "/api/sessions": sessions.Wanted,
    "/api/session": sessions.One,
    "/api/storage": store.Storage,
    "/api/export": export.Exported,
}
"""What each route takes that takes anything but a cursor alone."""

HOSTILE = sorted(
    {each for each in (*TRAVERSAL, *STRANGE_IDS, *REFUSED_IDS) if isinstance(each, str) and each.isprintable()}
    | {"../../../../etc/passwd", "/etc/passwd", "..%2f..%2fetc%2fpasswd", "file:///etc/passwd", "a\0b", "\u202ea", "\n"}
    | {"survey@../../x", "survey@c../../../etc/passwd", "../survey@1", "survey@-1", "survey@99999999999999999999", "@"}
)
GOOD = {"id": "survey", "workflow": "survey", "step": "fetch", "a": "survey@1", "new_id": "free"}


def _parameters(kept: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Each parameter of each route, with what else the route needs."""
    for path, takes in TAKES.items():
        fields = msgspec.structs.fields(takes)
        needed = {each.name: {**GOOD, "checkpoint": kept}[each.name] for each in fields if each.required}
        for each in fields:
            yield path, each.name, needed


def _files(root: Path) -> set[tuple[str, int]]:
    return {(str(each), each.stat().st_mtime_ns) for each in root.rglob("*")}


async def test_x09_hostile_paths_are_tried_as_every_parameter(
    page: Page, wp: Waypost, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each gives an answer or a documented error, shows nothing from outside of the store, and touches no file."""
    wp.close()  # which writes what it has put off
    (tmp_path / "passwd").write_text("root:x:0:0")
    monkeypatch.chdir(tmp_path)
    before = _files(tmp_path)
    tried = 0
    for path, name, needed in _parameters(kept):
        for text in HOSTILE:
            answer = await page.get(path, **{**needed, name: text})
            assert answer.status in (200, 400, 404), (path, name, text, answer.text)
            assert b"root:" not in answer.body
            tried += 1
    assert tried > 1_000 and _files(tmp_path) == before
    assert {route.path for route in page.routes if not route.is_exempt} == {
        *TAKES, "/api/store", "/api/metrics", "/api/events", "/metrics"
    }  # fmt: skip


async def test_x09_hostile_paths_are_tried_in_every_change(page: Page, kept: str, here: Path, tmp_path: Path) -> None:
    """A fork may have any id that an id may be, and its files lie in the store; going back takes only what is there."""
    outside = {each for each in tmp_path.rglob("*") if here not in (each, *each.parents)}
    for text in HOSTILE:
        forked = await page.post("/api/fork", {"checkpoint": kept, "new_id": text})
        assert forked.status in (200, 400, 409), (text, forked.text)
        for body in ({"checkpoint": text, "new_id": "y"}, {"checkpoint": text, "version": 1}):
            path = "/api/fork" if "new_id" in body else "/api/restore"
            assert (await page.post(path, body)).status in (400, 404)
    assert {each for each in tmp_path.rglob("*") if here not in (each, *each.parents)} == outside
    ids = [each["id"] for each in (await page.ok("/api/workflows", limit=200))["items"]]
    assert len(ids) > 20 and set(ids) <= {*HOSTILE, "survey"}


def test_x27_every_text_and_number_that_is_taken_has_a_bound() -> None:
    """No field of what a route takes is without a greatest length or value, or a list of what it may be."""
    seen = 0
    for takes in {*TAKES.values(), changes.Restore}:
        for name, hint in get_type_hints(takes, include_extras=True).items():
            said = repr(hint)
            assert any(word in said for word in ("max_length=", "le=", "Literal[")), f"{takes.__name__}.{name}: {said}"
            seen += 1
    assert seen > 25


async def test_x27_an_output_that_indents_to_many_times_its_size_is_shown_on_one_line(page: Page, wp: Waypost) -> None:
    """Numbers that lie deep take a byte each in the store, and some hundred over several lines."""
    deep: Any = [1] * 300_000
    for _ in range(120):
        deep = [deep]
    wp.add_step_output("survey", "count", deep).unwrap()
    asked = {"workflow": "survey", "step": "count", "limit": 1_000}
    pretty, raw = [await page.ok("/api/output", **asked, form=form) for form in ("pretty", "raw")]
    assert pretty["text"] == raw["text"] and pretty["total_chars"] == raw["total_chars"] < 1_000_000
    exported = (await page.get("/api/export", workflow="survey")).text
    assert len(exported) < 200_000 and "[\n" + " " * 40 + "[\n" in exported


async def test_x27_an_agent_with_long_texts_and_a_long_queue_stays_one(page: Page, wp: Waypost) -> None:
    """Its texts are cut, and of its queue the beginning is given and how long it is: each field is there."""
    queue = [f"{number} {'<' * 1_000}" for number in range(10_000)]
    wp.update_agent_state("survey", "busy", {"name": "n" * 9_000, "current_task": "t" * 10**6, "task_queue": queue})
    answer = await page.get("/api/workflow", id="survey")
    busy, robot = (answer.json()["agents"][name] for name in ("busy", "robot"))
    assert set(busy) == set(robot) and (busy["status"], busy["queued"], robot["queued"]) == ("idle", 10_000, 0)
    assert len(answer.body) < 200_000 and busy["task_queue"][0].startswith("0 <") and busy["name"].endswith("n…")
    exported = await page.get("/api/export", workflow="survey")
    assert exported.status == 200 and len(exported.body) < 200_000 and b"nnn\xe2\x80\xa6" in exported.body


# --- content ---

XSS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style></pre></textarea><svg onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7*7 }}{% raw %}${7*7}<%= 7*7 %>",
    "&lt;script&gt;&#60;b&#62;",
    "'; onmouseover='alert(1)",
    "\u2028\u2029<!--<script>",
    "]]><x:script xmlns:x='http://www.w3.org/1999/xhtml'>alert(1)</x:script>",
    "\x00\x1b]0;title\x07\u202e",
]


def _fill(wp: Waypost, text: str, number: int) -> str:
    """A workflow in which every text that is stored is this one."""
    name = "".join(each for each in text if each.isprintable() and each != "\u202e") + str(number)
    session = wp.start_session(name, session_id=f"s{number}", environment={"resume_command": text, "x": {text: text}})
    wp.create_workflow(name, text, steps=[WorkflowStep(name, text)]).unwrap()
    wp.update_step_status(name, name, "running", agent_id=name).unwrap()
    wp.update_step_status(name, name, "failed", {text: [text]}, error=text).unwrap()
    wp.update_agent_state(name, name, AgentState(name, text, current_task=text, task_queue=[text])).unwrap()
    wp.update_context(
        name, variables={name: text}, configuration={"run_file": text}, features={name: {text: 1}}
    ).unwrap()
    wp.create_checkpoint(name, text, [name]).unwrap()
    wp.pause_session(session.session_id).unwrap()
    return name


class Markup(html.parser.HTMLParser):
    """The tags and attributes of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


async def test_x20_everything_stored_is_text_in_an_export(page: Page, wp: Waypost, here: Path) -> None:
    """Whatever is stored, in whatever field: the page has the tags of the template alone, and runs nothing."""
    plain = Markup((await page.get("/api/export", workflow="survey")).text)
    allowed_tags, allowed_attributes = plain.tags | {"details", "summary", "pre", "dl", "dt", "dd"}, plain.attributes
    assert "script" not in allowed_tags and not {"style", "onclick", "src", "href"} & allowed_attributes
    for number, text in enumerate(XSS):
        name = _fill(wp, text, number)
        answer = await page.get("/api/export", workflow=name)
        assert answer.status == 200 and answer.header("content-type") == "text/html; charset=utf-8"
        found = Markup(answer.text)
        assert found.tags <= allowed_tags and found.attributes <= allowed_attributes
        if "\x00" not in text and "&" not in text:
            assert sum(text in each for each in ["".join(found.texts)]) == 1
        disposition = answer.header("content-disposition") or ""
        assert disposition.isascii() and not set(disposition) & set("<>\\/\n")


async def test_x20_the_policy_of_an_export_lets_nothing_in_but_its_style(page: Page) -> None:
    """The only style is the one whose hash the policy names; no script, image, frame, font or connection may be."""
    from base64 import b64encode
    from hashlib import sha256

    text = (await page.get("/api/export", workflow="survey")).text
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert text.count("<style>") == 1 and len(style) > 500 and "url(" not in style and "@import" not in style
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = html.unescape(text.partition('http-equiv="Content-Security-Policy" content="')[2].partition('"')[0])
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert text.index("Content-Security-Policy") < text.index("<style>")
    assert "http://" not in text and "https://" not in text


async def test_x20_everything_stored_is_json_in_data(page: Page, wp: Waypost) -> None:
    """Data is JSON that says so, in which nothing is invisible, and comes back exactly."""
    for number, text in enumerate(XSS):
        name = _fill(wp, text, number)
        for path, parameters in (
            ("/api/workflows", {"q": name}),
            ("/api/workflow", {"id": name}),
            ("/api/steps", {"workflow": name}),
            ("/api/output", {"workflow": name, "step": name}),
            ("/api/checkpoints", {"workflow": name}),
            ("/api/history", {"workflow": name}),
            ("/api/session", {"id": f"s{number}"}),
        ):
            answer = await page.get(path, **parameters)
            assert answer.status == 200 and answer.header("x-content-type-options") == "nosniff"
            assert not {"\x1b", "\u202e", "\x00", "\u2028"} & set(answer.text)
        assert (await page.ok("/api/workflow", id=name))["name"] == text
        assert json.loads((await page.ok("/api/output", workflow=name, step=name))["text"]) == {text: [text]}


async def test_x12_values_of_an_application_stay_plain(page: Page, wp: Waypost) -> None:
    """An object that was stored is shown as data: nothing of its class is called."""

    class Hostile:
        pass

    built: list[Any] = []

    def decode(value: Any) -> Any:
        built.append(value)
        return Hostile()

    register_type("web-hostile", Hostile, lambda _: {"x": 1}, decode)
    wp.add_step_output("survey", "count", Hostile()).unwrap()
    values = {"run_file": Hostile(), "h": Hostile()}
    wp.start_session("ann", session_id="s", environment=values, preferences=values)
    wp.update_context("survey", variables=values, configuration=values, features=values).unwrap()
    wp.update_step_status("survey", "count", "running").unwrap()
    built.clear()  # the program itself may build what is its own
    shown = {"$type": "web-hostile", "value": {"x": 1}}
    assert json.loads((await page.ok("/api/output", workflow="survey", step="count"))["text"]) == shown
    assert (await page.ok("/api/workflow", id="survey"))["context"]["variables"]["h"] == shown
    told = await page.ok("/api/session", id="s")
    assert told["environment"]["h"] == told["preferences"]["h"] == shown and len(told["workflows"]) == 1
    assert (await page.ok("/api/sessions"))["items"][0]["environment"]["h"] == shown
    assert (await page.ok("/api/workflows"))["items"][0]["condition"] == "running"
    changes_ = (await page.ok("/api/diff", a="survey@1"))["items"]
    assert shown in [each.get("after") for each in changes_]
    assert "web-hostile" in (await page.get("/api/export", workflow="survey")).text
    assert built == []


# --- secrets ---


async def test_x22_no_secret_and_no_token_is_shown_or_logged(
    here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of secrets the names are told; neither they nor keys nor the token are in an answer, an event, or the log."""
    monkeypatch.setenv("WAYPOST_KEY", f"{KEY} {OLD_KEY}")
    caplog.set_level(logging.DEBUG)
    canaries = Canaries()
    with closing(blocking.open(here)) as wp, page_of(here) as page:
        wp.start_session("ann", session_id="survey", environment={"control": CONTROL})
        wp.create_workflow("survey", "S", steps=["fetch"]).unwrap()
        kept = wp.create_checkpoint("survey", "kept").unwrap().id
        page.site.live.start()
        async with stream(page) as reader:
            await reader.until(1)
            wp.update_context("survey", secrets=dict(SECRETS), variables={"control": CONTROL}).unwrap()
            wp.update_step_status("survey", "fetch", "running").unwrap()
            wp.update_step_status("survey", "fetch", "completed", {"n": 1}).unwrap()
            await reader.until(2)
        canaries.text("the stream", reader.data)
        for path, _, needed in _parameters(kept):
            answer = await page.get(path, **needed)
            assert answer.status == 200, answer.text
            canaries.text(path, answer.body)
        state = await page.get("/api/workflow", id="survey")
        assert sorted(SECRETS) == state.json()["context"]["secrets"] and CONTROL in state.text
        for body in ({"checkpoint": kept, "version": 1}, {"checkpoint": kept, "new_id": "y"}, {"checkpoint": CANARY}):
            path = "/api/fork" if "new_id" in body else "/api/restore"
            answer = await page.post(path, body)
            canaries.text(path, answer.body.replace(CANARY.encode(), b"") if CANARY in str(body) else answer.body)
    canaries.records([*caplog.get_records("setup"), *caplog.get_records("call")])
    canaries.check()
    assert TOKEN not in caplog.text and TOKEN.encode() not in b"".join(data for _, data in canaries.shown)


async def test_x22_no_password_of_a_location_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A server that cannot be reached is 503, named without the password that leads to it."""
    with page_of(f"postgresql://ann:{CANARY}@127.0.0.1:1/none?connect_timeout=2") as page:
        error = (await page.get("/api/workflows")).error(503)
        assert error["code"] == "store_unavailable" and CANARY not in str(error)
        assert CANARY not in page.site.source.location and CANARY not in repr(page.site.source)
    assert CANARY not in caplog.text


def test_a_store_that_was_redacted_is_shown_so(here: Path) -> None:
    """What a pattern of redaction covers was never written, so that there is nothing to show."""
    from tests.conftest import opened

    with closing(opened(here, security={"redact": ["context.variables.password"]})) as wp:
        wp.create_workflow("w", "W").unwrap()
        wp.update_context("w", variables={"password": CANARY, "other": 1}).unwrap()

    async def look() -> str:
        with page_of(here) as page:
            return (await page.get("/api/workflow", id="w")).text

    import asyncio

    text = asyncio.run(look())
    assert CANARY not in text and "redacted" in text
