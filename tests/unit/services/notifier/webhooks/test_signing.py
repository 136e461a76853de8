"""Signatures of webhooks: the standard's vector, rotation, public keys, the published library."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import SecretStr
from saccade_client import webhook
from standardwebhooks import Webhook, WebhookVerificationError

from services.notifier.webhooks.endpoints.endpoint import EndpointSecret
from services.notifier.webhooks.endpoints.endpoint_service import MAX_SECRETS
from services.notifier.webhooks.key_pair import KeyPair, key_pair, new_private_key
from services.notifier.webhooks.signing import new_secret, secret_bytes
from tests.harness.clients.node import ROOT
from tests.harness.webhooks.verification_cases import (
    BODY,
    ID,
    NEW,
    NOW,
    OLD,
    OLD_PUBLIC,
    PUBLIC,
    ROTATED,
    SIGNER,
    VECTOR,
    Case,
    cases,
)  # fmt: skip

CASES = list(cases())
JAVASCRIPT = (ROOT / "clients" / "js" / "webhook.js").read_text()


def test_the_standards_vector_is_reproduced() -> None:
    at = datetime.fromtimestamp(int(str(VECTOR["timestamp_s"])), UTC)
    secret = EndpointSecret(SecretStr(str(VECTOR["secret"])))
    body = VECTOR["body"]
    assert isinstance(body, bytes)
    headers = SIGNER.headers(str(VECTOR["id"]), body, [secret], "v1", at)
    assert headers == {
        "webhook-id": VECTOR["id"],
        "webhook-timestamp": "1614265330",
        "webhook-signature": VECTOR["signature"],
    }


def test_the_timestamp_does_not_depend_on_the_time_zone() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))
    assert SIGNER.headers(ID, BODY, ROTATED, "both", elsewhere) == SIGNER.headers(ID, BODY, ROTATED, "both", NOW)


def test_the_public_key_of_rfc_8037_is_published_as_specified() -> None:
    """Appendix A.1 to A.3: private key, public key and the key's thumbprint."""
    pair = KeyPair(base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="))
    key = pair.public_jwk()
    assert key["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert key["kid"] == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")
    assert key["whpk"] == pair.public_key() == "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


@pytest.mark.parametrize(("signing", "versions"), [("v1", ["v1"]), ("v1a", ["v1a"]), ("both", ["v1", "v1a"])])
def test_an_endpoint_gets_the_configured_signatures(signing: str, versions: list[str]) -> None:
    headers = SIGNER.headers(ID, BODY, ROTATED[:1], signing, NOW)  # type: ignore[arg-type]
    assert [part.partition(",")[0] for part in headers["webhook-signature"].split(" ")] == versions


@pytest.mark.parametrize(
    ("signing", "keys"), [("v1", {"secrets": OLD}), ("v1a", {"public_keys": OLD_PUBLIC})], ids=["secret", "key pair"]
)
def test_a_rotated_secret_and_its_key_pair_sign_until_they_expire(signing: Any, keys: dict[str, str]) -> None:
    before, after = NOW + timedelta(hours=24) - timedelta(seconds=1), NOW + timedelta(hours=24)
    sent = [SIGNER.headers(ID, BODY, ROTATED, signing, at) for at in (before, after)]
    assert [len(headers["webhook-signature"].split()) for headers in sent] == [2, 1]
    assert webhook.verify(BODY, sent[0], **keys, now_s=before.timestamp()).id == ID
    with pytest.raises(webhook.SignatureMismatchError):
        webhook.verify(BODY, sent[1], **keys, now_s=after.timestamp())
    assert [key.expires_at for key in SIGNER.key_pairs(ROTATED, before)] == [None, after]
    assert [key.pair.public_key() for key in SIGNER.key_pairs(ROTATED, after)] == [PUBLIC]


def test_the_most_secrets_that_sign_at_a_time_are_read_by_our_receivers() -> None:
    secrets = [replace(EndpointSecret.new(), expires_at=NOW + timedelta(days=1)) for _ in range(MAX_SECRETS)]
    headers = SIGNER.headers(ID, BODY, secrets, "both", NOW)
    for secret in secrets:
        assert secret.private_key
        public_key = key_pair(secret.private_key.get_secret_value()).public_key()
        assert webhook.verify(BODY, headers, public_keys=public_key, now_s=NOW.timestamp()).id == ID
        assert webhook.verify(BODY, headers, secrets=secret.secret.get_secret_value(), now_s=NOW.timestamp()).id == ID


def test_secrets_are_random_and_have_the_standards_format() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(secret_bytes(secret)) for secret in made} == {32}


