"""A token that was changed, forged or has expired is refused."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import nkeys
import pytest
from pydantic import SecretStr

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import new_id
from contracts.worker_rights import run_grant
from kit.auth.bus_token import ALGORITHM, BusTokenIssuer, checked_key, sign, verify

TENANT, JOB, RUN = "acme", new_id("job"), new_id("run")
GRANT = run_grant(TENANT, JOB, RUN)


def account() -> BusTokenIssuer:
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_ACCOUNT).decode()
    return BusTokenIssuer(SecretStr(seed))


def encoded(part: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def decoded(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def refusal(jwt: str, key: str, now: datetime | None = None) -> str:
    with pytest.raises(SaccadeError) as caught:
        verify(jwt, key, now or datetime.now(UTC))
    assert caught.value.code is ErrorCode.UNAUTHENTICATED
    return caught.value.message


def test_two_tokens_of_one_grant_have_different_seeds() -> None:
    tokens = account()
    first, second = (tokens.issue(GRANT, 60) for _ in range(2))
    assert first.seed != second.seed
    assert str(first.seed.get_secret_value()) not in repr(first)


def test_a_token_is_refused_from_the_second_of_its_expiry() -> None:
    tokens = account()
    token = tokens.issue(GRANT, 60)
    verify(token.jwt, tokens.public_key, token.expires_at - timedelta(milliseconds=1))
    assert "has expired at 20" in refusal(token.jwt, tokens.public_key, token.expires_at)


def test_a_signature_by_another_key_is_refused() -> None:
    ours, theirs = account(), account()
    token = theirs.issue(GRANT, 60)
    assert "signature is not right" in refusal(token.jwt, ours.public_key)


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "another job": lambda claims: claims["nats"].update(
        tags=[f"tenant:{TENANT}", f"job:{new_id('job')}", f"run:{RUN}"]
    ),
    "more rights": lambda claims: claims["nats"]["pub"].update(allow=[">"]),
    "more time": lambda claims: claims.update(exp=claims["exp"] + 1),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_changed_token_is_refused(change: str) -> None:
    tokens = account()
    header, claims, signature = tokens.issue(GRANT, 60).jwt.split(".")
    changed = decoded(claims)
    CHANGES[change](changed)
    assert "signature is not right" in refusal(f"{header}.{encoded(changed)}.{signature}", tokens.public_key)


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ed25519", "EdDSA", None])
def test_another_algorithm_is_refused(algorithm: str | None) -> None:
    tokens = account()
    _, claims, signature = tokens.issue(GRANT, 60).jwt.split(".")
    header = encoded({"typ": "JWT", "alg": algorithm})
    for signed in (signature, ""):
        assert "another algorithm" in refusal(f"{header}.{claims}.{signed}", tokens.public_key)


def test_a_valid_token_without_a_grant_is_refused() -> None:
    """The services' own credentials in the same account, for example, or a token without an expiry."""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_ACCOUNT)
    key, tokens = nkeys.from_seed(bytearray(seed)), BusTokenIssuer(SecretStr(seed.decode()))
    worker = decoded(tokens.issue(GRANT, 60).jwt.split(".")[1])
    everything = {"type": "user", "version": 2, "pub": {}, "sub": {}}
    for claims in (worker | {"nats": everything}, {k: v for k, v in worker.items() if k != "exp"}, worker | {"exp": 0}):
        assert "not a worker's" in refusal(sign(claims, key), tokens.public_key)
    assert "another key" in refusal(sign(worker | {"iss": account().public_key}, key), tokens.public_key)


@pytest.mark.parametrize(
    "text", ["", "a", "a.b", "a.b.c", "e30.e30.", "e30.e30.e30.e30", "W10.W10.AA", "é.é.é", "a" * 99_999]
)
def test_malformed_text_is_refused(text: str) -> None:
    message = refusal(text, account().public_key)
    assert "not a worker's token" in message or "another algorithm" in message


def test_a_token_of_a_signing_key_names_its_account() -> None:
    identity, signing = account(), nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_ACCOUNT).decode()
    tokens = BusTokenIssuer(SecretStr(signing), identity.public_key)
    token = tokens.issue(GRANT, 60)
    claims = decoded(token.jwt.split(".")[1])
    assert (claims["iss"], claims["nats"]["issuer_account"]) == (tokens.public_key, identity.public_key)
    assert decoded(token.jwt.split(".")[0]) == {"typ": "JWT", "alg": ALGORITHM}
    verify(token.jwt, tokens.public_key, datetime.now(UTC))


@pytest.mark.parametrize("seed", ["", "SAnonsense", "password"])
def test_an_invalid_seed_is_refused_without_being_shown(seed: str) -> None:
    with pytest.raises(ValueError, match="begins with SA") as caught:
        BusTokenIssuer(SecretStr(seed))
    assert not seed or seed not in str(caught.value)


def test_a_key_of_another_kind_is_refused() -> None:
    user = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    with pytest.raises(ValueError, match="begins with SA"):
        BusTokenIssuer(SecretStr(user.decode()))
    with pytest.raises(ValueError, match="begins with A"):
        checked_key(nkeys.from_seed(bytearray(user)).public_key.decode())
    good = account().public_key
    assert checked_key(f" {good}\n") == good
    with pytest.raises(ValueError, match="begins with A"):
        checked_key(good[:-2] + ("AB" if good[-2:] != "AB" else "BA"))
