"""Settings of the gateway: address, view, workers, live sessions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from contracts.errors import SaccadeError
from contracts.gpu_ladder import Environment, gpu_name
from contracts.limits import MIB, SCRATCH_RETENTION_H, UPLOAD_BYTES, UPLOAD_EXPIRES_S, WAIT_S
from contracts.tenant_retention import MAX_RETENTION_H, RetentionHours
from kit.auth.api_keys import comma_separated
from kit.auth.bus_token import checked_key
from kit.network.address_guard import AddressGuard
from kit.network.download import DownloadLimits
from kit.network.urls import parse_url
from kit.settings import ChosenSecret
from modal_workers.backends import DEFAULT_INSTALL_HINT


class GatewaySettings(BaseSettings):
    """Settings of the gateway itself; those of bus, bucket and API keys are in the kit."""

    #: An empty variable, which compose files create for unset ones, counts as unset.
    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True, populate_by_name=True, env_ignore_empty=True)

    #: Its own address, behind the origin.
    host: str = "127.0.0.1"
    port: int = Field(default=8081, ge=0, le=65535)
    #: Folder of the view, which can be deleted at any time.
    data_dir: Path = Path(".saccade/gateway")
    #: Modules and programs of the workers besides those that the dispatcher reports, comma-separated; on Modal, the
    #: optional packages that were added to an image.
    backends: Annotated[frozenset[str], NoDecode] = frozenset()
    #: What an operator does about a workload whose packages are missing; ``{extra}`` is its extra of pyproject.toml.
    install_hint: str = DEFAULT_INSTALL_HINT
    #: Where the dispatcher runs workers, and the first rung of its GPU ladders: cost estimates depend on both.
    executor: Literal["local", "modal"] = "local"
    environment: Environment = Field(default="development", validation_alias="ENVIRONMENT")
    #: Setting of the replaced system: workers run locally, whatever ``executor`` is.
    mock_modal: bool = Field(default=False, validation_alias="MOCK_MODAL")
    #: How workers on Modal reach the bus, as in DISPATCHER_WORKER_BUS; live sessions need NATS.
    worker_bus: Literal["nats", "ingest"] = "ingest"
    #: Time of the decoder process that opens an uploaded file, and its address space.
    probe_timeout_s: float = Field(default=30.0, gt=0)
    #: Address space of that process.
    probe_memory_bytes: int = Field(default=2048 * MIB, ge=256 * MIB)
    #: Uploads that are checked at the same time; each needs a decoder process and a stream from the bucket.
    checks_at_once: int = Field(default=2, ge=1)
    #: Public key of the account that signs the workers' tokens (``A…``); without it, no events of workers are accepted.
    worker_key: str | None = None
    #: Interval between two looks for uploads that expire and files that are kept no longer.
    housekeeping_s: float = Field(default=60.0, gt=0)
    #: Retention of scratch files after a job ends; the dispatcher has the same setting.
    scratch_hours: float = Field(default=SCRATCH_RETENTION_H, gt=0, validation_alias="MODAL_VOLUME_CLEANUP_HOURS")

    @property
    def effective_executor(self) -> Literal["local", "modal"]:
        """Return where workers run."""
        return "local" if self.mock_modal else self.executor

    @property
    def supports_sessions(self) -> bool:
        """Return whether workers can receive the telemetry of live sessions."""
        return self.effective_executor == "local" or self.worker_bus == "nats"

    @field_validator("worker_key")
    @classmethod
    def _is_a_key(cls, value: str | None) -> str | None:
        """Reject an invalid key at the start; with it, every worker would be rejected."""
        return None if not value else checked_key(value)

    @field_validator("backends", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Split a list such as ``torch, ultralytics``."""
        if isinstance(value, str):
            return frozenset(part.strip() for part in value.split(",") if part.strip())
        return value


