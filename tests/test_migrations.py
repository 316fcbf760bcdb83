"""Migrations: registered steps on plain data, on load and in bulk, all or nothing, and what is refused."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.conftest import StoreFactory
from tests.outdated import (
    CURRENT,
    W,
    add_two,
    check_migrated,
    double,
    halve,
    handle,
    is_whole,
    make_old,
    parts_of,
    stamp,
    start,
)
from tests.store.support import change, directory_store, failing, system_calls
from waypost import cli, records
from waypost.blocking import Waypost
from waypost.codec import values
from waypost.errors import (
    InvalidConfiguration,
    MigrationFailed,
    StoreReadOnly,
    UnsupportedFormat,
    WorkflowExists,
)
from waypost.migrating import MigratingDocument
from waypost.schema import register_migration, unregister_migration
from waypost.store import Store
from waypost.store.directory.log import Log

pytestmark = pytest.mark.usefixtures("registry")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


# --- on load ---


def test_trap_24_an_older_workflow_is_migrated_when_it_is_loaded(wp: Waypost, store: Store) -> None:
    """Registered steps run in a row, in one commit, and what they did not touch keeps its bytes."""
    make_old(wp)
    before, version = parts_of(store), store.view(W).version
    taken: list[str] = []
    register_migration("0.9.0", "0.9.1", lambda document: taken.append("first"))
    register_migration("0.9.1", CURRENT, double, halve, is_whole)
    check_migrated(wp)
    assert (taken, store.view(W).version) == (["first"], version + 1)
    after = parts_of(store)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert {key.replace(records.SEPARATOR, " ") for key in changed} == {
        "workflow", "variable count", "variable made", "configuration mode",
        "output a 00000001", "output a 00000002", "value a 00000002",
    }  # fmt: skip
    wp.load_workflow_state("w").unwrap()
    assert store.view(W).version == version + 1


@pytest.mark.parametrize("version", ["2.0.0", "1.0.1", "banana", None, "", "-1.0.0", -1, 1.0, "1.0", "01.0.0", ["1"]])
def test_trap_24_a_newer_or_malformed_version_is_refused(path: Path, version: object) -> None:
    """Every operation on it fails with UnsupportedFormat, also in bulk, and the file stays as it was."""
    with waypost.open(path) as wp:
        make_old(wp, version=version)
    register_migration("0.9.0", CURRENT, double)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with waypost.open(path) as wp:
        for result in (
            wp.load_workflow_state("w"),
            wp.update_step_status("w", "b", "running"),
            wp.pause_workflow("w"),
            wp.delete_workflow("w"),
            wp.update_context("w", variables={"a": 1}),
            wp.create_workflow("w", "New"),
            wp.create_workflow("w", "New", if_exists="open"),
        ):
            assert isinstance(result.error, UnsupportedFormat), result
        for read in (wp.validate_workflow_state, lambda name: wp.get_step_output(name, "a")):
            with pytest.raises(UnsupportedFormat, match="workflow 'w'"):
                read("w")
        assert wp.list_workflows().total == 0
        (one,) = wp.migrate_workflows().workflows
        assert one.error is not None and "'w'" in one.error and "schema version" in one.error
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_trap_24_an_older_version_without_steps_is_refused(path: Path) -> None:
    """Where no step leads on, the error names the version; the file stays as it was."""
    with waypost.open(path) as wp:
        make_old(wp, version="0.8.0")
    before = (path / "workflows" / "w.state").read_bytes()
    register_migration("0.9.0", CURRENT, double)
    with waypost.open(path) as wp:
        error = wp.load_workflow_state("w").error
        assert isinstance(error, MigrationFailed)
        assert "workflow 'w'" in str(error) and "no registered migration leads on from 0.8.0" in str(error)
        assert isinstance(wp.pause_workflow("w").error, MigrationFailed)
    assert (path / "workflows" / "w.state").read_bytes() == before
    assert not (path / "backups").exists()


def test_any_write_migrates_first(wp: Waypost, store: Store) -> None:
    """A write to an older workflow finds it migrated, and is then carried out once."""
    make_old(wp)
    register_migration("0.9.0", CURRENT, double)
    wp.update_step_status("w", "b", "completed", 5, operation_id="op").unwrap()
    assert wp.update_step_status("w", "b", "completed", 5, operation_id="op").unwrap().output == 5
    assert isinstance(wp.create_workflow("w", "W").error, WorkflowExists)
    check_migrated(wp)


async def test_any_write_migrates_first_on_the_asynchronous_face(store_factory: StoreFactory) -> None:
    """The asynchronous face does the same, and loads and migrates in bulk like the other."""
    store = store_factory()
    for name in ("w", "x", "y"):
        make_old(handle(store), name)
    register_migration("0.9.0", CURRENT, double)
    awp = waypost.AsyncWaypost(handle(store).definitions)
    (await awp.update_step_status("w", "b", "completed", 5)).unwrap()
    assert (await awp.load_workflow_state("x")).unwrap().context.variables["count"] == 2
    assert [one.workflow_id for one in (await awp.migrate_workflows()).workflows] == ["y"]
    for name in ("w", "x", "y"):
        check_migrated(handle(store), name)


def test_a_run_takes_up_an_older_workflow(wp: Waypost) -> None:
    """A run migrates the workflow that it picks up."""
    make_old(wp)
    register_migration("0.9.0", CURRENT, double)
    with wp.run("w", steps=["a", "b"]) as run:
        assert [run.do(step_id, str.upper, step_id) for step_id in run.ready()] == ["B"]
    check_migrated(wp)


def test_d15_a_store_open_for_reading_is_migrated_in_memory(path: Path) -> None:
    """A read-only store shows the migrated workflow, true in itself, and no byte of it changes."""
    with waypost.open(path) as wp:
        make_old(wp)
    register_migration("0.9.0", CURRENT, double)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    store = directory_store(path, read_only=True)
    wp = handle(store)
    check_migrated(wp)
    assert [one.name for one in wp.list_workflows()] == ["Old"]
    with pytest.raises(StoreReadOnly):
        store.keep_generation(W, 1)
    store.close()
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_e08_where_nothing_can_be_written_reading_goes_on(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On a full disk a workflow is migrated in memory, with a warning; a write fails as it would anyway."""
    with waypost.open(path) as wp:
        make_old(wp)
    register_migration("0.9.0", CURRENT, double)
    with waypost.open(path) as wp, system_calls() as calls:
        calls.fault = failing("pwrite", 1, errno.ENOSPC, onwards=True)
        check_migrated(wp)
        assert "in memory only" in caplog.text
        assert wp.pause_workflow("w").error.code == "store_unavailable"
        calls.fault = None
        check_migrated(wp)
        assert wp.load_workflow_state("w").unwrap().metadata.version == 7


