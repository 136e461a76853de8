"""Job service: submit, read, list, cancel and retry jobs; change how long their scratch files are kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from contracts.cost_estimate import CostEstimate
from contracts.errors import ErrorCode, SaccadeError
from contracts.events import EventData
from contracts.events.job import JobInput, JobSubmitted
from contracts.ids import is_job_id, new_id, pipeline_id_of
from contracts.job import Job, State, fold_stored, request_cancel, retry
from contracts.job_request import check_durations, check_names, stored_inputs, upload_ids
from contracts.limits import PAGE_DEFAULT
from contracts.upload import UploadState
from contracts.workload import Params, Workload
from kit.bus.event_store import Conflict, EventStore
from kit.bus.idempotency import Idempotency, IdempotencyKey
from kit.bus.tail import EventTail
from modal_workers import catalog
from services.gateway.aggregates.aggregate_events import AggregateEvents
from services.gateway.aggregates.aggregate_reader import AggregateReader
from services.gateway.aggregates.completion_waiters import CompletionWaiters
from services.gateway.aggregates.job_counts import ListCounts
from services.gateway.aggregates.job_lists import JobFilter
from services.gateway.aggregates.page_cursor import JOBS, decode_page_cursor, encode_page_cursor
from services.gateway.aggregates.tenant_use import TenantUse
from services.gateway.aggregates.view import GatewayView
from services.gateway.backends.reported_backends import ReportedBackends
from services.gateway.budgets.service import BudgetService
from services.gateway.jobs.estimates import JobEstimates
from services.gateway.jobs.job_inputs import JobInputs
from services.gateway.jobs.submission import (
    CheckedJob,
    JobRequest,
    check_request,
    check_webhook_url,
    submitted_event,
)
from services.gateway.settings import GatewaySettings
from services.gateway.uploads.service import UploadService

#: Refusals of an attempt that another request has started.
_RETRIED_BY_ANOTHER: Final = frozenset({ErrorCode.SEQUENCE_CONFLICT, ErrorCode.JOB_NOT_RETRYABLE})


class JobService:
    """Operations on jobs. All are tenant-scoped."""

    def __init__(
        self,
        *,
        store: EventStore,
        view: GatewayView,
        tail: EventTail,
        uploads: UploadService,
        idempotency: Idempotency,
        waiters: CompletionWaiters,
        settings: GatewaySettings,
        backends: ReportedBackends,
        budgets: BudgetService,
        https_webhooks_only: bool,
        use: TenantUse,
    ) -> None:
        """Read from ``view`` and, where it is behind, from the bus; write to the bus only."""
        self._view, self._use = view, use
        self._uploads = uploads
        self.events = AggregateEvents[Job](
            "job",
            ErrorCode.JOB_NOT_FOUND,
            is_valid_id=is_job_id,
            fold_stored=fold_stored,
            store=store,
            tail=tail,
            idempotency=idempotency,
            use=use,
            from_view=view.job,
        )
        self._reader = AggregateReader(self.events, view.job, waiters)
        self._inputs = JobInputs(uploads, self._reader)
        self._settings = settings
        self.estimates = JobEstimates(view.runs, settings)
        self._backends = backends
        self._budgets = budgets
        self._https_webhooks_only = https_webhooks_only

    async def check(
        self, tenant: str, request: JobRequest, reserved: frozenset[str] = frozenset(), *, complete: bool = False
    ) -> CheckedJob:
        """Validate a request without storing it. Uploads with ids in ``reserved`` do not exist yet.

        With ``complete``, as ``submit`` does; otherwise inputs may be left out, and neither budgets nor quotas refuse.

        Raises:
            SaccadeError: as ``submit``, for what is given.
        """
        check_webhook_url(request.webhook_url, https_only=self._https_webhooks_only)
        if complete:
            self._use.require_job(tenant)
        workload, params, inputs, cost = await self._checked(tenant, request, complete=complete, reserved=reserved)
        if complete:
            await self._budgets.check(tenant, request.max_cost_usd, cost.usd)
        left = await self._budgets.left(tenant, request.max_cost_usd, cost.usd)
        return CheckedJob(workload, params, inputs, cost, left)

    async def submit(self, tenant: str, request: JobRequest, key: IdempotencyKey | None) -> Job:
        """Validate and store a job. Requests with the same Idempotency-Key create one job, also after a crash.

        Raises:
            SaccadeError: the request is invalid; UPLOAD_ALREADY_ENDED, also if it was deleted meanwhile;
                IDEMPOTENCY_KEY_REUSED; BUS_UNAVAILABLE.
        """
        check_webhook_url(request.webhook_url, https_only=self._https_webhooks_only)

        async def submitted() -> JobSubmitted:
            self._use.require_job(tenant)
            checked = await self._checked(tenant, request, complete=True)
            await self._budgets.check(tenant, request.max_cost_usd, checked[-1].usd)
            return submitted_event(request, *checked)

        job = await self.get(tenant, await self.events.create(tenant, new_id("job"), key, submitted))
        await self._inputs.require_kept(job, job.first_sequence)
        return job

    async def prepare(
        self, tenant: str, request: JobRequest, reserved: frozenset[str]
    ) -> tuple[JobSubmitted, dict[str, list[str]]]:
        """Validate a request whose uploads with ids in ``reserved`` do not exist yet.

        Returns the event that submits it, with the inputs that exist, and the ids of all uploads by input.

        Raises:
            SaccadeError: the request is invalid; BUS_UNAVAILABLE.
        """
        check_webhook_url(request.webhook_url, https_only=self._https_webhooks_only)
        self._use.require_job(tenant)
        workload, params, inputs, cost = await self._checked(tenant, request, complete=True, reserved=reserved)
        await self._budgets.check(tenant, request.max_cost_usd, cost.usd)
        submitted = submitted_event(request, workload, params, inputs, cost)
        return submitted, upload_ids(workload, request.inputs)

    async def submit_prepared(
        self, tenant: str, job_id: str, submitted: JobSubmitted, ids_by_input: dict[str, list[str]]
    ) -> None:
        """Store a prepared job, now that its uploads are complete, unless it is stored already.

        Raises:
            SaccadeError: an upload cannot be used; BUS_UNAVAILABLE.
        """
        workload = catalog.workload(submitted.workload)
        inputs = await self._inputs.of(tenant, workload, ids_by_input)
        deadline = datetime.now(UTC) + timedelta(seconds=workload.deadline_s)
        data = submitted.model_copy(update={**stored_inputs(inputs), "deadline": deadline})
        with suppress(Conflict):
            await self.events.append_once(tenant, job_id, data, after=0)
        job = await self.get(tenant, job_id)
        await self._inputs.require_kept(job, job.first_sequence)

    async def submit_session_worker(self, tenant: str, job_id: str, submitted: JobSubmitted) -> None:
        """Store the job that is the worker of a session, unless it is stored already.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        try:
            await self.events.append_once(tenant, job_id, submitted, after=0)
        except Conflict:
            return

    async def read(self, tenant: str, job_id: str, wait_s: float = 0) -> Job:
        """Return a job that includes every event stored before this call.

        Raises:
            SaccadeError: JOB_NOT_FOUND, also for other tenants' jobs.
        """
        return await self._reader.read(tenant, job_id, wait_s)

    async def get(self, tenant: str, job_id: str, wait_s: float = 0) -> Job:
        """Return a job as the view has it; with ``wait_s``, when it has ended or after that many seconds.

        Raises:
            SaccadeError: JOB_NOT_FOUND, also for other tenants' jobs.
        """
        return await self._reader.get(tenant, job_id, wait_s)

    async def find(self, tenant: str, job_id: str) -> Job | None:
        """Return a tenant's job from the view, else from the bus; None if there is none yet."""
        return await self._reader.find(tenant, job_id)

    def estimate(self, workload: Workload, gpu: str | None = None, params: Params | None = None) -> CostEstimate:
        """Estimate the cost of a job; of a pipeline, of the stages that ``params`` require.

        Raises:
            SaccadeError: INVALID_PARAMETER, for a GPU that the workload cannot use.
        """
        return self.estimates.of_job(workload, gpu, params)

    async def page(
        self, tenant: str, job_filter: JobFilter, *, cursor: str | None = None, limit: int = PAGE_DEFAULT
    ) -> tuple[list[Job], str | None]:
        """Return a page of a tenant's jobs, newest first, and the next page's cursor. New jobs do not shift pages.

        Raises:
            SaccadeError: CURSOR_INVALID, RATE_LIMITED.
        """
        before = decode_page_cursor(JOBS, cursor) if cursor is not None else None
        jobs, last = await self._view.searches.page(tenant, job_filter, before=before, limit=limit)
        return jobs, encode_page_cursor(JOBS, last) if last is not None else None

    def created_before(self, tenant: str, cursor: str) -> datetime | None:
        """Return when the job was created that a page ends with, given the next page's cursor."""
        created_us = self._view.job_lists.created_us(tenant, decode_page_cursor(JOBS, cursor))
        return None if created_us is None else datetime.fromtimestamp(created_us / 1e6, UTC)

    async def counts(self, tenant: str, job_filter: JobFilter) -> ListCounts:
        """Return the numbers of a tenant's jobs in a list, by workload and state.

        Raises:
            SaccadeError: RATE_LIMITED.
        """
        return await self._view.searches.counts(tenant, job_filter)

    async def cancel(self, tenant: str, job_id: str, *, event_id: str | None = None) -> Job:
        """Request the end of a job durably: it takes effect even if dispatcher and worker are down. Idempotent.

        Raises:
            SaccadeError: JOB_NOT_FOUND, JOB_ALREADY_ENDED, JOB_IN_PIPELINE.
        """
        await self._check_standalone(tenant, job_id)
        return await self._reader.decide(
            tenant, job_id, lambda job: request_cancel(job, by=f"tenant:{tenant}"), event_id
        )

    async def cancel_unstarted(self, tenant: str, job_id: str, by: str) -> Job:
        """Request the end of a job that no worker executes yet; a running job is left to end by itself.

        Raises:
            SaccadeError: JOB_NOT_FOUND; BUS_UNAVAILABLE.
        """

        def decision(job: Job) -> EventData | None:
            return None if job.state.ended or job.state is State.RUNNING else request_cancel(job, by=by)

        return await self._reader.decide(tenant, job_id, decision)

    async def change_ended(self, tenant: str, job_id: str, decision: Callable[[Job], EventData | None]) -> Job:
        """Append what ``decision`` returns, to a job that is no stage's of a pipeline.

        Raises:
            SaccadeError: JOB_NOT_FOUND, JOB_IN_PIPELINE; from ``decision``; BUS_UNAVAILABLE.
        """
        await self._check_standalone(tenant, job_id)
        return await self._reader.decide(tenant, job_id, decision)

    async def retry(
        self, tenant: str, job_id: str, *, failed_attempt: int | None = None, event_id: str | None = None
    ) -> Job:
        """Start another attempt of a failed or cancelled job; completed stages are not repeated.

        With ``failed_attempt``, only if that is still its newest attempt: a request that is repeated retries once.

        Raises:
            SaccadeError: JOB_NOT_FOUND, JOB_NOT_RETRYABLE, JOB_ARCHIVED, SCRATCH_REMOVED, UNKNOWN_WORKLOAD,
                BACKEND_NOT_INSTALLED, UPLOAD_NOT_FOUND, UPLOAD_ALREADY_ENDED, SEQUENCE_CONFLICT.
        """
        job = await self.get(tenant, job_id)
        workload = catalog.workload(job.submitted.workload)
        if workload.kind == "session":
            raise SaccadeError(
                ErrorCode.JOB_NOT_RETRYABLE,
                "The job was the worker of a live session, which has ended with it.",
                hint="Open a new session with POST /v1/sessions.",
            )

        def decision(job: Job) -> EventData:
            if failed_attempt is not None and job.attempt != failed_attempt:
                raise SaccadeError(ErrorCode.SEQUENCE_CONFLICT, f"The job was retried: attempt {job.attempt} exists.")
            if workload.kind == "pipeline" and job.scratch_removed_at is not None:
                message = "The files that its stages pass on were deleted, so it cannot be resumed."
                raise SaccadeError(ErrorCode.SCRATCH_REMOVED, message)
            return retry(job, after=None, delay_s=0.0, now=datetime.now(UTC), deadline_s=workload.deadline_s)

        (await self._backends.known()).check(workload, _params_of(workload, job))
        for upload_id in job.submitted.used_uploads:
            if (await self._uploads.get(tenant, upload_id)).state is UploadState.FAILED:
                message = f"The upload {upload_id} of this job was deleted: its retention is over."
                raise SaccadeError(ErrorCode.UPLOAD_NOT_FOUND, message)
        await self._check_standalone(tenant, job_id)
        self._use.require_job(tenant)
        cap_usd = job.submitted.max_cost_usd
        left_usd = None if cap_usd is None else max(0.0, cap_usd - job.actual_usd)
        await self._budgets.check(tenant, left_usd, job.submitted.estimated_usd)
        archived = SaccadeError(ErrorCode.JOB_ARCHIVED)
        # As this request stored it: the view may have later events, and a deletion between would count as earlier.
        retried = await self.events.decide(tenant, job_id, decision, event_id, archived=archived)
        await self._inputs.require_kept(retried, retried.sequence)
        return self._reader.newest(job_id, retried)

    async def retry_once(self, tenant: str, job: Job) -> Job:
        """Start another attempt of a job that has failed or was cancelled, and return it; return any other as it is.

        Of several such requests one starts the attempt, and the others return the job with it.

        Raises:
            SaccadeError: as ``retry``, unless another request was faster.
        """
        if job.state not in (State.FAILED, State.CANCELLED):
            return job
        try:
            return await self.retry(tenant, job.id, failed_attempt=job.attempt)
        except SaccadeError as error:
            newest = await self.read(tenant, job.id)
            if error.code not in _RETRIED_BY_ANOTHER or (newest.state, newest.attempt) == (job.state, job.attempt):
                raise
            return newest

    async def _check_standalone(self, tenant: str, job_id: str) -> None:
        """Reject a change of a job that belongs to a pipeline's stage.

        Raises:
            SaccadeError: JOB_NOT_FOUND, JOB_IN_PIPELINE.
        """
        if is_job_id(job_id) and (pipeline_id := pipeline_id_of(job_id)):
            await self.get(tenant, job_id)
            raise SaccadeError(
                ErrorCode.JOB_IN_PIPELINE,
                f"{job_id} executes a stage of the pipeline {pipeline_id}.",
                hint=f"Cancel or retry {pipeline_id}: it resumes at the first stage that is not completed.",
            )

    async def _checked(
        self, tenant: str, request: JobRequest, *, complete: bool, reserved: frozenset[str] = frozenset()
    ) -> tuple[Workload, dict[str, Any], dict[str, list[JobInput]], CostEstimate]:
        """Return a valid request's workload, parameters, inputs and estimated cost.

        Raises:
            SaccadeError: as ``submit``; without ``complete``, inputs may be left out.
        """
        workload, params = check_request(request, self._settings, await self._backends.known())
        if request.retry_of is not None:
            await self._check_earlier(tenant, request.retry_of)
        cost = self.estimate(workload, request.gpu, workload.params.model_validate(params))
        ids = upload_ids(workload, request.inputs, complete=complete)
        inputs = await self._inputs.of(tenant, workload, ids, reserved)
        valid = workload.params.model_validate(params)
        check_durations(workload, valid, await self._inputs.durations_s(tenant, inputs))
        if complete:
            check_names(workload, valid, inputs)
        return workload, params, inputs, cost

    async def _check_earlier(self, tenant: str, job_id: str) -> None:
        """Check that the job exists that a new one repeats.

        Raises:
            SaccadeError: JOB_NOT_FOUND, also for other tenants' jobs.
        """
        try:
            await self.get(tenant, job_id)
        except SaccadeError as error:
            message = f"There is no job {job_id}."
            where = [{"detail": message, "pointer": "#/retry_of"}]
            raise SaccadeError(error.code, message, errors=where) from None


def _params_of(workload: Workload, job: Job) -> Params | None:
    """Return a job's parameters; None if they are those of another version of the workload."""
    try:
        return workload.params.model_validate(job.submitted.params)
    except ValidationError:
        return None
