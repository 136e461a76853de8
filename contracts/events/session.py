"""Events of a live session. Its worker is the job with the same UUID, whose events contain attempts and cost."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ErrorBody
from contracts.events.base import ADVISORY, EventData
from contracts.manifest import Artifact
from contracts.telemetry import FrameAck

#: Reason why a session ended.
StopReason = Literal["asked", "idle", "length", "cost_cap"]


class FrameRejection(BaseModel):
    """A rejected frame: unusable by itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: str
    seq: int
    reason: str
    #: What was wrong, in a sentence.
    detail: str | None = None


class FrameTotals(BaseModel):
    """Frame counts since the session was opened; ``sent`` is the sum of the other counts."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sent: int = Field(default=0, ge=0)
    accepted: int = Field(default=0, ge=0)
    dropped: int = Field(default=0, ge=0)
    rejected: int = Field(default=0, ge=0)
    waiting: int = Field(default=0, ge=0)
    #: Dropped and rejected frames by reason, as in a frame's verdict.
    reasons: dict[str, int] = Field(default_factory=dict)
    #: The newest of the rejected frames.
    last_rejection: FrameRejection | None = None


class SessionOpened(EventData):
    """A client opened a live session; its parameters were validated and its defaults filled in."""

    type: ClassVar[str] = "session.opened"

    workload: str
    workload_version: str
    params: dict[str, Any]
    idle_timeout_s: float
    max_length_s: float
    max_cost_usd: float | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    #: Session whose recorded input is replayed into this one.
    replay_of: str | None = None
    #: ``caller``: the worker runs on the caller's own Modal account; no event names it.
    account: Literal["caller"] | None = None


class SessionReady(EventData):
    """A worker accepts frames; published by each attempt, with the chunk that it resumes from."""

    type: ClassVar[str] = "session.ready"

    attempt: int
    run_id: str
    device: str
    resumed_from_chunk: int | None = None


class SessionStarted(EventData):
    """The first frame was accepted."""

    type: ClassVar[str] = "session.started"

    run_id: str


class SessionStopRequested(EventData):
    """The end of the session was requested: its worker finishes its work and exports the whole model."""

    type: ClassVar[str] = "session.stop_requested"

    by: str


class SessionResetRequested(EventData):
    """A reset of the session was requested: the worker starts with an empty model; exported chunks stay."""

    type: ClassVar[str] = "session.reset_requested"

    by: str


class SessionFrameAcked(EventData):
    """Verdicts on the newest frames, and the totals of all frames. Advisory: a later event contains the new totals."""

    type: ClassVar[str] = "session.frame_acked"
    kind: ClassVar[Literal["evt", "prog", "dlv"]] = ADVISORY

    run_id: str
    acks: list[FrameAck]
    totals: FrameTotals
    #: The session was reset before these frames.
    reset: bool = False
    #: At the end of the session: steps of work since the newest accepted frame. A replay repeats them.
    last_idle_steps: int | None = None


class SessionProgressed(EventData):
    """Progress of the worker; ``figures`` are defined by the workload, with units in their names."""

    type: ClassVar[str] = "session.progressed"
    kind: ClassVar[Literal["evt", "prog", "dlv"]] = ADVISORY

    run_id: str
    totals: FrameTotals
    figures: dict[str, Any]
    #: Age of the newest accepted frame when it was processed, seconds.
    frame_age_s: float | None = None
    cost_usd: float = 0.0


class SessionChunkExported(EventData):
    """A chunk of the model is in the bucket."""

    type: ClassVar[str] = "session.chunk_exported"

    run_id: str
    chunk: int
    artifact: Artifact
    totals: FrameTotals
    figures: dict[str, Any]


class ShownFrame(BaseModel):
    """Frame that a model was shown."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    seq: int
    captured_at_s: float


