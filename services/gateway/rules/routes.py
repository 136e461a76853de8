"""Routes of upload rules: create, list, read, change, delete; each change can be a dry run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from contracts.errors import ErrorCode
from contracts.events.rule import RuleDefinition
from contracts.limits import PAGE_DEFAULT, PAGE_MAX
from kit.auth.principal import MadeBy, Reader, Writer
from kit.bus.idempotency import IdempotencyHeader, key_of
from kit.http.path_ids import RuleId
from kit.http.problems import problem_responses
from services.gateway.aggregates.page_cursor import RULES, page_cursor_query
from services.gateway.jobs.schemas import Moment
from services.gateway.rules.dependencies import RulePresenterDep, RuleServiceDep, RuleTrialsDep
from services.gateway.rules.schemas import NewRule, RuleChange, RuleObject, RulePage, RuleTrial
from services.gateway.rules.service import changed
from services.gateway.rules.trial import Trial

router = APIRouter(prefix="/v1/rules", tags=["rules"])

_E = ErrorCode
_INVALID: Final = (
    _E.UNKNOWN_WORKLOAD,
    _E.UNKNOWN_PARAMETER,
    _E.UNKNOWN_INPUT,
    _E.MISSING_INPUT,
    _E.WRONG_INPUT_MEDIA,
    _E.BACKEND_NOT_INSTALLED,
)
_MAX_TRIED: Final = 1000
_DRY: Final[Any] = {200: {"model": RuleTrial, "description": "Answer of a dry run."}}

DryRun = Annotated[
    bool, Query(description="Validate only, and show what the rule would have done with uploads of the past.")
]
Since = Annotated[Moment | None, Query(description="Of a dry run: only uploads that were created since this time.")]
Tried = Annotated[
    int, Query(ge=1, le=_MAX_TRIED, description="Of a dry run: how many completed uploads are looked at, newest first.")
]


@router.post(
    "",
    status_code=201,
    response_model=RuleObject,
    summary="Create a rule",
    responses={
        **_DRY,
        201: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **problem_responses(*_INVALID, _E.TOO_MANY_RULES, _E.IDEMPOTENCY_KEY_INVALID, _E.IDEMPOTENCY_KEY_REUSED),
    },
)
async def create_rule(
    response: Response,
    caller: Writer,
    body: NewRule,
    *,
    rules: RuleServiceDep,
    presenter: RulePresenterDep,
    trials: RuleTrialsDep,
    made_by: MadeBy,
    idempotency_key: IdempotencyHeader = None,
    dry_run: DryRun = False,
    since: Since = None,
    limit: Tried = PAGE_MAX,
) -> RuleObject | JSONResponse:
    """From now on, each upload that is completed and matches starts a job, or joins a group that does.

    The rule is validated as a request for its job would be. With `dry_run`, nothing is stored.
    """
    wanted = RuleDefinition.model_validate(body.model_dump())
    key = key_of(caller.tenant, "POST /v1/rules", idempotency_key, body)
    if dry_run:
        definition, estimate = await rules.check(caller.tenant, wanted)
        trial = trials.run(caller.tenant, definition, estimate, rule_id=None, since=since, limit=limit)
        return _shown(trial)
    rule = await rules.create(caller.tenant, wanted, made_by, key)
    response.headers["Location"] = f"/v1/rules/{rule.id}"
    return presenter.full(rule)


@router.get("", summary="List rules, newest first", responses=problem_responses(_E.CURSOR_INVALID))
async def list_rules(
    caller: Reader,
    rules: RuleServiceDep,
    presenter: RulePresenterDep,
    *,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    cursor: Annotated[str | None, page_cursor_query(RULES)] = None,
) -> RulePage:
    """Return a page; rules that are created in the meantime do not shift the pages."""
    found, next_cursor = rules.page(caller.tenant, cursor=cursor, limit=limit)
    return RulePage(data=[presenter.full(rule) for rule in found], next_cursor=next_cursor)


@router.get("/{rule_id}", summary="Read a rule", responses=problem_responses(_E.RULE_NOT_FOUND))
async def read_rule(caller: Reader, rule_id: RuleId, rules: RuleServiceDep, presenter: RulePresenterDep) -> RuleObject:
    """Return the rule, with the jobs that it has submitted today."""
    return presenter.full(await rules.get(caller.tenant, rule_id))


@router.patch(
    "/{rule_id}",
    response_model=RuleObject | RuleTrial,
    summary="Change a rule, or disable it",
    responses={
        200: {"description": "The rule; the answer of a dry run is a `RuleTrial`."},
        **problem_responses(*_INVALID, _E.RULE_NOT_FOUND),
    },
)
async def change_rule(
    caller: Writer,
    rule_id: RuleId,
    body: RuleChange,
    *,
    rules: RuleServiceDep,
    presenter: RulePresenterDep,
    trials: RuleTrialsDep,
    made_by: MadeBy,
    dry_run: DryRun = False,
    since: Since = None,
    limit: Tried = PAGE_MAX,
) -> RuleObject | JSONResponse:
    """Replace the given fields and validate the whole. Groups that are open keep the uploads that they have.

    With `dry_run`, nothing is stored: `{}` shows what the rule as it is would have done.
    """
    changes = body.model_dump(include=body.model_fields_set)
    if dry_run:
        rule = await rules.get(caller.tenant, rule_id)
        definition, estimate = await rules.check(caller.tenant, changed(rule.definition, changes))
        trial = trials.run(caller.tenant, definition, estimate, rule_id=rule.id, since=since, limit=limit)
        return _shown(trial)
    return presenter.full(await rules.change(caller.tenant, rule_id, changes, made_by))


@router.delete("/{rule_id}", status_code=204, summary="Delete a rule", responses=problem_responses(_E.RULE_NOT_FOUND))
async def delete_rule(caller: Writer, rule_id: RuleId, rules: RuleServiceDep, made_by: MadeBy) -> None:
    """Delete the rule. Its jobs stay; groups that are open become no job."""
    await rules.delete(caller.tenant, rule_id, made_by)


def _shown(trial: Trial) -> JSONResponse:
    """Return the answer of a dry run."""
    jobs = [
        {
            "outcome": "waiting" if each.waiting else "skipped" if each.error else "submitted",
            "group": each.group,
            "inputs": {
                name: [
                    {"upload_id": upload.id, "filename": upload.created.filename, "completed_at": upload.completed_at}
                    for upload in uploads
                ]
                for name, uploads in each.inputs.items()
            },
            "error": each.error,
        }
        for each in trial.jobs
    ]
    count = sum(each["outcome"] == "submitted" for each in jobs)
    shown = RuleTrial.model_validate(
        {
            **trial.definition.model_dump(include={"workload", "match", "group", "params"}),
            "inputs": list(trial.definition.inputs),
            "considered": trial.considered,
            "matched": trial.matched,
            "jobs": jobs,
            "estimate": asdict(trial.estimate),
            "estimated_usd": round(count * trial.estimate.usd, 6),
        }
    )
    return JSONResponse(shown.model_dump(mode="json"))
