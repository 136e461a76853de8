"""A form with fields and files, cut into pieces at every position."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from contracts.errors import ErrorCode, SaccadeError
from services.gateway.uploads.form_parts import FormParts

pytestmark = pytest.mark.anyio

TYPE = "multipart/form-data; boundary=xy"
FILE = b"\r\n--x\r\n--x--\r\nlike a boundary\r\n\r\n\r\n--x"
FORM = (
    b'--xy\r\nContent-Disposition: form-data; name="strict"\r\n\r\ntrue\r\n'
    b'--xy \r\nContent-Disposition: form-data; name="files"; filename="r\xc3\xa4d.png"\r\n'
    b"Content-Type: image/png\r\n\r\n"
    + FILE
    + b'\r\n--xy\r\nContent-Disposition: form-data; name="files"; filename=""\r\n\r\n\r\n--xy--\r\nafter it'
)


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def fields(*pieces: bytes, content_type: str = TYPE) -> list[tuple[str, str | None, str, bytes]]:
    return [
        (part.name, part.filename, part.content_type, b"".join([chunk async for chunk in part.chunks]))
        async for part in FormParts.of(content_type, stream(*pieces)).parts()
    ]


async def test_fields_and_files_come_out_whatever_the_pieces() -> None:
    expected = [("strict", None, "", b"true"), ("files", "räd.png", "image/png", FILE), ("files", "", "", b"")]
    for cut in range(len(FORM)):
        assert await fields(FORM[:cut], b"", FORM[cut:]) == expected, cut
    assert await fields(*(FORM[at : at + 1] for at in range(len(FORM)))) == expected


async def test_bytes_that_nobody_reads_are_skipped() -> None:
    names = [part.name async for part in FormParts.of(TYPE, stream(FORM)).parts()]
    assert names == ["strict", "files", "files"]


async def test_a_large_file_is_never_held_whole() -> None:
    begun = FORM[: FORM.index(FILE)]
    pieces = [begun, *([b"x" * 65_536] * 100), b"\r\n--xy--"]
    async for part in FormParts.of(TYPE, stream(*pieces)).parts():
        assert max([len(chunk) async for chunk in part.chunks]) < 70_000


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", TYPE),
        (FORM, "image/png"),
        (FORM, "multipart/form-data"),
        (FORM[:-20], TYPE),
        (b"x" * 100_000, TYPE),
        (b"--xy" + b"x" * 20_000 + b"\r\n", TYPE),
        (b"--xy\r\nA: " + b"x" * 40_000, TYPE),
        (b"--xy\r\nA: b\r\n\r\nx\r\n--xy--", TYPE),
        (b"--xy\r\n\r\nx\r\n--xy--", TYPE),
    ],
    ids=["empty", "no form", "no boundary", "cut off", "text", "long line", "long head", "no name", "no head"],
)
async def test_what_is_no_form_is_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(SaccadeError) as refused:
        await fields(body, content_type=content_type)
    assert refused.value.code is ErrorCode.MALFORMED_REQUEST


async def test_a_long_text_field_is_refused() -> None:
    body = b'--xy\r\nContent-Disposition: form-data; name="strict"\r\n\r\n' + b"x" * 20_000 + b"\r\n--xy--"
    part = await anext(FormParts.of(TYPE, stream(body)).parts())
    with pytest.raises(SaccadeError, match="too long"):
        await part.text()
