"""Route of the counts of jobs."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from contracts.errors import ErrorCode
from contracts.job import State
from kit.auth.principal import Reader
from kit.http.problems import problem_responses
from services.gateway.aggregates.early_reads import EarlyReadsDep
from services.gateway.aggregates.view_gap import IncompleteField, IncompleteQuery
from services.gateway.jobs.dependencies import JobServiceDep
from services.gateway.jobs.list_filters import JobFilterQuery

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


class JobCountsObject(BaseModel):
    """Numbers of jobs for the filters of a list."""

    count: int
    by_state: dict[State, int] = Field(description="Without states that no job is in.")
    by_workload: dict[str, int]
    complete: bool = Field(
        description="Whether all jobs were looked at: at most 200,000, with filters the newest 50,000 or 1,000 "
        "matches. Otherwise there may be more."
    )
    incomplete: IncompleteField = None


@router.get(
    "/counts", summary="Count jobs by state and workload", responses=problem_responses(ErrorCode.JOB_PLAN_NOT_FOUND)
)
async def count_jobs(
    caller: Reader,
    jobs: JobServiceDep,
    wanted: JobFilterQuery,
    early: EarlyReadsDep,
    *,
    incomplete: IncompleteQuery = False,
) -> JobCountsObject:
    """Return how many jobs the list with the same filters has; jobs of pipelines' stages count with `pipeline` only."""
    missing = await early.missing(caller.tenant, allowed=incomplete)
    counts = await jobs.counts(caller.tenant, wanted)
    return JobCountsObject(
        count=counts.by_state.total(),
        by_state={State(state): count for state, count in counts.by_state.items()},
        by_workload=dict(counts.by_workload),
        complete=counts.complete and missing is None,
        incomplete=missing,
    )
