"""Routes of jobs."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from contracts.errors import ErrorBody, ErrorCode
from contracts.events import Cursor
from contracts.events.job import PIPELINE, JobProgressed
from contracts.ids import id_pattern
from contracts.job import Job, State
from contracts.limits import METADATA_BYTES, PAGE_DEFAULT, PAGE_MAX, WAIT_S
from kit.auth.principal import Reader, Writer
from kit.bus.idempotency import IdempotencyHeader, key_of
from kit.http.problems import problem_responses
from modal_workers import catalog
from services.gateway.aggregates.prefer_header import wait_of
from services.gateway.aggregates.view import JobFilter
from services.gateway.dependencies import gateway_of
from services.gateway.jobs.retention_routes import RetentionObject, retention_of
from services.gateway.jobs.service import JobRequest
from services.gateway.jobs.stage_objects import StageObject, progress_of, stages_of
from services.gateway.jobs.submission import check_webhook_url

if TYPE_CHECKING:
    from services.gateway.app import Gateway

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_E = ErrorCode
_DATE: Final = re.compile(r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}")


def _written_out(value: Any) -> Any:
    """Refuse what pydantic would take for seconds since 1970."""
    if isinstance(value, str) and not _DATE.match(value):
        raise ValueError("write it as RFC 3339 does: 2026-01-31T12:00:00Z")
    return value


#: RFC 3339, with its offset.
Moment = Annotated[AwareDatetime, BeforeValidator(_written_out)]


class UrlInput(BaseModel):
    """A file somewhere else. This server does not fetch inputs yet and answers `url_input_not_allowed`."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=2048)


class NewJob(BaseModel):
    """What a client asks for."""

    model_config = ConfigDict(extra="forbid")

    workload: str = Field(min_length=1, max_length=64, examples=["lap_compare"])
    inputs: dict[str, str | UrlInput | list[str | UrlInput]] = Field(
        default_factory=dict,
        description="Name of the input: id of an upload, or a list of them.",
        examples=[
            {
                "reference": "upl_0198c0de-0000-7000-8000-000000000001",
                "other": "upl_0198c0de-0000-7000-8000-000000000002",
            }
        ],
    )
    params: dict[str, Any] = Field(
        default_factory=dict, description="As `params_schema` of the workload says.", examples=[{}]
    )
    priority: int = Field(default=0, ge=-10, le=10, description="Higher starts earlier among your own jobs.")
    max_cost_usd: float | None = Field(
        default=None, ge=0, le=1_000_000, allow_inf_nan=False, description="The job is stopped before it costs more."
    )
    gpu: str | None = Field(
        default=None,
        max_length=32,
        description="Run on this GPU and no other; left out, the workload's ladder is climbed as needed.",
        examples=["A100"],
    )
    metadata: dict[str, str] = Field(
        default_factory=dict, description=f"Yours, given back with the job; at most {METADATA_BYTES} bytes as JSON."
    )
    webhook_url: str | None = Field(
        default=None,
        max_length=2048,
        pattern=r"^https?://[^\s/?#@]+([/?#]\S*)?$",
        description="All events of the job are sent there, signed with the secret of GET /v1/webhooks/default/secret, "
        "and its progress at most twice a second. https, but in embedded mode.",
    )


class InputObject(BaseModel):
    """An upload as the job uses it."""

    upload_id: str
    filename: str
    content_type: str
    size_bytes: int
    sha256: str


class AttemptCost(BaseModel):
    """What one attempt was billed for; start-up is part of `seconds`."""

    run_id: str
    device: str
    seconds: float
    startup_s: float
    usd: float


class CostObject(BaseModel):
    """What the job was thought to cost and what its attempts did cost."""

    estimated_usd: float
    estimated_from: Literal["history", "spec"] = Field(description="What such jobs took lately, or the declaration.")
    actual_usd: float
    attempts: list[AttemptCost]


class Links(BaseModel):
    """Where there is more."""

    self: str
    events: str
    artifacts: str


