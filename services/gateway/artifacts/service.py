"""Artifacts of jobs: the manifest of a successful job, else the artifacts that its events have reported so far."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.job import Job, State, require_results
from contracts.limits import PRESIGNED_URL_S
from contracts.manifest import MANIFEST_NAME, Artifact, Manifest
from kit.bucket import Bucket, ObjectMissing
from services.gateway.aggregates.view import GatewayView

log = logging.getLogger(__name__)

#: A browser follows a redirect within this time, also over a slow line and with a clock that is a little ahead.
_LEAST_PRESIGNED_S: Final = 15
_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})


@dataclass(frozen=True)
class ArtifactLocation:
    """Bucket key and media type of an artifact."""

    key: str
    media_type: str

    @property
    def is_page(self) -> bool:
        """Whether a browser shows it as a page, whose relative links must lead to the job's other files."""
        return self.media_type.partition(";")[0].strip().lower() in _PAGES


class ArtifactService:
    """Access to the artifacts of jobs."""

    def __init__(self, bucket: Bucket, view: GatewayView) -> None:
        """Read manifests from ``bucket`` and reported artifacts from ``view``."""
        self._bucket = bucket
        self._view = view

    def reading(self, view: GatewayView) -> ArtifactService:
        """Return the same access with the reported artifacts of another view."""
        return ArtifactService(self._bucket, view)

    async def manifest(self, job: Job) -> Manifest | None:
        """Return the manifest of a job; None if the job has not succeeded.

        Raises:
            SaccadeError: RESULTS_REMOVED; ARTIFACT_NOT_FOUND, if the manifest is gone; STORAGE_UNAVAILABLE.
        """
        require_results(job)
        if job.state is not State.SUCCEEDED or not job.manifest_key:
            return None
        try:
            key = self._checked(job, ArtifactLocation(job.manifest_key, "application/json")).key
            return Manifest.model_validate_json(await self._bucket.get(key))
        except ObjectMissing:
            raise SaccadeError(ErrorCode.ARTIFACT_NOT_FOUND, "The job's files were deleted from the bucket.") from None

    def published(self, job: Job) -> list[Artifact]:
        """Return the artifacts that a job without a manifest has published so far.

        Raises:
            SaccadeError: RESULTS_REMOVED; ARTIFACTS_NOT_READY, if there are none and the job has not ended.
        """
        require_results(job)
        artifacts = self._view.artifacts(job.id)
        if not artifacts and not job.state.ended:
            raise SaccadeError(ErrorCode.ARTIFACTS_NOT_READY, f"The job is {job.state}.")
        return artifacts

    async def presign(self, location: ArtifactLocation, *, head: bool = False, within: timedelta | None = None) -> str:
        """Return a presigned URL of an artifact, for GET, or for HEAD; ``within``: it is valid no longer than that.

        It is valid for a few seconds at least, in which a download begins. A download that has begun goes on.
        """
        valid_s = PRESIGNED_URL_S if within is None else min(PRESIGNED_URL_S, math.ceil(within.total_seconds()))
        return await self._bucket.presign_get(
            location.key,
            filename=location.key.rpartition("/")[2],
            content_type=location.media_type,
            head=head,
            expires_s=max(valid_s, _LEAST_PRESIGNED_S),
        )

    async def presigned(self, job: Job, artifact: Artifact) -> str | None:
        """Return a presigned URL of a job's artifact; None for an HTML page, whose links would lead nowhere.

        Raises:
            SaccadeError: ARTIFACT_NOT_FOUND.
        """
        location = self._checked(job, ArtifactLocation(artifact.key, artifact.media_type))
        return None if location.is_page else await self.presign(location)

    async def locate(self, job: Job, name: str) -> ArtifactLocation:
        """Find one artifact, or the manifest.

        Raises:
            SaccadeError: RESULTS_REMOVED, ARTIFACT_NOT_FOUND, ARTIFACTS_NOT_READY.
        """
        require_results(job)
        if name == MANIFEST_NAME and job.manifest_key:
            return self._checked(job, ArtifactLocation(job.manifest_key, "application/json"))
        artifact = self._view.artifact(job.id, name)
        if artifact is None and (manifest := await self.manifest(job)):
            artifact = next((listed for listed in manifest.artifacts if listed.name == name), None)
        if artifact is not None:
            return self._checked(job, ArtifactLocation(artifact.key, artifact.media_type))
        if job.state.ended:
            raise SaccadeError(ErrorCode.ARTIFACT_NOT_FOUND, f"The job has no artifact {name[:200]!r}.")
        raise SaccadeError(
            ErrorCode.ARTIFACTS_NOT_READY, f"The job is {job.state} and has not published {name[:200]!r} yet."
        )

    def _checked(self, job: Job, location: ArtifactLocation) -> ArtifactLocation:
        """Return a location if it is in the folder of the job or of its pipeline; a worker has reported it.

        Raises:
            SaccadeError: ARTIFACT_NOT_FOUND.
        """
        part = job.submitted.part_of
        owner_ids = [job.id, part.job_id] if part else [job.id]
        folders = tuple(f"{self._bucket.key('results', owner_id)}/" for owner_id in owner_ids)
        if not location.key.startswith(folders) or {".", ".."} & set(location.key.split("/")):
            log.warning("%s reports a file outside its own folder", job.id)
            raise SaccadeError(ErrorCode.ARTIFACT_NOT_FOUND, "The job reports a file outside its own folder.")
        return location
