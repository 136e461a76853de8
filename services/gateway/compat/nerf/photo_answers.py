"""Answers of the replaced product-photo service to a form with photos, and what is noted about each photo. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import BaseModel, Field

from contracts.errors import SaccadeError
from contracts.limits import PHOTO_SIDE_PX, UPLOAD_BYTES
from contracts.upload import Upload, UploadState
from services.gateway.compat.nerf.photo_groups import MAX_PHOTOS

UploadStatus = Literal["uploading", "complete"]
#: Smaller photos are accepted with a warning.
_SIDE_PX: Final = 512
#: The replaced service starts by itself with so many photos or more, and warns of fewer.
START_PHOTOS: Final = 20
_RECOMMENDED_PHOTOS: Final = 80


class Dimensions(BaseModel):
    """Size of a photo; 0 where it cannot be read."""

    width: int = 0
    height: int = 0


class PhotoReport(BaseModel):
    """One file of the form."""

    file_id: str = Field(description="Id of the upload; empty if there is none.")
    filename: str
    url: str
    size: int
    dimensions: Dimensions
    status: Literal["valid", "warning", "error"]
    warnings: list[str]
    errors: list[str]


class PhotoSummary(BaseModel):
    """Number of files by what was found; ``valid`` includes those with warnings."""

    total: int
    valid: int
    warnings: int
    errors: int


class PhotoUpload(BaseModel):
    """Answer to a form: what became of each of its files."""

    job_id: str = Field(description="Send it to POST /api/nerf/colmap.")
    status: UploadStatus
    uploaded_count: int
    total_count: int
    validated_images: list[PhotoReport]
    validation_summary: PhotoSummary
    errors: list[str] = Field(description="What concerns the form as a whole.")
    auto_start_nerf: bool


class PhotoUploadStatus(BaseModel):
    """State of a form's photos."""

    job_id: str
    status: UploadStatus
    progress: float = Field(ge=0, le=100, description="Percent.")
    uploaded_count: int
    total_count: int
    upload_speed_mbps: float | None = None
    estimated_time_remaining: int | None = None


class PhotosDeleted(BaseModel):
    """The photos of a form were deleted."""

    message: str


@dataclass
class ReceivedPhoto:
    """A file of a form, as far as it has come."""

    filename: str
    size_bytes: int = 0
    upload: Upload | None = None
    error: SaccadeError | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        """Return whether the photo cannot be used."""
        return self.error is not None

    def report(self) -> PhotoReport:
        """Return what the client is told."""
        media = self.upload.media if self.upload else None
        upload_id = self.upload.id if self.upload else ""
        errors = [" ".join(filter(None, (self.error.message, self.error.hint)))] if self.error else []
        return PhotoReport(
            file_id=upload_id,
            filename=self.filename,
            url=f"/v1/uploads/{upload_id}" if upload_id and not self.error else "",
            size=self.size_bytes,
            dimensions=Dimensions(width=media.width_px, height=media.height_px) if media else Dimensions(),
            status="error" if self.error else "warning" if self.warnings else "valid",
            warnings=self.warnings,
            errors=errors,
        )


def add_warnings(photos: Sequence[ReceivedPhoto]) -> None:
    """Note which photos are small, or the same as one before."""
    first_by_digest: dict[str, str] = {}
    for photo in photos:
        completed = photo.upload.completed if photo.upload else None
        if photo.refused or completed is None:
            continue
        if min(completed.media.width_px, completed.media.height_px) < _SIDE_PX:
            size = f"{completed.media.width_px} × {completed.media.height_px} px"
            photo.warnings.append(f"The photo is small: {size}; {_SIDE_PX} px or more a side give sharper frames.")
        first = first_by_digest.setdefault(completed.sha256, photo.filename)
        if first_by_digest[completed.sha256] is not photo.filename:
            photo.warnings.append(f"The photo is the same file as {first!r}.")


def answer(group: str, photos: Sequence[ReceivedPhoto], *, started: bool, more: Sequence[str] = ()) -> PhotoUpload:
    """Return the answer to a form."""
    reports = [photo.report() for photo in photos]
    valid = sum(report.status != "error" for report in reports)
    errors = [*more]
    if valid < START_PHOTOS:
        errors.append(f"{valid} photos can be used; {START_PHOTOS} or more are needed for a complete turn.")
    return PhotoUpload(
        job_id=group,
        status="complete",
        uploaded_count=valid,
        total_count=len(reports),
        validated_images=reports,
        validation_summary=PhotoSummary(
            total=len(reports),
            valid=valid,
            warnings=sum(report.status == "warning" for report in reports),
            errors=len(reports) - valid,
        ),
        errors=errors,
        auto_start_nerf=started,
    )


def status_of(group: str, uploads: Sequence[Upload]) -> PhotoUploadStatus:
    """Return the state of a form's photos."""
    arrived = sum(upload.state is not UploadState.CREATED for upload in uploads)
    return PhotoUploadStatus(
        job_id=group,
        status="complete" if arrived == len(uploads) else "uploading",
        progress=100 * arrived / len(uploads),
        uploaded_count=arrived,
        total_count=len(uploads),
    )


def requirements() -> dict[str, object]:
    """Return what the replaced service tells of the photos that it wants."""
    return {
        "supported_formats": [".jpg", ".jpeg", ".png", ".webp", ".heic"],
        "image_count": {"minimum": START_PHOTOS, "recommended": _RECOMMENDED_PHOTOS, "maximum": MAX_PHOTOS},
        "file_size": {"maximum_mb": UPLOAD_BYTES // 1_000_000},
        "resolution": {
            "minimum_width": _SIDE_PX,
            "minimum_height": _SIDE_PX,
            "maximum_width": PHOTO_SIDE_PX,
            "maximum_height": PHOTO_SIDE_PX,
        },
        "recommendations": [
            "Photograph the product from all sides, with much overlap.",
            "Keep the light the same in all photos.",
            "Keep the camera still, so that no photo is blurred.",
        ],
    }
