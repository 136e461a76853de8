"""What a worker process is told by its environment, and the only place of the runtime that reads it."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.kit.settings import NatsSettings


class WorkerSettings(BaseSettings):
    """Where the worker may write and how much memory it may take."""

    model_config = SettingsConfigDict(env_prefix="WORKER_", frozen=True)

    #: Folder of this run alone: inputs, scratch space, log. Its value also marks every process of the run.
    run_folder: Path
    #: Limit of each process of the run; None leaves it to the machine.
    memory_bytes: int | None = None
    #: The executor's name for this call, where the worker has to tell it.
    call_id: str | None = None
    #: Since when the device is paid for, unix seconds; None where nothing is before the worker begins.
    billed_since_s: float | None = None


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
