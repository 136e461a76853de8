"""Reader of a request body with one frame: the picture itself, or a form that contains it."""

from __future__ import annotations

from collections.abc import Collection

from fastapi import Request

from contracts.limits import FRAME_BYTES
from kit.http.body_limit import drain
from services.gateway.telemetry.form_file import FORM_BYTES, form_file
from services.gateway.telemetry.frame_check import frame_too_large


async def read_frame(request: Request, field_names: Collection[str]) -> bytes:
    """Return the bytes of a picture; stop reading above the size limit of a frame.

    Raises:
        SaccadeError: FRAME_TOO_LARGE; MALFORMED_REQUEST or INVALID_PARAMETER, for a form without the picture.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > FRAME_BYTES + FORM_BYTES:
        await drain(request.receive)
        raise frame_too_large(int(declared[:20]))
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > FRAME_BYTES + FORM_BYTES:
            await drain(request.receive)
            raise frame_too_large(len(body))
    whole_body = bytes(body)
    picture = form_file(request.headers.get("content-type", ""), whole_body, field_names)
    return whole_body if picture is None else picture
