"""Settings of the dispatcher: health endpoint, concurrency limits, timeouts, retention, Modal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.budget import BudgetLimits
from contracts.gpu_ladder import Environment
from contracts.limits import MIB, SCRATCH_RETENTION_H, WORKER_SILENT_S
from modal_workers.settings import DeploymentSettings


class QueueSettings(BaseSettings):
    """Settings of the queues for slots and for devices, read from ``DISPATCHER_*`` too."""

    model_config = SettingsConfigDict(env_prefix="DISPATCHER_", frozen=True, env_ignore_empty=True)

    #: Maximum number of concurrent workers of live sessions, which take none of ``slots``; by default as many.
    session_slots: int | None = Field(default=None, ge=1)
    #: Seconds without a worker after which ``job.waiting_for_gpu`` is published, and after which the next rung of the
    #: ladder is tried, if there is one.
    gpu_notice_s: float = Field(default=15.0, gt=0)
    gpu_climb_s: float = Field(default=120.0, gt=0)
    #: Delay after a launch that the executor rejected for lack of capacity.
    throttled_s: float = Field(default=20.0, ge=0)


class BudgetSettings(BaseSettings):
    """Limits of every tenant, read from ``DISPATCHER_BUDGET_*``: no tenant can raise its own budget above them."""

    model_config = SettingsConfigDict(env_prefix="DISPATCHER_BUDGET_", frozen=True, env_ignore_empty=True)

    #: Most that a tenant's workers may cost in a day and in a month (UTC), USD; None for no limit.
    daily_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    monthly_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    #: Share of a limit at which a tenant without a budget of its own is warned.
    warn_share: float = Field(default=0.8, gt=0, le=1)

    @property
    def limits(self) -> BudgetLimits:
        """Return the limits."""
        return BudgetLimits(self.daily_usd, self.monthly_usd, self.warn_share)


class DispatcherSettings(BaseSettings):
    """Settings read from ``DISPATCHER_*``."""

    model_config = SettingsConfigDict(env_prefix="DISPATCHER_", frozen=True, env_ignore_empty=True)

    #: Address of health and metrics; the dispatcher serves nothing else.
    host: str = "127.0.0.1"
    port: int = Field(default=8083, ge=1, le=65535)
    #: Where workers run: child processes on this machine, or Modal.
    executor: Literal["local", "modal"] = "local"
    #: Name of the replaced system: run workers on this machine, regardless of ``executor``.
    mock_modal: bool = Field(default=False, validation_alias="MOCK_MODAL")
    #: Run folders of local workers.
    data_dir: Path = Path("data/dispatcher")
    #: Maximum number of concurrent workers: in total, per tenant, per workload.
    slots: int = Field(default=2, ge=1)
    tenant_concurrency: int = Field(default=2, ge=1)
    workload_concurrency: int = Field(default=2, ge=1)
    #: Lifetime of the lease: a standby takes over this long after the leader died. JetStream counts whole seconds.
    lease_s: float = Field(default=3.0, ge=1.0)
    #: Interval between polls of a running call.
    poll_s: float = Field(default=0.25, gt=0)
    #: Time to search for a call whose launch was intended but not recorded, before it counts as not started.
    find_s: float = Field(default=5.0, gt=0)
    #: Time without a heartbeat after which a worker counts as lost.
    silent_s: float = Field(default=WORKER_SILENT_S, gt=0)
    #: Delay before the second attempt; it doubles with each further attempt up to the maximum.
    backoff_s: float = Field(default=1.0, ge=0)
    backoff_max_s: float = Field(default=60.0, ge=0)
    queue: QueueSettings = Field(default_factory=QueueSettings)

    @property
    def runs_on_modal(self) -> bool:
        """Return whether workers run on Modal."""
        return self.executor == "modal" and not self.mock_modal


#: Settings that decide about jobs; the others say where things are.
DECIDING: Final = (
    "executor", "slots", "tenant_concurrency", "workload_concurrency", "lease_s", "poll_s", "find_s", "silent_s",
    "backoff_s", "backoff_max_s",
)  # fmt: skip


def deciding_settings(dispatcher: DispatcherSettings, budget: BudgetSettings, environment: str) -> dict[str, Any]:
    """Return the settings that decide about jobs, by the names that a replay uses (services/whatif)."""
    dumped = dispatcher.model_dump(mode="json")
    own = {name: dumped[name] for name in DECIDING} | {"executor": "modal" if dispatcher.runs_on_modal else "local"}
    limits = {f"budget.{name}": value for name, value in budget.model_dump(mode="json").items()}
    return {**own, **dumped["queue"], **limits, "environment": environment}


class RetentionSettings(BaseSettings):
    """Retention of scratch files (checkpoints, intermediate files) after a job ends."""

    model_config = SettingsConfigDict(
        env_prefix="DISPATCHER_", frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    #: Default in hours, for jobs whose parameters and user set nothing else. The variable is the replaced system's.
    scratch_hours: float = Field(default=SCRATCH_RETENTION_H, gt=0, validation_alias="MODAL_VOLUME_CLEANUP_HOURS")
    #: Interval between sweeps of the bucket.
    sweep_s: float = Field(default=600.0, gt=0)
    #: Age from which bytes are removed that belong to no known upload: long enough to notice that the events of a
    #: restored backup are older than the bucket.
    orphan_hours: float = Field(default=168.0, gt=0)


class ArchiveWriterSettings(BaseSettings):
    """Size and duration of a segment of the archive of events (docs/archive.md), read from ``ARCHIVE_*`` too."""

    model_config = SettingsConfigDict(env_prefix="ARCHIVE_", frozen=True, env_ignore_empty=True)

    #: Size of its lines before compression; and seconds between its first event and the first of the next one.
    segment_bytes: int = Field(default=64 * MIB, ge=1)
    segment_s: float = Field(default=3600.0, gt=0)
    #: Interval between two looks at the stream.
    poll_s: float = Field(default=30.0, gt=0)


class StreamSettings(BaseSettings):
    """Size of the archived history that stays in the stream EVENTS too (docs/archive.md), read from ``EVENTS_*``."""

    model_config = SettingsConfigDict(
        env_prefix="EVENTS_KEEP_", frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    #: Events beyond which the oldest archived ones are deleted: nats-server takes up to 550 bytes of memory for each.
    #: 0: only age and size delete any.
    keep_events: int = Field(default=1_500_000, ge=0, validation_alias="EVENTS_KEEP_MESSAGES")
    #: Hours for which every event stays, however many there are: uploads are completed, and jobs retried, meanwhile.
    keep_hours: float = Field(default=72.0, ge=0, validation_alias="EVENTS_KEEP_HOURS")


class SnapshotSettings(BaseSettings):
    """Snapshots of what the dispatcher has folded (docs/scale.md), read from ``DISPATCHER_SNAPSHOT_*``."""

    model_config = SettingsConfigDict(env_prefix="DISPATCHER_SNAPSHOT_", frozen=True, env_ignore_empty=True)

    #: Events after which the leader writes a snapshot; a start folds at most these and those of a few seconds.
    #: 0: none is written or read, and a start folds the whole history.
    events: int = Field(default=20_000, ge=0)


class ModalSettings(BaseSettings):
    """Settings of the Modal executor, except the API token, which Modal's own client reads."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, env_ignore_empty=True)

    #: Selects the smallest GPU of a ladder (contracts/gpu_ladder.py): T4 in ``development``, A10 in ``production``.
    environment: Environment = Field(default="development", validation_alias="ENVIRONMENT")
    #: Environment of the Modal workspace that the workers were deployed to; empty for the workspace's default.
    modal_environment: str = Field(default="", validation_alias="MODAL_ENVIRONMENT")
    #: Transport of a worker's events: NATS, or the gateway's ingest routes.
    worker_bus: Literal["nats", "ingest"] = Field(default="ingest", validation_alias="DISPATCHER_WORKER_BUS")
    #: URL as Modal's machines reach it: ``tls://`` or ``wss://`` of NATS, ``https://`` of the gateway.
    worker_bus_url: str = Field(default="", validation_alias="DISPATCHER_WORKER_BUS_URL")
    #: File with the seed of the NATS account key, or of its signing key, that signs the workers' tokens.
    worker_seed_file: Path | None = Field(default=None, validation_alias="DISPATCHER_WORKER_SEED_FILE")
    #: Public key of the account, if the seed belongs to a signing key.
    worker_account: str | None = Field(default=None, validation_alias="DISPATCHER_WORKER_ACCOUNT")
    #: Time for which Modal's answer about a call is cached, unless an urgent poll asks for a new one.
    poll_s: float = Field(default=30.0, ge=0, validation_alias="DISPATCHER_MODAL_POLL_S")
    #: Longest time that a call may wait for its device; a worker's token must outlive it.
    queue_s: float = Field(default=6 * 3600.0, gt=0, validation_alias="DISPATCHER_MODAL_QUEUE_S")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.worker_bus_url or self.worker_seed_file is None:
            raise ValueError(
                "the Modal executor needs DISPATCHER_WORKER_BUS_URL and DISPATCHER_WORKER_SEED_FILE (docs/modal.md)"
            )
        return self

    def seed(self) -> SecretStr:
        """Read the signing seed from its file.

        Raises:
            OSError: the file cannot be read.
        """
        assert self.worker_seed_file
        return SecretStr(self.worker_seed_file.read_text().strip())


def lease_details(
    settings: DispatcherSettings, budget: BudgetSettings, backends: Sequence[str] | None
) -> dict[str, Any]:  # fmt: skip
    """Return what the lease tells the gateway, and a replay that asks what other settings would have done."""
    deciding = deciding_settings(settings, budget, DeploymentSettings().environment)
    details: dict[str, Any] = {"budget": budget.model_dump(mode="json"), "settings": deciding}
    return details if backends is None else {**details, "backends": list(backends)}
