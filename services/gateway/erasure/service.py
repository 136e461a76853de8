"""Erasure service: checks and stores requests, which the dispatcher that leads carries out, and reads their reports."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from contracts.audit import Attribution, AuditRecord, decode_record
from contracts.erasure import (
    EVERY_REQUEST,
    ErasureReport,
    ErasureRequest,
    Scope,
    records_of,
    request_subject,
    sha256_of,
)
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message
from contracts.ids import is_id, new_id
from kit.auth.api_keys import Principal
from kit.bus.event_store import Conflict, EventStore
from services.gateway.aggregates.view import GatewayView
from services.gateway.erasure.schemas import ErasureObject
from services.gateway.jobs.service import JobService
from services.gateway.uploads.service import UploadService


class ErasureService:
    """Operations on erasures."""

    def __init__(
        self, requests: EventStore, records: EventStore, view: GatewayView, jobs: JobService, uploads: UploadService
    ) -> None:
        """``requests`` is the stream ERASURES, ``records`` the stream OPS."""
        self._requests, self._records = requests, records
        self._view, self._jobs, self._uploads = view, jobs, uploads

    async def erase_tenant(self, tenant: str, by: Attribution) -> ErasureObject:
        """Request the erasure of everything of a tenant.

        Raises:
            SaccadeError: ERASURE_BLOCKED, while a job or session has not ended; BUS_UNAVAILABLE.
        """
        if unfinished := self._view.erasures.unfinished_of(tenant):
            raise _blocked(unfinished)
        return await self._request("tenant", tenant, None, by)

    async def erase_job(self, tenant: str, job_id: str, by: Attribution) -> ErasureObject:
        """Request the erasure of a job, its stages, results and live session.

        Raises:
            SaccadeError: JOB_NOT_FOUND; JOB_IN_PIPELINE; ERASURE_BLOCKED, if it has not ended; BUS_UNAVAILABLE.
        """
        job = await self._jobs.get(tenant, job_id)
        if job.submitted.part_of is not None:
            raise SaccadeError(
                ErrorCode.JOB_IN_PIPELINE, hint=f"Erase the pipeline {job.submitted.part_of.job_id} as a whole."
            )
        if not job.state.ended:
            raise _blocked([job_id])
        return await self._request("job", tenant, job_id, by)

    async def erase_upload(self, tenant: str, upload_id: str, by: Attribution, *, with_jobs: bool) -> ErasureObject:
        """Request the erasure of an upload, and of the jobs that used it.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND; ERASURE_BLOCKED, while a job uses it, or if jobs that have used it are not
                to be erased with it; BUS_UNAVAILABLE.
        """
        await self._uploads.get(tenant, upload_id)
        if unfinished := self._view.unfinished_jobs_of(upload_id):
            raise _blocked(unfinished)
        job_ids = self._view.erasures.jobs_of_upload(upload_id)
        if job_ids and not with_jobs:
            raise SaccadeError(
                ErrorCode.ERASURE_BLOCKED,
                f"{len(job_ids)} jobs have used the upload, and their events name its file: {_some(job_ids)}.",
                hint="Send jobs=true to erase them too, or erase them first.",
            )
        return await self._request("upload", tenant, upload_id, by, tuple(job_ids))

    async def get(self, principal: Principal, erasure_id: str) -> ErasureObject:
        """Return an erasure that the caller may see.

        Raises:
            SaccadeError: ERASURE_NOT_FOUND, BUS_UNAVAILABLE.
        """
        if not is_id(erasure_id, "ers"):  # it becomes a part of a subject: "*" would be every tenant's
            raise _not_found(erasure_id)
        # The outcome first: the request is deleted after it.
        for stored in await self._records.load(records_of(erasure_id)):
            record = decode_record(stored.sequence, stored.subject, stored.body)
            if record.verb == "completed":
                return _visible(principal, _completed(record))
        for stored in await self._requests.load(request_subject(erasure_id)):
            return _visible(principal, _requested(ErasureRequest.model_validate_json(stored.body)))
        raise _not_found(erasure_id)

    async def _request(
        self, scope: Scope, tenant: str, subject_id: str | None, by: Attribution, job_ids: tuple[str, ...] = ()
    ) -> ErasureObject:
        """Store a request; one for the same that waits already is returned.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        for stored in await self._requests.load(EVERY_REQUEST):
            known = ErasureRequest.model_validate_json(stored.body)
            if (known.scope, known.tenant, known.subject_id) == (scope, tenant, subject_id):
                return _requested(known)
        request = ErasureRequest(
            id=new_id("ers"),
            scope=scope,
            tenant=tenant,
            subject_id=subject_id,
            job_ids=job_ids,
            requested_at=datetime.now(UTC),
            by=by,
        )
        subject = request_subject(request.id)
        message = Message(subject, request.id, request.model_dump_json().encode())
        # A conflict: it was stored by an attempt whose answer was lost, and the dispatcher has taken it up since.
        with contextlib.suppress(Conflict):
            await self._requests.publish(message, after=0, among=subject)
        return _requested(request)


def _requested(request: ErasureRequest) -> ErasureObject:
    return ErasureObject(id=request.id, state="requested", requested_at=request.requested_at, **_named(request.details))


def _completed(record: AuditRecord) -> ErasureObject:
    details = record.data.details
    return ErasureObject(
        id=record.subject_id,
        state="completed",
        requested_at=datetime.fromisoformat(details["requested_at"]),
        completed_at=record.time,
        report=ErasureReport.model_validate(details["report"]),
        **_named(details),
    )


def _named(details: dict[str, object]) -> dict[str, object]:
    return {name: details.get(name) for name in ("scope", "tenant_sha256", "subject_sha256")}


def _visible(principal: Principal, found: ErasureObject) -> ErasureObject:
    if principal.across_tenants or found.tenant_sha256 == sha256_of(principal.tenant):
        return found
    raise _not_found(found.id)


def _not_found(erasure_id: str) -> SaccadeError:
    return SaccadeError(ErrorCode.ERASURE_NOT_FOUND, f"There is no erasure {erasure_id}.")


def _blocked(ids: list[str]) -> SaccadeError:
    return SaccadeError(ErrorCode.ERASURE_BLOCKED, f"{len(ids)} have not ended: {_some(ids)}.")


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
