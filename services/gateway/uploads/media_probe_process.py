"""Runs media_probe.py in a child process with a time limit and without secrets, and parses its answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.upload import MediaFacts

log = logging.getLogger(__name__)

_OUTPUT_BYTES: Final = 64 * 1024


async def probe_media(url: str, *, timeout_s: float, memory_bytes: int) -> MediaFacts:
    """Return what a decoder finds in the object behind a presigned URL.

    Raises:
        SaccadeError: MEDIA_UNDECODABLE, MEDIA_NO_VIDEO, MEDIA_TOO_LARGE; STORAGE_UNAVAILABLE, which does not
            depend on the file.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.gateway.uploads.media_probe",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        # The decoder process must not inherit the environment, which contains secrets.
        env={"PYTHONPATH": os.pathsep.join(part for part in sys.path if part) or ".", "PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,
        limit=_OUTPUT_BYTES,
    )
    request = {"url": url, "memory_bytes": memory_bytes, "cpu_s": int(timeout_s) + 1}
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate(json.dumps(request).encode())
    except TimeoutError:
        message = f"The decoder had not opened the file after {timeout_s:.0f} s."
        raise SaccadeError(ErrorCode.MEDIA_UNDECODABLE, message) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return _read(output, process.returncode or 0)


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