class TextLatency(BaseModel):
    """Parts of the time from the newest frame of a chunk to the end of its text, milliseconds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    #: From the newest frame's arrival at the worker to the beginning of the inference.
    queue_ms: float
    prefill_ms: float
    decode_ms: float
    #: From the beginning of the inference to the first token.
    first_token_ms: float
    total_ms: float


class SessionText(EventData):
    """A worker has described a chunk of the video in text, or answered a question about it."""

    type: ClassVar[str] = "session.text"

    run_id: str
    #: Number of the chunk in the session, from 1.
    chunk: int
    text: str
    first_seq: int | None = None
    last_seq: int | None = None
    source: str | None = None
    #: The frames of the chunk that the model was shown, oldest first.
    frames: list[ShownFrame] = Field(default_factory=list)
    #: Frames since the chunk before that the model was not shown.
    dropped: int = 0
    #: Limits of the chunk, seconds since the session's first frame.
    start_s: float | None = None
    end_s: float | None = None
    tokens: int | None = None
    #: ``length``: cut off at the limit of tokens; ``error``: there is no text, ``error`` says why.
    finish_reason: Literal["complete", "length", "cancelled", "error"] = "complete"
    error: ErrorBody | None = None
    latency: TextLatency | None = None
    #: Version of the instruction and of the form of the prompt: a hash.
    prompt_version: str | None = None
    #: The question that this text answers.
    prompt_id: str | None = None
    #: The structured answer, where a schema was given and the text satisfies it.
    answer: Any = None
    #: Probability of each rule's condition in the frames of the chunk, by the rule's name; alerts follow from these.
    rules: dict[str, float] = Field(default_factory=dict)
    model: str | None = None
    memory: str | None = None


class SessionTextDelta(EventData):
    """A worker has generated more of the text of a chunk. Advisory: ``session.text`` has the whole text."""

    type: ClassVar[str] = "session.text_delta"
    kind: ClassVar[Literal["evt", "prog", "dlv"]] = ADVISORY

    run_id: str
    chunk: int
    #: Number of the delta in its chunk, from 1.
    n: int
    delta: str
    #: The text of the chunk so far: it is complete also for readers that have missed a delta.
    text: str
    prompt_id: str | None = None


class SessionAlert(EventData):
    """A rule of the session has become true; not repeated while it stays true."""

    type: ClassVar[str] = "session.alert"

    run_id: str
    #: Number of the alert in the session, from 1.
    alert: int
    rule: str
    condition: str
    chunk: int
    #: Probability that the model gives the condition.
    confidence: float
    #: The text of the chunk.
    text: str
    source: str | None = None
    #: The frames that back it: those of the chunks in which the condition was true, oldest first.
    frames: list[ShownFrame] = Field(default_factory=list)
    #: The newest of these frames, as a file of the session.
    image: Artifact | None = None


class SessionPromptRequested(EventData):
    """A client has asked a question about the live video; the ``session.text`` with its ``prompt_id`` is the answer."""

    type: ClassVar[str] = "session.prompt_requested"

    prompt_id: str
    text: str
    #: JSON Schema of the answer.
    answer_schema: dict[str, Any] | None = None
    by: str


class SessionCancelRequested(EventData):
    """A client has asked for the end of the text that is being generated; the session goes on with the next chunk."""

    type: ClassVar[str] = "session.cancel_requested"

    by: str


class SessionStopped(EventData):
    """The session has ended; its files are in the manifest of its job."""

    type: ClassVar[str] = "session.stopped"

    reason: StopReason
    chunks: int
    totals: FrameTotals
    result: dict[str, Any]
    cost_usd: float


class SessionFailed(EventData):
    """The session has ended because its worker failed; exported chunks stay."""

    type: ClassVar[str] = "session.failed"

    error: ErrorBody
    cost_usd: float


#: Durable and advisory events that a worker publishes about its own session; the gateway publishes the rest.
SESSION_WORKER_VERBS: Final = ("ready", "started", "chunk_exported", "text", "alert")
SESSION_WORKER_PROGRESS_VERBS: Final = ("frame_acked", "progressed", "text_delta")
