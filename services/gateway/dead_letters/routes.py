"""Routes of dead letters, for operators: list, read, re-drive, discard; one letter, or all that match by a plan."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import id_pattern
from contracts.limits import PAGE_DEFAULT, PAGE_MAX
from kit.auth.principal import Operator, tenants_of
from kit.bus.idempotency import IdempotencyHeader, key_of
from kit.http.app_state import from_app_state
from kit.http.attribution import attribution_of
from kit.http.problems import problem_responses
from services.gateway.dead_letters.index import DeadLetterIndex
from services.gateway.dead_letters.letter import LETTER_ID_PATTERN, Kind, Letter, LetterState
from services.gateway.dead_letters.plan import Plan, PlanAction
from services.gateway.dead_letters.schemas import (
    ActDone,
    ActRecord,
    BulkAct,
    FullLetterObject,
    GroupObject,
    LetterObject,
    LetterPage,
    LetterTrial,
    PlanObject,
    SingleAct,
    TenantName,
)
from services.gateway.dead_letters.selection import LetterFilter, counts_by_kind, groups
from services.gateway.dead_letters.service import AllDeadLetters, ChosenLetters, FullLetter, WantedPlan
from services.gateway.jobs.schemas import Moment

router = APIRouter(prefix="/v1/dead-letters", tags=["operators"])
plan_router = APIRouter(prefix="/v1/dead-letter-plans", tags=["operators"])

_E = ErrorCode
AllDeadLettersDep = Annotated[AllDeadLetters, from_app_state("dead_letters")]
LetterId = Annotated[str, Path(json_schema_extra={"pattern": LETTER_ID_PATTERN}, examples=["17"])]
PlanId = Annotated[
    str,
    Path(json_schema_extra={"pattern": id_pattern("dlp")}, examples=["dlp_0198c0de-0000-7000-8000-000000000001"]),
]
_CURSOR: Final = r"^letters-[0-9]{1,18}-[A-Za-z0-9_:-]{1,120}$"
_Text = Annotated[str | None, Query(max_length=500)]
_ACT_ERRORS: Final = problem_responses(
    _E.DEAD_LETTER_NOT_FOUND,
    _E.DEAD_LETTER_SETTLED,
    _E.DEAD_LETTER_NOT_REDRIVABLE,
    _E.JOB_NOT_RETRYABLE,
    _E.WEBHOOK_DISABLED,
    _E.SERVICE_UNAVAILABLE,
)
_BULK_ERRORS: Final = problem_responses(_E.DEAD_LETTERS_CHANGED, _E.IDEMPOTENCY_KEY_INVALID, _E.IDEMPOTENCY_KEY_REUSED)
_TRIAL: Final[Any] = {200: {"model": LetterTrial, "description": "Answer of a dry run."}}


@router.get("", summary="List dead letters, newest first", responses=problem_responses(_E.CURSOR_INVALID))
async def list_dead_letters(
    caller: Operator,
    letters: AllDeadLettersDep,
    *,
    tenant: Annotated[TenantName | None, Query()] = None,
    kind: Kind | None = None,
    service: _Text = None,
    type: _Text = None,  # noqa: A002 - the parameter's name in the URL
    subject: _Text = None,
    error: Annotated[str | None, Query(max_length=500, description="Part of the error, in any case.")] = None,
    group: Annotated[str | None, Query(max_length=64, description="Id of a group of errors.")] = None,
    since: Annotated[Moment | None, Query(description="Only letters of this time or later.")] = None,
    until: Annotated[Moment | None, Query(description="Only letters before this time.")] = None,
    state: Annotated[LetterState | None, Query(description="Of which state. [default: open]")] = None,
    every_state: Annotated[bool, Query(description="Of any state, also those that were settled.")] = False,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    cursor: Annotated[str | None, Query(json_schema_extra={"pattern": _CURSOR})] = None,
) -> LetterPage:
    """Return events that no handler could process, deliveries that were given up, and failed jobs.

    The list is folded from the streams: it needs neither the view of this gateway nor any other service.
    """
    wanted = LetterFilter(
        tenant=tenants_of(caller, tenant),
        kind=kind,
        service=service,
        type=type,
        subject=subject,
        error=error,
        group=group,
        since=since,
        until=until,
        state=None if every_state else state or LetterState.OPEN,
    )
    choice = await letters.choose(wanted)
    found = choice.letters
    if cursor is not None:
        before = _position(cursor)
        found = [letter for letter in found if letter.place < before]
    page = found[:limit]
    return LetterPage(
        data=[LetterObject(**_shown(letter, choice.index)) for letter in page],
        next_cursor="letters-{}-{}".format(*page[-1].place) if len(found) > limit else None,
        count=len(choice.letters),
        by_kind=counts_by_kind(choice.letters),
        groups=_groups(choice.letters),
    )


@plan_router.post(
    "",
    status_code=202,
    response_model=PlanObject,
    summary="Act on all letters that match",
    responses={**_TRIAL, **_BULK_ERRORS},
)
async def create_plan(
    request: Request,
    caller: Operator,
    body: BulkAct,
    letters: AllDeadLettersDep,
    idempotency_key: IdempotencyHeader = None,
) -> PlanObject | JSONResponse:
    """Freeze the list of letters, and handle each again, or discard it, once, oldest first.

    Ask with `dry_run` first, and send the count: if it differs by then, nothing is done. The same request sent twice
    with the same Idempotency-Key makes one plan. `GET /v1/dead-letter-plans/{id}` follows it.
    """
    chosen = body.model_dump(exclude={"action", "why", "expected_count", "dry_run", "tenant"})
    wanted = LetterFilter(tenant=tenants_of(caller, body.tenant), **chosen)
    if body.dry_run or body.expected_count is None:
        return _trial(body.action, await letters.choose(wanted), letters)
    about = {"filter": body.model_dump(mode="json", include=set(chosen) | {"tenant"}, exclude_none=True)}
    attribution = attribution_of(request, caller, body.why)
    key = key_of(caller.tenant, "POST /v1/dead-letter-plans", idempotency_key, body)
    plan = WantedPlan(wanted, body.action, body.expected_count, attribution, about, key)
    return _plan(await letters.plan(plan))


@plan_router.get(
    "/{plan_id}", summary="Follow an act on many letters", responses=problem_responses(_E.DEAD_LETTER_PLAN_NOT_FOUND)
)
async def read_plan(caller: Operator, plan_id: PlanId, letters: AllDeadLettersDep) -> PlanObject:
    """Return how far it is."""
    return _plan(await letters.read_plan(tenants_of(caller), plan_id))


@router.get("/{letter_id}", summary="Read a dead letter", responses=problem_responses(_E.DEAD_LETTER_NOT_FOUND))
async def read_dead_letter(caller: Operator, letter_id: LetterId, letters: AllDeadLettersDep) -> FullLetterObject:
    """Return a letter with its event, the error, what was tried, and whether a re-drive went well."""
    return _full(await letters.read(tenants_of(caller), letter_id), letters.reader.index)


@router.post("/{letter_id}/redrive", summary="Handle a dead letter again", responses=_ACT_ERRORS)
async def redrive_one(
    request: Request, caller: Operator, letter_id: LetterId, body: SingleAct, letters: AllDeadLettersDep
) -> ActDone:
    """Handle an event again, deliver again, or retry a job. If that fails, the letter is back, one attempt more."""
    record = await letters.act(tenants_of(caller), "redrive", letter_id, attribution_of(request, caller, body.why))
    return ActDone(id=letter_id, record=record)


@router.post("/{letter_id}/discard", summary="Set a dead letter aside", responses=_ACT_ERRORS)
async def discard_one(
    request: Request, caller: Operator, letter_id: LetterId, body: SingleAct, letters: AllDeadLettersDep
) -> ActDone:
    """Hide a letter from the list; nothing is deleted. A further fault of the same thing is listed again."""
    record = await letters.act(tenants_of(caller), "discard", letter_id, attribution_of(request, caller, body.why))
    return ActDone(id=letter_id, record=record)


def _trial(action: PlanAction, choice: ChosenLetters, letters: AllDeadLetters) -> JSONResponse:
    chosen = letters.chosen(choice, action)
    trial = LetterTrial(
        action=action,
        count=len(chosen),
        by_kind=counts_by_kind(chosen),
        groups=_groups(chosen),
        left_out=len(choice.letters) - len(chosen),
    )
    return JSONResponse(trial.model_dump(mode="json"))


def _position(cursor: str) -> tuple[int, str]:
    if not re.fullmatch(_CURSOR, cursor):
        raise SaccadeError(ErrorCode.CURSOR_INVALID)
    _, time_us, letter_id = cursor.split("-", 2)
    return int(time_us), letter_id


def _shown(letter: Letter, index: DeadLetterIndex) -> dict[str, Any]:
    return {
        "id": letter.id,
        "kind": letter.kind,
        "state": index.state(letter),
        "tenant": letter.tenant,
        "service": letter.service,
        "type": letter.type,
        "subject": letter.subject,
        "time": letter.time,
        "error": letter.error,
        "group": letter.group_id,
        "attempt": index.attempt(letter),
        "redrive": letter.action,
        "details": letter.details,
    }


def _full(full: FullLetter, index: DeadLetterIndex) -> FullLetterObject:
    event = None if full.event is None else _event(full.event)
    envelope = event if isinstance(event, dict) else {}
    return FullLetterObject(
        **_shown(full.letter, index),
        verified=full.verified,
        event=event,
        made_by=str(envelope["source"]) if "source" in envelope else None,
        version=str(envelope["dataschema"]) if "dataschema" in envelope else None,
        acts=[
            ActRecord(
                record=record.sequence,
                time=record.time,
                verb=record.verb,
                by=record.data.by,
                by_verified=record.data.by_verified,
                why=record.data.why,
                request_id=record.data.request_id,
                details=record.data.details,
            )
            for record in full.acts
        ],
    )


def _event(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _groups(letters: Any) -> list[GroupObject]:
    return [GroupObject.model_validate(group, from_attributes=True) for group in groups(letters)]


def _plan(plan: Plan) -> PlanObject:
    abandoned = any(outcome.verb.endswith("_abandoned") for outcome in plan.outcomes.values())
    return PlanObject(
        id=plan.id,
        tenant=plan.tenant,
        action=plan.action,
        count=plan.count,
        state="abandoned" if abandoned else "ended" if plan.ended else "running",
        done=plan.total("done"),
        failed=plan.total("failed"),
        skipped=plan.total("skipped"),
        failures=plan.failures,
        by=plan.by,
        why=plan.why,
        request_id=plan.request_id,
        began_at=plan.began_at,
    )