class JobObject(BaseModel):
    """A job."""

    id: str
    workload: str
    state: State
    stage: str | None = Field(description="The stage it is in, or the last one that it finished.")
    progress: float = Field(ge=0, le=1)
    message: str
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    inputs: dict[str, list[InputObject]]
    params: dict[str, Any]
    result: dict[str, Any] | None
    error: ErrorBody | None
    cost: CostObject
    stages: list[StageObject] = Field(description="Of a pipeline: its stages and their jobs. Empty for other jobs.")
    pipeline: str | None = Field(description="The pipeline of whose stage this job does a part.")
    gpu: str | None
    retention: RetentionObject
    metadata: dict[str, str]
    links: Links
    cursor: str = Field(
        description="Follow `links.events` with this as `Last-Event-ID`: nothing newer than this answer is missed; "
        "after POST /v1/jobs, nothing at all."
    )


class JobPage(BaseModel):
    """Some jobs, newest first."""

    data: list[JobObject]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")


def _progress(job: Job, told: JobProgressed | None, stages: list[StageObject]) -> float:
    """Say how far a job is: as its worker told, but never less than the stages that are done for good."""
    if job.state is State.SUCCEEDED:
        return 1.0
    if stages:
        return round(min(1.0, max(progress_of(stages), told.fraction if told else 0.0)), 4)
    done = 0.0
    workload = catalog.workloads().get(job.submitted.workload)
    names = [stage.name for stage in workload.stages] if workload else []
    if workload and job.stage in names:
        done = sum(stage.share for stage in workload.stages[: names.index(job.stage) + 1])
    return round(min(1.0, max(done, told.fraction if told else 0.0)), 4)


def _shown(gateway: Gateway, job: Job, told: JobProgressed | None, *, from_start: bool = False) -> JobObject:
    stages = stages_of(job, gateway.view, gateway.progress)
    here = f"/v1/jobs/{job.id}"
    submitted = job.submitted
    inputs = {
        name: [InputObject.model_validate(one.model_dump(exclude={"key"})) for one in several]
        for name, several in submitted.inputs.items()
    }
    sequence = job.first_sequence - 1 if from_start else job.sequence
    return JobObject(
        id=job.id,
        workload=submitted.workload,
        state=job.state,
        stage=told.stage if told else job.stage,
        progress=_progress(job, told, stages),
        message=_message(job, told),
        attempt=job.attempt,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        inputs=inputs,
        params=submitted.params,
        result=job.result,
        error=job.error if job.state is not State.CANCELLED else None,
        cost=CostObject(
            estimated_usd=submitted.estimated_usd,
            estimated_from=submitted.estimated_from,
            # A pipeline counts what its stages' jobs cost when it ends.
            actual_usd=max(job.actual_usd, round(sum(one.cost_usd for one in stages), 6)),
            attempts=[AttemptCost(run_id=run_id, **cost.model_dump()) for run_id, cost in job.costs.items()],
        ),
        stages=stages,
        pipeline=submitted.part_of.job_id if submitted.part_of else None,
        gpu=None if job.device in (None, "cpu", "local", PIPELINE) else job.device,
        retention=retention_of(job, gateway.settings.scratch_hours),
        metadata=submitted.metadata,
        links=Links(self=here, events=f"{here}/events", artifacts=f"{here}/artifacts"),
        cursor=str(Cursor(gateway.tail.epoch, sequence)),
    )


def _message(job: Job, told: JobProgressed | None) -> str:
    if job.cancel_requested and not job.state.ended:
        return "Cancelling."
    if job.state is State.WAITING_FOR_GPU:
        return f"Waiting for a {job.device}: none is to be had at the moment."
    if told:
        return told.message
    return job.error.message if job.error and job.state is State.FAILED else ""


