"""Runs media_probe.py in a child process with a time limit and without secrets, and parses its answer."""

from __future__ import annotations

import json
import logging

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.upload import MediaFacts
from services.gateway.decoder_process import run_decoder

log = logging.getLogger(__name__)


async def probe_media(url: str, *, timeout_s: float, memory_bytes: int) -> MediaFacts:
    """Return what a decoder finds in the object behind a presigned URL.

    Raises:
        SaccadeError: MEDIA_UNDECODABLE, MEDIA_NO_VIDEO, MEDIA_TOO_LARGE; STORAGE_UNAVAILABLE, which does not
            depend on the file.
    """
    request = {"url": url, "memory_bytes": memory_bytes, "cpu_s": int(timeout_s) + 1}
    try:
        output, exit_code = await run_decoder(
            "services.gateway.uploads.media_probe", json.dumps(request).encode(), timeout_s=timeout_s
        )
    except TimeoutError:
        message = f"The decoder had not opened the file after {timeout_s:.0f} s."
        raise SaccadeError(ErrorCode.MEDIA_UNDECODABLE, message) from None
    return _read(output, exit_code)


def _read(output: bytes, exit_code: int) -> MediaFacts:
    try:
        answer = json.loads(output)
        if "media" in answer:
            return MediaFacts.model_validate(answer["media"])
        code, message = ErrorCode(answer["error"]["code"]), str(answer["error"]["message"])
    except (ValueError, KeyError):
        log.warning("the media probe exited with %d and no valid answer", exit_code)
        raise SaccadeError(ErrorCode.MEDIA_UNDECODABLE, "The decoder crashed on this file.") from None
    raise SaccadeError(code, message)
