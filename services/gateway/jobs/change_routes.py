"""``GET /v1/jobs/{id}/changes``: what changed of a job between two points of the history."""

from __future__ import annotations

from fastapi import APIRouter, Response

from contracts.errors import ErrorCode
from kit.auth.principal import Reader
from kit.http.path_ids import JobId
from kit.http.problems import problem_responses
from services.gateway.jobs.dependencies import PastJobsDep
from services.gateway.time_machine.cached_answer import UNCHANGED, IfNoneMatch, cached_answer
from services.gateway.time_machine.points import PAST_ERRORS, ChangesSince, ChangesUntil
from services.gateway.time_machine.schemas import Changes

router = APIRouter(tags=["jobs"])


@router.get(
    "/v1/jobs/{job_id}/changes",
    response_model=Changes,
    summary="Compare a job at two points",
    responses={**UNCHANGED, **problem_responses(ErrorCode.JOB_NOT_FOUND, *PAST_ERRORS)},
)
async def job_changes(
    caller: Reader,
    job_id: JobId,
    past: PastJobsDep,
    *,
    since: ChangesSince,
    until: ChangesUntil = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return the fields that changed, the events in between and what was spent in between.

    `since` may lie before the job was submitted.
    """
    window = await past.points.window(since, until)
    return cached_answer(await past.changes(caller.tenant, job_id, *window), window, if_none_match)
