"""A canary secret goes through all there is, and nothing that was then written, shown, logged or raised holds it."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.canary import CANARY, CONTROL, KEY, OLD_KEY, SECRETS, Watch, check_files, forbidden
from tests.conftest import make_config
from tests.test_cli import Shown, call, here
from waypost import schema
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import WaypostError
from waypost.models import Workflow, WorkflowContext, WorkflowState
from waypost.records import SECRET
from waypost.store import DocumentId, Store, open_store

__all__ = ["call", "here"]  # fixtures

W = DocumentId("workflow", "w")
PLAIN = {"compression": {"enabled": False}}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYPOST_KEY", f"{KEY} {OLD_KEY}")


@pytest.fixture
def watch(caplog: pytest.LogCaptureFixture) -> Iterator[Watch]:
    """Watches what is logged as well, and checks at the end."""
    caplog.set_level(logging.DEBUG)
    made = Watch()
    yield made
    made.records([*caplog.get_records("setup"), *caplog.get_records("call")])
    made.check()


@pytest.fixture
def wp(store_factory: Callable[..., Store], monkeypatch: pytest.MonkeyPatch) -> Waypost:
    """A handle that logs every operation, over a store in which nothing is compressed, with secrets of an old key."""
    config = make_config(PLAIN)
    monkeypatch.setenv("WAYPOST_KEY", OLD_KEY)
    made = Waypost(Definitions(store_factory(config), config, verbose=True))
    fill(made)
    monkeypatch.setenv("WAYPOST_KEY", f"{KEY} {OLD_KEY}")
    store: Any = made.definitions.store
    store.keys = type(store.keys)(config)
    return made


def fill(wp: Waypost) -> None:
    context = WorkflowContext(secrets=dict(SECRETS), variables={"control": CONTROL})
    wp.create_workflow("w", "W", steps=["a", "b"], context=context).unwrap()
    wp.update_step_status("w", "a", "completed", {"n": 1}).unwrap()


def sealed_in(store: Store) -> set[bytes]:
    """All sealed bytes of the workflow, of every version."""
    return {
        bytes(commit.read(key))
        for commit in store.past(W).commits()
        for key in commit.puts
        if key.startswith(SECRET) and key in commit.puts
    }


def test_the_search_finds_what_it_is_for(tmp_path: Path) -> None:
    """In clear, in hex, in base64 from any place on, and in a key; and not where there is none."""
    from base64 import b64encode

    for text in (
        CANARY,
        CANARY.encode().hex(),
        KEY,
        *(b64encode(b"x" * n + CANARY.encode()).decode() for n in range(5)),
    ):
        watch = Watch()
        watch.text("here", f"before {text} after")
        with pytest.raises(AssertionError):
            watch.check()
        (tmp_path / "file").write_text(f"{CONTROL} {text}")
        with pytest.raises(AssertionError):
            check_files(tmp_path)
    watch = Watch()
    watch.value("a plain context", {"secrets": CANARY})
    with pytest.raises(AssertionError):
        watch.check()
    (tmp_path / "file").write_text("nothing")
    with pytest.raises(AssertionError, match="proves nothing"):
        check_files(tmp_path)
    (tmp_path / "file").write_text(CONTROL)
    assert check_files(tmp_path) == 1 and len(forbidden()) >= 20


# --- the library ---


def test_trap_31_x22_no_operation_shows_a_secret(wp: Waypost, watch: Watch, tmp_path: Path) -> None:
    """Every operation that writes, looks, carries or looks back; what it gives, prints and logs."""
    store = wp.definitions.store
    watch.value("a context", WorkflowContext(secrets=dict(SECRETS)))
    results: dict[str, Any] = {
        "create": wp.create_workflow("v", "V", context=WorkflowContext(secrets=dict(SECRETS))),
        "again": wp.create_workflow("v", "V", context=WorkflowContext(secrets=dict(SECRETS))),
        "update": wp.update_context("w", secrets={"token": CANARY, "new": CANARY}, operation_id="one"),
        "repeated": wp.update_context("w", secrets={"token": CANARY, "new": CANARY}, operation_id="one"),
        "checkpoint": wp.create_checkpoint("w", "kept"),
        "outcome": wp.get_outcome("one"),
        "validation": wp.validate_workflow_state("w"),
        "list": wp.list_workflows(),
        "checkpoints": wp.list_checkpoints("w"),
        "suggestions": wp.get_recovery_suggestions("w"),
    }
    state = wp.load_workflow_state("w").unwrap()
    assert dict(state.context.secrets)["token"] == CANARY
    results["opened state"], results["opened secrets"] = state, state.context.secrets
    state.context.secrets["token"] = CANARY + "2"
    results["save"] = wp.save_workflow_state(state, create_checkpoint=True)
    results["conflict"] = wp.save_workflow_state(stale(wp))
    by_hand = WorkflowState(workflow=Workflow("hand"), context=WorkflowContext(secrets=dict(SECRETS)))
    results["made by hand"], results["saved by hand"] = by_hand, wp.save_workflow_state(by_hand)
    kept = results["checkpoint"].unwrap()
    data = wp.export_checkpoint(kept.id)
    watch.carried.append(("export", data))
    results |= {
        "validated": wp.validate_checkpoint(kept.id),
        "fork": wp.fork_workflow(kept.id, "forked"),
        "import": wp.import_checkpoint(data, "imported"),
        "restore": wp.restore_from_checkpoint(kept.id),
        "rotation": wp.rotate_secrets(),
        "history": wp.history("w"),
        "diff": wp.diff("w@1", "w"),
        "diff of two": list(wp.diff(kept.id, "v")),
        "blame": wp.blame("w", "context.secrets.token"),
        "blame of all": wp.blame("w", "context"),
        "blame of secrets": wp.blame("w", "context.secrets"),
        "transaction": wp.transact(lambda tx: tx.update_context("w", secrets={"t": CANARY}) and None),
        "migration": wp.migrate_workflows(),
        "cleanup": wp.cleanup(),
        "deletion": wp.delete_workflow("forked"),
        "a change": wp.definitions.update_context("w", secrets={"u": CANARY}),
    }
    results["opened again"] = {name: wp.load_workflow_state(name) for name in ("w", "v", "imported", "hand")}
    for name, result in results.items():
        watch.value(name, result)
        if callable(getattr(result, "unwrap", None)) and result.success:
            watch.value(name, result.data)
    assert results["rotation"].resealed and not results["rotation"].failed
    watch.sealed = sealed_in(store)
    assert len(watch.sealed) > 5


def test_trap_31_x22_no_session_shows_a_secret(wp: Waypost, watch: Watch, store_factory: Callable[..., Store]) -> None:
    """Secrets that are saved in a session's name, and exports of it, whole, cut, imported, and clashing."""
    results: dict[str, Any] = {
        "start": wp.start_session(environment={"control": CONTROL}, session_id="s"),
        "update": wp.update_context("w", secrets={"token": CANARY + "5"}, session_id="s"),
        "status": wp.update_step_status("w", "b", "running", session_id="s"),
        "session": wp.get_session("s"),
        "sessions": wp.list_sessions(),
        "statistics": wp.get_session_statistics("s"),
        "recovery": wp.detect_and_recover_crashed_sessions(),
        "pause": wp.pause_session("s"),
        "resume": wp.resume_session("s"),
        "end": wp.end_session("s"),
    }
    exports = {"export": wp.export_session("s"), "sealed export": wp.export_session("s", sealed=True)}
    watch.carried += [(name, data) for name, data in exports.items() if isinstance(data, bytes)]
    assert len(watch.carried) == 2
    wp.update_context("w", secrets={"token": CANARY + "6"}).unwrap()
    for name, data in exports.items():
        config = make_config(PLAIN)
        elsewhere = Waypost(Definitions(store_factory(config), config, verbose=True))
        results |= {
            f"cut {name}": elsewhere.import_session(data[:-50]),
            f"imported {name}": elsewhere.import_session(data, "another"),
            f"state of {name}": elsewhere.load_workflow_state("w").unwrap(),
            f"clash with {name}": wp.import_session(diverged(elsewhere), on_clash="merge"),
        }
        assert results[f"state of {name}"].context.secrets["token"] == CANARY + "5"
        assert not results[f"clash with {name}"].success and not results[f"cut {name}"].success
    for name, result in results.items():
        watch.value(name, result)
    watch.sealed = sealed_in(wp.definitions.store)


