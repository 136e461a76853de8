"""Photos of one form (``multipart/form-data``), passed on to the bucket as they arrive and checked as uploads are."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import ClientDisconnect, Request

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import GIB, MIB, UPLOAD_BYTES
from contracts.upload import Upload
from kit.bucket import Bucket
from services.gateway.compat.nerf.jobs import ColmapRequest, NerfJobs
from services.gateway.compat.nerf.photo_answers import (
    START_PHOTOS,
    PhotoUpload,
    ReceivedPhoto,
    add_warnings,
    answer,
)
from services.gateway.compat.nerf.photo_groups import GROUP_KEY, MAX_PHOTOS, new_group, photo_id
from services.gateway.fair_slots import FairSlots
from services.gateway.uploads.disk import Disk
from services.gateway.uploads.form_parts import FormPart, FormParts, malformed
from services.gateway.uploads.service import TEMPORARY_ERRORS, UploadService

#: Forms that are received at once, and those of one tenant: each holds up to 16 MiB of a file, however slow its client.
FORMS: Final = 32
FORMS_OF_ONE: Final = 24
#: Received bytes of a file after which the disk is checked again.
_DISK_CHECK_BYTES: Final = 16 * MIB
#: Errors that are not of the file.
_OF_THE_SERVER: Final = TEMPORARY_ERRORS | {
    ErrorCode.STORAGE_FULL,
    ErrorCode.QUOTA_EXCEEDED,
    ErrorCode.RATE_LIMITED,
}
#: What clients send for a file whose type they do not know.
_UNKNOWN_TYPES: Final = frozenset({"", "text/plain", "application/octet-stream"})
#: Fields that are not used for anything.
_OTHER_FIELDS: Final = 100
_BOOLEANS: Final = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


@dataclass
class _Form:
    """One form while it is received."""

    tenant: str
    group: str
    photos: list[ReceivedPhoto] = field(default_factory=list)
    #: Files of which there are uploads: the index of the next one.
    stored: int = 0
    checks: list[asyncio.Task[None]] = field(default_factory=list)
    options: dict[str, bool] = field(default_factory=dict)
    others: int = 0


class PhotoForms:
    """Receives forms."""

    def __init__(self, uploads: UploadService, nerf_jobs: NerfJobs, bucket: Bucket, disk: Disk) -> None:
        """Create uploads in ``uploads`` and put their bytes into ``bucket``, whose disk is ``disk``."""
        self._uploads, self._nerf_jobs, self._bucket, self._disk = uploads, nerf_jobs, bucket, disk
        self._slots = FairSlots(FORMS, most_of_one=FORMS_OF_ONE)

    async def receive(self, request: Request, tenant: str) -> PhotoUpload:
        """Store and check the photos of a form. A photo that is refused does not affect the others.

        Photos that have arrived stay when the rest of the form does not arrive. A form waits while many are received.

        Raises:
            SaccadeError: MALFORMED_REQUEST, UPLOAD_TOO_LARGE; STORAGE_UNAVAILABLE, BUS_UNAVAILABLE, EVENTS_FULL,
                STORAGE_FULL, QUOTA_EXCEEDED or RATE_LIMITED, if no photo could be stored.
        """
        _check_length(request)
        form = _Form(tenant, new_group())
        try:
            async with self._slots.slot(tenant):
                async for part in FormParts.of(request.headers.get("content-type", ""), request.stream()).parts():
                    await self._take(form, part)
        except ClientDisconnect:
            raise malformed("it ends before its last boundary") from None
        finally:
            await asyncio.gather(*form.checks)
        if not form.photos:
            raise malformed("it has no files")
        if error := _common_error(form):
            raise error
        add_warnings(form.photos)
        if form.options.get("strict_validation"):
            await self._refuse_doubtful(form)
        return await self._answer(form)

    async def _take(self, form: _Form, part: FormPart) -> None:
        if part.filename is None and part.name in ("auto_start_nerf", "strict_validation"):
            form.options[part.name] = await _boolean(part)
        elif part.name in ("files", "files[]"):
            await self._take_file(form, part)
        else:
            form.others += 1
            if form.others > _OTHER_FIELDS:
                raise malformed("it has too many other fields")

    async def _take_file(self, form: _Form, part: FormPart) -> None:
        """Store a file, and begin to check it while the next one arrives."""
        if len(form.photos) >= 2 * MAX_PHOTOS:
            raise malformed(f"it has more than {2 * MAX_PHOTOS} files")
        photo = ReceivedPhoto(part.filename or f"photo_{len(form.photos) + 1}")
        form.photos.append(photo)
        try:
            if form.stored >= MAX_PHOTOS:
                message = f"A form has at most {MAX_PHOTOS} photos."
                raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint="Send fewer.")
            upload = await self._uploads.create(
                form.tenant,
                filename=photo.filename,
                content_type=_content_type(part),
                size_bytes=None,
                sha256=None,
                multipart=False,
                key=None,
                metadata={GROUP_KEY: form.group},
                upload_id=photo_id(form.group, form.stored),
            )
            form.stored += 1
            photo.upload = upload
            await self._store(upload, photo, part.chunks)
        except SaccadeError as error:
            if error.code is ErrorCode.MALFORMED_REQUEST:
                raise
            photo.error = error
        else:
            form.checks.append(asyncio.create_task(self._check(form.tenant, photo, upload)))

    async def _store(self, upload: Upload, photo: ReceivedPhoto, chunks: AsyncIterator[bytes]) -> None:
        try:
            await self._bucket.send_chunks(
                self._counted(photo, chunks), upload.created.key, upload.created.content_type
            )
        except SaccadeError as error:
            if error.code is ErrorCode.MALFORMED_REQUEST or error.code in TEMPORARY_ERRORS:
                await self._uploads.delete(upload.tenant, upload.id)
            else:
                await self._uploads.reject(upload, error)
            raise self._disk.cause_of(error) from None
        except BaseException:
            await self._uploads.delete(upload.tenant, upload.id)
            raise

    async def _counted(self, photo: ReceivedPhoto, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        next_check_bytes = _DISK_CHECK_BYTES
        async for chunk in chunks:
            photo.size_bytes += len(chunk)
            if photo.size_bytes > UPLOAD_BYTES:
                message = f"The file has more than {UPLOAD_BYTES // GIB} GiB."
                raise SaccadeError(ErrorCode.UPLOAD_TOO_LARGE, message)
            if photo.size_bytes >= next_check_bytes:
                next_check_bytes += _DISK_CHECK_BYTES
                self._disk.require_room()
            yield chunk

    async def _check(self, tenant: str, photo: ReceivedPhoto, upload: Upload) -> None:
        try:
            photo.upload = await self._uploads.complete(tenant, upload.id)
        except SaccadeError as error:
            photo.error = error

    async def _refuse_doubtful(self, form: _Form) -> None:
        """Refuse the photos with warnings, and delete them."""
        for photo in form.photos:
            if photo.warnings and photo.upload and not photo.refused:
                await self._uploads.delete(form.tenant, photo.upload.id)
                hint = "Leave it out, or send the form without strict_validation."
                photo.error = SaccadeError(ErrorCode.INVALID_PARAMETER, " ".join(photo.warnings), hint=hint)

    async def _answer(self, form: _Form) -> PhotoUpload:
        """Answer a form; start its job where that was asked for."""
        usable = sum(not photo.refused for photo in form.photos)
        if not form.options.get("auto_start_nerf") or usable < START_PHOTOS:
            return answer(form.group, form.photos, started=False)
        try:
            await self._nerf_jobs.submit(form.tenant, ColmapRequest(job_id=form.group))
        except SaccadeError as error:
            # The photos are stored: the client submits the job, and is then told why that fails.
            return answer(form.group, form.photos, started=False, more=[f"The job was not started: {error.message}"])
        return answer(form.group, form.photos, started=True)


def _common_error(form: _Form) -> SaccadeError | None:
    """Return the error of a form of which nothing could be stored, whatever its files are."""
    errors = [photo.error for photo in form.photos]
    if all(error is not None and error.code in _OF_THE_SERVER for error in errors):
        return errors[0]
    return None


def _check_length(request: Request) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > UPLOAD_BYTES:
        message = f"The form has {int(declared[:20]) / GIB:.1f} GiB; at most {UPLOAD_BYTES // GIB} GiB are accepted."
        raise SaccadeError(ErrorCode.UPLOAD_TOO_LARGE, message, hint="Send the photos in several forms.")


async def _boolean(part: FormPart) -> bool:
    """Return the value of a field that is true or false.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    try:
        return _BOOLEANS[(await part.text()).lower()]
    except KeyError:
        message = f"{part.name}: the value is neither true nor false."
        raise SaccadeError(ErrorCode.INVALID_PARAMETER, message) from None


def _content_type(part: FormPart) -> str:
    """Return a file's content type: as declared, or by its name.

    Raises:
        SaccadeError: UNSUPPORTED_MEDIA_TYPE.
    """
    guessed = mimetypes.guess_type(part.filename or "")[0] or ""
    found = guessed if part.content_type in _UNKNOWN_TYPES else part.content_type
    if not found.startswith("image/"):
        message = f"{part.filename or 'The file'} is no photo ({found or 'unknown type'})."
        raise SaccadeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, message, accepted=["image/*"])
    return found
