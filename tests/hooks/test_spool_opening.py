"""Who folds what waits: whoever opens a store for writing, or watches it; and who only says how much waits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests import servers
from tests.hooks.spooled import events, hook, is_acknowledged
from waypost import cli, opening
from waypost.definitions import Definitions
from waypost.hooks import spool
from waypost.hooks.entries import Entry


def take(definitions: Definitions, entry: Entry) -> None:
    """A workflow of the name that is given."""
    name = entry.payload.decode()
    definitions.create_workflow(name, name, operation_id=entry.name).run().unwrap()


@pytest.fixture(autouse=True)
def takers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "takers", lambda: {"test": take})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    waypost.open(tmp_path / "store").close()
    return tmp_path / "store"


def spool_one(place: Path, name: str, dialect: str = "test", **environment: str) -> None:
    environment = environment or {"WAYPOST_STATE": str(place)}
    assert is_acknowledged(hook(name.encode(), "--dialect", dialect, environment=environment))


def names(wp: Any) -> list[str]:
    return sorted(each.id for each in wp.list_workflows())


def test_d24_opening_folds_in_what_waits(place: Path) -> None:
    """Who opens a store sees what other programs left for it."""
    spool_one(place, "a")
    spool_one(place, "b")
    with waypost.open(place) as wp:
        assert names(wp) == ["a", "b"]
    assert events(place / "spool") == []


def test_d24_what_waited_before_there_was_a_store_is_folded_in(tmp_path: Path) -> None:
    """A hook may be the first to write into the state directory: the store is made around its spool."""
    (tmp_path / "state").mkdir()
    spool_one(tmp_path / "state", "a")
    with waypost.open(tmp_path / "state") as wp:
        assert names(wp) == ["a"]


async def test_d24_the_asynchronous_face_folds_as_well(place: Path) -> None:
    """Opening by `await` folds too."""
    spool_one(place, "a")
    async with waypost.open_async(place) as wp:
        assert [each.id for each in await wp.list_workflows()] == ["a"]


def test_d24_a_watch_folds_in_what_comes(place: Path) -> None:
    """Who watches a store that is open for writing is told of an event that another program left meanwhile."""
    with waypost.open(place) as wp, wp.watch() as commits:
        assert commits.get(0.0) is None
        spool_one(place, "a")
        event = commits.get(60.0)
        assert event is not None
        assert (event.workflow_id, names(wp)) == ("a", ["a"])


Shown = Callable[..., tuple[int, str]]


@pytest.fixture
def call(place: Path, capsys: pytest.CaptureFixture[str]) -> Shown:
    """A command over the store: its status, and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        return cli.call([*arguments, "--state", str(place)]), capsys.readouterr().out

    return run


def test_d15_reading_folds_nothing(place: Path, call: Shown) -> None:
    """Commands that read leave the spool as it is, and say how much waits."""
    spool_one(place, "a")
    spool_one(place, "b")
    before = sorted((each.name, each.read_bytes()) for each in (place / "spool").iterdir())
    for command in ("status", "list", "resume"):
        assert json.loads(call(command, "--json")[1])["waiting_events"] == 2
        said = " ".join(call(command)[1].split())
        assert "2 events of other programs wait to be folded in by whoever writes next: waypost agent fold" in said
    status, said = call("verify")
    assert (status, "holds 2 events" in " ".join(said.split())) == (0, True)
    assert sorted((each.name, each.read_bytes()) for each in (place / "spool").iterdir()) == before


def test_d24_commands_that_write_fold_first(place: Path, call: Shown) -> None:
    """A command that opens the store for writing takes in what waits before it does its work."""
    spool_one(place, "a")
    assert call("checkpoint", "a")[0] == 0
    assert events(place / "spool") == []


def test_e10_doctor_names_what_could_not_be_used(place: Path, call: Shown) -> None:
    """`waypost store doctor` says how many events wait, and which could not be used, with the reason."""
    spool_one(place, "a", dialect="klingon\x1b[31m")
    waypost.open(place).close()
    spool_one(place, "b")
    status, said = call("store", "doctor")
    assert status == 0
    assert "\x1b[31m" not in said
    said = " ".join(said.split())
    assert "1 event of other programs waiting" in said
    assert "1 event could not be used" in said
    facts = spool_facts(call("store", "doctor", "--json")[1])
    assert facts["waiting"] == 1
    assert "klingon" in facts["refused"][0]["reason"]
    kept = place / "spool" / facts["refused"][0]["name"]
    assert kept.read_bytes().endswith(b"a")


