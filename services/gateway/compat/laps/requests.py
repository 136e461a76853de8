"""Bodies of the replaced lap comparison's requests. Pure."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ErrorCode, SaccadeError
from services.gateway.compat.upload_ids import upload_id_in


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class LapUpload(_Body):
    """A file that is going to be uploaded; its size is not said."""

    filename: str = Field(min_length=1, max_length=1000)
    content_type: str = Field(default="video/mp4", max_length=200)


class SentFile(_Body):
    """A file in the bucket, as ``sign-upload`` named it."""

    bucket: str = ""
    key: str = Field(max_length=2000)

    @property
    def upload_id(self) -> str:
        """The id of its upload.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND.
        """
        if upload_id := upload_id_in(self.key):
            return upload_id
        message = f"{self.key[:200]!r} is not a key that sign-upload has answered with."
        raise SaccadeError(ErrorCode.UPLOAD_NOT_FOUND, message, hint="Request a key at sign-upload, and PUT the file.")


class LapSpan(_Body):
    """A lap in a video, seconds; an empty number box of the page is sent as null and means 0."""

    start: float | None = Field(default=None, ge=0, le=86_400)
    end: float | None = Field(default=None, ge=0, le=86_400)

    @property
    def params(self) -> dict[str, float | None]:
        """The segment as a parameter of the workload; an end of 0 is the end of the video."""
        return {"start_s": float(self.start or 0), "end_s": self.end or None}


class LapPair(_Body):
    """Two files with a lap each."""

    mode: Literal["pair"]
    lapA: SentFile  # noqa: N815 - the client's name
    lapB: SentFile  # noqa: N815

    @property
    def files(self) -> tuple[SentFile, SentFile]:
        """The files with reference and other."""
        return self.lapA, self.lapB

    @property
    def params(self) -> dict[str, Any]:
        """The job's parameters."""
        return {}


class LapSegments(_Body):
    """One file with both laps."""

    mode: Literal["segments"]
    video: SentFile
    segA: LapSpan = LapSpan()  # noqa: N815
    segB: LapSpan = LapSpan()  # noqa: N815

    @property
    def files(self) -> tuple[SentFile, SentFile]:
        """The file, as reference and as other."""
        return self.video, self.video

    @property
    def params(self) -> dict[str, Any]:
        """The job's parameters."""
        return {"segments": {"reference": self.segA.params, "other": self.segB.params}}


class LapSearch(_Body):
    """A file in which laps are looked for; an empty number box of the page is sent as null and means the default."""

    video: SentFile
    min_lap_s: float | None = Field(default=None, gt=0, le=86_400)
    max_lap_s: float | None = Field(default=None, gt=0, le=86_400)
    top_k: int | None = Field(default=None, ge=1, le=100)

    @property
    def params(self) -> dict[str, float]:
        """The job's parameters."""
        return {"min_lap_s": self.min_lap_s or 20.0, "max_lap_s": self.max_lap_s or 300.0}

    @property
    def most(self) -> int:
        """How many laps are wanted."""
        return self.top_k or 6
