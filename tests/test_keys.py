"""Keys: where they are looked for, which one seals, what is refused, and that none of them is ever told."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import make_config
from waypost.errors import InvalidConfiguration, KeyMissing
from waypost.keys import Key, Keys, find_keys, new_key, parse

ONE, TWO, THREE, FOUR = (bytes([number]) * 32 for number in (1, 2, 3, 4))


def ids(*keys: bytes) -> list[str]:
    return [Key(key).id for key in keys]


def found(environment: dict[str, str] | None = None, **security: Any) -> Keys:
    return find_keys(make_config({"security": security} if security else None), environment or {})


@pytest.fixture
def key_file(tmp_path: Path) -> Callable[..., str]:
    def make(text: str, mode: int = 0o600) -> str:
        path = tmp_path / "waypost.key"
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    return make


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """What the system's keyring holds, by service and user."""
    held: dict[tuple[str, str], str] = {}

    def get_password(service: str, user: str) -> str | None:
        return held.get((service, user))

    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(get_password=get_password))  # type: ignore[arg-type]
    return held


# --- what a key is ---


def test_x22_a_key_is_told_by_an_id_that_is_derived_from_it() -> None:
    """The id is what docs/secrets.md says, and two keys have two."""
    assert Key(ONE).id == sha256(b"waypost key id 1\0" + ONE).hexdigest()[:16]
    assert Key(ONE).id != Key(TWO).id


def test_x22_new_keys_are_random_and_read_again() -> None:
    """What is made is one word, is taken as a key, and never comes twice."""
    texts = {new_key() for _ in range(100)}
    assert len(texts) == 100
    assert all(len(parse(text, "here")) == 1 for text in texts)


@pytest.mark.parametrize(
    "text",
    [
        (b"\xfb" * 32).hex(),
        (b"\xfb" * 32).hex().upper(),
        "-_v7" * 10 + "-_s=",
        "-_v7" * 10 + "-_s",
        "+/v7" * 10 + "+/s=",
    ],
)
def test_a_key_may_be_written_in_several_ways(text: str) -> None:
    """Hex and both alphabets of base64, as other tools make them."""
    assert [key.reveal() for key in parse(text, "here")] == [b"\xfb" * 32]


CANARY = "canary-3f9a"


@pytest.mark.parametrize("text", [CANARY, CANARY * 6, "1" * 63, "A" * 42, "A" * 45, "A" * 43 + "==", "é" * 64])
def test_x22_what_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    """A password or a key that was cut is no key; the error tells the place, and nothing of the text."""
    with pytest.raises(InvalidConfiguration) as caught:
        parse(f"{ONE.hex()} {text}", "$WAYPOST_KEY")
    assert "the second word of $WAYPOST_KEY" in str(caught.value)
    assert text not in f"{caught.value} {caught.value.details}" and "3f9a" not in str(caught.value)


def test_x22_no_text_of_a_key_tells_it() -> None:
    """Neither repr nor pickle holds the bytes."""
    key = Key(os.urandom(32))
    for text in (repr(key), repr(Keys([key])), str(key)):
        assert key.id in text and key.reveal().hex() not in text
    with pytest.raises(TypeError):
        pickle.dumps(key)
    with pytest.raises(TypeError):
        pickle.dumps(Keys([key]))


# --- several of them ---


def test_the_first_key_seals_and_all_open() -> None:
    """The order is that in which they were given; the same key twice is one."""
    keys = Keys([Key(ONE), Key(TWO), Key(ONE)])
    assert keys.current.id == Key(ONE).id
    assert [keys.by_id(each).id for each in ids(ONE, TWO)] == ids(ONE, TWO)
    assert len(keys) == 2


def test_a_missing_key_is_told_by_its_id_and_what_to_do() -> None:
    """The error names the key that is needed and those that there are, and where to give one."""
    with pytest.raises(KeyMissing) as caught:
        Keys([Key(ONE)]).by_id(Key(TWO).id)
    assert caught.value.details["key_id"] == Key(TWO).id
    assert all(word in str(caught.value) for word in (*ids(ONE, TWO), "$WAYPOST_KEY", "security.key_file"))
    with pytest.raises(KeyMissing, match="waypost secret new-key"):
        _ = Keys([]).current


# --- sources ---


