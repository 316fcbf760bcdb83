"""Who is let in, and what browsers may do with each answer."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.web.asking import OWN, PORT, TOKEN, Answer, Page
from waypost.web import answers, guard, pages
from waypost.web.routes import Route

EXEMPT = {"/", "/workflow", "/sessions", "/session", "/storage", "/performance"}
CORS = "access-control-"


def every(page: Page) -> Iterator[tuple[Route, str]]:
    """Each route with each of its methods."""
    for route in page.routes:
        for method in route.methods:
            yield route, method


def assert_safe(answer: Answer) -> None:
    """What has to be on every answer."""
    for name, value in guard.HEADERS.items():
        assert answer.header(name) == value
    policy = answer.header("content-security-policy") or ""
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert answer.header("cache-control") in ("no-store", "no-cache")
    assert not [name for name, _ in answer.headers if name.startswith(CORS) or name in ("server", "set-cookie")]


# --- the token ---


async def test_x13_every_route_needs_the_token(page: Page) -> None:
    """Each method of each route that is not marked exempt gives 401 without the token, and says so as JSON."""
    seen = 0
    for route, method in every(page):
        if route.is_exempt:
            continue
        for given in (None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"):
            answer = await page.ask(route.path, method=method, headers={"authorization": given})
            assert answer.error(401)["code"] == "no_token" and answer.header("www-authenticate") == "Bearer"
            assert_safe(answer)
        seen += 1
    assert seen >= 20


async def test_x13_exempt_are_pages_and_static_files_alone(page: Page) -> None:
    """What is exempt is marked so, object by object, and is the same whatever the store holds."""
    exempt = {route.path for route in page.routes if route.is_exempt}
    static = {path for path in exempt if path.startswith("/static/")}
    assert exempt == EXEMPT | static and set(pages.PAGES) == EXEMPT
    for path in exempt:
        answer = await page.ask(path, headers={"authorization": None})
        assert answer.status == 200 and b"survey" not in answer.body
        assert_safe(answer)


@pytest.mark.parametrize(
    "path",
    [
        *("/api/store/", "//api/store", "/API/store", "/api", "/api/", "/static", "/static/", "/static/..", "/x"),
        *("/static/../api/store", "/workflow/", "/static/app.js/", "/./", "", "/api/store\0", "/metrics/", "/%2e%2e"),
    ],
)
async def test_x13_nothing_is_found_by_the_beginning_of_a_path(page: Page, path: str) -> None:
    """An address that is no route gives 401 without the token and 404 with it: it takes nothing from one like it."""
    (await page.ask(path, headers={"authorization": None})).error(401)
    answer = await page.ask(path)
    assert answer.error(404)["code"] == "no_such_address"
    assert_safe(answer)


async def test_x13_the_token_is_compared_in_constant_time(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """What decides is hmac.compare_digest, of the whole of both."""
    asked: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        asked.append((a, b))
        return True

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert (await page.ask("/api/store", headers={"authorization": "Bearer abc"})).status == 200
    assert asked == [(b"abc", TOKEN.encode())]


async def test_x13_a_token_that_is_there_twice_or_strange_is_none(page: Page) -> None:
    """Two headers, other bytes, blanks, a cookie, or a parameter are no token."""
    twice = [*((name, value) for name, value in OWN.items()), ("authorization", f"Bearer {TOKEN}")]
    (await page.ask("/api/store", headers=twice)).error(401)
    for given in ("Bearer \xff\xfe", f"Bearer\t{TOKEN}", f"Bearer {TOKEN} {TOKEN}", f"Bearer {TOKEN[:-1]}"):
        (await page.ask("/api/store", headers={"authorization": given})).error(401)
    for headers, query in (({"cookie": f"token={TOKEN}"}, ""), ({}, f"token={TOKEN}")):
        (await page.ask("/api/store", query, headers={"authorization": None, **headers})).error(401)


# --- where it comes from ---


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"[::1]:{PORT}"])
async def test_x16_its_own_names_are_taken(page: Page, host: str) -> None:
    """The names of this machine with the port, and an origin that is the same."""
    for origin in (None, f"http://{host}"):
        for site in (None, "same-origin", "none"):
            headers = {"host": host, "origin": origin, "sec-fetch-site": site}
            answer = await page.ask("/api/store", headers=headers)
            assert answer.status == 200
            assert_safe(answer)


@pytest.mark.parametrize(
    "host",
    [
        *(None, "", "127.0.0.1", "localhost", "evil.example", f"evil.example:{PORT}", "127.0.0.1:1", f"0.0.0.0:{PORT}"),
        *(f"127.0.0.1:{PORT}.evil.example", f"127.0.0.1:{PORT}@evil.example", f"localhost.:{PORT}", f"127.1:{PORT}"),
    ],
)
async def test_x16_a_foreign_host_is_refused_on_every_route(page: Page, host: str | None) -> None:
    """A name that only resolves to here is a trap (DNS rebinding), for pages too, with the token or without."""
    for path in ("/", "/api/store", "/api/events", "/metrics", "/nowhere"):
        for token in (None, OWN["authorization"]):
            answer = await page.ask(path, headers={"host": host, "authorization": token})
            assert answer.error(421)["code"] == "foreign_host"
            assert_safe(answer)


async def test_x16_two_hosts_are_none(page: Page) -> None:
    """A second Host header may be what somebody between here and there looked at."""
    headers = [*((name, value) for name, value in OWN.items()), ("host", OWN["host"])]
    (await page.ask("/api/store", headers=headers)).error(421)


FOREIGN: list[dict[str, Any]] = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": f"https://127.0.0.1:{PORT}"},
    {"origin": "http://127.0.0.1:9"},
    {"origin": f"http://localhost:{PORT}"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": ""},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_x16_pages_of_others_are_refused(page: Page, headers: dict[str, Any]) -> None:
    """Whatever a browser says it comes from, but this page itself: 403, with the token too, on each route of data."""
    for route, method in every(page):
        if not route.is_exempt:
            answer = await page.ask(route.path, method=method, headers=headers)
            assert answer.error(403)["code"] == "foreign_page"
            assert_safe(answer)


async def test_x16_a_link_from_elsewhere_leads_to_the_page_and_to_nothing_else(page: Page) -> None:
    """The page itself may be gone to by a link, as from a mail; it can be in no frame, and nothing else is answered."""
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    for path in EXEMPT:
        assert (await page.ask(path, headers=followed)).status == 200
    for changed in ({"sec-fetch-dest": "iframe"}, {"sec-fetch-mode": "no-cors"}, {"sec-fetch-dest": None}):
        (await page.ask("/", headers={**followed, **changed})).error(403)
    for path in (next(path for path in pages.static()), "/api/store"):
        (await page.ask(path, headers=followed)).error(403)


async def test_x14_streams_pass_the_same_guard(page: Page) -> None:
    """A stream is refused like anything else, and no socket is opened."""
    (await page.ask("/api/events", headers={"authorization": None})).error(401)
    (await page.ask("/api/events", headers={"host": "evil.example"})).error(421)
    (await page.ask("/api/events", headers={"origin": "http://evil.example"})).error(403)
    assert page.site.live.streams == 0
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await page.app({"type": "websocket", "path": "/api/events", "headers": []}, None, send)  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]


# --- methods ---


async def test_x15_any_other_method_is_refused(page: Page) -> None:
    """Each route takes what it lists; OPTIONS and HEAD are nothing special, and no preflight is answered."""
    for route in page.routes:
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "get", "X"):
            if method not in route.methods:
                answer = await page.ask(route.path, method=method)
                assert answer.error(405)["code"] == "method_not_allowed"
                assert answer.header("allow") == ", ".join(sorted(route.methods))
                assert_safe(answer)


async def test_x15_a_change_has_to_be_json(page: Page) -> None:
    """What a foreign form could send is refused before it is read: 415, and the workflow is as it was."""
    for kind in (
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonp",
    ):
        headers = {"content-type": kind}
        assert (await page.ask("/api/restore", method="POST", headers=headers, body=[b"{}"])).error(415)


# --- what is on every answer ---


async def test_x20_every_answer_says_what_browsers_may_do_with_it(page: Page) -> None:
    """The headers are on each answer: pages, data, errors, and what was found at the second time."""
    for route, method in every(page):
        if route.path != "/api/events":
            assert_safe(await page.ask(route.path, method=method))
    tag = (await page.ask("/")).header("etag")
    again = await page.ask("/", headers={"if-none-match": tag})
    assert (again.status, again.body) == (304, b"")
    assert_safe(again)


async def test_x20_the_headers_are_on_what_nobody_thought_of(
    page: Page, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug gives 500 without a word of what it was; that stands in the log, without the token."""
    caplog.set_level(logging.DEBUG)

    def fail(self: object) -> None:
        raise RuntimeError("a detail that is for nobody")

    monkeypatch.setattr(type(page.site.source), "reading", fail)
    answer = await page.ask("/api/store")
    assert answer.error(500)["code"] == "internal" and "for nobody" not in answer.text
    assert_safe(answer)
    assert "a detail that is for nobody" in caplog.text and TOKEN not in caplog.text


