"""What a dispatcher hands to a worker: one attempt of one job. Keys, never bytes; no secret."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from contracts.events.job import JobInput


class Assignment(BaseModel):
    """One attempt. The worker claims it by ``job.started`` and exits at once if the job has moved on."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    tenant: str
    workload: str
    attempt: int
    run_id: str
    device: str
    #: What a second on this device costs; the worker reports seconds and dollars.
    usd_per_s: float
    #: What the job may still cost; the worker stops itself before it is spent, whoever else is down. None: no limit.
    left_usd: float | None = None
    params: dict[str, Any]
    inputs: dict[str, list[JobInput]]
