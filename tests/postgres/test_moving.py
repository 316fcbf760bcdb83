"""Moving a team: from a directory to a server by one command, and out again into another directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import waypost
from tests import servers
from waypost.blocking import Waypost
from waypost.store import DocumentId

NAMES = ("one", "two", "gone")
LARGE = b"\0" + b"large" * 60_000


def command(*arguments: str) -> str:
    """What `waypost` prints for these arguments."""
    done = subprocess.run(
        [sys.executable, "-m", "waypost", *arguments], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def milestone(wp: Waypost) -> str:
    return next(each.id for each in wp.list_checkpoints("one", 1000) if "milestone" in each.tags)


def work_on(place: Path) -> None:
    """A store with a session, checkpoints, a large value, a restore, an erasure and a deletion."""
    with waypost.open(place) as wp:
        session = wp.start_session("ann", environment={"resume_command": "python nightly.py"})
        for name in NAMES:
            wp.create_workflow(name, name.title(), steps=["fetch", "parse", "report"]).unwrap()
        wp.update_step_status("one", "fetch", "completed", {"rows": 3}).unwrap()
        wp.create_checkpoint("one", "before", ["milestone"]).unwrap()
        wp.update_step_status("one", "parse", "completed", LARGE).unwrap()
        wp.update_context("two", variables={"mode": "full", "nul": "a\0b", "secret": "canary"}).unwrap()
        wp.erase("two", "context.variables.secret").unwrap()
        wp.restore_from_checkpoint(milestone(wp)).unwrap()
        wp.update_step_status("one", "parse", "completed", LARGE).unwrap()
        wp.delete_workflow("gone").unwrap()
        wp.end_session(session.session_id).unwrap()


def told(wp: Waypost, name: str) -> object:
    """All that there is to say of a workflow that does not depend on where it is kept."""
    document = DocumentId("workflow", name)
    store = wp.definitions.store
    view = store.view(document)
    commits = [
        (each.version, each.commit_id, each.time_us, each.operation_id, each.operation, each.session, each.checksum)
        for each in store.past(document).commits()
    ]
    return (view.version, view.commit_id, view.checksum, view.size_bytes, view.time_us), commits


def checksum_of(wp: Waypost, name: str, checkpoint: str) -> bytes:
    """Of the version that a checkpoint stands for."""
    version = wp.definitions.store.checkpoint(DocumentId("workflow", name), checkpoint.partition("@")[2])
    if version is None:
        version = wp.definitions.store.checkpoint(DocumentId("workflow", name), checkpoint)
    assert version is not None
    return version.checksum


def test_what_moves_to_a_server_and_out_again_is_equal_and_restorable(tmp_path: Path) -> None:
    """Directory, server, another directory: equal documents, history, sessions, and every checkpoint comes back."""
    work_on(tmp_path / "a")
    with servers.postgres().lent() as server:
        command("store", "sync", str(tmp_path / "a"), server)
        assert "canary" not in command("show", "two", "--state", server)
        command("store", "sync", server, str(tmp_path / "b"))
        assert command("store", "sync", str(tmp_path / "b"), server, "--json").count('"action"') == 0
        with waypost.open(tmp_path / "a") as a, waypost.open(server) as on_server, waypost.open(tmp_path / "b") as b:
            for name in NAMES:
                assert told(a, name) == told(on_server, name) == told(b, name)
            assert [each.session_id for each in a.list_sessions()] == [each.session_id for each in b.list_sessions()]
            assert [wp.get_step_output("one", "parse").output for wp in (on_server, b)] == [LARGE, LARGE]
            for name in ("one", "two"):
                kept = [each.id for each in a.list_checkpoints(name, 1000)]
                assert kept == [each.id for each in on_server.list_checkpoints(name, 1000)]
                assert kept == [each.id for each in b.list_checkpoints(name, 1000)]
                for checkpoint in kept:
                    assert len({checksum_of(wp, name, checkpoint) for wp in (a, on_server, b)}) == 1
                    states = [wp.restore_from_checkpoint(checkpoint).unwrap() for wp in (a, on_server, b)]
                    assert (
                        len({str([(each.id, each.status) for each in state.workflow.steps]) for state in states}) == 1
                    )
            assert on_server.definitions.store.verify().sound and b.definitions.store.verify().sound


def test_what_both_sides_changed_meanwhile_is_the_same_on_both_afterwards(tmp_path: Path) -> None:
    """A directory that was taken along and a server that went on are brought together without a conflict."""
    work_on(tmp_path / "a")
    with servers.postgres().lent() as server:
        command("store", "sync", str(tmp_path / "a"), server)
        with waypost.open(tmp_path / "a") as a, waypost.open(server) as on_server:
            a.update_step_status("one", "report", "completed", {"pages": 7}).unwrap()
            on_server.update_context("one", variables={"reviewer": "bo"}).unwrap()
            on_server.create_checkpoint("one", "on the server", ["release"]).unwrap()
            a.create_checkpoint("one", "on the train", ["stable"]).unwrap()
        command("store", "sync", str(tmp_path / "a"), server)
        with waypost.open(tmp_path / "a") as a, waypost.open(server) as on_server:
            views = [wp.definitions.store.view(DocumentId("workflow", "one")) for wp in (a, on_server)]
            assert views[0].commit_id == views[1].commit_id and views[0].checksum == views[1].checksum
            for wp in (a, on_server):
                state = wp.load_workflow_state("one").unwrap()
                assert state.step("report").status == "completed"
                assert state.context.variables["reviewer"] == "bo"
                tags = {tag: each.id for each in wp.list_checkpoints("one", 1000) for tag in each.tags}
                wp.fork_workflow(tags["release"], "from-server").unwrap()
                wp.fork_workflow(tags["stable"], "from-train").unwrap()
                assert wp.load_workflow_state("from-train").unwrap().step("report").status == "completed"
                assert wp.load_workflow_state("from-server").unwrap().context.variables["reviewer"] == "bo"