def test_d24_a_backup_holds_no_event_and_a_restore_takes_none_twice(place: Path, tmp_path: Path) -> None:
    """What waits is no commit: a backup leaves it in the store, and a restore leaves the spool as it is."""
    with waypost.open(place) as wp:
        wp.create_workflow("x", "x").unwrap()
        spool_one(place, "a")
        wp.backup(tmp_path / "backup").unwrap()
    assert not (tmp_path / "backup/spool").exists()
    with waypost.open(place) as wp:
        assert names(wp) == ["a", "x"]
        spool_one(place, "b")
        wp.restore_backup(tmp_path / "backup", allow_older=True).unwrap()
        assert names(wp) == ["x"]
    with waypost.open(place) as wp:
        assert names(wp) == ["b", "x"]


def test_d24_a_store_without_a_directory_has_the_spool_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a server it is `$WAYPOST_SPOOL`, an absolute path; a store in memory takes nothing: it would forget it."""
    monkeypatch.setenv("WAYPOST_SPOOL", str(tmp_path / "events"))
    assert spool.place("postgresql://host/db") == str(tmp_path / "events")
    assert spool.place(str(tmp_path)) == str(tmp_path / "spool")
    spool_one(tmp_path, "a", WAYPOST_SPOOL=str(tmp_path / "events"))
    with waypost.open("memory:") as wp:
        assert names(wp) == []
    assert spool.waiting("postgresql://host/db") == 1
    monkeypatch.setenv("WAYPOST_SPOOL", "relative")
    assert spool.place("postgresql://host/db") is None
    monkeypatch.delenv("WAYPOST_SPOOL")
    assert spool.waiting("postgresql://host/db") == 0


def test_d24_a_store_on_a_server_folds_what_waits_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server's store takes in what waits in the spool that is named, when it is opened and while it is watched."""
    monkeypatch.setenv("WAYPOST_SPOOL", str(tmp_path / "events"))
    with servers.postgres().lent() as location:
        waypost.open(location).close()
        spool_one(tmp_path, "a", WAYPOST_SPOOL=str(tmp_path / "events"))
        with waypost.open(location) as wp, wp.watch() as commits:
            assert names(wp) == ["a"]
            spool_one(tmp_path, "b", WAYPOST_SPOOL=str(tmp_path / "events"))
            event = commits.get(60.0)
            assert event is not None
            assert event.workflow_id == "b"
        spool_one(tmp_path, "c", WAYPOST_SPOOL=str(tmp_path / "events"))
        capsys.readouterr()
        cli.call(["store", "doctor", "--state", location, "--json"])
        assert spool_facts(capsys.readouterr().out) == {"waiting": 1, "refused": []}


def spool_facts(document: str) -> Any:
    """What `store doctor` says of the spool."""
    (facts,) = [each["facts"] for each in json.loads(document)["checks"] if each["name"] == "spool" and each["facts"]]
    return facts


def test_d24_opening_is_as_cheap_as_before_where_nothing_waits(place: Path) -> None:
    """What folds is imported only where something waits."""
    program = (
        "import sys, waypost; waypost.open(sys.argv[1]).close()\n"
        "print(*[name for name in sys.modules if name.startswith('waypost.hooks')])"
    )

    def imported() -> set[str]:
        run = [sys.executable, "-c", program, str(place)]
        return set(subprocess.run(run, capture_output=True, text=True, check=True).stdout.split())

    assert "waypost.hooks.intake" not in imported()
    (place / "spool").mkdir()
    assert "waypost.hooks.intake" not in imported()
    spool_one(place, "a", dialect="nobody's")
    assert "waypost.hooks.intake" in imported()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAYPOST_SPOOL", "WAYPOST_STATE"):
        monkeypatch.delenv(name, raising=False)
