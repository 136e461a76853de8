"""Settings of the notifier; those of the bus and of API keys are in ``kit``."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from contracts.limits import KIB, MIB, SSE_HEARTBEAT_S
from contracts.sandbox import WRITER_INBOX
from kit.auth.api_keys import comma_separated
from kit.network.address_guard import AddressGuard
from kit.settings import ChosenSecret, NatsSettings, S3Settings, WebhookAddressSettings
from services.notifier.webhooks.endpoints.email_addresses import EmailRecipients, is_address
from services.notifier.webhooks.sending.smtp_sender import MailServer

#: Send buffer of a stream in the kernel: a larger one would hold minutes of stale progress before any is conflated.
SEND_BUFFER_BYTES: Final = 64 * KIB


class NotifierSettings(BaseSettings):
    """HTTP address and limits of event streams."""

    model_config = SettingsConfigDict(env_prefix="NOTIFIER_", frozen=True)

    #: Its own address, behind the origin.
    host: str = "127.0.0.1"
    port: int = Field(default=8082, ge=1, le=65535)
    #: Interval between the comments that keep an idle stream open.
    heartbeat_s: float = Field(default=SSE_HEARTBEAT_S, gt=0, le=60)
    #: A stream is closed after about this long (±20 %), so that streams spread over servers; clients resume.
    rotate_s: float = Field(default=3600.0, gt=0)
    #: Maximum open streams of the process; further clients are asked to retry later.
    max_streams: int = Field(default=20_000, ge=1)
    #: Events kept in memory for streams that start or resume.
    ring_events: int = Field(default=4096, ge=1)
    ring_bytes: int = Field(default=16 * MIB, ge=1)
    #: Maximum durable events queued for one slow client before its stream is closed.
    backlog_events: int = Field(default=1000, ge=1)
    backlog_bytes: int = Field(default=4 * MIB, ge=1)
    #: A write that takes longer than this closes the stream.
    blocked_s: float = Field(default=5.0, gt=0)
    #: At shutdown open streams are closed over this time, so that their clients do not all reconnect at once.
    drain_s: float = Field(default=0.5, ge=0, le=1)
    #: Signs tickets, the same in every process. Without it tickets are only valid in the process that issued them.
    ticket_key: ChosenSecret | None = None
    log_level: str = "INFO"


class WebhookSettings(WebhookAddressSettings):
    """Allowed destinations of webhooks, and the secret for their encryption."""

    #: Encrypts endpoints' secrets and private keys, the same in every process. Without it webhooks are disabled.
    secret_key: ChosenSecret | None = Field(default=None, min_length=16)
    #: Folder of the deliveries' projection; in memory without it.
    data_dir: Path | None = None

    @field_validator("webhook_allowed_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        AddressGuard.allowing(value or ())
        return value


class SandboxNatsSettings(BaseSettings):
    """User of NATS that stores replayed events in sandboxes, and may do nothing else (contracts/sandbox.py)."""

    model_config = SettingsConfigDict(env_prefix="NOTIFIER_SANDBOX_NATS_", frozen=True, env_ignore_empty=True)

    user: str | None = None
    password: ChosenSecret | None = None
    credentials_file: str | None = None

    def connection(self, nats: NatsSettings) -> NatsSettings | None:
        """Return how to connect as this user to the server of ``nats``; None where that server has users but not this.

        A server without users has none of this kind either.
        """
        has_users = nats.user or nats.credentials_file or nats.credentials
        if has_users and not (self.user or self.credentials_file):
            return None
        return nats.model_copy(
            update={
                "user": self.user,
                "password": self.password,
                "credentials_file": self.credentials_file,
                "credentials": None,
                "inbox_prefix": WRITER_INBOX,
            }
        )


class SmtpSettings(BaseSettings):
    """Mail server that sends the e-mails of endpoints; without a host there are none."""

    #: An empty variable, which compose files create for unset ones, counts as unset.
    model_config = SettingsConfigDict(
        env_prefix="NOTIFIER_SMTP_", frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    host: str = ""
    #: By default that of the kind of TLS.
    port: int | None = Field(default=None, ge=1, le=65535)
    #: ``implicit`` from the first byte, or after ``starttls``; ``none`` on this machine only.
    tls: Literal["implicit", "starttls", "none"] = "starttls"
    user: str | None = None
    password: ChosenSecret | None = None
    #: Address that the e-mails come from.
    sender: str = Field(default="", validation_alias="NOTIFIER_SMTP_FROM")
    #: Domains that endpoints may send e-mail to, separated by commas; all, if it is not set.
    recipient_domains: Annotated[tuple[str, ...] | None, NoDecode] = None

    @field_validator("recipient_domains", mode="before")
    @classmethod
    def _separated(cls, value: object) -> object:
        return comma_separated(value.lower()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _usable(self) -> Self:
        """Refuse a mail server that cannot be used, or that would get a password without encryption."""
        if not self.host:
            return self
        if not is_address(self.sender):
            raise ValueError("NOTIFIER_SMTP_FROM must be an address like alerts@example.com")
        if (self.user is None) != (self.password is None):
            raise ValueError("NOTIFIER_SMTP_USER and NOTIFIER_SMTP_PASSWORD belong together")
        if self.tls == "none" and not _is_loopback(self.host):
            raise ValueError(
                "NOTIFIER_SMTP_TLS=none is for a mail server on this machine only: use starttls or implicit"
            )
        return self

    @property
    def server(self) -> MailServer | None:
        """Mail server; None where none is set."""
        if not self.host:
            return None
        domains = self.recipient_domains
        return MailServer(
            host=self.host,
            port=self.port or {"implicit": 465, "starttls": 587, "none": 25}[self.tls],
            tls=self.tls,
            sender=self.sender,
            recipients=EmailRecipients(None if domains is None else frozenset(domains)),
            user=self.user,
            password=self.password,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bucket_settings() -> S3Settings | None:
    """Return the settings of the bucket; None where none are given, because only callbacks of results need them.

    Raises:
        ValidationError: they are incomplete or invalid.
    """
    try:
        return S3Settings()
    except ValidationError as error:
        required = sum(field.is_required() for field in S3Settings.model_fields.values())
        if error.error_count() == required and all(fault["type"] == "missing" for fault in error.errors()):
            return None
        raise
