"""Sealed bytes: only who has the key can read them, and nobody can change them unseen. AES-256-GCM.

    1 byte    0x01, the form of what follows
    8         id of the key
    12        nonce, drawn at random for each
    n + 16    ciphertext, as long as what is sealed, and the tag

The tag covers all of it and the *associated data*: bytes that are not stored here, and say what this is and where it
belongs. What was sealed for one place does not open at another.

Invariants:

* A nonce is never chosen, only drawn: 96 random bits. One key may seal 2**32 times; then the odds that two nonces were
  equal are about 2**-33.
* No error repeats what is sealed, or what it was before.
* `cryptography` is imported when something is sealed or opened, and not before.
"""

from __future__ import annotations

import os
from typing import Any

from waypost.errors import DocumentTooLarge, InvalidConfiguration, SealBroken
from waypost.keys import ID_BYTES, Key, Keys

FORM = b"\x01"
NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD = len(FORM) + ID_BYTES + NONCE_BYTES + TAG_BYTES
"""How much longer sealed bytes are than what they hold."""

MOST_BYTES = (1 << 31) - 1 - OVERHEAD
"""How much can be sealed at once."""

_NONCE_AT = len(FORM) + ID_BYTES
_TEXT_AT = _NONCE_AT + NONCE_BYTES


def seal(plain: bytes, keys: Keys, associated: bytes) -> bytes:
    """Seal bytes with the current key. Raises KeyMissing, DocumentTooLarge, InvalidConfiguration."""
    if len(plain) > MOST_BYTES:
        raise DocumentTooLarge(f"{len(plain):,} bytes cannot be sealed at once: {MOST_BYTES:,} can")
    key = keys.current
    head = FORM + bytes.fromhex(key.id)
    nonce = os.urandom(NONCE_BYTES)
    return head + nonce + _cipher(key).encrypt(nonce, plain, head + associated)


def open_sealed(sealed: bytes, keys: Keys, associated: bytes) -> bytes:
    """What was sealed, for the same associated data. Raises KeyMissing, SealBroken, InvalidConfiguration."""
    key = keys.by_id(key_id_of(sealed))
    cipher = _cipher(key)
    from cryptography.exceptions import InvalidTag

    try:
        return cipher.decrypt(sealed[_NONCE_AT:_TEXT_AT], sealed[_TEXT_AT:], sealed[:_NONCE_AT] + associated)
    except InvalidTag:
        raise SealBroken(
            "what is sealed was changed, or belongs elsewhere: its tag is not that of its bytes and place",
            key_id=key.id,
        ) from None


def key_id_of(sealed: bytes) -> str:
    """With which key it is sealed. Raises SealBroken for what was never sealed."""
    if len(sealed) < OVERHEAD or sealed[:1] != FORM:
        raise SealBroken("this is not sealed in a form that this release knows")
    return sealed[len(FORM) : _NONCE_AT].hex()


def _cipher(key: Key) -> Any:
    if key.cipher is None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise InvalidConfiguration(
                "sealing needs the package cryptography, which is not installed: install waypost[seal]"
            ) from None
        key.cipher = AESGCM(key.reveal())
    return key.cipher
