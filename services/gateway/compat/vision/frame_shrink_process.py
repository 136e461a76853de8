"""Runs frame_shrink.py in a child process with a time limit and without secrets."""

from __future__ import annotations

import logging
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import FRAME_BYTES
from services.gateway.decoder_process import run_decoder
from services.gateway.fair_slots import FairSlots

log = logging.getLogger(__name__)

_TIMEOUT_S: Final = 8.0
#: First bytes of JPEG and PNG.
_SIGNATURES: Final = (b"\xff\xd8", b"\x89PNG\r\n\x1a\n")
#: Processes at a time, in all: each takes a processor. Frames that wait longer are dropped by their buffer.
_AT_ONCE: Final = 1


class FrameShrinker:
    """Shrinks frames of all connections."""

    def __init__(self) -> None:
        """Start without processes."""
        self._slots = FairSlots(_AT_ONCE)

    async def shrink(self, tenant: str, picture: bytes) -> bytes:
        """Return a picture of a tenant as a small JPEG.

        Raises:
            SaccadeError: FRAME_UNREADABLE.
        """
        found = b""
        if picture.startswith(_SIGNATURES):  # no process for anything else
            async with self._slots.slot(tenant):
                found = await _run(picture)
        if not 0 < len(found) <= FRAME_BYTES:
            raise SaccadeError(ErrorCode.FRAME_UNREADABLE, "The frame is too large, and no decoder opens it.")
        return found


async def _run(picture: bytes) -> bytes:
    """Return the output of the process; nothing if it cannot be started, fails or takes too long."""
    try:
        output, exit_code = await run_decoder(
            "services.gateway.compat.vision.frame_shrink", picture, timeout_s=_TIMEOUT_S
        )
    except (TimeoutError, BrokenPipeError, ConnectionResetError):
        return b""
    except OSError as error:  # too many processes or open files
        log.warning("a frame that is too large cannot be reduced: %s", error)
        return b""
    return output if exit_code == 0 else b""
