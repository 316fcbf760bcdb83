"""The stream: each commit once and in order, whoever makes it, and nothing that waits for a reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.mcp.conftest import fill, handle
from tests.mcp.conftest import place as place  # a fixture
from tests.web.asking import Page, becomes, page_of, stream
from waypost.blocking import Waypost
from waypost.watching import CommitEvent
from waypost.web import live
from waypost.web.activity import SLICE_S, SLICES, Activity


@pytest.fixture
async def watched(page: Page) -> AsyncIterator[Page]:
    """The page, when it is told of what is committed from now on."""
    await _begin(page)
    yield page
    page.site.live.close()


async def _begin(page: Page) -> None:
    """Have it watch, and wait until it does: what is committed before is nothing new."""
    page.site.live.start()
    await becomes(lambda: page.site.live._has_begun)


async def test_each_commit_is_told_once_over_each_kind_of_store(place: str) -> None:
    """What any program commits comes within a moment, with what a page needs to know to look again."""
    with closing(handle(place)) as wp:
        fill(wp)
        with page_of(place) as page:
            await _begin(page)
            async with stream(page) as reader:
                await reader.until(1)
                wp.update_step_status("survey", "count", "running").unwrap()
                wp.update_context("survey", variables={"n": 1}).unwrap()
                hello, first, second = await reader.until(3)
    assert (hello["event"], hello["data"]) == ("hello", {"resumed": False, "problem": None})
    told = {name: first["data"][name] for name in ("workflow", "version", "operation", "step", "status", "session")}
    assert told == {
        "workflow": "survey",
        "version": 9,
        "operation": "update_step_status",
        "step": "count",
        "status": "running",
        "session": None,
    }
    assert (second["data"]["version"], second["data"]["step"]) == (10, None)


async def test_a_stream_goes_on_where_it_was(watched: Page, wp: Waypost) -> None:
    """From the id of any event on, all later ones come, each once, whatever was committed in between."""
    async with stream(watched) as reader:
        await reader.until(1)
        for number in range(20):
            wp.update_context("survey", variables={"n": number}).unwrap()
        seen = await reader.until(21)
    for number in range(5):
        wp.update_context("survey", variables={"m": number}).unwrap()
    for at in (0, 7, 20):
        async with stream(watched, seen[at]["id"]) as again:
            found = await again.until(26 - at)
            assert found[0]["data"]["resumed"] is True
            assert [each["data"]["version"] for each in again.commits()] == list(range(9 + at, 34))


async def test_a_stream_that_cannot_go_on_is_told_so(
    watched: Page, wp: Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cursor of another start, or of what is no longer kept: hello says that it is not resumed."""
    watched.site.live._events = type(watched.site.live._events)(maxlen=3)
    async with stream(watched) as reader:
        (hello,) = await reader.until(1)
        for number in range(5):
            wp.update_context("survey", variables={"n": number}).unwrap()
        await reader.until(2)
    await becomes(lambda: watched.site.live._number == 5)
    for since in (hello["id"], "abcd.1", f"{hello['id'].partition('.')[0]}.99"):
        async with stream(watched, since) as again:
            assert (await again.until(1))[0]["data"]["resumed"] is False and again.commits() == []


async def test_x27_streams_are_few_and_a_reader_that_leaves_frees_its_place(watched: Page) -> None:
    """The ninth is told to come again, and taken when one has gone."""
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(stream(watched)) for _ in range(live.MOST_STREAMS)]
        for reader in readers:
            await reader.until(1)
        assert watched.site.live.streams == live.MOST_STREAMS
        error = (await watched.get("/api/events")).error(429)
        assert error["code"] == "too_many_streams" and error["retryable"]
    assert watched.site.live.streams == 0
    async with stream(watched) as reader:
        await reader.until(1)


