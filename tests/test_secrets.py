"""Secrets of a workflow: sealed when they are saved, opened when they are asked for, and bound to their names."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import make_config
from waypost import records, register_type, sealing, secrecy, unregister_type
from waypost.api import AsyncWaypost
from waypost.blocking import Waypost
from waypost.definitions import Definitions
from waypost.errors import (
    InvalidConfiguration,
    InvalidId,
    InvalidInput,
    InvalidValue,
    KeyMissing,
    PathNotFound,
    SealBroken,
    SecretsNotSealed,
    VersionConflict,
)
from waypost.keys import Key, Keys, parse
from waypost.models import Workflow, WorkflowContext, WorkflowState
from waypost.places import SealedValue
from waypost.records import SECRET
from waypost.store import Change, DocumentId, Store, Transaction, View

W = DocumentId("workflow", "w")
ONE, TWO = "1" * 64, "2" * 64
VALUES = {"text": "canary", "deep": {"rows": [1, (2, None)], "bytes": b"\0\xff"}, "none": None, "empty": ""}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYPOST_KEY", ONE)


def another(wp: Waypost, monkeypatch: pytest.MonkeyPatch, keys: str) -> Waypost:
    """A handle over the same store that reads its keys anew."""
    monkeypatch.setenv("WAYPOST_KEY", keys)
    store: Any = wp.definitions.store
    store.keys = type(store.keys)(wp.definitions.config)
    return Waypost(Definitions(store, wp.definitions.config, verbose=False))


def view_of(wp: Waypost, name: str = "w") -> View:
    return wp.definitions.store.view(DocumentId("workflow", name))


def state_of(wp: Waypost, name: str = "w") -> WorkflowState:
    return wp.load_workflow_state(name).unwrap()


def part(wp: Waypost, name: str, workflow: str = "w") -> bytes:
    found = view_of(wp, workflow).get(SECRET + name)
    assert found is not None
    return found


def put(store: Store, work: Callable[[Transaction], Any]) -> None:
    store.submit(Change(W, work, "by-hand", "by hand")).result()


@pytest.fixture
def held(wp: Waypost) -> Waypost:
    """A store with a workflow `w` that has secrets."""
    wp.create_workflow("w", "W", steps=["a"], context=WorkflowContext(secrets=dict(VALUES))).unwrap()
    return wp


# --- saving and opening ---


def test_secrets_come_back_as_they_were_given(held: Waypost) -> None:
    """Of every type that a value may be; the names are there without opening anything."""
    secrets = state_of(held).context.secrets
    assert list(secrets) == sorted(VALUES) and len(secrets) == 4 and "text" in secrets and "other" not in secrets
    assert dict(secrets) == VALUES
    with pytest.raises(KeyError):
        secrets["other"]


def test_x22_what_is_stored_of_a_secret_is_sealed(held: Waypost) -> None:
    """Each is a part of its own: the current key's id, and nothing that holds the value."""
    for name in VALUES:
        assert sealing.key_id_of(part(held, name)) == parse(ONE, "")[0].id
    assert all(b"canary" not in (view_of(held).get(key) or b"") for key in view_of(held).keys())
    assert held.validate_workflow_state("w").is_valid


def test_each_way_of_saving_seals(wp: Waypost) -> None:
    """Making a workflow, merging into a context, saving a loaded state, and saving one that was made by hand."""
    wp.create_workflow("w", "W", context=WorkflowContext(secrets={"made": 1})).unwrap()
    assert dict(wp.update_context("w", secrets={"merged": 2}).unwrap().secrets) == {"made": 1, "merged": 2}
    state = state_of(wp)
    state.context.secrets["saved"] = 3
    del state.context.secrets["made"]
    assert dict(wp.save_workflow_state(state).unwrap().context.secrets) == {"merged": 2, "saved": 3}
    by_hand = WorkflowState(workflow=Workflow("v"), context=WorkflowContext(secrets={"x": 4}))
    wp.save_workflow_state(by_hand).unwrap()
    assert dict(state_of(wp, "v").context.secrets) == {"x": 4}
    by_hand.metadata = state_of(wp, "v").metadata
    by_hand.context.secrets = {}
    wp.save_workflow_state(by_hand).unwrap()
    assert not state_of(wp, "v").context.secrets


