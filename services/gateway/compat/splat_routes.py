"""Routes of the splat server that this system replaces, with its paths and fields, on one default session per tenant.

Its clients send frames and joint angles without session, time or number, and a frame belongs to the last joint angles.
Each frame is therefore stamped with its time of arrival and sent together with the latest angles.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import WAIT_S
from contracts.session import Session, SessionState
from kit.auth.principal import Reader, Writer
from kit.http.app_state import from_app_state
from kit.http.health import HealthReport
from kit.http.problems import problem_responses
from kit.http.request_body import RequestBody
from modal_workers.live_splat.spec import chunk_name, training_progress
from services.gateway.compat.default_session import DefaultSessions
from services.gateway.compat.empty_ply import EMPTY_PLY
from services.gateway.sessions.dependencies import (
    PlyDownloadDep,
    SessionProgressDep,
    SessionServiceDep,
)
from services.gateway.telemetry.frame_body import read_frame

router = APIRouter(tags=["replaced"])

_E = ErrorCode
_FORM_FIELDS: Final = frozenset({"file", "frame"})
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


DefaultSessionsDep = Annotated[DefaultSessions, from_app_state("default_sessions")]


class FrameUploaded(BaseModel):
    """Answer to a frame."""

    success: bool = True
    frame_count: int
    chunks_uploaded: int


_Angle = Annotated[float, Field(allow_inf_nan=False)]


class JointAngles(RequestBody):
    """Angles of the six joints, radians."""

    model_config = ConfigDict(extra="ignore")

    joint_angles: list[_Angle] = Field(min_length=_JOINTS, max_length=_JOINTS)


class JointsUpdated(BaseModel):
    """Answer to joint angles."""

    success: bool = True
    joint_angles: list[float]


class TrainingStatus(BaseModel):
    """Status of the default session."""

    status: str
    trainer_ready: bool = Field(description="Whether a frame can be sent now.")
    training_active: bool = Field(description="Whether frames have come and the session has not ended.")
    frame_count: int = Field(description="Frames since the start or the last reset, without refused ones.")
    refused_count: int = Field(description="Frames that were not usable, since then.")
    gaussian_count: int
    progress: float = Field(description="Frames as a share of 10,000, at most 1; 1 when the session has stopped.")
    chunks: list[str] = Field(description="Names of the chunks, which are in the bucket beside `status.json`.")
    chunk_count: int
    chunks_uploaded: int
    complete: bool = Field(description="Whether the last chunk and the complete model are exported.")
    session_id: str | None


class TrainingStopped(BaseModel):
    """Answer to the stop of the default session."""

    success: bool = True
    message: str = "Training complete"
    chunks: list[str] = Field(description="Names of all chunks.")
    frame_count: int
    complete: bool


class TrainingReset(BaseModel):
    """Answer to the reset of the default session."""

    success: bool = True
    message: str = "Trainer reset"


class GatewayHealth(HealthReport):
    """Health of the gateway, and whether the default session accepts frames."""

    trainer_ready: bool


def _chunks(session: Session | None) -> int:
    if session is None:
        return 0
    return session.stopped.chunks if session.stopped else session.chunk.chunk if session.chunk else 0


def _chunk_names(session: Session | None) -> list[str]:
    return [chunk_name(number + 1) for number in range(_chunks(session))]


def _complete(session: Session) -> bool:
    return session.state is SessionState.STOPPED


@router.post(
    "/upload-frame",
    summary="Send a frame to the default session",
    responses=problem_responses(_E.FRAME_EMPTY, _E.FRAME_TOO_LARGE, _E.FRAME_UNREADABLE),
    openapi_extra=_FORM,
)
async def upload_frame(request: Request, caller: Writer, default_sessions: DefaultSessionsDep) -> FrameUploaded:
    """Accept a picture as the form's `file` or `frame`; the first one opens the session."""
    session = await default_sessions.open(caller.tenant)
    try:
        picture = await read_frame(request, _FORM_FIELDS)
    except SaccadeError as error:
        if error.code is _E.FRAME_TOO_LARGE:
            await default_sessions.reject_frame(session, error)
        raise
    return FrameUploaded(
        frame_count=await default_sessions.send_frame(session, picture), chunks_uploaded=_chunks(session)
    )