def test_an_earlier_version_is_read_as_it_would_be_now(wp: Waypost, store: Store) -> None:
    """The first result of an operation is found again in a version from before the migration."""
    wp.create_workflow("w", "W", steps=["a"]).unwrap()
    wp.update_context("w", variables={"count": 1}, configuration={"mode": ""}).unwrap()
    stamp(store, "0.9.0")
    store.submit(change(W, lambda tx: tx.project(["context"]), operation_id="op", repeatable=True)).result()
    register_migration("0.9.0", CURRENT, double)
    wp.update_context("w", variables={"count": 50}).unwrap()
    assert wp.get_outcome("op").data.variables["count"] == 2
    assert wp.load_workflow_state("w").unwrap().context.variables["count"] == 50


# --- what goes wrong ---


def fail(_: MigratingDocument) -> None:
    raise ValueError("cannot be")


def make_unstorable(document: MigratingDocument) -> None:
    document.variables["bad"] = object()


def make_unsound(document: MigratingDocument) -> None:
    del document[records.STEP + "b"]


def take_the_record(document: MigratingDocument) -> None:
    del document[records.WORKFLOW]


@pytest.mark.parametrize(
    ("upgrade", "validate", "reason"),
    [
        (fail, None, "ValueError: cannot be"),
        (double, fail, "ValueError: cannot be"),
        (double, lambda document: False, "what it made is not valid"),
        (make_unstorable, None, "variable.bad"),
        (make_unsound, None, "step 'b' stands in the order, and is not there"),
        (take_the_record, None, "no record of the workflow"),
    ],
)
def test_trap_24_a_step_that_fails_changes_nothing(
    path: Path, upgrade: Callable[[Any], Any], validate: Callable[[Any], Any] | None, reason: str
) -> None:
    """The error names workflow, step and reason; nothing is written, and others are migrated."""
    with waypost.open(path) as wp:
        make_old(wp)
        make_old(wp, "other", "0.9.1")
    register_migration("0.9.0", "0.9.1", upgrade, None, validate)
    register_migration("0.9.1", CURRENT, double)
    before = (path / "workflows" / "w.state").read_bytes()
    with waypost.open(path) as wp:
        error = wp.load_workflow_state("w").error
        assert isinstance(error, MigrationFailed)
        for said in ("workflow 'w'", "0.9.0 to 0.9.1", reason):
            assert said in str(error)
        report = wp.migrate_workflows()
        assert [one.workflow_id for one in report.failed] == ["w"]
        check_migrated(wp, "other")
    assert (path / "workflows" / "w.state").read_bytes() == before
    assert [entry.name for entry in (path / "backups").iterdir()] == ["other.state.v6"]


