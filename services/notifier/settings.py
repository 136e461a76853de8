"""Settings of the notifier; those of the bus and of API keys are in ``kit``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.limits import KIB, MIB, SSE_HEARTBEAT_S
from kit.network.address_guard import AddressGuard
from kit.settings import ChosenSecret, S3Settings, WebhookAddressSettings

#: Send buffer of a stream in the kernel: a larger one would hold minutes of stale progress before any is conflated.
SEND_BUFFER_BYTES: Final = 64 * KIB


class NotifierSettings(BaseSettings):
    """HTTP address and limits of event streams."""

    model_config = SettingsConfigDict(env_prefix="NOTIFIER_", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8082, ge=1, le=65535)
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
