"""What a job left behind: the manifest when its work is done, and before that what its events tell."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from contracts.errors import ErrorCode, SaccadeError
from contracts.job import Job, State
from contracts.manifest import MANIFEST_NAME, Artifact, Manifest
from kit.bucket import Bucket, ObjectMissing
from services.gateway.aggregates.view import GatewayView

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArtifactLocation:
    """Where a file lies and what it is."""

    key: str
    media_type: str


class ArtifactService:
    """The files of every job."""

    def __init__(self, bucket: Bucket, view: GatewayView) -> None:
        """Use bucket and view."""
        self._bucket = bucket
        self._view = view

    async def manifest(self, job: Job) -> Manifest | None:
        """Give the manifest of a job that has succeeded; None when it has not.

        Raises:
            SaccadeError: ARTIFACT_NOT_FOUND, when the manifest's time is over; STORAGE_UNAVAILABLE.
        """
        if job.state is not State.SUCCEEDED or not job.manifest_key:
            return None
        try:
            key = self._own(job, ArtifactLocation(job.manifest_key, "application/json")).key
            return Manifest.model_validate_json(await self._bucket.get(key))
        except ObjectMissing:
            raise SaccadeError(ErrorCode.ARTIFACT_NOT_FOUND, "The job's files are gone from the bucket.") from None

    def so_far(self, job: Job) -> list[Artifact]:
        """List what a job without a manifest has left.

        Raises:
            SaccadeError: ARTIFACTS_NOT_READY, when there is nothing and the job has not ended.
        """
        artifacts = self._view.artifacts(job.id)
        if not artifacts and not job.state.ended:
            raise SaccadeError(ErrorCode.ARTIFACTS_NOT_READY, f"The job is {job.state}.")
        return artifacts

    async def place(self, job: Job, name: str) -> ArtifactLocation:
        """Find one file; the manifest is one too.

        Raises:
            SaccadeError: ARTIFACT_NOT_FOUND, ARTIFACTS_NOT_READY.
        """
        if name == MANIFEST_NAME and job.manifest_key:
            return self._own(job, ArtifactLocation(job.manifest_key, "application/json"))
        artifact = self._view.artifact(job.id, name)
        if artifact is None and (manifest := await self.manifest(job)):
            artifact = next((one for one in manifest.artifacts if one.name == name), None)
        if artifact is not None:
            return self._own(job, ArtifactLocation(artifact.key, artifact.media_type))
        if job.state.ended:
            raise SaccadeError(ErrorCode.ARTIFACT_NOT_FOUND, f"The job has no artifact {name[:200]!r}.")
        raise SaccadeError(ErrorCode.ARTIFACTS_NOT_READY, f"The job is {job.state} and has not left {name[:200]!r}.")

    def _own(self, job: Job, place: ArtifactLocation) -> ArtifactLocation:
        """Make sure that a file lies where this job's files do, or its pipeline's: its key was told by a worker.

        Raises:
            SaccadeError: ARTIFACT_NOT_FOUND.
        """
        part = job.submitted.part_of
        homes = [job.id, part.job_id] if part else [job.id]
        folders = tuple(f"{self._bucket.key('results', home)}/" for home in homes)
        if not place.key.startswith(folders) or {".", ".."} & set(place.key.split("/")):
            log.warning("%s names a file that is not its own", job.id)
            raise SaccadeError(ErrorCode.ARTIFACT_NOT_FOUND, "The job names a file that is not its own.")
        return place
