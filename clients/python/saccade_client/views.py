"""Resources of the API as pydantic models; unknown fields of newer servers are kept."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from saccade_client.history_views import PointView, Shown


class Artifact(Shown):
    """One output file of a job."""

    name: str
    bytes: int
    sha256: str
    media_type: str = "application/octet-stream"
    title: str = ""
    #: Path under the server, and with ``presign`` the address in the bucket, which needs no key.
    url: str = ""
    presigned_url: str | None = None
    #: For tables and figures: unit of each column or axis, for example ``{"delta": "s"}``.
    units: dict[str, str] = Field(default_factory=dict)


class ArtifactsView(Shown):
    """Artifacts of a job: its manifest when ``complete``, else the files written so far."""

    job_id: str
    complete: bool = True
    result: dict[str, Any] | None = None
    artifacts: list[Artifact]


class CostView(Shown):
    """Estimated and actual cost of a job."""

    estimated_usd: float | None = None
    actual_usd: float | None = None


class JobError(Shown):
    """Error of a failed job or session: code, message and hint."""

    code: str
    message: str
    hint: str = ""


class JobView(Shown):
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
    #: The rule that submitted it for its uploads: ``rule_id``, ``upload_ids``, ``group_id``.
    rule: dict[str, Any] | None = None
    gpu: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    links: dict[str, str] = Field(default_factory=dict)
    #: Cursor of this state: follow the events from here.
    cursor: str | None = None
    #: Set when the job was read as of a point of the history.
    as_of: PointView | None = None

    @property
    def ended(self) -> bool:
        """Whether the job is in a final state."""
        return self.state in {"succeeded", "failed", "cancelled"}


class RejectedFrame(Shown):
    """A rejected frame: unusable by itself."""

    source: str
    seq: int
    reason: str
    #: What was wrong, in a sentence.
    detail: str | None = None


class FrameCounts(Shown):
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


class SessionCost(Shown):
    """Cost of a session so far, and its limit."""

    actual_usd: float = 0.0
    max_usd: float | None = None


class TextView(Shown):
    """A text of a session: what a model says about a chunk of the video, or its answer to a question."""

    chunk: int
    text: str
    first_seq: int | None = None
    last_seq: int | None = None
    source: str | None = None
    #: Limits of the chunk, seconds since the session's first frame.
    start_s: float | None = None
    end_s: float | None = None
    #: ``complete``, ``length``, ``cancelled`` or ``error``; ``error`` says why there is no text.
    finish_reason: str = "complete"
    error: JobError | None = None
    #: Frames since the chunk before that the model was not shown.
    dropped: int = 0
    latency: dict[str, float] | None = None
    #: The question that it answers, and the structured answer where a schema was given.
    prompt_id: str | None = None
    answer: Any = None


class AlertView(Shown):
    """A rule of a session that has become true."""

    alert: int
    rule: str
    condition: str
    chunk: int
    confidence: float
    text: str


class SessionWord(Shown):
    """A text, an alert or a question of a session; ``data`` has its fields, and two properties read them."""

    #: ``session.text``, ``session.alert`` or ``session.prompt_requested``.
    type: str
    time: str
    data: dict[str, Any]

    @property
    def text(self) -> TextView | None:
        """The text; None for an alert or a question."""
        return TextView.model_validate(self.data) if self.type == "session.text" else None

    @property
    def alert(self) -> AlertView | None:
        """The alert; None for a text or a question."""
        return AlertView.model_validate(self.data) if self.type == "session.alert" else None


class PromptView(Shown):
    """A question about the live video, and its answer once there is one."""

    prompt_id: str
    session_id: str
    text: str
    #: ``waiting`` or ``answered``.
    state: str
    answer: TextView | None = None


class SessionView(Shown):
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
    #: The newest text and alert of a workload that describes video, and the questions that wait for their answer.
    text: TextView | None = None
    alert: AlertView | None = None
    prompts: list[dict[str, str]] = Field(default_factory=list)
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
    #: Set when the session was read as of a point of the history.
    as_of: PointView | None = None

    @property
    def ended(self) -> bool:
        """Whether the session is in a final state."""
        return self.state in {"stopped", "failed"}


class RuleView(Shown):
    """A rule: which uploads start which jobs."""

    id: str
    name: str
    enabled: bool = True
    match: dict[str, Any] = Field(default_factory=dict)
    group: dict[str, Any] | None = None
    workload: str
    inputs: list[str] = Field(default_factory=list)
    params: dict[str, Any] = Field(default_factory=dict)
    priority: int = 0
    max_cost_usd: float | None = None
    gpu: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    webhook_url: str | None = None
    jobs_per_day: int | None = None
    created_at: str
    updated_at: str
    made_by: str | None = None
    #: Jobs that it has submitted since 00:00 UTC, and the newest of all.
    jobs_today: int = 0
    last_job: str | None = None
    #: The newest uploads that matched and were no job: ``at``, ``upload_ids``, ``group_id``, ``error``.
    last_skipped: dict[str, Any] | None = None
    links: dict[str, str] = Field(default_factory=dict)


class TriedJob(Shown):
    """Uploads that a rule would have submitted as a job (``submitted``), or not (``waiting``, ``skipped``)."""

    outcome: str
    group: str | None = None
    inputs: dict[str, list[dict[str, Any]]] = Field(default_factory=dict)
    #: Why they were skipped.
    error: JobError | None = None


class RuleTrialView(Shown):
    """Answer of a dry run: what a rule would have done with past uploads."""

    workload: str
    match: dict[str, Any] = Field(default_factory=dict)
    group: dict[str, Any] | None = None
    inputs: list[str] = Field(default_factory=list)
    params: dict[str, Any] = Field(default_factory=dict)
    #: Completed uploads that were looked at, and how many of them matched.
    considered: int = 0
    matched: int = 0
    jobs: list[TriedJob] = Field(default_factory=list)
    #: Of one job, and of all that would have been submitted.
    estimate: dict[str, Any] = Field(default_factory=dict)
    estimated_usd: float = 0.0


class UploadView(Shown):
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
    metadata: dict[str, str] = Field(default_factory=dict)
    #: The job whose result the file is.
    from_job: str | None = None


class Ticket(Shown):
    """Permission to open one event stream without an API key; ``url`` is a path that contains the ticket."""

    ticket: str
    resource: str
    url: str
    expires_at: str


class WebhookView(Shown):
    """A webhook endpoint; ``secret`` is only in the answer that created it."""

    id: str
    url: str
    types: list[str] = Field(default_factory=list)
    description: str = ""
    header_names: list[str] = Field(default_factory=list)
    rate_per_s: float | None = None
    ordered: bool = False
    signing: str = "v1"
    format: str = "cloudevents"
    quiet_hours: dict[str, str] | None = None
    template: str | None = None
    subject: str | None = None
    enabled: bool = True
    disabled_reason: str | None = None
    previous_secrets_expire_at: list[str] = Field(default_factory=list)
    #: They verify its ``v1a`` signatures: JSON Web Keys, the newest first; ``whpk`` is the form of Standard Webhooks.
    public_keys: list[dict[str, Any]] = Field(default_factory=list)
    created_at: str
    updated_at: str
    secret: str | None = Field(default=None, repr=False)


class WebhookTest(Shown):
    """Answer of an endpoint to a test event."""

    delivered: bool
    status: int | None = None
    error: str | None = None
    latency_ms: float
    response_excerpt: str = ""
    #: ``subject`` and ``text`` of the message that was sent; None where the endpoint gets the event itself.
    message: dict[str, str] | None = None


class DeliveryView(Shown):
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


class AttemptView(Shown):
    """Outcome of one delivery attempt."""

    attempt: int
    at: str
    status: int | None = None
    error: str | None = None
    latency_ms: float
    response_excerpt: str = ""
    url_origin: str = ""
    next_attempt_at: str | None = None
