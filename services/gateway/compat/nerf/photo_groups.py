"""Photos that arrived in one form. Which uploads they are follows from the form's id: nothing else is stored."""

from __future__ import annotations

from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import derived_id, is_id, new_id
from contracts.upload import Upload, UploadState
from services.gateway.uploads.service import UploadService

#: Metadata of an upload: the form that it arrived in.
GROUP_KEY: Final = "photo_upload"
#: Most photos in a form; the workload takes no more.
MAX_PHOTOS: Final = 500
_PREFIX: Final = "upload_"
#: Photos that may be missing between others, because their events were erased.
_GAP: Final = 8


def new_group() -> str:
    """Return the id of a new form."""
    return _PREFIX + new_id("upl").partition("_")[2]


def is_group(text: str) -> bool:
    """Return whether a text has the form of a form's id."""
    return text.startswith(_PREFIX) and is_id(f"upl_{text.removeprefix(_PREFIX)}", "upl")


def photo_id(group: str, index: int) -> str:
    """Return the id of the upload of a form's file, by its index from 0 on."""
    return derived_id("upl", group, str(index))


class PhotoGroups:
    """Finds and deletes the photos of a form. All operations are tenant-scoped."""

    def __init__(self, uploads: UploadService) -> None:
        """Look for them in ``uploads``."""
        self._uploads = uploads

    async def photos(self, tenant: str, group: str) -> list[Upload]:
        """Return the uploads of a form in its order, without deleted ones.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND, if there are none; BUS_UNAVAILABLE.
        """
        found: list[Upload] = []
        missing, index = 0, 0
        while is_group(group) and missing <= _GAP and index < MAX_PHOTOS:
            upload = await self._uploads.find(tenant, photo_id(group, index))
            missing, index = 0 if upload else missing + 1, index + 1
            if upload and upload.reason != "deleted" and upload.created.metadata.get(GROUP_KEY) == group:
                found.append(upload)
        if not found:
            raise SaccadeError(ErrorCode.UPLOAD_NOT_FOUND, f"There are no photos of {group[:200]!r}.")
        return found

    async def usable(self, tenant: str, group: str) -> list[str]:
        """Return the ids of a form's photos that a job can use, in its order.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND, if there are none; BUS_UNAVAILABLE.
        """
        found = [upload.id for upload in await self.photos(tenant, group) if upload.state is UploadState.COMPLETED]
        if not found:
            raise SaccadeError(ErrorCode.UPLOAD_NOT_FOUND, f"No photo of {group!r} can be used.")
        return found

    async def delete(self, tenant: str, group: str) -> int:
        """Delete the photos of a form and return their number.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND, UPLOAD_IN_USE; BUS_UNAVAILABLE.
        """
        photos = await self.photos(tenant, group)
        for upload in photos:
            await self._uploads.delete(tenant, upload.id)
        return len(photos)