async def test_x27_too_many_that_wait_are_sent_away(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """When every place is taken the next one is told to come again, and a place that is freed is one."""
    places = page.site._places
    taken = 0
    while places.acquire(blocking=False):
        taken += 1
    error = (await page.ask("/api/store")).error(429)
    assert (error["code"], error["retryable"]) == ("busy", True) and taken > 8
    places.release()
    assert (await page.ask("/api/store")).status == 200


async def test_x27_an_answer_that_takes_too_long_is_given_up(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits longer than the bound; what works on it keeps its place until it is done."""
    import threading

    from waypost.web import site

    monkeypatch.setattr(site, "LONGEST_S", 0.05)
    may_end, ended = threading.Event(), threading.Event()

    def slow() -> None:
        may_end.wait(20)
        ended.set()

    with pytest.raises(answers.Denied) as caught:
        await page.site.work(slow)
    assert (caught.value.status, caught.value.code, ended.is_set()) == (503, "too_slow", False)
    may_end.set()
    assert ended.wait(20)


async def test_x27_bodies_and_addresses_have_a_bound(page: Page) -> None:
    """A body of more than 64 KiB is refused as it comes, one that does not come is not waited for, addresses too."""
    headers = {"content-type": "application/json"}
    too_much = [b"x" * 40_000, b"x" * 40_000, b"x"]
    assert (await page.ask("/api/fork", method="POST", headers=headers, body=too_much)).error(413)
    assert (await page.ask("/api/workflows", "q=" + "x" * 20_000)).error(400)
    assert (await page.ask("/api/workflows", "&".join(["status=failed"] * 100))).error(400)


async def test_x27_a_body_that_does_not_come_is_not_waited_for(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends nothing is told so after a while."""
    monkeypatch.setattr("waypost.web.routes.BODY_S", 0.05)
    headers = {"content-type": "application/json"}
    assert (await page.ask("/api/fork", method="POST", headers=headers, body=[])).error(408)["code"] == "too_slow"
