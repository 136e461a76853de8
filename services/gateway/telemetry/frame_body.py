"""Reads the body of a request that brings one frame: the picture itself, or a form with it."""

from __future__ import annotations

from collections.abc import Collection

from fastapi import Request

from contracts.limits import FRAME_BYTES
from kit.http.body_limit import drain
from services.gateway.telemetry.form_file import FORM_BYTES, form_file
from services.gateway.telemetry.frame_check import too_large


async def read_frame(request: Request, fields: Collection[str]) -> bytes:
    """Give a picture's bytes, never more than a frame may have.

    Raises:
        SaccadeError: FRAME_TOO_LARGE; MALFORMED_REQUEST or INVALID_PARAMETER, for a form without the picture.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > FRAME_BYTES + FORM_BYTES:
        await drain(request.receive)
        raise too_large(int(declared[:20]))
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > FRAME_BYTES + FORM_BYTES:
            await drain(request.receive)
            raise too_large(len(body))
    whole = bytes(body)
    picture = form_file(request.headers.get("content-type", ""), whole, fields)
    return whole if picture is None else picture
