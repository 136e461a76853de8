"""JSON bodies of the routes of plans for jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from contracts.ids import id_pattern
from contracts.job import State
from kit.http.request_body import RequestBody
from services.gateway.dead_letters.plan_order import PlanOrder
from services.gateway.job_plans.job_items import JobAction
from services.gateway.jobs.schemas import Moment

_Why = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class JobChoice(RequestBody):
    """Choice of jobs, with the filters of `GET /v1/jobs`; a field that is left out matches any."""

    workload: str | None = Field(default=None, max_length=64)
    state: list[Annotated[State, Field(strict=False)]] | None = Field(
        default=None, strict=False, max_length=len(State), description="Without it, each state that the act is for."
    )
    since: Moment | None = Field(default=None, strict=False, description="Created at this time or later.")
    until: Moment | None = Field(default=None, strict=False, description="Created before this time.")
    rule: str | None = Field(default=None, pattern=id_pattern("rul"))
    q: str | None = Field(default=None, max_length=200, description="Part of id, workload, file names or metadata.")
    plan: str | None = Field(default=None, pattern=id_pattern("jbp"), description="Only the jobs of this plan.")


class NewJobPlan(PlanOrder):
    """Order to cancel, or to retry, all jobs that match."""

    action: JobAction
    filter: JobChoice
    why: _Why = Field(default="no reason given", description="For the audit log.")


class SampleJob(BaseModel):
    """One of the jobs that match."""

    id: str
    workload: str
    state: State
    created_at: datetime
    metadata: dict[str, str]


class JobPlanTrial(BaseModel):
    """Jobs that an act on all that match would be on."""

    action: JobAction
    count: int = Field(description="Send it as `expected_count`.")
    by_state: dict[State, int]
    by_workload: dict[str, int]
    sample: list[SampleJob] = Field(description="The newest, at most 10.")


class PlannedItem(BaseModel):
    """A job that was left out or could not be changed, and why."""

    id: str
    code: str
    message: str


class JobPlanObject(BaseModel):
    """An act on many jobs. When it has ended, `done`, `failed` and `skipped` add up to `count`."""

    id: str
    action: JobAction
    filter: dict[str, Any]
    count: int
    state: Literal["running", "ended", "abandoned"] = Field(
        description="`abandoned`: it was not wholly stored, nothing was changed."
    )
    done: int
    failed: int
    skipped: int = Field(description="Jobs that had changed by then.")
    skips: list[PlannedItem] = Field(description="Of every 500 jobs the first 100 that were skipped.")
    failures: list[PlannedItem] = Field(description="Of every 500 jobs the first 100 that failed.")
    by: str
    why: str
    request_id: str
    began_at: datetime
    jobs: str = Field(description="Route of the list of its jobs.")


class JobPlanList(BaseModel):
    """Plans, newest first, at most 100."""

    data: list[JobPlanObject]
