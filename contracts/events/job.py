"""What happens to a job. State events are published only by the rules of contracts/job.py."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from contracts.errors import ErrorBody
from contracts.events.base import ADVISORY, DURABLE, EVENT_CLASSES, EventData
from contracts.manifest import Artifact

#: Why an attempt ended without a result; decides what happens next (services/dispatcher/attempts/retry.py).
#: ``no_gpu`` and ``throttled`` are nobody's fault: they are not counted as attempts.
FailureClass = Literal[
    "user", "out_of_memory", "preempted", "lost", "broken", "timed_out", "not_started", "no_gpu", "throttled"
]


#: Executor and device of a pipeline, which has neither: its stages' jobs do.
PIPELINE: Final = "pipeline"


class JobInput(BaseModel):
    """One uploaded file as a job sees it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    upload_id: str
    key: str
    filename: str
    content_type: str
    size_bytes: int
    sha256: str


class Cost(BaseModel):
    """What an attempt used: seconds on a device, priced by the dated table; start-up is paid for too."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    device: str
    #: All that is billed, ``startup_s`` among it: from when the device was held until the worker began.
    seconds: float = Field(ge=0)
    startup_s: float = Field(default=0.0, ge=0)
    usd: float = Field(ge=0)


class PartOf(BaseModel):
    """Which shard of which stage of a pipeline a job does."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    stage: str
    shard: int = Field(ge=0, lt=1000)
    shards: int = Field(ge=1, lt=1000)


class JobSubmitted(EventData):
    """A client asked for work; its parameters were checked and its defaults filled in."""

    type: ClassVar[str] = "job.submitted"

    workload: str
    workload_version: str
    inputs: dict[str, list[JobInput]]
    params: dict[str, Any]
    priority: int = 0
    max_cost_usd: float | None = None
    #: The GPU that the user chose; None leaves it to the workload's ladder.
    gpu: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    webhook_url: str | None = None
    estimated_usd: float = 0.0
    #: Whether that rests on what such jobs took lately, or on the worker's declaration.
    estimated_from: Literal["history", "spec"] = "spec"
    deadline: AwareDatetime
    #: The pipeline's stage that this job does; None for a job of its own.
    part_of: PartOf | None = None


class JobQueued(EventData):
    """The dispatcher has the job and starts it when its turn comes."""

    type: ClassVar[str] = "job.queued"

    position: int


class JobStarting(EventData):
    """Intent: the dispatcher is about to start a worker for this attempt."""

    type: ClassVar[str] = "job.starting"

    attempt: int
    run_id: str
    executor: str
    device: str
    #: Which rung of the ladder ``device`` is, from 0, and what a second on it costs.
    rung: int = 0
    usd_per_s: float | None = None


class JobWaitingForGpu(EventData):
    """The attempt was launched and no worker has begun: the device it asked for is not to be had yet."""

    type: ClassVar[str] = "job.waiting_for_gpu"

    attempt: int
    run_id: str
    device: str
    waited_s: float = Field(ge=0)
    #: Inputs that wait for this kind of worker, and workers there are, as the executor reports; None where it cannot.
    backlog: int | None = None
    workers: int | None = None
    #: The next rung and when it is tried; None on the last.
    next_device: str | None = None
    next_at: AwareDatetime | None = None


class JobLaunched(EventData):
    """The executor took the attempt and gave it a call id."""

    type: ClassVar[str] = "job.launched"

    attempt: int
    run_id: str
    call_id: str


class JobStarted(EventData):
    """A worker claimed the attempt; no other worker can."""

    type: ClassVar[str] = "job.started"

    attempt: int
    run_id: str
    #: The device that was really given: a larger one than asked for, sometimes.
    device: str
    worker: str
    #: The executor's name for this call, for a dispatcher that died before it could note it.
    call_id: str | None = None
    #: Since when the device has been paid for; None where nothing is before the worker begins.
    billed_since: AwareDatetime | None = None


class JobProgressed(EventData):
    """How far the work is. Said again when nothing changed, so that silence means something."""

    type: ClassVar[str] = "job.progressed"
    kind: ClassVar[Literal["evt", "prog"]] = ADVISORY

    attempt: int
    run_id: str
    stage: str
    fraction: float = Field(ge=0, le=1)
    stage_fraction: float = Field(ge=0, le=1)
    message: str = ""
    eta_s: float | None = None


class JobArtifactReady(EventData):
    """A file is in the bucket."""

    type: ClassVar[str] = "job.artifact_ready"

    attempt: int
    run_id: str
    artifact: Artifact


class JobStageCompleted(EventData):
    """A stage is done and will not be done again."""

    type: ClassVar[str] = "job.stage_completed"

    attempt: int
    run_id: str
    stage: str
    duration_s: float
    #: What the jobs of a pipeline's stage cost together; a worker's own stages are not counted apart.
    cost: Cost | None = None


class JobInterrupted(EventData):
    """An attempt ended without a result: said by the worker, or by the dispatcher for a worker that cannot."""

    type: ClassVar[str] = "job.interrupted"

    attempt: int
    run_id: str
    failure: FailureClass
    error: ErrorBody
    cost: Cost | None = None


class JobRetrying(EventData):
    """The job goes on with another attempt, not before a moment."""

    type: ClassVar[str] = "job.retrying"

    attempt: int
    #: Attempts are counted against the workload's limit from this one on: a retry that was asked for begins anew.
    first_attempt: int = 1
    after: FailureClass | Literal["asked"]
    delay_s: float
    #: The rung of the ladder on which it goes on.
    rung: int = 0
    not_before: AwareDatetime
    deadline: AwareDatetime


class JobCancelRequested(EventData):
    """Somebody asked for the job to end; durable, whoever is down."""

    type: ClassVar[str] = "job.cancel_requested"

    by: str


class JobSucceeded(EventData):
    """The job is done; its manifest is in the bucket."""

    type: ClassVar[str] = "job.succeeded"

    attempt: int
    run_id: str
    result: dict[str, Any]
    manifest_key: str
    duration_s: float
    cost: Cost


class JobFailed(EventData):
    """The job ended without a result and is not tried again."""

    type: ClassVar[str] = "job.failed"

    attempt: int
    failure: FailureClass
    error: ErrorBody


class JobCancelled(EventData):
    """The job ended because somebody asked for it; its worker is gone."""

    type: ClassVar[str] = "job.cancelled"

    attempt: int


class JobRetentionChanged(EventData):
    """Somebody decided until when what an ended job only keeps to go on from stays; a moment that is past ends it."""

    type: ClassVar[str] = "job.retention_changed"

    keep_until: AwareDatetime
    by: str


class JobScratchRemoved(EventData):
    """What an ended job only kept to go on from goes now; its results stay."""

    type: ClassVar[str] = "job.scratch_removed"

    files: int = Field(ge=0)


#: What a worker says of its own job, and shows; all else of a job is said by the gateway and the dispatcher.
WORKER_VERBS: Final = ("started", "stage_completed", "artifact_ready", "interrupted", "succeeded")
WORKER_PROGRESS_VERBS: Final = ("progressed",)
#: Every durable thing that can be said of a job.
JOB_VERBS: Final = tuple(
    event_type.removeprefix("job.")
    for event_type, event_class in EVENT_CLASSES.items()
    if event_type.startswith("job.") and event_class.kind == DURABLE
)
