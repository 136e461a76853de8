"""Routes of live sessions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from contracts.errors import ErrorCode
from contracts.limits import PAGE_DEFAULT, PAGE_MAX
from contracts.session import Session, SessionState, job_id_of_session
from kit.auth.principal import Reader, Writer
from kit.bus.idempotency import IdempotencyHeader, key_of
from kit.http.problems import problem_responses
from services.gateway.aggregates.prefer_header import PreferHeader, wait_of
from services.gateway.dependencies import gateway_of
from services.gateway.sessions.schemas import NewSession, SessionObject, SessionPage, shown
from services.gateway.sessions.service import SessionRequest

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])

_E = ErrorCode


async def _shown(request: Request, session: Session, *, from_start: bool = False) -> SessionObject:
    gateway = gateway_of(request)
    job = await gateway.jobs.find(session.tenant, job_id_of_session(session.id))
    nats = gateway.ingest.of(session, with_credentials=from_start)
    return shown(session, job, await gateway.live.of(session), gateway.tail.epoch, nats, from_start=from_start)


def _listed(request: Request, session: Session) -> SessionObject:
    """Write a session of a list as it is known here, without a question to the bus for each."""
    gateway = gateway_of(request)
    job = gateway.view.job(job_id_of_session(session.id))
    return shown(session, job, gateway.live.known(session), gateway.tail.epoch, gateway.ingest.of(session))


@router.post(
    "",
    status_code=201,
    summary="Open a session",
    responses={
        201: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **problem_responses(
            _E.UNKNOWN_WORKLOAD,
            _E.UNKNOWN_PARAMETER,
            _E.INVALID_PARAMETER,
            _E.BACKEND_NOT_INSTALLED,
            _E.SESSION_NOT_FOUND,
            _E.SESSION_RECORD_EXPIRED,
            _E.SESSIONS_NOT_CONFIGURED,
            _E.IDEMPOTENCY_KEY_INVALID,
            _E.IDEMPOTENCY_KEY_REUSED,
        ),
    },
)
async def open_session(
    request: Request, response: Response, caller: Writer, body: NewSession, idempotency_key: IdempotencyHeader = None
) -> SessionObject:
    """Check the request, store the session and have its worker started. Frames may be sent at once; they wait."""
    gateway = gateway_of(request)
    wanted = SessionRequest(**{name: getattr(body, name) for name in NewSession.model_fields})
    key = key_of(caller.tenant, "POST /v1/sessions", idempotency_key, body)
    session = await gateway.sessions.open(caller.tenant, wanted, key)
    response.headers["Location"] = f"/v1/sessions/{session.id}"
    response.headers["Cache-Control"] = "no-store"
    return await _shown(request, session, from_start=True)


@router.get("", summary="List sessions, newest first", responses=problem_responses(_E.CURSOR_INVALID))
async def list_sessions(
    request: Request,
    caller: Reader,
    *,
    state: Annotated[list[SessionState] | None, Query(description="May be repeated.")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")] = None,
) -> SessionPage:
    """Give a page; sessions that are opened meanwhile do not move the pages."""
    sessions = gateway_of(request).sessions
    found, following = sessions.page(caller.tenant, tuple(map(str, state or ())), cursor=cursor, limit=limit)
    return SessionPage(data=[_listed(request, one) for one in found], next_cursor=following)


@router.get("/{session_id}", summary="Read a session", responses=problem_responses(_E.SESSION_NOT_FOUND))
async def read_session(
    request: Request, response: Response, caller: Reader, session_id: str, prefer: PreferHeader = None
) -> SessionObject:
    """Give the session as it is now, or as it is when it has ended."""
    sessions = gateway_of(request).sessions
    return await _shown(request, await sessions.read(caller.tenant, session_id, wait_of(prefer, response)))


@router.post("/{session_id}/stop", summary="End a session", responses=problem_responses(_E.SESSION_NOT_FOUND))
async def stop_session(
    request: Request, response: Response, caller: Writer, session_id: str, prefer: PreferHeader = None
) -> SessionObject:
    """Ask durably for the end: the worker leaves its last chunk and the whole model. May be repeated."""
    sessions = gateway_of(request).sessions
    session = await sessions.stop(caller.tenant, session_id)
    if wait_s := wait_of(prefer, response):
        session = await sessions.get(caller.tenant, session_id, wait_s)
    return await _shown(request, session)


@router.post(
    "/{session_id}/reset",
    summary="Begin a session anew",
    responses=problem_responses(_E.SESSION_NOT_FOUND, _E.SESSION_ENDED),
)
async def reset_session(request: Request, caller: Writer, session_id: str) -> SessionObject:
    """Have the worker forget what it has seen; chunks that were exported stay."""
    return await _shown(request, await gateway_of(request).sessions.reset(caller.tenant, session_id))
