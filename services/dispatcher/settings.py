"""What the operator may set: where health is served, how many workers run at once, how long to wait for what."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.limits import WORKER_SILENT_S


class DispatcherSettings(BaseSettings):
    """Read from ``DISPATCHER_*``."""

    model_config = SettingsConfigDict(env_prefix="DISPATCHER_", frozen=True)

    #: Health and metrics only; nobody else calls the dispatcher.
    host: str = "127.0.0.1"
    port: int = Field(default=8083, ge=1, le=65535)
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
