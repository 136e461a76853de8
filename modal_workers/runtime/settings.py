"""What a worker process is told by its environment, and the only place of the runtime that reads it."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class WorkerSettings(BaseSettings):
    """Where the worker may write and how much memory it may take."""

    model_config = SettingsConfigDict(env_prefix="WORKER_", frozen=True)

    #: Folder of this run alone: inputs, scratch space, log. Its value also marks every process of the run.
    run_folder: Path
    #: Limit of each process of the run; None leaves it to the machine.
    memory_bytes: int | None = None
