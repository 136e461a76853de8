"""Records of videos: name, size and mode as the page has sent them, and the points of the court.

Small objects beside the video in the bucket, which its lifecycle rules delete together. Each is written whole by one
request: the record once, the points each time, so that two gateways need no agreement.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import datetime
from typing import Final, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from kit.bucket import Bucket, ObjectMissing
from services.gateway.compat.badminton.videos.keypoints import Keypoints

AnalysisMode = Literal["full", "rally_only"]

_VIDEO, _KEYPOINTS = _NAMES = ("video.json", "keypoints.json")
_CACHE_SIZE: Final = 1000
#: Age at which what may have changed, by another gateway, is read again.
_REFRESH_S: Final = 2.0


class VideoRecord(BaseModel):
    """Name, size and mode of a video, as the page sent them when it created the video."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    filename: str
    size: float
    analysis_mode: AnalysisMode
    created_at: AwareDatetime


class SavedKeypoints(BaseModel):
    """Points of the court, and when they were saved."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    keypoints: Keypoints
    saved_at: AwareDatetime


Record = TypeVar("Record", bound=BaseModel)


class VideoRecords:
    """The records of all videos; ids are those of uploads."""

    def __init__(self, bucket: Bucket) -> None:
        """Keep them in ``bucket``."""
        self._bucket = bucket
        #: By key: what was read last, and when (monotonic clock, seconds).
        self._known: OrderedDict[str, tuple[BaseModel | None, float]] = OrderedDict()

    def forget(self, tenant: str, video_id: str) -> None:
        """Read the records of a video from the bucket when they are asked for next: another gateway writes them too."""
        for name in _NAMES:
            self._known.pop(self._key(tenant, video_id, name), None)

    async def record(self, tenant: str, video_id: str) -> VideoRecord | None:
        """Return what the page said of a video; None if it has not created it.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        return await self._load(VideoRecord, self._key(tenant, video_id, _VIDEO), changes=False)

    async def keypoints(self, tenant: str, video_id: str) -> SavedKeypoints | None:
        """Return the points of the court; None if none were saved.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        return await self._load(SavedKeypoints, self._key(tenant, video_id, _KEYPOINTS), changes=True)

    async def keep_record(self, tenant: str, video_id: str, record: VideoRecord) -> None:
        """Store what the page said of a video.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        await self._keep(self._key(tenant, video_id, _VIDEO), record)

    async def keep_keypoints(self, tenant: str, video_id: str, keypoints: Keypoints, now: datetime) -> None:
        """Store the points of the court in place of earlier ones.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        saved = SavedKeypoints(keypoints=keypoints, saved_at=now)
        await self._keep(self._key(tenant, video_id, _KEYPOINTS), saved)

    async def delete(self, tenant: str, video_id: str) -> None:
        """Delete both.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        for name in _NAMES:
            key = self._key(tenant, video_id, name)
            await self._bucket.delete(key)
            self._known.pop(key, None)

    def _key(self, tenant: str, video_id: str, name: str) -> str:
        # One folder below the upload's own file, whose name contains no slash.
        return self._bucket.key("uploads", tenant, video_id, "badminton", name)

    async def _load(self, model: type[Record], key: str, *, changes: bool) -> Record | None:
        found, read_at_s = self._known.get(key, (None, float("-inf")))
        current = time.monotonic() - read_at_s < _REFRESH_S or (found is not None and not changes)
        if not current:
            try:
                found = model.model_validate_json(await self._bucket.get(key))
            except (ObjectMissing, ValidationError):
                found = None
            self._remember(key, found)
        return found if isinstance(found, model) else None

    async def _keep(self, key: str, record: BaseModel) -> None:
        await self._bucket.put(key, record.model_dump_json().encode())
        self._remember(key, record)

    def _remember(self, key: str, record: BaseModel | None) -> None:
        self._known[key] = (record, time.monotonic())
        self._known.move_to_end(key)
        if len(self._known) > _CACHE_SIZE:
            self._known.popitem(last=False)
