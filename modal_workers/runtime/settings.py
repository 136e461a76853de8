"""Settings of a worker process; the only place of the runtime that reads the environment."""

from __future__ import annotations

import ctypes
import os
import tempfile
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.limits import SCRATCH_RETENTION_H
from kit.settings import NatsSettings

#: Variables with secrets; a URL of NATS may contain a password.
_SECRETS: Final = ("NATS_URL", "NATS_PASSWORD", "NATS_CREDENTIALS", "S3_SECRET_ACCESS_KEY", "INGEST_TOKEN")


class WorkerSettings(BaseSettings):
    """Folders, memory limit and billing of one run."""

    #: An empty variable counts as unset: as a path it would be the working folder.
    model_config = SettingsConfigDict(env_prefix="WORKER_", frozen=True, populate_by_name=True, env_ignore_empty=True)

    #: Folder of this run: inputs, scratch, log. Its path also marks every process of the run.
    run_folder: Path
    #: Memory limit of each process of the run; None for no limit.
    memory_bytes: int | None = None
    #: Id of the executor's call, published with the claim.
    call_id: str | None = None
    #: Start of billing, unix seconds; None if billing starts with the worker.
    billed_since_s: float | None = None
    #: Whether our jobs run in a thread that opens no network connection and, on a CPU, no files of others.
    lockdown: bool = True
    #: Folder that workers share as a cache of the bucket; None for no cache.
    cache_folder: Path | None = None
    #: Hours after which an unused job folder in the cache is removed; the name is the replaced system's.
    cache_hours: float = Field(default=SCRATCH_RETENTION_H, gt=0, validation_alias="MODAL_VOLUME_CLEANUP_HOURS")


class IngestSettings(BaseSettings):
    """Gateway that takes a worker's events when it cannot reach NATS, and the token for it."""

    model_config = SettingsConfigDict(env_prefix="INGEST_", frozen=True)

    #: Origin of the gateway, ``https://vision.example.com``; None for NATS.
    url: str | None = None
    token: SecretStr | None = None


def bus_settings() -> NatsSettings | IngestSettings:
    """Return the settings of the worker's bus: the gateway's if INGEST_URL is set, else NATS."""
    ingest = IngestSettings()
    return NatsSettings() if ingest.url is None else ingest


def erase_secrets() -> None:
    """Remove the secrets from this process's environment, once they are read: decoders and child processes inherit it.

    Their bytes are overwritten too: ``/proc/self/environ`` shows what the process was started with.
    """
    library = ctypes.CDLL(None)
    library.getenv.restype = ctypes.c_void_p
    for name in _SECRETS:
        if place := library.getenv(name.encode()):
            # Not zeros: an empty entry would end the list for those who look for a mark in it (kit/process_tree.py).
            ctypes.memset(place, ord("x"), len(ctypes.string_at(place)))
        os.environ.pop(name, None)  # noqa: TID251 - this is a settings.py


def use_temporary_folder(folder: Path) -> None:
    """Set the folder in which this process and those that it starts make their temporary files."""
    os.environ["TMPDIR"] = str(folder)  # noqa: TID251 - as above
    tempfile.tempdir = str(folder)
