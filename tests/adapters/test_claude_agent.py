"""Sessions of the Claude Agent SDK: what its `SessionStore` promises, without the SDK, and its own tests with it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.conftest import StoreFactory
from waypost.adapters import pages
from waypost.adapters.claude_agent import WaypostSessionStore
from waypost.errors import InvalidId, InvalidInput, InvalidValue
from waypost.store import Store

KEY = {"project_key": "-home-ann-paper", "session_id": "5a1f"}
SUB = {**KEY, "subpath": "subagents/agent-1"}


def fold(before: dict[str, Any] | None, key: Mapping[str, Any], entries: list[Any]) -> dict[str, Any]:
    """As the SDK's: of the summary before and of new entries a new summary."""
    data = dict(before["data"]) if before else {}
    data["n"] = data.get("n", 0) + len(entries)
    data["title"] = next((each["title"] for each in reversed(entries) if "title" in each), data.get("title"))
    return {"session_id": key["session_id"], "mtime": before["mtime"] if before else 0, "data": data}


def entry(uuid: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"type": "user", **({} if uuid is None else {"uuid": uuid}), **fields}


@pytest.fixture
def sessions(store: Store) -> WaypostSessionStore:
    return WaypostSessionStore(store, fold=fold)


async def test_entries_come_back_as_they_were_in_the_order_of_their_calls(sessions: WaypostSessionStore) -> None:
    """Entries are opaque: nothing in them is looked at but the uuid."""
    first = [
        entry("b", n=1),
        entry("a", message={"content": [{"text": "é \ud800 \x00", "n": [1.5, None, True, 10**30]}]}),
    ]
    await sessions.append(KEY, first)
    await sessions.append(KEY, [])
    await sessions.append(KEY, [entry(), entry()])
    assert await sessions.load(KEY) == [*first, entry(), entry()]
    assert await sessions.load({**KEY, "session_id": "another"}) is None
    assert await sessions.load(SUB) is None


