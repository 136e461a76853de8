"""Rules that had a part in an upload: it is a result of their job, or of a job that such a result was an input of.

An upload comes from the job that its client names (``from_job``), and from the job of a rule that has an artifact with
the same bytes. That job's inputs come from further jobs, and so on, so that two rules in a circle are found too.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from contracts.events.base import decode_at
from contracts.events.job import JobSubmitted
from contracts.events.upload import UploadCompleted, UploadCreated
from contracts.ids import is_job_id, pipeline_id_of
from contracts.upload import Upload
from kit.bus.event_store import EventStore
from services.dispatcher.rules.artifact_jobs import ArtifactJobs

#: Maximum jobs and uploads that are read for one upload; with more, any rule may have had a part in it (``endless``).
MOST_JOBS: Final = 64
MOST_UPLOADS: Final = 2_000


@dataclass(frozen=True)
class Origins:
    """The rules that had a part in an upload."""

    rule_ids: frozenset[str] = frozenset()
    #: There were more jobs than are read: any rule may have had a part in it.
    endless: bool = False

    def include(self, rule_id: str) -> bool:
        """Return whether the rule had a part in the upload, or may have had one."""
        return self.endless or rule_id in self.rule_ids


class UploadOrigins:
    """Reads the origins of uploads from the event stream."""

    def __init__(self, store: EventStore, artifacts: ArtifactJobs) -> None:
        """Read from ``store``, the stream EVENTS."""
        self._store = store
        self._artifacts = artifacts

    async def of(self, upload: Upload) -> Origins:
        """Return the rules that had a part in an upload; most uploads come from no job, and nothing is read for them.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        tenant = upload.tenant
        waiting = deque(self._jobs_of(tenant, upload.created, upload.completed.sha256 if upload.completed else ""))
        seen: set[str] = set(waiting)
        rules: set[str] = set()
        uploads: set[str] = {upload.id}
        read_jobs = 0
        while waiting:
            read_jobs += 1
            if read_jobs > MOST_JOBS or len(uploads) > MOST_UPLOADS:
                return Origins(frozenset(rules), endless=True)
            job = await self._submitted(tenant, waiting.popleft())
            if job is None:
                continue  # aged out of the stream, or of another tenant
            if job.rule is not None:
                rules.add(job.rule.rule_id)
            hashes = {file.upload_id: file.sha256 for files in job.inputs.values() for file in files}
            for upload_id in job.used_uploads:
                if upload_id in uploads:
                    continue
                uploads.add(upload_id)
                created = await self._created(tenant, upload_id)
                sha256 = hashes[upload_id] if hashes else await self._sha256(tenant, upload_id)
                for origin in self._jobs_of(tenant, created, sha256):
                    if origin not in seen:
                        seen.add(origin)
                        waiting.append(origin)
        return Origins(frozenset(rules))

    def _jobs_of(self, tenant: str, created: UploadCreated | None, sha256: str) -> list[str]:
        """Return the jobs that an upload comes from; a pipeline in place of its stages' jobs."""
        named = created.from_job if created is not None else None
        found = [named if named and is_job_id(named) else None, self._artifacts.job_of(tenant, sha256)]
        return list(dict.fromkeys(pipeline_id_of(job_id) or job_id for job_id in found if job_id))

    async def _submitted(self, tenant: str, job_id: str) -> JobSubmitted | None:
        data = await self._event(f"saccade.evt.{tenant}.job.{job_id}.submitted")
        return data if isinstance(data, JobSubmitted) else None

    async def _created(self, tenant: str, upload_id: str) -> UploadCreated | None:
        data = await self._event(f"saccade.evt.{tenant}.upload.{upload_id}.created")
        return data if isinstance(data, UploadCreated) else None

    async def _sha256(self, tenant: str, upload_id: str) -> str:
        data = await self._event(f"saccade.evt.{tenant}.upload.{upload_id}.completed")
        return data.sha256 if isinstance(data, UploadCompleted) else ""

    async def _event(self, subject: str) -> object:
        """Return the data of the event that is stored on a subject.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        found = await self._store.load(subject)
        return decode_at(found[-1].subject, found[-1].body).parsed() if found else None
