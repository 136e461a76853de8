"""What a frame's first bytes tell, and what is taken out of a form: any bytes at all give an answer, and no other."""

from __future__ import annotations

import io
import random

import pytest
from PIL import Image

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import FRAME_BYTES, FRAME_SIDE_PX
from services.gateway.telemetry.form_file import form_file
from services.gateway.telemetry.frame_check import check_frame

TAKEN = {ErrorCode.FRAME_EMPTY, ErrorCode.FRAME_TOO_LARGE, ErrorCode.FRAME_UNREADABLE}


def picture(form: str, size: tuple[int, int], **more: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (90, 60, 30)).save(file, form, **more)
    return file.getvalue()


def code_of(body: bytes) -> ErrorCode | None:
    try:
        check_frame(body)
    except SaccadeError as error:
        return error.code
    return None


@pytest.mark.parametrize("size", [(1, 1), (320, 240), (17, 4096), (4096, 3)])
@pytest.mark.parametrize(("form", "more"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {})])
def test_type_and_size_are_read(form: str, more: dict[str, bool], size: tuple[int, int]) -> None:
    found = check_frame(picture(form, size, **more))
    assert (found.content_type, (found.width_px, found.height_px)) == (f"image/{form.lower()}", size)


def test_a_thumbnail_inside_is_not_the_picture() -> None:
    outer, thumbnail = picture("JPEG", (64, 48)), picture("JPEG", (8, 6))
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2) + thumbnail
    found = check_frame(outer[:2] + segment + b"\xff" + outer[2:])  # and padding before a marker
    assert (found.width_px, found.height_px) == (64, 48)


def test_what_is_refused() -> None:
    assert code_of(b"") is ErrorCode.FRAME_EMPTY
    assert code_of(picture("JPEG", (8, 8)) + bytes(FRAME_BYTES)) is ErrorCode.FRAME_TOO_LARGE
    assert code_of(picture("PNG", (FRAME_SIDE_PX + 1, 1))) is ErrorCode.FRAME_TOO_LARGE
    assert code_of(picture("JPEG", (1, FRAME_SIDE_PX + 1))) is ErrorCode.FRAME_TOO_LARGE
    for form in ("GIF", "BMP", "WEBP", "TIFF"):
        assert code_of(picture(form, (8, 8))) is ErrorCode.FRAME_UNREADABLE
    png = bytearray(picture("PNG", (8, 8)))
    png[16:20] = bytes(4)
    assert code_of(bytes(png)) is ErrorCode.FRAME_UNREADABLE
    # A bomb: what it declares would take 64 GiB, and it has a few hundred bytes.
    png[16:24] = b"\x00\x02\x00\x00" * 2
    assert code_of(bytes(png)) is ErrorCode.FRAME_TOO_LARGE
    assert len(png) < 1000


def test_any_bytes_get_an_answer(seed: int) -> None:
    draw = random.Random(seed)
    for whole in (picture("JPEG", (40, 30)), picture("PNG", (40, 30))):
        for cut in range(len(whole)):
            assert code_of(whole[:cut]) in TAKEN | {None}, cut
        for _ in range(2000):
            broken = bytearray(whole)
            for _ in range(draw.randint(1, 8)):
                broken[draw.randrange(len(broken))] = draw.randrange(256)
            assert code_of(bytes(broken)) in TAKEN | {None}, f"play it again with --seed {seed}"


#: A field whose header cannot be read as text.
UNNAMED = b"--b\r\nContent-Disposition: \xff\r\n\r\nx\r\n--b--"


def form(*fields: tuple[str, bytes], boundary: bytes = b"b") -> bytes:
    parts = [
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + body + b"\r\n"
        for name, body in fields
    ]
    return b"".join(parts) + b"--" + boundary + b"--\r\n"


def test_any_bytes_come_out_of_a_form_as_they_went_in(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(200):
        body = draw.randbytes(draw.randrange(300)) + draw.choice([b"", b"\r\n", b"\r\n--", b"--b", b"\n", b"\r\n\r\n"])
        # A form may not hold its own boundary at the start of a line, where a file's first byte is (RFC 2046, 5.1).
        if b"\r\n--b" in b"\r\n" + body:
            continue
        sent = form(("other", b"x"), ("file", body), ("file", b"second"))
        assert form_file("multipart/form-data; boundary=b", sent, {"file"}) == body, f"--seed {seed}"
        assert form_file('multipart/form-data; boundary="b"', b"preamble\r\n" + sent, {"file", "frame"}) == body


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        ("multipart/form-data", b"", ErrorCode.MALFORMED_REQUEST),
        ("multipart/form-data; boundary=b", b"", ErrorCode.MALFORMED_REQUEST),
        ("multipart/form-data; boundary=b", b"--b--\r\n", ErrorCode.MALFORMED_REQUEST),
        ("multipart/form-data; boundary=b", form(("file", b"x"))[:-6], ErrorCode.MALFORMED_REQUEST),
        ("multipart/form-data; boundary=c", form(("file", b"x")), ErrorCode.MALFORMED_REQUEST),
        ("multipart/form-data; boundary=b", b"--b\r\nno header\r\n--b--", ErrorCode.MALFORMED_REQUEST),
        ("multipart/form-data; boundary=b", form(("picture", b"x")), ErrorCode.INVALID_PARAMETER),
        ("multipart/form-data; boundary=b", b"--b\r\nA: b\r\n\r\nx\r\n--b--", ErrorCode.INVALID_PARAMETER),
        ("multipart/form-data; boundary=b", UNNAMED, ErrorCode.INVALID_PARAMETER),
    ],
)  # fmt: skip
def test_a_broken_form_is_said_to_be_one(kind: str, body: bytes, code: ErrorCode) -> None:
    with pytest.raises(SaccadeError) as refused:
        form_file(kind, body, {"file"})
    assert refused.value.code is code


@pytest.mark.parametrize(
    "kind", ["", "image/jpeg", "application/octet-stream", "nonsense", ";;;=", "multipart/mixed; boundary=b"]
)
def test_what_is_no_form_is_the_picture_itself(kind: str) -> None:
    assert form_file(kind, form(("file", b"x")), {"file"}) is None
