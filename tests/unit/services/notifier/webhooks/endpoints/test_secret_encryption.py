"""Encryption of secrets: decrypted only with its key and subject."""

from __future__ import annotations

import base64
import json

import pytest

from services.notifier.webhooks.endpoints.secret_encryption import DecryptionError, SecretEncryption

KEY = "a key of thirty-two characters .."
SUBJECT = "saccade.whk.acme.whk_1"
VALUE = {"url": "https://hooks.example.com/path", "secrets": ["whsec_c2VjcmV0"]}


def test_a_value_is_decrypted_with_its_key_and_subject():
    encrypted = SecretEncryption(KEY).encrypt(VALUE, SUBJECT)
    assert SecretEncryption(KEY).decrypt(encrypted, SUBJECT) == VALUE


def test_an_encrypted_value_reveals_nothing_and_is_never_the_same():
    first, second = (SecretEncryption(KEY).encrypt(VALUE, SUBJECT) for _ in range(2))
    assert first != second
    for encrypted in (first, second):
        raw = base64.b64decode(encrypted)
        assert b"hooks.example.com" not in raw
        assert b"c2VjcmV0" not in raw
        assert len(raw) == 12 + len(json.dumps(VALUE)) + 16, "nonce, text, tag"


@pytest.mark.parametrize(
    ("key", "subject"), [("another key of that many characters", SUBJECT), (KEY, "saccade.whk.rival.whk_1")]
)
def test_another_key_or_subject_decrypts_nothing(key: str, subject: str):
    encrypted = SecretEncryption(KEY).encrypt(VALUE, SUBJECT)
    with pytest.raises(DecryptionError, match=subject):
        SecretEncryption(key).decrypt(encrypted, subject)


def test_a_single_changed_bit_is_detected():
    encryption = SecretEncryption(KEY)
    raw = base64.b64decode(encryption.encrypt(VALUE, SUBJECT))
    for index in range(len(raw)):
        changed = bytearray(raw)
        changed[index] ^= 1
        with pytest.raises(DecryptionError):
            encryption.decrypt(base64.b64encode(changed).decode(), SUBJECT)


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", "ä", "A" * 64])
def test_a_value_that_was_not_encrypted_is_refused(text: str):
    with pytest.raises(DecryptionError):
        SecretEncryption(KEY).decrypt(text, SUBJECT)
