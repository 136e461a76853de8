"""Signatures of webhooks by Standard Webhooks 1.0.0: HMAC-SHA-256 (``v1``) and Ed25519 (``v1a``).

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md. Signed are the id, the
second and the bytes of the body. The published library is not used here, because it signs the wrong second for a time
outside UTC; the tests verify our signatures with it.

Each endpoint has a secret and a key pair of its own, so that no receiver accepts what was signed for another one.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets as random_source
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Protocol

from pydantic import SecretStr

from services.notifier.webhooks.key_pair import KeyPair, key_pair

Signing = Literal["v1", "v1a", "both"]

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - a prefix, not a secret
#: The standard requires 24 to 64 bytes.
_SECRET_BYTES: Final = 32


class ExpiringSecret(Protocol):
    """A secret "whsec_…" and a private key "whsk_…" that sign until ``expires_at``; None: they do not expire."""

    @property
    def secret(self) -> SecretStr:
        """The secret."""
        ...

    @property
    def private_key(self) -> SecretStr | None:
        """The private key; None in a record from before endpoints had their own."""
        ...

    @property
    def expires_at(self) -> datetime | None:
        """Time of expiry."""
        ...


@dataclass(frozen=True)
class EndpointKeyPair:
    """A key pair of an endpoint; ``shared``: it is that of all endpoints which are as old."""

    pair: KeyPair
    expires_at: datetime | None
    shared: bool

    def public(self) -> dict[str, Any]:
        """Return what receivers and users may know."""
        return {**self.pair.public_jwk(), "expires_at": self.expires_at, "shared": self.shared}


class Signer:
    """Signs attempts with the endpoints' secrets and key pairs."""

    def __init__(self, shared: KeyPair) -> None:
        """Sign with ``shared`` for the secrets that have no private key."""
        self._shared = shared

    @classmethod
    def from_secret_key(cls, secret_key: str) -> Signer:
        """Derive the shared key pair from the service's secret, the same in every process that has it."""
        return cls(KeyPair.shared(secret_key))

    def headers(
        self, message_id: str, body: bytes, secrets: Iterable[ExpiringSecret], signing: Signing, now: datetime
    ) -> dict[str, str]:
        """Return the signature headers for this second: those of each unexpired secret, in order.

        Args:
            message_id: the event's id, the same at each retry.
            body: the bytes as they are sent.
            secrets: the endpoint's, the newest first; several during the overlap of a rotation.
            signing: the kinds of signature.
            now: an aware time.
        """
        timestamp = int(now.timestamp())
        signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
        signatures: list[str] = []
        for secret in unexpired(secrets, now):
            if signing != "v1a":
                signatures.append(_signature_v1(secret.secret.get_secret_value(), signed))
            if signing != "v1":
                signatures.append(self._key_pair_of(secret).pair.sign(signed))
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(dict.fromkeys(signatures)),
        }

    def key_pairs(self, secrets: Iterable[ExpiringSecret], now: datetime) -> list[EndpointKeyPair]:
        """Return the key pairs that sign now, the newest first."""
        return [self._key_pair_of(secret) for secret in unexpired(secrets, now)]

    def shared_key_pair(self) -> EndpointKeyPair:
        """Return the key pair that endpoints had in common."""
        return EndpointKeyPair(self._shared, None, shared=True)

    def _key_pair_of(self, secret: ExpiringSecret) -> EndpointKeyPair:
        if secret.private_key is None:
            return EndpointKeyPair(self._shared, secret.expires_at, shared=True)
        return EndpointKeyPair(key_pair(secret.private_key.get_secret_value()), secret.expires_at, shared=False)


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


def unexpired(secrets: Iterable[ExpiringSecret], now: datetime) -> list[ExpiringSecret]:
    """Return the secrets that sign now."""
    return [secret for secret in secrets if secret.expires_at is None or secret.expires_at > now]


def _signature_v1(secret: str, signed: bytes) -> str:
    return f"v1,{base64.b64encode(hmac.digest(secret_bytes(secret), signed, 'sha256')).decode()}"
