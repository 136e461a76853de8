"""Routes of live sessions: open, list, read, stop, reset."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from contracts.errors import ErrorCode
from contracts.limits import PAGE_DEFAULT, PAGE_MAX
from contracts.session import SessionState
from kit.auth.principal import Reader, Writer
from kit.bus.idempotency import IdempotencyHeader, key_of
from kit.http.path_ids import SessionId
from kit.http.problems import problem_responses
from services.gateway.aggregates.early_reads import EarlyReadsDep
from services.gateway.aggregates.page_cursor import SESSIONS, is_past_cursor, page_cursor_query
from services.gateway.aggregates.prefer_header import PreferHeader, apply_wait
from services.gateway.aggregates.view_gap import IncompleteQuery
from services.gateway.jobs.check_schemas import JobCheck
from services.gateway.jobs.dependencies import JobCheckPresenterDep
from services.gateway.jobs.submission import JobRequest
from services.gateway.sessions.dependencies import (
    EarlySessionsDep,
    PastSessionsDep,
    SessionPresenterDep,
    SessionServiceDep,
)
from services.gateway.sessions.schemas import NewSession, SessionObject, SessionPage
from services.gateway.sessions.service import SessionRequest
from services.gateway.time_machine.cached_answer import UNCHANGED, IfNoneMatch, cached_answer
from services.gateway.time_machine.points import PAST_ERRORS, AtQuery

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])

_E = ErrorCode


@router.post(
    "",
    status_code=201,
    response_model=SessionObject,
    summary="Open a session",
    responses={
        200: {"model": JobCheck, "description": "Answer of a dry run."},
        201: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **problem_responses(
            _E.UNKNOWN_WORKLOAD,
            _E.UNKNOWN_PARAMETER,
            _E.INVALID_PARAMETER,
            _E.BACKEND_NOT_INSTALLED,
            _E.SESSION_NOT_FOUND,
            _E.SESSION_RECORD_EXPIRED,
            _E.SESSIONS_NOT_CONFIGURED,
            _E.BUDGET_EXCEEDED,
            _E.QUOTA_EXCEEDED,
            _E.IDEMPOTENCY_KEY_INVALID,
            _E.IDEMPOTENCY_KEY_REUSED,
        ),
    },
)
async def open_session(
    response: Response,
    caller: Writer,
    body: NewSession,
    *,
    sessions: SessionServiceDep,
    presenter: SessionPresenterDep,
    checks: JobCheckPresenterDep,
    idempotency_key: IdempotencyHeader = None,
    dry_run: Annotated[
        bool, Query(description="Validate as an opening does, with the same errors, and estimate; store nothing.")
    ] = False,
) -> SessionObject | JSONResponse:
    """Validate the request, store the session and start its worker. Frames can be sent at once; they are queued.

    With `dry_run`, the answer is the error that the opening would have, or 200 with what its worker would cost.
    """
    session_request = SessionRequest(**{name: getattr(body, name) for name in NewSession.model_fields})
    key = key_of(caller.tenant, "POST /v1/sessions", idempotency_key, body)
    if dry_run:
        wanted = JobRequest(body.workload, {}, body.params, max_cost_usd=body.max_cost_usd)
        checked = await checks.present(wanted, await sessions.check(caller.tenant, session_request))
        return JSONResponse(checked.model_dump(mode="json"))
    session = await sessions.open(caller.tenant, session_request, key)
    response.headers["Location"] = f"/v1/sessions/{session.id}"
    response.headers["Cache-Control"] = "no-store"
    return await presenter.full(session, from_start=True)


@router.get(
    "",
    response_model=SessionPage,
    summary="List sessions, newest first",
    responses={**UNCHANGED, **problem_responses(_E.CURSOR_INVALID, _E.POINT_IN_FUTURE, _E.POINT_UNKNOWN)},
)
async def list_sessions(
    caller: Reader,
    sessions: SessionServiceDep,
    presenter: SessionPresenterDep,
    past: PastSessionsDep,
    early: EarlyReadsDep,
    *,
    state: Annotated[list[SessionState] | None, Query(description="May be repeated.")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    cursor: Annotated[str | None, page_cursor_query(SESSIONS, past=True)] = None,
    at: AtQuery = None,
    incomplete: IncompleteQuery = False,
    if_none_match: IfNoneMatch = None,
) -> SessionPage | Response:
    """Return a page; sessions that are opened in the meantime do not shift the pages.

    With `at`, the list as it was then: the sessions that existed, each as it was, filtered by what it was. Its pages
    are all of the same point, and one may hold fewer sessions than `limit` although `next_cursor` is set.
    """
    is_past = at is not None or is_past_cursor(SESSIONS, cursor)
    missing = await early.missing(caller.tenant, allowed=incomplete and not is_past)
    if is_past:
        point = await past.points.point("at", at) if at is not None else None
        page = await past.page(caller.tenant, tuple(map(str, state or ())), point, cursor, limit)
        return cached_answer(page, (point,) if point else (), if_none_match)
    found, next_cursor = sessions.page(caller.tenant, tuple(map(str, state or ())), cursor=cursor, limit=limit)
    data = [presenter.known(session) for session in found]
    return SessionPage(data=data, next_cursor=next_cursor, incomplete=missing)


@router.get(
    "/{session_id}",
    response_model=SessionObject,
    summary="Read a session",
    responses={**UNCHANGED, **problem_responses(_E.SESSION_NOT_FOUND, *PAST_ERRORS)},
)
async def read_session(
    response: Response,
    caller: Reader,
    session_id: SessionId,
    *,
    sessions: SessionServiceDep,
    presenter: SessionPresenterDep,
    past: PastSessionsDep,
    early: EarlySessionsDep,
    at: AtQuery = None,
    prefer: PreferHeader = None,
    if_none_match: IfNoneMatch = None,
) -> SessionObject | Response:
    """Return the session; with `Prefer: wait=N`, when it has ended or after N seconds.

    With `at`, the session as it was then, and `as_of` says when that was. What workers report live is not kept: frames
    are those up to the newest exported chunk.
    """
    if at is not None:
        point = await past.points.point("at", at)
        return cached_answer(await past.read(caller.tenant, session_id, point), (point,), if_none_match)
    wait_s: float = apply_wait(prefer, response)
    found, wait_s = await early.read(caller.tenant, session_id, wait_s)
    if found is not None:
        return found
    return await presenter.full(await sessions.read(caller.tenant, session_id, wait_s))


@router.post("/{session_id}/stop", summary="End a session", responses=problem_responses(_E.SESSION_NOT_FOUND))
async def stop_session(
    response: Response,
    caller: Writer,
    session_id: SessionId,
    *,
    sessions: SessionServiceDep,
    presenter: SessionPresenterDep,
    prefer: PreferHeader = None,
) -> SessionObject:
    """Request the end durably: the worker exports the last chunk and the complete model. Idempotent."""
    session = await sessions.stop(caller.tenant, session_id)
    if wait_s := apply_wait(prefer, response):
        session = await sessions.get(caller.tenant, session_id, wait_s)
    return await presenter.full(session)


@router.post(
    "/{session_id}/reset",
    summary="Restart a session's model from the beginning",
    responses=problem_responses(_E.SESSION_NOT_FOUND, _E.SESSION_ENDED),
)
async def reset_session(
    caller: Writer, session_id: SessionId, sessions: SessionServiceDep, presenter: SessionPresenterDep
) -> SessionObject:
    """Make the worker discard its model and frames; exported chunks are kept."""
    return await presenter.full(await sessions.reset(caller.tenant, session_id))
