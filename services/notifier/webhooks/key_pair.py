"""Key pairs of ``v1a`` signatures: Ed25519 (RFC 8032), in the forms of Standard Webhooks and of JSON Web Keys."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import json
import secrets as random_source
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PRIVATE_KEY_PREFIX: Final = "whsk_"
PUBLIC_KEY_PREFIX: Final = "whpk_"
_SEED_BYTES: Final = 32


class KeyPair:
    """An Ed25519 key pair."""

    def __init__(self, seed: bytes) -> None:
        """Use the 32 bytes of a private key."""
        self._private_key = Ed25519PrivateKey.from_private_bytes(seed)
        self._public_bytes = self._private_key.public_key().public_bytes_raw()

    @classmethod
    def shared(cls, secret_key: str) -> KeyPair:
        """Derive the key pair that all endpoints had in common before each got its own, from the service's secret."""
        derivation = HKDF(algorithm=SHA256(), length=_SEED_BYTES, salt=None, info=b"saccade webhook signature ed25519")
        return cls(derivation.derive(secret_key.encode()))

    def sign(self, signed: bytes) -> str:
        """Return a signature in the form of the header: ``v1a,…``."""
        return f"v1a,{base64.b64encode(self._private_key.sign(signed)).decode()}"

    def public_key(self) -> str:
        """Return the public key in the standard's form, "whpk_…"."""
        return PUBLIC_KEY_PREFIX + base64.b64encode(self._public_bytes).decode()

    def public_jwk(self) -> dict[str, Any]:
        """Return the public key as JSON Web Key (RFC 7517, 8037), and as "whpk_…"."""
        key = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(self._public_bytes)}
        # RFC 7638: the hash of the required members in lexical order, without white space.
        thumbprint = hashlib.sha256(json.dumps(key, separators=(",", ":"), sort_keys=True).encode()).digest()
        return {**key, "kid": _base64url(thumbprint), "use": "sig", "alg": "EdDSA", "whpk": self.public_key()}


def new_private_key() -> str:
    """Return a new private key: "whsk_" and 32 random bytes in base64."""
    return PRIVATE_KEY_PREFIX + base64.b64encode(random_source.token_bytes(_SEED_BYTES)).decode()


@functools.lru_cache(maxsize=1024)
def key_pair(private_key: str) -> KeyPair:
    """Return the key pair of a private key.

    Raises:
        ValueError: it is not "whsk_" and 32 bytes in base64. The message does not hold the key.
    """
    try:
        seed = binascii.a2b_base64(private_key.removeprefix(PRIVATE_KEY_PREFIX), strict_mode=True)
    except ValueError:  # binascii.Error, or not ASCII
        seed = b""
    if not private_key.startswith(PRIVATE_KEY_PREFIX) or len(seed) != _SEED_BYTES:
        raise ValueError("A private key is written whsk_ and 32 bytes in base64.")
    return KeyPair(seed)


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
