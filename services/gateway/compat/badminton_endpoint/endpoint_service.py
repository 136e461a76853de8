"""Accepts videos of Convex sites: one run per video at a time, whatever dies and however often it is requested."""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime
from typing import Final

from nats.aio.client import Client

from contracts.callback import Callback, callback_subject, callback_subjects
from contracts.errors import ErrorCode, SaccadeError
from contracts.quotas import QuotaName
from contracts.streams import CALLBACKS
from kit.auth.quotas import Quotas
from kit.bus.event_store import Conflict, EventStore
from kit.bus.idempotency import idempotency_key
from kit.bus.jetstream_api import count_subjects
from kit.network.address_guard import AddressGuard
from services.gateway.compat.badminton_endpoint.run_decision import BEGIN_AGAIN, Decision, decide
from services.gateway.compat.badminton_endpoint.video_request import CallbackSite, VideoRequest, callback_site
from services.gateway.jobs.service import JobService
from services.gateway.jobs.url_jobs import AcceptedJob, UrlJobs
from services.gateway.uploads.service import UploadService

log = logging.getLogger(__name__)

_ROUTE: Final = "POST /badminton-endpoint"
_CONFLICTS: Final = 20


class BadmintonEndpoint:
    """Starts the runs of videos and records where their results go."""

    def __init__(
        self,
        client: Client,
        *,
        url_jobs: UrlJobs,
        jobs: JobService,
        uploads: UploadService,
        quotas: Quotas,
        guard: AddressGuard,
        https_only: bool,
        default_site_url: str | None,
    ) -> None:
        """``default_site_url`` is used where a request names no callback."""
        self._records = EventStore(client, CALLBACKS.name)
        self._url_jobs, self._jobs, self._uploads = url_jobs, jobs, uploads
        self._quotas = quotas
        self._guard, self._https_only, self._default_site_url = guard, https_only, default_site_url

    async def accept(self, tenant: str, request: VideoRequest) -> Decision:
        """Accept a video durably and return what that did.

        The same request again, also after a crash at any point, finds the run of the first one; the notifier calls back
        from the record.

        Raises:
            SaccadeError: the request is invalid or its video may not be fetched; QUOTA_EXCEEDED; BUS_UNAVAILABLE.
        """
        site = callback_site(
            request.callbackUrl or self._default_site_url, guard=self._guard, https_only=self._https_only
        )
        fingerprint = site.fingerprint(request)
        started: AcceptedJob | None = None
        for _ in range(_CONFLICTS):
            record, sequence = await self._load(tenant, request.videoId)
            decision = await self._decide(record, fingerprint)
            if decision is Decision.NEW:
                generation = record.generation + 1 if record else 1
                if record is None:
                    await self._require_room(tenant)
                if started is None:
                    started = await self._start(tenant, request, site, fingerprint, generation)
                if record is not None and record.job_id != started.job_id:
                    # Before the record forgets it: after a crash in between, the repeated request stops it again.
                    await self._stop(tenant, record.job_id, record.upload_ids)
                changed = Callback(
                    tenant=tenant,
                    video_id=request.videoId,
                    site_url=site.url,
                    dialect=site.dialect,
                    generation=generation,
                    fingerprint=fingerprint,
                    job_id=started.job_id,
                    upload_ids=_upload_ids(started),
                    accepted_at=datetime.now(UTC),
                )
            else:
                assert record is not None
                changed = record.model_copy(update=BEGIN_AGAIN | {"requests": record.requests + 1})
            try:
                await self._records.publish(changed.message(), after=sequence)
            except Conflict:
                continue
            if started is not None and started.job_id != changed.job_id:
                await self._stop(tenant, started.job_id, _upload_ids(started))
            log.info("video %s: %s", changed.job_id, decision.name.lower(), extra={"tenant": tenant})
            return decision
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "Too many other requests changed the video at the same time.")

    async def _load(self, tenant: str, video_id: str) -> tuple[Callback | None, int]:
        """Return the record of a video and its sequence; None and 0 when there is none.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        stored = await self._records.load(callback_subject(tenant, video_id))
        return (Callback.model_validate_json(stored[-1].body), stored[-1].sequence) if stored else (None, 0)

    async def _require_room(self, tenant: str) -> None:
        """Check that a tenant may have one more video: all tenants share the stream of the records.

        Raises:
            SaccadeError: QUOTA_EXCEEDED; BUS_UNAVAILABLE.
        """
        used = await count_subjects(self._records.client, CALLBACKS.name, callback_subjects(tenant))
        self._quotas.require(tenant, QuotaName.CALLBACK_VIDEOS, used)

    async def _decide(self, record: Callback | None, fingerprint: str) -> Decision:
        if record is None:
            return Decision.NEW
        try:
            job = await self._url_jobs.outcome(record.tenant, record.job_id)
        except SaccadeError as error:
            if error.code is ErrorCode.BUS_UNAVAILABLE:
                raise
            return decide(record, fingerprint, None, fetch_failed=True)
        return decide(record, fingerprint, job.state if job else None, fetch_failed=False)

    async def _start(
        self, tenant: str, request: VideoRequest, site: CallbackSite, fingerprint: str, generation: int
    ) -> AcceptedJob:
        """Accept the job of a run. If the process dies before the run is recorded, the same request finds this job.

        Raises:
            SaccadeError: as ``accept``.
        """
        run = hashlib.sha256(f"{generation} {fingerprint} {request.videoId}".encode()).hexdigest()
        key = idempotency_key(tenant, _ROUTE, run, {})
        return await self._url_jobs.accept(tenant, site.job_request(request), key)

    async def _stop(self, tenant: str, job_id: str, upload_ids: tuple[str, ...]) -> None:
        """Stop a run that was replaced: cancel its job, or end the fetch of its video, so that there will be no job."""
        try:
            if await self._jobs.find(tenant, job_id) is None:
                for upload_id in upload_ids:
                    await self._uploads.delete(tenant, upload_id)
            job = await self._jobs.find(tenant, job_id)
            if job is not None and not job.state.ended:
                await self._jobs.cancel(tenant, job_id)
        except SaccadeError as error:
            log.warning("%s was replaced by another run and not stopped: %s", job_id, error)


def _upload_ids(accepted: AcceptedJob) -> tuple[str, ...]:
    return tuple(upload_id for ids in accepted.upload_ids.values() for upload_id in ids)
