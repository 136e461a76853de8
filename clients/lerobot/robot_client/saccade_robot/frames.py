"""Selection and encoding of camera frames: a rate limit per camera, and at most the newest two wait."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from saccade_robot.clock import Offset, now_s
from saccade_robot.image_encoding import Encode, content_type, find_encoder
from saccade_robot.ring import Ring

log = logging.getLogger(__name__)

#: The server's limit: contracts/limits.py, FRAME_BYTES.
_BYTES: Final = (1024 - 16) * 1024
_WAITING: Final = 2
#: A picture that is early by this share of a period is taken: the periods of camera and loop never match.
_EARLY: Final = 0.25


@dataclass(frozen=True)
class EncodedFrame:
    """An encoded picture with its NATS headers."""

    body: bytes
    headers: dict[str, str]

    @property
    def http_headers(self) -> dict[str, str]:
        """The headers by their HTTP names."""
        return {n if n == "Content-Type" else f"X-{n}": value for n, value in self.headers.items()}


class CameraQueue:
    """Queue of one camera's pictures; the control thread calls ``offer``, the streamer's thread all else."""

    def __init__(self, name: str, rate_hz: float) -> None:
        """Accept at most ``rate_hz`` pictures a second."""
        self.name = name
        self._ring: Ring[tuple[float, Any]] = Ring(_WAITING)
        self._period_s = 1 / rate_hz
        self._due_s = 0.0
        #: A session drops frames whose numbers it has had from a camera, or greater ones. So the numbers begin at the
        #: clock, in microseconds: those after a reconnection or of the next program are greater than all before.
        self._first_number = int(now_s() * 1e6)
        self.skipped = 0
        self.sent = 0
        #: Taken but not sent: not a picture, too large, or refused.
        self.failed = 0

    def offer(self, picture: Any, captured_at_s: float) -> None:
        """Queue a reference to a picture if one is due."""
        if captured_at_s < self._due_s - _EARLY * self._period_s:
            self.skipped += 1
            return
        # The next time follows the schedule, not the last picture: small delays must not add up.
        on_schedule = captured_at_s - self._due_s < self._period_s
        self._due_s = (self._due_s if on_schedule else captured_at_s) + self._period_s
        self._ring.offer((captured_at_s, picture))

    @property
    def offered(self) -> int:
        """Number of pictures offered, including those that were not due."""
        return self._ring.offered + self.skipped

    @property
    def dropped(self) -> int:
        """Number of pictures that were due and are lost."""
        return self._ring.lost + self.failed

    @property
    def waiting(self) -> int:
        """Number of queued pictures."""
        return self._ring.waiting

    def take(self) -> tuple[int, float, Any] | None:
        """Remove and return the oldest queued picture: number, capture time, picture."""
        for sequence, (captured_at_s, picture) in self._ring.take(1):
            return self._first_number + sequence, captured_at_s, picture
        return None


class FrameEncoder:
    """Encoder of frames; it runs in the calling thread."""

    def __init__(self, encode: Encode | None, offset: Callable[[], Offset | None]) -> None:
        """Encode with ``encode``, by default with OpenCV or Pillow."""
        self._encode = encode
        self._offset = offset
        self._last_error = ""
        self.errors = 0

    def encode(self, camera: str, sequence: int, captured_at_s: float, picture: Any) -> EncodedFrame | None:
        """Encode a picture as a frame; log the reason and return None if it cannot be encoded."""
        try:
            body = self._bytes(picture)
        except Exception as error:  # noqa: BLE001 - an encoder may raise anything; streaming continues
            self._failed(f"a picture of {camera} could not be encoded: {error or type(error).__name__}")
            return None
        if not 0 < len(body) <= _BYTES:
            self._failed(f"a picture of {camera} has {len(body)} bytes; the limit is {_BYTES}: reduce its size")
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
        if self._last_error != why:
            self._last_error = why
            log.warning("%s", why)
