"""What a run leaves in the bucket: artifacts and checkpoints while it owns the job, the manifest last of all."""

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
from modal_workers.runtime.files.cached_bucket import CachedBucket
from modal_workers.runtime.files.file_cache import FileCache
from modal_workers.runtime.jobs.claim import Claim
from modal_workers.runtime.retry import patiently
from modal_workers.runtime.stop import Stop, StopReason

_CHECKPOINT_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


class ArtifactStore:
    """The places of one job in the bucket. Before every write the run makes sure that it still owns the job."""

    def __init__(
        self, bucket: Bucket, claim: Claim, assignment: Assignment, stop: Stop, cache: FileCache | None = None
    ) -> None:
        """Use an open bucket, and a cache of what a later stage may want of it."""
        self._bucket = bucket
        self._files = CachedBucket(bucket, cache)
        self._claim = claim
        self._job_id = assignment.job_id
        #: In whose places artifacts and checkpoints lie: a pipeline's stages share them. The manifest is the job's.
        self._home_id = assignment.output_job_id
        self._tenant = assignment.tenant
        self._stop = stop
        self.saved: dict[str, Artifact] = {}

    @property
    def manifest_key(self) -> str:
        """Where the job's manifest is."""
        return self._bucket.key("results", self._job_id, MANIFEST_NAME)

    def announce(self, name: str, media_type: str, title: str, units: Mapping[str, str] | None) -> Artifact:
        """Say what an artifact will be, before its bytes are known.

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

    async def save(self, path: Path, announced: Artifact) -> Artifact:
        """Upload a file and give the artifact with its size and SHA-256.

        Raises:
            Stopped: the run no longer owns the job; nothing was written.
            SaccadeError: STORAGE_UNAVAILABLE, BUS_UNAVAILABLE.
        """
        await self._own()
        sent = await self._files.send(path, announced.key, announced.media_type, f"artifact {announced.name}")
        artifact = announced.model_copy(update={"bytes": sent.bytes, "sha256": sent.sha256})
        self.saved[artifact.name] = artifact
        return artifact

    async def replace(self, path: Path, name: str, media_type: str) -> None:
        """Upload a newer version of a file that no manifest lists; readers see the old or the new one, whole.

        Raises:
            Stopped: the run no longer owns the job; nothing was written.
            SaccadeError: STORAGE_UNAVAILABLE, BUS_UNAVAILABLE.
        """
        await self._own()
        key = self._bucket.key("results", self._home_id, name)
        await patiently(lambda: self._bucket.send_file(path, key, media_type), name)

    async def keep(self, path: Path, name: str) -> None:
        """Upload a checkpoint.

        Raises:
            ValueError: the name is not allowed.
            Stopped: the run no longer owns the job; nothing was written.
            SaccadeError: STORAGE_UNAVAILABLE, BUS_UNAVAILABLE.
        """
        key = self._checkpoint_key(name)
        await self._own()
        await self._files.send(path, key, "application/octet-stream", f"checkpoint {name}")

    async def checkpoint(self, name: str, folder: Path) -> Path | None:
        """Download a checkpoint into a folder; None when there is none.

        Raises:
            ValueError: the name is not allowed.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        return await self._fetched(self._checkpoint_key(name), folder / name)

    async def saved_before(self, name: str, folder: Path) -> Path | None:
        """Download an artifact of this job, or of another stage of its pipeline; None when there is none.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        local = folder / f"saved-{name.replace('/', '--')}"
        return await self._fetched(self._bucket.key("results", self._home_id, name), local)

    async def _fetched(self, key: str, path: Path) -> Path | None:
        try:
            await self._files.fetch(key, path)
        except ObjectMissing:
            path.unlink(missing_ok=True)
            return None
        return path

    async def remove_stale(self, hours: float) -> None:
        """Remove from the cache what other jobs have left and nobody has touched for so long."""
        await self._files.remove_stale(hours)

    async def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest; from then on the job's work is done, whoever says so.

        Raises:
            Stopped: the run no longer owns the job; nothing was written.
            SaccadeError: STORAGE_UNAVAILABLE, BUS_UNAVAILABLE.
        """
        await self._own()
        body = manifest.model_dump_json(indent=1).encode()
        await patiently(lambda: self._bucket.put(self.manifest_key, body), "the manifest")

    async def finished_before(self, workload: Workload) -> Manifest | None:
        """Find the manifest of an earlier run of this job that died before it could say so; None unless it is whole.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        try:
            body = await patiently(lambda: self._bucket.get(self.manifest_key), "the manifest")
            manifest = Manifest.model_validate_json(body)
            workload.result.model_validate(manifest.result)
            for artifact in manifest.artifacts:
                if await self._size(artifact.key) != artifact.bytes:
                    return None
        except (ObjectMissing, ValidationError):
            return None
        about = (manifest.job_id, manifest.tenant, manifest.workload, manifest.workload_version)
        return manifest if about == (self._job_id, self._tenant, workload.name, workload.version) else None

    async def _own(self) -> None:
        """Make sure that what is about to be written counts.

        Raises:
            Stopped: it does not.
        """
        job = await patiently(self._claim.load, "the job's events")
        if not self._claim.holds(job):
            self._stop.ask(StopReason.LOST)
        elif job is not None and job.cancel_requested:
            self._stop.ask(StopReason.CANCELLED)
        self._stop.check()

    async def _size(self, key: str) -> int:
        return await patiently(lambda: self._bucket.size(key), "the artifacts")

    def _checkpoint_key(self, name: str) -> str:
        if not _CHECKPOINT_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a checkpoint: lower-case letters, digits, dots, dashes")
        return self._bucket.key("scratch", self._home_id, "checkpoints", name)