@router.post(
    "",
    status_code=202,
    summary="Submit a job",
    responses={
        202: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **problem_responses(
            _E.UNKNOWN_WORKLOAD,
            _E.UNKNOWN_PARAMETER,
            _E.INVALID_PARAMETER,
            _E.BACKEND_NOT_INSTALLED,
            _E.MISSING_INPUT,
            _E.UNKNOWN_INPUT,
            _E.URL_INPUT_NOT_ALLOWED,
            _E.WRONG_INPUT_MEDIA,
            _E.UPLOAD_NOT_FOUND,
            _E.UPLOAD_NOT_COMPLETED,
            _E.UPLOAD_ALREADY_ENDED,
            _E.IDEMPOTENCY_KEY_INVALID,
            _E.IDEMPOTENCY_KEY_REUSED,
        ),
    },
)
async def submit_job(
    request: Request, response: Response, caller: Writer, body: NewJob, idempotency_key: IdempotencyHeader = None
) -> JobObject:
    """Check the request, store the job and answer; from then on it is never lost.

    Follow it by `links.events` from `cursor` on, or by `GET` with `Prefer: wait=N`.
    """
    gateway = gateway_of(request)
    check_webhook_url(body.webhook_url, https_only=gateway.auth.authenticated)
    wanted = JobRequest(**{name: getattr(body, name) for name in NewJob.model_fields})
    key = key_of(caller.tenant, "POST /v1/jobs", idempotency_key, body)
    job = await gateway.jobs.submit(caller.tenant, wanted, key)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return _shown(gateway, job, await gateway.progress.of(job), from_start=True)


@router.get("", summary="List jobs, newest first", responses=problem_responses(_E.CURSOR_INVALID))
async def list_jobs(
    request: Request,
    caller: Reader,
    *,
    workload: Annotated[str | None, Query(max_length=64)] = None,
    state: Annotated[list[State] | None, Query(description="May be repeated.")] = None,
    since: Annotated[Moment | None, Query(description="Created then or later.")] = None,
    until: Annotated[Moment | None, Query(description="Created before.")] = None,
    pipeline: Annotated[
        str | None,
        Query(pattern=id_pattern("job"), description="List the jobs of this pipeline's stages, and no others."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")] = None,
) -> JobPage:
    """Give a page; jobs that are submitted meanwhile do not move the pages."""
    gateway = gateway_of(request)
    wanted = JobFilter(workload, tuple(map(str, state or ())), since, until, pipeline or "")
    jobs, following = gateway.jobs.page(caller.tenant, wanted, cursor=cursor, limit=limit)
    data = [_shown(gateway, job, gateway.progress.known(job)) for job in jobs]
    return JobPage(data=data, next_cursor=following)


@router.get("/{job_id}", summary="Read a job", responses=problem_responses(_E.JOB_NOT_FOUND))
async def read_job(
    request: Request,
    response: Response,
    caller: Reader,
    job_id: str,
    prefer: Annotated[
        str | None, Header(description=f"`wait=N`: answer when the job has ended or after N seconds, at most {WAIT_S}.")
    ] = None,
) -> JobObject:
    """Give the job as it is now, or as it is when it has ended."""
    gateway = gateway_of(request)
    job = await gateway.jobs.read(caller.tenant, job_id, wait_of(prefer, response))
    return _shown(gateway, job, await gateway.progress.of(job))


@router.post(
    "/{job_id}/cancel",
    summary="Ask for a job's end",
    responses=problem_responses(_E.JOB_NOT_FOUND, _E.JOB_ALREADY_ENDED, _E.JOB_IN_PIPELINE),
)
async def cancel_job(request: Request, caller: Writer, job_id: str) -> JobObject:
    """Ask durably, whoever is down; the job is `cancelled` when its worker is gone. May be repeated."""
    gateway = gateway_of(request)
    job = await gateway.jobs.cancel(caller.tenant, job_id)
    return _shown(gateway, job, gateway.progress.known(job))


@router.post(
    "/{job_id}/retry",
    summary="Give a failed or cancelled job another attempt",
    responses=problem_responses(
        _E.JOB_NOT_FOUND,
        _E.JOB_NOT_RETRYABLE,
        _E.JOB_IN_PIPELINE,
        _E.SCRATCH_REMOVED,
        _E.UPLOAD_NOT_FOUND,
        _E.UNKNOWN_WORKLOAD,
    ),
)
async def retry_job(request: Request, caller: Writer, job_id: str) -> JobObject:
    """Go on at the first stage that is not done."""
    gateway = gateway_of(request)
    job = await gateway.jobs.retry(caller.tenant, job_id)
    return _shown(gateway, job, gateway.progress.known(job))
