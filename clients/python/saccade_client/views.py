"""Resources of the API as pydantic models; unknown fields of newer servers are kept."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Shown(BaseModel):
    model_config = ConfigDict(extra="allow")


class Artifact(_Shown):
    """One output file of a job."""

    name: str
    bytes: int
    sha256: str
    media_type: str = "application/octet-stream"
    title: str = ""
    #: For tables and figures: unit of each column or axis, for example ``{"delta": "s"}``.
    units: dict[str, str] = Field(default_factory=dict)


class ArtifactsView(_Shown):
    """Artifacts of a job: its manifest when ``complete``, else the files written so far."""

    job_id: str
    complete: bool = True
    result: dict[str, Any] | None = None
    artifacts: list[Artifact]


class CostView(_Shown):
    """Estimated and actual cost of a job."""

    estimated_usd: float | None = None
    actual_usd: float | None = None


class JobError(_Shown):
    """Error of a failed job or session: code, message and hint."""

    code: str
    message: str
    hint: str = ""


class JobView(_Shown):
    """A job."""

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
    #: The result in one sentence, and the route of the page that shows it.
    headline: str | None = None
    report: str | None = None
    error: JobError | None = None
    cost: CostView | None = None
    gpu: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    links: dict[str, str] = Field(default_factory=dict)
    #: Cursor of this state: follow the events from here.
    cursor: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the job is in a final state."""
        return self.state in {"succeeded", "failed", "cancelled"}


class JobCheckView(_Shown):
    """A request for a job that the server would accept: parameters with defaults, and the estimated cost."""

    workload: str
    params: dict[str, Any] = Field(default_factory=dict)
    estimate: dict[str, Any] = Field(default_factory=dict)


class RejectedFrame(_Shown):
    """A rejected frame: unusable by itself."""

    source: str
    seq: int
    reason: str
    #: What was wrong, in a sentence.
    detail: str | None = None


class FrameCounts(_Shown):
    """Frames of a session, by verdict."""

    sent: int = 0
    accepted: int = 0
    dropped: int = 0
    rejected: int = 0
    waiting: int = 0
    #: Dropped and rejected frames by reason.
    reasons: dict[str, int] = Field(default_factory=dict)
    #: The newest of the rejected frames.
    last_rejection: RejectedFrame | None = None


class SessionCost(_Shown):
    """Cost of a session so far, and its limit."""

    actual_usd: float = 0.0
    max_usd: float | None = None


class SessionView(_Shown):
    """A live session."""

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
    #: Metrics of the workload, last reported by its worker.
    figures: dict[str, Any] = Field(default_factory=dict)
    reason: str | None = None
    result: dict[str, Any] | None = None
    #: The job that runs its worker: id, state, attempt.
    job: dict[str, Any] | None = None
    cost: SessionCost = Field(default_factory=SessionCost)
    error: JobError | None = None
    replay_of: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    links: dict[str, str] = Field(default_factory=dict)
    #: Addresses to stream to; credentials only in the answer that opened the session.
    ingest: dict[str, Any] = Field(default_factory=dict, repr=False)
    cursor: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the session is in a final state."""
        return self.state in {"stopped", "failed"}


class UploadView(_Shown):
    """An upload."""

    id: str
    state: str
    filename: str = ""
    content_type: str = ""
    #: None while the server fetches the file.
    size_bytes: int | None = 0
    sha256: str | None = None
    #: Why the file cannot be used.
    error: JobError | None = None
    #: Of a file that the server fetches: its URL without the query, and the progress.
    source: dict[str, Any] | None = None


class Ticket(_Shown):
    """Permission to open one event stream without an API key; ``url`` is a path that contains the ticket."""

    ticket: str
    resource: str
    url: str
    expires_at: str


class WebhookView(_Shown):
    """A webhook endpoint; ``secret`` is only in the answer that created it."""

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
    #: They verify its ``v1a`` signatures: JSON Web Keys, the newest first; ``whpk`` is the form of Standard Webhooks.
    public_keys: list[dict[str, Any]] = Field(default_factory=list)
    created_at: str
    updated_at: str
    secret: str | None = Field(default=None, repr=False)


class WebhookTest(_Shown):
    """Answer of an endpoint to a test event."""

    delivered: bool
    status: int | None = None
    error: str | None = None
    latency_ms: float
    response_excerpt: str = ""


class DeliveryView(_Shown):
    """Delivery of one event to one endpoint; ``id`` is the event's cursor."""

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
    """Outcome of one delivery attempt."""

    attempt: int
    at: str
    status: int | None = None
    error: str | None = None
    latency_ms: float
    response_excerpt: str = ""
    url_origin: str = ""
    next_attempt_at: str | None = None
