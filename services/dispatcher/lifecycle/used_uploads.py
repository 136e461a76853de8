"""Use of deleted uploads by unfinished jobs, whose inputs they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from contracts.upload import Upload
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs

_FOLD_TIMEOUT_S: Final = 5.0


class UsedUploads:
    """Uploads of the unfinished jobs."""

    def __init__(self, jobs: UnfinishedJobs, read_until: Callable[[int, float], Awaitable[bool]]) -> None:
        """``read_until`` waits until ``jobs`` has folded a sequence; returns whether it has within so many seconds."""
        self._jobs, self._read_until = jobs, read_until

    async def is_used(self, upload: Upload) -> bool:
        """Return whether an unfinished job that was submitted before the upload's last event may use its file."""
        if not await self._read_until(upload.sequence, _FOLD_TIMEOUT_S):
            return True
        if upload.tenant in self._jobs.unloaded.values():  # a retried job, whose inputs are not known yet
            return True
        return any(upload.id in job.submitted.used_uploads for job in self._jobs if job.tenant == upload.tenant)