@pytest.mark.parametrize("secret", ["whsec_", "whsec_AAAA", "whsec_" + "A" * 200, "A" * 44, "whsec_" + "é" * 40])
def test_an_invalid_secret_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_ and 24 to 64 bytes") as refused:
        secret_bytes(secret)
    assert secret.removeprefix("whsec_") == "" or secret not in str(refused.value)


def test_the_key_in_common_is_that_of_before() -> None:
    """Receivers hold it: it is derived as it was, from the service's secret only."""
    keys = [KeyPair.shared(secret).public_key() for secret in ("a" * 32, "a" * 32, "b" * 32)]
    assert keys[0] == keys[1] == "whpk_Yoms0zFn6PrWvG7cZbFaWV3lLSiShu4eHjlUVesDLnI=" != keys[2]


@pytest.mark.parametrize("private", ["whsk_", "whsk_AAAA", "whsk_" + "A" * 200, "A" * 44, "whsk_" + "é" * 40])
def test_an_invalid_private_key_is_refused_without_being_shown(private: str) -> None:
    with pytest.raises(ValueError, match="whsk_ and 32 bytes") as refused:
        key_pair(private)
    assert private.removeprefix("whsk_") == "" or private not in str(refused.value)


def test_private_keys_are_random() -> None:
    assert len({key_pair(new_private_key()).public_key() for _ in range(100)}) == 100


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_python_receivers_accept_only_valid_signatures(case: Case) -> None:
    keys: dict[str, Any] = {"secrets": case.secrets, "public_keys": case.public_keys}
    if case.outcome.startswith(("job_", "msg_")):
        assert webhook.verify(case.body, case.headers, **keys, now_s=case.now_s).id == case.outcome
        return
    with pytest.raises((webhook.WebhookError, webhook.KeyUnusableError)) as refused:
        webhook.verify(case.body, case.headers, **keys, now_s=case.now_s)
    assert refused.value.code == case.outcome
    assert refused.value.hint.endswith(".")
    assert f"{case.outcome}:" in JAVASCRIPT
    assert refused.value.hint in JAVASCRIPT, "both clients say the same"
    assert NEW not in str(refused.value)
    assert NEW.removeprefix("whsec_") not in str(refused.value)


def test_every_case_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 70


def test_a_receiver_gets_the_event() -> None:
    headers = SIGNER.headers(ID, BODY, ROTATED, "both", NOW)
    for body in (BODY, BODY.decode(), bytearray(BODY)):
        delivery = webhook.verify(body, headers, secrets=OLD, now_s=NOW.timestamp())
        assert delivery.event["data"] == {"name": "Нордшляйфе"}
        assert delivery.timestamp_s == int(NOW.timestamp())


@pytest.mark.parametrize("signing", ["v1", "both"])
def test_the_published_library_accepts_our_signatures(signing: str) -> None:
    now = datetime.now(UTC)
    secrets = (EndpointSecret(SecretStr(new_secret())), EndpointSecret(SecretStr(OLD), now + timedelta(hours=1)))
    headers = SIGNER.headers(ID, BODY, secrets, signing, now)  # type: ignore[arg-type]
    for secret in secrets:
        assert Webhook(secret.secret.get_secret_value()).verify(BODY, headers)["type"] == "job.succeeded"
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)
