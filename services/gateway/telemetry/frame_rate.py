"""Rate limit of the frames of one session: a token bucket for each of its cameras. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

#: Frames per second of one camera; a camera that was silent may send a second's frames at once.
FRAMES_HZ: Final = 60.0
_BURST: Final = 60.0
#: Cameras with a bucket of their own; all others share one.
_SOURCES: Final = 16


class FrameRate:
    """Decides whether a frame is within the limit, camera by camera."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        """Start with full buckets; ``now_s`` returns seconds of a clock that only advances."""
        self._now_s = now_s
        #: By camera: tokens left, and when they were counted.
        self._buckets: dict[str, tuple[float, float]] = {}

    def admits(self, source: str) -> bool:
        """Take a token for a frame of this camera; False if none is left."""
        if source not in self._buckets and len(self._buckets) >= _SOURCES:
            source = ""
        now_s = self._now_s()
        tokens, counted_s = self._buckets.get(source, (_BURST, now_s))
        tokens = min(_BURST, tokens + (now_s - counted_s) * FRAMES_HZ)
        admitted = tokens >= 1.0
        self._buckets[source] = (tokens - 1.0 if admitted else tokens, now_s)
        return admitted
