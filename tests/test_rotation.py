"""Rotation of keys: what workflows have now is sealed with the current key, and nothing is lost on the way."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import Shown, call, call_json, here
from tests.test_cli import wp as at_the_command_line
from tests.test_secrets import ONE, TWO, W, another, part, put, state_of, view_of
from waypost import keys, sealing
from waypost.blocking import Waypost
from waypost.errors import InvalidConfiguration, KeyMissing, SecretsNotSealed
from waypost.keys import parse
from waypost.models import WorkflowContext
from waypost.records import SECRET

__all__ = ["at_the_command_line", "call", "call_json", "here"]  # fixtures

ID_ONE, ID_TWO = (parse(text, "")[0].id for text in (ONE, TWO))


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYPOST_KEY", ONE)


@pytest.fixture
def held(wp: Waypost) -> Waypost:
    """A store with two workflows that have secrets, and one that has none."""
    for name in ("w", "v"):
        context = WorkflowContext(secrets={"text": "canary", "n": 1}, variables={"x": 1})
        wp.create_workflow(name, name.upper(), context=context).unwrap()
    wp.create_workflow("plain", "Plain").unwrap()
    return wp


def test_after_a_rotation_the_current_key_alone_opens_everything(held: Waypost, monkeypatch: Any) -> None:
    """Each workflow in one commit, in which nothing but secrets changes."""
    versions = {name: view_of(held, name).version for name in ("w", "v", "plain")}
    wp = another(held, monkeypatch, f"{TWO} {ONE}")
    report = wp.rotate_secrets()
    assert (report.key_id, report.resealed, report.current, report.failed) == (ID_TWO, 4, 1, [])
    assert {name: view_of(wp, name).version - number for name, number in versions.items()} == {
        "w": 1,
        "v": 1,
        "plain": 0,
    }
    assert {each.path for each in wp.diff(f"w@{versions['w']}", "w")} == {"context.secrets.n", "context.secrets.text"}
    entry = wp.history("w")[0]
    assert (entry.operation, list(entry.changed)) == ("rotate_secrets", ["context.secrets.n", "context.secrets.text"])
    wp = another(wp, monkeypatch, TWO)
    for name in ("w", "v"):
        assert dict(state_of(wp, name).context.secrets) == {"text": "canary", "n": 1}


def test_a_second_rotation_finds_nothing_to_do(held: Waypost, monkeypatch: Any) -> None:
    """And makes no commit, so that it may be repeated after it was cut off."""
    wp = another(held, monkeypatch, f"{TWO} {ONE}")
    wp.rotate_secrets()
    before = view_of(wp).version
    report = wp.rotate_secrets()
    assert (report.resealed, report.current, report.workflows) == (0, 3, [])
    assert view_of(wp).version == before


def test_only_what_another_key_sealed_is_sealed_anew(held: Waypost, monkeypatch: Any) -> None:
    """A secret that has the current key keeps its bytes."""
    wp = another(held, monkeypatch, f"{TWO} {ONE}")
    wp.update_context("w", secrets={"n": 2}).unwrap()
    before = part(wp, "n")
    assert {each.workflow_id: each.resealed for each in wp.rotate_secrets().workflows} == {"w": 1, "v": 2}
    assert part(wp, "n") == before and sealing.key_id_of(part(wp, "text")) == ID_TWO


def test_history_and_checkpoints_stay_sealed_with_the_old_key(held: Waypost, monkeypatch: Any) -> None:
    """As docs/secrets.md says: they need the old key, and what is restored is rotated again."""
    kept = held.create_checkpoint("w").unwrap()
    another(held, monkeypatch, f"{TWO} {ONE}").rotate_secrets()
    wp = another(held, monkeypatch, TWO)
    with pytest.raises(KeyMissing):
        wp.get_checkpoint(kept.id).state.context.secrets["text"]
    wp.restore_from_checkpoint(kept.id).unwrap()
    assert sealing.key_id_of(part(wp, "text")) == ID_ONE
    wp = another(wp, monkeypatch, f"{TWO} {ONE}")
    assert wp.get_checkpoint(kept.id).state.context.secrets["text"] == "canary"
    assert wp.rotate_secrets().resealed == 2
    assert state_of(another(wp, monkeypatch, TWO)).context.secrets["text"] == "canary"


def test_a_workflow_that_does_not_open_is_left_whole_and_the_others_go_on(held: Waypost, monkeypatch: Any) -> None:
    """One whose key is missing, and one with a secret that somebody changed."""
    three = "3" * 64
    another(held, monkeypatch, three).update_context("v", secrets={"n": 3}).unwrap()
    before = {name: part(held, name, "v") for name in ("n", "text")}
    wp = another(held, monkeypatch, f"{TWO} {ONE}")
    report = wp.rotate_secrets()
    assert [(each.workflow_id, each.resealed) for each in report.failed] == [("v", 0)]
    assert parse(three, "")[0].id in str(report.failed[0].error) and "'n'" in str(report.failed[0].error)
    assert {name: part(wp, name, "v") for name in before} == before
    assert sealing.key_id_of(part(wp, "text")) == ID_TWO
    wp = another(wp, monkeypatch, f"{ONE} {TWO}")
    put(wp.definitions.store, lambda tx: tx.put(SECRET + "text", b"\x01" + bytes(60)))
    assert "w" in {each.workflow_id for each in wp.rotate_secrets().failed}
    assert view_of(wp).get(SECRET + "text") == b"\x01" + bytes(60) and W.id == "w"


def test_without_a_key_there_is_no_rotation(held: Waypost, monkeypatch: Any) -> None:
    """It says what to do."""
    with pytest.raises(SecretsNotSealed, match="new-key"):
        another(held, monkeypatch, "").rotate_secrets()


# --- key files ---


def test_e04_a_new_key_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    """From its making on; nothing else is left beside it."""
    path = tmp_path / "key"
    for umask in (0o000, 0o777):
        path.unlink(missing_ok=True)
        old = os.umask(umask)
        try:
            made = keys.add_key(str(path))
        finally:
            os.umask(old)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert parse(path.read_text(), "")[0].id == made.id
    assert os.listdir(tmp_path) == ["key"]


def test_a_new_key_goes_before_the_others_of_its_file(tmp_path: Path) -> None:
    """Also behind a link, which stays one; comments stay too."""
    path, link = tmp_path / "key", tmp_path / "link"
    path.write_text(f"# old\n{ONE}\n")
    path.chmod(0o600)
    link.symlink_to(path)
    made = keys.add_key(str(link))
    assert link.is_symlink() and path.read_text().endswith(f"\n# old\n{ONE}\n")
    assert [each.id for each in parse(keys.without_comments(path.read_text()), "")] == [made.id, ID_ONE]


def test_no_key_is_lost_when_several_are_made_at_once(tmp_path: Path) -> None:
    """What was told to be the first in the file is still in it when others were put before it at the same time."""
    path = tmp_path / "key"
    path.touch(0o600)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(keys.add_key, [str(path)] * 40))
    assert {each.id for each in keys.parse(path.read_text(), "it")} == {each.id for each in made}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["no key", "é"])
def test_a_file_that_is_no_key_file_is_left_as_it_is(content: str, tmp_path: Path) -> None:
    """Nobody's document becomes a key file; nor does one that others may read."""
    path = tmp_path / "file"
    path.write_text(content)
    for mode in (0o600, 0o644):
        path.chmod(mode)
        with pytest.raises(InvalidConfiguration):
            keys.add_key(str(path))
    assert path.read_text() == content and os.listdir(tmp_path) == ["file"]
    with pytest.raises(InvalidConfiguration, match="cannot be written"):
        keys.add_key(str(tmp_path / "none" / "key"))


