"""Upload of a file that the server fetches from a URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from saccade_client.api import Api
from saccade_client.errors import TransferError
from saccade_client.request_parts import origin_fields, path_segment
from saccade_client.upload import OnProgress
from saccade_client.views import UploadView

#: Pause between two questions: short at first, as most files are small.
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0


async def fetch_url(
    api: Api,
    url: str,
    on_progress: OnProgress | None,
    *,
    filename: str | None,
    metadata: Mapping[str, str] | None = None,
    from_job: str | None = None,
    key: str | None = None,
) -> UploadView:
    """Create an upload that the server fetches, and wait until it is checked.

    Raises:
        ClientError: the server refuses the URL, or cannot use its file.
    """
    body = {"url": url} | ({"filename": filename} if filename else {}) | origin_fields(metadata, from_job)
    upload, pause_s = await api.post(UploadView, "/v1/uploads", json=body, key=key), _FIRST_PAUSE_S
    while upload.state == "created":
        progress = upload.source or {}
        if on_progress:
            on_progress(int(progress.get("received_bytes") or 0), int(progress.get("total_bytes") or 0))
        await api.transport.sleep(pause_s)
        pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)
        upload = await api.get(UploadView, f"/v1/uploads/{path_segment(upload.id)}")
    if upload.state != "completed":
        error = upload.error
        if error is None:
            raise TransferError("upload_already_ended", "The upload was deleted or has expired.")
        raise TransferError(error.code, error.message, error.hint)
    if on_progress:
        on_progress(upload.size_bytes or 0, upload.size_bytes or 0)
    return upload
