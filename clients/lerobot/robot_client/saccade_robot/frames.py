"""Which pictures are sent: per camera the newest two at most, and no more a second than asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from saccade_robot.clock import Offset
from saccade_robot.image_encoding import Encode, content_type, find_encoder
from saccade_robot.ring import Ring

log = logging.getLogger(__name__)

#: What the server takes at most: contracts/limits.py, FRAME_BYTES.
_BYTES: Final = (1024 - 16) * 1024
_WAITING: Final = 2
#: A picture this share of a period early is in time: a camera's and a loop's beats never match.
_EARLY: Final = 0.25


@dataclass(frozen=True)
class EncodedFrame:
    """One encoded picture with what is said of it, by the names of the NATS headers."""

    body: bytes
    headers: dict[str, str]

    @property
    def http_headers(self) -> dict[str, str]:
        """Give the headers as they are called over HTTP."""
        return {n if n == "Content-Type" else f"X-{n}": value for n, value in self.headers.items()}


class CameraQueue:
    """The pictures of one camera; ``offer`` is called by the control thread, all else by the streamer's."""

    def __init__(self, name: str, rate_hz: float) -> None:
        """Keep at most ``rate_hz`` pictures a second."""
        self.name = name
        self._ring: Ring[tuple[float, Any]] = Ring(_WAITING)
        self._period_s = 1 / rate_hz
        self._due_s = 0.0
        self.skipped = 0
        self.sent = 0
        #: Taken and never sent: not a picture, too large, or refused.
        self.failed = 0

    def offer(self, picture: Any, captured_at_s: float) -> None:
        """Keep a reference to a picture if one is due."""
        if captured_at_s < self._due_s - _EARLY * self._period_s:
            self.skipped += 1
            return
        # By the beat, not by the last picture: else what comes a little late each time slows the beat down.
        on_beat = captured_at_s - self._due_s < self._period_s
        self._due_s = (self._due_s if on_beat else captured_at_s) + self._period_s
        self._ring.offer((captured_at_s, picture))

    @property
    def offered(self) -> int:
        """Count the pictures offered, those that were not due included."""
        return self._ring.offered + self.skipped

    @property
    def dropped(self) -> int:
        """Count those that were due and will never arrive."""
        return self._ring.lost + self.failed

    @property
    def waiting(self) -> int:
        """Count those that can be taken."""
        return self._ring.waiting

    def take(self) -> tuple[int, float, Any] | None:
        """Take the oldest picture that waits: its number, when it was captured, and itself."""
        for sequence, (captured_at_s, picture) in self._ring.take(1):
            return sequence, captured_at_s, picture
        return None


class FrameEncoder:
    """Encodes pictures in whatever thread calls it."""

    def __init__(self, encode: Encode | None, offset: Callable[[], Offset | None]) -> None:
        """Encode by ``encode``, or by what is installed."""
        self._encode = encode
        self._offset = offset
        self._said = ""
        self.errors = 0

    def make(self, camera: str, sequence: int, captured_at_s: float, picture: Any) -> EncodedFrame | None:
        """Make a frame; None when the picture cannot be one, which is logged."""
        try:
            body = self._bytes(picture)
        except Exception as error:  # noqa: BLE001 - an encoder may raise anything, and the stream goes on
            self._failed(f"a picture of {camera} could not be encoded: {error or type(error).__name__}")
            return None
        if not 0 < len(body) <= _BYTES:
            self._failed(f"a picture of {camera} has {len(body)} bytes, {_BYTES} can be sent: make it smaller")
            return None
        headers = {
            "Frame-Seq": str(sequence),
            "Frame-Captured-At": repr(captured_at_s),
            "Frame-Source": camera,
            "Content-Type": content_type(body),
        }
        if (offset := self._offset()) is not None:
            headers["Frame-Clock-Offset"] = repr(offset.offset_s)
        return EncodedFrame(body, headers)

    def _bytes(self, picture: Any) -> bytes:
        if isinstance(picture, (bytes, bytearray, memoryview)):
            return bytes(picture)
        if self._encode is None:
            self._encode = find_encoder()
        return self._encode(picture)

    def _failed(self, why: str) -> None:
        self.errors += 1
        if self._said != why:
            self._said = why
            log.warning("%s", why)
