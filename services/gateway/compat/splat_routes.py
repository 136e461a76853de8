"""Paths, fields and meaning of the splat server that this one replaces, on one default session a tenant.

Its clients send frames and joint angles without a session, a time or a number, and pair a frame with the angles that
came last. So it is here: each frame is stamped with the moment of its arrival, together with the angles of before.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import CHUNK_FRAMES, WAIT_S
from contracts.session import Session, SessionState
from kit.auth.api_keys import LOCAL_TENANT
from kit.auth.principal import Reader, Writer
from kit.http.health import HealthReport
from kit.http.problems import problem_responses
from services.gateway.dependencies import gateway_of
from services.gateway.sessions.ply_routes import ply_of
from services.gateway.telemetry.frame_body import read_frame
from services.gateway.telemetry.publisher import FrameHeader

router = APIRouter(tags=["replaced"])

_E = ErrorCode
_FIELDS: Final = frozenset({"file", "frame"})
_JOINTS: Final = 6
_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


class FrameUploaded(BaseModel):
    """A frame was taken."""

    success: bool = True
    frame_count: int
    chunks_uploaded: int


class JointAngles(BaseModel):
    """Angles of the six joints, radians."""

    model_config = ConfigDict(extra="ignore")

    joint_angles: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(min_length=_JOINTS, max_length=_JOINTS)


class JointsUpdated(BaseModel):
    """Angles were taken."""

    success: bool = True
    joint_angles: list[float]


class TrainingStatus(BaseModel):
    """How the default session is."""

    status: str
    trainer_ready: bool
    frame_count: int
    gaussian_count: int
    progress: float = Field(description="How far the frames to the next chunk are, 0 to 1.")
    chunks: int
    chunks_uploaded: int
    session_id: str | None


class TrainingStopped(BaseModel):
    """The default session has been stopped."""

    success: bool = True
    chunks: int
    complete: bool


class Done(BaseModel):
    """It was done."""

    success: bool = True


class GatewayHealth(HealthReport):
    """How the gateway is, and whether frames may be sent to the default session."""

    trainer_ready: bool


def _chunks(session: Session | None) -> int:
    if session is None:
        return 0
    return session.stopped.chunks if session.stopped else session.chunk.chunk if session.chunk else 0


def _ready(session: Session | None) -> bool:
    """Tell whether frames may be sent: where there is no session, the first one opens it."""
    return session is None or session.state in (SessionState.READY, SessionState.RUNNING)


def trainer_ready(request: Request) -> bool:
    """Tell whoever asks for the service's health whether its default session takes frames."""
    gateway = gateway_of(request)
    try:
        tenant = gateway.authenticator.authenticate(request.headers).tenant
    except SaccadeError:
        tenant = LOCAL_TENANT
    return _ready(gateway.default_sessions.current(tenant))


@router.post(
    "/upload-frame",
    summary="Send a frame to the default session",
    responses=problem_responses(_E.FRAME_EMPTY, _E.FRAME_TOO_LARGE, _E.FRAME_UNREADABLE),
    openapi_extra=_FORM,
)
async def upload_frame(request: Request, caller: Writer) -> FrameUploaded:
    """Take a picture as the form's `file` or `frame`; the first one opens the session."""
    gateway = gateway_of(request)
    default = gateway.default_sessions
    session = await default.open(caller.tenant)
    try:
        picture = await read_frame(request, _FIELDS)
    except SaccadeError as error:
        if error.code is _E.FRAME_TOO_LARGE:
            await gateway.door.refuse(session, FrameHeader(), error)
        raise
    return FrameUploaded(frame_count=await default.frame(session, picture), chunks_uploaded=_chunks(session))


@router.post(
    "/update-joint-angles", summary="Tell the joints' angles to the default session", responses=problem_responses()
)
async def update_joint_angles(request: Request, caller: Writer, body: JointAngles) -> JointsUpdated:
    """Take the angles that the frames from now on belong to; until the first they are zeros."""
    default = gateway_of(request).default_sessions
    await default.turn(await default.open(caller.tenant), body.joint_angles)
    return JointsUpdated(joint_angles=body.joint_angles)


@router.get("/status", summary="How the default session is", responses=problem_responses())
async def read_status(request: Request, caller: Reader) -> TrainingStatus:
    """Give counts of frames, splats and chunks."""
    gateway = gateway_of(request)
    session = gateway.default_sessions.newest(caller.tenant)
    if session is None:
        return TrainingStatus(
            status="idle", trainer_ready=True, frame_count=0, gaussian_count=0, progress=0.0, chunks=0,
            chunks_uploaded=0, session_id=None,
        )  # fmt: skip
    told = await gateway.live.of(session)
    figures = told.progress.figures if told.progress else session.chunk.figures if session.chunk else {}
    splats = figures.get("splats")
    return TrainingStatus(
        status=str(session.state),
        trainer_ready=_ready(session),
        frame_count=await gateway.default_sessions.frame_count(session),
        gaussian_count=splats if isinstance(splats, int) else 0,
        progress=round(told.totals.accepted % CHUNK_FRAMES / CHUNK_FRAMES, 4),
        chunks=_chunks(session),
        chunks_uploaded=_chunks(session),
        session_id=session.id,
    )


@router.get(
    "/get-ply",
    response_class=Response,
    summary="The newest model of the default session",
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        **problem_responses(_E.SESSION_NOT_STARTED, _E.STORAGE_UNAVAILABLE),
    },
)
async def get_ply(
    request: Request,
    caller: Reader,
    max_splats: Annotated[int | None, Query(ge=1, le=1_000_000_000)] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Give it as a PLY of the 3DGS convention."""
    gateway = gateway_of(request)
    session = gateway.default_sessions.newest(caller.tenant)
    if session is None:
        raise SaccadeError(_E.SESSION_NOT_STARTED)
    return await ply_of(gateway.bucket, session, max_splats, if_none_match)


@router.post("/stop-training", summary="End the default session", responses=problem_responses())
async def stop_training(request: Request, caller: Writer) -> TrainingStopped:
    """Have the last chunk and the whole model left behind, and wait for them; the next frame opens a new session."""
    gateway = gateway_of(request)
    session = gateway.default_sessions.newest(caller.tenant)
    if session is None:
        return TrainingStopped(chunks=0, complete=True)
    await gateway.sessions.stop(caller.tenant, session.id)
    session = await gateway.sessions.get(caller.tenant, session.id, WAIT_S)
    return TrainingStopped(chunks=_chunks(session), complete=session.state is SessionState.STOPPED)


@router.post("/reset", summary="Begin the default session anew", responses=problem_responses(_E.SESSION_ENDED))
async def reset(request: Request, caller: Writer) -> Done:
    """Forget frames and splats; chunks that were exported stay."""
    default = gateway_of(request).default_sessions
    if session := default.current(caller.tenant):
        await default.reset(session)
    return Done()
