"""Follower of one callback: reads the events of its run and makes one request after the other until it has ended."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from contracts.callback import Callback
from contracts.errors import SaccadeError
from contracts.events.base import decode
from contracts.events.job import JobProgressed
from contracts.streams import aggregate
from kit.bus.event_store import Conflict, EventStore
from services.notifier.callbacks.artifacts import ArtifactMissing, Artifacts
from services.notifier.callbacks.callback_store import CallbackStore
from services.notifier.callbacks.job_facts import JobFacts
from services.notifier.callbacks.next_step import (
    LOG_ATTEMPTS,
    AdvisoryState,
    SendFailure,
    SendLog,
    SendResults,
    SendStatus,
    Step,
    StoreArtifact,
    Wait,
    next_step,
)
from services.notifier.callbacks.result_figures import SummaryError, figures_of
from services.notifier.callbacks.site import Site, SiteError
from services.notifier.callbacks.site_requests import (
    MEDIA_TYPES,
    SUMMARY_FILE,
    VIDEO_FILE,
    log_request,
    results_request,
    status_request,
)
from services.notifier.webhooks.deliveries.retry_schedule import next_delay_s
from services.notifier.webhooks.sending.sender import SendResult

log = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
#: Maximum time without a look at the events: a change of the clock is noticed then.
_CHECK_S: Final = 30.0
#: Result of an attempt that did not come to a request, because the bucket did not answer.
_NOT_SENT: Final = SendResult(None, "connect_failed", 0.0)


@dataclass(frozen=True)
class FollowerParts:
    """Objects that the followers of all callbacks share."""

    store: CallbackStore
    events: EventStore
    site: Site
    artifacts: Artifacts
    now: Callable[[], datetime]


class _Undeliverable(Exception):  # noqa: N818 - handled where it is raised
    """The results cannot be sent, whatever the site answers."""


class CallbackFollower:
    """The requests of one callback, in order and one at a time."""

    def __init__(self, subject: str, parts: FollowerParts) -> None:
        """Follow the callback with this NATS subject."""
        self._subject = subject
        self._parts = parts
        self._facts: JobFacts | None = None
        self._advisory = AdvisoryState()
        self._changed = asyncio.Event()
        #: Whether there may be events that were not read; progress comes much more often than they.
        self._behind = True
        self._stopping = False

    def wake(self) -> None:
        """Look at the record and the events again."""
        self._behind = True
        self._changed.set()

    def stop(self) -> None:
        """Make no further request."""
        self._stopping = True
        self._changed.set()

    def on_progress(self, body: bytes) -> None:
        """Keep progress of the job.

        Raises:
            ValueError: it is not an event.
        """
        envelope = decode(body)
        if self._facts is not None and envelope.type == JobProgressed.type:
            self._facts.on_progress(JobProgressed.model_validate(envelope.data))
            self._changed.set()

    async def run(self) -> None:
        """Follow until the callback has ended."""
        while not self._stopping and (stored := self._parts.store.find(self._subject)) is not None:
            self._changed.clear()
            try:
                facts = await self._read(stored.callback)
                step = next_step(stored.callback, facts, self._advisory, self._parts.now())
                await self._take(step, stored.callback, stored.sequence)
            except Conflict:
                log.info("callbacks: %s was changed meanwhile", self._subject)
            except SaccadeError as error:
                log.warning("callbacks: %s", error)
                self._behind = True
                await asyncio.sleep(_RETRY_S)

    async def _read(self, callback: Callback) -> JobFacts:
        """Return the facts of the callback's run, with all events stored up to now.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        facts = self._facts
        if facts is None or facts.job_id != callback.job_id:
            facts = self._facts = JobFacts(callback.job_id)
            self._advisory, self._behind = AdvisoryState(), True
        if not self._behind:
            return facts
        self._behind = False
        subjects = [aggregate(callback.tenant, "job", callback.job_id)]
        if facts.job is None:  # uploads end before the job is submitted
            uploads = [aggregate(callback.tenant, "upload", upload_id) for upload_id in callback.upload_ids]
            subjects = [*uploads, *subjects]
        events = [event for subject in subjects async for event in self._parts.events.history(facts.read_to, subject)]
        # In the order of the stream: an upload may be deleted after its job has ended.
        for event in sorted(events, key=lambda event: event.sequence):
            facts.on_event(event, callback)
        return facts

    async def _take(self, step: Step, callback: Callback, sequence: int) -> None:
        """Take one step and record it.

        Raises:
            Conflict: another process has changed the callback.
        """
        match step:
            case Wait():
                await self._wait(step.until)
            case SendStatus():
                await self._send_status(step, callback)
            case SendLog():
                await self._send_log(step, callback, sequence)
            case StoreArtifact() | SendResults() | SendFailure():
                await self._end(step, callback, sequence)

    async def _wait(self, until: datetime | None) -> None:
        wait_s = _CHECK_S if until is None else min(_CHECK_S, (until - self._parts.now()).total_seconds())
        try:
            async with asyncio.timeout(max(0.0, wait_s)):
                await self._changed.wait()
        except TimeoutError:
            self._behind = self._behind or until is None

    async def _send_status(self, step: SendStatus, callback: Callback) -> None:
        request = status_request(
            callback, "processing", progress=step.progress, frame=step.frame, frame_count=step.frame_count
        )
        self._advisory.status_at = self._parts.now()
        try:
            await self._parts.site.send(callback, request)
        except SiteError as error:
            self._advisory.failed(self._parts.now())
            log.info("callbacks: %s of %s: %s", request.path, callback.job_id, error)
        else:
            self._advisory.succeeded()
            self._advisory.sent = step

    async def _send_log(self, step: SendLog, callback: Callback, sequence: int) -> None:
        try:
            await self._parts.site.send(callback, log_request(callback, step.entry))
        except SiteError as error:
            self._advisory.failed(self._parts.now())
            self._advisory.log_attempts += 1
            log.info("callbacks: an entry of the log of %s: %s", callback.job_id, error)
            if self._advisory.log_attempts < LOG_ATTEMPTS:
                return
        else:
            self._advisory.succeeded()
        self._advisory.log_attempts = 0
        facts = self._facts
        assert facts is not None
        del facts.log[0]
        if not facts.log or facts.log[0][0] > step.sequence:  # all entries of the event
            await self._put(callback, {"logged": step.sequence}, sequence)

    async def _end(self, step: StoreArtifact | SendResults | SendFailure, callback: Callback, sequence: int) -> None:
        """Make one attempt of a step that ends the video, and record its result.

        Raises:
            Conflict: another process has changed the callback.
        """
        done: dict[str, Any] = {"attempts": 0, "due": None, "last_error": None}
        try:
            changes = done | await self._attempt(step, callback)
        except _Undeliverable as error:
            changes = done | {"undeliverable": str(error), "last_error": str(error)}
        except SiteError as error:
            changes = self._failed(step, callback, str(error), error.result)
        except SaccadeError as error:
            changes = self._failed(step, callback, error.message, _NOT_SENT)
        if error_text := changes["last_error"]:
            log.warning("callbacks: %s: %s", callback.job_id, error_text, extra={"next_attempt_at": changes["due"]})
        if outcome := changes.get("outcome"):
            log.info("callbacks: %s has ended: %s", callback.job_id, outcome)
        await self._put(callback, changes, sequence)

    async def _put(self, callback: Callback, changes: dict[str, Any], sequence: int) -> None:
        """Record what changes by a request, also where the client has requested the same run again meanwhile.

        Raises:
            Conflict: there is another run, or the request was one that the client now waits for again.
        """
        while True:
            try:
                await self._parts.store.put(callback.model_copy(update=changes), sequence)
            except Conflict:
                newer = self._parts.store.find(self._subject)
                repeated = newer is not None and newer.callback.job_id == callback.job_id
                if newer is None or not repeated or not changes.keys() & {"stored", "logged"}:
                    raise
                callback, sequence = newer.callback, newer.sequence
            else:
                return

    async def _attempt(self, step: StoreArtifact | SendResults | SendFailure, callback: Callback) -> dict[str, Any]:
        """Make one attempt and return what changes by it.

        Raises:
            SiteError, SaccadeError, _Undeliverable: it failed.
        """
        site = self._parts.site
        match step:
            case StoreArtifact():
                return {"stored": callback.stored | {step.name: await self._store(step.name, callback)}}
            case SendResults():
                await site.send(callback, results_request(callback, await self._figures(callback)))
                return {"outcome": "completed"}
            case SendFailure():
                await site.send(callback, status_request(callback, "failed", error=step.error))
                return {"outcome": "failed"}

    async def _store(self, name: str, callback: Callback) -> str:
        """Store an artifact at the site; return its storage id, or nothing for a video that the job did not make.

        Raises:
            SiteError, SaccadeError, _Undeliverable: it was not stored.
        """
        self._check_bucket()
        try:
            async with self._parts.artifacts.opened(callback.job_id, name) as body:
                return await self._parts.site.upload(callback, body, MEDIA_TYPES[name])
        except ArtifactMissing:
            if name == VIDEO_FILE:
                return ""
            raise _Undeliverable(f"The job has succeeded, but has no artifact {name}.") from None

    async def _figures(self, callback: Callback) -> dict[str, Any]:
        """Return the figures of the results.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
            _Undeliverable: there are none.
        """
        self._check_bucket()
        try:
            summary = await self._parts.artifacts.read(callback.job_id, SUMMARY_FILE)
            job = self._facts.job if self._facts else None
            return figures_of(callback.dialect, summary, (job.result if job else None) or {})
        except ArtifactMissing:
            raise _Undeliverable(f"The job has succeeded, but has no artifact {SUMMARY_FILE}.") from None
        except SummaryError as error:
            raise _Undeliverable(f"The job has succeeded, but {error}.") from error

    def _check_bucket(self) -> None:
        if self._parts.artifacts.settings is None:
            raise _Undeliverable("The notifier has no settings of the bucket (S3_…), so it cannot send results.")

    def _failed(
        self, step: StoreArtifact | SendResults | SendFailure, callback: Callback, message: str, result: SendResult
    ) -> dict[str, Any]:
        """Return what changes by a failed attempt: the time of the next one, or how the callback goes on without."""
        attempts = callback.attempts + 1
        delay_s = next_delay_s(
            attempts,
            status=result.status,
            error=result.error,
            retry_after_s=result.retry_after_s,
            chance=random.random(),  # noqa: S311 - spreads retries, not a secret
        )
        if delay_s is not None:
            due = self._parts.now() + timedelta(seconds=delay_s)
            return {"attempts": attempts, "due": due, "last_error": message}
        ended: dict[str, Any] = {"attempts": 0, "due": None, "last_error": message}
        if isinstance(step, SendFailure):
            return ended | {"outcome": "abandoned"}
        return ended | {"undeliverable": f"The results could not be delivered: {message}"}
