"""Assignment of one attempt of a job to a worker. It contains keys of files, never their bytes, and no secret."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from contracts.events.job import JobInput, PartOf


class Assignment(BaseModel):
    """One attempt. The worker claims it with ``job.started`` and exits at once if the job has newer events."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    tenant: str
    workload: str
    attempt: int
    run_id: str
    device: str
    #: Price of a second on this device; the worker reports seconds and USD.
    usd_per_s: float
    #: Amount that the job may still cost; the worker stops itself before it is spent, even if all services are down.
    #: None without a limit.
    left_usd: float | None = None
    params: dict[str, Any]
    inputs: dict[str, list[JobInput]]
    #: Pipeline, stage and shard that the job belongs to.
    part_of: PartOf | None = None
    #: ``caller``: the worker runs on the Modal account of the session's caller, who pays for it.
    account: Literal["caller"] | None = None
    #: Sequence of the job's newest event at the launch: the worker's first read reaches it. 0: it is not known.
    sequence: int = 0
    #: Trace context of the run's events (W3C Trace Context): the job's trace, and the span of this run.
    traceparent: str | None = None

    @property
    def output_job_id(self) -> str:
        """Id of the job whose folders in the bucket hold the files: the pipeline's id for a job of a stage."""
        return self.part_of.job_id if self.part_of else self.job_id
