"""Settings of the notifier: those of the bucket and of the mail server are optional, but not half of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from kit.settings import invalid_settings
from services.notifier.settings import SmtpSettings, bucket_settings

GIVEN = {
    "S3_ENDPOINT_URL": "http://127.0.0.1:9000",
    "S3_ACCESS_KEY_ID": "id",
    "S3_SECRET_ACCESS_KEY": "secret",
}


@pytest.fixture(autouse=True)
def _no_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"S3_{name}", raising=False)


def test_a_notifier_without_a_bucket_starts_and_one_with_half_its_settings_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert bucket_settings() is None
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "")  # as compose files set what is missing
    assert bucket_settings() is None
    for name in list(GIVEN)[:2]:
        monkeypatch.setenv(name, GIVEN[name])
        with pytest.raises(ValidationError):
            bucket_settings()
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", GIVEN["S3_SECRET_ACCESS_KEY"])
    found = bucket_settings()
    assert found
    assert found.endpoint_url == GIVEN["S3_ENDPOINT_URL"]


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Callable[..., SmtpSettings]:
    def read(**variables: str) -> SmtpSettings:
        for name, value in variables.items():
            monkeypatch.setenv(f"NOTIFIER_SMTP_{name}", value)
        return SmtpSettings()

    return read


def test_without_a_host_there_is_no_mail_server(mail: Callable[..., SmtpSettings]) -> None:
    assert mail().server is None
    assert mail(HOST="", PORT="", TLS="", USER="", PASSWORD="", FROM="", RECIPIENT_DOMAINS="").server is None


@pytest.mark.parametrize(("tls", "port"), [("starttls", 587), ("implicit", 465)])
def test_a_mail_server_is_read_with_the_port_of_its_tls(mail: Callable[..., SmtpSettings], tls: str, port: int) -> None:
    server = mail(
        HOST="smtp.example.com",
        TLS=tls,
        FROM="a@example.com",
        USER="u",
        PASSWORD="p4ssw0rd",
        RECIPIENT_DOMAINS="A.com,b.com",
    ).server
    assert server
    assert (server.host, server.port, server.tls, server.user) == ("smtp.example.com", port, tls, "u")
    assert server.recipients.domains == {"a.com", "b.com"}
    assert "p4ssw0rd" not in repr(server)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"FROM": ""}, "NOTIFIER_SMTP_FROM must be an address like alerts@example.com"),
        ({"FROM": "Saccade <a@example.com>"}, "NOTIFIER_SMTP_FROM must be an address like alerts@example.com"),
        ({"USER": "u"}, "NOTIFIER_SMTP_USER and NOTIFIER_SMTP_PASSWORD belong together"),
        ({"TLS": "none"}, "NOTIFIER_SMTP_TLS=none is for a mail server on this machine only: use starttls or implicit"),
        ({"TLS": "ssl"}, "NOTIFIER_SMTP_TLS: Input should be 'implicit', 'starttls' or 'none'"),
    ],
)
def test_a_mail_server_that_cannot_be_used_ends_the_start(
    mail: Callable[..., SmtpSettings], variables: dict[str, str], message: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        mail(**{"HOST": "smtp.example.com", "FROM": "a@example.com"} | variables)
    assert invalid_settings(raised.value) == message
