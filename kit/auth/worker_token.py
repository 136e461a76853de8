"""What a worker may do with the bus: a token of its own, good for one job, until it expires.

A NATS user JWT (https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt), so that
nats-server enforces it by itself; the gateway takes the same token for the same events by HTTPS. Why each right is
there, and that no other is, stands in docs/adr/0005.
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

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import JOB_ID_PATTERN, TENANT_PATTERN, id_pattern
from contracts.limits import EVENT_BYTES
from contracts.session import job_of
from contracts.worker_rights import Rights, rights_of_run, rights_of_sender, rights_of_session_run

ALGORITHM: Final = "ed25519-nkey"
#: Who may answer may do so this soon, once for each question.
_ANSWERS: Final = {"max": 1, "ttl": 5_000_000_000}
_TOKEN_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class WorkerToken:
    """A token, a run's or a live session's, and the seed that proves to NATS that it is ours to use.

    The gateway asks for no such proof.
    """

    jwt: str
    seed: SecretStr
    expires_at: datetime
    inbox_prefix: str

    @property
    def credentials(self) -> SecretStr:
        """Write token and seed as the credentials file that NATS clients read."""
        return SecretStr(credentials(self.jwt, self.seed.get_secret_value()))


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a token that was verified says."""

    tenant: str
    job_id: str
    run_id: str
    expires_at: datetime
    #: Every subject that its bearer may publish to.
    subjects: frozenset[str]


def inbox_prefix(run_id: str) -> str:
    """Name the subjects under which a run or a session's sender hears answers; nobody else's lie there."""
    return f"_INBOX_{run_id}"


def credentials(jwt: str, seed: str) -> str:
    """Write a JWT and its seed in the form of a NATS credentials file."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


class WorkerTokens:
    """Mints tokens with an account's key, or with a signing key of that account."""

    def __init__(self, account_seed: SecretStr, issuer_account: str | None = None) -> None:
        """Take the seed (``SA…``); ``issuer_account`` is the account's public key when the seed is a signing key's.

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

    def issue(self, tenant: str, job_id: str, run_id: str, lifetime_s: float) -> WorkerToken:
        """Mint the token of one run; it is refused everywhere after ``lifetime_s`` seconds."""
        tags = [f"tenant:{tenant}", f"job:{job_id}", f"run:{run_id}"]
        return self._issue(run_id, rights_of_run(tenant, job_id), tags, lifetime_s)

    def issue_session_run(
        self, tenant: str, session_id: str, run_id: str, lifetime_s: float, *, replay_of: str | None = None
    ) -> WorkerToken:
        """Mint the token of one run of a live session's worker: that of its job, and what its session needs.

        Raises:
            ValueError: an id is not one.
        """
        tags = [f"tenant:{tenant}", f"job:{job_of(session_id)}", f"run:{run_id}"]
        rights = rights_of_session_run(tenant, session_id, run_id, replay_of)
        return self._issue(run_id, rights, tags, lifetime_s)

    def issue_session(self, tenant: str, session_id: str, lifetime_s: float) -> WorkerToken:
        """Mint a token that sends joints and frames into one live session, asks its worker's time, and no more.

        Its tags name no run: the gateway takes it for nobody's worker.
        """
        tags = [f"tenant:{tenant}", f"session:{session_id}"]
        return self._issue(session_id, rights_of_sender(tenant, session_id), tags, lifetime_s)

    def _issue(self, name: str, rights: Rights, tags: list[str], lifetime_s: float) -> WorkerToken:
        inbox = inbox_prefix(name)
        seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        expires_s = int(time.time() + lifetime_s)
        claims = {
            "iss": self.public_key,
            "sub": nkeys.from_seed(bytearray(seed)).public_key.decode(),
            "iat": int(time.time()),
            "exp": expires_s,
            "name": name,
            "nats": {
                "pub": {"allow": list(rights.says)},
                "sub": {"allow": [f"{inbox}.>", *rights.hears]},
                **({"resp": _ANSWERS} if rights.answers else {}),
                "subs": rights.subscriptions,
                "data": -1,
                "payload": EVENT_BYTES,
                "allowed_connection_types": ["STANDARD", "WEBSOCKET"],
                "tags": tags,
                "type": "user",
                "version": 2,
                **({"issuer_account": self._issuer_account} if self._issuer_account else {}),
            },
        }
        expires_at = datetime.fromtimestamp(expires_s, UTC)
        return WorkerToken(sign(claims, self._key), SecretStr(seed.decode()), expires_at, inbox)


def sign(claims: dict[str, Any], key: nkeys.KeyPair) -> str:
    """Write claims as a NATS JWT, version 2, with its id, which is the digest of the rest.

    Source: https://github.com/nats-io/jwt, v2/claims.go.
    """
    digest = hashlib.new("sha512_256", json.dumps(claims, separators=(",", ":")).encode()).digest()
    jti = base64.b32encode(digest).rstrip(b"=").decode()
    signed = f"{_encoded({'typ': 'JWT', 'alg': ALGORITHM})}.{_encoded(claims | {'jti': jti})}"
    return f"{signed}.{_base64url(key.sign(signed.encode()))}"


def verify(jwt: str, account_public_key: str, now: datetime) -> TokenClaims:
    """Check a worker's token and give what it says.

    Raises:
        SaccadeError: UNAUTHENTICATED.
    """
    header, claims = _signed_by(jwt, account_public_key)
    try:
        said = _Claims.model_validate(claims)
        about = _About.model_validate(dict(tag.split(":", 1) for tag in said.nats.tags if ":" in tag))
    except ValidationError:
        raise _refusal("The token is genuine and not a worker's.") from None
    if header.get("typ") != "JWT" or said.iss != account_public_key:
        raise _refusal("The token was issued by another key.")
    expires_at = datetime.fromtimestamp(said.exp, UTC)
    if now >= expires_at:
        raise _refusal(f"The token has expired at {expires_at:%Y-%m-%dT%H:%M:%SZ}.")
    return TokenClaims(
        tenant=about.tenant,
        job_id=about.job,
        run_id=about.run,
        expires_at=expires_at,
        subjects=frozenset(said.nats.pub.allow),
    )


def checked_key(public_key: str) -> str:
    """Give the public key of an account as it is compared.

    Raises:
        ValueError: it is none.
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
    #: Nobody is issued a token without an end.
    exp: int = Field(gt=0, lt=1 << 40)
    nats: _NatsClaims


class _About(BaseModel):
    """What the tags name."""

    tenant: str = Field(pattern=TENANT_PATTERN)
    job: str = Field(pattern=JOB_ID_PATTERN)
    run: str = Field(pattern=id_pattern("run"))


def _signed_by(jwt: str, account_public_key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give header and claims of a token whose signature is right.

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
    """Read a public nkey: one byte of kind, 32 of key, two of checksum, in base 32."""
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
        ErrorCode.UNAUTHENTICATED, message, hint="Send the token that the dispatcher gave this run, while it is valid."
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
