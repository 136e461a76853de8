"""A form with one file, cut into pieces at every position."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from contracts.errors import SaccadeError
from services.gateway.compat.badminton.uploads.form_body import FormBody

pytestmark = pytest.mark.anyio

FILE = b"\r\n--x\r\n--x--\r\nbytes that look like a boundary\r\n\r\n"
HEAD = (
    b'--xy\r\nContent-Disposition: form-data; name="file"; filename="r\xc3\xa4lly.mp4"\r\n'
    b"Content-Type: video/mp4\r\n\r\n"
)
END = b"\r\n--xy--\r\n"
TYPE = "multipart/form-data; boundary=xy"


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        if piece:
            yield piece
    yield b""


async def read(body: bytes, *cuts: int, content_type: str = TYPE) -> tuple[FormBody, bytes]:
    pieces = [body[begin:end] for begin, end in zip((0, *cuts), (*cuts, len(body)), strict=True)]
    form = await FormBody.begin(content_type, len(body), stream(*pieces))
    return form, b"".join([chunk async for chunk in form.file()])


async def test_the_file_comes_out_whatever_the_pieces() -> None:
    body = HEAD + FILE + END
    for cut in range(len(body)):
        form, found = await read(body, cut)
        assert found == FILE, cut
        assert (form.filename, form.content_type, form.size_bytes) == ("rälly.mp4", "video/mp4", len(FILE))
    assert (await read(HEAD + END))[1] == b""


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", TYPE),
        (HEAD + FILE + END, "video/mp4"),
        (HEAD + FILE + END, "multipart/form-data"),
        (b"x" * 100_000, TYPE),
        (HEAD.replace(b'"file"', b'"other"') + FILE + END, TYPE),
        (HEAD.replace(b"--xy", b"--yx") + FILE + END, TYPE),
        (HEAD + FILE + b'\r\n--xy\r\nContent-Disposition: form-data; name="more"\r\n\r\n1' + END, TYPE),
        (HEAD + FILE, TYPE),
    ],
)
async def test_other_forms_are_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(SaccadeError, match="The form cannot be read"):
        await read(body, content_type=content_type)


async def test_a_form_that_ends_too_early_is_refused() -> None:
    form = await FormBody.begin(TYPE, len(HEAD + FILE + END), stream(HEAD + FILE[:10]))
    with pytest.raises(SaccadeError, match="ends in the file"):
        assert [chunk async for chunk in form.file()]


async def test_a_further_field_is_found_wherever_the_pieces_are_cut() -> None:
    body = HEAD + FILE + b"\r\n--xy\r\nContent-Disposition: form-data; name=more\r\n\r\n1" + END
    for cut in range(len(HEAD), len(body)):
        with pytest.raises(SaccadeError, match="another field"):
            await read(body, cut)