class ViewSnapshotSettings(BaseSettings):
    """Snapshots of the view in the bucket of the archive (docs/scale.md)."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_SNAPSHOT_", frozen=True, env_ignore_empty=True)

    #: Events after which the next one is stored; 0: none is written or used.
    events: int = Field(default=200_000, ge=0)


class FileRetentionSettings(BaseSettings):
    """Retention of results and uploads of tenants of which the keys file says nothing (docs/retention.md)."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_RETENTION_", frozen=True, env_ignore_empty=True)

    #: Hours from the end of the job, and from the creation of the upload; None: for ever.
    results_h: float | None = Field(default=None, gt=0, le=MAX_RETENTION_H, allow_inf_nan=False)
    uploads_h: float | None = Field(default=None, gt=0, le=MAX_RETENTION_H, allow_inf_nan=False)

    @property
    def hours(self) -> RetentionHours:
        """Return the limits."""
        return RetentionHours(results=self.results_h, uploads=self.uploads_h)


class ConsoleSettings(BaseSettings):
    """Public path of the pages, and other sites' pages that may show a part of the console."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True, populate_by_name=True)

    #: Path at which a reverse proxy serves this server, where it is not the root: ``/some/prefix/``. The proxy removes
    #: it from the requests that it passes on; links and requests of every page begin with it.
    public_path: str = "/"
    #: Origins whose pages may show the page of webhooks in a frame: ``https://app.example.com``, comma-separated.
    embed_origins: Annotated[tuple[str, ...], NoDecode] = ()

    @field_validator("embed_origins", mode="before")
    @classmethod
    def _are_origins(cls, value: Any) -> Any:
        """Split ``a, b``; reject what is no origin, since it becomes part of a page's policy."""
        origins = tuple(part.strip().rstrip("/") for part in value.split(",")) if isinstance(value, str) else value
        origins = tuple(origin for origin in origins if origin)
        if not all(re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?", origin) for origin in origins):
            raise ValueError("GATEWAY_EMBED_ORIGINS is a list of origins such as https://app.example.com")
        return origins

    @field_validator("public_path")
    @classmethod
    def _is_a_path(cls, value: str) -> str:
        """Add a missing slash at either end; reject what is no path, since it becomes part of a page."""
        path = f"/{value.strip('/')}/" if value.strip("/") else "/"
        if not re.fullmatch(r"[A-Za-z0-9._~/-]*", path) or ".." in path or "//" in path:
            raise ValueError("GATEWAY_PUBLIC_PATH is a path such as /some/prefix/: letters, digits, and . _ ~ - only")
        return path


class DiskSettings(BaseSettings):
    """Disk of bucket and bus, where it is this machine's."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True, env_ignore_empty=True)

    #: Folder on that disk: while it is full, uploads are refused.
    disk: Path | None = None


class UrlInputSettings(BaseSettings):
    """Inputs that the server fetches from URLs, and the limits on that; sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_URL_", frozen=True, env_ignore_empty=True)

    #: Addresses to fetch from: none, public ones, or also those of the server's own network. Public ones by default in
    #: embedded mode, else none: every holder of a key could use the server's traffic.
    inputs: Literal["off", "public", "any"] | None = None
    #: Networks that are not public and allowed too, as CIDR, separated by commas.
    allowed_networks: Annotated[tuple[str, ...], NoDecode] = ()
    max_bytes: int = Field(default=UPLOAD_BYTES, ge=1, le=UPLOAD_BYTES)
    connect_s: float = Field(default=10.0, gt=0)
    first_byte_s: float = Field(default=30.0, gt=0)
    #: Longest pause of a server, and period over which its mean rate must be ``min_bytes_per_s``.
    stall_s: float = Field(default=30.0, gt=0)
    min_bytes_per_s: float = Field(default=10_000.0, ge=0)
    #: Longest fetch of one file.
    total_s: float = Field(default=6 * 3600.0, gt=0, le=UPLOAD_EXPIRES_S)
    #: Time that a request for a job waits for its files; then it is answered, and they are fetched all the same.
    wait_s: float = Field(default=50.0, ge=0, le=WAIT_S)
    #: Files that are fetched at a time, in all and of one tenant, and files of one tenant that wait or are fetched.
    at_once: int = Field(default=8, ge=1)
    at_once_per_tenant: int = Field(default=2, ge=1)
    pending_per_tenant: int = Field(default=100, ge=1, le=1000)

    @field_validator("allowed_networks", mode="before")
    @classmethod
    def _separated(cls, value: object) -> object:
        return comma_separated(value) if isinstance(value, str) else value

    @field_validator("allowed_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        AddressGuard.allowing(value)
        return value

    def effective_inputs(self, *, embedded: bool) -> Literal["off", "public", "any"]:
        """Return the addresses to fetch from."""
        return self.inputs or ("public" if embedded else "off")

    @property
    def limits(self) -> DownloadLimits:
        """Return the limits of one download."""
        return DownloadLimits(
            max_bytes=self.max_bytes,
            connect_s=self.connect_s,
            first_byte_s=self.first_byte_s,
            stall_s=self.stall_s,
            min_bytes_per_s=self.min_bytes_per_s,
            total_s=self.total_s,
        )


class ReplacedCredential(BaseModel):
    """Credential of clients of a replaced system, and the API key that stands for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: A replaced system by the name of its base path; ``*`` for all.
    system: Literal["splat", "nerf", "badminton", "badminton-endpoint", "vision", "laps", "*"]
    #: The word that they send; without one, the key stands for those that send nothing.
    word: SecretStr | None = None
    #: Id of the key in the keys file.
    key: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")

    @property
    def secret_word(self) -> str:
        """The word; empty without one."""
        return self.word.get_secret_value() if self.word else ""


class ReplacedCredentialSettings(BaseSettings):
    """Credentials of clients of replaced systems, which know no API keys."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True, env_ignore_empty=True)

    #: JSON list of ``{"system", "word", "key"}``. Without an entry such a client is treated as any other: open without
    #: API keys, refused with them.
    replaced_credentials: Annotated[tuple[ReplacedCredential, ...], NoDecode] = ()

    @field_validator("replaced_credentials", mode="before")
    @classmethod
    def _parsed(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError('it is not a JSON list of {"system", "word", "key"}') from None

    @field_validator("replaced_credentials")
    @classmethod
    def _unambiguous(cls, value: tuple[ReplacedCredential, ...]) -> tuple[ReplacedCredential, ...]:
        if any(entry.word is not None and not entry.secret_word for entry in value):
            raise ValueError("a word is empty; leave it out for clients that send nothing")
        if len({(entry.system, entry.secret_word) for entry in value}) != len(value):
            raise ValueError("two entries of one system have the same word")
        return value


class CompatNerfSettings(BaseSettings):
    """Settings of the replaced product-photo service, under their old names."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, env_ignore_empty=True)

    #: Training iterations; by default, those of the preset.
    default_iterations: int | None = Field(default=None, ge=50, le=200_000, validation_alias="NERF_DEFAULT_ITERATIONS")
    #: First GPU of its jobs, by ``ENVIRONMENT``; the larger ones of a stage's ladder follow. By default the ladder.
    gpu_dev: str | None = Field(default=None, validation_alias="GPU_TYPE_DEV")
    gpu_prod: str | None = Field(default=None, validation_alias="GPU_TYPE_PROD")

    @field_validator("gpu_dev", "gpu_prod")
    @classmethod
    def _is_a_gpu(cls, value: str | None) -> str | None:
        """Reject an unknown GPU at the start; with it, every job would be rejected."""
        try:
            return None if value is None else gpu_name(value)
        except SaccadeError as error:
            raise ValueError(error.message) from error

    def gpu(self, environment: Environment) -> str | None:
        """Return the GPU to begin with; None for the first of each stage's ladder."""
        return self.gpu_prod if environment == "production" else self.gpu_dev


class CompatBadmintonSettings(BaseSettings):
    """Settings of the replaced badminton system, under their old names."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, env_ignore_empty=True)

    #: Convex site that is called back where a request names none.
    convex_site_url: str | None = Field(default=None, validation_alias="CONVEX_SITE_URL")

    @field_validator("convex_site_url")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        """Reject an invalid URL at the start; with it, requests would be rejected."""
        if value is not None:
            parse_url(value)
        return value


class CompatVisionSettings(BaseSettings):
    """Settings of the replaced vision system, under their old names."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, env_ignore_empty=True)

    #: Time between two chunks of a stream, seconds; 0: as fast as the model.
    chunk_s: float = Field(default=1.0, ge=0, le=60, allow_inf_nan=False, validation_alias="VISION_CHUNK_SECONDS")
    #: Frames of a connection that wait to be stored; the oldest are dropped.
    buffer_frames: int = Field(default=120, ge=1, le=10_000, validation_alias="VISION_MAX_BUFFER_FRAMES")
    #: What to say of each chunk; by default, the workload's own instruction.
    prompt: str | None = Field(default=None, min_length=1, max_length=2000, validation_alias="VISION_PROMPT")
    #: Whether inference runs on the Modal account whose token a caller sends, and at its cost; else it is ignored.
    caller_accounts: bool = Field(default=False, validation_alias="VISION_CALLER_MODAL_ACCOUNTS")
    #: Where messages to Poke go; by default, its old API for old keys (``pk_…``), its new one for all others.
    poke_url: str | None = Field(default=None, validation_alias="POKE_API_URL")

    @field_validator("poke_url")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        """Reject an invalid URL at the start; with it, no message would be sent."""
        if value is not None:
            parse_url(value)
        return value


class LiveSplatSettings(BaseSettings):
    """Parameters of live splats whose request does not set them."""

    model_config = SettingsConfigDict(env_prefix="LIVE_SPLAT_", frozen=True, env_ignore_empty=True)

    #: Frames without joint angles, those of a webcam for instance: rejected, or taken with all joints at zero.
    missing_joints: Literal["reject", "zeros"] = "reject"

    @property
    def session_defaults(self) -> dict[str, dict[str, Any]]:
        """Return the parameters by workload."""
        return {"live_splat": self.model_dump()}


class SessionSettings(BaseSettings):
    """Access of live sessions' clients beside HTTP: NATS, WebSockets, and tickets that the notifier issues."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True, populate_by_name=True, env_ignore_empty=True)

    #: URL of NATS for clients; without it they use HTTP and WebSocket only.
    client_nats_url: str | None = None
    #: NATS user that may publish telemetry only, for a server without account keys.
    client_nats_user: str | None = None
    client_nats_password: SecretStr | None = None
    #: Prefix of the inboxes to which that user may subscribe.
    client_nats_inbox_prefix: str | None = None
    #: File with the seed of the account's key or signing key, which signs the credentials of each session.
    session_seed_file: Path | None = None
    #: The account's public key, if the seed is that of a signing key.
    session_account: str | None = None
    #: Key that verifies tickets for WebSockets: the same as the notifier's, which issues them.
    ticket_key: ChosenSecret | None = Field(
        default=None, validation_alias=AliasChoices("GATEWAY_TICKET_KEY", "NOTIFIER_TICKET_KEY")
    )
    #: Open WebSockets of sessions and badminton pages of one tenant, in one gateway: each has a backlog of events.
    session_sockets_per_tenant: int = Field(default=200, ge=1)

    def seed(self) -> SecretStr | None:
        """Return the seed; None if no file is configured.

        Raises:
            OSError: the file cannot be read.
        """
        return SecretStr(self.session_seed_file.read_text().strip()) if self.session_seed_file else None
