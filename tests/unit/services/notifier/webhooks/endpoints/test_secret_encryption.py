"""What is sealed opens with its key and on its subject, and nowhere else."""

from __future__ import annotations

import base64
import json

import pytest

from services.notifier.webhooks.endpoints.secret_encryption import DecryptionError, SecretEncryption

KEY = "a key of thirty-two characters .."
SUBJECT = "saccade.whk.acme.whk_1"
VALUE = {"url": "https://hooks.example.com/path", "secrets": ["whsec_c2VjcmV0"]}


def test_what_is_sealed_opens_with_the_key_and_on_its_subject():
    sealed = SecretEncryption(KEY).encrypt(VALUE, SUBJECT)
    assert SecretEncryption(KEY).decrypt(sealed, SUBJECT) == VALUE


def test_what_is_sealed_shows_nothing_and_never_looks_the_same():
    first, second = (SecretEncryption(KEY).encrypt(VALUE, SUBJECT) for _ in range(2))
    assert first != second
    for sealed in (first, second):
        raw = base64.b64decode(sealed)
        assert b"hooks.example.com" not in raw
        assert b"c2VjcmV0" not in raw
        assert len(raw) == 12 + len(json.dumps(VALUE)) + 16, "nonce, text, tag"


@pytest.mark.parametrize(
    ("key", "subject"), [("another key of that many characters", SUBJECT), (KEY, "saccade.whk.rival.whk_1")]
)
def test_another_key_or_another_tenants_subject_opens_nothing(key: str, subject: str):
    sealed = SecretEncryption(KEY).encrypt(VALUE, SUBJECT)
    with pytest.raises(DecryptionError, match=subject):
        SecretEncryption(key).decrypt(sealed, subject)


def test_a_single_changed_bit_anywhere_is_noticed():
    sealing = SecretEncryption(KEY)
    raw = base64.b64decode(sealing.encrypt(VALUE, SUBJECT))
    for index in range(len(raw)):
        changed = bytearray(raw)
        changed[index] ^= 1
        with pytest.raises(DecryptionError):
            sealing.decrypt(base64.b64encode(changed).decode(), SUBJECT)


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", "ä", "A" * 64])
def test_what_was_never_sealed_is_refused(text: str):
    with pytest.raises(DecryptionError):
        SecretEncryption(KEY).decrypt(text, SUBJECT)
