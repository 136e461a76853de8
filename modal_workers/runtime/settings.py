"""What a worker process is told by its environment, and the only place of the runtime that reads it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.limits import SCRATCH_RETENTION_H
from kit.settings import NatsSettings


class WorkerSettings(BaseSettings):
    """Where the worker may write and how much memory it may take."""

    #: An empty variable is none: as a path it would be the working folder.
    model_config = SettingsConfigDict(env_prefix="WORKER_", frozen=True, populate_by_name=True, env_ignore_empty=True)

    #: Folder of this run alone: inputs, scratch space, log. Its value also marks every process of the run.
    run_folder: Path
    #: Limit of each process of the run; None leaves it to the machine.
    memory_bytes: int | None = None
    #: The executor's name for this call, where the worker has to tell it.
    call_id: str | None = None
    #: Since when the device is paid for, unix seconds; None where nothing is before the worker begins.
    billed_since_s: float | None = None
    #: Folder that workers share, where what a later stage may want is kept beside the bucket; None: there is none.
    cache_folder: Path | None = None
    #: Hours after which what a job has left there goes, if nobody has wanted it since; the replaced system's name.
    cache_hours: float = Field(default=SCRATCH_RETENTION_H, gt=0, validation_alias="MODAL_VOLUME_CLEANUP_HOURS")


class IngestSettings(BaseSettings):
    """Where a worker sends its events when it cannot reach NATS, and the token it has for that."""

    model_config = SettingsConfigDict(env_prefix="INGEST_", frozen=True)

    #: Origin of the gateway, ``https://vision.example.com``; none leaves the worker to NATS.
    url: str | None = None
    token: SecretStr | None = None


def bus_settings() -> NatsSettings | IngestSettings:
    """Tell how this worker reaches its job's events."""
    ingest = IngestSettings()
    return NatsSettings() if ingest.url is None else ingest
