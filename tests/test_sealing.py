"""Sealed bytes: what they consist of, that they open again, and that nothing but the right bytes, key and place do."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from waypost import sealing
from waypost.errors import InvalidConfiguration, KeyMissing, SealBroken
from waypost.keys import Key, Keys
from waypost.sealing import OVERHEAD, key_id_of, open_sealed, seal

ONE, TWO = Key(bytes(range(32))), Key(bytes(range(1, 33)))
KEYS = Keys([ONE])


@pytest.mark.parametrize("plain", [b"", b"x", b"canary " * 1000])
def test_what_is_sealed_opens_again(plain: bytes) -> None:
    """The same bytes come back, from bytes that are longer by a fixed length and hold nothing of them."""
    sealed = seal(plain, KEYS, b"place")
    assert len(sealed) == len(plain) + OVERHEAD
    assert open_sealed(sealed, KEYS, b"place") == plain
    assert b"canary" not in sealed


def test_the_bytes_are_those_that_the_format_says() -> None:
    """Form, key id, nonce, ciphertext and tag, under AES-256-GCM with form and key id before the associated data."""
    sealed = seal(b"plain", KEYS, b"place")
    assert sealed[:9] == b"\x01" + bytes.fromhex(ONE.id)
    opened = AESGCM(ONE.reveal()).decrypt(sealed[9:21], sealed[21:], sealed[:9] + b"place")
    assert opened == b"plain"
    assert key_id_of(sealed) == ONE.id


def test_each_sealing_has_a_nonce_of_its_own() -> None:
    """The same bytes sealed twice have nothing in common but the key's id."""
    found = {seal(b"plain", KEYS, b"place")[9:] for _ in range(200)}
    assert len({each[:12] for each in found}) == len({each[12:] for each in found}) == 200


def test_x22_every_flipped_bit_is_found() -> None:
    """Whatever is changed, cut off or added, it does not open, and no error tells of what it was."""
    sealed = seal(b"canary", KEYS, b"place")
    for place in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises((SealBroken, KeyMissing)) as caught:
            open_sealed(bytes(changed), KEYS, b"place")
        assert "canary" not in f"{caught.value} {caught.value.details}"
    for changed in (*(sealed[:length] for length in range(len(sealed))), sealed + b"\0", sealed[1:], sealed * 2):
        with pytest.raises((SealBroken, KeyMissing)):
            open_sealed(bytes(changed), KEYS, b"place")


def test_x22_what_is_sealed_opens_only_where_it_belongs() -> None:
    """Under other associated data the right bytes and the right key are no help."""
    sealed = seal(b"plain", KEYS, b"place")
    for other in (b"", b"plac", b"place\0", b"Place"):
        with pytest.raises(SealBroken):
            open_sealed(sealed, KEYS, other)


def test_x22_only_the_right_key_opens() -> None:
    """Without it the error names its id; with another key behind its id the bytes are found to be wrong."""
    sealed = seal(b"plain", KEYS, b"place")
    with pytest.raises(KeyMissing) as caught:
        open_sealed(sealed, Keys([TWO]), b"place")
    assert caught.value.details["key_id"] == ONE.id
    renamed = sealed[:1] + bytes.fromhex(TWO.id) + sealed[9:]
    with pytest.raises(SealBroken):
        open_sealed(renamed, Keys([TWO]), b"place")


def test_the_first_key_seals_and_an_older_one_opens() -> None:
    """After a key was put before another, both kinds of sealed bytes open."""
    before = seal(b"plain", KEYS, b"place")
    both = Keys([TWO, ONE])
    assert key_id_of(seal(b"plain", both, b"place")) == TWO.id
    assert open_sealed(before, both, b"place") == b"plain"
    with pytest.raises(KeyMissing):
        seal(b"plain", Keys([]), b"place")


def test_x28_without_the_extra_sealing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is named, and how to get it."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)  # type: ignore[arg-type]
    with pytest.raises(InvalidConfiguration, match=r"waypost\[seal\]"):
        sealing.seal(b"plain", Keys([Key(bytes(32))]), b"place")


def test_x28_sealing_is_loaded_when_something_is_sealed_and_not_before() -> None:
    """A store that holds no secrets is used without the package being imported, though there is a key."""
    program = (
        "import sys, waypost\n"
        "with waypost.open('memory:') as wp:\n"
        "    wp.create_workflow('w', 'W', steps=['a']).unwrap()\n"
        "    wp.update_context('w', variables={'x': 1}).unwrap()\n"
        "    state = wp.load_workflow_state('w').unwrap()\n"
        "    state.context.variables['x'] = 2\n"
        "    wp.save_workflow_state(state).unwrap()\n"
        "print(sorted(each for each in sys.modules if each.startswith(('cryptography', 'keyring'))))\n"
    )
    environment = {"WAYPOST_KEY": "1" * 64, "PATH": "/usr/bin:/bin"}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")
