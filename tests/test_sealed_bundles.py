"""Exports that are sealed as a whole: who has no key learns nothing, and nobody changes one unseen."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.conftest import make_config
from tests.seeds import SEED
from waypost import keys, sealed_bundles
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import InvalidInput, KeyMissing, SealBroken, UnsupportedFormat, WaypostError
from waypost.store import open_store

LARGE = random.Random(3).randbytes(3_000_000)
CANARY = "canary-7f3a"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    made = keys.new_key()
    monkeypatch.setenv(keys.KEY_VARIABLE, made)
    return made


def handle() -> Waypost:
    config = make_config()
    return Waypost(Definitions(open_store("memory:", config), config, verbose=False))


@pytest.fixture
def source() -> Iterator[Waypost]:
    with handle() as wp:
        wp.start_session(session_id="s")
        wp.create_workflow("w", CANARY, steps=["a"]).unwrap()
        wp.add_step_output("w", "a", LARGE).unwrap()
        wp.update_context("w", variables={"x": CANARY}, secrets={"token": CANARY}).unwrap()
        yield wp


def sealed(wp: Waypost) -> bytes:
    data = wp.export_session("s", sealed=True)
    assert isinstance(data, bytes)
    return data


def refused(data: bytes, *kinds: type[WaypostError]) -> None:
    with handle() as wp:
        error = wp.import_session(data).error
        assert isinstance(error, kinds), error
        assert CANARY not in str(error)
        assert list(wp.definitions.store.documents("session")) == []


def chunks(data: bytes) -> list[tuple[int, int]]:
    """Where each chunk begins and ends."""
    found, at = [], 20
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        found.append((at, end))
        at = end
    return found


def test_what_is_sealed_is_opened_by_who_has_the_key(source: Waypost) -> None:
    data = sealed(source)
    assert CANARY.encode() not in data and len(chunks(data)) > 2
    with handle() as wp:
        wp.import_session(data).unwrap()
        state = wp.load_workflow_state("w").unwrap()
        assert (state.workflow.name, state.context.secrets["token"]) == (CANARY, CANARY)
        assert wp.get_step_output("w", "a").output == LARGE


def test_x22_no_secret_stands_in_an_export_that_is_not_sealed(source: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret stays sealed by itself, and travels without the key."""
    source.update_context("w", secrets={"other": "only-here-9c1"}).unwrap()
    config = make_config({"compression": {"enabled": False}})
    source.definitions.config = config
    data = source.export_session("s")
    assert isinstance(data, bytes) and b"only-here-9c1" not in data and CANARY.encode() in data
    monkeypatch.delenv(keys.KEY_VARIABLE)
    with handle() as wp:
        wp.import_session(data).unwrap()
        secrets = wp.load_workflow_state("w").unwrap().context.secrets
        assert sorted(secrets) == ["other", "token"]
        with pytest.raises(KeyMissing):
            secrets["other"]


def test_without_the_key_it_is_refused_and_says_which(source: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    data = sealed(source)
    for given in (None, keys.new_key()):
        monkeypatch.delenv(keys.KEY_VARIABLE)
        if given is not None:
            monkeypatch.setenv(keys.KEY_VARIABLE, given)
        refused(data, KeyMissing)
        monkeypatch.setenv(keys.KEY_VARIABLE, "")


def test_nothing_is_written_where_there_is_no_key(source: Waypost, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.delenv(keys.KEY_VARIABLE)
    with handle() as wp:
        wp.start_session(session_id="s")
        with pytest.raises(KeyMissing):
            wp.export_session("s", tmp_path / "file", sealed=True)
    assert list(tmp_path.iterdir()) == []


def test_a_row_of_chunks_that_was_changed_in_any_way_is_refused(source: Waypost) -> None:
    """Cut at and within chunks, exchanged, left out, repeated, taken from another export, followed by more."""
    data = sealed(source)
    (first, one), (_, two), *_ = found = chunks(data)
    other = sealed(source)
    head, rest = data[:first], data[two:]
    for broken in (
        *(data[:end] for _, end in found[:-1]),
        data[:first],
        data[: one - 1],
        data[: one + 2],
        head + data[one:two] + data[first:one] + rest,
        head + data[one:],
        head + data[first:one] + data[first:],
        other[:first] + data[first:],
        data + data[found[-1][0] :],
        data + b"\0",
        head + (1 << 31).to_bytes(4, "little") + data[first + 4 :],
    ):
        refused(broken, SealBroken)


def test_each_flipped_bit_is_told(source: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """At two thousand places; the seed is printed."""
    print(f"WAYPOST_TEST_SEED={SEED}")
    rng = random.Random(SEED)
    monkeypatch.setattr(sealed_bundles, "CHUNK_BYTES", 1 << 10)
    with handle() as wp:
        wp.start_session(session_id="s")
        wp.create_workflow("w", "W", steps=["a"]).unwrap()
        data = sealed(wp)
    for at in [*range(60), *(rng.randrange(len(data)) for _ in range(200))]:
        broken = bytearray(data)
        broken[at] ^= 1 << rng.randrange(8)
        refused(bytes(broken), SealBroken, KeyMissing, InvalidInput, UnsupportedFormat)
