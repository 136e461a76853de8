"""What a dispatcher hands to a worker: one attempt of one job. Keys, never bytes; no secret."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from contracts.events.job import JobInput, PartOf


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
    #: Of which pipeline's stage this is a shard.
    part_of: PartOf | None = None

    @property
    def output_job_id(self) -> str:
        """Id of the job in whose places of the bucket the work is left: the pipeline's, for a part of one."""
        return self.part_of.job_id if self.part_of else self.job_id
