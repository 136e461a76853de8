"""Artifacts, checkpoints and the manifest of a job in the bucket; written only while the run holds the claim."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from contracts.assignment import Assignment
from contracts.manifest import MANIFEST_NAME, Artifact, Manifest
from contracts.workload import Workload
from kit.bucket import Bucket, ObjectMissing
from modal_workers.runtime.bus.claim import Claim
from modal_workers.runtime.files.cached_bucket import CachedBucket
from modal_workers.runtime.files.file_cache import FileCache
from modal_workers.runtime.retry import while_unavailable
from modal_workers.runtime.stop import StopCause, StopFlag

_CHECKPOINT_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


class ArtifactStore:
    """Files of one job in the bucket. Before every write the run checks that it still holds the claim."""

    def __init__(
        self, bucket: Bucket, claim: Claim, assignment: Assignment, stop: StopFlag, cache: FileCache | None = None
    ) -> None:
        """Use an open bucket, and optionally a cache of its files for later stages."""
        self._bucket = bucket
        self._files = CachedBucket(bucket, cache)
        self._claim = claim
        self._job_id = assignment.job_id
        #: Job whose folders hold the files: a pipeline's stages share its artifacts and checkpoints, not its manifest.
        self._home_id = assignment.output_job_id
        self._tenant = assignment.tenant
        self._stop = stop
        self.saved: dict[str, Artifact] = {}

    @property
    def manifest_key(self) -> str:
        """Key of the job's manifest."""
        return self._bucket.key("results", self._job_id, MANIFEST_NAME)

    def draft(self, name: str, media_type: str, title: str, units: Mapping[str, str] | None) -> Artifact:
        """Return an artifact's description before its size and SHA-256 are known.

        Raises:
            ValueError: the name is not allowed.
        """
        if name == MANIFEST_NAME:
            raise ValueError(f"{MANIFEST_NAME} is written by the runtime")
        return Artifact(
            name=name,
            key=self._bucket.key("results", self._home_id, name),
            bytes=0,
            sha256="0" * 64,
            media_type=media_type,
            title=title,
            units=dict(units or {}),
        )

    async def save(self, path: Path, draft: Artifact) -> Artifact:
        """Upload a file and return the artifact with its size and SHA-256.

        Raises:
            Stopped: the run has lost its claim, or cancellation was requested; nothing was written.
            SaccadeError: STORAGE_UNAVAILABLE, BUS_UNAVAILABLE.
        """
        await self._check_claim()
        sent = await self._files.send(path, draft.key, draft.media_type, f"artifact {draft.name}")
        artifact = draft.model_copy(update={"bytes": sent.bytes, "sha256": sent.sha256})
        self.saved[artifact.name] = artifact
        return artifact

    async def replace(self, path: Path, name: str, media_type: str) -> None:
        """Upload a newer version of a file that no manifest lists; readers see the old or the new version, complete.

        Raises:
            Stopped: the run has lost its claim, or cancellation was requested; nothing was written.
            SaccadeError: STORAGE_UNAVAILABLE, BUS_UNAVAILABLE.
        """
        await self._check_claim()
        key = self._bucket.key("results", self._home_id, name)
        await while_unavailable(lambda: self._bucket.send_file(path, key, media_type), name)

    async def keep(self, path: Path, name: str) -> None:
        """Upload a checkpoint.

        Raises:
            ValueError: the name is not allowed.
            Stopped: the run has lost its claim, or cancellation was requested; nothing was written.
            SaccadeError: STORAGE_UNAVAILABLE, BUS_UNAVAILABLE.
        """
        key = self._checkpoint_key(name)
        await self._check_claim()
        await self._files.send(path, key, "application/octet-stream", f"checkpoint {name}")

    async def checkpoint(self, name: str, folder: Path) -> Path | None:
        """Download a checkpoint into a folder; return its path, None if there is none.

        Raises:
            ValueError: the name is not allowed.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        return await self._download(self._checkpoint_key(name), folder / name)

    async def saved_before(self, name: str, folder: Path) -> Path | None:
        """Download an artifact of this job or of another stage of its pipeline; None if there is none.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        local = folder / f"saved-{name.replace('/', '--')}"
        return await self._download(self._bucket.key("results", self._home_id, name), local)

    async def _download(self, key: str, path: Path) -> Path | None:
        try:
            await self._files.fetch(key, path)
        except ObjectMissing:
            path.unlink(missing_ok=True)
            return None
        return path

    async def remove_stale(self, hours: float) -> None:
        """Remove from the cache the folders of other jobs that were unused for ``hours``."""
        await self._files.remove_stale(hours)

    async def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest; from then on the job counts as done, even if this run cannot publish it.

        Raises:
            Stopped: the run has lost its claim, or cancellation was requested; nothing was written.
            SaccadeError: STORAGE_UNAVAILABLE, BUS_UNAVAILABLE.
        """
        await self._check_claim()
        body = manifest.model_dump_json(indent=1).encode()
        await while_unavailable(lambda: self._bucket.put(self.manifest_key, body), "the manifest")

    async def recovered_manifest(self, workload: Workload) -> Manifest | None:
        """Return the manifest of an earlier run that ended before it published its success; None unless it is complete.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        try:
            body = await while_unavailable(lambda: self._bucket.get(self.manifest_key), "the manifest")
            manifest = Manifest.model_validate_json(body)
            workload.result.model_validate(manifest.result)
            for artifact in manifest.artifacts:
                if await self._size(artifact.key) != artifact.bytes:
                    return None
        except (ObjectMissing, ValidationError):
            return None
        identity = (manifest.job_id, manifest.tenant, manifest.workload, manifest.workload_version)
        return manifest if identity == (self._job_id, self._tenant, workload.name, workload.version) else None

    async def _check_claim(self) -> None:
        """Check that this run may write.

        Raises:
            Stopped: the claim is lost, or cancellation was requested.
        """
        job = await while_unavailable(self._claim.load, "the job's events")
        if not self._claim.holds(job):
            self._stop.request(StopCause.LOST)
        elif job is not None and job.cancel_requested:
            self._stop.request(StopCause.CANCELLED)
        self._stop.check()

    async def _size(self, key: str) -> int:
        return await while_unavailable(lambda: self._bucket.size(key), "the artifacts")

    def _checkpoint_key(self, name: str) -> str:
        if not _CHECKPOINT_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a checkpoint: lower-case letters, digits, dots, dashes")
        return self._bucket.key("scratch", self._home_id, "checkpoints", name)
