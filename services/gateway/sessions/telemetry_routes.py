"""Routes for a robot and its cameras: send frames and joints to a session, read the server's clock."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Request, Response

from contracts.errors import ErrorCode, SaccadeError
from contracts.telemetry import (
    FRAME_CAPTURED,
    FRAME_CLOCK_OFFSET,
    FRAME_SEQ,
    FRAME_SOURCE,
    SEQ_END,
    TIME_END_S,
    FrameAck,
    JointBatch,
    Name,
)
from kit.auth.principal import Reader, Writer
from kit.http.openapi import whole_schema
from kit.http.path_ids import SessionId
from kit.http.problems import problem_responses
from services.gateway.aggregates.prefer_header import PreferHeader, apply_wait
from services.gateway.sessions.dependencies import SessionIngestDep, SessionServiceDep
from services.gateway.telemetry.frame_body import read_frame
from services.gateway.telemetry.joint_check import read_joints
from services.gateway.telemetry.publisher import FrameHeader
from services.gateway.telemetry.schemas import FrameReceived, JointsReceived, ServerTime

router = APIRouter(tags=["sessions"])

_E = ErrorCode
_FORM_FIELDS: Final = frozenset({"file"})
_PICTURE: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}
_FRAME_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "image/jpeg": _PICTURE,
            "image/png": _PICTURE,
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": {"file": _PICTURE["schema"]}}
            },
        },
    }
}
_JOINTS_BODY: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": whole_schema(JointBatch)}}}
}


@router.post(
    "/v1/sessions/{session_id}/frames",
    status_code=202,
    summary="Send one frame",
    responses={
        200: {"model": FrameAck, "description": "With `Prefer: wait=N`: the worker's acknowledgement of the frame."},
        **problem_responses(
            _E.SESSION_NOT_FOUND, _E.SESSION_ENDED, _E.FRAME_EMPTY, _E.FRAME_TOO_LARGE, _E.FRAME_UNREADABLE
        ),
    },
    openapi_extra=_FRAME_BODY,
)
async def send_frame(
    request: Request,
    response: Response,
    caller: Writer,
    session_id: SessionId,
    *,
    sessions: SessionServiceDep,
    ingest: SessionIngestDep,
    seq: Annotated[
        int | None,
        Header(
            alias=f"X-{FRAME_SEQ}",
            ge=0,
            lt=SEQ_END,
            description="Sequence number; else the gateway assigns one.",
        ),
    ] = None,
    captured_at_s: Annotated[
        float | None,
        Header(
            alias=f"X-{FRAME_CAPTURED}",
            gt=0,
            lt=TIME_END_S,
            allow_inf_nan=False,
            description="Unix seconds of your clock; else the time of arrival.",
        ),
    ] = None,
    clock_offset_s: Annotated[
        float | None,
        Header(
            alias=f"X-{FRAME_CLOCK_OFFSET}",
            gt=-TIME_END_S,
            lt=TIME_END_S,
            allow_inf_nan=False,
            description="Server's clock minus yours, in seconds, if known.",
        ),
    ] = None,
    source: Annotated[Name, Header(alias=f"X-{FRAME_SOURCE}", description="Name of the camera.")] = "camera",
    prefer: PreferHeader = None,
) -> FrameReceived | FrameAck:
    """Accept a JPEG or PNG picture, as the body or as a form's `file`, and pass it to the session's worker."""
    session = await sessions.get_accepting_input(caller.tenant, session_id)
    header = FrameHeader(seq=seq, captured_at_s=captured_at_s, clock_offset_s=clock_offset_s, source=source)
    try:
        picture = await read_frame(request, _FORM_FIELDS)
    except SaccadeError as error:
        if error.code is _E.FRAME_TOO_LARGE:
            await ingest.reject_frame(session, header, error)
        raise
    if wait_s := apply_wait(prefer, response):
        header, ack = await ingest.send_frame_and_wait(session, header, picture, wait_s)
        if ack is not None:
            response.status_code = 200
            return ack
    else:
        header = await ingest.send_frame(session, header, picture)
    return FrameReceived(source=header.source, seq=header.seq or 0)


@router.post(
    "/v1/sessions/{session_id}/joints",
    status_code=202,
    summary="Send joint positions",
    responses=problem_responses(_E.SESSION_NOT_FOUND, _E.SESSION_ENDED, _E.JOINTS_INVALID),
    openapi_extra=_JOINTS_BODY,
)
async def send_joints(
    request: Request, caller: Writer, session_id: SessionId, sessions: SessionServiceDep, ingest: SessionIngestDep
) -> JointsReceived:
    """Accept a batch of samples, oldest first; `warnings` lists implausible values among them."""
    session = await sessions.get_accepting_input(caller.tenant, session_id)
    batch = read_joints(await request.body())
    return JointsReceived(received=len(batch.samples), warnings=await ingest.send_joints(session, batch))


@router.get("/v1/clock", summary="The server's time", responses=problem_responses())
async def read_clock(response: Response, _: Reader) -> ServerTime:
    """Return the time; its error is at most half of the request's round-trip time."""
    response.headers["Cache-Control"] = "no-store"
    return ServerTime(time_s=time.time())
