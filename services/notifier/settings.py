"""The notifier's own settings; those of bus and API keys stand in kit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from contracts.limits import KIB, MIB, SSE_HEARTBEAT_S
from kit.settings import ChosenSecret
from services.notifier.webhooks.sending.address_guard import AddressGuard

#: The kernel's send buffer of a stream: a larger one takes in minutes of stale progress before anything conflates.
SEND_BUFFER_BYTES: Final = 64 * KIB


class NotifierSettings(BaseSettings):
    """How the notifier listens and what it gives a stream."""

    model_config = SettingsConfigDict(env_prefix="NOTIFIER_", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8082, ge=1, le=65535)
    heartbeat_s: float = Field(default=SSE_HEARTBEAT_S, gt=0, le=60)
    #: A stream is closed after about this long (±20 %), so that streams spread over servers; clients resume.
    rotate_s: float = Field(default=3600.0, gt=0)
    #: Open streams of the whole process; more are told to come again later.
    max_streams: int = Field(default=20_000, ge=1)
    #: Events kept in memory for those who join or come back.
    ring_events: int = Field(default=4096, ge=1)
    ring_bytes: int = Field(default=16 * MIB, ge=1)
    #: Durable events that may wait for one slow client before its stream is closed.
    backlog_events: int = Field(default=1000, ge=1)
    backlog_bytes: int = Field(default=4 * MIB, ge=1)
    #: A write that takes longer than this closes the stream.
    blocked_s: float = Field(default=5.0, gt=0)
    #: Open streams are closed over this long at the end, so that their clients do not all come back at once.
    drain_s: float = Field(default=0.5, ge=0, le=1)
    #: Signs tickets, the same in every process. Without it tickets end with the process that issued them.
    ticket_key: ChosenSecret | None = None
    log_level: str = "INFO"


class WebhookSettings(BaseSettings):
    """Where webhooks may go and what they are sealed and signed with."""

    model_config = SettingsConfigDict(env_prefix="NOTIFIER_", frozen=True)

    #: Seals endpoints' secrets and derives the public signing key, the same in every process. Without it there are no
    #: webhooks.
    secret_key: ChosenSecret | None = Field(default=None, min_length=16)
    #: Where the view of deliveries is kept; in memory without it.
    data_dir: Path | None = None
    #: False only where everything stays on one machine.
    webhook_https_only: bool = True
    #: Networks that webhooks may go to although they are not public, as CIDR, separated by commas.
    webhook_allowed_networks: Annotated[tuple[str, ...], NoDecode] = ()

    @field_validator("webhook_allowed_networks", mode="before")
    @classmethod
    def _separated(cls, value: object) -> object:
        return [one.strip() for one in value.split(",") if one.strip()] if isinstance(value, str) else value

    @field_validator("webhook_allowed_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        AddressGuard.allowing(value)
        return value
