"""Where the gateway listens, where its view lies, and what the workers behind it can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from contracts.errors import SaccadeError
from contracts.gpu_ladder import Environment, gpu_name
from contracts.limits import MIB, SCRATCH_RETENTION_H
from kit.auth.bus_token import checked_key
from kit.settings import ChosenSecret


class GatewaySettings(BaseSettings):
    """The gateway's own settings; bus, bucket and API keys have theirs in the kit."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True, populate_by_name=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8081, ge=0, le=65535)
    #: Holds the view, which can be deleted at any time.
    data_dir: Path = Path(".saccade/gateway")
    #: Optional packages that the workers have, comma-separated: what ``Backend.package`` names.
    backends: Annotated[frozenset[str], NoDecode] = frozenset()
    #: Where the dispatcher runs workers, and where its ladders begin: what estimates are made for.
    executor: Literal["local", "modal"] = "local"
    environment: Environment = Field(default="development", validation_alias="ENVIRONMENT")
    #: The replaced system's name for running workers here, whatever ``executor`` says.
    mock_modal: bool = Field(default=False, validation_alias="MOCK_MODAL")
    #: How workers on Modal reach the bus, as DISPATCHER_WORKER_BUS says; live sessions need NATS.
    worker_bus: Literal["nats", "ingest"] = "ingest"
    #: A decoder that opens a stranger's file has this much time and address space.
    probe_timeout_s: float = Field(default=30.0, gt=0)
    probe_memory_bytes: int = Field(default=2048 * MIB, ge=256 * MIB)
    #: Uploads whose bytes are checked at the same time; each takes a decoder process and a stream from the bucket.
    checks_at_once: int = Field(default=2, ge=1)
    #: Public key of the account that signs the workers' tokens (``A…``); without it no worker's events are taken.
    worker_key: str | None = None
    housekeeping_s: float = Field(default=60.0, gt=0)
    #: For how long the dispatcher keeps what a job only needs to go on from, as it was told too.
    scratch_hours: float = Field(default=SCRATCH_RETENTION_H, gt=0, validation_alias="MODAL_VOLUME_CLEANUP_HOURS")

    @property
    def where(self) -> Literal["local", "modal"]:
        """Tell where workers run."""
        return "local" if self.mock_modal else self.executor

    @property
    def takes_sessions(self) -> bool:
        """Tell whether workers can hear what is sent into live sessions."""
        return self.where == "local" or self.worker_bus == "nats"

    @field_validator("worker_key")
    @classmethod
    def _is_a_key(cls, value: str | None) -> str | None:
        """Refuse at the start what would refuse every worker later."""
        return None if not value else checked_key(value)

    @field_validator("backends", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Read ``torch, ultralytics``."""
        if isinstance(value, str):
            return frozenset(part.strip() for part in value.split(",") if part.strip())
        return value


class CompatNerfSettings(BaseSettings):
    """What the operator of the replaced product-photo service set, by the names that it had there."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, env_ignore_empty=True)

    #: Training iterations; left out, the preset's.
    default_iterations: int | None = Field(default=None, ge=50, le=200_000, validation_alias="NERF_DEFAULT_ITERATIONS")
    #: The GPU of its jobs, by ``ENVIRONMENT``; left out, the stages' ladders are climbed.
    gpu_dev: str | None = Field(default=None, validation_alias="GPU_TYPE_DEV")
    gpu_prod: str | None = Field(default=None, validation_alias="GPU_TYPE_PROD")

    @field_validator("gpu_dev", "gpu_prod")
    @classmethod
    def _is_a_gpu(cls, value: str | None) -> str | None:
        """Refuse at the start what would refuse every job later."""
        try:
            return None if value is None else gpu_name(value)
        except SaccadeError as error:
            raise ValueError(error.message) from error

    def gpu(self, environment: Environment) -> str | None:
        """Name the GPU to ask for; None leaves it to the ladder."""
        return self.gpu_prod if environment == "production" else self.gpu_dev


class SessionSettings(BaseSettings):
    """How clients of live sessions come in beside HTTP: by NATS, and by tickets that the notifier makes."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True, populate_by_name=True, env_ignore_empty=True)

    #: Where clients reach NATS; without it they send by HTTP and WebSocket only.
    client_nats_url: str | None = None
    #: A user who may send telemetry and nothing else, on a server without accounts' keys.
    client_nats_user: str | None = None
    client_nats_password: SecretStr | None = None
    #: Where that user may hear answers.
    client_nats_inbox_prefix: str | None = None
    #: File with the seed of the account's (signing) key that signs the credentials of one session each.
    session_seed_file: Path | None = None
    #: The account's public key, when the seed is that of one of its signing keys.
    session_account: str | None = None
    #: Checks tickets for WebSockets: the same key as the notifier's, which makes them.
    ticket_key: ChosenSecret | None = Field(
        default=None, validation_alias=AliasChoices("GATEWAY_TICKET_KEY", "NOTIFIER_TICKET_KEY")
    )

    def seed(self) -> SecretStr | None:
        """Read the seed; None where no file is named.

        Raises:
            OSError: the file cannot be read.
        """
        return SecretStr(self.session_seed_file.read_text().strip()) if self.session_seed_file else None
