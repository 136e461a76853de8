"""JSON bodies of the session routes."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from contracts.errors import ErrorBody
from contracts.events.session import FrameTotals, SessionAlert, SessionText
from contracts.ids import id_pattern
from contracts.job import State
from contracts.limits import METADATA_BYTES, SESSION_IDLE_S, SESSION_LENGTH_S
from contracts.session import SessionState
from kit.http.request_body import RequestBody
from services.gateway.aggregates.view_gap import IncompleteField
from services.gateway.telemetry.nats_access import NatsIngest
from services.gateway.time_machine.schemas import AsOf
from services.gateway.workload_names import names_of

_MAX_IDLE_S: Final = 24 * 3600.0


class NewSession(RequestBody):
    """A request for a session."""

    workload: str = Field(
        min_length=1,
        max_length=64,
        examples=["live_splat"],
        json_schema_extra=names_of("session"),
    )
    params: dict[str, Any] = Field(
        default_factory=dict, description="As defined by `params_schema` of the workload.", examples=[{}]
    )
    idle_timeout_s: float = Field(
        default=SESSION_IDLE_S,
        ge=1,
        le=_MAX_IDLE_S,
        allow_inf_nan=False,
        description="The session ends if no frame arrives for this long.",
    )
    max_length_s: float = Field(
        default=SESSION_LENGTH_S,
        ge=1,
        le=SESSION_LENGTH_S,
        allow_inf_nan=False,
        description="The session ends with its results after this long. Its worker is never given longer.",
    )
    max_cost_usd: float | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="The session is stopped before it costs more.",
    )
    metadata: dict[str, str] = Field(
        default_factory=dict,
        description=f"Returned with the session; at most {METADATA_BYTES} bytes as JSON.",
    )
    replay_of: str | None = Field(
        default=None,
        pattern=id_pattern("ses"),
        description="One of your sessions: its recorded inputs are sent to this one again, with the same timing.",
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


class WaitingPrompt(BaseModel):
    """A question without an answer."""

    prompt_id: str
    text: str


class SessionCost(BaseModel):
    """Cost of the session so far, and its limit."""

    actual_usd: float
    max_usd: float | None


class SessionLinks(BaseModel):
    """Related resources."""

    self: str
    events: str
    stream: str
    page: str
    job: str
    artifacts: str
    ply: str
    texts: str


class HttpIngest(BaseModel):
    """Paths that accept frames and joints by POST."""

    frames: str
    joints: str


class Ingest(BaseModel):
    """Ways to send inputs. NATS `credentials` are returned once, in the answer to POST /v1/sessions."""

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
    figures: dict[str, Any] = Field(description="Figures of the workload, as its worker reported them last.")
    frame_age_s: float | None = Field(description="Age of the newest accepted frame when it was processed.")
    chunk: ChunkObject | None
    text: SessionText | None = Field(description="The newest text, where the workload describes video.")
    alert: SessionAlert | None = Field(description="The newest alert.")
    prompts: list[WaitingPrompt] = Field(description="Questions that wait for their answer, oldest first.")
    reason: Literal["asked", "idle", "length", "cost_cap"] | None = Field(description="Why it stopped.")
    result: dict[str, Any] | None
    job: JobOfSession | None
    cost: SessionCost
    error: ErrorBody | None
    replay_of: str | None
    metadata: dict[str, str]
    links: SessionLinks
    ingest: Ingest
    cursor: str = Field(description="Follow `links.events` with this as `Last-Event-ID` to receive every newer event.")
    as_of: AsOf | None = Field(default=None, description="Of an answer as of a point of the history; null otherwise.")


class SessionPage(BaseModel):
    """A page of sessions, newest first."""

    data: list[SessionObject]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")
    as_of: AsOf | None = Field(default=None, description="Of a list as of a point of the history; null otherwise.")
    incomplete: IncompleteField = None
