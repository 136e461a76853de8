"""Checks of uploads before their bytes are sent: file name, media type, size."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import SINGLE_PUT_BYTES, UPLOAD_BYTES
from services.gateway.uploads.upload_checks import check_declared_size, is_multipart, media_type, safe_name


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
def test_videos_and_pictures_are_accepted(given_type: str):
    assert media_type(given_type) == given_type.partition(";")[0].strip().lower()


@pytest.mark.parametrize(
    "given_type", ["", "video", "video/", "audio/mp3", "text/html", "video/mp4\n x", "video/a b", "x/video/mp4"]
)
def test_other_media_types_are_rejected(given_type: str):
    with pytest.raises(SaccadeError) as raised:
        media_type(given_type)
    assert raised.value.code is ErrorCode.UNSUPPORTED_MEDIA_TYPE


def test_what_one_put_cannot_carry_goes_is_multipart():
    assert not is_multipart(SINGLE_PUT_BYTES, requested=False)
    assert is_multipart(SINGLE_PUT_BYTES + 1, requested=False)
    assert is_multipart(1, requested=True)


@pytest.mark.parametrize(
    ("size_bytes", "code"), [(0, ErrorCode.UPLOAD_EMPTY), (UPLOAD_BYTES + 1, ErrorCode.UPLOAD_TOO_LARGE)]
)
def test_a_declared_size_outside_the_limits_is_rejected(size_bytes: int, code: ErrorCode):
    check_declared_size(1)
    check_declared_size(UPLOAD_BYTES)
    with pytest.raises(SaccadeError) as refused:
        check_declared_size(size_bytes)
    assert refused.value.code is code
