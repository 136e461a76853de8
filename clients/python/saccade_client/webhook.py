"""Verification of received webhooks: sender, time and unchanged body.

Standard Webhooks 1.0.0 (https://www.standardwebhooks.com). ``v1`` (HMAC-SHA-256, a secret for each endpoint) needs the
standard library only, and this file can be copied alone; ``v1a`` (Ed25519, a public key) needs ``cryptography``, the
extra ``ed25519`` of this package::

    from saccade_client.webhook import verify

    delivery = verify(await request.body(), request.headers, secrets="whsec_…")
    print(delivery.id, delivery.event["type"])

A webhook may come more than once, each time with the same id: store the ids that were handled.
"""

from __future__ import annotations

import binascii
import hmac
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

#: Allowed difference between the time of signing and now. An older request may be a replay.
TOLERANCE_S: Final = 300
#: At most so many signatures are checked; a rotation makes two, an attacker may send thousands.
_SIGNATURES: Final = 16
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_SECONDS: Final = re.compile(r"[0-9]{1,12}")


class WebhookError(Exception):
    """The request is not a valid webhook: answer it with 400. ``code`` is stable, ``hint`` says what to check."""

    code: str = "invalid"
    hint: str = "Refuse the request with 400."


class HeadersMissingError(WebhookError):
    """One of the three headers is missing, empty or unreadable."""

    code = "headers_missing"
    hint = "Check that the request comes from Saccade, and that no proxy removes headers that begin with webhook-."


class TimestampOutsideToleranceError(WebhookError):
    """It was signed too long ago, or in the future: a replay, or a wrong clock."""

    code = "timestamp_outside_tolerance"
    hint = "Check the clock of this machine. If it is right, the request is a replay: refuse it."


class SignatureMismatchError(WebhookError):
    """No signature of this body matches one of the keys."""

    code = "signature_mismatch"
    hint = "Pass the secret or the public key of this endpoint, and the body as it was received, before any parsing."


class BodyUnreadableError(WebhookError):
    """The signature is valid but the body is not JSON."""

    code = "body_unreadable"
    hint = "The sender has the key but is not Saccade: rotate the secret of the endpoint."


class KeyUnusableError(ValueError):
    """A secret or public key that was passed is invalid: an error of the receiver, not of the request."""

    code = "key_unusable"
    hint = "Pass the secret as it was shown when the endpoint was created (whsec_…), or a public key (whpk_…)."


@dataclass(frozen=True)
class VerifiedWebhook:
    """A verified webhook: ``id`` is the event's, the same in every delivery; ``event`` is the body."""

    id: str
    timestamp_s: int
    event: dict[str, Any]


#: The public name of ``VerifiedWebhook``.
Delivery = VerifiedWebhook


def verify(
    body: bytes | str,
    headers: Mapping[str, str],
    *,
    secrets: str | Iterable[str] = (),
    public_keys: str | Iterable[str] | Mapping[str, Any] = (),
    tolerance_s: float = TOLERANCE_S,
    now_s: float | None = None,
) -> VerifiedWebhook:
    """Verify a webhook and return it; one valid signature by one of the keys is enough.

    Args:
        body: the received bytes, before any parsing.
        headers: those of the request; names in any case.
        secrets: the endpoint's "whsec_…"; several during a rotation.
        public_keys: "whpk_…", or the JSON Web Key Set of ``GET /v1/webhooks/{id}/keys``.
        tolerance_s: allowed difference between the time of signing and now.
        now_s: unix time; the system clock by default.

    Raises:
        WebhookError: one of its subclasses; refuse the request.
        KeyUnusableError: a key is invalid, or none was passed.
        ModuleNotFoundError: a public key was passed and ``cryptography`` is not installed.
    """
    checks = _checks(secrets, public_keys)
    message_id, timestamp, signatures = _read(headers)
    now_s = time.time() if now_s is None else now_s
    if not abs(now_s - int(timestamp)) <= tolerance_s:
        when = "in the future" if int(timestamp) > now_s else "too long ago"
        raise TimestampOutsideToleranceError(f"The webhook was signed {when}: {timestamp}, and it is {now_s:.0f}.")
    raw = body.encode(errors="replace") if isinstance(body, str) else bytes(body)
    signed = f"{message_id}.{timestamp}.".encode(errors="surrogateescape") + raw
    if not any(check(version, signature, signed) for check in checks for version, signature in signatures):
        message = (
            "No signature matches: check that the key belongs to this endpoint and that the body is the received bytes."
        )
        raise SignatureMismatchError(message)
    return VerifiedWebhook(message_id, int(timestamp), _event(raw))


