"""What may be announced, and what an upload becomes."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events import EventData, decode, encode
from contracts.events.upload import MediaFacts, UploadCompleted, UploadCreated, UploadFailed
from contracts.ids import new_id
from contracts.limits import PART_BYTES, SINGLE_PUT_BYTES, UPLOAD_BYTES
from services.gateway.uploads.upload_checks import Upload, UploadState, fold, in_parts, media_type, safe_name

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


@pytest.mark.parametrize(
    ("filename", "safe"),
    [
        ("lap.MP4", "lap.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\videos\\Lap 1.mov", "Lap_1.mov"),
        ("Rundenzeit Nürburgring (2).mp4", "Rundenzeit_N_rburgring_2.mp4"),
        ("日本.mp4", "file.mp4"),
        ("...", "file"),
        ("", "file"),
        ("lap", "lap"),
        (".hidden", "file.hidden"),
        ("x" * 300 + ".webm", "x" * 95 + ".webm"),
    ],
)
def test_a_file_name_becomes_a_safe_key(filename: str, safe: str):
    assert safe_name(filename) == safe


@given(st.text(max_size=300))
def test_no_file_name_leaves_its_folder(filename: str):
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", safe_name(filename))


@pytest.mark.parametrize("given_type", ["video/mp4", "VIDEO/MP4", "video/mp4; codecs=avc1", " image/svg+xml "])
def test_videos_and_pictures_are_taken(given_type: str):
    assert media_type(given_type) == given_type.partition(";")[0].strip().lower()


@pytest.mark.parametrize(
    "given_type", ["", "video", "video/", "audio/mp3", "text/html", "video/mp4\n x", "video/a b", "x/video/mp4"]
)
def test_other_media_types_are_refused(given_type: str):
    with pytest.raises(SaccadeError) as refused:
        media_type(given_type)
    assert refused.value.code is ErrorCode.UNSUPPORTED_MEDIA_TYPE


def test_what_one_put_cannot_carry_goes_in_parts():
    assert not in_parts(SINGLE_PUT_BYTES, asked=False)
    assert in_parts(SINGLE_PUT_BYTES + 1, asked=False)
    assert in_parts(1, asked=True)


@pytest.mark.parametrize("size_bytes", [1, PART_BYTES, PART_BYTES + 1, SINGLE_PUT_BYTES + 1, UPLOAD_BYTES])
def test_the_parts_make_the_whole(size_bytes: int):
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