@router.post("/update-joint-angles", summary="Send joint angles to the default session", responses=problem_responses())
async def update_joint_angles(caller: Writer, body: JointAngles, default_sessions: DefaultSessionsDep) -> JointsUpdated:
    """Set the angles of the following frames; before the first ones, they are zeros."""
    await default_sessions.send_joints(await default_sessions.open(caller.tenant), body.joint_angles)
    return JointsUpdated(joint_angles=body.joint_angles)


@router.get("/status", summary="Status of the default session", responses=problem_responses())
async def read_status(
    caller: Reader, default_sessions: DefaultSessionsDep, latest_progress: SessionProgressDep
) -> TrainingStatus:
    """Return counts of frames, splats and chunks."""
    ready = await default_sessions.accept_frames(caller.tenant)
    session = default_sessions.newest(caller.tenant)
    if session is None:
        return TrainingStatus(
            status="idle", trainer_ready=ready, training_active=False, frame_count=0, refused_count=0,
            gaussian_count=0, progress=0.0, chunks=[], chunk_count=0, chunks_uploaded=0, complete=False,
            session_id=None,
        )  # fmt: skip
    status = await latest_progress.load(session)
    figures = status.progress.figures if status.progress else session.chunk.figures if session.chunk else {}
    splats, chunks = figures.get("splats"), _chunk_names(session)
    frames = await default_sessions.frame_count(session, status.totals.rejected)
    return TrainingStatus(
        status=str(session.state),
        trainer_ready=ready,
        training_active=bool(frames) and not session.state.ended,
        frame_count=frames,
        refused_count=default_sessions.refused_count(session, status.totals.rejected),
        gaussian_count=splats if isinstance(splats, int) else 0,
        progress=training_progress(frames, complete=_complete(session)),
        chunks=chunks,
        chunk_count=len(chunks),
        chunks_uploaded=len(chunks),
        complete=_complete(session),
        session_id=session.id,
    )


@router.get(
    "/get-ply",
    response_class=Response,
    summary="Download the newest model of the default session",
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        **problem_responses(_E.STORAGE_UNAVAILABLE),
    },
)
async def get_ply(
    caller: Reader,
    default_sessions: DefaultSessionsDep,
    download: PlyDownloadDep,
    max_splats: Annotated[int | None, Query(ge=1, le=1_000_000_000)] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return a PLY in the 3DGS convention; before there is a model, one without splats, so that clients may poll."""
    session = default_sessions.newest(caller.tenant)
    try:
        if session is not None:
            return await download.response(session, max_splats, if_none_match)
    except SaccadeError as error:
        if error.code is not _E.SESSION_NOT_STARTED:
            raise
    return Response(EMPTY_PLY, media_type="application/octet-stream", headers={"Cache-Control": "no-cache"})


@router.post("/stop-training", summary="End the default session", responses=problem_responses())
async def stop_training(
    caller: Writer, default_sessions: DefaultSessionsDep, sessions: SessionServiceDep
) -> TrainingStopped:
    """Wait until the last chunk and the complete model are exported; the next frame opens a new session."""
    session = default_sessions.newest(caller.tenant)
    if session is None:
        return TrainingStopped(chunks=[], frame_count=0, complete=True)
    await sessions.stop(caller.tenant, session.id)
    session = await sessions.get(caller.tenant, session.id, WAIT_S)
    return TrainingStopped(
        message="Training complete" if _complete(session) else f"The session is {session.state}",
        chunks=_chunk_names(session),
        frame_count=await default_sessions.frame_count(session),
        complete=_complete(session),
    )


@router.post("/reset", summary="Reset the default session", responses=problem_responses(_E.SESSION_ENDED))
async def reset(caller: Writer, default_sessions: DefaultSessionsDep) -> TrainingReset:
    """Discard frames and splats, also after the end of the session; exported chunks are kept."""
    await default_sessions.reset(caller.tenant)
    return TrainingReset()