_Check = Callable[[str, bytes, bytes], bool]


def _read(headers: Mapping[str, str]) -> tuple[str, str, list[tuple[str, bytes]]]:
    named = {name.lower(): value for name, value in headers.items()}
    found = [named.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")]
    if not all(found):
        raise HeadersMissingError("A webhook has the headers webhook-id, webhook-timestamp and webhook-signature.")
    message_id, timestamp, listed = found
    if not _SECONDS.fullmatch(timestamp):
        raise HeadersMissingError("webhook-timestamp is not a number of seconds.")
    return message_id, timestamp, _signatures(listed)


def _signatures(listed: str) -> list[tuple[str, bytes]]:
    """Parse "v1,… v1a,…"; skip what cannot be read, as a future version may be."""
    signatures = []
    for part in listed.split(" ")[:_SIGNATURES]:
        version, _, encoded = part.partition(",")
        try:
            signatures.append((version, _from_base64(encoded)))
        except ValueError:
            continue
    return signatures


def _checks(secrets: str | Iterable[str], public_keys: str | Iterable[str] | Mapping[str, Any]) -> list[_Check]:
    listed = [secrets] if isinstance(secrets, str) else list(secrets)
    checks = [_check_v1(_secret_bytes(secret)) for secret in listed]
    checks += [_check_v1a(raw) for raw in _public_bytes(public_keys)]
    if not checks:
        raise KeyUnusableError("Pass a secret (whsec_…) or a public key (whpk_…).")
    return checks


def _check_v1(key: bytes) -> _Check:
    def check(version: str, signature: bytes, signed: bytes) -> bool:
        return version == "v1" and hmac.compare_digest(signature, hmac.digest(key, signed, "sha256"))

    return check


def _check_v1a(raw: bytes) -> _Check:
    try:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    except ModuleNotFoundError as error:
        message = "To verify by a public key, install cryptography: pip install cryptography"
        raise ModuleNotFoundError(message, name=error.name) from None
    key = Ed25519PublicKey.from_public_bytes(raw)

    def check(version: str, signature: bytes, signed: bytes) -> bool:
        if version != "v1a":
            return False
        try:
            key.verify(signature, signed)
        except InvalidSignature:
            return False
        return True

    return check


def _secret_bytes(secret: str) -> bytes:
    try:
        key = _from_base64(secret.removeprefix("whsec_"))
    except ValueError:
        key = b""
    if not secret.startswith("whsec_") or len(key) < 24:
        raise KeyUnusableError("A secret is whsec_ followed by at least 24 bytes in base64.")
    return key


def _public_bytes(public_keys: str | Iterable[str] | Mapping[str, Any]) -> list[bytes]:
    if isinstance(public_keys, str):
        public_keys = [public_keys]
    if isinstance(public_keys, Mapping):
        found = public_keys.get("keys", [])
        listed = [key["x"] for key in found if key.get("kty") == "OKP" and key.get("crv") == "Ed25519"]
        texts = [text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4) for text in listed]
        if not texts:
            raise KeyUnusableError("The key set contains no Ed25519 key.")
    else:
        listed = list(public_keys)
        if not all(text.startswith("whpk_") for text in listed):
            raise KeyUnusableError("A public key is whpk_ followed by 32 bytes in base64.")
        texts = [text.removeprefix("whpk_") for text in listed]
    try:
        raws = [_from_base64(text) for text in texts]
    except ValueError:
        raws = [b""]
    if any(len(raw) != 32 for raw in raws):
        raise KeyUnusableError("A public key is 32 bytes in base64.")
    return raws


def _from_base64(text: str) -> bytes:
    """Decode strictly; raises ValueError."""
    if not _BASE64.fullmatch(text):
        raise ValueError("not base64")
    return binascii.a2b_base64(text)


def _event(raw: bytes) -> dict[str, Any]:
    try:
        event = json.loads(raw)
    except ValueError as error:
        raise BodyUnreadableError(f"The signature is valid but the body is not JSON: {error}") from None
    if not isinstance(event, dict):
        raise BodyUnreadableError("The signature is valid but the body is not a JSON object.")
    return event
