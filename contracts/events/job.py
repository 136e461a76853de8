"""Events of a job. State events follow the rules in contracts/job.py."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from contracts.errors import ErrorBody
from contracts.events.base import ADVISORY, DURABLE, EVENT_CLASSES, EventData
from contracts.events.rule import JobRule
from contracts.manifest import Artifact

#: Reason why an attempt ended without a result; it decides what follows (services/dispatcher/attempts/retry.py).
#: ``no_gpu`` and ``throttled`` do not count as attempts.
FailureClass = Literal[
    "user", "out_of_memory", "preempted", "lost", "broken", "timed_out", "not_started", "no_gpu", "throttled"
]


#: Placeholder for the executor and device of a pipeline, whose stages' jobs have them.
PIPELINE: Final = "pipeline"


class JobInput(BaseModel):
    """One uploaded file that is an input of a job."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    upload_id: str
    key: str
    filename: str
    content_type: str
    size_bytes: int
    sha256: str


class Cost(BaseModel):
    """Cost of an attempt: billed seconds on a device, including start-up, times its price."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    device: str
    #: Billed time, including ``startup_s``: the time from the allocation of the device until the worker started.
    seconds: float = Field(ge=0)
    startup_s: float = Field(default=0.0, ge=0)
    usd: float = Field(ge=0)


class PartOf(BaseModel):
    """Pipeline, stage and shard that a job belongs to."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    stage: str
    shard: int = Field(ge=0, lt=1000)
    shards: int = Field(ge=1, lt=1000)


class JobSubmitted(EventData):
    """A client submitted a job; its parameters were validated and its defaults filled in."""

    type: ClassVar[str] = "job.submitted"

    workload: str
    workload_version: str
    #: Empty where there are so many that the event would be too large: then ``input_ids`` has their uploads.
    inputs: dict[str, list[JobInput]]
    params: dict[str, Any]
    priority: int = 0
    max_cost_usd: float | None = None
    #: GPU chosen by the user; None for the workload's ladder.
    gpu: str | None = None
    #: Whether the larger GPUs of the workload's ladder follow ``gpu``; otherwise it is the only one.
    gpu_fallback: bool = False
    metadata: dict[str, str] = Field(default_factory=dict)
    webhook_url: str | None = None
    estimated_usd: float = 0.0
    #: Basis of the estimate: recent jobs of this kind, or the workload's declaration.
    estimated_from: Literal["history", "spec"] = "spec"
    deadline: AwareDatetime
    #: Pipeline and stage of this job; None for an independent job.
    part_of: PartOf | None = None
    #: ``caller``: the worker runs on the Modal account of the session's caller, who pays for it; no event names it.
    account: Literal["caller"] | None = None
    #: Rule that submitted the job for its uploads; None for a job that a client submitted.
    rule: JobRule | None = None
    #: Ids of the uploads of each input, instead of ``inputs``; their own events say what they are.
    input_ids: dict[str, list[str]] = Field(default_factory=dict)
    #: Earlier job that its owner repeats with this one, with other parameters or inputs; None for any other job.
    retry_of: str | None = None

    @property
    def upload_ids(self) -> dict[str, list[str]]:
        """Ids of the uploads of each input."""
        return self.input_ids or {name: [given.upload_id for given in files] for name, files in self.inputs.items()}

    @property
    def used_uploads(self) -> list[str]:
        """Ids of all uploads that the job uses."""
        return [upload_id for ids in self.upload_ids.values() for upload_id in ids]


class JobQueued(EventData):
    """The dispatcher has queued the job."""

    type: ClassVar[str] = "job.queued"

    position: int


class JobStarting(EventData):
    """The dispatcher is about to launch a worker for this attempt."""

    type: ClassVar[str] = "job.starting"

    attempt: int
    run_id: str
    executor: str
    device: str
    #: Rung of the ladder of ``device``, from 0, and its price per second.
    rung: int = 0
    usd_per_s: float | None = None
    #: Amount reserved from the tenant's budgets until the attempt ends; of a pipeline, for the jobs of its stages.
    reserved_usd: float = Field(default=0.0, ge=0)


class JobWaitingForGpu(EventData):
    """The attempt was launched, but no worker has started: the requested device is not available yet."""

    type: ClassVar[str] = "job.waiting_for_gpu"

    attempt: int
    run_id: str
    device: str
    waited_s: float = Field(ge=0)
    #: Inputs waiting for this kind of worker, and existing workers, as reported by the executor; None if unknown.
    backlog: int | None = None
    workers: int | None = None
    #: Device of the next rung and the time at which it is tried; None on the last rung.
    next_device: str | None = None
    next_at: AwareDatetime | None = None


class JobLaunched(EventData):
    """The executor accepted the attempt and returned a call id."""

    type: ClassVar[str] = "job.launched"

    attempt: int
    run_id: str
    call_id: str


