"""What the API shows, as types; fields of newer servers are kept."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Shown(BaseModel):
    model_config = ConfigDict(extra="allow")


class Artifact(_Shown):
    """One file that a job left behind."""

    name: str
    bytes: int
    sha256: str
    media_type: str = "application/octet-stream"
    title: str = ""
    #: For tables and figures: unit of each column or axis, for example ``{"delta": "s"}``.
    units: dict[str, str] = Field(default_factory=dict)


class ArtifactsView(_Shown):
    """What a job left behind: its manifest when ``complete``, else the files there are so far."""

    job_id: str
    complete: bool = True
    result: dict[str, Any] | None = None
    artifacts: list[Artifact]


class CostView(_Shown):
    """What a job was thought to cost and what it did."""

    estimated_usd: float | None = None
    actual_usd: float | None = None


class JobError(_Shown):
    """Why a job failed, and what to do."""

    code: str
    message: str
    hint: str = ""


class JobView(_Shown):
    """A job as the API shows it."""

    id: str
    workload: str
    state: str
    stage: str | None = None
    #: 0 to 1.
    progress: float = 0.0
    message: str | None = None
    attempt: int = 0
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    inputs: dict[str, Any] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: JobError | None = None
    cost: CostView | None = None
    gpu: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    links: dict[str, str] = Field(default_factory=dict)
    #: Nothing after it is in this view: where to follow the events from.
    cursor: str | None = None

    @property
    def ended(self) -> bool:
        """Tell whether the job's life is over."""
        return self.state in {"succeeded", "failed", "cancelled"}


class FrameCounts(_Shown):
    """Frames of a session, by what became of them."""

    sent: int = 0
    accepted: int = 0
    dropped: int = 0
    rejected: int = 0
    waiting: int = 0


class SessionCost(_Shown):
    """What a session costs so far, and at most."""

    actual_usd: float = 0.0
    max_usd: float | None = None


class SessionView(_Shown):
    """A live session as the API shows it."""

    id: str
    workload: str
    state: str
    params: dict[str, Any] = Field(default_factory=dict)
    idle_timeout_s: float | None = None
    max_length_s: float | None = None
    created_at: str
    ready_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    frames: FrameCounts = Field(default_factory=FrameCounts)
    #: The workload's own, as its worker told them last.
    figures: dict[str, Any] = Field(default_factory=dict)
    reason: str | None = None
    result: dict[str, Any] | None = None
    #: The job that is its worker: id, state, attempt.
    job: dict[str, Any] | None = None
    cost: SessionCost = Field(default_factory=SessionCost)
    error: JobError | None = None
    replay_of: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    links: dict[str, str] = Field(default_factory=dict)
    #: The ways in; credentials only where it was just opened.
    ingest: dict[str, Any] = Field(default_factory=dict, repr=False)
    cursor: str | None = None

    @property
    def ended(self) -> bool:
        """Tell whether the session's life is over."""
        return self.state in {"stopped", "failed"}


class UploadView(_Shown):
    """An upload."""

    id: str
    state: str
    filename: str = ""
    content_type: str = ""
    size_bytes: int = 0
    sha256: str | None = None


class Ticket(_Shown):
    """Opens one event stream for reading, without an API key; ``url`` is a path with the ticket in it."""

    ticket: str
    resource: str
    url: str
    expires_at: str


class WebhookView(_Shown):
    """A webhook endpoint. ``secret`` is there where it was just made, and never again."""

    id: str
    url: str
    types: list[str] = Field(default_factory=list)
    description: str = ""
    header_names: list[str] = Field(default_factory=list)
    rate_per_s: float | None = None
    ordered: bool = False
    signing: str = "v1"
    enabled: bool = True
    disabled_reason: str | None = None
    previous_secrets_expire_at: list[str] = Field(default_factory=list)
    created_at: str
    updated_at: str
    secret: str | None = Field(default=None, repr=False)


class WebhookTest(_Shown):
    """What an endpoint answered to an example."""

    delivered: bool
    status: int | None = None
    error: str | None = None
    latency_ms: float
    response_excerpt: str = ""


class DeliveryView(_Shown):
    """One event on its way to one endpoint; ``id`` is the event's cursor."""

    id: str
    event_id: str
    event_type: str
    event_subject: str
    #: pending, delivered, failed or cancelled.
    state: str
    attempts: int = 0
    last_status: int | None = None
    last_error: str | None = None
    next_attempt_at: str | None = None
    updated_at: str


class AttemptView(_Shown):
    """How one attempt to deliver went."""

    attempt: int
    at: str
    status: int | None = None
    error: str | None = None
    latency_ms: float
    response_excerpt: str = ""
    url_origin: str = ""
    next_attempt_at: str | None = None