async def test_an_entry_that_comes_again_is_there_once(
    sessions: WaypostSessionStore, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that is sent again, or imported again in other batches, changes nothing; entries without a uuid are
    appended each time.
    """
    monkeypatch.setattr(pages, "MOST_BATCHES", 2)
    entries = [entry(f"u{number}", n=number) for number in range(12)]
    for at in range(0, 12, 2):
        await sessions.append(KEY, entries[at : at + 2])
    await sessions.append(KEY, entries[10:])
    await WaypostSessionStore(store, fold=fold).append(KEY, [*entries, entry("u12"), entry("u12")])
    await sessions.append(KEY, [entry(), entry(uuid=""), entry(uuid="")])
    found = await sessions.load(KEY)
    assert found == [*entries, entry("u12"), entry(), entry(uuid=""), entry(uuid="")]
    ((summary,)) = await sessions.list_session_summaries(KEY["project_key"])
    assert summary["data"]["n"] == len(found)


async def test_transcripts_are_kept_apart(sessions: WaypostSessionStore) -> None:
    """Projects, sessions and subagents with like names are not mixed up, and one uuid may be in each."""
    keys = [KEY, SUB, {**KEY, "project_key": "other"}, {**KEY, "session_id": "5A1F"}, {**SUB, "subpath": "subagents"}]
    for number, key in enumerate(keys):
        await sessions.append(key, [entry("same", n=number)])
    for number, key in enumerate(keys):
        assert await sessions.load(key) == [entry("same", n=number)]
    assert sorted(await sessions.list_subkeys(KEY)) == ["subagents", "subagents/agent-1"]
    assert await sessions.list_subkeys({**KEY, "session_id": "5A1F"}) == []
    assert await sessions.list_subkeys({**KEY, "session_id": "never"}) == []


async def test_sessions_are_listed_with_the_time_of_their_last_commit(sessions: WaypostSessionStore) -> None:
    """In ms since the epoch, by the store's clock, in lists and summaries alike; subagents have no part in it."""
    await sessions.append(KEY, [entry(title="one", timestamp="2020-01-01T00:00:00Z")])
    await sessions.append(KEY, [entry(title="two")])
    await sessions.append({**KEY, "session_id": "s2"}, [entry()])
    await sessions.append({**KEY, "project_key": "elsewhere"}, [entry()])
    await sessions.append({**SUB, "session_id": "s3"}, [entry()])
    listed = {each["session_id"]: each["mtime"] for each in await sessions.list_sessions(KEY["project_key"])}
    assert set(listed) == {"5a1f", "s2"} and min(listed.values()) > 1_600_000_000_000
    summaries = {each["session_id"]: each for each in await sessions.list_session_summaries(KEY["project_key"])}
    assert {name: each["mtime"] for name, each in summaries.items()} == listed
    assert summaries["5a1f"]["data"] == {"n": 2, "title": "two"}
    await sessions.append(SUB, [entry(title="of the subagent")])
    assert {each["session_id"]: each for each in await sessions.list_session_summaries(KEY["project_key"])} == summaries
    assert await sessions.list_sessions("never") == await sessions.list_session_summaries("never") == []


class OfOneThread(dict[Any, Any]):
    """A dictionary that one thread alone may change."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def __setitem__(self, key: Any, value: Any) -> None:
        assert threading.get_ident() == self._thread, "an append that is under way would fail"
        super().__setitem__(key, value)


async def test_deleting_takes_nothing_from_appends_that_are_under_way(sessions: WaypostSessionStore) -> None:
    """It works in a thread, beside the loop, which knows by then of other transcripts what is in them."""
    sessions._rows = OfOneThread()
    key = {"project_key": "p", "session_id": "s"}
    for subpath in ({}, {"subpath": "one"}, {"subpath": "two"}):
        await sessions.append({**key, **subpath}, [entry("1")])
    await sessions.delete(key)
    assert await sessions.load(key) is None


async def test_deleting_a_session_takes_its_subagents_along(sessions: WaypostSessionStore) -> None:
    """And one of them by itself when it is named; what was never there is passed over."""
    other = {**SUB, "subpath": "subagents/agent-2"}
    for key in (KEY, SUB, other, {**KEY, "session_id": "stays"}, {**KEY, "project_key": "stays"}):
        await sessions.append(key, [entry("u")])
    await sessions.delete({**KEY, "session_id": "never"})
    await sessions.delete(SUB)
    assert await sessions.load(SUB) is None and await sessions.list_subkeys(KEY) == ["subagents/agent-2"]
    assert await sessions.load(KEY) == await sessions.load(other) == [entry("u")]
    await sessions.delete(KEY)
    assert await sessions.load(KEY) is None and await sessions.load(other) is None
    assert await sessions.list_subkeys(KEY) == []
    assert [each["session_id"] for each in await sessions.list_sessions(KEY["project_key"])] == ["stays"]
    assert len(await sessions.list_session_summaries("stays")) == 1
    await sessions.append(KEY, [entry("u", again=True)])
    assert await sessions.load(KEY) == [entry("u", again=True)]


async def test_summaries_lose_no_batch_when_several_append_at_once(store: Store) -> None:
    """What the SDK folds is based on the summary before, also when that comes from somebody else."""
    handles = [WaypostSessionStore(store, fold=fold) for _ in range(4)]
    await asyncio.gather(*(each.append(KEY, [entry(f"{at}-{n}")]) for at, each in enumerate(handles) for n in range(4)))
    ((summary,)) = await handles[0].list_session_summaries(KEY["project_key"])
    assert summary["data"]["n"] == 16
    assert len(await handles[1].load(KEY) or []) == 16


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("project_key", ""),
        ("session_id", "a\x00b"),
        ("session_id", "a\x1fb"),
        ("session_id", "\ud800"),
        ("session_id", "x" * 513),
        ("session_id", 7),
        ("subpath", ""),
        ("subpath", "a\nb"),
    ],
)
async def test_x09_a_key_that_no_store_can_keep_is_refused(store: Store, field: str, value: object) -> None:
    """With an error that says which part of the key it is, and nothing is written."""
    sessions = WaypostSessionStore(store, fold=fold)
    for call in (
        sessions.append({**KEY, field: value}, [entry()]),
        sessions.load({**KEY, field: value}),
        sessions.delete({**KEY, field: value}),
    ):
        with pytest.raises(InvalidId, match=field.replace("_", " ")):
            await call
    assert list(store.documents("thread")) == []


async def test_x09_a_strange_key_is_kept_as_it_is(sessions: WaypostSessionStore) -> None:
    """Paths, dots and names that a system reserves mean nothing."""
    names = ["..", "../../etc/passwd", "/", "con", "a/b", "A/b", "é", "e\u0301", "-", "~", "x" * 512]
    for name in names:
        await sessions.append({"project_key": name, "session_id": name, "subpath": name}, [entry(n=name)])
        await sessions.append({"project_key": name, "session_id": name}, [entry(main=name)])
    for name in names:
        assert await sessions.load({"project_key": name, "session_id": name, "subpath": name}) == [entry(n=name)]
        assert [each["session_id"] for each in await sessions.list_sessions(name)] == [name]


async def test_x06_unknown_fields_of_a_key_are_refused(sessions: WaypostSessionStore) -> None:
    """A field that was ignored would be another transcript than was meant."""
    for key in ({**KEY, "sub_path": "x"}, {"project_key": "p"}, {"session_id": "s"}, "p/s"):
        with pytest.raises(InvalidInput):
            await sessions.load(key)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1, 2}, b"x", (1, 2), {1: "x"}, object()])
async def test_v02_an_entry_that_json_cannot_hold_is_refused_with_its_batch(store: Store, bad: object) -> None:
    """Nothing comes back as something else, and nothing of such a batch is there."""
    sessions = WaypostSessionStore(store, fold=fold)
    with pytest.raises(InvalidValue, match="entry 1"):
        await sessions.append(KEY, [entry("a"), entry("b", bad=bad)])
    with pytest.raises(InvalidInput, match="entry 0"):
        await sessions.append(KEY, ["text"])  # type: ignore[list-item]
    assert await sessions.load(KEY) is None and list(store.documents("thread")) == []


async def test_v03_an_entry_that_is_too_deep_is_refused(sessions: WaypostSessionStore) -> None:
    """A RecursionError never escapes."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidValue):
        await sessions.append(KEY, [entry(deep=deep)])
    while deep:  # taken apart by hand, since freeing it at once would recurse as well
        deep = deep.pop()


async def test_a_session_is_there_when_the_store_is_opened_again(tmp_path: Path) -> None:
    """By another process too; `open` opens a store of its own, and closes it."""
    async with WaypostSessionStore.open(tmp_path / "s", fold=fold) as sessions:
        await sessions.append(KEY, [entry("a")])
        with waypost.open(tmp_path / "s") as wp:
            assert await WaypostSessionStore(wp, fold=fold).load(KEY) == [entry("a")]
            assert list(wp.list_workflows()) == [] and wp.definitions.store.verify().sound
    with pytest.raises(waypost.StoreClosed):
        await sessions.load(KEY)
    async with waypost.open_async(tmp_path / "s") as awp:
        assert len(await WaypostSessionStore(awp, fold=fold).list_sessions(KEY["project_key"])) == 1


def test_it_stands_on_a_store_and_on_nothing_else(store: Store) -> None:
    """What is no store is refused when it is given."""
    for base in ("a path", None, object()):
        with pytest.raises(InvalidInput, match="open Waypost"):
            WaypostSessionStore(base, fold=fold)  # type: ignore[arg-type]
    assert repr(WaypostSessionStore(store, fold=fold)) == f"<WaypostSessionStore at {store.location}>"


NO_SDK = """
import sys
sys.modules["claude_agent_sdk"] = None
import waypost
from waypost.adapters.claude_agent import WaypostSessionStore
try:
    WaypostSessionStore.open("memory:")
except waypost.UnsupportedPlatform as error:
    print(error)
"""


def test_without_the_sdk_the_error_names_the_extra() -> None:
    """And importing the adapter imports no SDK."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", NO_SDK], capture_output=True, text=True, check=True)
    assert "pip install 'waypost[claude-agent]'" in done.stdout


# --- the SDK's own tests ---


async def test_the_sdk_finds_all_fourteen_contracts_kept(store_factory: StoreFactory) -> None:
    """Its harness, with no optional method left out (`make adapters` installs the SDK)."""
    harness = pytest.importorskip(
        "claude_agent_sdk.testing", reason="the Claude Agent SDK is not installed: make adapters"
    )
    await harness.run_session_store_conformance(lambda: WaypostSessionStore(store_factory()), skip_optional=frozenset())


async def test_the_sdk_lists_sessions_from_their_summaries(tmp_path: Path) -> None:
    """Its own list needs no transcript where all summaries are fresh."""
    sdk = pytest.importorskip("claude_agent_sdk", reason="the Claude Agent SDK is not installed: make adapters")
    async with WaypostSessionStore.open(tmp_path / "s") as sessions:
        key = {"project_key": sdk.project_key_for_directory(str(tmp_path)), "session_id": "5a1f"}
        said = {"role": "user", "content": "Mend the roof"}
        await sessions.append(key, [entry("u1", timestamp="2026-01-01T00:00:00.000Z", message=said)])
        sessions.load = None  # type: ignore[assignment, method-assign]
        (listed,) = await sdk.list_sessions_from_store(sessions, directory=str(tmp_path))
    assert (listed.session_id, listed.first_prompt) == ("5a1f", "Mend the roof")
