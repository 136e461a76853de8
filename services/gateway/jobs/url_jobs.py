"""Jobs with inputs by URL: accepted durably, their files fetched, then submitted, exactly once.

One record holds the whole intent before anything is done for it: the valid request, the ids of the job and of its
uploads. Whatever process dies afterwards, any gateway carries the intent out: it creates the missing uploads, and when
all are completed it submits the job, on condition that it has no event yet. If a file cannot be used, the record keeps
the error for the rest of the day, and no job is submitted; only where an upload is deleted at the moment of its
submission, the job is stored, and cancelled at once.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Final

from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.job import JobSubmitted
from contracts.ids import new_id
from contracts.job import Job
from contracts.upload import Upload, UploadState
from kit.bus.idempotency import Idempotency, IdempotencyKey
from modal_workers import catalog
from services.gateway.aggregates.completion_waiters import CompletionWaiters
from services.gateway.jobs.service import JobService
from services.gateway.jobs.submission import CheckedJob, JobRequest
from services.gateway.jobs.url_inputs import reserve_uploads
from services.gateway.uploads.fetching.records import Record, Records, UploadFetch
from services.gateway.uploads.fetching.upload_fetches import UploadFetches
from services.gateway.uploads.service import TEMPORARY_ERRORS, UploadService

log = logging.getLogger(__name__)

_RETRY_S: Final = 2.0
#: A waiting request looks for the outcome this often, if nobody tells it.
_LOOK_S: Final = 2.0


class JobIntent(Record):
    """A job that is submitted when its files have been fetched."""

    #: The event of the job, without its inputs; None after a failure.
    submitted: JobSubmitted | None
    #: Ids of its uploads, by input.
    inputs: dict[str, list[str]]
    #: Files to fetch; empty after a failure.
    fetches: list[UploadFetch]
    #: Why it cannot be submitted.
    error: ErrorBody | None = None


@dataclass(frozen=True)
class AcceptedJob:
    """An accepted request: the job's id, which may have no event yet, and the ids of its uploads by input."""

    job_id: str
    upload_ids: dict[str, list[str]]


