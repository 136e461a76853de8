"""Jobs and unfinished uploads of what is erased, found in its events before they are deleted."""

from __future__ import annotations

from contracts.erasure import ErasureRequest
from contracts.events.base import decode
from contracts.events.upload import UploadCreated
from contracts.ids import pipeline_id_of
from services.dispatcher.erasure.coverage import covers_event, erased_jobs, job_of, own_events, stage_submissions
from services.dispatcher.erasure.stream_eraser import StreamEraser


class Inventory:
    """Ids of all jobs that are erased, with those of stages; and multipart uploads that the bucket may have open."""

    def __init__(self, request: ErasureRequest) -> None:
        """Begin with what the request names."""
        self.request = request
        self.job_ids: set[str] = set(erased_jobs(request))
        #: Key and id of each multipart upload.
        self.multiparts: dict[str, str] = {}

    async def read(self, streams: StreamEraser) -> None:
        """Read the events.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        for covered in own_events(self.request):
            async for stored in streams.find(covered):
                self.add(stored.subject, stored.body)
        if self.request.scope != "tenant" and self.job_ids:
            async for stored in streams.find(stage_submissions(self.request)):
                self.add(stored.subject, stored.body)

    def add_archived(self, subject: str, body: bytes) -> None:
        """Add what one event of the archive tells, if it is of what is erased."""
        job_id = job_of(subject)
        if job_id and pipeline_id_of(job_id) in self.job_ids and f".{self.request.tenant}." in subject:
            self.job_ids.add(job_id)
        if covers_event(self.request, self.job_ids, subject, body):
            self.add(subject, body)

    def add(self, subject: str, body: bytes) -> None:
        """Add what one event tells."""
        if job_id := job_of(subject):
            self.job_ids.add(job_id)
        elif subject.endswith(".created") and ".upload." in subject:
            try:
                created = UploadCreated.model_validate(decode(body).data)
            except ValueError:
                return
            if created.multipart_id:
                self.multiparts[created.key] = created.multipart_id
