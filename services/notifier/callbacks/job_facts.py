"""Facts of a callback's run, folded from the events of its uploads and its job. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from contracts.callback import Callback
from contracts.errors import ErrorBody, ErrorCode
from contracts.events.base import EVENT_CLASSES, EventData, decode_at
from contracts.events.job import (
    JobCancelled,
    JobFailed,
    JobInterrupted,
    JobProgressed,
    JobRetrying,
    JobStageCompleted,
    JobStarted,
    JobStarting,
    JobSucceeded,
    JobWaitingForGpu,
)
from contracts.events.upload import UploadCompleted, UploadFailed
from contracts.job import Job, State, fold_stored
from kit.bus.event_store import StoredEvent
from services.notifier.callbacks.site_requests import Category, LogEntry

#: Warnings of one result that go into the log: the page shows its first hundred entries.
_WARNINGS: Final = 20
_CATEGORIES: Final[dict[str, Category]] = {"court": "court", "detect": "detection", "track": "detection"}


@dataclass
class JobFacts:
    """Facts of one run; ``read_to`` is the sequence of the newest event among them."""

    job_id: str
    read_to: int = 0
    job: Job | None = None
    #: Why a file could not be fetched: there will be no job.
    upload_error: ErrorBody | None = None
    progress: JobProgressed | None = None
    #: Entries that are not delivered yet, with the sequences of their events, in order.
    log: list[tuple[int, LogEntry]] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Whether a worker executes the job, so that its progress counts."""
        return self.job is not None and self.job.state is State.RUNNING

    @property
    def succeeded(self) -> bool:
        """Whether the job has its results."""
        return self.job is not None and self.job.state is State.SUCCEEDED

    @property
    def failure(self) -> str | None:
        """Why the run has ended without results; None if it has not."""
        if self.upload_error is not None:
            return _sentence(self.upload_error)
        if self.job is None or self.job.state not in (State.FAILED, State.CANCELLED):
            return None
        if self.job.state is State.CANCELLED:
            return "The analysis was cancelled."
        return _sentence(self.job.error) if self.job.error else "The analysis failed."

    def on_event(self, stored: StoredEvent, callback: Callback) -> None:
        """Fold one stored event of the job or of an upload, in the order of the stream."""
        if stored.sequence <= self.read_to:
            return
        self.read_to = stored.sequence
        try:
            envelope = decode_at(stored.subject, stored.body)
            data = envelope.parsed() if envelope.type in EVENT_CLASSES else None
        except ValueError:
            return
        if isinstance(data, UploadFailed):
            if self.job is not None:
                return  # its job does not need it any more: it was deleted
            self.upload_error = data.error or ErrorBody(
                code=ErrorCode.UPLOAD_BYTES_MISSING, message=f"The video was {data.reason}.", hint=""
            )
        if envelope.subject == self.job_id:
            self.job = fold_stored(self.job, stored.subject, stored.body, stored.sequence)
        if callback.dialect == "site" and stored.sequence > callback.logged and data is not None:
            self.log += [(stored.sequence, entry) for entry in log_entries(data)]

    def on_progress(self, data: JobProgressed) -> None:
        """Keep the newest progress of the current run."""
        if self.job is not None and self.job.is_current_run(data.attempt, data.run_id):
            self.progress = data


def log_entries(data: EventData) -> list[LogEntry]:
    """Return the log entries of an event: mostly one, none for events that do not concern the user of the video."""
    entry = _entry(data)
    entries = [] if entry is None else [entry]
    if isinstance(data, JobSucceeded):
        warnings, missing = data.result.get("warnings"), data.result.get("missing")
        texts = [text for text in warnings or () if isinstance(text, str)]
        texts += [f"No {part.get('part')}: {part.get('reason')}" for part in missing or () if isinstance(part, dict)]
        entries += [LogEntry(text, "warning", "processing") for text in texts[:_WARNINGS]]
    return entries


def _entry(data: EventData) -> LogEntry | None:
    match data:
        case UploadCompleted():
            return LogEntry(f"Video received: {data.size_bytes / 1e6:.1f} MB", "info", "processing")
        case UploadFailed():
            return LogEntry(f"Video not received: {_sentence(data.error)}", "error", "processing")
        case JobStarting():
            return LogEntry(f"Starting the analysis on {data.device}, attempt {data.attempt}", "info", "modal")
        case JobWaitingForGpu():
            return LogEntry(f"Waiting for {data.device} since {data.waited_s:.0f} s", "info", "modal")
        case JobStarted():
            return LogEntry(f"Analysis started on {data.device}", "success", "modal")
        case JobStageCompleted():
            message = f"Stage {data.stage} completed in {data.duration_s:.1f} s"
            return LogEntry(message, "success", _CATEGORIES.get(data.stage, "processing"))
        case JobInterrupted():
            return LogEntry(f"Attempt {data.attempt} ended: {_sentence(data.error)}", "warning", "modal")
        case JobRetrying():
            return LogEntry(f"Attempt {data.attempt} begins in {data.delay_s:.0f} s", "warning", "modal")
        case JobSucceeded():
            return LogEntry("Analysis finished, the results are being sent", "info", "processing")
        case JobFailed():
            return LogEntry(f"Analysis failed: {_sentence(data.error)}", "error", "processing")
        case JobCancelled():
            return LogEntry("Analysis cancelled", "error", "processing")
    return None


def _sentence(error: ErrorBody | None) -> str:
    return "" if error is None else f"{error.message} {error.hint}".strip()
