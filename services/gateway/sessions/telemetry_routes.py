"""Routes that take what a robot and its camera send into a live session, and tell it the time."""

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
    Finite,
    FrameAck,
    JointBatch,
    Name,
    TimeS,
)
from kit.auth.principal import Reader, Writer
from kit.http.openapi import whole_schema
from kit.http.problems import problem_responses
from services.gateway.aggregates.prefer_header import PreferHeader, wait_of
from services.gateway.dependencies import gateway_of
from services.gateway.sessions.schemas import FrameReceived, JointsReceived, ServerTime
from services.gateway.telemetry.frame_body import read_frame
from services.gateway.telemetry.joint_check import read_joints
from services.gateway.telemetry.publisher import FrameHeader

router = APIRouter(tags=["sessions"])

_E = ErrorCode
_FIELDS: Final = frozenset({"file"})
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
        200: {"model": FrameAck, "description": "With `Prefer: wait=N`: what became of the frame."},
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
    session_id: str,
    *,
    seq: Annotated[
        int | None,
        Header(alias=f"X-{FRAME_SEQ}", ge=0, lt=1 << 53, description="Its number; else the gateway counts."),
    ] = None,
    captured_at_s: Annotated[
        TimeS | None,
        Header(alias=f"X-{FRAME_CAPTURED}", description="Unix seconds of your clock; else the time of its arrival."),
    ] = None,
    clock_offset_s: Annotated[
        Finite | None,
        Header(alias=f"X-{FRAME_CLOCK_OFFSET}", description="Server's clock minus yours, in seconds, if you know it."),
    ] = None,
    source: Annotated[Name, Header(alias=f"X-{FRAME_SOURCE}", description="Which camera.")] = "camera",
    prefer: PreferHeader = None,
) -> FrameReceived | FrameAck:
    """Take a JPEG or PNG picture, as the body or as a form's `file`, and pass it on to the session's worker."""
    gateway = gateway_of(request)
    session = await gateway.sessions.taking(caller.tenant, session_id)
    head = FrameHeader(seq=seq, captured_at_s=captured_at_s, clock_offset_s=clock_offset_s, source=source)
    try:
        picture = await read_frame(request, _FIELDS)
    except SaccadeError as error:
        if error.code is _E.FRAME_TOO_LARGE:
            await gateway.door.refuse(session, head, error)
        raise
    if wait_s := wait_of(prefer, response):
        head, ack = await gateway.door.frame_and_verdict(session, head, picture, wait_s)
        if ack is not None:
            response.status_code = 200
            return ack
    else:
        head = await gateway.door.frame(session, head, picture)
    return FrameReceived(source=head.source, seq=head.seq or 0)


@router.post(
    "/v1/sessions/{session_id}/joints",
    status_code=202,
    summary="Send joint positions",
    responses=problem_responses(_E.SESSION_NOT_FOUND, _E.SESSION_ENDED, _E.JOINTS_INVALID),
    openapi_extra=_JOINTS_BODY,
)
async def send_joints(request: Request, caller: Writer, session_id: str) -> JointsReceived:
    """Take a batch of samples, oldest first; `warnings` says what looks wrong with those that were taken."""
    gateway = gateway_of(request)
    session = await gateway.sessions.taking(caller.tenant, session_id)
    batch = read_joints(await request.body())
    return JointsReceived(received=len(batch.samples), warnings=await gateway.door.joints(session, batch))


@router.get("/v1/clock", summary="The server's time", responses=problem_responses())
async def read_clock(response: Response, _: Reader) -> ServerTime:
    """Tell the time: half of what the question took is how far the answer may be off."""
    response.headers["Cache-Control"] = "no-store"
    return ServerTime(time_s=time.time())
