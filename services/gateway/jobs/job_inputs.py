"""Inputs of jobs, read from their uploads; jobs that were submitted while one of these was deleted are ended."""

from __future__ import annotations

from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import EventData
from contracts.events.job import JobInput
from contracts.job import Job, request_cancel
from contracts.job_request import check_input
from contracts.upload import UploadState
from contracts.workload import Workload
from services.gateway.aggregates.aggregate_reader import AggregateReader
from services.gateway.uploads.service import UploadService

#: Who requests the end of a job whose upload was deleted before the job was stored.
_BY: Final = "gateway"


class JobInputs:
    """Inputs of the jobs of all tenants."""

    def __init__(self, uploads: UploadService, jobs: AggregateReader[Job]) -> None:
        """Read ``uploads``; change ``jobs`` that cannot have their inputs."""
        self._uploads, self._jobs = uploads, jobs

    async def of(
        self,
        tenant: str,
        workload: Workload,
        ids_by_input: dict[str, list[str]],
        reserved: frozenset[str] = frozenset(),
    ) -> dict[str, list[JobInput]]:
        """Return a job's inputs, read from their uploads, without those in ``reserved``.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND; as ``check_input``.
        """
        declared = {declaration.name: declaration for declaration in workload.inputs}
        inputs: dict[str, list[JobInput]] = {}
        for name, ids in ids_by_input.items():
            inputs[name] = []
            for upload_id in ids:
                if upload_id in reserved:
                    continue
                upload = await self._uploads.get(tenant, upload_id)
                if upload.completed is None:  # another gateway may have completed it a moment ago
                    upload = await self._uploads.get(tenant, upload_id, fresh=True)
                inputs[name].append(check_input(declared[name], upload))
        return inputs

    async def durations_s(self, tenant: str, inputs: dict[str, list[JobInput]]) -> dict[str, float]:
        """Return the durations of the inputs that are one video."""
        found: dict[str, float] = {}
        for name, files in inputs.items():
            media = (await self._uploads.get(tenant, files[0].upload_id)).media if len(files) == 1 else None
            if media is not None and media.duration_s is not None:
                found[name] = media.duration_s
        return found

    async def require_kept(self, job: Job, since: int) -> None:
        """Check that no upload of a job had ended when the job's event ``since`` was stored; else cancel the job.

        The check before that event reads another upload's events than the condition by which it is stored: a deletion
        may come in between. Of the two the stream has one first. If that is the job, the deletion keeps the bytes.

        Raises:
            SaccadeError: UPLOAD_ALREADY_ENDED; BUS_UNAVAILABLE.
        """
        for upload_id in job.submitted.used_uploads:
            upload = await self._uploads.as_of(job.tenant, upload_id, since)
            if upload is None or upload.state is not UploadState.FAILED or upload.sequence > since:
                continue
            await self._jobs.decide(job.tenant, job.id, _cancel)
            message = f"{upload_id} was {upload.reason} while the job was submitted, and cannot be used."
            raise SaccadeError(ErrorCode.UPLOAD_ALREADY_ENDED, message)


def _cancel(job: Job) -> EventData | None:
    return None if job.state.ended else request_cancel(job, by=_BY)
