"""Encryption of what an endpoint's record must not show in the stream: AES-256-GCM, bound to the record's subject."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES: Final = 12


class DecryptionError(ValueError):
    """The value was encrypted with another key, or its record was moved or changed."""


class SecretEncryption:
    """Encrypts with a key derived from the service's secret (HKDF, RFC 5869; GCM, NIST SP 800-38D)."""

    def __init__(self, secret_key: str) -> None:
        """Derive the key, the same in every process that has the secret."""
        derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"saccade webhook endpoints aes-256-gcm")
        self._cipher = AESGCM(derivation.derive(secret_key.encode()))

    def encrypt(self, value: Any, subject: str) -> str:
        """Encrypt a JSON value for the record on ``subject``."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        encrypted = self._cipher.encrypt(nonce, json.dumps(value).encode(), subject.encode())
        return base64.b64encode(nonce + encrypted).decode()

    def decrypt(self, text: str, subject: str) -> Any:
        """Decrypt the value of the record on ``subject``.

        Raises:
            DecryptionError: it was not encrypted with this key for this subject.
        """
        try:
            raw = base64.b64decode(text, validate=True)
            return json.loads(self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], subject.encode()))
        except (ValueError, InvalidTag):
            raise DecryptionError(f"the record on {subject} was encrypted with another key, or changed") from None
