"""Attempts as a window tells of them: when it was launched and claimed, how it ended, and by whom. Pure.

These are the facts that a replay plays. How a dispatcher came to know of an end is read from the failure class and
from the sentence in its error: the sentences stay in this table when later versions word them differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from services.dispatcher.attempts.retry import jitter_of
from services.whatif.window import RecordedEvent


class End(StrEnum):
    """End of an attempt."""

    #: Not within the window.
    OPEN = "open"
    #: Its worker said so.
    BY_WORKER = "by_worker"
    #: The executor refused the launch, for good or for now.
    REFUSED = "refused"
    THROTTLED = "throttled"
    #: The worker was gone, or sent no heartbeats any more.
    GONE = "gone"
    SILENT = "silent"
    #: The worker was gone and had left its result in the bucket.
    RECOVERED = "recovered"
    #: The dispatcher stopped it, by its own rules.
    STOPPED = "stopped"


#: Sentences by which a dispatcher told why it ended an attempt itself, of every released version.
STOPPED_SENTENCES: Final = ("No worker started in time.", "The job was cancelled.")
SILENT_SENTENCES: Final = ("The worker sends no heartbeats any more.",)
#: Failures that follow from the dispatcher's own rules alone.
_OWN_FAILURES: Final = frozenset({"user", "timed_out", "no_gpu"})
_EXACT_S: Final = 0.002


@dataclass
class RecordedAttempt:
    """One run of a job."""

    job_id: str
    tenant: str
    run_id: str
    number: int
    executor: str
    device: str
    rung: int
    usd_per_s: float | None
    starting_at: datetime
    launched_at: datetime | None = None
    call_id: str | None = None
    started_at: datetime | None = None
    #: ``billed_since``, device and worker of ``job.started``.
    started: Mapping[str, Any] = field(default_factory=dict)
    waits: list[RecordedEvent] = field(default_factory=list)
    #: What the worker published besides: stages and artifacts.
    said: list[RecordedEvent] = field(default_factory=list)
    end: End = End.OPEN
    ended: RecordedEvent | None = None
    #: Delay that the executor asked for when it refused the launch.
    retry_after_s: float | None = None
    #: Whether the record tells that delay, or that there was none: in its event, or by the delay of the retry.
    tells_delay: bool = False

    @property
    def message(self) -> str:
        """Return the message of the error with which it ended."""
        return str(_error_of(self.ended).get("message", "")) if self.ended else ""

    @property
    def failure(self) -> str | None:
        """Return the class of the failure with which it ended."""
        return self.ended.envelope.data.get("failure") if self.ended else None


class RecordedAttempts:
    """All attempts of a window and of what is known from before it."""

    def __init__(self, events: Iterable[RecordedEvent], throttled_s: float) -> None:
        """Read the events; ``throttled_s`` is the delay after a refused launch for which no other was asked."""
        self.by_run: dict[str, RecordedAttempt] = {}
        self.by_job: dict[str, dict[int, RecordedAttempt]] = {}
        #: Times and prices of each device, in order.
        self.prices: dict[str, list[tuple[datetime, float]]] = {}
        self._throttled_s = throttled_s
        for event in events:
            if event.of_job:
                self._read(event)

    def of(self, job_id: str, number: int) -> RecordedAttempt | None:
        """Return an attempt by its number."""
        return self.by_job.get(job_id, {}).get(number)

    def _read(self, event: RecordedEvent) -> None:
        data, kind = event.envelope.data, event.envelope.type
        if kind == "job.starting":
            self._read_start(event)
            return
        if kind == "job.retrying":
            self._read_delay(event)
            return
        attempt = self.by_run.get(str(data.get("run_id")))
        if attempt is None:
            return
        match kind:
            case "job.launched":
                attempt.launched_at, attempt.call_id = event.at, data["call_id"]
            case "job.started":
                attempt.started_at, attempt.started = event.at, data
                attempt.call_id = attempt.call_id or data.get("call_id")
            case "job.waiting_for_gpu":
                attempt.waits.append(event)
            case "job.succeeded" | "job.interrupted" if attempt.end is End.OPEN:
                attempt.ended, attempt.end = event, _end_of(event, attempt)
                attempt.retry_after_s = data.get("retry_after_s")
                attempt.tells_delay = "retry_after_s" in data
            case "job.stage_completed" | "job.artifact_ready" if not event.by_dispatcher:
                attempt.said.append(event)

    def _read_start(self, event: RecordedEvent) -> None:
        data, envelope = event.envelope.data, event.envelope
        attempt = RecordedAttempt(
            job_id=envelope.subject,
            tenant=envelope.tenant,
            run_id=data["run_id"],
            number=data["attempt"],
            executor=data["executor"],
            device=data["device"],
            rung=data.get("rung", 0),
            usd_per_s=data.get("usd_per_s"),
            starting_at=event.at,
        )
        self.by_run[attempt.run_id] = attempt
        self.by_job.setdefault(attempt.job_id, {})[attempt.number] = attempt
        if attempt.usd_per_s is not None and attempt.usd_per_s > 0:
            self.prices.setdefault(attempt.device, []).append((event.at, attempt.usd_per_s))

    def _read_delay(self, event: RecordedEvent) -> None:
        """Find out which delay an executor asked for, where its refusal does not say it: the retry after it does."""
        data = event.envelope.data
        attempt = self.of(event.envelope.subject, int(data["attempt"]) - 1)
        if attempt is None or data.get("after") != "throttled" or attempt.tells_delay:
            return
        attempt.tells_delay = True
        jitter, delay_s = jitter_of(attempt.run_id), float(data["delay_s"])
        if abs(delay_s - self._throttled_s * (0.5 + 0.5 * jitter)) > _EXACT_S:
            attempt.retry_after_s = round(delay_s / (1.0 + 0.5 * jitter), 3)


def _end_of(event: RecordedEvent, attempt: RecordedAttempt) -> End:
    data = event.envelope.data
    if not event.by_dispatcher:
        return End.BY_WORKER
    if event.envelope.type == "job.succeeded":
        return End.RECOVERED
    failure, message = data.get("failure"), _error_of(event).get("message", "")
    if message in SILENT_SENTENCES:
        return End.SILENT
    if failure in _OWN_FAILURES or message in STOPPED_SENTENCES:
        return End.STOPPED
    if failure == "throttled":
        return End.THROTTLED
    if failure == "not_started" and attempt.call_id is None:
        return End.REFUSED
    return End.GONE


def _error_of(event: RecordedEvent) -> Mapping[str, Any]:
    error = event.envelope.data.get("error")
    return error if isinstance(error, dict) else {}
