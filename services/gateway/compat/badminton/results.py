"""Answers made of the files of a video's job: zones, speeds, heat map and report."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import MIB
from kit.bucket import ObjectMissing, OpenObject
from services.gateway.artifacts.service import ArtifactService
from services.gateway.compat.badminton.heat_map import resized_heat_map
from services.gateway.compat.badminton.videos.video_rows import Video
from services.gateway.object_body import ObjectResponse
from services.gateway.object_reads import ObjectReads

ZONES: Final = "compat/zones.json"
SPEED: Final = "compat/speed.json"
HEAT_MAP: Final = "compat/heatmap.json"
REPORT: Final = "report.pdf"
_MAX_HEAT_MAP_BYTES: Final = 8 * MIB


class Results:
    """Files of jobs, as the page's routes answer with them."""

    def __init__(self, artifacts: ArtifactService, reads: ObjectReads) -> None:
        """Find files by ``artifacts`` and read them by ``reads``."""
        self._artifacts, self._reads = artifacts, reads

    async def opened(self, video: Video, name: str) -> tuple[OpenObject, AsyncExitStack]:
        """Open a file of a video's job for reading; the caller closes the stack.

        Raises:
            SaccadeError: ARTIFACT_NOT_FOUND, ARTIFACTS_NOT_READY; RATE_LIMITED, STORAGE_UNAVAILABLE.
        """
        if video.job is None:
            raise SaccadeError(ErrorCode.ARTIFACTS_NOT_READY, "Video or results not found: it was not analysed yet.")
        location = await self._artifacts.locate(video.job, name)
        async with AsyncExitStack() as stack:
            try:
                opened = await stack.enter_async_context(self._reads.opened(video.job.tenant, location.key))
            except ObjectMissing:
                raise SaccadeError(ErrorCode.ARTIFACT_NOT_FOUND, f"{name} was deleted from the bucket.") from None
            return opened, stack.pop_all()

    async def heat_map(self, video: Video, width: int, height: int, player: str | None) -> dict[str, Any]:
        """Return the heat map in another size, or of one player only.

        Raises:
            SaccadeError: as ``opened``; NOT_FOUND, if there is no such player.
        """
        opened, stack = await self.opened(video, HEAT_MAP)
        async with stack:
            body = bytearray()
            async for chunk in opened.chunks():
                body += chunk
                if len(body) > _MAX_HEAT_MAP_BYTES:
                    raise SaccadeError(ErrorCode.ARTIFACT_NOT_FOUND, "The heat map is too large to be resized.")
        found: dict[str, Any] = json.loads(body)
        if player is not None and player not in found.get("player_heatmaps", {}):
            raise SaccadeError(ErrorCode.NOT_FOUND, f"The video has no player {player[:20]!r}.")
        return await asyncio.to_thread(resized_heat_map, found, width, height, player)

    async def pdf_answer(self, video: Video) -> ObjectResponse:
        """Return the report as JSON with base64, in pieces.

        Raises:
            SaccadeError: as ``opened``.
        """
        opened, stack = await self.opened(video, REPORT)
        filename = f"badminton-analysis-{video.upload.id}.pdf"
        head = {"success": True, "size": opened.size_bytes, "filename": filename, "pdfBase64": ""}

        async def pieces() -> AsyncIterator[bytes]:
            yield json.dumps(head).removesuffix('"}').encode()
            waiting = b""
            async for chunk in opened.chunks():
                waiting += chunk
                ready = len(waiting) - len(waiting) % 3
                yield base64.b64encode(waiting[:ready])
                waiting = waiting[ready:]
            yield base64.b64encode(waiting) + b'"}'

        return ObjectResponse(pieces(), stack, media_type="application/json")
