"""Artifacts of jobs, streamed from the bucket. Its client takes a second to load, so the first use loads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.errors import ErrorCode, SaccadeError
from kit.settings import S3Settings
from services.notifier.webhooks.sending.sender import StreamedBody

if TYPE_CHECKING:
    from kit.bucket import Bucket


class ArtifactMissing(Exception):  # noqa: N818 - an expected result, not a fault
    """The job has no such artifact."""


@dataclass(frozen=True)
class Artifacts:
    """The bucket's artifacts; without settings of the bucket none can be read."""

    settings: S3Settings | None

    async def read(self, job_id: str, name: str) -> bytes:
        """Return a small artifact.

        Raises:
            ArtifactMissing: the job has none of this name.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        from kit.bucket import ObjectMissing  # noqa: PLC0415 - see above

        async with self._bucket() as bucket:
            try:
                return await bucket.get(bucket.key("results", job_id, name))
            except ObjectMissing:
                raise ArtifactMissing(name) from None

    @asynccontextmanager
    async def opened(self, job_id: str, name: str) -> AsyncIterator[StreamedBody]:
        """Open an artifact as the body of an upload.

        Raises:
            ArtifactMissing: the job has none of this name.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        from kit.bucket import ObjectMissing  # noqa: PLC0415 - see above

        async with self._bucket() as bucket:
            key = bucket.key("results", job_id, name)
            try:
                size_bytes = await bucket.size(key)
            except ObjectMissing:
                raise ArtifactMissing(name) from None
            yield StreamedBody(size_bytes, lambda: bucket.read(key))

    @asynccontextmanager
    async def _bucket(self) -> AsyncIterator[Bucket]:
        from kit.bucket import open_bucket  # noqa: PLC0415 - see above

        if self.settings is None:
            raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE, "There are no settings of the bucket (S3_…).")
        async with open_bucket(self.settings) as bucket:
            yield bucket
