"""Runs media_probe.py in a child process with a time limit and without secrets, and parses its answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.upload import MediaFacts
from kit.bucket import Bucket, ObjectMissing
from modal_workers.footage.decoder_lockdown import LAYERS
from services.gateway.decoder_process import decoder_process
from services.gateway.uploads.media_probe import NOT_READ, WINDOW_BYTES

log = logging.getLogger(__name__)

#: Returns so many bytes of an object from a position on; fewer at its end.
ReadRange = Callable[[int, int], Awaitable[bytes]]

_MODULE: Final = "services.gateway.uploads.media_probe"
#: What the kernel lacks to lock the process down, as it was logged.
_logged: set[str] = set()


def range_reader(bucket: Bucket, key: str) -> ReadRange:
    """Return a reader of parts of an object; it raises STORAGE_UNAVAILABLE, also when there is no such object."""

    async def read(start: int, length: int) -> bytes:
        try:
            async with bucket.opened(key, start, length) as opened:
                return b"".join([chunk async for chunk in opened.chunks()])
        except ObjectMissing as error:
            raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE, "The object is no longer in the bucket.") from error

    return read


async def probe_media(read: ReadRange, size_bytes: int, *, timeout_s: float, memory_bytes: int) -> MediaFacts:
    """Return what a decoder finds in an object of ``size_bytes``, which ``read`` reads.

    Raises:
        SaccadeError: MEDIA_UNDECODABLE, MEDIA_NO_VIDEO, MEDIA_TOO_LARGE; STORAGE_UNAVAILABLE, which does not
            depend on the file.
    """
    request = {"size_bytes": size_bytes, "memory_bytes": memory_bytes, "cpu_s": int(timeout_s) + 1}
    probe = ProbeConversation(read, size_bytes)
    async with decoder_process(_MODULE) as process:
        try:
            async with asyncio.timeout(timeout_s):
                return _facts(await probe.converse(process, request))
        except TimeoutError:
            if probe.reading:
                raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE, "Reading the file takes too long.") from None
            message = f"The decoder had not opened the file after {timeout_s:.0f} s."
            raise SaccadeError(ErrorCode.MEDIA_UNDECODABLE, message) from None


class ProbeConversation:
    """The bucket's side of a probe: reads what the process asks for."""

    def __init__(self, read: ReadRange, size_bytes: int) -> None:
        self._read, self._size_bytes = read, size_bytes
        self.reading = False

    async def converse(self, process: asyncio.subprocess.Process, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer of the process to a request.

        Raises:
            SaccadeError: MEDIA_UNDECODABLE, when it ends without one.
        """
        assert process.stdin
        assert process.stdout
        with suppress(ConnectionError, ValueError):  # it has ended; its line is too long, or nonsense
            process.stdin.write(json.dumps(request).encode() + b"\n")
            while line := await process.stdout.readline():
                said = json.loads(line)
                if not isinstance(said, dict):
                    break
                if "read" not in said:
                    return said
                found = await self._bytes(said["read"])
                process.stdin.write((NOT_READ if found is None else len(found)).to_bytes(8) + (found or b""))
                await process.stdin.drain()
        process.kill() if process.returncode is None else None
        with suppress(ProcessLookupError):
            process.kill()
        log.warning("the media probe exited with %d and no valid answer", await process.wait())
        raise SaccadeError(ErrorCode.MEDIA_UNDECODABLE, "The decoder crashed on this file.")

    async def _bytes(self, start: Any) -> bytes | None:
        """Return a window of the object; None if it cannot be read."""
        if not isinstance(start, int) or not 0 <= start < self._size_bytes:
            return b""
        self.reading = True
        try:
            return await self._read(start, min(WINDOW_BYTES, self._size_bytes - start))
        except SaccadeError:
            return None
        finally:
            self.reading = False


def _facts(answer: dict[str, Any]) -> MediaFacts:
    """Return what the process found.

    Raises:
        SaccadeError: what it refused the file for.
    """
    try:
        _log_lacking(answer["lockdown"])
        if "media" in answer:
            return MediaFacts.model_validate(answer["media"])
        code, message = ErrorCode(answer["error"]["code"]), str(answer["error"]["message"])
    except (ValueError, KeyError, TypeError):
        log.warning("the media probe gave no valid answer")
        raise SaccadeError(ErrorCode.MEDIA_UNDECODABLE, "The decoder crashed on this file.") from None
    raise SaccadeError(code, message)


def _log_lacking(layers: list[str]) -> None:
    """Log once what protects against a hostile file elsewhere, and not here. Nothing is locked after an early error."""
    lacking = {layer for layer in LAYERS if layer not in layers} - _logged if layers else set()
    if lacking:
        _logged.update(lacking)
        log.warning("files of users are decoded without: %s", ", ".join(sorted(lacking)))
