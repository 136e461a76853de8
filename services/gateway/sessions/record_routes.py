"""``GET /v1/sessions/{id}/telemetry`` and ``/frame``: the stored inputs of a session, and its newest frame."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from contracts.errors import ErrorCode
from kit.auth.principal import Reader
from kit.http.path_ids import SessionId
from kit.http.problems import problem_responses
from services.gateway.sessions.dependencies import SessionServiceDep
from services.gateway.telemetry.record import MEDIA_TYPE

router = APIRouter(tags=["sessions"])

_E = ErrorCode


@router.get(
    "/v1/sessions/{session_id}/telemetry",
    response_class=Response,
    summary="Recorded inputs of a session",
    responses={
        200: {
            "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
            "description": "Parts: four bytes of length, a JSON object of that length, a payload of its `bytes`.",
        },
        **problem_responses(_E.SESSION_NOT_FOUND, _E.SESSION_NOT_STARTED, _E.SESSION_RECORD_EXPIRED),
    },
)
async def fetch_record(
    caller: Reader,
    session_id: SessionId,
    sessions: SessionServiceDep,
    after: Annotated[int, Query(ge=0, lt=1 << 63, description="Resume after this `sequence`.")] = 0,
) -> Response:
    """Return joints, frames and acknowledgements in the order in which they were stored, up to now."""
    record = await sessions.record(await sessions.get(caller.tenant, session_id))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(record.body(after), media_type=MEDIA_TYPE, headers=headers)


@router.get(
    "/v1/sessions/{session_id}/frame",
    response_class=Response,
    summary="The newest frame",
    responses={
        200: {
            "content": {
                media_type: {"schema": {"type": "string", "format": "binary"}}
                for media_type in ("image/jpeg", "image/png")
            },
            "description": "A picture.",
        },
        **problem_responses(_E.SESSION_NOT_FOUND, _E.SESSION_NOT_STARTED, _E.BUS_UNAVAILABLE),
    },
)
async def fetch_frame(caller: Reader, session_id: SessionId, sessions: SessionServiceDep) -> Response:
    """Return the newest stored frame as it was sent: JPEG or PNG; frames are stored for 6 hours."""
    body, media_type = await sessions.newest_frame(await sessions.get(caller.tenant, session_id))
    return Response(
        body, media_type=media_type, headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    )
