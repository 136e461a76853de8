"""Decision which request a callback makes next. Pure: record, facts and time are arguments.

Status and log are advisory: they are conflated, tried a few times and dropped. What ends a video (its files, its
results, its failure) is tried by the schedule of webhooks, and each success is recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from contracts.callback import Callback
from services.notifier.callbacks.job_facts import JobFacts
from services.notifier.callbacks.site_requests import LogEntry, artifacts_to_store

#: Minimum interval between two status requests of one video.
STATUS_INTERVAL: Final = timedelta(seconds=2)
#: An entry of the log that was refused this often is dropped.
LOG_ATTEMPTS: Final = 3
#: Pause of advisory requests after a failure; doubled with each further one.
_PAUSE: Final = timedelta(seconds=2)
_MAX_PAUSE: Final = timedelta(seconds=60)


@dataclass(frozen=True)
class SendStatus:
    """Send the newest progress."""

    progress: float
    frame: int | None
    frame_count: int | None


@dataclass(frozen=True)
class SendLog:
    """Send the oldest entry of the log."""

    sequence: int
    entry: LogEntry


@dataclass(frozen=True)
class StoreArtifact:
    """Store one of the job's artifacts at the site."""

    name: str


@dataclass(frozen=True)
class SendResults:
    """Complete the video."""


@dataclass(frozen=True)
class SendFailure:
    """Set the video's status to failed."""

    error: str


@dataclass(frozen=True)
class Wait:
    """Do nothing until something changes, or until a time."""

    until: datetime | None = None


Step = SendStatus | SendLog | StoreArtifact | SendResults | SendFailure | Wait


@dataclass
class AdvisoryState:
    """Advisory requests of one video so far, as one process remembers them."""

    failures: int = 0
    log_attempts: int = 0
    allowed_at: datetime | None = None
    status_at: datetime | None = None
    sent: SendStatus | None = None

    def succeeded(self) -> None:
        """Record that the site accepted a request."""
        self.failures, self.allowed_at = 0, None

    def failed(self, now: datetime) -> None:
        """Record that it did not: pause."""
        self.failures += 1
        self.allowed_at = now + min(_PAUSE * 2 ** min(self.failures - 1, 10), _MAX_PAUSE)


def next_step(callback: Callback, facts: JobFacts, advisory: AdvisoryState, now: datetime) -> Step:
    """Return the next step of a callback that has not ended."""
    failure = callback.undeliverable or facts.failure
    if failure is None and not facts.succeeded:
        return _advise(facts, advisory, now)
    if facts.log and not advisory.failures and not callback.attempts:
        return SendLog(*facts.log[0])
    if callback.due is not None and callback.due > now:
        return Wait(callback.due)
    if failure is not None:
        return SendFailure(failure)
    for name in artifacts_to_store(callback):
        if name not in callback.stored:
            return StoreArtifact(name)
    return SendResults()


def _advise(facts: JobFacts, advisory: AdvisoryState, now: datetime) -> Step:
    """Return the next advisory request of a video whose analysis goes on."""
    if advisory.allowed_at is not None and advisory.allowed_at > now:
        return Wait(advisory.allowed_at)
    if facts.log:
        return SendLog(*facts.log[0])
    status = _status(facts)
    if status is None or status == advisory.sent:
        return Wait()
    if advisory.status_at is not None and (at := advisory.status_at + STATUS_INTERVAL) > now:
        return Wait(at)
    return status


def _status(facts: JobFacts) -> SendStatus | None:
    progress = facts.progress
    if progress is None or not facts.running:
        return None
    return SendStatus(round(100 * progress.fraction, 1), progress.frame, progress.frame_count)