def diverged(wp: Waypost) -> bytes:
    """An export of a session whose workflow has another secret by now than where it came from."""
    wp.update_context("w", secrets={"token": CANARY + "7"}).unwrap()
    found = wp.export_session("another")
    assert isinstance(found, bytes)
    return found


def stale(wp: Waypost) -> WorkflowState:
    """A state that cannot be saved any more, with secrets in it that were opened and changed."""
    state = wp.load_workflow_state("w").unwrap()
    wp.update_context("w", secrets={"token": CANARY + "3"}).unwrap()
    state.context.secrets["token"] = CANARY + "4"
    return state


class Loud:
    def __repr__(self) -> str:
        return CANARY


def test_trap_31_x22_no_failure_tells_a_secret(wp: Waypost, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that cannot be stored, workflows that are not there, keys that are missing or are none."""
    bad: list[Any] = [
        Loud(),
        {CANARY: Loud()},
        [{CANARY: {"x": "\ud800" + CANARY}}],
        {Loud(): 1},
        {(CANARY, 1): Loud()},
    ]
    for value in bad:
        results = [
            wp.update_context("w", secrets={"token": value}),
            wp.create_workflow("x", "X", context=WorkflowContext(secrets={"token": value})),
            wp.save_workflow_state(
                WorkflowState(workflow=Workflow("x"), context=WorkflowContext(secrets={"t": value}))
            ),
        ]
        for result in results:
            assert not result.success
            watch.value("a value that cannot be stored", result)
    for result in (
        wp.update_context("none", secrets=dict(SECRETS)),
        wp.update_context("", secrets=dict(SECRETS)),
        wp.update_context("w", variables={"x": object()}, secrets=dict(SECRETS)),
        wp.update_context("w", secrets={**SECRETS, "": CANARY}),
        wp.create_workflow("w", "W", context=WorkflowContext(secrets=dict(SECRETS))),
        wp.update_agent_state("w", "a", {"status": CANARY}),
        wp.update_agent_state("w", "a", {"status": f"{CANARY} - at `$.x"}),
    ):
        assert not result.success
        watch.value("a refused call", result)
    store: Any = wp.definitions.store
    for given in ("", "3c" * 32, f"{KEY[:-1]}", f"{KEY} {CANARY}"):
        monkeypatch.setenv("WAYPOST_KEY", given)
        store.keys = type(store.keys)(wp.definitions.config)
        watch.value("a missing key", wp.update_context("w", secrets={"another": CANARY}))
        for ask in (lambda: wp.load_workflow_state("w").unwrap().context.secrets["token"], wp.rotate_secrets):
            try:
                watch.value("what a missing key lets through", ask())
            except WaypostError as error:
                watch.error("a missing key", error)


# --- the files ---


def test_trap_31_x22_no_file_of_a_store_holds_a_secret(watch: Watch, tmp_path: Path) -> None:
    """Nor a backup, an export, a log that was kept or moved aside, or what a repair leaves, under any umask."""
    root, config = tmp_path / "state", make_config(PLAIN)
    store = open_store(str(root), config)
    wp = Waypost(Definitions(store, config, verbose=True))
    fill(wp)
    wp.create_checkpoint("w").unwrap()
    for number in range(3):
        wp.update_context("w", secrets={"token": f"{CANARY}{number}", "large": SECRETS["large"] + str(number)}).unwrap()
        wp.create_checkpoint("w").unwrap()
    wp.add_step_output("w", "b", io.BytesIO(CONTROL.encode() * 9)).unwrap()
    watch.value("backup", wp.backup(tmp_path / "backup"))
    wp.update_context("w", secrets={"later": CANARY}).unwrap()
    watch.value("restored", wp.restore_backup(tmp_path / "backup", allow_older=True))
    wp.rotate_secrets()
    (tmp_path / "export").write_bytes(wp.export_checkpoint(wp.list_checkpoints("w").items[0].id))
    store.reclaim(W)
    files = check_files(root, tmp_path / "backup", tmp_path / "export")
    store.close()
    damage(root)
    watch.value("repair", waypost.repair(root))
    assert check_files(root, tmp_path / "backup", tmp_path / "export") > files > 5
    with waypost.open(root, config=PLAIN) as again:
        assert CANARY in again.load_workflow_state("w").unwrap().context.secrets["token"]


def damage(root: Path) -> None:
    """Spoil the log of the workflow, so that a repair has something to set aside."""
    (log,) = (root / "workflows").iterdir()
    data = bytearray(log.read_bytes())
    data[len(data) // 3] ^= 0xFF
    log.write_bytes(data)


def test_trap_31_x22_a_migration_leaves_secrets_sealed(watch: Watch, tmp_path: Path) -> None:
    """It sees them as they are sealed, may remove one, and cannot write one in clear; the kept log holds none."""
    before = dict(schema.targets())
    seen: list[Any] = []

    def upgrade(document: Any) -> None:
        seen.extend(document[key] for key in document if key.startswith(SECRET))
        del document[SECRET + "token"]

    def spoil(document: Any) -> None:
        document[SECRET + "deep"] = CANARY

    root, config = tmp_path / "state", make_config(PLAIN)
    store = open_store(str(root), config)
    wp = Waypost(Definitions(store, config, verbose=True))
    fill(wp)
    try:
        waypost.register_migration("0.0.0", "1.0.0", upgrade, application="canary-app")
        watch.value("migration", wp.migrate_workflows())
        assert sorted(wp.load_workflow_state("w").unwrap().context.secrets) == ["deep", "large"]
        waypost.register_migration("1.0.0", "2.0.0", spoil, application="canary-app")
        report = wp.migrate_workflows()
        watch.value("spoilt", report)
        assert "sealed" in str(report.failed[0].error)
    finally:
        forget_migrations("canary-app")
        store.close()
    assert len(seen) == 3 and all(type(each) is bytes for each in seen)
    assert dict(schema.targets()) == before
    check_files(root)


def forget_migrations(application: str) -> None:
    for version in ("0.0.0", "1.0.0"):
        schema.unregister_migration(version, application=application)


# --- the command line ---

COMMANDS = [
    ["status"],
    ["status", "w"],
    ["list"],
    ["show", "w"],
    ["show", "w", "--outputs", "--all"],
    ["show", "w", "--step", "a"],
    ["log", "w"],
    ["diff", "w@1", "w"],
    ["diff", "w@1", "w", "--all"],
    ["blame", "w", "context.secrets.token"],
    ["blame", "w", "context.secrets"],
    ["blame", "w", "context"],
    ["blame", "w", "context.secrets.token.inside"],
    ["resume"],
    ["resume", "w"],
    ["session", "list"],
    ["session", "recover"],
    ["checkpoint", "w"],
    ["checkpoint", "--list"],
    ["verify"],
    ["secret", "rotate"],
    ["store", "doctor"],
    ["store", "config"],
    ["store", "du", "w"],
    ["store", "cleanup", "--yes"],
    ["store", "migrate", "--yes"],
    ["store", "repair", "--dry-run"],
    ["store", "backup", "copy"],
]


def test_trap_31_x22_no_command_prints_a_secret(here: Path, watch: Watch, call: Callable[..., Shown]) -> None:
    """With and without --json, with the key, with another key, and with none."""
    with waypost.open(".claude/state", config=PLAIN) as wp:
        fill(wp)
        wp.start_session(session_id="s")
        wp.update_context("w", secrets={"token": CANARY + "2", "extra": CANARY}).unwrap()
        kept = wp.create_checkpoint("w").unwrap().id
        watch.sealed = sealed_in(wp.definitions.store)
    later = [
        ["restore", kept, "--yes"],
        ["fork", kept, "other"],
        ["checkpoint", "export", kept, "file"],
        ["session", "export", "s", "bundle", "--yes"],
        ["session", "export", "s", "bundle", "--yes", "--sealed"],
        ["session", "import", "bundle", "--as", "came", "--on-clash", "rename"],
    ]
    for number, given in enumerate((f"{KEY} {OLD_KEY}", OLD_KEY, "")):
        os.environ["WAYPOST_KEY"] = given  # put back by the fixture
        for command in [*COMMANDS, *later]:
            words = [
                f"{word}{number}" if word in ("copy", "other", "file", "bundle", "came") else word for word in command
            ]
            for as_json in ([], ["--json"]):
                shown = call(*words, *as_json)
                assert shown.status in (0, 1, 2, 3, 4), shown.err
                watch.text(" ".join(command), shown.out + shown.err)
    shown = call("show", "w")
    assert "secret token" in shown.out and "sealed" in shown.out
    assert "context.secrets.extra" in call("diff", "w@1", "w").out
    check_files(here)
