"""Presigned URLs of a video's files, the same for hours: a changed URL would make the page load the video again."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from contracts.job import State
from kit.bucket import Bucket
from services.gateway.aggregates.view import GatewayView
from services.gateway.compat.badminton.videos.video_rows import Video

PROCESSED: Final = "processed.mp4"
RESULTS: Final = "compat/results.json"
#: Lifetime of a URL, and age at which another one is signed: a page plays a video for hours.
_LIFETIME_S: Final = 24 * 3600
_RENEWED_S: Final = 12 * 3600.0
_CACHE_SIZE: Final = 2000


class FileUrls:
    """Presigned URLs of videos' files."""

    def __init__(self, bucket: Bucket, view: GatewayView) -> None:
        """Sign for ``bucket``; ``view`` knows the artifacts."""
        self._bucket, self._view = bucket, view
        #: By key: URL, and when it was signed (monotonic clock, seconds).
        self._signed: OrderedDict[str, tuple[str, float]] = OrderedDict()

    async def original(self, video: Video) -> str:
        """Return the URL of the uploaded file."""
        return await self._sign(video.upload.created.key, video.upload.created.content_type)

    async def processed(self, video: Video) -> str | None:
        """Return the URL of the processed video; None before it is ready."""
        return await self._artifact(video, PROCESSED)

    async def results(self, video: Video) -> str | None:
        """Return the URL of the results file; None before the job has succeeded."""
        return await self._artifact(video, RESULTS)

    async def _artifact(self, video: Video, name: str) -> str | None:
        job = video.job
        if job is None or job.state is not State.SUCCEEDED:
            return None
        artifact = self._view.artifact(job.id, name)
        if artifact is None or not artifact.key.startswith(f"{self._bucket.key('results', job.id)}/"):
            return None
        return await self._sign(artifact.key, artifact.media_type)

    async def _sign(self, key: str, media_type: str) -> str:
        url, signed_at_s = self._signed.get(key, ("", float("-inf")))
        if time.monotonic() - signed_at_s >= _RENEWED_S:
            url = await self._bucket.presign_get(key, content_type=media_type, expires_s=_LIFETIME_S)
            self._signed[key] = (url, time.monotonic())
            self._signed.move_to_end(key)
            if len(self._signed) > _CACHE_SIZE:
                self._signed.popitem(last=False)
        return url