def test_steps_that_fit_no_row_are_refused_when_they_are_registered() -> None:
    """Two steps from one version, a circle, a step to nowhere and a version that is none are errors at once."""
    register_migration("0.8.0", "0.9.0", double)
    register_migration("0.8.0", "0.9.0", double)  # the same again
    for from_version, to_version, application, said in (
        ("0.8.0", "1.0.0", None, "two migrations lead on from 0.8.0"),
        ("0.9.0", "0.8.0", None, "higher version"),
        ("0.9.0", "0.9.0", None, "higher version"),
        ("1.0.0", "1.1.0", None, "application="),
        ("banana", "1.0.0", None, "three numbers"),
        ("0.9", "1.0.0", None, "three numbers"),
        ("1.0.0", "1.1.0", "Über", "does not match"),
    ):
        with pytest.raises(InvalidConfiguration, match=said):
            register_migration(from_version, to_version, double, application=application)
    with pytest.raises(InvalidConfiguration, match="the validate of"):
        register_migration("0.9.0", "1.0.0", double, validate="x")  # type: ignore[arg-type]
    unregister_migration("0.8.0")
    with pytest.raises(InvalidConfiguration, match="no migration"):
        unregister_migration("0.8.0")


def test_a_missing_link_names_the_version_it_is_missing_at(wp: Waypost) -> None:
    """A row of steps with a hole, and a step that leads past the target, are errors that say where."""
    make_old(wp, version="0.7.0")
    register_migration("0.7.0", "0.8.0", double)
    register_migration("0.9.0", CURRENT, double)
    assert "leads on from 0.8.0" in str(wp.load_workflow_state("w").error)
    register_migration("0.8.0", CURRENT, double)
    (one,) = wp.migrate_workflows(to="0.9.0").workflows
    assert one.error is not None and "the migration from 0.8.0 leads to 1.0.0, past 0.9.0" in one.error
    with pytest.raises(InvalidConfiguration, match=r"there are 0\.7\.0, 0\.8\.0, 0\.9\.0, 1\.0\.0"):
        wp.migrate_workflows(to="0.6.0")


def test_v08_what_was_only_looked_at_keeps_its_bytes(wp: Waypost, store: Store) -> None:
    """A step that reads everything and changes nothing leaves every part but the version, however it was encoded."""
    make_old(wp)
    store.submit(change(W, lambda tx: tx.put(f"{records.FEATURE}odd", b"\xcd\x00\x01"))).result()
    before = parts_of(store)

    def look(document: MigratingDocument) -> None:
        assert len(document) == len(before) == len(dict(document))
        assert len(list(document.outputs.values())) == len(document.outputs) == 2
        assert dict(document.variables) == {"count": 1, "keep": (1, 2)}
        assert dict(document.features) == {"odd": 1}

    register_migration("0.9.0", CURRENT, look)
    wp.load_workflow_state("w").unwrap()
    after = parts_of(store)
    assert {key for key in after if after[key] != before[key]} == {records.WORKFLOW}


# --- applications ---


def test_an_application_migrates_what_is_its_own(wp: Waypost, store: Store) -> None:
    """Its versions stand beside Waypost's; what has none stands at the beginning, what is new is at the newest."""
    wp.create_workflow("w", "W").unwrap()
    wp.update_context("w", variables={"count": 1}, configuration={"mode": ""}).unwrap()
    register_migration("1.0.0", "1.1.0", double, halve, application="survey")
    metadata = wp.load_workflow_state("w").unwrap().metadata
    assert (metadata.schema_version, metadata.application_versions) == (CURRENT, {"survey": "1.1.0"})
    state = wp.create_workflow("new", "New").unwrap()
    assert state.metadata.application_versions == {"survey": "1.1.0"}
    register_migration("1.1.0", "2.0.0", add_two, application="survey")
    register_migration("1.0.0", "3.0.0", lambda document: None, application="other")
    state = wp.load_workflow_state("w").unwrap()
    assert state.context.variables["count"] == 4
    assert state.metadata.application_versions == {"other": "3.0.0", "survey": "2.0.0"}


