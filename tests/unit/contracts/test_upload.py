"""State of an upload, folded from its events."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from contracts.errors import ErrorBody, ErrorCode
from contracts.events import EventData, decode, encode
from contracts.events.upload import MediaFacts, UploadCompleted, UploadCreated, UploadFailed
from contracts.ids import new_id
from contracts.limits import PART_BYTES, SINGLE_PUT_BYTES, UPLOAD_BYTES
from contracts.upload import Upload, UploadState, fold

CREATED = UploadCreated(key="k", filename="a.mp4", content_type="video/mp4", size_bytes=2 * PART_BYTES + 1)
MEDIA = MediaFacts(media="video", container="mov", codec="h264", width_px=2, height_px=2)
COMPLETED = UploadCompleted(size_bytes=CREATED.size_bytes, sha256="0" * 64, media=MEDIA)


def folded(*events: EventData) -> Upload:
    upload: Upload | None = None
    upload_id = new_id("upl")
    for sequence, data in enumerate(events, start=1):
        message = encode(data, tenant="t", subject_id=upload_id, source="/test", time=datetime.now(UTC))
        upload = fold(upload, decode(message.body), sequence)
    assert upload
    return upload


@pytest.mark.parametrize("size_bytes", [1, PART_BYTES, PART_BYTES + 1, SINGLE_PUT_BYTES + 1, UPLOAD_BYTES])
def test_the_parts_add_up_to_the_size(size_bytes: int):
    upload = folded(CREATED.model_copy(update={"size_bytes": size_bytes}))
    sizes = [upload.part_size(number) for number in range(1, upload.part_count + 1)]
    assert sum(sizes) == size_bytes
    assert min(sizes) > 0
    assert set(sizes[:-1]) <= {PART_BYTES}


def test_an_upload_completes_and_can_still_be_deleted():
    upload = folded(CREATED, COMPLETED)
    assert (upload.state, upload.media, upload.sequence) == (UploadState.COMPLETED, MEDIA, 2)
    deleted = folded(CREATED, COMPLETED, UploadFailed(reason="deleted"))
    assert (deleted.state, deleted.reason) == (UploadState.FAILED, "deleted")


def test_what_has_failed_stays_failed():
    error = ErrorBody(code=ErrorCode.MEDIA_NO_VIDEO, message="m", hint="h")
    upload = folded(CREATED, UploadFailed(reason="refused", error=error), COMPLETED, UploadFailed(reason="expired"))
    assert (upload.state, upload.reason, upload.error, upload.completed) == (
        UploadState.FAILED, "refused", error, None,
    )  # fmt: skip