class UrlJobs:
    """Operations on jobs with inputs by URL. All are tenant-scoped."""

    def __init__(
        self,
        jobs: JobService,
        uploads: UploadService,
        fetches: UploadFetches,
        idempotency: Idempotency,
        waiters: CompletionWaiters,
    ) -> None:
        """Use the services of jobs and uploads."""
        self._jobs, self._uploads, self._fetches = jobs, uploads, fetches
        self._policy, self._wait_s = fetches.policy, fetches.policy.settings.wait_s
        self._idempotency, self._waiters = idempotency, waiters
        self._intents = Records(fetches.store, "job", JobIntent)
        self._queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._queued: set[tuple[str, str]] = set()

    async def accept(
        self, tenant: str, request: JobRequest, key: IdempotencyKey | None, job_id: str | None = None
    ) -> AcceptedJob:
        """Store durably that a job is submitted when its files have been fetched, and return at once.

        Idempotent by ``key``, or by ``job_id`` (a new id of the caller's). From the return on, without another call and
        also if every process dies: each file gets its upload, with the events of an upload; when all are completed, the
        job with this id is submitted, exactly once; if one fails, it is not. An error means that nothing was stored, or
        BUS_UNAVAILABLE: repeat the call.

        Raises:
            SaccadeError: what ``JobService.submit`` raises, as far as it does not depend on the files; URL_INVALID,
                URL_ADDRESS_REFUSED, URL_INPUT_NOT_ALLOWED, RATE_LIMITED, QUOTA_EXCEEDED.
        """
        known_id = job_id or (await self._idempotency.recall(key) if key else None)
        if known_id and (known := await self._known(tenant, known_id)):
            return known
        new = known_id or new_id("job")
        intent = await self._intent(tenant, request, new)
        async with self._fetches.room(tenant, len(intent.fetches), for_job=True):
            if key and known_id is None and (claimed := await self._idempotency.claim(key, new)) != new:
                # A concurrent request with the same key was first: its id counts.
                fetches = [wanted.model_copy(update={"job_id": claimed}) for wanted in intent.fetches]
                intent = intent.model_copy(update={"id": claimed, "fetches": fetches})
            if not await self._intents.add(intent):
                if known := await self._known(tenant, intent.id):
                    return known
                raise SaccadeError(ErrorCode.BUS_UNAVAILABLE)
            await self._carry_out(tenant, intent.id)
        return AcceptedJob(intent.id, intent.inputs)

    async def submit(self, tenant: str, request: JobRequest, key: IdempotencyKey | None) -> Job:
        """Accept a job and wait until it is submitted.

        Raises:
            SaccadeError: as ``accept``; why a file cannot be used; URL_FETCH_PENDING, when the files take longer.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._wait_s
        accepted = await self.accept(tenant, request, key)
        while True:
            if job := await self.outcome(tenant, accepted.job_id):
                return job
            if (remaining_s := ends_at - loop.time()) <= 0 or self._waiters.stopping:
                raise _pending(accepted)
            await self._waiters.wait(_waiter(accepted.job_id), min(_LOOK_S, remaining_s))

    async def outcome(self, tenant: str, job_id: str) -> Job | None:
        """Return the job of an accepted request; None while its files are being fetched.

        Raises:
            SaccadeError: why it is never submitted; BUS_UNAVAILABLE.
        """
        # The record first: it is deleted when the job has been submitted.
        found = await self._intents.load(tenant, job_id)
        if found and (error := found[0].error):
            raise SaccadeError(error.code, error.message, hint=error.hint)
        return None if found else await self._jobs.find(tenant, job_id)

    async def check(self, tenant: str, request: JobRequest, *, complete: bool = False) -> CheckedJob:
        """Validate a request without storing it, as ``JobService.check`` does; nothing is fetched.

        Raises:
            SaccadeError: as ``accept``, for what is given.
        """
        ids, fetches = reserve_uploads(
            tenant, catalog.workload(request.workload), request.inputs, self._policy, job_id=None
        )
        reserved = frozenset(wanted.id for wanted in fetches)
        return await self._jobs.check(tenant, replace(request, inputs=dict(ids)), reserved, complete=complete)

    async def explain_missing(self, tenant: str, job_id: str) -> SaccadeError | None:
        """Return why a job that was accepted has no event; None if it was not accepted, or has one by now.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        found = await self._intents.load(tenant, job_id)
        if found is None:
            return None
        if error := found[0].error:
            return SaccadeError(error.code, error.message, hint=error.hint)
        return _pending(AcceptedJob(job_id, found[0].inputs))

    def on_upload(self, upload: Upload) -> None:
        """Enqueue the job that waits for an upload which has ended; called with each upload event."""
        source = upload.created.source
        if source is not None and source.job_id and upload.state is not UploadState.CREATED:
            self._enqueue(upload.tenant, source.job_id)

    async def sweep(self) -> None:
        """Enqueue every intent that is not carried out; called periodically.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        async for intent, _ in self._intents.all():
            if intent.error is None:
                self._enqueue(intent.tenant, intent.id)

    async def run(self, view_ready: asyncio.Event) -> None:
        """Carry out intents until cancelled, once the view has caught up with the stream."""
        await view_ready.wait()
        loop = asyncio.get_running_loop()
        swept = False
        while True:
            try:
                if not swept:
                    await self.sweep()
                    swept = True
                tenant, job_id = await self._queue.get()
                self._queued.discard((tenant, job_id))
                try:
                    await self._carry_out(tenant, job_id)
                except SaccadeError:
                    loop.call_later(_RETRY_S, self._enqueue, tenant, job_id)
                    raise
            except SaccadeError as error:
                log.warning("jobs with inputs by URL: repeated in %g s: %s", _RETRY_S, error)
                if not swept:
                    await asyncio.sleep(_RETRY_S)

    async def _known(self, tenant: str, job_id: str) -> AcceptedJob | None:
        """Return an accepted request by the id of its job."""
        if found := await self._intents.load(tenant, job_id):
            return AcceptedJob(job_id, found[0].inputs)
        if job := await self._jobs.find(tenant, job_id):
            return AcceptedJob(job_id, job.submitted.upload_ids)
        return None

    async def _intent(self, tenant: str, request: JobRequest, job_id: str) -> JobIntent:
        """Validate a request.

        Raises:
            SaccadeError: as ``accept``.
        """
        ids, fetches = reserve_uploads(tenant, catalog.workload(request.workload), request.inputs, self._policy, job_id)
        reserved = frozenset(wanted.id for wanted in fetches)
        submitted, inputs = await self._jobs.prepare(tenant, replace(request, inputs=dict(ids)), reserved)
        return JobIntent(tenant=tenant, id=job_id, submitted=submitted, inputs=inputs, fetches=fetches)

    async def _carry_out(self, tenant: str, job_id: str) -> None:
        """Do what is left to do for an intent: create its uploads, submit its job, or note why that cannot be.

        Idempotent, and harmless if two processes do it at the same time.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        found = await self._intents.load(tenant, job_id)
        if found is None or (submitted := found[0].submitted) is None:
            return
        intent, sequence = found
        try:
            uploads = [await self._fetches.add(wanted) for wanted in intent.fetches]
            if error := next((_error_of(upload) for upload in uploads if upload.state is UploadState.FAILED), None):
                raise error
            if any(upload.state is UploadState.CREATED for upload in uploads):
                return
            await self._jobs.submit_prepared(tenant, job_id, submitted, intent.inputs)
            await self._intents.delete(sequence)
        except SaccadeError as error:
            if error.code in TEMPORARY_ERRORS:
                raise
            failed = intent.model_copy(update={"error": error.body(), "submitted": None, "fetches": []})
            if await self._intents.replace(failed, after=sequence) is not None:
                await self._stop_fetching(intent, error)
        self._waiters.notify(_waiter(job_id))

    async def _stop_fetching(self, intent: JobIntent, cause: SaccadeError) -> None:
        """Fail the uploads that are still being fetched for a job that cannot have all of them: nobody needs them.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        message = f"Another input of {intent.id} cannot be used: {cause.message}"
        for wanted in intent.fetches:
            upload = await self._uploads.find(intent.tenant, wanted.id)
            if upload is not None and upload.state is UploadState.CREATED:
                await self._uploads.reject(upload, SaccadeError(cause.code, message, hint=cause.hint))

    def _enqueue(self, tenant: str, job_id: str) -> None:
        if (tenant, job_id) not in self._queued:
            self._queued.add((tenant, job_id))
            self._queue.put_nowait((tenant, job_id))


def _waiter(job_id: str) -> str:
    return f"submission of {job_id}"


def _error_of(upload: Upload) -> SaccadeError:
    if upload.error:
        return SaccadeError(upload.error.code, upload.error.message, hint=upload.error.hint)
    return SaccadeError(ErrorCode.UPLOAD_ALREADY_ENDED, f"{upload.id} was {upload.reason} before it was complete.")


def _pending(accepted: AcceptedJob) -> SaccadeError:
    message = f"{accepted.job_id} is submitted when its inputs have been fetched."
    return SaccadeError(ErrorCode.URL_FETCH_PENDING, message, job_id=accepted.job_id, uploads=accepted.upload_ids)