def test_whoever_does_not_know_an_application_reads_its_workflows(wp: Waypost, store: Store) -> None:
    """Without its steps a workflow is read and written as it is, and keeps its versions; with older steps it is not."""
    wp.create_workflow("w", "W").unwrap()
    register_migration("1.0.0", "2.0.0", lambda document: None, application="survey")
    wp.load_workflow_state("w").unwrap()
    unregister_migration("1.0.0", application="survey")
    state = wp.pause_workflow("w").unwrap()
    state.workflow.name = "renamed"
    assert wp.save_workflow_state(state).unwrap().metadata.application_versions == {"survey": "2.0.0"}
    register_migration("1.0.0", "1.5.0", lambda document: None, application="survey")
    error = wp.load_workflow_state("w").error
    assert isinstance(error, UnsupportedFormat) and "'survey' 2.0.0" in str(error)


# --- in bulk, and back ---


def test_a_dry_run_takes_every_step_and_changes_nothing(path: Path) -> None:
    """It says what would be added, removed and changed; afterwards every file has its bytes."""
    with waypost.open(path) as wp:
        for name in ("w", "x"):
            make_old(wp, name)
        wp.create_workflow("new", "New").unwrap()
        wp.create_workflow("gone", "Gone").unwrap()
        wp.delete_workflow("gone").unwrap()
    taken: list[str] = []
    register_migration("0.9.0", CURRENT, lambda document: (double(document), taken.append(document.workflow_id)))
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with waypost.open(path) as wp:
        report = wp.migrate_workflows(dry_run=True)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert (taken, report.current, report.failed, report.targets) == (["w", "x"], 2, [], {"waypost": CURRENT})
    one = report.workflows[0]
    assert (one.steps, one.parts_added, one.parts_removed, one.parts_changed) == (["0.9.0 to 1.0.0"], 1, 1, 5)
    with waypost.open(path) as wp:
        size = wp.definitions.store.view(W).size_bytes
        done = wp.migrate_workflows()
        assert done.workflows == report.workflows
        assert (one.bytes_before, one.bytes_after) == (size, wp.definitions.store.view(W).size_bytes)
        check_migrated(wp)
        assert wp.migrate_workflows().current == 4


def test_a_migration_can_be_taken_back(wp: Waypost, store: Store) -> None:
    """Where every step has a downgrade, `to` leads back to the very parts; where one has not, the error names it."""
    make_old(wp)
    before = parts_of(store)
    register_migration("0.9.0", CURRENT, double, halve)
    assert wp.migrate_workflows().failed == []
    assert parts_of(store) != before
    assert wp.migrate_workflows(to="0.9.0").failed == []
    assert parts_of(store) == before
    check_migrated(wp)
    unregister_migration("0.9.0")
    register_migration("0.9.0", CURRENT, double)
    (one,) = wp.migrate_workflows(to="0.9.0").workflows
    assert one.error is not None and "1.0.0 back to 0.9.0 failed: it has no downgrade" in one.error
    check_migrated(wp)


def test_an_application_goes_back_by_itself(wp: Waypost) -> None:
    """Going back in an application's versions leaves Waypost's, and is checked by the step that leads there."""
    wp.create_workflow("w", "W").unwrap()
    wp.update_context("w", variables={"count": 1}, configuration={"mode": ""}).unwrap()
    checked: list[int] = []
    register_migration("1.0.0", "2.0.0", double, halve, lambda d: checked.append(d.variables["count"]), application="a")
    register_migration("2.0.0", "3.0.0", lambda d: None, lambda d: None, application="a")
    assert wp.migrate_workflows(to="3.0.0", application="a").failed == []
    assert wp.migrate_workflows(to="2.0.0", application="a").failed == []
    assert checked == [2, 2]
    assert wp.migrate_workflows(to="1.0.0", application="a").failed == []
    unregister_migration("1.0.0", application="a")
    unregister_migration("2.0.0", application="a")
    state = wp.load_workflow_state("w").unwrap()
    assert state.metadata.application_versions == {"a": "1.0.0"}
    assert state.context.variables["count"] == 1


