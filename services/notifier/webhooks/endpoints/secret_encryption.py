"""Seals what an endpoint's record must not show to whoever reads the stream: AES-256-GCM, bound to its subject."""

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


class UnsealableError(ValueError):
    """The key is another one than it was sealed with, or the record was moved or changed."""


class Sealing:
    """Seals and opens values with a key derived from the service's secret (HKDF, RFC 5869; GCM, NIST SP 800-38D)."""

    def __init__(self, secret_key: str) -> None:
        """Derive the key, the same in every process that has the secret."""
        derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"saccade webhook endpoints aes-256-gcm")
        self._cipher = AESGCM(derivation.derive(secret_key.encode()))

    def seal(self, value: Any, subject: str) -> str:
        """Seal a JSON value for the record on ``subject``."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, json.dumps(value).encode(), subject.encode())
        return base64.b64encode(nonce + sealed).decode()

    def open(self, text: str, subject: str) -> Any:
        """Open what was sealed for ``subject``.

        Raises:
            UnsealableError: it was not sealed with this key for this subject.
        """
        try:
            raw = base64.b64decode(text, validate=True)
            return json.loads(self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], subject.encode()))
        except (ValueError, InvalidTag):
            raise UnsealableError(f"the record on {subject} was sealed with another key, or changed") from None
