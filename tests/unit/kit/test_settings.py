"""Settings: no credentials in logs, names of the bucket's variables, placeholders and example keys."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from contracts.errors import SaccadeError
from kit.auth.api_keys import Authenticator, AuthSettings
from kit.bucket import open_bucket
from kit.settings import NatsSettings, S3Settings, WebhookAddressSettings, as_environment, invalid_settings
from services.gateway.settings import SessionSettings
from services.notifier.settings import NotifierSettings, WebhookSettings
from tests.harness.servers.embedded import ROOT


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("nats://anna:secret@bus.example:4222", "nats://bus.example:4222"),
        ("tls://token@bus.example", "tls://bus.example"),
        ("anna:secret@bus.example:4222", "bus.example:4222"),
        ("nats://a:secret@one:4222,nats://b:secret@two:4222", "nats://one:4222,nats://two:4222"),
    ],
)
def test_a_bus_is_logged_without_its_credentials(url: str, shown: str) -> None:
    assert NatsSettings(url=url).address == shown


R2 = {
    "R2_ENDPOINT_URL": "https://account.r2.cloudflarestorage.com",
    "R2_BUCKET_NAME": "splats",
    "R2_PUBLIC_URL": "https://pub.r2.dev/",
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "secret",
}
OURS = {
    "S3_ENDPOINT_URL": "http://127.0.0.1:9000",
    "S3_BUCKET": "ours",
    "S3_PUBLIC_URL": "https://files.example",
    "S3_ACCESS_KEY_ID": "our id",
    "S3_SECRET_ACCESS_KEY": "our secret",
}


def _settings(monkeypatch: pytest.MonkeyPatch, **environment: str) -> S3Settings:
    for name in (*R2, *OURS):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return S3Settings()


def test_the_bucket_settings_accept_names_of_r2(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _settings(monkeypatch, **R2)
    assert (found.endpoint_url, found.bucket) == ("https://account.r2.cloudflarestorage.com", "splats")
    assert (found.access_key_id, found.secret_access_key.get_secret_value()) == ("id", "secret")
    assert (found.public_url, found.public_endpoint_url) == ("https://pub.r2.dev", found.endpoint_url)
    # Workers get the variables under these names.
    assert _settings(monkeypatch, **as_environment(None, found)) == found


@pytest.mark.parametrize(
    ("keys", "hosts", "embedded"),
    [
        (False, "", True),
        (False, "localhost, 127.0.0.1", True),
        # Without keys, but a proxy or a tunnel passes requests of others on.
        (False, "saccade.example.org", False),
        (False, "*", False),
        (True, "", False),
        (True, "localhost", False),
    ],
)
def test_embedded_mode_is_one_users_machine(tmp_path: Path, keys: bool, hosts: str, embedded: bool) -> None:
    file = keys_of(tmp_path, "chosen") if keys else None
    assert AuthSettings(api_keys_file=file, allowed_hosts=hosts).embedded is embedded


def test_webhooks_follow_the_mode_unless_they_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded, with_keys = AuthSettings(), AuthSettings(api_keys_file=keys_of(tmp_path, "chosen"))
    unset = WebhookAddressSettings()
    assert (unset.https_only(embedded), unset.https_only(with_keys)) == (False, True)
    assert unset.allowed_networks(embedded) == ("127.0.0.0/8", "::1")
    assert unset.allowed_networks(with_keys) == ()
    monkeypatch.setenv("NOTIFIER_WEBHOOK_HTTPS_ONLY", "false")
    monkeypatch.setenv("NOTIFIER_WEBHOOK_ALLOWED_NETWORKS", "10.0.0.0/8, 192.0.2.1")
    for auth in (embedded, with_keys):
        assert not WebhookAddressSettings().https_only(auth)
        assert WebhookAddressSettings().allowed_networks(auth) == ("10.0.0.0/8", "192.0.2.1")


def test_our_own_variable_names_have_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _settings(monkeypatch, **R2, **OURS)
    assert (found.endpoint_url, found.bucket, found.access_key_id) == ("http://127.0.0.1:9000", "ours", "our id")
    assert found.public_url == "https://files.example"


@pytest.mark.anyio
async def test_links_into_a_public_bucket_are_not_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_bucket(_settings(monkeypatch, **R2)) as bucket:
        assert await bucket.presign_get("results/a b.ply") == "https://pub.r2.dev/results/a%20b.ply"
        assert "Signature" in await bucket.presign_get("results/a.ply", inside=True)
        assert "Signature" in await bucket.presign_put("uploads/a.mp4", "video/mp4")


SECRETS = [
    (lambda secret: NatsSettings(password=secret), "password", "NATS_PASSWORD"),
    (
        lambda secret: S3Settings(endpoint_url="http://x", access_key_id="a", secret_access_key=secret),
        *("secret", "S3_SECRET_ACCESS_KEY or B2_APP_KEY or AWS_SECRET_ACCESS_KEY"),
    ),
    (lambda secret: NotifierSettings(ticket_key=secret), "ticket_key", "NOTIFIER_TICKET_KEY"),
    (lambda secret: WebhookSettings(secret_key=secret), "secret_key", "NOTIFIER_SECRET_KEY"),
    (lambda secret: SessionSettings(ticket_key=secret), "ticket_key", "GATEWAY_TICKET_KEY or NOTIFIER_TICKET_KEY"),
]


@pytest.mark.parametrize(("settings", "field", "variable"), SECRETS)
def test_placeholders_of_the_example_are_refused(settings: Callable[[str], object], field: str, variable: str) -> None:
    """A user who copied deploy/example.env without changes gets the name of the setting."""
    example = (ROOT / "deploy/example.env").read_text()
    placeholders = {line.partition("=")[2] for line in example.splitlines() if re.match(r"\w+=change-me", line)}
    assert len(placeholders) == 2
    for placeholder in placeholders:
        with pytest.raises(ValidationError, match=r"placeholder of deploy/example\.env") as refused:
            settings(placeholder.ljust(16, "e") if field == "secret_key" else placeholder)
        assert placeholder not in str(refused.value.errors(include_input=False))
        assert invalid_settings(refused.value).partition(":")[0] == variable
    settings("a-long-and-random-value")


PUBLIC = {"SACCADE_ALLOWED_HOSTS": "localhost,saccade.example.org", "S3_PUBLIC_ENDPOINT_URL": "https://s3.example.org"}
PUBLIC |= {"SACCADE_PUBLIC_URL": "https://saccade.example.org"}
LOCAL = {"SACCADE_ALLOWED_HOSTS": "localhost, [::1]", "S3_PUBLIC_ENDPOINT_URL": "http://127.0.0.1:9000"}
LOCAL |= {"SACCADE_PUBLIC_URL": "http://localhost:8080"}


@pytest.mark.parametrize(("settings", "field", "variable"), SECRETS)
def test_secrets_for_development_are_refused_where_others_reach_the_server(
    settings: Callable[[str], object], field: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody knows them: they are in docker-compose.yml. The API key for development is refused in the same way."""
    compose = (ROOT / "docker-compose.yml").read_text()
    published = {found for found in re.findall(r":-(development-only[a-z-]*)", compose) if len(found) >= 16}
    assert len(published) == 3
    for name, value in LOCAL.items():
        monkeypatch.setenv(name, value)
    for secret in published:
        settings(secret)
    for name, value in PUBLIC.items():
        monkeypatch.setenv(name, value)
        for secret in published:
            with pytest.raises(ValidationError, match=f"public value for development, and {name} names") as refused:
                settings(secret)
            assert invalid_settings(refused.value).partition(":")[0] == variable
            assert secret not in str(refused.value.errors(include_input=False)), field
        monkeypatch.setenv(name, LOCAL[name])
    # With API keys and no list every host name is served; an embedded system has neither.
    monkeypatch.setenv("SACCADE_ALLOWED_HOSTS", "")
    for secret in published:
        settings(secret)
    monkeypatch.setenv("SACCADE_API_KEYS_FILE", "keys.json")
    for secret in published:
        with pytest.raises(ValidationError, match="without SACCADE_ALLOWED_HOSTS every host name is served"):
            settings(secret)