def test_trap_24_what_a_migration_rewrites_is_kept(path: Path) -> None:
    """The log as it was lies in `backups/`; put back in its place, it is the workflow of before."""
    with waypost.open(path) as wp:
        make_old(wp)
        before, version = parts_of(wp.definitions.store), wp.definitions.store.view(W).version
        assert not wp.definitions.store.keep_generation(W, version - 1)  # which is the newest no more
        assert not (path / "backups").exists()
    register_migration("0.9.0", CURRENT, double)
    with waypost.open(path) as wp:
        check_migrated(wp)
        earlier = wp.definitions.store.view_at(W, version)
        assert earlier is not None and {key: earlier.get(key) for key in earlier.keys()} == before
    (backup,) = (path / "backups").iterdir()
    assert backup.name == f"w.state.v{version}" and backup.stat().st_mode & 0o777 == 0o600
    (path / "workflows" / "w.state").write_bytes(backup.read_bytes())
    store = directory_store(path)
    assert store.verify().sound
    assert (parts_of(store), store.view(W).version) == (before, version)
    check_migrated(handle(store))
    store.close()


def test_backups_of_migrations_are_bounded(path: Path) -> None:
    """`reliability.backup_retention` counts them apart from those of compaction; nothing is copied at 0."""
    with waypost.open(path, config={"reliability": {"backup_retention": 2}}) as wp:
        make_old(wp)
        register_migration("0.9.0", CURRENT, double, halve)
        for _ in range(3):
            wp.migrate_workflows()
            wp.migrate_workflows(to="0.9.0")
    assert sorted(entry.name for entry in (path / "backups").iterdir()) == ["w.state.v10", "w.state.v11"]
    with waypost.open(path, config={"reliability": {"backup_retention": 0}}) as wp:
        wp.migrate_workflows()
    assert list((path / "backups").iterdir()) == []


# --- two at once, and crashes ---


def test_a_migration_starts_anew_when_others_come_in_between(wp: Waypost, store: Store) -> None:
    """A commit between planning and committing has the steps run again on what is there then; nothing is lost."""
    make_old(wp)
    runs: list[int] = []

    def upgrade(document: MigratingDocument) -> None:
        runs.append(document.variables["count"])
        if len(runs) == 1:
            data = values.encode(5)
            store.submit(change(W, lambda tx: tx.put(f"{records.VARIABLE}count", data))).result()
        double(document)

    register_migration("0.9.0", CURRENT, upgrade)
    wp.load_workflow_state("w").unwrap()
    assert runs == [1, 5]
    assert wp.load_workflow_state("w").unwrap().context.variables["count"] == 10


def test_a_migration_depends_on_all_that_its_steps_may_have_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process's commit at the last moment, of a part that a step read and did not write, is taken in."""
    ours, theirs = directory_store(path), directory_store(path)
    make_old(handle(ours))

    def upgrade(document: MigratingDocument) -> None:
        document.variables["copy"] = document.variables["count"]

    register_migration("0.9.0", CURRENT, upgrade)
    real, locked = Log.lock, []

    def lock(log: Log) -> Any:
        if not locked:
            locked.append(log)
            five = values.encode(5)
            theirs.submit(change(W, lambda tx: tx.put(f"{records.VARIABLE}count", five))).result()
        return real(log)

    monkeypatch.setattr(Log, "lock", lock)
    state = handle(ours).load_workflow_state("w").unwrap()
    assert (state.context.variables["copy"], state.context.variables["count"], len(locked)) == (5, 5, 1)
    ours.close()
    theirs.close()


