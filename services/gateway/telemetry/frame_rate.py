"""Rate limit of the frames of one session: a token bucket for each of its cameras. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from contracts.token_bucket import TokenBucket, Tokens

#: Frames per second of one camera; a camera that was silent may send a second's frames at once.
FRAMES_HZ: Final = 60.0
_BUCKET: Final = TokenBucket(most=FRAMES_HZ, per_s=FRAMES_HZ)
#: Cameras with a bucket of their own; all others share one.
_SOURCES: Final = 16


class FrameRate:
    """Decides whether a frame is within the limit, camera by camera."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        """Start with full buckets; ``now_s`` returns seconds of a clock that only advances."""
        self._now_s = now_s
        self._left: dict[str, Tokens] = {}

    def admits(self, source: str) -> bool:
        """Take a token for a frame of this camera; False if none is left."""
        if source not in self._left and len(self._left) >= _SOURCES:
            source = ""
        self._left[source], wait_s = _BUCKET.take(self._left.get(source), self._now_s())
        return not wait_s
