"""Signatures of webhooks by Standard Webhooks 1.0.0: HMAC-SHA-256 (``v1``) and Ed25519 (``v1a``).

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md. Signed are the id, the
second and the bytes of the body. The published library is not used here, because it signs the wrong second for a time
outside UTC; the tests verify our signatures with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets as random_source
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Literal, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

Signing = Literal["v1", "v1a", "both"]

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - a prefix, not a secret
PUBLIC_KEY_PREFIX: Final = "whpk_"
#: The standard requires 24 to 64 bytes.
_SECRET_BYTES: Final = 32


class ExpiringSecret(Protocol):
    """A secret "whsec_…" that signs until ``expires_at``; None: it does not expire."""

    @property
    def secret(self) -> SecretStr:
        """The secret."""
        ...

    @property
    def expires_at(self) -> datetime | None:
        """Time of expiry."""
        ...


class Signer:
    """Signs attempts; holds the private key of ``v1a``, the same for all endpoints."""

    def __init__(self, private_key_seed: bytes) -> None:
        """Use the 32 bytes of an Ed25519 private key (RFC 8032)."""
        self._private_key = Ed25519PrivateKey.from_private_bytes(private_key_seed)
        self._public_bytes = self._private_key.public_key().public_bytes_raw()

    @classmethod
    def from_secret_key(cls, secret_key: str) -> Signer:
        """Derive the key from the service's secret, the same in every process that has it."""
        derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"saccade webhook signature ed25519")
        return cls(derivation.derive(secret_key.encode()))

    def headers(
        self, message_id: str, body: bytes, secrets: Iterable[ExpiringSecret], signing: Signing, now: datetime
    ) -> dict[str, str]:
        """Return the signature headers for this second: ``v1`` for each unexpired secret, in order, then ``v1a``.

        Args:
            message_id: the event's id, the same at each retry.
            body: the bytes as they are sent.
            secrets: the endpoint's, the newest first; several during the overlap of a rotation.
            signing: the kinds of signature.
            now: an aware time.
        """
        timestamp = int(now.timestamp())
        signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
        signatures = []
        if signing != "v1a":
            signatures += [
                _signature_v1(secret.secret.get_secret_value(), signed)
                for secret in secrets
                if secret.expires_at is None or secret.expires_at > now
            ]
        if signing != "v1":
            signatures.append(f"v1a,{base64.b64encode(self._private_key.sign(signed)).decode()}")
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signatures),
        }

    def public_key(self) -> str:
        """Return the public key in the standard's form, "whpk_…"."""
        return PUBLIC_KEY_PREFIX + base64.b64encode(self._public_bytes).decode()

    def public_keys(self) -> dict[str, Any]:
        """Return the public keys for receivers: a JSON Web Key Set (RFC 7517, 8037), each also as "whpk_…"."""
        key = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(self._public_bytes)}
        # RFC 7638: the hash of the required members in lexical order, without white space.
        thumbprint = hashlib.sha256(json.dumps(key, separators=(",", ":"), sort_keys=True).encode()).digest()
        described = {"kid": _base64url(thumbprint), "use": "sig", "alg": "EdDSA", "whpk": self.public_key()}
        return {"keys": [{**key, **described}]}


def new_secret() -> str:
    """Return a new secret: "whsec_" and 32 random bytes in base64."""
    return SECRET_PREFIX + base64.b64encode(random_source.token_bytes(_SECRET_BYTES)).decode()


def secret_bytes(secret: str) -> bytes:
    """Return the key in a secret.

    Raises:
        ValueError: it is not "whsec_" and 24 to 64 bytes in base64. The message does not hold the secret.
    """
    try:
        key = binascii.a2b_base64(secret.removeprefix(SECRET_PREFIX), strict_mode=True)
    except ValueError:  # binascii.Error, or not ASCII
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError("A secret is written whsec_ and 24 to 64 bytes in base64.")
    return key


def _signature_v1(secret: str, signed: bytes) -> str:
    return f"v1,{base64.b64encode(hmac.digest(secret_bytes(secret), signed, 'sha256')).decode()}"


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