@pytest.mark.parametrize("call", ["fsync", "replace", "fchmod"])
def test_d03_a_key_file_that_cannot_be_replaced_stays_as_it_is(call: str, tmp_path: Path, monkeypatch: Any) -> None:
    """A full disk costs no key that is there, and nothing is left beside it."""
    path = tmp_path / "key"
    path.write_text(ONE)
    path.chmod(0o600)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(InvalidConfiguration, match="No space left"):
        keys.add_key(str(path))
    assert path.read_text() == ONE and os.listdir(tmp_path) == ["key"]


# --- the command line ---


def test_new_key_prints_a_key_once(call: Callable[..., Shown], call_json: Callable[..., Any]) -> None:
    """On standard output the key and nothing else, so that a script can take it; its id beside it."""
    shown = call("secret", "new-key")
    (made,) = parse(shown.out, "")
    assert shown.status == 0 and shown.out.count("\n") == 1 and made.id in shown.err
    found = call_json("secret", "new-key")
    assert parse(found["key"], "")[0].id == found["key_id"] != made.id


def test_new_key_does_not_print_what_goes_into_a_file(
    call: Callable[..., Shown], call_json: Callable[..., Any], tmp_path: Path
) -> None:
    """Only the id is told."""
    path = tmp_path / "key"
    shown = call("secret", "new-key", "--file", str(path))
    key = path.read_text().strip()
    assert shown.status == 0 and parse(key, "")[0].id in shown.out and key not in shown.out + shown.err
    found = call_json("secret", "new-key", "--file", str(path))
    assert found == {"key_id": parse(path.read_text(), "")[0].id, "file": str(path)}
    path.chmod(0o644)
    assert call("secret", "new-key", "--file", str(path)).status == 2


def test_rotate_tells_what_it_did(
    at_the_command_line: Waypost, call: Callable[..., Shown], call_json: Callable[..., Any], monkeypatch: Any
) -> None:
    """For people and for programs; a workflow that does not open is named, and the command ends with 1."""
    wp = at_the_command_line
    wp.create_workflow("w", "W", context=WorkflowContext(secrets={"text": "canary"})).unwrap()
    monkeypatch.setenv("WAYPOST_KEY", TWO)
    shown = call("secret", "rotate")
    assert shown.status == 1 and ID_ONE in shown.out and "canary" not in shown.out + shown.err
    monkeypatch.setenv("WAYPOST_KEY", f"{TWO} {ONE}")
    found = call_json("secret", "rotate")
    assert (found["key_id"], found["resealed"], found["failed"]) == (ID_TWO, 1, 0)
    assert found["workflows"] == [{"workflow_id": "w", "resealed": 1, "error": None}]
    assert "0 secrets of 0 workflows" in call("secret", "rotate").out
    monkeypatch.setenv("WAYPOST_KEY", "")
    assert call("secret", "rotate").status == 4