class JobStarted(EventData):
    """A worker claimed the attempt; no other worker can claim it."""

    type: ClassVar[str] = "job.started"

    attempt: int
    run_id: str
    #: Device that was assigned; sometimes larger than the requested one.
    device: str
    worker: str
    #: Executor's id of this call, in case the dispatcher died before it recorded the id.
    call_id: str | None = None
    #: Start of the billed time; None if nothing is billed before the worker starts.
    billed_since: AwareDatetime | None = None


class JobProgressed(EventData):
    """Progress of the job. Repeated without changes as a heartbeat."""

    type: ClassVar[str] = "job.progressed"
    kind: ClassVar[Literal["evt", "prog"]] = ADVISORY

    attempt: int
    run_id: str
    stage: str
    fraction: float = Field(ge=0, le=1)
    stage_fraction: float = Field(ge=0, le=1)
    message: str = ""
    eta_s: float | None = None
    #: Frames of the video that the current step has processed, and all that it will; None if it counts none.
    frame: int | None = Field(default=None, ge=0)
    frame_count: int | None = Field(default=None, ge=0)


class JobArtifactReady(EventData):
    """A file of the job is in the bucket."""

    type: ClassVar[str] = "job.artifact_ready"

    attempt: int
    run_id: str
    artifact: Artifact


class JobStageCompleted(EventData):
    """A stage is completed; a retry does not repeat it."""

    type: ClassVar[str] = "job.stage_completed"

    attempt: int
    run_id: str
    stage: str
    duration_s: float
    #: Total cost of the jobs of a pipeline's stage; None for the stages of a single worker.
    cost: Cost | None = None


class JobInterrupted(EventData):
    """An attempt ended without a result; published by the worker, or by the dispatcher if the worker is gone."""

    type: ClassVar[str] = "job.interrupted"

    attempt: int
    run_id: str
    failure: FailureClass
    error: ErrorBody
    cost: Cost | None = None
    #: Delay before the next launch that the executor asked for when it rejected this one.
    retry_after_s: float | None = None


class JobRetrying(EventData):
    """The job will have another attempt after a delay."""

    type: ClassVar[str] = "job.retrying"

    attempt: int
    #: Attempt from which the workload's maximum is counted; a retry by a user resets it.
    first_attempt: int = 1
    after: FailureClass | Literal["asked"]
    delay_s: float
    #: Rung of the ladder for the next attempt.
    rung: int = 0
    not_before: AwareDatetime
    deadline: AwareDatetime


class JobCancelRequested(EventData):
    """Cancellation of the job was requested; the event is durable, even if the dispatcher or worker is down."""

    type: ClassVar[str] = "job.cancel_requested"

    by: str


class JobSucceeded(EventData):
    """The job succeeded; its manifest is in the bucket."""

    type: ClassVar[str] = "job.succeeded"

    attempt: int
    run_id: str
    result: dict[str, Any]
    manifest_key: str
    duration_s: float
    cost: Cost


class JobFailed(EventData):
    """The job failed and is not retried automatically."""

    type: ClassVar[str] = "job.failed"

    attempt: int
    failure: FailureClass
    error: ErrorBody


class JobCancelled(EventData):
    """The job was cancelled; its worker has ended."""

    type: ClassVar[str] = "job.cancelled"

    attempt: int


class JobRetentionChanged(EventData):
    """A user changed how long the scratch files of an ended job are kept; a past time removes them now."""

    type: ClassVar[str] = "job.retention_changed"

    keep_until: AwareDatetime
    by: str


class JobScratchRemoved(EventData):
    """The scratch files of an ended job are being removed; its results stay."""

    type: ClassVar[str] = "job.scratch_removed"

    files: int = Field(ge=0)


class JobResultsRetentionChanged(EventData):
    """A user changed how long the results of an ended job are kept, whatever the limit of the tenant."""

    type: ClassVar[str] = "job.results_retention_changed"

    keep_until: AwareDatetime
    by: str


class JobResultsExpired(EventData):
    """The results of an ended job are not served any more, and are being removed."""

    type: ClassVar[str] = "job.results_expired"

    reason: Literal["retention", "asked"]
    #: Who asked for it.
    by: str | None = None


class JobResultsRemoved(EventData):
    """The results of an ended job were removed from the bucket."""

    type: ClassVar[str] = "job.results_removed"

    files: int = Field(ge=0)


#: Durable and advisory events that a worker publishes about its own job; the services publish the others.
WORKER_VERBS: Final = ("started", "stage_completed", "artifact_ready", "interrupted", "succeeded")
WORKER_PROGRESS_VERBS: Final = ("progressed",)
#: Verbs of all durable job events.
JOB_VERBS: Final = tuple(
    event_type.removeprefix("job.")
    for event_type, event_class in EVENT_CLASSES.items()
    if event_type.startswith("job.") and event_class.kind == DURABLE
)
