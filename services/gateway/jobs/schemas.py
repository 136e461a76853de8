"""JSON bodies of the job routes."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field

from contracts.errors import ErrorBody
from contracts.gpu_ladder import GPUS
from contracts.ids import id_pattern
from contracts.job import State
from contracts.limits import METADATA_BYTES
from contracts.prices import ALIASES
from kit.http.request_body import RequestBody
from services.gateway.aggregates.view_gap import IncompleteField
from services.gateway.jobs.stage_objects import StageObject
from services.gateway.jobs.url_inputs import UrlInput
from services.gateway.time_machine.schemas import AsOf
from services.gateway.workload_names import names_of

_MAX_RETENTION_H: Final = 24 * 90
_DATE: Final = re.compile(r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}")


def _only_rfc_3339(value: Any) -> Any:
    """Reject numbers, which pydantic would read as seconds since 1970."""
    if isinstance(value, str) and not _DATE.match(value):
        raise ValueError("write it as RFC 3339 does: 2026-01-31T12:00:00Z")
    return value


#: RFC 3339, with a UTC offset.
Moment = Annotated[AwareDatetime, BeforeValidator(_only_rfc_3339)]


class Confirmation(RequestBody):
    """Confirmation that the job's files were downloaded."""

    remove: bool = Field(
        default=False,
        description="Delete checkpoints and files between stages now; results are kept.",
    )
    results: bool = Field(default=False, description="With `remove`: delete the results too, for good.")


class Extension(RequestBody):
    """Extension of the retention of scratch files, or of results."""

    hours: int = Field(ge=1, le=_MAX_RETENTION_H, description="From now on.")
    results: bool = Field(default=False, description="Of the results, whatever the limit; at most 2,040 hours.")


class RetentionObject(BaseModel):
    """Retention of scratch files (checkpoints and files passed between stages, which a retry needs), and of results."""

    kept_until: datetime | None = Field(
        description="Time until which scratch files are kept; results are kept longer. None before the job's end, and "
        "after the scratch files were removed."
    )
    removed_at: datetime | None
    results_kept_until: datetime | None = Field(
        default=None, description="Time until which the results are kept, if it was set for this job."
    )
    results_removed_at: datetime | None = Field(
        default=None, description="Time from which on the results were not served any more."
    )


class NewJob(RequestBody):
    """A request for a job."""

    workload: str = Field(
        min_length=1,
        max_length=64,
        examples=["lap_compare"],
        json_schema_extra=names_of("job", "pipeline"),
    )
    inputs: dict[str, str | UrlInput | list[str | UrlInput]] = Field(
        default_factory=dict,
        description="Name of the input: id of an upload, or URL of a file; or a list of them.",
        examples=[
            {
                "reference": "upl_0198c0de-0000-7000-8000-000000000001",
                "other": "upl_0198c0de-0000-7000-8000-000000000002",
            }
        ],
    )
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="As defined by `params_schema` of the workload under GET /v1/workloads.",
        examples=[{}],
    )
    priority: int = Field(default=0, ge=-10, le=10, description="Higher starts earlier among your own jobs.")
    max_cost_usd: float | None = Field(
        default=None, ge=0, le=1_000_000, allow_inf_nan=False, description="The job is stopped before it costs more."
    )
    gpu: str | None = Field(
        default=None,
        max_length=32,
        description="Run on this GPU only; without it, the workload's GPU ladder is followed. For workloads with a "
        "GPU ladder.",
        examples=["A100"],
        json_schema_extra={"enum": [*GPUS, *ALIASES, None]},
    )
    metadata: dict[str, str] = Field(
        default_factory=dict,
        description=f"Returned with the job; at most {METADATA_BYTES} bytes as JSON.",
    )
    webhook_url: str | None = Field(
        default=None,
        max_length=2048,
        pattern=r"^https?://[^\s/?#@]+([/?#]\S*)?$",
        description="All events of the job are sent there, signed with the secret of GET /v1/webhooks/default/secret, "
        "and its progress at most twice a second. Must be https, except in embedded mode.",
    )
    retry_of: str | None = Field(
        default=None,
        pattern=id_pattern("job"),
        description="One of your jobs, of any workload, that you repeat with other parameters or inputs: the new job "
        "names it. To resume a failed job as it is, use POST /v1/jobs/{job_id}/retry.",
    )


class InputObject(BaseModel):
    """An upload as the job uses it."""

    upload_id: str
    filename: str
    content_type: str
    size_bytes: int
    sha256: str


class AttemptCost(BaseModel):
    """Billed cost of one attempt; `seconds` includes start-up."""

    run_id: str
    device: str
    seconds: float
    startup_s: float
    usd: float


class CostObject(BaseModel):
    """Estimated cost of the job and actual cost of its attempts."""

    estimated_usd: float
    estimated_from: Literal["history", "spec"] = Field(description="Latest runs of such jobs, or the declaration.")
    actual_usd: float
    attempts: list[AttemptCost]


class Links(BaseModel):
    """Related resources."""

    self: str
    events: str
    artifacts: str


class JobRuleObject(BaseModel):
    """Rule that submitted the job, and the uploads that it did so for."""

    rule_id: str
    upload_ids: list[str]
    group_id: str | None = Field(description="Null for a rule without groups.")


class JobObject(BaseModel):
    """A job."""

    id: str
    workload: str
    state: State
    stage: str | None = Field(description="The current stage, or the last one that was completed.")
    progress: float = Field(ge=0, le=1)
    message: str
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    inputs: dict[str, list[InputObject]]
    params: dict[str, Any]
    result: dict[str, Any] | None
    headline: str | None = Field(description="The result in one sentence; null without one.")
    report: str | None = Field(description="Route of the page that shows the result; null where there is none.")
    error: ErrorBody | None
    cost: CostObject
    stages: list[StageObject] = Field(description="Of a pipeline: its stages and their jobs. Empty for other jobs.")
    pipeline: str | None = Field(description="The pipeline that this job executes a stage of.")
    rule: JobRuleObject | None = Field(description="Null for a job that a client submitted.")
    retry_of: str | None = Field(description="The earlier job that its owner repeats with this one.")
    gpu: str | None
    retention: RetentionObject
    metadata: dict[str, str]
    links: Links
    cursor: str = Field(
        description="Follow `links.events` with this as `Last-Event-ID` to receive every event newer than this answer; "
        "after POST /v1/jobs, every event of the job."
    )
    as_of: AsOf | None = Field(default=None, description="Of an answer as of a point of the history; null otherwise.")


class JobPage(BaseModel):
    """A page of jobs, newest first."""

    data: list[JobObject]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")
    searched_to: datetime | None = Field(
        default=None,
        description="Of a search that has a next page: no job that was created before this was looked at yet.",
    )
    as_of: AsOf | None = Field(default=None, description="Of a list as of a point of the history; null otherwise.")
    incomplete: IncompleteField = None
