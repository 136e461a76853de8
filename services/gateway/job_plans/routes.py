"""Routes of plans for jobs: cancel or retry all that match, and follow it."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, cast

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse

from contracts.errors import ErrorCode
from contracts.ids import id_pattern
from kit.auth.principal import Reader, Writer
from kit.bus.idempotency import IdempotencyHeader, key_of
from kit.http.app_state import from_app_state
from kit.http.attribution import attribution_of
from kit.http.problems import problem_responses
from services.gateway.aggregates.job_lists import JobFilter
from services.gateway.aggregates.job_texts import searchable
from services.gateway.dead_letters.plan import Plan
from services.gateway.job_plans.job_items import JobAction
from services.gateway.job_plans.schemas import (
    JobChoice,
    JobPlanList,
    JobPlanObject,
    JobPlanTrial,
    NewJobPlan,
    PlannedItem,
    SampleJob,
)
from services.gateway.job_plans.service import ChosenJobs, JobPlans, WantedJobPlan

router = APIRouter(prefix="/v1/job-plans", tags=["jobs"])

_E = ErrorCode
JobPlansDep = Annotated[JobPlans, from_app_state("job_plans")]
PlanId = Annotated[
    str,
    Path(json_schema_extra={"pattern": id_pattern("jbp")}, examples=["jbp_0198c0de-0000-7000-8000-000000000001"]),
]
_TRIAL: Final[Any] = {200: {"model": JobPlanTrial, "description": "Answer of a dry run."}}
_ERRORS: Final = problem_responses(
    _E.JOBS_CHANGED, _E.JOB_PLAN_NOT_FOUND, _E.IDEMPOTENCY_KEY_INVALID, _E.IDEMPOTENCY_KEY_REUSED
)


@router.post(
    "",
    status_code=202,
    response_model=JobPlanObject,
    summary="Cancel or retry all jobs that match",
    responses={**_TRIAL, **_ERRORS},
)
async def create_job_plan(
    request: Request,
    caller: Writer,
    body: NewJobPlan,
    plans: JobPlansDep,
    idempotency_key: IdempotencyHeader = None,
) -> JobPlanObject | JSONResponse:
    """Freeze the list of jobs, and cancel or retry each once, oldest last; also if this server is killed meanwhile.

    Ask with `dry_run` first, and send the count: if it differs by then, nothing is done. A job that has left the
    states that were asked for is skipped, and named with the reason. The plan is in the audit log, and
    `GET /v1/jobs?plan={id}` lists its jobs.
    """
    wanted = await _filter(caller.tenant, body.filter, plans)
    if body.dry_run or body.expected_count is None:
        return _trial(body.action, await plans.choose(caller.tenant, wanted, body.action))
    about = {"filter": body.filter.model_dump(mode="json", exclude_none=True)}
    attribution = attribution_of(request, caller, body.why)
    key = key_of(caller.tenant, "POST /v1/job-plans", idempotency_key, body)
    order = WantedJobPlan(caller.tenant, wanted, body.action, body.expected_count, attribution, about, key)
    return _plan(await plans.plan(order))


@router.get("", summary="List acts on many jobs, newest first", responses=problem_responses())
async def list_job_plans(caller: Reader, plans: JobPlansDep) -> JobPlanList:
    """Return the newest plans."""
    return JobPlanList(data=[_plan(plan) for plan in await plans.newest(caller.tenant)])


@router.get("/{plan_id}", summary="Follow an act on many jobs", responses=problem_responses(_E.JOB_PLAN_NOT_FOUND))
async def read_job_plan(caller: Reader, plan_id: PlanId, plans: JobPlansDep) -> JobPlanObject:
    """Return how far it is, and what was left out."""
    return _plan(await plans.read(caller.tenant, plan_id))


async def _filter(tenant: str, choice: JobChoice, plans: JobPlans) -> JobFilter:
    return JobFilter(
        workload=choice.workload,
        states=tuple(map(str, choice.state or ())),
        since=choice.since,
        until=choice.until,
        rule=choice.rule,
        text=searchable(choice.q or ""),
        among=await plans.places_of(tenant, choice.plan) if choice.plan else None,
    )


def _trial(action: JobAction, chosen: ChosenJobs) -> JSONResponse:
    sample = [
        SampleJob(
            id=job.id,
            workload=job.submitted.workload,
            state=job.state,
            created_at=job.created_at,
            metadata=job.submitted.metadata,
        )
        for job in chosen.sample
    ]
    trial = JobPlanTrial.model_validate(
        {
            "action": action,
            "count": len(chosen.jobs),
            "by_state": chosen.by_state,
            "by_workload": chosen.by_workload,
            "sample": sample,
        }
    )
    return JSONResponse(trial.model_dump(mode="json"))


def _plan(plan: Plan) -> JobPlanObject:
    abandoned = any(outcome.verb.endswith("_abandoned") for outcome in plan.outcomes.values())
    state: Literal["running", "ended", "abandoned"] = "ended" if plan.ended else "running"
    first = min(plan.intents)
    return JobPlanObject(
        id=plan.id,
        action=cast("JobAction", plan.action),
        filter=plan.intents[first].data.details.get("filter", {}),
        count=plan.count,
        state="abandoned" if abandoned else state,
        done=plan.total("done"),
        failed=plan.total("failed"),
        skipped=plan.total("skipped"),
        skips=[PlannedItem.model_validate(skip) for skip in plan.skips],
        failures=[PlannedItem.model_validate(failure) for failure in plan.failures],
        by=plan.by,
        why=plan.why,
        request_id=plan.request_id,
        began_at=plan.began_at,
        jobs=f"/v1/jobs?plan={plan.id}",
    )
