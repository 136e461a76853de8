"""``GET /v1/sessions/{id}/telemetry``: all that is kept of what was streamed into a session."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from contracts.errors import ErrorCode
from kit.auth.principal import Reader
from kit.http.problems import problem_responses
from services.gateway.dependencies import gateway_of
from services.gateway.telemetry.record import MEDIA_TYPE, open_record

router = APIRouter(tags=["sessions"])

_E = ErrorCode


@router.get(
    "/v1/sessions/{session_id}/telemetry",
    response_class=Response,
    summary="What was streamed into a session",
    responses={
        200: {
            "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
            "description": "Parts, each four bytes of length, so much JSON, and the payload whose `bytes` it tells.",
        },
        **problem_responses(_E.SESSION_NOT_FOUND, _E.SESSION_NOT_STARTED, _E.SESSION_RECORD_EXPIRED),
    },
)
async def fetch_record(
    request: Request,
    caller: Reader,
    session_id: str,
    after: Annotated[int, Query(ge=0, lt=1 << 63, description="Go on after this `sequence`.")] = 0,
) -> Response:
    """Give joints, frames and verdicts, in the order in which they were stored, as of now."""
    gateway = gateway_of(request)
    session = await gateway.sessions.get(caller.tenant, session_id)
    told = await gateway.live.of(session)
    record = await open_record(gateway.tail.store.client, session, told.totals.sent)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(record.body(after), media_type=MEDIA_TYPE, headers=headers)
