"""Routes of jobs: submit, list, read, cancel, retry."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import JSONResponse

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import PAGE_DEFAULT, PAGE_MAX, WAIT_S
from kit.auth.principal import Reader, Writer
from kit.bus.idempotency import IdempotencyHeader, key_of
from kit.http.path_ids import JobId
from kit.http.problems import problem_responses
from services.gateway.aggregates.early_reads import EarlyReadsDep
from services.gateway.aggregates.page_cursor import JOBS, is_past_cursor, page_cursor_query
from services.gateway.aggregates.prefer_header import apply_wait
from services.gateway.aggregates.view_gap import IncompleteQuery
from services.gateway.jobs.check_schemas import JobCheck
from services.gateway.jobs.dependencies import (
    EarlyJobsDep,
    JobCheckPresenterDep,
    JobPresenterDep,
    JobServiceDep,
    PastJobsDep,
    UrlJobsDep,
)
from services.gateway.jobs.list_filters import JobFilterQuery
from services.gateway.jobs.schemas import JobObject, JobPage, NewJob
from services.gateway.jobs.submission import JobRequest
from services.gateway.jobs.url_inputs import has_urls
from services.gateway.time_machine.cached_answer import UNCHANGED, IfNoneMatch, cached_answer
from services.gateway.time_machine.points import PAST_ERRORS, AtQuery
from services.gateway.uploads.fetching.url_policy import FILE_ERRORS, URL_ERRORS

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_E = ErrorCode
#: Jobs of a page that are presented before other requests run.
_PIECE_JOBS: Final = 8


@router.post(
    "",
    status_code=202,
    response_model=JobObject,
    summary="Submit a job",
    responses={
        200: {"model": JobCheck, "description": "Answer of a dry run."},
        202: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **problem_responses(
            _E.UNKNOWN_WORKLOAD,
            _E.UNKNOWN_PARAMETER,
            _E.INVALID_PARAMETER,
            _E.BACKEND_NOT_INSTALLED,
            _E.MISSING_INPUT,
            _E.UNKNOWN_INPUT,
            _E.URL_INPUT_NOT_ALLOWED,
            *URL_ERRORS,
            *FILE_ERRORS,
            _E.URL_FETCH_PENDING,
            _E.BUDGET_EXCEEDED,
            _E.QUOTA_EXCEEDED,
            _E.UPLOAD_NOT_FOUND,
            _E.UPLOAD_NOT_COMPLETED,
            _E.JOB_NOT_FOUND,
            _E.IDEMPOTENCY_KEY_INVALID,
            _E.IDEMPOTENCY_KEY_REUSED,
        ),
    },
)
async def submit_job(
    response: Response,
    caller: Writer,
    body: NewJob,
    *,
    jobs: JobServiceDep,
    url_jobs: UrlJobsDep,
    presenter: JobPresenterDep,
    checks: JobCheckPresenterDep,
    idempotency_key: IdempotencyHeader = None,
    dry_run: Annotated[
        bool, Query(description="Validate as a submission does, with the same errors, and estimate; store nothing.")
    ] = False,
    partial: Annotated[
        bool,
        Query(description="With `dry_run`: inputs may be left out, and budget and quotas are not a reason to refuse."),
    ] = False,
) -> JobObject | JSONResponse:
    """Validate the request, store the job and answer; a stored job is never lost.

    Follow it by `links.events` from `cursor` on, or by `GET` with `Prefer: wait=N`.

    With `dry_run`, nothing is stored: the answer is the error that the submission would have, or 200 with what the job
    would cost and where it would run. Neither the Idempotency-Key nor a quota is used up. With `partial` too, send
    parameters, GPU and the ids that you have before you upload large files.

    Inputs by URL are fetched first, and the answer waits for that: with the job, with the reason why a file cannot be
    used, or after a while with `url_fetch_pending`: the job, whose id is in `job_id`, is then submitted as soon as its
    files are there, once. Send the same request with the same Idempotency-Key to wait on.
    """
    job_request = JobRequest(**{name: getattr(body, name) for name in NewJob.model_fields})
    key = key_of(caller.tenant, "POST /v1/jobs", idempotency_key, body)
    if dry_run:
        check = url_jobs.check if has_urls(body.inputs) else jobs.check
        checked = await check(caller.tenant, job_request, complete=not partial)
        return JSONResponse((await checks.present(job_request, checked)).model_dump(mode="json"))
    submit = url_jobs.submit if has_urls(body.inputs) else jobs.submit
    job = await submit(caller.tenant, job_request, key)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return await presenter.full(job, from_start=True)


@router.get(
    "",
    response_model=JobPage,
    summary="List jobs, newest first",
    responses={
        **UNCHANGED,
        **problem_responses(_E.CURSOR_INVALID, _E.POINT_IN_FUTURE, _E.POINT_UNKNOWN, _E.JOB_PLAN_NOT_FOUND),
    },
)
async def list_jobs(
    caller: Reader,
    jobs: JobServiceDep,
    presenter: JobPresenterDep,
    past: PastJobsDep,
    wanted: JobFilterQuery,
    *,
    early: EarlyReadsDep,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    cursor: Annotated[str | None, page_cursor_query(JOBS, past=True)] = None,
    at: AtQuery = None,
    incomplete: IncompleteQuery = False,
    if_none_match: IfNoneMatch = None,
) -> JobPage | Response:
    """Return a page; jobs that are submitted in the meantime do not shift the pages.

    With `at`, the list as it was then: the jobs that existed, each as it was, filtered by what it was. Its pages are
    all of the same point, and one may hold fewer jobs than `limit` although `next_cursor` is set.
    """
    is_past = at is not None or is_past_cursor(JOBS, cursor)
    missing = await early.missing(caller.tenant, allowed=incomplete and not is_past)
    if is_past:
        point = await past.points.point("at", at) if at is not None else None
        page = await past.page(caller.tenant, wanted, point, cursor, limit)
        return cached_answer(page, (point,) if point else (), if_none_match)
    found, next_cursor = await jobs.page(caller.tenant, wanted, cursor=cursor, limit=limit)
    searched_to = jobs.created_before(caller.tenant, next_cursor) if wanted.text and next_cursor else None
    data: list[JobObject] = []
    for job in found:
        data.append(presenter.known(job))
        if len(data) % _PIECE_JOBS == 0:
            await asyncio.sleep(0)  # let other requests run
    return JobPage(data=data, next_cursor=next_cursor, searched_to=searched_to, incomplete=missing)


@router.get(
    "/{job_id}",
    response_model=JobObject,
    summary="Read a job",
    responses={
        **UNCHANGED,
        **problem_responses(_E.JOB_NOT_FOUND, _E.URL_FETCH_PENDING, *URL_ERRORS, *FILE_ERRORS, *PAST_ERRORS),
    },
)
async def read_job(
    response: Response,
    caller: Reader,
    job_id: JobId,
    *,
    jobs: JobServiceDep,
    url_jobs: UrlJobsDep,
    presenter: JobPresenterDep,
    past: PastJobsDep,
    early: EarlyJobsDep,
    at: AtQuery = None,
    prefer: Annotated[
        str | None, Header(description=f"`wait=N`: answer when the job has ended or after N seconds, at most {WAIT_S}.")
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> JobObject | Response:
    """Return the job; with `Prefer: wait=N`, when it has ended or after N seconds.

    Of a job whose inputs are still being fetched, or could not be, the answer says so.

    With `at`, the job as it was then, and `as_of` says when that was. What workers report live (progress between two
    stages) and operators' orders are not kept and left out.
    """
    if at is not None:
        point = await past.points.point("at", at)
        return cached_answer(await past.read(caller.tenant, job_id, point), (point,), if_none_match)
    wait_s: float = apply_wait(prefer, response)
    try:
        found, wait_s = await early.read(caller.tenant, job_id, wait_s)
        if found is not None:
            return found
        job = await jobs.read(caller.tenant, job_id, wait_s)
    except SaccadeError as error:
        if error.code is not _E.JOB_NOT_FOUND:
            raise
        raise await url_jobs.explain_missing(caller.tenant, job_id) or error from None
    return await presenter.full(job)


@router.post(
    "/{job_id}/cancel",
    summary="Cancel a job",
    responses=problem_responses(_E.JOB_NOT_FOUND, _E.JOB_ALREADY_ENDED, _E.JOB_IN_PIPELINE),
)
async def cancel_job(caller: Writer, job_id: JobId, jobs: JobServiceDep, presenter: JobPresenterDep) -> JobObject:
    """Request cancellation durably; the job is `cancelled` when its worker has stopped. Idempotent."""
    return presenter.known(await jobs.cancel(caller.tenant, job_id))


@router.post(
    "/{job_id}/retry",
    summary="Give a failed or cancelled job another attempt",
    responses=problem_responses(
        _E.JOB_NOT_FOUND,
        _E.JOB_NOT_RETRYABLE,
        _E.JOB_IN_PIPELINE,
        _E.SCRATCH_REMOVED,
        _E.UPLOAD_NOT_FOUND,
        _E.UPLOAD_ALREADY_ENDED,
        _E.UNKNOWN_WORKLOAD,
        _E.BACKEND_NOT_INSTALLED,
        _E.BUDGET_EXCEEDED,
        _E.QUOTA_EXCEEDED,
    ),
)
async def retry_job(caller: Writer, job_id: JobId, jobs: JobServiceDep, presenter: JobPresenterDep) -> JobObject:
    """Resume the job at the first stage that is not completed."""
    return presenter.known(await jobs.retry(caller.tenant, job_id))
