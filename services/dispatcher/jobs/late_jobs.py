"""Jobs of rules that were stored after their rule, or an upload of theirs, had been deleted: none of them begins.

A job is stored on condition that it has no event yet, and there is no condition on the events of its rule and uploads
too: a deletion may come between the last look at them and the job. Of the two the stream has one first, and that one
counts. The dispatcher that leads looks before a job waits for a slot: the one that submitted it may have died since.
"""

from __future__ import annotations

from contracts.errors import UNREADABLE_EVENTS, ErrorCode, SaccadeError
from contracts.events.base import DURABLE, subject_of
from contracts.job import Job
from contracts.upload import Upload, UploadState
from kit.bus.event_store import EventStore
from services.dispatcher.jobs.stored_uploads import StoredUploads


class LateJobs:
    """Looks up what was deleted before the jobs of rules were stored."""

    def __init__(self, store: EventStore, uploads: StoredUploads) -> None:
        """Read the stream EVENTS by ``store``."""
        self._store, self._uploads = store, uploads

    async def refusal(self, job: Job) -> SaccadeError | None:
        """Return why a job must not begin; None for one that was in time, and for every job of a client.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        origin, since = job.submitted.rule, job.first_sequence
        if origin is None:
            return None
        deleted = await self._store.load(subject_of(DURABLE, job.tenant, "rule", origin.rule_id, "deleted"))
        if deleted and deleted[0].sequence < since:
            message = f"{origin.rule_id} was deleted before its job was stored."
            hint = "Nothing needs to be done. Retry the job to have it nevertheless."
            return SaccadeError(ErrorCode.RULE_NOT_FOUND, message, hint=hint)
        try:
            found = await self._uploads.load_all(job.tenant, origin.upload_ids)
        except SaccadeError as error:
            if error.code not in UNREADABLE_EVENTS:
                raise
            return None  # nobody can tell, and it would wait for ever; without its file it fails
        uploads = {upload.id: upload for upload in found}
        for upload_id in origin.upload_ids:
            if gone := _why_gone(uploads.get(upload_id), since):
                message = f"{upload_id} was {gone} before the job was stored, and cannot be used."
                return SaccadeError(ErrorCode.UPLOAD_ALREADY_ENDED, message)
        return None


def _why_gone(upload: Upload | None, since: int) -> str | None:
    """Return what had happened to an upload by a sequence; None if a job can use it."""
    if upload is None:
        return "erased"
    return upload.reason if upload.state is UploadState.FAILED and upload.sequence < since else None
