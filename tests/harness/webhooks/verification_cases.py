"""Webhooks to verify and what is to come of them, the same for every verifier."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr

from services.notifier.webhooks.endpoints.endpoint import EndpointSecret
from services.notifier.webhooks.key_pair import KeyPair, key_pair, new_private_key
from services.notifier.webhooks.signing import Signer, new_secret

NOW_S = 1_795_262_400
NOW = datetime.fromtimestamp(NOW_S, UTC)
#: The vector of the standard's own libraries.
VECTOR = {
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "timestamp_s": 1614265330,
    "body": b'{"test": 2432232314}',
    "signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
BODY = '{"type": "job.succeeded", "data": {"name": "Нордшляйфе"}}'.encode()
ID = "job_0192.succeeded"
#: The key pair that endpoints had in common.
SHARED = KeyPair(bytes(range(32)))
SIGNER = Signer(SHARED)


@dataclass(frozen=True)
class Case:
    """One webhook; ``outcome`` is the id that is read, or the code of the error."""

    name: str
    outcome: str
    body: bytes
    headers: dict[str, str]
    secrets: Any = ()
    public_keys: Any = ()
    now_s: float = NOW_S

    def plain(self) -> dict[str, Any]:
        """Write the case as JSON can hold it."""
        keys = {"secrets": self.secrets or [], "publicKeys": self.public_keys or [], "nowS": self.now_s}
        return {"body": base64.b64encode(self.body).decode(), "headers": self.headers, "keys": keys}


OLD, NEW, OTHER = new_secret(), new_secret(), new_secret()
OWN_PRIVATE, OLD_PRIVATE, STRANGERS_PRIVATE = new_private_key(), new_private_key(), new_private_key()
PUBLIC, OLD_PUBLIC, STRANGERS_PUBLIC = (
    key_pair(private).public_key() for private in (OWN_PRIVATE, OLD_PRIVATE, STRANGERS_PRIVATE)
)
KEY_SET = {"keys": [key_pair(private).public_jwk() for private in (OWN_PRIVATE, OLD_PRIVATE)]}
ROTATED = (
    EndpointSecret(SecretStr(NEW), None, SecretStr(OWN_PRIVATE)),
    EndpointSecret(SecretStr(OLD), NOW + timedelta(hours=24), SecretStr(OLD_PRIVATE)),
)
STRANGERS = (EndpointSecret(SecretStr(OTHER), None, SecretStr(STRANGERS_PRIVATE)),)
#: From before endpoints had key pairs of their own.
BEFORE = (EndpointSecret(SecretStr(OLD)),)


def signed(body: bytes = BODY, signing: Any = "both", secrets: Any = ROTATED, **changed: str) -> dict[str, str]:
    """Sign a body now, then change headers."""
    headers = SIGNER.headers(ID, body, secrets, signing, NOW)
    return {**headers, **{f"webhook-{name}": value for name, value in changed.items()}}


def cases() -> Iterator[Case]:
    """Return all cases."""
    yield from _right()
    yield from _times()
    yield from _wrong()
    yield from _bodies_and_keys()


def _right() -> Iterator[Case]:
    vector = {
        "webhook-id": VECTOR["id"],
        "webhook-timestamp": str(VECTOR["timestamp_s"]),
        "webhook-signature": VECTOR["signature"],
    }
    at = VECTOR["timestamp_s"]
    yield Case("vector", VECTOR["id"], VECTOR["body"], vector, VECTOR["secret"], now_s=at)  # type: ignore[arg-type]
    yield Case("new secret", ID, BODY, signed(signing="v1"), NEW)
    yield Case("old secret", ID, BODY, signed(signing="v1"), OLD)
    yield Case("one of the secrets", ID, BODY, signed(signing="v1"), [OTHER, OLD])
    yield Case("secret beside v1a", ID, BODY, signed(), NEW)
    yield Case("public key", ID, BODY, signed(signing="v1a"), public_keys=PUBLIC)
    yield Case("public key beside v1", ID, BODY, signed(), public_keys=PUBLIC)
    yield Case("one of the public keys", ID, BODY, signed(), public_keys=[STRANGERS_PUBLIC, PUBLIC])
    yield Case("key set", ID, BODY, signed(), public_keys=KEY_SET)
    yield Case("old public key", ID, BODY, signed(signing="v1a"), public_keys=OLD_PUBLIC)
    before = signed(signing="v1a", secrets=BEFORE)
    yield Case("key in common, of an endpoint that has no other", ID, BODY, before, public_keys=SHARED.public_key())
    changing = signed(signing="v1a", secrets=(*ROTATED, *BEFORE))
    yield Case("key in common, during the rotation", ID, BODY, changing, public_keys=SHARED.public_key())
    yield Case("own key, during the rotation", ID, BODY, changing, public_keys=PUBLIC)
    yield Case("secret or public key", ID, BODY, signed(signing="v1a"), OTHER, PUBLIC)
    yield Case("headers in capitals", ID, BODY, {name.title(): value for name, value in signed().items()}, NEW)
    right = signed()["webhook-signature"]
    junk = f"v2,AAAA v1 , v1,%%% v1,é {right} v1,"
    yield Case("among others that cannot be read", ID, BODY, signed(signature=junk), OLD)


def _times() -> Iterator[Case]:
    for name, away_s, outcome in (
        ("300 s old", 300, ID),
        ("300 s ahead", -300, ID),
        ("301 s old", 301, "timestamp_outside_tolerance"),
        ("301 s ahead", -301, "timestamp_outside_tolerance"),
        ("a year old", 31_536_000, "timestamp_outside_tolerance"),
    ):
        yield Case(name, outcome, BODY, signed(), NEW, PUBLIC, NOW_S + away_s)
    for name in ("id", "timestamp", "signature"):
        without = {header: value for header, value in signed().items() if header != f"webhook-{name}"}
        yield Case(f"without {name}", "headers_missing", BODY, without, NEW)
        yield Case(f"empty {name}", "headers_missing", BODY, signed(**{name: ""}), NEW)
    for text in ("now", "1.8e9", "-5", f" {NOW_S}", f"{NOW_S}.0", f"{NOW_S}\n", "١٧٩٥٢٦٢٤٠٠", "9" * 400, "0x6b00"):
        yield Case(f"timestamp {text[:20]!r}", "headers_missing", BODY, signed(timestamp=text), NEW)
    yield Case("no headers", "headers_missing", BODY, {}, NEW)


def _wrong() -> Iterator[Case]:
    no = "signature_mismatch"
    one = signed(signing="v1")["webhook-signature"].split()[0]
    yield Case("other secret", no, BODY, signed(), OTHER)
    yield Case("other public key", no, BODY, signed(), public_keys=STRANGERS_PUBLIC)
    yield Case("body changed", no, BODY + b" ", signed(), NEW, PUBLIC)
    yield Case("no body", no, b"", signed(), NEW, PUBLIC)
    yield Case("id changed", no, BODY, signed(id="job_0192.failed"), NEW, PUBLIC)
    yield Case("id with signs of another alphabet", no, BODY, signed(id="ééé"), NEW, PUBLIC)
    yield Case("timestamp changed", no, BODY, signed(timestamp=str(NOW_S + 1)), NEW, PUBLIC)
    yield Case("timestamp with a zero in front", no, BODY, signed(timestamp=f"0{NOW_S}"), NEW, PUBLIC)
    yield Case("v1 only, for a public key", no, BODY, signed(signing="v1"), public_keys=PUBLIC)
    yield Case("v1a only, for a secret", no, BODY, signed(signing="v1a"), NEW)
    yield Case("v1 called v1a", no, BODY, signed(signature=one.replace("v1,", "v1a,")), NEW, PUBLIC)
    asymmetric = signed(signing="v1a")["webhook-signature"]
    yield Case("v1a called v1", no, BODY, signed(signature=asymmetric.replace("v1a,", "v1,")), NEW, PUBLIC)
    yield Case("version in capitals", no, BODY, signed(signature=one.replace("v1,", "V1,")), NEW)
    yield Case("without its padding", no, BODY, signed(signature=one.rstrip("=")), NEW)
    yield Case("with more padding", no, BODY, signed(signature=one + "="), NEW)
    yield Case("cut short", no, BODY, signed(signature=one[:11]), NEW)
    yield Case("a version without its signature", no, BODY, signed(signature="v1,"), NEW)
    yield Case("zeros for v1a", no, BODY, signed(signature=f"v1a,{'A' * 86}=="), public_keys=PUBLIC)
    yield Case("separated by commas", no, BODY, signed(signature=f"v1,AAAA,{one}"), NEW)
    yield Case("behind too many", no, BODY, signed(signature="v1,AAAA " * 16 + one), NEW)
    by_stranger = signed(signing="v1a", secrets=STRANGERS)
    yield Case("signed for a stranger", no, BODY, by_stranger, NEW, PUBLIC)
    yield Case("signed for a stranger, for a key set", no, BODY, by_stranger, public_keys=KEY_SET)
    before = signed(signing="v1a", secrets=BEFORE)
    yield Case("signed by the key in common, for an own key", no, BODY, before, public_keys=PUBLIC)
    yield Case("signed by an own key, for that in common", no, BODY, signed(), public_keys=SHARED.public_key())


def _bodies_and_keys() -> Iterator[Case]:
    for name, body in (("no JSON", b"{"), ("an array", b"[]"), ("null", b"null"), ("no UTF-8", b'{"a": "\xff"}')):
        yield Case(f"body: {name}", "body_unreadable", body, signed(body), NEW)
    bad = "key_unusable"
    yield Case("no key", bad, BODY, signed())
    for name, secret in (
        ("without prefix", NEW.removeprefix("whsec_")),
        ("short", "whsec_AAAA"),
        ("empty", "whsec_"),
        ("no base64", "whsec_" + "%" * 32),
        ("letters that are not ASCII", "whsec_" + "é" * 32),
        ("a public key", PUBLIC),
    ):
        yield Case(f"secret: {name}", bad, BODY, signed(), secret)
    for name, key in (
        ("without prefix", PUBLIC.removeprefix("whpk_")),
        ("short", "whpk_AAAA"),
        ("no base64", "whpk_" + "%" * 44),
        ("a secret", NEW),
    ):
        yield Case(f"public key: {name}", bad, BODY, signed(), public_keys=key)
    for name, key_set in (
        ("empty", {"keys": []}),
        ("another curve", {"keys": [{"kty": "EC", "crv": "P-256", "x": "AAAA"}]}),
        ("short", {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]}),
    ):
        yield Case(f"key set: {name}", bad, BODY, signed(), public_keys=key_set)
