"""Tokens for the bus: NATS user JWTs that grant a few subjects until they expire.

nats-server enforces the grant by itself (https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt);
the gateway accepts the same token over HTTPS. contracts/worker_rights.py makes the grants, docs/adr/0005 explains them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import nacl.exceptions
import nacl.signing
import nkeys
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from contracts.bus_grant import BusGrant
from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import MESSAGE_BYTES

ALGORITHM: Final = "ed25519-nkey"
#: One reply to each request, within 5 s (nanoseconds).
_RESPONSES: Final = {"max": 1, "ttl": 5_000_000_000}
_TOKEN_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class BusToken:
    """A token, and the seed that proves to NATS that its bearer owns it. The gateway asks for no such proof."""

    jwt: str
    seed: SecretStr
    expires_at: datetime
    inbox_prefix: str

    @property
    def credentials(self) -> SecretStr:
        """Token and seed as the credentials file that NATS clients read."""
        return SecretStr(credentials(self.jwt, self.seed.get_secret_value()))


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """Claims of a token whose signature and expiry were checked."""

    tags: tuple[str, ...]
    expires_at: datetime
    #: Every subject that the bearer may publish to.
    publish: frozenset[str]


def inbox_prefix(name: str) -> str:
    """Return the subject prefix of the replies to a token's bearer; no other bearer may subscribe below it."""
    return f"_INBOX_{name}"


def credentials(jwt: str, seed: str) -> str:
    """Return a JWT and its seed in the format of a NATS credentials file."""
    return f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n{seed_credentials(seed)}"


def seed_credentials(seed: str) -> str:
    """Return a seed in that format without a JWT: for a server whose configuration has the user's public key."""
    return f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"


def new_user_key() -> tuple[str, str]:
    """Return the public key and the seed of a new user."""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    return nkeys.from_seed(bytearray(seed)).public_key.decode(), seed.decode()


class BusTokenIssuer:
    """Issuer of tokens, with an account's key or a signing key of that account."""

    def __init__(self, account_seed: SecretStr, issuer_account: str | None = None) -> None:
        """Load the seed (``SA…``); ``issuer_account`` is the account's public key when the seed is a signing key's.

        Raises:
            ValueError: the seed is not an account's.
        """
        try:
            self._key = nkeys.from_seed(bytearray(account_seed.get_secret_value().strip().encode()))
            self.public_key = self._key.public_key.decode()
        except (nkeys.NkeysError, ValueError):
            raise ValueError("this is not the seed of a NATS key; it begins with SA") from None
        if not self.public_key.startswith("A"):
            raise ValueError("this is the seed of another kind of NATS key; that of an account begins with SA")
        self._issuer_account = issuer_account if issuer_account != self.public_key else None

    def issue(self, grant: BusGrant, lifetime_s: float) -> BusToken:
        """Issue a token; it is refused everywhere after ``lifetime_s`` seconds."""
        inbox = inbox_prefix(grant.name)
        public_key, seed = new_user_key()
        expires_s = int(time.time() + lifetime_s)
        claims = {
            "iss": self.public_key,
            "sub": public_key,
            "iat": int(time.time()),
            "exp": expires_s,
            "name": grant.name,
            "nats": {
                "pub": {"allow": list(grant.publish)},
                "sub": {"allow": [f"{inbox}.>", *grant.subscribe]},
                **({"resp": _RESPONSES} if grant.allow_responses else {}),
                "subs": grant.max_subscriptions,
                "data": -1,
                "payload": MESSAGE_BYTES,
                "allowed_connection_types": ["STANDARD", "WEBSOCKET"],
                "tags": list(grant.tags),
                "type": "user",
                "version": 2,
                **({"issuer_account": self._issuer_account} if self._issuer_account else {}),
            },
        }
        expires_at = datetime.fromtimestamp(expires_s, UTC)
        return BusToken(sign(claims, self._key), SecretStr(seed), expires_at, inbox)


def sign(claims: dict[str, Any], key: nkeys.KeyPair) -> str:
    """Encode claims as a NATS JWT, version 2; its id is the digest of the other claims.

    Source: https://github.com/nats-io/jwt, v2/claims.go.
    """
    digest = hashlib.new("sha512_256", json.dumps(claims, separators=(",", ":")).encode()).digest()
    jti = base64.b32encode(digest).rstrip(b"=").decode()
    signed = f"{_encoded({'typ': 'JWT', 'alg': ALGORITHM})}.{_encoded(claims | {'jti': jti})}"
    return f"{signed}.{_base64url(key.sign(signed.encode()))}"


