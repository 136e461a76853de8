"""Upload of photos by one form, as in the product-photo service that this system replaces."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request

from contracts.errors import ErrorCode
from kit.auth.principal import Reader, Writer
from kit.http.app_state import from_app_state
from kit.http.problems import problem_responses
from services.gateway.compat.nerf.photo_answers import (
    PhotosDeleted,
    PhotoUpload,
    PhotoUploadStatus,
    requirements,
    status_of,
)
from services.gateway.compat.nerf.photo_forms import PhotoForms
from services.gateway.compat.nerf.photo_groups import PhotoGroups

router = APIRouter(prefix="/api/upload", tags=["replaced"])

_E = ErrorCode
Name = Annotated[str, Path(min_length=1, max_length=220, description="`job_id` of the answer to the form.")]
PhotoFormsDep = Annotated[PhotoForms, from_app_state("compat_photo_forms")]
PhotoGroupsDep = Annotated[PhotoGroups, from_app_state("compat_photo_groups")]
_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}},
                        "auto_start_nerf": {"type": "boolean", "default": False},
                        "strict_validation": {"type": "boolean", "default": False},
                    },
                }
            }
        },
    }
}


@router.post(
    "/photos",
    summary="Upload photos by one form",
    openapi_extra=_FORM,
    responses=problem_responses(
        _E.MALFORMED_REQUEST,
        _E.UPLOAD_TOO_LARGE,
        _E.UPLOAD_BYTES_MISSING,
        _E.STORAGE_UNAVAILABLE,
    ),
)
async def upload_photos(request: Request, caller: Writer, forms: PhotoFormsDep) -> PhotoUpload:
    """Store the photos of a form. The answer says of each file whether it can be used, and why not."""
    return await forms.receive(request, caller.tenant)


@router.get("/info", summary="Which photos are accepted")
async def upload_info(_: Reader) -> dict[str, Any]:
    """Return formats, number and size of photos."""
    return requirements()


@router.get("/status/{job_id}", summary="State of a form's photos", responses=problem_responses(_E.UPLOAD_NOT_FOUND))
async def upload_status(caller: Reader, job_id: Name, groups: PhotoGroupsDep) -> PhotoUploadStatus:
    """Return how many photos of a form have been stored and checked."""
    return status_of(job_id, await groups.photos(caller.tenant, job_id))


@router.delete(
    "/upload_{number}",  # not of /photos and /info, which this method has nothing to do with
    summary="Delete a form's photos",
    responses=problem_responses(_E.UPLOAD_NOT_FOUND, _E.UPLOAD_IN_USE),
)
async def delete_photos(caller: Writer, number: Name, groups: PhotoGroupsDep) -> PhotosDeleted:
    """Delete the photos of a form; those that a job uses which has not ended cannot be deleted."""
    job_id = f"upload_{number}"
    count = await groups.delete(caller.tenant, job_id)
    return PhotosDeleted(message=f"Upload job {job_id} deleted successfully: {count} photos.")