async def test_both_faces_seal(awp: AsyncWaypost) -> None:
    """The asynchronous face has the same operations."""
    (await awp.create_workflow("w", "W", context=WorkflowContext(secrets={"a": 1}))).unwrap()
    assert dict((await awp.update_context("w", secrets={"b": 2})).unwrap().secrets) == {"a": 1, "b": 2}


def test_a_transaction_seals_and_opens(held: Waypost) -> None:
    """Within a transaction too, what was staged by it included."""

    def work(tx: Any) -> Any:
        tx.update_context("w", secrets={"new": 7})
        return len(tx.load_workflow_state("w").context.secrets)

    assert held.transact(work).unwrap() == 5
    assert state_of(held).context.secrets["new"] == 7


def test_a_secret_that_was_changed_in_place_is_saved(held: Waypost) -> None:
    """As with a variable, what was changed within a value counts."""
    state = state_of(held)
    state.context.secrets["deep"]["rows"].append(9)
    held.save_workflow_state(state).unwrap()
    assert state_of(held).context.secrets["deep"]["rows"] == [1, (2, None), 9]


def test_two_writers_of_one_secret_conflict_and_of_two_do_not(held: Waypost) -> None:
    """A secret is a part of its own."""
    first, second = state_of(held), state_of(held)
    first.context.secrets["text"] = "other"
    second.context.secrets["none"] = 1
    held.save_workflow_state(first).unwrap()
    held.save_workflow_state(second).unwrap()
    third = state_of(held)
    held.update_context("w", secrets={"text": "again"}).unwrap()
    third.context.secrets["text"] = "mine"
    assert isinstance(held.save_workflow_state(third).error, VersionConflict)


# --- what did not change ---


def test_an_unchanged_secret_makes_no_commit(held: Waypost) -> None:
    """Plain values are compared, since sealing the same again gives other bytes."""
    version = view_of(held).version
    held.update_context("w", secrets={"text": "canary", "deep": copy.deepcopy(VALUES["deep"])}).unwrap()
    state = state_of(held)
    assert dict(state.context.secrets) == VALUES
    state.context.secrets["text"] = "canary"
    held.save_workflow_state(state).unwrap()
    assert view_of(held).version == version


def test_of_several_secrets_only_what_changed_is_written(held: Waypost) -> None:
    """The others keep their bytes."""
    before = {name: part(held, name) for name in VALUES}
    held.update_context("w", secrets={**VALUES, "none": "something"}).unwrap()
    assert {name for name in VALUES if part(held, name) != before[name]} == {"none"}