@pytest.mark.parametrize("mode", ["load", "bulk"])
def test_trap_24_processes_that_migrate_at_once_do_it_once(path: Path, mode: str) -> None:
    """Of four processes that meet an older workflow, one migrates it, and all find it migrated."""
    with waypost.open(path) as wp:
        make_old(wp)
        version = wp.definitions.store.view(W).version
    workers = [start(path, mode, "wait") for _ in range(4)]
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.read(5) == b"ready"
    outs = [worker.communicate(b"x", timeout=60)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4
    if mode == "bulk":
        assert sum(int(out) for out in outs) == 1
    store = directory_store(path)
    check_migrated(handle(store))
    assert store.view(W).version == version + 1
    assert store.verify().sound
    store.close()


# --- the command line ---


@pytest.fixture
def old_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of three older workflows, one of them beyond help, and one that is up to date."""
    monkeypatch.delenv("WAYPOST_STATE", raising=False)
    with waypost.open(path) as wp:
        for name, version in (("w", "0.9.0"), ("x", "0.9.0"), ("banana", "banana")):
            make_old(wp, name, version)
        wp.create_workflow("new", "New").unwrap()
    register_migration("0.9.0", CURRENT, double, halve)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.call(["store", "migrate", *arguments])
    return status, *capsys.readouterr()


def test_store_migrate_shows_what_it_would_do(old_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--dry-run` lists steps, parts and bytes of each workflow, and names the one that cannot be migrated."""
    before = {file: file.read_bytes() for file in old_store.rglob("*") if file.is_file()}
    status, out, _ = run(capsys, "--state", str(old_store), "--dry-run")
    assert status == 1
    (row,) = [line.split() for line in out.splitlines() if line.startswith("w ")]
    assert row[:8] == ["w", "0.9.0", "to", "1.0.0", "+1", "-1", "5", "changed"]
    assert "workflow 'banana' has 'banana' for its schema version" in out
    assert out.splitlines()[-1] == "✗ 1 cannot be migrated; 2 workflows would be migrated, 1 up to date"
    assert {file: file.read_bytes() for file in old_store.rglob("*") if file.is_file()} == before


def test_store_migrate_asks_first(
    old_store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal it wants --yes; with one it says what will change, and a no changes nothing."""
    status, _, err = run(capsys, "--state", str(old_store))
    assert status == 2 and "2 workflows" in err and "Say --yes" in err
    status, out, _ = run(capsys, "--state", str(old_store), "--json")
    assert status == 2 and json.loads(out)["error"]["code"] == "invalid_input"
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    status, _, err = run(capsys, "--state", str(old_store))
    assert status == 1 and "will be migrated to waypost 1.0.0" in err
    store = directory_store(old_store, read_only=True)
    assert store.view(W).version == 6
    store.close()


def test_store_migrate_migrates_and_leads_back(old_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --yes it migrates all it can; `--to` leads back; what is up to date needs no question."""
    status, out, _ = run(capsys, "--state", str(old_store), "--yes", "--json")
    told = json.loads(out)
    assert (status, told["migrated"], told["failed"], told["current"]) == (1, 2, 1, 1)
    assert {one["workflow_id"] for one in told["workflows"] if one["error"] is None} == {"w", "x"}
    with waypost.open(old_store) as wp:
        check_migrated(wp)
        check_migrated(wp, "x")
    assert run(capsys, "--state", str(old_store))[1].splitlines()[-1].endswith("0 workflows migrated, 3 up to date")
    status, out, _ = run(capsys, "--state", str(old_store), "--to", "0.9.0", "--yes", "--json")
    told = json.loads(out)
    assert (told["migrated"], told["failed"]) == (2, 2)
    assert "1.0.0 back to 0.9.0 failed: KeyError: 'count'" in told["workflows"][1]["error"]
    store = directory_store(old_store, read_only=True)
    assert store.view(W).version == 8
    store.close()
    status, _, err = run(capsys, "--state", str(old_store), "--to", "0.1.0")
    assert status == 2 and "no migration leads to '0.1.0': there are 0.9.0, 1.0.0" in err


def test_store_migrate_imports_the_steps_of_an_application(
    old_store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--import` names a module beside the caller that registers steps; one that fails to import is an error."""
    (old_store.parent / "its_steps.py").write_text(
        "import waypost\nwaypost.register_migration('1.0.0', '2.0.0', lambda document: None, application='survey')\n"
    )
    monkeypatch.chdir(old_store.parent)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.delitem(sys.modules, "its_steps", raising=False)
    status, out, _ = run(capsys, "--state", str(old_store), "--import", "its_steps", "--yes", "--json")
    told = json.loads(out)
    assert (told["targets"], told["migrated"]) == ({"waypost": CURRENT, "survey": "2.0.0"}, 3)
    with waypost.open(old_store) as wp:
        assert wp.load_workflow_state("new").unwrap().metadata.application_versions == {"survey": "2.0.0"}
    status, _, err = run(capsys, "--state", str(old_store), "--import", "nothing_there")
    assert status == 2 and "cannot import 'nothing_there': ModuleNotFoundError" in err
    status, _, err = run(capsys, "--state", str(old_store), "--application", "nobody", "--dry-run")
    assert status == 2 and "no migration of an application 'nobody'" in err