def test_the_first_source_that_has_a_key_seals(key_file: Callable[..., str], keyring: dict[Any, str]) -> None:
    """The variable goes before the file, the file before the keyring; the keys of all are at hand."""
    keyring["work", "waypost"] = FOUR.hex()
    path = key_file(f"# made in spring\n{TWO.hex()}\n\n  # older\n{THREE.hex()}\n")
    all_of_them = found({"WAYPOST_KEY": f"{ONE.hex()}"}, key_file=path, keyring="work")
    assert [key.id for key in all_of_them] == ids(ONE, TWO, THREE, FOUR)
    assert [key.id for key in found(key_file=path, keyring="work")] == ids(TWO, THREE, FOUR)
    assert [key.id for key in found({"WAYPOST_KEY": ""}, keyring="work")] == ids(FOUR)
    assert len(found()) == 0


def test_a_keyring_without_the_entry_has_no_key(keyring: dict[Any, str]) -> None:
    """It is asked for the service of the option and the user `waypost`, and for nothing else."""
    keyring["other", "waypost"] = keyring["work", "somebody"] = ONE.hex()
    assert len(found(keyring="work")) == 0


def test_x22_a_keyring_that_fails_says_how_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the keyring raises is told by its kind; its words might hold anything."""

    def get_password(service: str, user: str) -> str:
        raise RuntimeError(CANARY)

    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(get_password=get_password))  # type: ignore[arg-type]
    with pytest.raises(InvalidConfiguration, match="RuntimeError") as caught:
        found(keyring="work")
    assert CANARY not in str(caught.value) and caught.value.__context__ is None


def test_x28_the_keyring_package_is_needed_only_where_the_option_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the option is an error that says so, and everything else works."""
    monkeypatch.setitem(sys.modules, "keyring", None)  # type: ignore[arg-type]
    assert len(found({"WAYPOST_KEY": ONE.hex()})) == 1
    with pytest.raises(InvalidConfiguration, match="needs the package keyring"):
        found(keyring="work")


# --- key files ---


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_e04_a_key_file_of_its_owner_alone_is_read(mode: int, key_file: Callable[..., str]) -> None:
    """Only what others may do counts."""
    assert [key.id for key in found(key_file=key_file(ONE.hex(), mode))] == ids(ONE)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o666, 0o660, 0o777])
def test_x10_e04_a_key_file_that_others_may_open_is_refused(mode: int, key_file: Callable[..., str]) -> None:
    """Whoever may read it has the key, and whoever may write it chooses the key."""
    with pytest.raises(InvalidConfiguration, match=f"mode {mode:04o}.*chmod 600"):
        found(key_file=key_file(ONE.hex(), mode))


def test_x10_a_key_file_of_another_user_is_refused(
    key_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner would know the key; root's is taken, since root knows all."""
    path = key_file(ONE.hex())
    mine = os.stat(path).st_uid
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    if mine:
        with pytest.raises(InvalidConfiguration, match="belongs to another user"):
            found(key_file=path)
    else:
        assert len(found(key_file=path)) == 1
        os.chown(path, 12345, -1)
        with pytest.raises(InvalidConfiguration, match=r"belongs to another user \(12345\)"):
            found(key_file=path)


def test_x10_the_mode_is_that_of_the_file_that_is_read(key_file: Callable[..., str], tmp_path: Path) -> None:
    """A link is followed, and what counts is the file behind it."""
    link = tmp_path / "link"
    link.symlink_to(key_file(ONE.hex()))
    assert len(found(key_file=str(link))) == 1
    Path(key_file(ONE.hex(), 0o644))
    with pytest.raises(InvalidConfiguration, match="may be opened by others"):
        found(key_file=str(link))


def test_what_is_no_key_file_is_refused(key_file: Callable[..., str], tmp_path: Path) -> None:
    """A missing file, a directory, a pipe that nobody writes to, and a file far too long, each with one sentence."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path, why in (
        (str(tmp_path / "none"), "new-key --file"),
        (str(tmp_path), "no regular file"),
        (str(pipe), "no regular file"),
        (key_file("#" * 70_000), "no text of at most"),
        (key_file("é"), "no text of at most"),
    ):
        with pytest.raises(InvalidConfiguration, match=why):
            found(key_file=path)


def test_a_key_file_may_lie_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home directory of whoever runs the program."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "k").write_text(ONE.hex())
    (tmp_path / "k").chmod(0o600)
    assert [key.id for key in found(key_file="~/k")] == ids(ONE)