@pytest.mark.parametrize("keys", ["", TWO], ids=["no key", "another key"])
def test_saving_what_nobody_opened_needs_no_key(held: Waypost, keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state with secrets is loaded, looked at, changed elsewhere and saved, and the secrets stay as they stand."""
    before = {name: part(held, name) for name in VALUES}
    wp = another(held, monkeypatch, keys)
    state = state_of(wp)
    assert list(state.context.secrets) == sorted(VALUES)
    state.context.variables["x"] = 1
    state.step("a").name = "other"
    copied = copy.deepcopy(state)
    wp.save_workflow_state(copied).unwrap()
    assert {name: part(wp, name) for name in VALUES} == before
    assert state_of(wp).context.secrets == state_of(wp).context.secrets
    state = state_of(wp)
    del state.context.secrets["text"]
    wp.save_workflow_state(state).unwrap()
    assert list(state_of(wp).context.secrets) == ["deep", "empty", "none"]


# --- keys ---


def test_without_a_key_nothing_is_saved_and_the_error_says_what_to_do(
    wp: Waypost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even what was given beside the secret; once there is a key the same handle seals."""
    monkeypatch.delenv("WAYPOST_KEY")
    wp.create_workflow("w", "W").unwrap()
    version = view_of(wp).version
    for failed in (
        wp.update_context("w", variables={"x": 1}, secrets={"k": "canary"}),
        wp.create_workflow("v", "V", context=WorkflowContext(secrets={"k": "canary"})),
        wp.save_workflow_state(WorkflowState(workflow=Workflow("v"), context=WorkflowContext(secrets={"k": "canary"}))),
    ):
        assert isinstance(failed.error, SecretsNotSealed)
        assert all(word in str(failed.error) for word in ("'k'", "new-key", "$WAYPOST_KEY", "security.key_file"))
    assert view_of(wp).version == version and not view_of(wp, "v").version
    monkeypatch.setenv("WAYPOST_KEY", ONE)
    wp.update_context("w", secrets={"k": "canary"}).unwrap()


@pytest.mark.parametrize("keys", ["", TWO], ids=["no key", "another key"])
def test_without_the_key_a_secret_is_there_and_does_not_open(
    held: Waypost, keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the secret, the id of its key, and where to give it."""
    secrets = state_of(another(held, monkeypatch, keys)).context.secrets
    assert "text" in secrets and len(secrets) == 4
    for ask in (lambda: secrets["text"], lambda: secrets.get("text"), lambda: dict(secrets), lambda: secrets == {}):
        with pytest.raises(KeyMissing) as caught:
            ask()
        assert caught.value.details["key_id"] == parse(ONE, "")[0].id
        assert parse(ONE, "")[0].id in str(caught.value) and "$WAYPOST_KEY" in str(caught.value)


def test_a_wrong_key_can_replace_what_it_cannot_open(held: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has lost a key can still give a secret anew, also with the same value."""
    wp = another(held, monkeypatch, TWO)
    wp.update_context("w", secrets={"text": "canary"}).unwrap()
    secrets = state_of(wp).context.secrets
    assert secrets["text"] == "canary" and sealing.key_id_of(part(wp, "text")) == parse(TWO, "")[0].id
    with pytest.raises(KeyMissing):
        secrets["deep"]


def test_a_bad_key_source_is_told_when_a_key_is_needed_and_not_before(
    store_factory: Callable[..., Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store with a key file that others may read opens, works, and refuses secrets."""
    path = tmp_path / "key"
    path.write_text(ONE)
    path.chmod(0o644)
    monkeypatch.delenv("WAYPOST_KEY")
    config = make_config({"security": {"key_file": str(path)}})
    wp = Waypost(Definitions(store_factory(config), config, verbose=False))
    wp.create_workflow("w", "W").unwrap()
    assert isinstance(wp.update_context("w", secrets={"k": "canary"}).error, InvalidConfiguration)
    path.chmod(0o600)
    wp.update_context("w", secrets={"k": "canary"}).unwrap()
    assert state_of(wp).context.secrets["k"] == "canary"


def test_a_key_in_a_file_and_one_in_the_keyring_seal(
    store_factory: Callable[..., Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of `security.key_file` seals, before that of `security.keyring`, which seals where there is no file."""
    monkeypatch.delenv("WAYPOST_KEY")
    path = tmp_path / "key"
    path.write_text(ONE)
    path.chmod(0o600)
    ring = SimpleNamespace(get_password=lambda service, user: TWO if (service, user) == ("work", "waypost") else None)
    monkeypatch.setitem(sys.modules, "keyring", ring)  # type: ignore[arg-type]
    for security, key in (({"key_file": str(path), "keyring": "work"}, ONE), ({"keyring": "work"}, TWO)):
        config = make_config({"security": security})
        wp = Waypost(Definitions(store_factory(config), config, verbose=False))
        wp.create_workflow("w", "W", context=WorkflowContext(secrets={"k": 1})).unwrap()
        assert sealing.key_id_of(part(wp, "k")) == parse(key, "")[0].id
        assert state_of(wp).context.secrets["k"] == 1


# --- what somebody else put there ---


def test_x22_a_value_moved_to_another_name_does_not_open(held: Waypost) -> None:
    """Whoever can write to the store cannot have one secret taken for another."""
    text, none = part(held, "text"), part(held, "none")

    def swap(tx: Transaction) -> None:
        tx.put(SECRET + "text", none)
        tx.put(SECRET + "none", text)

    put(held.definitions.store, swap)
    secrets = state_of(held).context.secrets
    for name in ("text", "none"):
        with pytest.raises(SealBroken) as caught:
            secrets[name]
        assert name in str(caught.value) and "canary" not in f"{caught.value} {caught.value.details}"
    assert secrets["empty"] == ""


def test_x22_a_changed_secret_does_not_open(held: Waypost) -> None:
    """A flipped bit in key id, nonce, ciphertext or tag; what is no sealed value at all; and the workflow says so."""
    text = part(held, "text")
    for at in (0, 3, 12, len(text) - 20, len(text) - 1):
        changed = bytearray(text)
        changed[at] ^= 1
        put(held.definitions.store, lambda tx, changed=changed: tx.put(SECRET + "text", bytes(changed)))
        with pytest.raises((SealBroken, KeyMissing)):
            state_of(held).context.secrets["text"]
    put(held.definitions.store, lambda tx: tx.put(SECRET + "text", b"in clear"))
    report = held.validate_workflow_state("w")
    assert not report.is_valid and "secret text" in report.errors[0]


def test_the_sealed_bytes_are_those_that_the_format_says(held: Waypost) -> None:
    """docs/format.md is enough to open a secret by hand."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    sealed = part(held, "text")
    plain = AESGCM(bytes.fromhex(ONE)).decrypt(sealed[9:21], sealed[21:], sealed[:9] + b"waypost secret\0text")
    assert plain == b"\xa6canary"


# --- what is carried ---


def test_a_fork_a_restore_and_an_import_open(held: Waypost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made without any key at hand, they open with the key: what is sealed is bound to no workflow."""
    checkpoint = held.create_checkpoint("w").unwrap()
    held.update_context("w", secrets={"text": "later"}).unwrap()
    wp = another(held, monkeypatch, "")
    data = wp.export_checkpoint(checkpoint.id)
    assert b"canary" not in data
    wp.fork_workflow(checkpoint.id, "forked").unwrap()
    wp.import_checkpoint(data, "imported").unwrap()
    wp.restore_from_checkpoint(checkpoint.id).unwrap()
    wp = another(wp, monkeypatch, ONE)
    for name in ("w", "forked", "imported"):
        assert dict(state_of(wp, name).context.secrets) == VALUES
    assert wp.get_checkpoint(checkpoint.id).state.context.secrets["text"] == "canary"


def test_a_state_under_another_id_takes_its_secrets_along(held: Waypost) -> None:
    """A loaded state that is saved as another workflow is sealed there anew."""
    state = state_of(held)
    state.workflow.id = "v"
    held.save_workflow_state(state).unwrap()
    assert dict(state_of(held, "v").context.secrets) == VALUES
    assert part(held, "text", "v") != part(held, "text")


# --- what is refused ---


class Odd:
    """A type whose encoding raises what it holds."""


def test_x22_an_error_about_a_secret_says_nothing_of_it(wp: Waypost) -> None:
    """Neither the path within it, nor what a registered type raised, nor anything that hangs on the error."""

    def encode(_: Odd) -> Any:
        raise ValueError("canary")

    register_type("test.odd", Odd, encode, lambda _: Odd())
    try:
        wp.create_workflow("w", "W").unwrap()
        for value in ({"canary": {1, "x", object()}}, [{"canary": Odd()}], {"canary": "\ud800"}, Odd()):
            error = wp.update_context("w", secrets={"k": value}).error
            assert isinstance(error, InvalidValue) and error.path == "context.secrets.k"
            seen: BaseException | None = error
            while seen is not None:
                assert "canary" not in f"{seen} {seen!r} {getattr(seen, 'details', '')}"
                seen = seen.__cause__ or seen.__context__
    finally:
        unregister_type("test.odd")


@pytest.mark.parametrize(
    ("given", "kind"),
    [({"": 1}, InvalidId), ({1: 1}, InvalidId), ({"a\x1fb": 1}, InvalidId), (["canary"], InvalidInput)],
)
def test_what_is_no_dictionary_of_names_is_refused(wp: Waypost, given: Any, kind: type[Exception]) -> None:
    """Names are ids like those of variables."""
    wp.create_workflow("w", "W").unwrap()
    for failed in (
        wp.update_context("w", secrets=given),
        wp.create_workflow("v", "V", context=WorkflowContext(secrets=given)),
        wp.save_workflow_state(WorkflowState(workflow=Workflow("v"), context=WorkflowContext(secrets=given))),
    ):
        assert isinstance(failed.error, kind)
        assert "canary" not in str(failed.error)


def test_secrets_of_a_registered_type_come_back(wp: Waypost) -> None:
    """And one whose decode fails says so without its value."""
    register_type("test.odd", Odd, lambda _: "canary", lambda _: Odd())
    try:
        wp.create_workflow("w", "W", context=WorkflowContext(secrets={"k": Odd()})).unwrap()
        assert isinstance(state_of(wp).context.secrets["k"], Odd)
        unregister_type("test.odd")
        register_type("test.odd", Odd, lambda _: "canary", lambda value: Odd(value))  # type: ignore[call-arg]
        with pytest.raises(InvalidValue) as caught:
            state_of(wp).context.secrets["k"]
        assert "context.secrets.k" in str(caught.value)
        assert caught.value.__cause__ is None and caught.value.__context__ is None
    finally:
        unregister_type("test.odd")


def test_the_names_of_parts_are_as_documented() -> None:
    """docs/format.md, section 8."""
    assert records.SECRET == "secret\x1f"
    assert Key(bytes.fromhex(ONE)).id == parse(ONE, "")[0].id


# --- looking back ---


def test_x22_diff_and_blame_tell_that_a_secret_changed_and_not_what_it_is(held: Waypost) -> None:
    """What was added, changed and removed, and which commit did it; a `SealedValue` stands for each."""
    held.update_context("w", secrets={"text": "canary2", "new": 1}).unwrap()
    state = state_of(held)
    del state.context.secrets["none"]
    held.save_workflow_state(state).unwrap()
    changes = {each.path: each for each in held.diff("w@1", "w")}
    assert {path: each.kind for path, each in changes.items()} == {
        "context.secrets.new": "added",
        "context.secrets.none": "removed",
        "context.secrets.text": "changed",
    }
    changed = changes["context.secrets.text"]
    assert isinstance(changed.before, SealedValue) and isinstance(changed.after, SealedValue)
    assert changed.before != changed.after and changed.before.key_id == changed.after.key_id == parse(ONE, "")[0].id
    found = held.blame("w", "context.secrets.text")
    assert (found.commit.version, found.before_since) == (2, 1)
    assert found.value == changed.after and found.before == changed.before
    assert held.blame("w", "context.secrets.deep").commit.version == 1
    with pytest.raises(PathNotFound):
        held.blame("w", "context.secrets.deep.rows")
    assert held.history("w")[1].changed == ["context.secrets.new", "context.secrets.text"]


def test_what_is_sealed_in_the_same_bytes_is_no_difference(held: Waypost) -> None:
    """A fork has the same bytes, and a state that only looked has written none."""
    checkpoint = held.create_checkpoint("w").unwrap()
    held.fork_workflow(checkpoint.id, "v").unwrap()
    assert not [each for each in held.diff("w", "v") if each.path.startswith("context.secrets")]


def test_a_secret_that_was_only_opened_keeps_what_another_made_of_it(held: Waypost) -> None:
    """Saving what was looked at is no conflict, and takes nothing back."""
    state = state_of(held)
    assert state.context.secrets["text"] == "canary"
    held.update_context("w", secrets={"text": "newer"}).unwrap()
    state.context.variables["x"] = 1
    held.save_workflow_state(state).unwrap()
    assert state_of(held).context.secrets["text"] == "newer"


def test_n03_an_import_with_a_secret_of_an_unlawful_name_is_refused(held: Waypost) -> None:
    """What comes from elsewhere has names as a caller may give them."""
    sealed = part(held, "text")
    put(held.definitions.store, lambda tx: tx.put(SECRET + "a\u202eb", sealed))
    data = held.export_checkpoint(held.create_checkpoint("w").unwrap().id)
    assert isinstance(held.import_checkpoint(data, "v").error, InvalidId)


@settings(deadline=None, print_blob=True)
@given(st.binary(max_size=120))
def test_t09_any_bytes_are_a_sealed_value_or_refused(data: bytes) -> None:
    """Whatever stands in the place of a secret, the error is a documented one."""
    for sealed in (data, b"\x01" + data, b"\x01" + bytes.fromhex(parse(ONE, "")[0].id) + data):
        with pytest.raises((SealBroken, KeyMissing)):
            secrecy.read("text", sealed, lambda: Keys(parse(ONE, "")))
