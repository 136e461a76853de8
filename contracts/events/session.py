"""What happens to a live session. Its worker is a job of the same number, whose events tell of attempts and cost."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ErrorBody
from contracts.events.base import ADVISORY, DURABLE, EVENT_CLASSES, EventData
from contracts.manifest import Artifact
from contracts.telemetry import FrameAck

#: Why a session came to its end.
StopReason = Literal["asked", "idle", "length", "cost_cap"]


class FrameTotals(BaseModel):
    """Frames of the session since it opened; ``sent`` is always the sum of the others but ``waiting``, plus it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sent: int = Field(default=0, ge=0)
    accepted: int = Field(default=0, ge=0)
    dropped: int = Field(default=0, ge=0)
    rejected: int = Field(default=0, ge=0)
    waiting: int = Field(default=0, ge=0)


class SessionOpened(EventData):
    """A client asked for a live session; its parameters were checked and its defaults filled in."""

    type: ClassVar[str] = "session.opened"

    workload: str
    workload_version: str
    params: dict[str, Any]
    idle_timeout_s: float
    max_length_s: float
    max_cost_usd: float | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    #: The session whose recorded inputs this one is given again.
    replay_of: str | None = None


class SessionReady(EventData):
    """A worker is there and takes frames; told again by each attempt, with the chunk that it goes on from."""

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
    """The session is to end: its worker finishes what it has and leaves the whole model."""

    type: ClassVar[str] = "session.stop_requested"

    by: str


class SessionResetRequested(EventData):
    """The session is to forget what it has seen and begin anew; chunks that were exported stay."""

    type: ClassVar[str] = "session.reset_requested"

    by: str


class SessionFrameAcked(EventData):
    """What became of the newest frames, and of all of them in numbers. Advisory: a later one says it all again."""

    type: ClassVar[str] = "session.frame_acked"
    kind: ClassVar[Literal["evt", "prog", "dlv"]] = ADVISORY

    run_id: str
    acks: list[FrameAck]
    totals: FrameTotals
    #: The session began anew here.
    reset: bool = False
    #: Said at the end: steps of work since the newest accepted frame. A replay does as many.
    last_idle_steps: int | None = None


class SessionProgressed(EventData):
    """How the worker is doing; ``figures`` are the workload's own, with units in their names."""

    type: ClassVar[str] = "session.progressed"
    kind: ClassVar[Literal["evt", "prog", "dlv"]] = ADVISORY

    run_id: str
    totals: FrameTotals
    figures: dict[str, Any]
    #: Age of the newest accepted frame when it had been worked on, seconds.
    frame_age_s: float | None = None
    cost_usd: float = 0.0


class SessionChunkExported(EventData):
    """A chunk of the growing model is in the bucket."""

    type: ClassVar[str] = "session.chunk_exported"

    run_id: str
    chunk: int
    artifact: Artifact
    totals: FrameTotals
    figures: dict[str, Any]


class SessionText(EventData):
    """A worker has said something about what it sees."""

    type: ClassVar[str] = "session.text"

    run_id: str
    chunk: int
    text: str
    first_seq: int | None = None
    last_seq: int | None = None


class SessionStopped(EventData):
    """The session has ended as it should; what it left is in the manifest of its job."""

    type: ClassVar[str] = "session.stopped"

    reason: StopReason
    chunks: int
    totals: FrameTotals
    result: dict[str, Any]
    cost_usd: float


class SessionFailed(EventData):
    """The session has ended because its worker could not go on; chunks that were exported stay."""

    type: ClassVar[str] = "session.failed"

    error: ErrorBody
    cost_usd: float


#: What a worker says of its own session, and shows; all else of a session is said by the gateway.
SESSION_WORKER_VERBS: Final = ("ready", "started", "chunk_exported", "text")
SESSION_WORKER_PROGRESS_VERBS: Final = ("frame_acked", "progressed")
#: Every durable thing that can be said of a session.
SESSION_VERBS: Final = tuple(
    event_type.removeprefix("session.")
    for event_type, event_class in EVENT_CLASSES.items()
    if event_type.startswith("session.") and event_class.kind == DURABLE
)
