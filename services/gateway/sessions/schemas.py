"""What the routes of sessions take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ErrorBody
from contracts.events import Cursor
from contracts.events.session import FrameTotals
from contracts.ids import id_pattern
from contracts.job import Job, State
from contracts.limits import METADATA_BYTES, SESSION_IDLE_S, SESSION_LENGTH_S
from contracts.session import Session, SessionState, job_id_of_session
from services.gateway.sessions.latest_progress import SessionStatus
from services.gateway.telemetry.nats_access import NatsIngest

_LONGEST_S: Final = 24 * 3600.0


class NewSession(BaseModel):
    """What a client asks for."""

    model_config = ConfigDict(extra="forbid")

    workload: str = Field(min_length=1, max_length=64, examples=["live_splat"])
    params: dict[str, Any] = Field(
        default_factory=dict, description="As `params_schema` of the workload says.", examples=[{}]
    )
    idle_timeout_s: float = Field(
        default=SESSION_IDLE_S,
        ge=1,
        le=_LONGEST_S,
        allow_inf_nan=False,
        description="It ends when no frame comes for this long.",
    )
    max_length_s: float = Field(default=SESSION_LENGTH_S, ge=1, le=_LONGEST_S, allow_inf_nan=False)
    max_cost_usd: float | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="The session is stopped before it costs more.",
    )
    metadata: dict[str, str] = Field(
        default_factory=dict, description=f"Yours, given back with the session; at most {METADATA_BYTES} bytes as JSON."
    )
    replay_of: str | None = Field(
        default=None,
        pattern=id_pattern("ses"),
        description="A session of yours whose recorded inputs this one is given again, with the same timing.",
    )


class JobOfSession(BaseModel):
    """The job that is the session's worker."""

    id: str
    state: State
    attempt: int


class ChunkObject(BaseModel):
    """The newest chunk; its file is an artifact of the job."""

    number: int
    artifact: str


class SessionCost(BaseModel):
    """What the session costs so far, and at most."""

    actual_usd: float
    max_usd: float | None


class SessionLinks(BaseModel):
    """Where there is more."""

    self: str
    events: str
    stream: str
    page: str
    job: str
    artifacts: str
    ply: str


class HttpIngest(BaseModel):
    """Where frames and joints are posted."""

    frames: str
    joints: str


class Ingest(BaseModel):
    """The ways in. `credentials` of NATS are given once, in the answer to POST /v1/sessions."""

    nats: NatsIngest | None
    http: HttpIngest
    ws: str


class SessionObject(BaseModel):
    """A live session."""

    id: str
    workload: str
    state: SessionState
    params: dict[str, Any]
    idle_timeout_s: float
    max_length_s: float
    created_at: datetime
    ready_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    frames: FrameTotals
    figures: dict[str, Any] = Field(description="The workload's own, as its worker told them last.")
    frame_age_s: float | None = Field(description="Age of the newest accepted frame when it had been worked on.")
    chunk: ChunkObject | None
    reason: Literal["asked", "idle", "length", "cost_cap"] | None = Field(description="Why it stopped.")
    result: dict[str, Any] | None
    job: JobOfSession | None
    cost: SessionCost
    error: ErrorBody | None
    replay_of: str | None
    metadata: dict[str, str]
    links: SessionLinks
    ingest: Ingest
    cursor: str = Field(description="Follow `links.events` with this as `Last-Event-ID`: nothing newer is missed.")


class SessionPage(BaseModel):
    """Some sessions, newest first."""

    data: list[SessionObject]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")


class FrameReceived(BaseModel):
    """A frame that is on its way to the worker, whose verdict comes as `session.frame_acked`."""

    source: str
    seq: int
    status: Literal["received"] = "received"


class JointsReceived(BaseModel):
    """Samples that are on their way to the worker, and what looks wrong with them."""

    received: int
    warnings: list[str]


class ServerTime(BaseModel):
    """The server's clock."""

    time_s: float = Field(description="Unix seconds.")


def shown(
    session: Session,
    job: Job | None,
    told: SessionStatus,
    epoch: str,
    nats: NatsIngest | None,
    *,
    from_start: bool = False,
) -> SessionObject:
    """Write a session as clients see it."""
    opened, here = session.opened, f"/v1/sessions/{session.id}"
    of_job = f"/v1/jobs/{job_id_of_session(session.id)}"
    progress, last = told.progress, session.chunk
    over = session.stopped or session.failed
    spent = [job.actual_usd if job else 0.0, progress.cost_usd if progress else 0.0, over.cost_usd if over else 0.0]
    return SessionObject(
        id=session.id,
        workload=opened.workload,
        state=session.state,
        params=opened.params,
        idle_timeout_s=opened.idle_timeout_s,
        max_length_s=opened.max_length_s,
        created_at=session.created_at,
        ready_at=session.ready_at,
        started_at=session.started_at,
        finished_at=session.finished_at,
        frames=told.totals,
        figures=progress.figures if progress else last.figures if last else {},
        frame_age_s=progress.frame_age_s if progress else None,
        chunk=ChunkObject(number=last.chunk, artifact=last.artifact.name) if last else None,
        reason=session.stopped.reason if session.stopped else None,
        result=session.stopped.result if session.stopped else None,
        job=JobOfSession(id=job.id, state=job.state, attempt=job.attempt) if job else None,
        cost=SessionCost(actual_usd=over.cost_usd if over else max(spent), max_usd=opened.max_cost_usd),
        error=session.failed.error if session.failed else None,
        replay_of=opened.replay_of,
        metadata=opened.metadata,
        links=SessionLinks(
            self=here,
            events=f"{here}/events",
            stream=f"{here}/stream",
            page=f"/sessions/{session.id}",
            job=of_job,
            artifacts=f"{of_job}/artifacts",
            ply=f"{here}/ply",
        ),
        ingest=Ingest(
            nats=nats, http=HttpIngest(frames=f"{here}/frames", joints=f"{here}/joints"), ws=f"{here}/stream"
        ),
        cursor=str(Cursor(epoch, session.first_sequence - 1 if from_start else session.sequence)),
    )