def keys_of(folder: Path, secret: str) -> Path:
    file = folder / "keys.json"
    entry = {"id": "mine", "sha256": hashlib.sha256(secret.encode()).hexdigest(), "tenant": "local"}
    file.write_text(json.dumps([entry]))
    return file


def test_the_example_key_is_only_accepted_on_this_machine(tmp_path: Path) -> None:
    development = ROOT / "deploy/development_keys.json"
    headers = {"authorization": "Bearer development.development-only"}
    settings = AuthSettings(api_keys_file=development, allowed_hosts="localhost, 127.0.0.1")
    assert Authenticator(settings).authenticate(headers).tenant == "local"
    with pytest.raises(ValidationError, match="is empty, so every host is served"):
        AuthSettings(api_keys_file=development)
    with pytest.raises(ValidationError, match="saccade key"):
        AuthSettings(api_keys_file=development, allowed_hosts="localhost, saccade.example.org")
    # Under another name it is the same, and as a change of the file it is not taken over.
    with pytest.raises(ValidationError, match="'mine'"):
        AuthSettings(api_keys_file=keys_of(tmp_path, "development-only"), allowed_hosts="saccade.example.org")
    file = keys_of(tmp_path, "a secret of our own")
    authenticator = Authenticator(AuthSettings(api_keys_file=file, allowed_hosts="saccade.example.org"))
    own = {"authorization": "Bearer mine.a secret of our own"}
    assert authenticator.authenticate(own).key_id == "mine"
    keys_of(tmp_path, "development-only")
    with pytest.raises(SaccadeError):
        authenticator.authenticate({"authorization": "Bearer mine.development-only"})
    assert authenticator.authenticate(own).key_id == "mine"