async def test_x27_a_reader_that_takes_nothing_is_dropped(
    watched: Page, wp: Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not waited for, the others are told in the meantime, and its place is free."""
    monkeypatch.setattr(live, "SLOW_S", 0.2)
    async with stream(watched) as slow, stream(watched) as quick:
        await slow.until(1)
        await quick.until(1)
        slow.takes.clear()
        wp.update_context("survey", variables={"n": 1}).unwrap()
        assert len(await quick.until(2)) == 2
        await becomes(lambda: watched.site.live.streams == 1)
        assert slow.commits() == []


@pytest.mark.parametrize("later", range(8))
async def test_a_reader_that_leaves_while_it_is_told_something_is_let_go(watched: Page, later: int) -> None:
    """Whichever comes first by a turn of the loop, the stream ends, and its place is free."""
    async with stream(watched) as reader:
        await reader.until(1)
        (found,) = watched.site.live._streams
        found._woken.set()
        for _ in range(later):
            await asyncio.sleep(0)
        reader.leave.set()
        await becomes(lambda: watched.site.live.streams == 0)
    assert len(reader.events()) == 1


async def test_a_quiet_stream_is_kept_alive(watched: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something comes now and then, so that both sides see that the other is there."""
    monkeypatch.setattr(live, "ALIVE_S", 0.05)
    async with stream(watched) as reader:
        async with asyncio.timeout(20):
            while b": alive\n\n" not in reader.data:
                reader.came.clear()
                await reader.came.wait()


async def test_who_came_before_the_watching_began_is_told_to_read_anew(page: Page) -> None:
    """What is committed between the first look of a page and the beginning of the watch is not lost on it."""
    async with stream(page) as reader:
        (first,) = await reader.until(1)
        await _begin(page)
        (_, second) = await reader.until(2)
    assert second["event"] == "hello" and second["data"] == {"resumed": False, "problem": None}
    assert first["id"].partition(".")[0] != second["id"].partition(".")[0]
    page.site.live.close()


async def test_a_failure_of_the_watch_is_told_once_and_tried_again(
    watched: Page, wp: Waypost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong in it: streams hear of it once, the log too, and of the end of it."""
    monkeypatch.setattr(live, "_AGAIN_S", 0.02)
    tell, failures = watched.site.live._tell, [0]

    def fail(store: Any) -> None:
        failures[0] += 1
        if failures[0] < 4:
            raise RuntimeError("nobody thought of this")
        tell(store)

    async with stream(watched) as reader:
        await reader.until(1)
        monkeypatch.setattr(watched.site.live, "_tell", fail)
        assert watched.site.live._watch is not None
        watched.site.live._watch.close()
        _, failed, back = await reader.until(3)
    assert failed["data"]["problem"] == "watching the store failed" and back["data"]["problem"] is None
    assert caplog.text.count("watching the store failed") == 1


async def test_a_store_that_was_exchanged_begins_a_new_stream(
    watched: Page, wp: Waypost, here: Path, tmp_path: Path
) -> None:
    """Streams stay open over it: they are told that what they show has to be read anew, and then what is committed."""
    wp.close()
    async with stream(watched) as reader:
        await reader.until(1)
        here.rename(tmp_path / "elsewhere")
        with closing(handle(str(here))) as other:
            other.create_workflow("another", "A", steps=["a"]).unwrap()
            await reader.until(2)
            other.update_step_status("another", "a", "running").unwrap()
            async with asyncio.timeout(20):
                while not any(each["data"].get("operation") == "update_step_status" for each in reader.commits()):
                    reader.came.clear()
                    await reader.came.wait()
    hellos = [each for each in reader.events() if each["event"] == "hello"]
    assert len(hellos) >= 2 and not any(each["data"]["resumed"] for each in hellos)
    assert hellos[0]["id"].partition(".")[0] != hellos[-1]["id"].partition(".")[0]


async def test_a_stream_is_told_that_the_store_is_away(watched: Page, wp: Waypost, here: Path, tmp_path: Path) -> None:
    """Once, with why; and again when it is back, so that a page looks anew."""
    wp.close()
    async with stream(watched) as reader:
        await reader.until(1)
        here.rename(tmp_path / "elsewhere")
        (_, away) = await reader.until(2)
        assert "no store" in away["data"]["problem"] and not away["data"]["resumed"]
        (tmp_path / "elsewhere").rename(here)
        back = (await reader.until(3))[2]
        assert back["event"] == "hello" and back["data"]["problem"] is None
    assert (await watched.ok("/api/store"))["problems"] == []


async def test_streams_end_when_the_server_does(watched: Page) -> None:
    """The answer is completed, so that a page knows that it is no failure of the network."""
    async with stream(watched) as reader:
        await reader.until(1)
        watched.site.live.end_streams()
        await becomes(lambda: watched.site.live.streams == 0)


async def test_what_happened_is_counted(watched: Page, wp: Waypost) -> None:
    """Commits and ended steps of every process, for charts and for Prometheus."""
    async with stream(watched) as reader:
        await reader.until(1)
        wp.update_step_status("survey", "count", "running").unwrap()
        wp.update_step_status("survey", "count", "completed").unwrap()
        wp.update_step_status("survey", "parse", "running").unwrap()
        wp.update_step_status("survey", "parse", "failed", error="no").unwrap()
        await reader.until(5)
    slices = (await watched.ok("/api/metrics"))["activity"]
    sums = {name: sum(each[name] for each in slices) for name in ("commits", "steps_completed", "steps_failed")}
    # eight commits were made before anybody looked, of which one completed a step and one failed
    assert sums == {"commits": 12, "steps_completed": 2, "steps_failed": 2}
    text = (await watched.get("/metrics")).text
    for line in (
        "waypost_seen_commits_total 4",
        "waypost_seen_steps_failed_total 1",
        "# TYPE waypost_page_streams gauge",
    ):
        assert f"{line}\n" in text


def test_x27_activity_before_the_start_is_read_as_far_as_that_is_quick(
    wp: Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits of the last hour, at most so many, and of a store with very many workflows none."""
    store = wp.definitions.store

    def commits_of(now: float | None = None) -> int:
        activity = Activity() if now is None else Activity(lambda: now)
        activity.look_back(store)
        assert activity.totals == [0, 0, 0]
        return sum(each["commits"] for each in activity.series())

    assert commits_of() == 8
    assert commits_of(datetime.now(UTC).timestamp() + 3_700) == 0
    monkeypatch.setattr("waypost.web.activity._MOST_COMMITS", 3)
    assert commits_of() == 3
    monkeypatch.setattr("waypost.web.activity._MOST_WORKFLOWS", 0)
    assert commits_of() == 0


def test_x27_activity_is_of_the_last_hour() -> None:
    """What is older, or of no time, is in no slice; and however long it runs, there are no more slices."""
    now = [1_800_000_000.0]
    activity = Activity(lambda: now[0])

    def at(seconds: float) -> Any:
        moment = datetime.fromtimestamp(now[0] + seconds, UTC)
        return CommitEvent(workflow_id="w", version=1, at=moment, statuses={"a": "completed", "b": "failed"})

    for each in (at(0), at(-15), at(-3_700), at(+100_000), CommitEvent(workflow_id="w", version=1)):
        activity.count(each)
    series = activity.series()
    assert (len(series) == SLICES and [each["commits"] for each in series[-2:]] == [1, 1]) or series[-3]["commits"] == 1
    assert sum(each["commits"] for each in series) == 2 and activity.totals == [4, 4, 4]
    for _ in range(2 * SLICES):
        now[0] += SLICE_S
        activity.count(at(0))
    assert len(activity._slices) <= SLICES + 1 and sum(each["commits"] for each in activity.series()) == SLICES
