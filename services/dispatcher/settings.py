"""What the operator may set: where health is served, how many workers run at once, how long to wait for what."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.gpu_ladder import Environment
from contracts.limits import SCRATCH_RETENTION_H, WORKER_SILENT_S


class QueueSettings(BaseSettings):
    """How long to wait where calls queue for their device, read from ``DISPATCHER_*`` too."""

    model_config = SettingsConfigDict(env_prefix="DISPATCHER_", frozen=True)

    #: A GPU that is not to be had is told after this; with a rung above, that one is tried after so long.
    gpu_notice_s: float = Field(default=15.0, gt=0)
    gpu_climb_s: float = Field(default=120.0, gt=0)
    #: Delay after a launch for which the executor had no room.
    throttled_s: float = Field(default=20.0, ge=0)


class DispatcherSettings(BaseSettings):
    """Read from ``DISPATCHER_*``."""

    model_config = SettingsConfigDict(env_prefix="DISPATCHER_", frozen=True)

    #: Health and metrics only; nobody else calls the dispatcher.
    host: str = "127.0.0.1"
    port: int = Field(default=8083, ge=1, le=65535)
    #: Where workers run: child processes on this machine, or Modal.
    executor: Literal["local", "modal"] = "local"
    #: The replaced system's name for running workers here, whatever ``executor`` says.
    mock_modal: bool = Field(default=False, validation_alias="MOCK_MODAL")
    #: Run folders of local workers.
    data_dir: Path = Path("data/dispatcher")
    #: Workers at once: in all, of one tenant, of one workload.
    slots: int = Field(default=2, ge=1)
    tenant_concurrency: int = Field(default=2, ge=1)
    workload_concurrency: int = Field(default=2, ge=1)
    #: A dispatcher that died keeps its standby waiting this long. JetStream counts lifetimes in whole seconds.
    lease_s: float = Field(default=3.0, ge=1.0)
    #: How often a running call is looked at.
    poll_s: float = Field(default=0.25, gt=0)
    #: A launch that was intended but not noted is looked for this long before it counts as not started.
    find_s: float = Field(default=5.0, gt=0)
    #: A worker that says nothing for this long is taken for dead.
    silent_s: float = Field(default=WORKER_SILENT_S, gt=0)
    #: Delay before the second attempt; it doubles with each further one up to the largest.
    backoff_s: float = Field(default=1.0, ge=0)
    backoff_max_s: float = Field(default=60.0, ge=0)
    queue: QueueSettings = Field(default_factory=QueueSettings)


class RetentionSettings(BaseSettings):
    """How long what a job only keeps to go on from stays after its end."""

    model_config = SettingsConfigDict(env_prefix="DISPATCHER_", frozen=True, populate_by_name=True)

    #: Hours, where neither the job's parameters nor its user say otherwise; the replaced system's name.
    scratch_hours: float = Field(default=SCRATCH_RETENTION_H, gt=0, validation_alias="MODAL_VOLUME_CLEANUP_HOURS")
    #: How often the bucket is looked through.
    sweep_s: float = Field(default=600.0, gt=0)


class ModalSettings(BaseSettings):
    """What the Modal executor needs beside the token, which Modal's own client finds by itself."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True)

    #: ``development`` begins a ladder of GPUs at T4, ``production`` at A10.
    environment: Environment = Field(default="development", validation_alias="ENVIRONMENT")
    #: The environment of the Modal workspace that the workers were deployed to; empty takes its default.
    modal_environment: str = Field(default="", validation_alias="MODAL_ENVIRONMENT")
    #: How a worker reaches its job's events: NATS itself, or the gateway's ingest routes.
    worker_bus: Literal["nats", "ingest"] = Field(default="ingest", validation_alias="DISPATCHER_WORKER_BUS")
    #: ``tls://`` or ``wss://`` of NATS, ``https://`` of the gateway, as Modal's machines can reach it.
    worker_bus_url: str = Field(default="", validation_alias="DISPATCHER_WORKER_BUS_URL")
    #: File with the seed of the NATS account's (signing) key that signs the workers' tokens.
    worker_seed_file: Path | None = Field(default=None, validation_alias="DISPATCHER_WORKER_SEED_FILE")
    #: The account's public key, when the seed is that of one of its signing keys.
    worker_account: str | None = Field(default=None, validation_alias="DISPATCHER_WORKER_ACCOUNT")
    #: An answer of Modal about a call is good for this long, unless there is a reason to doubt it.
    poll_s: float = Field(default=30.0, ge=0, validation_alias="DISPATCHER_MODAL_POLL_S")
    #: How long a call may wait for its device; a worker's token must outlive that.
    queue_s: float = Field(default=6 * 3600.0, gt=0, validation_alias="DISPATCHER_MODAL_QUEUE_S")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.worker_bus_url or self.worker_seed_file is None:
            raise ValueError(
                "the Modal executor needs DISPATCHER_WORKER_BUS_URL and DISPATCHER_WORKER_SEED_FILE (docs/modal.md)"
            )
        return self

    def seed(self) -> SecretStr:
        """Read the seed.

        Raises:
            OSError: the file cannot be read.
        """
        assert self.worker_seed_file
        return SecretStr(self.worker_seed_file.read_text().strip())
