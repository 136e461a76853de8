"""Jobs: submitted once, cancelled and retried on condition that nobody wrote in between, read from the view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events import EventData, encode
from contracts.events.job import JobInput, JobSubmitted
from contracts.gpu_ladder import gpu_name
from contracts.ids import is_job_id, new_id, pipeline_id_of
from contracts.job import Job, State, change_retention, fold_stored, request_cancel, retry
from contracts.limits import PAGE_DEFAULT
from contracts.retention import KEEP_HOURS
from contracts.streams import aggregate
from contracts.workload import Params, Workload
from kit.bus.event_store import Conflict, EventStore
from kit.bus.idempotency import Idempotency, IdempotencyKey
from kit.bus.tail import EventTail
from modal_workers import catalog
from services.gateway.aggregates.aggregate_reader import AggregateReader
from services.gateway.aggregates.completion_waiters import CompletionWaiters
from services.gateway.aggregates.page_cursor import decode_page_cursor, encode_page_cursor
from services.gateway.aggregates.view import GatewayView, JobFilter
from services.gateway.jobs.cost_estimate import CostEstimate, RunHistory, device_of, estimate, takes_gpu, whole
from services.gateway.jobs.submission import (
    check_input,
    check_kind,
    check_metadata,
    check_params,
    stages_needed,
    upload_ids,
)
from services.gateway.settings import GatewaySettings
from services.gateway.uploads.service import SEEN_S, SOURCE, UploadService

#: Somebody else's write between our reading and our writing is read and decided about again; this often.
_DECISIONS: Final = 50
_PAGE_MARK: Final = "jobs"


@dataclass(frozen=True)
class JobRequest:
    """What a client asks for, before it was checked."""

    workload: str
    inputs: dict[str, Any]
    params: dict[str, Any]
    priority: int = 0
    max_cost_usd: float | None = None
    gpu: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    webhook_url: str | None = None


class JobService:
    """Every job of every tenant."""

    def __init__(
        self,
        *,
        store: EventStore,
        view: GatewayView,
        tail: EventTail,
        uploads: UploadService,
        idempotency: Idempotency,
        waiting: CompletionWaiters,
        settings: GatewaySettings,
    ) -> None:
        """Use bus and view."""
        self._store = store
        self._view = view
        self._tail = tail
        self._uploads = uploads
        self._idempotency = idempotency
        self._reading = AggregateReader[Job](
            "job",
            ErrorCode.JOB_NOT_FOUND,
            is_one=is_job_id,
            viewed=view.job,
            load=self._load,
            store=store,
            tail=tail,
            waiting=waiting,
        )
        self._settings = settings

    async def submit(self, tenant: str, wanted: JobRequest, key: IdempotencyKey | None) -> Job:
        """Check and store a job; with an Idempotency-Key the same request makes the same job, whoever died between.

        Raises:
            SaccadeError: what is wrong with the request; IDEMPOTENCY_KEY_REUSED; BUS_UNAVAILABLE.
        """
        job_id = new_id("job")
        made = await self._idempotency.recall(key) if key else None
        if made:
            if await self._load(tenant, made):
                return await self.get(tenant, made)
            job_id = made
        data = await self._checked(tenant, wanted)
        if key and not made:
            job_id = await self._idempotency.claim(key, job_id)
        message = encode(data, tenant=tenant, subject_id=job_id, source=SOURCE, event_id=f"{job_id}.submitted")
        try:
            sequence = await self._store.publish(message, after=0, among=aggregate(tenant, "job", job_id))
        except Conflict:
            # The same key, at the same time: the other request's event counts.
            return await self.get(tenant, job_id)
        await self._tail.wait_for(sequence, SEEN_S)
        return await self.get(tenant, job_id)

    async def read(self, tenant: str, job_id: str, wait_s: float = 0) -> Job:
        """Give a job as it is now: whoever was told of an event elsewhere finds it here.

        Raises:
            SaccadeError: JOB_NOT_FOUND, for other tenants' jobs too.
        """
        return await self._reading.read(tenant, job_id, wait_s)

    async def get(self, tenant: str, job_id: str, wait_s: float = 0) -> Job:
        """Give a job as the view has it; with ``wait_s`` when it has ended, or after that time.

        Raises:
            SaccadeError: JOB_NOT_FOUND, for other tenants' jobs too.
        """
        return await self._reading.get(tenant, job_id, wait_s)

    def estimate(self, workload: Workload, gpu: str | None = None, params: Params | None = None) -> CostEstimate:
        """Tell what a job will cost, as far as that can be known; of a pipeline, the stages that ``params`` need.

        Raises:
            SaccadeError: INVALID_PARAMETER, for a GPU that it cannot have.
        """
        stages = stages_needed(workload, params) if workload.kind == "pipeline" else []
        if stages and (gpu is None or any(one.compute.gpus for one, _ in stages)):
            return whole([(shards, self.estimate(one, takes_gpu(one, gpu))) for one, shards in stages])
        executor, environment = self._settings.where, self._settings.environment
        device = device_of(workload, gpu, executor, environment)
        taken = self._view.runs(workload.name, workload.version, device)
        return estimate(workload, device, executor, RunHistory(len(taken), median(taken)) if taken else None)

    def page(
        self, tenant: str, wanted: JobFilter, *, cursor: str | None = None, limit: int = PAGE_DEFAULT
    ) -> tuple[list[Job], str | None]:
        """List a tenant's jobs, newest first, and give the next page's cursor. New jobs do not move the pages.

        Raises:
            SaccadeError: CURSOR_INVALID.
        """
        before = decode_page_cursor(_PAGE_MARK, cursor) if cursor is not None else None
        jobs, last = self._view.jobs(tenant, wanted, before=before, limit=limit)
        return jobs, encode_page_cursor(_PAGE_MARK, last) if last is not None else None

    async def cancel(self, tenant: str, job_id: str) -> Job:
        """Ask for a job's end, durably: it counts while dispatcher and worker are down. May be repeated.

        Raises:
            SaccadeError: JOB_NOT_FOUND, JOB_ALREADY_ENDED.
        """
        return await self._decide(tenant, job_id, lambda job: request_cancel(job, by=f"tenant:{tenant}"))

    async def find(self, tenant: str, job_id: str) -> Job | None:
        """Give a tenant's job as the view has it, or as the bus has it; None when there is none yet."""
        job = self._view.job(job_id) or await self._load(tenant, job_id)
        return job if job is not None and job.tenant == tenant else None

    async def cancel_unstarted(self, tenant: str, job_id: str, by: str) -> Job:
        """Ask for the end of a job on which no worker is at work; one that is there is left to end by itself.

        Raises:
            SaccadeError: JOB_NOT_FOUND; BUS_UNAVAILABLE.
        """

        def decision(job: Job) -> EventData | None:
            return None if job.state.ended or job.state is State.RUNNING else request_cancel(job, by=by)

        return await self._decide(tenant, job_id, decision)

    async def keep_until(self, tenant: str, job_id: str, moment: datetime) -> Job:
        """Keep what an ended job can go on from until another moment; one that is past has it removed at once.

        Raises:
            SaccadeError: JOB_NOT_FOUND, JOB_IN_PIPELINE, ARTIFACTS_NOT_READY, SCRATCH_REMOVED.
        """
        return await self._decide(tenant, job_id, lambda job: change_retention(job, moment, by=f"tenant:{tenant}"))

    async def retry(self, tenant: str, job_id: str) -> Job:
        """Give a failed or cancelled job another attempt; stages that are done are not done again.

        Raises:
            SaccadeError: JOB_NOT_FOUND, JOB_NOT_RETRYABLE, SCRATCH_REMOVED, UNKNOWN_WORKLOAD, UPLOAD_NOT_FOUND.
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
            now = datetime.now(UTC)
            if workload.kind == "pipeline" and job.scratch_removed_at is not None:
                message = "What its stages hand over is removed, so it cannot go on where it was."
                raise SaccadeError(ErrorCode.SCRATCH_REMOVED, message)
            return retry(job, after=None, delay_s=0.0, now=now, deadline_s=workload.deadline_s)

        for several in job.submitted.inputs.values():
            for one in several:
                await self._uploads.get(tenant, one.upload_id)
        return await self._decide(tenant, job_id, decision)

    async def _decide(self, tenant: str, job_id: str, decision: Callable[[Job], EventData | None]) -> Job:
        """Change a job's state; when somebody else wrote first, read again and decide again."""
        if not is_job_id(job_id):
            raise SaccadeError(ErrorCode.JOB_NOT_FOUND)
        if home := pipeline_id_of(job_id):
            await self.get(tenant, job_id)
            raise SaccadeError(
                ErrorCode.JOB_IN_PIPELINE,
                f"{job_id} does a stage of the pipeline {home}.",
                hint=f"Cancel or retry {home}: it goes on at the first stage that is not done.",
            )
        for _ in range(_DECISIONS):
            job = await self._current(tenant, job_id)
            data = decision(job)
            if data is None:
                return job
            message = encode(data, tenant=tenant, subject_id=job_id, source=SOURCE)
            try:
                sequence = await self._store.publish(
                    message, after=job.sequence, among=aggregate(tenant, "job", job_id)
                )  # fmt: skip
            except Conflict:
                continue
            seen = await self._tail.wait_for(sequence, SEEN_S)
            # The view knows what every attempt cost; the newest event of each type does not tell.
            return await (self.get(tenant, job_id) if seen else self._current(tenant, job_id))
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "The job changes too fast to be decided about.")

    async def _current(self, tenant: str, job_id: str) -> Job:
        """Give a job as the bus has it now.

        Raises:
            SaccadeError: JOB_NOT_FOUND.
        """
        job = await self._load(tenant, job_id)
        if job is None:
            raise SaccadeError(ErrorCode.JOB_NOT_FOUND)
        return job

    async def _load(self, tenant: str, job_id: str) -> Job | None:
        job: Job | None = None
        for stored in await self._store.load(aggregate(tenant, "job", job_id)):
            job = fold_stored(job, stored.subject, stored.body, stored.sequence)
        return job

    async def _checked(self, tenant: str, wanted: JobRequest) -> JobSubmitted:
        workload = check_kind(wanted.workload, "job")
        params = check_params(workload, self._with_keep_hours(workload, wanted.params), self._settings.backends)
        check_metadata(wanted.metadata)
        expected = self.estimate(workload, wanted.gpu, workload.params.model_validate(params))
        inputs = await self._inputs(tenant, workload, upload_ids(workload, wanted.inputs))
        return JobSubmitted(
            workload=workload.name,
            workload_version=workload.version,
            inputs=inputs,
            params=params,
            priority=wanted.priority,
            max_cost_usd=wanted.max_cost_usd,
            gpu=None if wanted.gpu is None else gpu_name(wanted.gpu),
            estimated_usd=expected.usd,
            estimated_from=expected.basis,
            metadata=wanted.metadata,
            webhook_url=wanted.webhook_url,
            deadline=datetime.now(UTC) + timedelta(seconds=workload.deadline_s),
        )

    def _with_keep_hours(self, workload: Workload, given: dict[str, Any]) -> dict[str, Any]:
        """Fill in the operator's hours where a workload lets its user decide and the user has not."""
        if KEEP_HOURS not in workload.params.model_fields or KEEP_HOURS in given:
            return given
        return {**given, KEEP_HOURS: max(1, round(self._settings.scratch_hours))}

    async def _inputs(
        self, tenant: str, workload: Workload, named: dict[str, list[str]]
    ) -> dict[str, list[JobInput]]:  # fmt: skip
        declared = {one.name: one for one in workload.inputs}
        found: dict[str, list[JobInput]] = {}
        for name, ids in named.items():
            found[name] = []
            for upload_id in ids:
                upload = await self._uploads.get(tenant, upload_id)
                if upload.completed is None:  # another gateway may have completed it a moment ago
                    upload = await self._uploads.get(tenant, upload_id, fresh=True)
                found[name].append(check_input(declared[name], upload))
        return found