def verify(jwt: str, account_public_key: str, now: datetime) -> VerifiedToken:
    """Check a token's signature, issuer and expiry, and return its claims.

    Raises:
        SaccadeError: UNAUTHENTICATED.
    """
    header, claims = _signed_by(jwt, account_public_key)
    try:
        parsed = _Claims.model_validate(claims)
    except ValidationError:
        raise _refusal("The token is valid, but it is not a worker's token.") from None
    if header.get("typ") != "JWT" or parsed.iss != account_public_key:
        raise _refusal("The token was issued by another key.")
    expires_at = datetime.fromtimestamp(parsed.exp, UTC)
    if now >= expires_at:
        raise _refusal(f"The token has expired at {expires_at:%Y-%m-%dT%H:%M:%SZ}.")
    return VerifiedToken(tuple(parsed.nats.tags), expires_at, frozenset(parsed.nats.pub.allow))


def claimed_tags(jwt: str) -> tuple[str, ...]:
    """Return the tags that a token claims to have; nothing of it is verified. None of what is no token."""
    try:
        claims = json.loads(_base64url_bytes(jwt[:_TOKEN_BYTES].split(".")[1]))
        return tuple(_Claims.model_validate(claims).nats.tags)
    except (ValueError, IndexError, RecursionError):
        return ()


def checked_key(public_key: str) -> str:
    """Return the public key of an account without surrounding white space.

    Raises:
        ValueError: it is not the public key of an account.
    """
    _raw_key(public_key.strip())
    return public_key.strip()


class _Allowed(BaseModel):
    model_config = ConfigDict(strict=True)

    allow: list[str]


class _NatsClaims(BaseModel):
    model_config = ConfigDict(strict=True)

    type: Literal["user"]
    pub: _Allowed
    tags: list[str]


class _Claims(BaseModel):
    model_config = ConfigDict(strict=True)

    iss: str
    #: Mandatory: a token without an expiry is never issued.
    exp: int = Field(gt=0, lt=1 << 40)
    nats: _NatsClaims


def _signed_by(jwt: str, account_public_key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a token after checking its signature.

    Raises:
        SaccadeError: UNAUTHENTICATED.
    """
    try:
        if len(jwt) > _TOKEN_BYTES:
            raise ValueError
        signed, _, signature = jwt.rpartition(".")
        header, claims = (json.loads(_base64url_bytes(part)) for part in signed.split("."))
        raw = _base64url_bytes(signature)
    except (ValueError, RecursionError):
        raise _refusal("This is not a worker's token.") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise _refusal("This is not a worker's token.")
    # Before anything else is believed: a token that names another algorithm asks to be checked in another way.
    if header.get("alg") != ALGORITHM:
        raise _refusal(f"The token is signed by another algorithm than {ALGORITHM}.")
    try:
        nacl.signing.VerifyKey(_raw_key(account_public_key)).verify(signed.encode(), raw)
    except (nacl.exceptions.CryptoError, ValueError):
        raise _refusal(
            "The token's signature is not right: it was forged, changed, or signed by another key."
        ) from None
    return header, claims


def _raw_key(public_key: str) -> bytes:
    """Decode a public nkey: one byte of kind, 32 of key, two of checksum, in base 32."""
    raw = base64.b32decode(public_key + "=" * (-len(public_key) % 8))
    if (
        len(raw) != 35
        or raw[0] != nkeys.PREFIX_BYTE_ACCOUNT
        or nkeys.crc16(raw[:33]) != int.from_bytes(raw[33:], "little")
    ):
        raise ValueError("not the public key of a NATS account; it begins with A")
    return raw[1:33]


def _refusal(message: str) -> SaccadeError:
    return SaccadeError(
        ErrorCode.UNAUTHENTICATED, message, hint="Send the token that the dispatcher issued for this run."
    )


def _encoded(part: dict[str, Any]) -> str:
    return _base64url(json.dumps(part, separators=(",", ":")).encode())


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _base64url_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
